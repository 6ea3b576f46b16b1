/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* getcpu-once: calls sched_getcpu between two labels, for step-count to count what a call costs.  It says
   where the labels are through the value that comes with SIGUSR1; the calls before have the symbol bound. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>
/* From 2.35 on libc.a itself has what the unwinder calls.  */
#if defined STATIC && !__GLIBC_PREREQ(2, 35)
# include "launch/find_object.h"
#endif

int measured_call (void);
extern const char call_begin[], call_end[];

__asm__ (".text\n\t"
         ".balign 16\n\t"
         ".globl measured_call, call_begin, call_end\n\t"
         ".hidden call_begin, call_end\n\t"
         ".type measured_call, %function\n"
         "measured_call:\n\t"
#ifdef __x86_64__
         "subq $8, %rsp\n"
         "call_begin:\n\t"
         "call sched_getcpu@PLT\n"
         "call_end:\n\t"
         "addq $8, %rsp\n\t"
         "ret\n\t"
#else
         "stp x29, x30, [sp, -16]!\n\t"
         "mov x29, sp\n"
         "call_begin:\n\t"
         "bl sched_getcpu\n"
         "call_end:\n\t"
         "ldp x29, x30, [sp], 16\n\t"
         "ret\n\t"
#endif
         ".size measured_call, . - measured_call");

static const char *labels[3];

int
main (void)
{
  int cpu = 0;
  labels[0] = call_begin;
  labels[1] = call_end;
  labels[2] = (const char *) getauxval (AT_SYSINFO_EHDR);
  signal (SIGUSR1, SIG_IGN);
  for (int i = 0; i < 100; i++)
    cpu = measured_call ();
  sigqueue (getpid (), SIGUSR1, (union sigval) { .sival_ptr = labels });
  cpu = measured_call ();
  printf ("{\"from\":\"program\",\"cpu\":%d}\n", cpu);
  return 0;
}
