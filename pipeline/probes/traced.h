/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tracers share: to start a program traced, and to read what it is while it stands still.  */
#ifndef TRACED_H
#define TRACED_H

#include <elf.h>
#include <err.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "probe.h"

static inline long
traced (int request, pid_t tid, void *data)
{
  return ptrace ((__typeof__ (PTRACE_CONT)) request, tid, NULL, data);
}

/* Start ARGV, traced with OPTIONS; returns once it is executed and stands before its first instruction.
   BEFORE, if there is one, is called in the child just before that.  If it is not executed, this program ends
   with the child's status: CANNOT where tracing is not permitted, 127 where the program cannot be started.  */
static inline pid_t
start_traced (char **argv, unsigned long options, void (*before) (void))
{
  int status;
  pid_t pid = fork ();
  if (pid < 0)
    err (1, "fork");
  if (pid == 0)
    {
      if (ptrace (PTRACE_TRACEME, 0, NULL, NULL) < 0)
        err (CANNOT, "this place does not permit tracing");
      if (before)
        before ();
      execv (argv[0], argv);
      err (127, "%s", argv[0]);
    }
  if (waitpid (pid, &status, __WALL) < 0)
    err (1, "waitpid");
  if (WIFEXITED (status))
    exit (WEXITSTATUS (status));
  if (!WIFSTOPPED (status))
    errx (1, "%s was ended by signal %d before it began", argv[0], WTERMSIG (status));
  if (traced (PTRACE_SETOPTIONS, pid, (void *) (options | PTRACE_O_EXITKILL)) < 0)
    err (1, "PTRACE_SETOPTIONS");
  return pid;
}

/* A word of the program's memory.  */
static inline uint64_t
word_at (pid_t tid, uint64_t address)
{
  errno = 0;
  long word = ptrace (PTRACE_PEEKDATA, tid, (void *) (uintptr_t) address, NULL);
  if (errno)
    err (CANNOT, "this place does not permit reading a traced program's memory (%#jx)", (uintmax_t) address);
  return (uint64_t) word;
}

static inline void
set_word (pid_t tid, uint64_t address, uint64_t value)
{
  if (ptrace (PTRACE_POKEDATA, tid, (void *) (uintptr_t) address, (void *) (uintptr_t) value) < 0)
    err (CANNOT, "this place does not permit writing a traced program's memory (%#jx)", (uintmax_t) address);
}

static inline struct user_regs_struct
registers (pid_t tid)
{
  struct user_regs_struct regs;
  struct iovec all = { &regs, sizeof regs };
  if (ptrace (PTRACE_GETREGSET, tid, (void *) NT_PRSTATUS, &all) < 0)
    err (CANNOT, "this place does not permit reading a traced program's registers");
  return regs;
}

#endif
