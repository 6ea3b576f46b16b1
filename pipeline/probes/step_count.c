/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* step-count PROGRAM: single-steps each call that the program (getcpu-once, clock-once) marks, and counts the
   instructions, from the call to its return (both included, so with the PLT), and among them the system calls and
   those in the vDSO, if the program says where that is.  No clock takes part: the figures are the same on busy, slow
   and emulated machines.  One line for each call.

   A function that reads the clock in the vDSO begins again if the kernel has written it meanwhile, at each tick.  Where
   a tick is shorter than its instructions one by one it would never end, so a call that goes on in the vDSO is counted
   no further.  */
#define _GNU_SOURCE
#include <sched.h>

#include "traced.h"

#define LIMIT 100000 /* instructions; a call that takes more is not the one that was marked */
#define VDSO_ENOUGH 300 /* instructions; a call that nothing disturbs has less than half as many there */
#define VDSO_SIZE 65536 /* bytes: more than any kernel's, and nothing else is mapped so close behind it */

static uint64_t
counter_of (const struct user_regs_struct *regs)
{
#ifdef __x86_64__
  return regs->rip;
#else
  return regs->pc;
#endif
}

/* The number of the system call the next instruction makes, -1 if it makes none.  */
static long
system_call (pid_t pid, const struct user_regs_struct *regs)
{
  uint64_t word = word_at (pid, counter_of (regs));
#ifdef __x86_64__
  return (word & 0xffff) == 0x050f ? (long) regs->rax : -1; /* syscall */
#else
  return (word & 0xffffffff) == 0xd4000001 ? (long) regs->regs[8] : -1; /* svc #0 */
#endif
}

/* Wait until the program stands at SIGNUM: 0; or until it has ended well, which it may where LAST: 1.  */
static int
wait_stopped (pid_t pid, int signum, int last)
{
  int status;
  if (waitpid (pid, &status, __WALL) < 0)
    err (1, "waitpid");
  if (WIFEXITED (status) && (WEXITSTATUS (status) == CANNOT || last))
    {
      if (WEXITSTATUS (status))
        exit (WEXITSTATUS (status));
      return 1;
    }
  if (!WIFSTOPPED (status))
    errx (1, "the program ended with wait status %#x before it was to", status);
  if (WSTOPSIG (status) != signum)
    errx (1, "the program had signal %d where %d was to come", WSTOPSIG (status), signum);
  return 0;
}

static struct user_regs_struct
step (pid_t pid)
{
  if (ptrace (PTRACE_SINGLESTEP, pid, NULL, NULL) < 0)
    err (1, "PTRACE_SINGLESTEP");
  wait_stopped (pid, SIGTRAP, 0);
  return registers (pid);
}

/* Count the call that the program, standing at its SIGUSR1, is about to make.  */
static void
count (pid_t pid)
{
  long instructions = 0, calls = 0, in_vdso = 0, number[16];
  siginfo_t info;
  if (ptrace (PTRACE_GETSIGINFO, pid, NULL, &info) < 0)
    err (1, "PTRACE_GETSIGINFO");
  uint64_t labels = (uintptr_t) info.si_value.sival_ptr;
  uint64_t begin = word_at (pid, labels), end = word_at (pid, labels + 8), vdso = word_at (pid, labels + 16);
  struct user_regs_struct regs = registers (pid);
  for (int i = 0; counter_of (&regs) != begin; i++)
    {
      if (i == LIMIT)
        errx (1, "the marked call was never reached");
      regs = step (pid);
    }
  while (counter_of (&regs) != end && in_vdso < VDSO_ENOUGH)
    {
      if (instructions == LIMIT)
        errx (1, "the marked call did not return");
      long nr = system_call (pid, &regs);
      if (nr >= 0 && calls < 16)
        number[calls] = nr;
      calls += nr >= 0;
      in_vdso += vdso != 0 && counter_of (&regs) - vdso < VDSO_SIZE;
      instructions++;
      regs = step (pid);
    }
  printf ("{\"from\":\"steps\",\"instructions\":%ld,\"in_vdso\":%ld,\"system_calls\":%ld,\"numbers\":[",
          instructions, in_vdso, calls);
  for (int i = 0; i < calls && i < 16; i++)
    printf ("%s%ld", i ? "," : "", number[i]);
  puts ("]}");
  fflush (stdout);
}

int
main (int argc, char **argv)
{
  int counted = 0;
  if (argc != 2)
    errx (2, "usage: step-count PROGRAM");
  cpu_set_t here; /* both on one CPU: thousands of times to and fro between two is slow, emulated */
  CPU_ZERO (&here);
  CPU_SET (sched_getcpu (), &here);
  (void) sched_setaffinity (0, sizeof here, &here);
  pid_t pid = start_traced (argv + 1, 0, NULL);
  for (ptrace (PTRACE_CONT, pid, NULL, NULL); !wait_stopped (pid, SIGUSR1, counted > 0); counted++)
    {
      count (pid);
      ptrace (PTRACE_CONT, pid, NULL, NULL);
    }
  return 0;
}
