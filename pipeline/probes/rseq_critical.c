/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rseq-critical MS: does a restartable sequence work on this libc?

   More threads than CPUs increment per-CPU counters for MS milliseconds, each increment a read, a delay and
   a write with nothing but an rseq critical section to protect it.  A timer's handler yields, threads are
   moved between CPUs, and the kernel preempts: all of them must abort the section.  At the end the counters'
   sum must be the number of increments the threads think they made.

   Where glibc has not registered an area each thread registers its own, as old programs do.
   -DBROKEN leaves the section unannounced: the wrong program of the tests, which loses increments.  */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#include "probe.h"

#define MAX_CPUS 8192
#define DELAY 400 /* turns of an empty loop inside the section */
#define THREADS_PER_CPU 4
#define MAX_THREADS 64

struct counter
{
  volatile uint64_t value;
  char pad[56];
} __attribute__ ((aligned (64)));

struct worker
{
  pthread_t id;
  uint64_t done, aborted, moved;
  int failed;
} __attribute__ ((aligned (64)));

static struct counter counter[MAX_CPUS];
static struct worker worker[MAX_THREADS];
static volatile int stop;
static int own_areas;
static ptrdiff_t offset;

#ifdef BROKEN
# define ANNOUNCE(text) ""
#else
# define ANNOUNCE(text) text
#endif

/* One increment of the counter of CPU.  0: done; 1: aborted by the kernel; 2: no longer on that CPU.  */
static int
increment (volatile struct area *area, uint32_t cpu, volatile uint64_t *value)
{
  int result;
#ifdef __x86_64__
  __asm__ volatile (
    ".pushsection .data.rseq_sections, \"aw\"\n\t"
    ".balign 32\n"
    "9:\t.long 0, 0\n\t" /* version, flags */
    ".quad 1f, 2f - 1f, 4f\n\t" /* start, length, where to go on abort */
    ".popsection\n\t"
    ANNOUNCE ("leaq 9b(%%rip), %%rax\n\t"
              "movq %%rax, 8(%[area])\n")
    "1:\tcmpl %[cpu], 4(%[area])\n\t"
    "jne 5f\n\t"
    "movq (%[value]), %%rax\n\t"
    "movl %[delay], %%ecx\n"
    "3:\tdecl %%ecx\n\t"
    "jnz 3b\n\t"
    "incq %%rax\n\t"
    "movq %%rax, (%[value])\n" /* the commit */
    "2:\txorl %[result], %[result]\n\t"
    "jmp 6f\n\t"
    ".byte 0x0f, 0xb9, 0x3d\n\t" /* ud1, so that the signature is code no one runs */
    ".long %c[signature]\n"
    "4:\tmovl $1, %[result]\n\t"
    "jmp 6f\n"
    "5:\tmovl $2, %[result]\n"
    "6:"
    : [result] "=&r"(result)
    : [area] "r"(area), [cpu] "r"(cpu), [value] "r"(value), [delay] "i"(DELAY), [signature] "i"(SIGNATURE)
    : "rax", "rcx", "memory", "cc");
#else
  __asm__ volatile (
    ".pushsection .data.rseq_sections, \"aw\"\n\t"
    ".balign 32\n"
    "9:\t.word 0, 0\n\t"
    ".xword 1f, 2f - 1f, 4f\n\t"
    ".popsection\n\t"
    ANNOUNCE ("adrp x9, 9b\n\t"
              "add x9, x9, :lo12:9b\n\t"
              "str x9, [%[area], 8]\n")
    "1:\tldr w9, [%[area], 4]\n\t"
    "cmp w9, %w[cpu]\n\t"
    "b.ne 5f\n\t"
    "ldr x9, [%[value]]\n\t"
    "mov w10, %[delay]\n"
    "3:\tsubs w10, w10, 1\n\t"
    "b.ne 3b\n\t"
    "add x9, x9, 1\n\t"
    "str x9, [%[value]]\n" /* the commit */
    "2:\tmov %w[result], 0\n\t"
    "b 6f\n\t"
    ".inst %c[signature]\n"
    "4:\tmov %w[result], 1\n\t"
    "b 6f\n"
    "5:\tmov %w[result], 2\n"
    "6:"
    : [result] "=&r"(result)
    : [area] "r"(area), [cpu] "r"(cpu), [value] "r"(value), [delay] "i"(DELAY), [signature] "i"(SIGNATURE)
    : "x9", "x10", "memory", "cc");
#endif
  return result;
}

