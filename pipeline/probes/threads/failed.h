/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is left of threads that could not begin, and of those that ended: questions of threads/main.c.  */
#ifndef FAILED_H
#define FAILED_H

#include <spawn.h>
#include <sys/resource.h>

#include "../filter.h"
#include "asked.h"

#define CLONE3 435 /* on every architecture */
#define EIGHT_MIB (8 << 20)
#define MANY 80 /* stacks of 8 MiB: more than fit into the address space that is left to the program */

extern char **environ;

static int nothing (void) { return 0; }

/* A thread that cannot begin: the caller hears of it, and nothing is left.  */
static volatile int began;

static void *
begin (void *unused)
{
  began = 1;
  return unused;
}

static int
fails_with (const pthread_attr_t *attr, int wanted)
{
  pthread_t id;
  uint64_t mask = kernels_mask ();
  began = 0;
  int error = pthread_create (&id, attr, begin, NULL);
  if (error == 0)
    pthread_join (id, NULL);
  if (error != wanted)
    return wrong ("pthread_create says %s, not %s", error_name (error), error_name (wanted));
  if (began)
    return wrong ("a thread that could not be made ran");
  return kernels_mask () == mask ? 0 : wrong ("other signals are blocked after pthread_create failed");
}

/* A thread whose CPUs do not exist: it is made, and ends before it begins.  */
static int
with_no_cpu (pthread_attr_t *attr)
{
  static cpu_set_t none[8];
  CPU_SET_S (8191, sizeof none, none);
  pthread_attr_init (attr);
  pthread_attr_setstacksize (attr, EIGHT_MIB);
  return pthread_attr_setaffinity_np (attr, sizeof none, none) == 0 ? 0 : wrong ("pthread_attr_setaffinity_np");
}

static int
failures (void)
{
  pthread_attr_t attr;
  int result = with_no_cpu (&attr);
  for (int i = 0; i < 3 && !result; i++)
    result = said_of ("CPUs that do not exist", fails_with (&attr, EINVAL));
  pthread_attr_setdetachstate (&attr, PTHREAD_CREATE_DETACHED);
  if (!result)
    result = said_of ("CPUs that do not exist, detached", fails_with (&attr, EINVAL));
  if (!result)
    result = said_of ("after failures", in_threads (nothing));
  if (result)
    return result;
  if ((errno = answer_call (CLONE3, SECCOMP_RET_ERRNO | ENOSYS)) != 0
      || (errno = answer_call (SYS_clone, SECCOMP_RET_ERRNO | EAGAIN)) != 0)
    return cannot ("a filter");
  for (int i = 0; i < 3 && !result; i++)
    result = said_of ("no more threads", fails_with (NULL, EAGAIN));
  return result;
}

/* Stacks are given back: of threads that were joined, of detached ones, and of such as never began.  */
static int
given_back (void)
{
  static const struct rlimit little = { 512 << 20, 512 << 20 };
  pthread_attr_t attr, detached, none;
  if (setrlimit (RLIMIT_AS, &little) != 0)
    return cannot ("setrlimit");
  pthread_attr_init (&attr);
  pthread_attr_setstacksize (&attr, EIGHT_MIB);
  pthread_attr_init (&detached);
  pthread_attr_setstacksize (&detached, EIGHT_MIB);
  pthread_attr_setdetachstate (&detached, PTHREAD_CREATE_DETACHED);
  int result = with_no_cpu (&none);
  for (int i = 0; i < MANY && !result; i++)
    {
      struct asked_thread joined = { nothing, 0, 1 }, alone = { nothing, 0, 1 };
      pthread_t id;
      if (pthread_create (&id, &attr, run, &joined) != 0 || pthread_join (id, NULL) != 0)
        result = wrong ("memory is used up by %d threads that were joined", i);
      else if (pthread_create (&id, &detached, run, &alone) != 0)
        result = wrong ("memory is used up by %d detached threads", i);
      else if ((result = until_gone (&alone.tid)) == 0)
        result = said_of ("memory", fails_with (&none, EINVAL));
    }
  return result;
}

static int
starts_nothing (void)
{
  pid_t pid = 0;
  char *argv[] = { (char *) "/nowhere/nothing", NULL };
  uint64_t mask = kernels_mask ();
  int error = posix_spawn (&pid, argv[0], NULL, NULL, argv, environ);
  if (error != ENOENT)
    return wrong ("posix_spawn of a program that is not there says %s", error_name (error));
  return kernels_mask () == mask ? 0 : wrong ("other signals are blocked after posix_spawn");
}

static int spawns (void) { return everywhere (starts_nothing); }

#endif
