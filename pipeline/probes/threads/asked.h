/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the questions of threads/main.c share: how a question says what is wrong, and the contexts in which one
   may be asked again: threads begun in several ways, and children.  */
#ifndef ASKED_H
#define ASKED_H

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <threads.h>

#include "../probe.h"

#if defined STATIC && !__GLIBC_PREREQ(2, 35) /* from 2.35 on libc.a itself has what the unwinder calls */
# include "../launch/find_object.h"
#endif

#define STACK (256 * 1024)
#define NOT_NULL ((void *) 1)

/* What is wrong; of children, too.  */
static char *fault;

/* 0: as it should be.  Else 1, or CANNOT where the place does not let it be asked, and the words are in FAULT.  */
typedef int question (void);

static int __attribute__ ((format (printf, 1, 2)))
wrong (const char *format, ...)
{
  va_list args;
  va_start (args, format);
  vsnprintf (fault, 400, format, args);
  va_end (args);
  return 1;
}

static int
cannot (const char *what)
{
  wrong ("%s: %s", what, strerror (errno));
  return CANNOT;
}

static pid_t
kernels_tid (void)
{
  return (pid_t) syscall (SYS_gettid);
}

/* The signals that the kernel has blocked for this thread; glibc's own two, which its functions hide, as well.  */
static uint64_t
kernels_mask (void)
{
  uint64_t mask = 0;
  syscall (SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof mask);
  return mask;
}

static uint64_t
bit_of (int signum)
{
  return UINT64_C (1) << (signum - 1);
}

/* The kinds of threads there are for pthread_create.  */
enum kind { PLAIN, WITH_ATTRIBUTES, OWN_STACK, DETACHED, KINDS };
static const char *const kind_name[]
  = { "a thread", "a thread with an affinity", "a thread on its own stack", "a detached thread" };

static int
attributes (pthread_attr_t *attr, enum kind kind)
{
  static char *stack;
  cpu_set_t allowed;
  pthread_attr_init (attr);
  if (kind == WITH_ATTRIBUTES) /* it starts stopped */
    {
      if (sched_getaffinity (0, sizeof allowed, &allowed) != 0)
        return cannot ("sched_getaffinity");
      pthread_attr_setaffinity_np (attr, sizeof allowed, &allowed);
    }
  if (kind == OWN_STACK)
    {
      if (stack == NULL)
        {
          stack = mmap (NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          if (stack == MAP_FAILED)
            return cannot ("mmap");
        }
      memset (stack, 0xa5, STACK); /* nobody promised zeros */
      pthread_attr_setstack (attr, stack, STACK);
    }
  if (kind == DETACHED)
    pthread_attr_setdetachstate (attr, PTHREAD_CREATE_DETACHED);
  return 0;
}

/* Returns once the kernel knows of no such thread any more.  */
static int
until_gone (volatile pid_t *tid)
{
  for (int i = 0; i < 100000; i++, usleep (100))
    if (*tid && syscall (SYS_tgkill, getpid (), *tid, 0) != 0 && errno == ESRCH)
      return 0;
  return wrong ("a thread does not end");
}

struct asked_thread
{
  question *ask;
  volatile pid_t tid;
  int result;
};

static void *
run (void *of)
{
  struct asked_thread *t = of;
  t->result = t->ask ();
  t->tid = kernels_tid ();
  return NOT_NULL;
}

/* Ask in a thread of that kind.  */
static int
in_thread (enum kind kind, question *ask)
{
  struct asked_thread t = { ask, 0, 1 };
  pthread_attr_t attr;
  pthread_t id;
  void *returned = NOT_NULL;
  int result = attributes (&attr, kind);
  if (result)
    return result;
  int error = pthread_create (&id, kind == PLAIN ? NULL : &attr, run, &t);
  if (error)
    return wrong ("%s cannot be started: %s", kind_name[kind], strerror (error));
  pthread_attr_destroy (&attr);
  if (kind == DETACHED ? until_gone (&t.tid) : pthread_join (id, &returned) != 0 || returned != NOT_NULL)
    return wrong ("%s cannot be joined", kind_name[kind]);
  return t.result;
}

/* Ask in a child that FORK makes.  */
static int
in_child (pid_t (*make) (void), question *ask)
{
  int status;
  pid_t pid = make ();
  if (pid < 0)
    return cannot ("fork");
  if (pid == 0)
    _exit (ask ());
  if (waitpid (pid, &status, 0) != pid)
    return cannot ("waitpid");
  return WIFEXITED (status) ? WEXITSTATUS (status) : wrong ("ended with signal %d", WTERMSIG (status));
}

/* RESULT, and where it came about.  */
static int
said_of (const char *where, int result)
{
  if (result)
    {
      char *words = strdup (fault);
      wrong ("%s: %s", where, words ? words : "");
      free (words);
    }
  return result;
}

/* Ask in threads of each kind, each twice: the second has the descriptor of the first.  */
static int
in_threads (question *ask)
{
  int result = 0;
  for (int kind = 0; kind < KINDS && !result; kind++)
    for (int i = 0; i < 2 && !result; i++)
      result = said_of (i ? "again" : "first", said_of (kind_name[kind], in_thread (kind, ask)));
  return result;
}

static question *asked_everywhere;

static int
in_threads_of_child (void)
{
  int result = said_of ("itself", asked_everywhere ());
  return result ? result : in_threads (asked_everywhere);
}

static int
in_forks (void)
{
  int result = said_of ("a child of fork", in_child (fork, in_threads_of_child));
  return result ? result : said_of ("a child of _Fork", in_child (_Fork, asked_everywhere));
}

/* Ask in the main thread, in threads, in children of either, and in threads of children.  */
static int
everywhere (question *ask)
{
  asked_everywhere = ask;
  int result = said_of ("the main thread", ask ());
  if (!result)
    result = in_threads (ask);
  if (!result)
    result = in_forks ();
  return result ? result : said_of ("in a thread", in_thread (PLAIN, in_forks));
}

#endif