static void *
work (void *arg)
{
  static __thread volatile struct area own;
  struct worker *w = arg;
  volatile struct area *area = own_areas ? &own : area_at (offset);
  if (own_areas && syscall (NR_RSEQ, &own, sizeof own, 0, SIGNATURE) != 0)
    {
      w->failed = errno;
      return NULL;
    }
  while (!stop)
    {
      uint32_t cpu = area->cpu_id_start;
      if (cpu >= MAX_CPUS)
        {
          w->failed = ERANGE;
          return NULL;
        }
      int result = increment (area, cpu, &counter[cpu].value);
      w->done += result == 0;
      w->aborted += result == 1;
      w->moved += result == 2;
    }
  if (own_areas)
    syscall (NR_RSEQ, &own, sizeof own, UNREGISTER, SIGNATURE);
  return NULL;
}

static void
on_timer (int signum)
{
  (void) signum;
  sched_yield ();
}

int
main (int argc, char **argv)
{
  int ms = argc > 1 ? atoi (argv[1]) : 500, failed = 0;
  struct kernel_word word;
  static cpu_set_t mask[MAX_CPUS / CPU_SETSIZE];
  int error = kernel_word_of_self (&word);
  if (error)
    errx (CANNOT, "the kernel does not say who holds the registration: %s", error_name (error));
  own_areas = word.pointer == 0;
  offset = (char *) (uintptr_t) word.pointer - thread_pointer ();
  if (sched_getaffinity (0, sizeof mask, mask) < 0)
    err (1, "sched_getaffinity");
  int cpus = CPU_COUNT_S (sizeof mask, mask);
  int threads = cpus * THREADS_PER_CPU > MAX_THREADS ? MAX_THREADS : cpus * THREADS_PER_CPU;
  if (threads <= cpus) /* a very wide machine: confine them, so that they compete */
    {
      int kept = 0;
      for (int i = 0; i < MAX_CPUS; i++)
        if (CPU_ISSET_S (i, sizeof mask, mask) && kept++ >= MAX_THREADS / THREADS_PER_CPU)
          CPU_CLR_S (i, sizeof mask, mask);
      cpus = CPU_COUNT_S (sizeof mask, mask);
      sched_setaffinity (0, sizeof mask, mask);
    }

  signal (SIGALRM, on_timer);
  for (int i = 0; i < threads; i++)
    if (pthread_create (&worker[i].id, NULL, work, &worker[i]) != 0)
      errx (1, "cannot start thread %d", i);
  struct itimerval often = { { 0, 300 }, { 0, 300 } };
  setitimer (ITIMER_REAL, &often, NULL);
  struct timespec start, now;
  clock_gettime (CLOCK_MONOTONIC, &start);
  for (int i = 0;; i++)
    {
      clock_gettime (CLOCK_MONOTONIC, &now);
      if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 >= ms)
        break;
      static cpu_set_t one[MAX_CPUS / CPU_SETSIZE]; /* chase a thread to a CPU, and let it go again later */
      CPU_ZERO_S (sizeof one, one);
      CPU_SET_S (i % CPU_SETSIZE, sizeof one, one);
      CPU_AND_S (sizeof one, one, one, mask);
      pthread_setaffinity_np (worker[i % threads].id, sizeof mask,
                              CPU_COUNT_S (sizeof one, one) ? one : mask);
      nanosleep (&(struct timespec) { 0, 1000000 }, NULL);
    }
  stop = 1;
  setitimer (ITIMER_REAL, &(struct itimerval) { 0 }, NULL);

  uint64_t done = 0, aborted = 0, moved = 0, sum = 0;
  for (int i = 0; i < threads; i++)
    {
      pthread_join (worker[i].id, NULL);
      done += worker[i].done;
      aborted += worker[i].aborted;
      moved += worker[i].moved;
      if (worker[i].failed)
        failed = worker[i].failed;
    }
  for (int i = 0; i < MAX_CPUS; i++)
    sum += counter[i].value;
  printf ("{\"area\":\"%s\",\"failed\":\"%s\",\"threads\":%d,\"cpus\":%d,\"done\":%ju,\"counted\":%ju,"
          "\"aborted\":%ju,\"moved\":%ju}\n",
          own_areas ? "own" : "libc", error_name (failed), threads, cpus, (uintmax_t) done, (uintmax_t) sum,
          (uintmax_t) aborted, (uintmax_t) moved);
  return 0;
}
