/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* look-tracer PROGRAM ARG...: starts a program and follows its threads and children.  When one of them looks
   (look.h) it asks the kernel for that thread's rseq registration and hands the answer over; and when a thread
   ends it asks once more, so that threads that never look are asked about, too.  The last line says how many
   looked and ended, and how many of those were registered.  A child in its parent's memory (vfork, posix_spawn)
   has no registration of its own, and counts apart, as does a thread that the process's end killed before it
   could be asked.  It ends as the program did.  Static, so that nothing of the libc under test takes part.  */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "look_asked.h"
#include "traced.h"

#define OPTIONS                                                                                              \
  (PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)
#define MAX_TASKS 4096

/* A thread that lives.  One that is new stops by itself, and waits until its maker's event has told what it is:
   the two stops come in either order.  */
struct task
{
  pid_t tid;
  int known, waits, borrows;
};

static struct task task[MAX_TASKS];
static size_t tasks, looks, ends, registered, borrowers, killed;
static int error_at_end;

static struct task *
task_of (pid_t tid)
{
  for (size_t i = 0; i < tasks; i++)
    if (task[i].tid == tid)
      return &task[i];
  if (tasks == MAX_TASKS)
    errx (1, "too many threads at once");
  task[tasks] = (struct task) { .tid = tid };
  return &task[tasks++];
}

static void
forget (pid_t tid)
{
  for (size_t i = 0; i < tasks; i++)
    if (task[i].tid == tid)
      task[i] = task[--tasks];
}

static void
answer (pid_t tid, char *address)
{
  struct asked asked = { 0 };
  uint64_t word[sizeof asked / 8];
  errno = 0;
  if ((uint64_t) ptrace (PTRACE_PEEKDATA, tid, address, NULL) != ASKED)
    errx (errno ? CANNOT : 1, "thread %d stopped without a question", tid);
  asked.mark = ASKED;
  asked.error = kernel_word_of (tid, &asked.word);
  memcpy (word, &asked, sizeof asked);
  for (size_t i = 1; i < sizeof word / sizeof *word; i++)
    set_word (tid, (uintptr_t) address + 8 * i, word[i]);
  looks++;
}

static void
on_end (struct task *t)
{
  struct kernel_word word;
  if (t->borrows)
    {
      borrowers++;
      return;
    }
  int error = kernel_word_of (t->tid, &word);
  if (error == ESRCH) /* exit_group in another thread woke it from this very stop: it cannot be asked any more */
    {
      killed++;
      return;
    }
  if (error)
    error_at_end = error;
  ends++;
  registered += word.pointer != 0;
}

static void
on_event (struct task *t, int event)
{
  unsigned long child = 0;
  if (event == PTRACE_EVENT_EXIT)
    on_end (t);
  else if (event == PTRACE_EVENT_EXEC)
    t->borrows = 0;
  else if (traced (PTRACE_GETEVENTMSG, t->tid, &child) == 0)
    {
      struct task *c = task_of ((pid_t) child);
      c->known = 1;
      c->borrows = event == PTRACE_EVENT_VFORK;
      if (c->waits)
        traced (PTRACE_CONT, c->tid, NULL);
      c->waits = 0;
    }
}

/* A stop of a thread: returns the signal to let it go on with, or -1 to let it wait.  */
static long
on_stop (struct task *t, int status)
{
  siginfo_t info;
  if (status >> 16)
    {
      on_event (t, status >> 16);
      return 0;
    }
  if (WSTOPSIG (status) != SIGSTOP)
    return WSTOPSIG (status);
  if (traced (PTRACE_GETSIGINFO, t->tid, &info) == 0 && info.si_code == SI_QUEUE)
    answer (t->tid, info.si_ptr);
  else if (!t->known)
    {
      t->waits = 1;
      return -1;
    }
  return 0;
}

int
main (int argc, char **argv)
{
  int status, result = 0;
  if (argc < 2)
    errx (2, "usage: look-tracer PROGRAM ARG...");
  pid_t leader = start_traced (argv + 1, OPTIONS, NULL);
  task_of (leader)->known = 1;
  traced (PTRACE_CONT, leader, NULL);
  for (;;)
    {
      pid_t tid = waitpid (-1, &status, __WALL);
      if (tid < 0 && errno == ECHILD)
        break;
      if (tid < 0)
        err (1, "waitpid");
      if (!WIFSTOPPED (status))
        {
          forget (tid);
          if (tid == leader)
            result = status;
          continue;
        }
      long signum = on_stop (task_of (tid), status);
      if (signum >= 0)
        traced (PTRACE_CONT, tid, (void *) signum);
    }
  printf ("{\"from\":\"tracer\",\"looks\":%zu,\"ends\":%zu,\"registered\":%zu,\"borrowers\":%zu,"
          "\"killed\":%zu,\"error\":\"%s\"}\n",
          looks, ends, registered, borrowers, killed, error_name (error_at_end));
  fflush (stdout);
  if (WIFSIGNALED (result))
    {
      setrlimit (RLIMIT_CORE, &(struct rlimit) { 0, 0 });
      signal (WTERMSIG (result), SIG_DFL);
      raise (WTERMSIG (result));
    }
  return WEXITSTATUS (result);
}
