/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A critical section written as a user of <sys/rseq.h> writes it, with nothing but what the header declares:
   the area at __rseq_offset (or, where glibc has registered none, one of the header's type), struct rseq's
   rseq_cs, and RSEQ_SIG before the abort handler.  A timer's signal must abort it: a section that the kernel
   does not see ends by itself, and a wrong signature ends the program with SIGSEGV.  */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
/* From 2.35 on libc.a itself has what GCC's unwinder calls.  */
#if defined STATIC && !__GLIBC_PREREQ(2, 35)
# include "../launch/find_object.h"
#endif

#ifdef __x86_64__
# define NR_RSEQ 334
#else
# define NR_RSEQ 293
#endif
#define TURNS 2000000000L /* far more than fit between two signals */
#define ACTIVE 32         /* bytes that every kernel with rseq registers */

static struct rseq own;
static volatile sig_atomic_t signals;

static void
on_timer (int signum)
{
  (void) signum;
  signals++;
}

/* 1: aborted by the kernel; 0: ended by itself.  */
static int
section (struct rseq *area)
{
  int result;
  long turns = TURNS;
#ifdef __x86_64__
  __asm__ volatile (
    ".pushsection .data.rseq_sections, \"aw\"\n\t"
    ".balign 32\n"
    "9:\t.long 0, 0\n\t" /* version, flags */
    ".quad 1f, 2f - 1f, 4f\n\t" /* start, length, where to go on abort */
    ".popsection\n\t"
    "leaq 9b(%%rip), %%rax\n\t"
    "movq %%rax, %[cs]\n"
    "1:\tdecq %[turns]\n\t"
    "jnz 1b\n"
    "2:\txorl %[result], %[result]\n\t"
    "jmp 6f\n\t"
    ".byte 0x0f, 0xb9, 0x3d\n\t" /* ud1, so that the signature is code no one runs */
    ".long %c[signature]\n"
    "4:\tmovl $1, %[result]\n"
    "6:"
    : [result] "=&r"(result), [turns] "+r"(turns), [cs] "=m"(area->rseq_cs)
    : [signature] "i"(RSEQ_SIG)
    : "rax", "memory", "cc");
#else
  __asm__ volatile (
    ".pushsection .data.rseq_sections, \"aw\"\n\t"
    ".balign 32\n"
    "9:\t.word 0, 0\n\t"
    ".xword 1f, 2f - 1f, 4f\n\t"
    ".popsection\n\t"
    "adrp x9, 9b\n\t"
    "add x9, x9, :lo12:9b\n\t"
    "str x9, %[cs]\n"
    "1:\tsubs %[turns], %[turns], 1\n\t"
    "b.ne 1b\n"
    "2:\tmov %w[result], 0\n\t"
    "b 6f\n\t"
    ".inst %c[signature]\n"
    "4:\tmov %w[result], 1\n"
    "6:"
    : [result] "=&r"(result), [turns] "+r"(turns), [cs] "=m"(area->rseq_cs)
    : [signature] "i"(RSEQ_SIG)
    : "x9", "memory", "cc");
#endif
  return result;
}

int
main (void)
{
  struct rseq *area = (struct rseq *) ((char *) __builtin_thread_pointer () + __rseq_offset);
  int libc = __rseq_size > 0;
  if (!libc)
    {
      area = &own;
      own.cpu_id = (uint32_t) RSEQ_CPU_ID_UNINITIALIZED;
      if (syscall (NR_RSEQ, area, ACTIVE, 0, RSEQ_SIG) != 0)
        {
          fprintf (stderr, "registering an area of one's own: %s\n", strerror (errno));
          return 2;
        }
    }
  struct sigaction action = { .sa_handler = on_timer };
  sigaction (SIGALRM, &action, NULL);
  struct itimerval often = { { 0, 5000 }, { 0, 5000 } };
  setitimer (ITIMER_REAL, &often, NULL);
  int aborted = section (area);
  setitimer (ITIMER_REAL, &(struct itimerval) { { 0, 0 }, { 0, 0 } }, NULL);
  printf ("{\"area\":\"%s\",\"size\":%u,\"offset\":%td,\"flags\":%u,\"aborted\":%d,\"signals\":%d,\"cpu\":%d}\n",
          libc ? "libc" : "own", __rseq_size, __rseq_offset, __rseq_flags, aborted, (int) signals,
          (int) area->cpu_id);
  return fflush (stdout) ? 2 : 0;
}
