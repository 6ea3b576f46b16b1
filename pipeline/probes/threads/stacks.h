/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Stacks of threads and signals: questions of threads/main.c.  */
#ifndef STACKS_H
#define STACKS_H

#include <sys/auxv.h>
#include <sys/resource.h>

#include "asked.h"

#ifndef AT_MINSIGSTKSZ
# define AT_MINSIGSTKSZ 51
#endif
/* What glibc may take of a thread's stack for the descriptor and static thread-local data: 4 KiB, measured.  */
#define TAKEN 8192

static size_t wanted_size;

/* The stack is as large as was asked for, and almost all of it is the thread's.  */
static int
has_stack (void)
{
  char here;
  void *begin;
  size_t size, guard;
  pthread_attr_t attr;
  if (pthread_getattr_np (pthread_self (), &attr) != 0 || pthread_attr_getstack (&attr, &begin, &size) != 0
      || pthread_attr_getguardsize (&attr, &guard) != 0)
    return wrong ("pthread_getattr_np");
  pthread_attr_destroy (&attr);
  if (size != wanted_size)
    return wrong ("its stack has %zu bytes, not %zu", size, wanted_size);
  uintptr_t at = (uintptr_t) &here, from = (uintptr_t) begin;
  if (at < from || at >= from + size)
    return wrong ("it does not run on the stack that it is told to have");
  if (from + size - at > TAKEN)
    return wrong ("more than %d bytes of its stack are taken", TAKEN);
  return 0;
}

static int
below_is_guarded (void)
{
  void *begin;
  size_t size;
  int ends[2];
  pthread_attr_t attr;
  if (pthread_getattr_np (pthread_self (), &attr) != 0 || pthread_attr_getstack (&attr, &begin, &size) != 0
      || pipe (ends) != 0)
    return wrong ("pthread_getattr_np");
  pthread_attr_destroy (&attr);
  for (char *at = begin; at <= (char *) begin + 1; at++) /* the guard is counted to the stack, or lies below */
    if (write (ends[1], at == begin ? at : (char *) begin - 1, 1) < 0 && errno == EFAULT)
      return 0;
  return wrong ("there is no guard below its stack");
}

static int
stacks (void)
{
  struct asked_thread t = { has_stack, 0, 1 };
  size_t page = (size_t) sysconf (_SC_PAGESIZE), least = (size_t) sysconf (_SC_THREAD_STACK_MIN);
  size_t sizes[] = { (least + page - 1) / page * page, 256 * 1024, 8 << 20 };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int again = 0; again < 2; again++)
      {
        pthread_attr_t attr;
        pthread_t id;
        wanted_size = sizes[i];
        pthread_attr_init (&attr);
        if (pthread_attr_setstacksize (&attr, wanted_size) != 0 || pthread_attr_setguardsize (&attr, 0) != 0
            || pthread_create (&id, &attr, run, &t) != 0)
          return wrong ("a thread with a stack of %zu bytes cannot be started", wanted_size);
        pthread_join (id, NULL);
        if (t.result)
          return t.result;
      }
  wanted_size = STACK;
  return said_of ("on its own stack", in_thread (OWN_STACK, has_stack));
}

/* The size is the limit that main.c has set before this program began; the guard is told to be part of it or not.  */
static int
default_stack (void)
{
  struct rlimit limit;
  size_t guard = (size_t) sysconf (_SC_PAGESIZE);
  if (getrlimit (RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return cannot ("getrlimit");
  wanted_size = limit.rlim_cur;
  int result = in_thread (PLAIN, has_stack);
  wanted_size -= guard;
  if (result)
    result = in_thread (PLAIN, has_stack);
  return result ? result : in_thread (PLAIN, below_is_guarded);
}

static int
signal_stacks (void)
{
  long told = (long) getauxval (AT_MINSIGSTKSZ), least = sysconf (_SC_MINSIGSTKSZ);
  if (told && least != told)
    return wrong ("sysconf (_SC_MINSIGSTKSZ) is %ld, the kernel's word %ld", least, told);
  if (least <= 0 || sysconf (_SC_SIGSTKSZ) < least || sysconf (_SC_THREAD_STACK_MIN) < least)
    return wrong ("_SC_MINSIGSTKSZ %ld, _SC_SIGSTKSZ %ld, _SC_THREAD_STACK_MIN %ld", least, sysconf (_SC_SIGSTKSZ),
                  sysconf (_SC_THREAD_STACK_MIN));
  return 0;
}

#endif
