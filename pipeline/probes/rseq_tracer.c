/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rseq-tracer PROGRAM ARG...: starts a program, and when it raises SIGUSR1 stops every one of its threads
   and prints what the kernel says of each one's rseq registration, and the area's words at the address
   the kernel gave.  Static, so that nothing of the libc under test takes part.  */
#define _GNU_SOURCE
#include <err.h>
#include <stdlib.h>

#include "probe.h"

#define MAX_THREADS 4096

static pid_t thread[MAX_THREADS];
static size_t threads;

static long
traced (int request, pid_t tid, void *data)
{
  return ptrace ((__typeof__ (PTRACE_CONT)) request, tid, NULL, data);
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
  int status, first_stop = 1;
  if (argc < 2)
    errx (2, "usage: rseq-tracer PROGRAM ARG...");
  pid_t leader = fork ();
  if (leader < 0)
    err (1, "fork");
  if (leader == 0)
    {
      if (ptrace (PTRACE_TRACEME, 0, NULL, NULL) < 0)
        err (CANNOT, "this place does not permit tracing");
      execv (argv[1], argv + 1);
      err (127, "%s", argv[1]);
    }
  thread[threads++] = leader;
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
      if (first_stop) /* after exec */
        {
          traced (PTRACE_SETOPTIONS, tid, (void *) (PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL));
          first_stop = 0;
          signum = 0;
        }
      else if (status >> 16 == PTRACE_EVENT_CLONE)
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
