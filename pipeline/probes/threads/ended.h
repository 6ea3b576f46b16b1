/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What happens as threads end, and what is done to all of them: questions of threads/main.c.  */
#ifndef ENDED_H
#define ENDED_H

#include <malloc.h>

#include "failed.h"

#define NOBODY 65534

/* A robust mutex whose owner ended tells the next one so.  */
static pthread_mutex_t *abandoned;

static int
abandon (void)
{
  return pthread_mutex_lock (abandoned) == 0 ? 0 : wrong ("a robust mutex cannot be locked");
}

static int
is_abandoned (int result)
{
  if (result)
    return result;
  int error = pthread_mutex_trylock (abandoned);
  if (error != EOWNERDEAD)
    return wrong ("a robust mutex whose owner ended answers %s", error_name (error));
  if (pthread_mutex_consistent (abandoned) != 0 || pthread_mutex_unlock (abandoned) != 0)
    return wrong ("a robust mutex cannot be made consistent");
  return 0;
}

static int
owners_that_end (void)
{
  pthread_mutexattr_t attr;
  abandoned = mmap (NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (abandoned == MAP_FAILED)
    return cannot ("mmap");
  pthread_mutexattr_init (&attr);
  pthread_mutexattr_setrobust (&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared (&attr, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init (abandoned, &attr);
  int result = 0;
  for (int kind = 0; kind < KINDS && !result; kind++)
    for (int i = 0; i < 2 && !result; i++)
      result = said_of (kind_name[kind], is_abandoned (in_thread (kind, abandon)));
  if (!result)
    result = said_of ("a child of fork", is_abandoned (in_child (fork, abandon)));
  return result ? result : said_of ("a child of _Fork", is_abandoned (in_child (_Fork, abandon)));
}

/* Destructors of thread-local objects run before those of keys, the last that was registered first; those of keys
   again, if they leave a value.  */
extern int __cxa_thread_atexit_impl (void (*) (void *), void *, void *);
extern void *__dso_handle __attribute__ ((visibility ("hidden")));
static char order[16];
static pthread_key_t left;

static void
note (void *what)
{
  size_t n = strlen (order);
  if (n + 1 < sizeof order)
    order[n] = *(const char *) what;
}

static void
leave_once_more (void *what)
{
  note (what);
  if (*(const char *) what == 'k')
    pthread_setspecific (left, "K");
}

static int
leave_data (void)
{
  if (__cxa_thread_atexit_impl (note, "a", &__dso_handle) != 0
      || __cxa_thread_atexit_impl (note, "b", &__dso_handle) != 0 || pthread_setspecific (left, "k") != 0)
    return wrong ("a destructor cannot be registered");
  return 0;
}

static int
destructors (void)
{
  int result = 0;
  pthread_key_create (&left, leave_once_more);
  for (int kind = 0; kind < KINDS && !result; kind++)
    for (int i = 0; i < 2 && !result; i++)
      {
        memset (order, 0, sizeof order);
        result = said_of (kind_name[kind], in_thread (kind, leave_data));
        if (!result && strcmp (order, "bakK") != 0)
          result = wrong ("%s: destructors ran as %s, not bakK", kind_name[kind], order);
      }
  return result;
}

/* A child may allocate although other threads held the locks as it was made.  */
#define CHILDREN 20
static volatile int enough;

static int
allocate (void)
{
  for (int i = 0; i < 20; i++)
    {
      void *memory = malloc (4000 + (size_t) i); /* more than a thread keeps for itself */
      if (memory == NULL)
        return wrong ("there is no memory");
      free (memory);
    }
  return 0;
}

static void *
allocate_on (void *unused)
{
  while (!enough)
    allocate ();
  return unused;
}

static int
allocate_in_child (void)
{
  alarm (20);
  return allocate ();
}

static int
busy_parents (void)
{
  pthread_t id[2];
  mallopt (M_ARENA_MAX, 1);
  for (int i = 0; i < 2; i++)
    if (pthread_create (&id[i], NULL, allocate_on, NULL) != 0)
      return wrong ("a thread cannot be started");
  int result = 0;
  for (int i = 0; i < CHILDREN && !result; i++)
    result = said_of ("a child", in_child (fork, allocate_in_child));
  enough = 1;
  for (int i = 0; i < 2; i++)
    pthread_join (id[i], NULL);
  return result;
}

/* setresuid changes all threads (nptl(7)): the kernel knows of each thread's users alone.  */
static pthread_barrier_t before, after;
static uid_t user_of[KINDS + 2];

static void
look_at_users (int n)
{
  uid_t real, effective, saved;
  pthread_barrier_wait (&before);
  pthread_barrier_wait (&after);
  syscall (SYS_getresuid, &real, &effective, &saved);
  user_of[n] = real == effective && effective == saved ? real : 0;
  pthread_barrier_wait (&before);
}

static void *
wait_for_change (void *n)
{
  look_at_users ((int) (intptr_t) n);
  return NULL;
}

static void *
change_user (void *result)
{
  pthread_barrier_wait (&before);
  if (setresuid (NOBODY, NOBODY, NOBODY) != 0)
    *(int *) result = errno;
  pthread_barrier_wait (&after);
  pthread_barrier_wait (&before);
  return NULL;
}

static int
users (void)
{
  int error = 0;
  pthread_t changer, id;
  pthread_barrier_init (&before, NULL, KINDS + 3);
  pthread_barrier_init (&after, NULL, KINDS + 3);
  int result = in_thread (PLAIN, nothing); /* the next has its descriptor */
  for (int kind = 0; kind < KINDS && !result; kind++)
    {
      pthread_attr_t attr;
      result = attributes (&attr, kind);
      if (!result && pthread_create (&id, &attr, wait_for_change, (void *) (intptr_t) kind) != 0)
        result = wrong ("%s cannot be started", kind_name[kind]);
    }
  if (result || pthread_create (&id, NULL, wait_for_change, (void *) (intptr_t) KINDS) != 0
      || pthread_create (&changer, NULL, change_user, &error) != 0)
    return result ? result : wrong ("a thread cannot be started");
  look_at_users (KINDS + 1);
  if (error)
    {
      errno = error;
      return cannot ("becoming an ordinary user");
    }
  for (int n = 0; n < KINDS + 2; n++)
    if (user_of[n] != NOBODY)
      return wrong ("%s is still user %u after another thread's setresuid",
                    n < KINDS ? kind_name[n] : n == KINDS ? "a thread like the first" : "the main thread", user_of[n]);
  return 0;
}

#ifdef STATIC /* elsewhere the unwinder is libgcc_s.so.1, which is in no package of glibc's */
static void *
wait_for_cancel (void *unused)
{
  for (;;)
    pause ();
  return unused;
}

/* Cancelled before it begins, or as it does.  */
static int
cancelled_at_once (void)
{
  for (int i = 0; i < 20; i++)
    {
      pthread_t id;
      void *result = NULL;
      if (pthread_create (&id, NULL, wait_for_cancel, NULL) != 0 || pthread_cancel (id) != 0
          || pthread_join (id, &result) != 0)
        return wrong ("a thread cannot be cancelled");
      if (result != PTHREAD_CANCELED)
        return wrong ("a cancelled thread's result is %p", result);
    }
  return 0;
}

/* The process ends when its last thread does, with status 0 and its handlers run, also if threads failed.  */
static pthread_t main_thread;
static const char *last;

static void
at_the_end (void)
{
  printf ("{\"question\":\"%s\",\"wrong\":null}\n", last);
  fflush (stdout);
}

static void *
be_last (void *unused)
{
  pthread_join (main_thread, NULL);
  return unused;
}

static int
last_thread (void)
{
  pthread_attr_t attr;
  pthread_t id;
  last = "the last thread ends the process";
  main_thread = pthread_self ();
  int result = with_no_cpu (&attr);
  if (!result)
    result = fails_with (&attr, EINVAL);
  if (result || pthread_create (&id, NULL, be_last, NULL) != 0)
    return result ? result : wrong ("a thread cannot be started");
  atexit (at_the_end);
  pthread_exit (NULL);
}
#endif

#endif
