/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Questions of threads: what each is owed from its start (owed.h, stacks.h, libraries.h), and what happens as they end
   or fail (ended.h, failed.h).  Each is asked in a program of its own, which this one starts from itself, so that one
   that crashes or hangs is a fault, and no other is lost.  One line each: what is wrong, or null.  */
#define _GNU_SOURCE
#include "ended.h"
#include "owed.h"
#include "stacks.h"
#ifndef STATIC
# include "libraries.h"
#endif

#define PATIENCE 60 /* seconds */
#define DEFAULT_STACK (3 << 20)

static const struct
{
  const char *name;
  question *ask;
} questions[] = {
  { "the kernel has each thread's robust mutexes", robust_lists },
  { "robust mutexes of threads that end", owners_that_end },
  { "each thread's id", ids },
  { "the signals that are blocked", signal_masks },
  { "thread-local data has its first value", thread_data },
  { "tables and the resolver's state", tables },
  { "what a thread keeps while it moves", kept },
  { "__libc_single_threaded", single_threaded },
  { "affinity and policy", scheduling },
  { "stacks of a size", stacks },
  { "the default stack", default_stack },
  { "sizes of signal stacks", signal_stacks },
  { "destructors as a thread ends", destructors },
  { "children of a busy process", busy_parents },
  { "threads that cannot begin", failures },
  { "stacks are given back", given_back },
  { "posix_spawn of nothing", spawns },
#ifdef STATIC
  { "cancelled at once", cancelled_at_once },
  { "the last thread ends the process", last_thread },
#else
  { "static thread-local data of a library", static_data },
  { "dynamic thread-local data of a library", dynamic_data },
#endif
};
/* Asked by itself: there are places with one user.  */
static const char of_users[] = "setresuid changes all threads";
#define QUESTIONS (sizeof questions / sizeof *questions)

static int
say (const char *name, int result)
{
  if (result == 0)
    printf ("{\"question\":\"%s\",\"wrong\":null}\n", name);
  else
    printf ("{\"question\":\"%s\",\"%s\":\"%s\"}\n", name, result == CANNOT ? "cannot" : "wrong", fault);
  fflush (stdout);
  return 0;
}

static void
start (const char *self, const char *name)
{
  int status;
  struct rlimit limit;
  pid_t pid = fork ();
  if (pid == 0)
    {
      prctl (PR_SET_PDEATHSIG, SIGKILL);
      if (getrlimit (RLIMIT_STACK, &limit) == 0)
        limit.rlim_cur = DEFAULT_STACK;
      setrlimit (RLIMIT_STACK, &limit);
      alarm (PATIENCE);
      execl (self, self, name, (char *) NULL);
      _exit (127);
    }
  if (pid < 0 || waitpid (pid, &status, 0) != pid)
    say (name, cannot ("fork"));
  else if (status != 0)
    say (name, wrong ("it ended with %s %d", WIFSIGNALED (status) ? "signal" : "status",
                      WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status)));
}

int
main (int argc, char **argv)
{
  fault = mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (fault == MAP_FAILED)
    return CANNOT;
#ifndef STATIC
  static char path[400];
  snprintf (path, sizeof path, "%s", argv[0]);
  char *slash = strrchr (path, '/');
  if (slash)
    {
      *slash = '\0';
      directory = path;
    }
#endif
  if (argc == 2 && strcmp (argv[1], of_users) == 0)
    return say (of_users, users ());
  for (size_t n = 0; n < QUESTIONS; n++)
    if (argc == 1)
      start (argv[0], questions[n].name);
    else if (strcmp (argv[1], questions[n].name) == 0)
      return say (argv[1], questions[n].ask ());
  return 0;
}
