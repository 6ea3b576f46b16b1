/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rseq-tracer [--secure | --announce SIZE | --no-vdso] PROGRAM ARG...: starts a program, and when it raises SIGUSR1 stops every one of its
   threads and prints what the kernel says of each one's rseq registration, and the area's words at the
   address the kernel gave.  Static, so that nothing of the libc under test takes part.

   --secure: the program is AT_SECURE, as one with a set-user-ID bit is that an ordinary user starts: its real
   user is another than its effective one, which is all the kernel looks at (security/commoncap.c), so no file
   with that bit is needed, nor a mount that honours it.  Where there is but one user to be (an ordinary user's
   own namespace), the word AT_SECURE is changed on the new program's stack before its first instruction.

   --announce: the kernel seems to have an rseq area of SIZE bytes, aligned to as many: AT_RSEQ_FEATURE_SIZE and
   AT_RSEQ_ALIGN are changed on that stack.  A kernel before 6.3 has none; there they take the places of
   AT_CLKTCK and AT_EXECFN, which no libc starts by.

   --no-vdso: the kernel seems to have no vDSO: AT_SYSINFO_EHDR is taken away.  */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "traced.h"

#define MAX_THREADS 4096
#define NOBODY 65534
/* AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN, which old headers do not have.  */
#define FEATURE_SIZE 27
#define AREA_ALIGN 28
/* What stands between the stack pointer and the auxiliary vector is less than this.  */
#define MAX_WORDS 100000

static pid_t thread[MAX_THREADS];
static size_t threads;
/* Whether the kernel made the program secure; the child says so, in memory that it shares.  */
static volatile int *by_kernel;

static void
become_secure (void)
{
  *by_kernel = setresuid (NOBODY, (uid_t) -1, (uid_t) -1) == 0;
}

/* Change an entry of the auxiliary vector of a program that was just executed (or, if it has none, the entry
   INSTEAD): its stack holds argc, the arguments, a null word, the environment, a null word and that vector.  */
static void
set_auxv (pid_t tid, uint64_t type, uint64_t instead, uint64_t value)
{
  struct user_regs_struct regs = registers (tid);
#ifdef __x86_64__
  uint64_t at = regs.rsp;
#else
  uint64_t at = regs.sp;
#endif
  at += 8 * (word_at (tid, at) + 2);
  uint64_t end = at + 8 * MAX_WORDS;
  while (at < end && word_at (tid, at) != 0)
    at += 8;
  uint64_t place = 0;
  for (at += 8; at < end && word_at (tid, at) != AT_NULL; at += 16)
    {
      uint64_t found = word_at (tid, at);
      if (found == type || (found == instead && place == 0))
        place = at;
      if (found == type)
        break;
    }
  if (place == 0)
    errx (1, "there is no entry %ju in the auxiliary vector", (uintmax_t) type);
  set_word (tid, place, type);
  set_word (tid, place + 8, value);
}

static void
report (pid_t tid)
{
  struct kernel_word w;
  int error = kernel_word_of (tid, &w);
  printf ("{\"from\":\"kernel\",\"tid\":%d,\"error\":\"%s\",\"pointer\":%ju,\"size\":%u,\"signature\":%u,"
          "\"flags\":%u",
          tid, error_name (error), (uintmax_t) w.pointer, w.size, w.signature, w.flags);
  if (w.pointer)
    {
      errno = 0;
      uint64_t ids = (uint64_t) ptrace (PTRACE_PEEKDATA, tid, (void *) (uintptr_t) w.pointer, NULL);
      if (errno == 0)
        printf (",\"cpu_id_start\":%u,\"cpu_id\":%u", (uint32_t) ids, (uint32_t) (ids >> 32));
    }
  puts ("}");
}

/* The main thread is stopped at its SIGUSR1; stop the others, ask, and let them go on.  */
static void
report_all (pid_t leader)
{
  for (size_t i = 0; i < threads; i++)
    {
      int status;
      if (thread[i] != leader)
        {
          syscall (SYS_tgkill, leader, thread[i], SIGSTOP);
          if (waitpid (thread[i], &status, __WALL) < 0 || !WIFSTOPPED (status))
            errx (1, "thread %d cannot be stopped", thread[i]);
        }
      report (thread[i]);
      if (thread[i] != leader)
        traced (PTRACE_CONT, thread[i], NULL);
    }
  printf ("{\"from\":\"tracer\",\"threads\":%zu}\n", threads);
  fflush (stdout);
}

int
main (int argc, char **argv)
{
  int status;
  int secure = argc > 1 && strcmp (argv[1], "--secure") == 0;
  int announced = argc > 2 && strcmp (argv[1], "--announce") == 0 ? atoi (argv[2]) : 0;
  int no_vdso = argc > 1 && strcmp (argv[1], "--no-vdso") == 0;
  argv += secure + 2 * (announced > 0) + no_vdso;
  if (argv[1] == NULL)
    errx (2, "usage: rseq-tracer [--secure | --announce SIZE | --no-vdso] PROGRAM ARG...");
  by_kernel = mmap (NULL, sizeof *by_kernel, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (by_kernel == MAP_FAILED)
    err (1, "mmap");
  pid_t leader = start_traced (argv + 1, PTRACE_O_TRACECLONE, secure ? become_secure : NULL);
  if (secure && !*by_kernel)
    set_auxv (leader, AT_SECURE, AT_SECURE, 1);
  if (announced)
    {
      set_auxv (leader, FEATURE_SIZE, AT_CLKTCK, (uint64_t) announced);
      set_auxv (leader, AREA_ALIGN, AT_EXECFN, (uint64_t) announced);
    }
  if (no_vdso)
    set_auxv (leader, AT_IGNORE, AT_SYSINFO_EHDR, 0);
  if (secure)
    {
      printf ("{\"from\":\"secure\",\"by\":\"%s\"}\n", *by_kernel ? "kernel" : "tracer");
      fflush (stdout);
    }
  thread[threads++] = leader;
  traced (PTRACE_CONT, leader, NULL);
  for (;;)
    {
      pid_t tid = waitpid (-1, &status, __WALL);
      if (tid < 0)
        err (1, "waitpid");
      if (!WIFSTOPPED (status))
        {
          if (tid == leader)
            return WIFEXITED (status) ? WEXITSTATUS (status) : 128 + WTERMSIG (status);
          continue;
        }
      long signum = WSTOPSIG (status);
      if (status >> 16 == PTRACE_EVENT_CLONE)
        {
          unsigned long child;
          traced (PTRACE_GETEVENTMSG, tid, &child);
          if (threads == MAX_THREADS)
            errx (1, "too many threads");
          thread[threads++] = (pid_t) child;
          signum = 0;
        }
      else if (signum == SIGUSR1 && tid == leader)
        {
          report_all (leader);
          signum = 0;
        }
      else if (signum == SIGSTOP) /* a new thread's first stop */
        signum = 0;
      traced (PTRACE_CONT, tid, (void *) signum);
    }
}
