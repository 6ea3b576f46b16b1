/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* clock-once: calls each function that has its answer from the vDSO, between two labels, for step-count to see
   whether it goes there.  It says where the labels and the vDSO are through the value that comes with SIGUSR1; a call
   before has everything bound.  One line before each call; "vdso" is false where the place has none.  */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
/* From 2.35 on libc.a itself has what the unwinder calls.  */
#if defined STATIC && !__GLIBC_PREREQ(2, 35)
# include "launch/find_object.h"
#endif

long marked_call (void *function, const void *first, const void *second);
extern const char call_begin[], call_end[];

__asm__ (".text\n\t"
         ".balign 16\n\t"
         ".globl marked_call, call_begin, call_end\n\t"
         ".hidden call_begin, call_end\n\t"
         ".type marked_call, %function\n"
         "marked_call:\n\t"
#ifdef __x86_64__
         "subq $8, %rsp\n\t"
         "movq %rdi, %rax\n\t"
         "movq %rsi, %rdi\n\t"
         "movq %rdx, %rsi\n"
         "call_begin:\n\t"
         "call *%rax\n"
         "call_end:\n\t"
         "addq $8, %rsp\n\t"
         "ret\n\t"
#else
         "stp x29, x30, [sp, -16]!\n\t"
         "mov x29, sp\n\t"
         "mov x9, x0\n\t"
         "mov x0, x1\n\t"
         "mov x1, x2\n"
         "call_begin:\n\t"
         "blr x9\n"
         "call_end:\n\t"
         "ldp x29, x30, [sp], 16\n\t"
         "ret\n\t"
#endif
         ".size marked_call, . - marked_call");

static const char *labels[3];

static void
call (const char *name, void *function, const void *first, const void *second)
{
  printf ("{\"from\":\"call\",\"name\":\"%s\",\"vdso\":%s}\n", name, labels[2] ? "true" : "false");
  fflush (stdout);
  marked_call (function, first, second);
  sigqueue (getpid (), SIGUSR1, (union sigval) { .sival_ptr = labels });
  marked_call (function, first, second);
}

int
main (void)
{
  static char result[64] __attribute__ ((aligned (16)));
  labels[0] = call_begin;
  labels[1] = call_end;
  labels[2] = (const char *) getauxval (AT_SYSINFO_EHDR);
  signal (SIGUSR1, SIG_IGN);
  call ("clock_gettime", (void *) clock_gettime, (void *) CLOCK_MONOTONIC, result);
  call ("clock_getres", (void *) clock_getres, (void *) CLOCK_MONOTONIC, result);
  call ("gettimeofday", (void *) gettimeofday, result, NULL);
  call ("time", (void *) time, NULL, NULL);
  call ("timespec_get", (void *) timespec_get, result, (void *) TIME_UTC);
  call ("getppid", (void *) getppid, NULL, NULL); /* the vDSO has none: the control */
#ifdef __x86_64__
  call ("getcpu", (void *) getcpu, result, result + 8);
#endif
  return 0;
}
