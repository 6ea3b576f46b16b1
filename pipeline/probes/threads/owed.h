/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each thread is owed from its start: questions of threads/main.c.  */
#ifndef OWED_H
#define OWED_H

#include <ctype.h>
#include <resolv.h>
#include <sys/single_threaded.h>

#include "asked.h"

/* The list of robust mutexes is the thread's own, and the kernel has it (futex(2)).  */
static int
kernel_has_robust_list (void)
{
  struct { void *first; long offset; void *pending; } *head = NULL;
  size_t size = 0;
  pthread_mutexattr_t robust;
  pthread_mutex_t mutex;
  if (syscall (SYS_get_robust_list, 0, &head, &size) != 0)
    return cannot ("get_robust_list");
  if (head == NULL || size != sizeof *head)
    return wrong ("the kernel has no list of robust mutexes");
  if (head->first != head)
    return wrong ("the list of robust mutexes is not empty");
  pthread_mutexattr_init (&robust);
  pthread_mutexattr_setrobust (&robust, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init (&mutex, &robust);
  pthread_mutex_lock (&mutex);
  if (head->first == head)
    return wrong ("a robust mutex is not in the kernel's list");
  pthread_mutex_unlock (&mutex);
  return head->first == head ? 0 : wrong ("a robust mutex stays in the list");
}

static int robust_lists (void) { return everywhere (kernel_has_robust_list); }

static volatile pid_t handled_by;
static void on_signal (int n) { (void) n; handled_by = kernels_tid (); }

/* What glibc does by the id that it keeps of the thread.  */
static int
own_id (void)
{
  pthread_mutexattr_t checked;
  pthread_mutex_t mutex;
  pid_t tid = kernels_tid ();
  handled_by = 0;
  if (raise (SIGUSR1) != 0 || handled_by != tid)
    return wrong ("raise sent its signal elsewhere");
  handled_by = 0;
  if (pthread_kill (pthread_self (), SIGUSR1) != 0 || handled_by != tid)
    return wrong ("pthread_kill sent its signal elsewhere");
  if (gettid () != tid)
    return wrong ("gettid is wrong");
  pthread_mutexattr_init (&checked);
  pthread_mutexattr_settype (&checked, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_init (&mutex, &checked);
  if (pthread_mutex_lock (&mutex) != 0 || pthread_mutex_lock (&mutex) != EDEADLK || mutex.__data.__owner != tid
      || pthread_mutex_unlock (&mutex) != 0)
    return wrong ("a mutex's owner is not the thread");
  return 0;
}

static int
ids (void)
{
  struct sigaction action = { .sa_handler = on_signal };
  sigaction (SIGUSR1, &action, NULL);
  return everywhere (own_id);
}

static uint64_t wanted_mask;

static int
has_mask (void)
{
  uint64_t mask = kernels_mask ();
  if (mask != wanted_mask)
    return wrong ("signals %#jx are blocked, not %#jx", (uintmax_t) mask, (uintmax_t) wanted_mask);
  return 0;
}

/* A thread begins with its creator's signals blocked and no others, or with those of its attributes.  */
static int
signal_masks (void)
{
  sigset_t some, others;
  pthread_attr_t attr;
  pthread_t id;
  sigemptyset (&some);
  sigaddset (&some, SIGUSR2);
  sigaddset (&some, SIGRTMIN + 3);
  pthread_sigmask (SIG_SETMASK, &some, NULL);
  wanted_mask = bit_of (SIGUSR2) | bit_of (SIGRTMIN + 3);
  int result = everywhere (has_mask);
  if (result)
    return result;
  if ((result = has_mask ()) != 0)
    return said_of ("after threads and children", result);
  struct asked_thread t = { has_mask, 0, 1 };
  sigemptyset (&others);
  sigaddset (&others, SIGTERM);
  pthread_attr_init (&attr);
  pthread_attr_setsigmask_np (&attr, &others);
  wanted_mask = bit_of (SIGTERM);
  if (pthread_create (&id, &attr, run, &t) != 0 || pthread_join (id, NULL) != 0)
    return wrong ("a thread with a mask of its own cannot be started");
  return said_of ("a mask of its own", t.result);
}

static __thread int image = 0x5eed;
static __thread char zeros[1000];
static pthread_key_t key;

/* Data that is the thread's own has its first value, whoever had the memory before.  */
static int
first_values (void)
{
  if (errno != 0)
    return wrong ("errno is %d", errno);
  if (image != 0x5eed)
    return wrong ("thread-local data is %#x, not its first value", (unsigned int) image);
  for (size_t i = 0; i < sizeof zeros; i++)
    if (zeros[i] != 0)
      return wrong ("thread-local data is not zero");
  if (pthread_getspecific (key) != NULL)
    return wrong ("a key has a value");
  image = 0xbad;
  memset (zeros, 0xff, sizeof zeros);
  pthread_setspecific (key, &image);
  errno = EILSEQ;
  return 0;
}

static int
thread_data (void)
{
  pthread_key_create (&key, NULL);
  int result = in_threads (first_values);
  return result ? result : in_threads (first_values);
}

/* The tables of character types and the resolver's state are found through thread-local pointers.  */
static int
has_tables (void)
{
  static void *volatile of_main;
  void *state = &_res;
  if (!isalpha ((unsigned char) 'a') || isalpha ((unsigned char) '1') || toupper ('a') != 'A')
    return wrong ("character types are wrong");
  if (state == NULL)
    return wrong ("there is no state of the resolver");
  if (of_main == NULL)
    of_main = state;
  else if (getpid () != gettid () && state == of_main)
    return wrong ("the state of the resolver is the main thread's");
  return 0;
}

static int tables (void) { return everywhere (has_tables); }

static int
is_multi (void)
{
  return __libc_single_threaded ? wrong ("__libc_single_threaded says that there is one thread") : 0;
}

static int
single_threaded (void)
{
  if (!__libc_single_threaded)
    return wrong ("__libc_single_threaded says that there are several before there are");
  return in_threads (is_multi);
}

/* A thread that starts stopped has what its attributes say, and not what its creator has.  */
static int
has_attributes (void)
{
  cpu_set_t mine;
  if (sched_getaffinity (0, sizeof mine, &mine) != 0 || CPU_COUNT (&mine) != 1)
    return wrong ("it may run on %d CPUs, not 1", CPU_COUNT (&mine));
  return sched_getscheduler (0) == SCHED_OTHER ? 0 : wrong ("its policy is %d", sched_getscheduler (0));
}

static int
inherits_policy (void)
{
  return sched_getscheduler (0) == SCHED_BATCH ? 0 : wrong ("its policy is %d", sched_getscheduler (0));
}

static int
scheduling (void)
{
  struct sched_param none = { .sched_priority = 0 };
  struct asked_thread t = { has_attributes, 0, 1 };
  pthread_attr_t attr;
  pthread_t id;
  cpu_set_t one, allowed;
  if (sched_getaffinity (0, sizeof allowed, &allowed) != 0 || sched_setscheduler (0, SCHED_BATCH, &none) != 0)
    return cannot ("sched_setscheduler");
  CPU_ZERO (&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT (&one) == 0; cpu++)
    if (CPU_ISSET (cpu, &allowed))
      CPU_SET (cpu, &one);
  pthread_attr_init (&attr);
  if (pthread_attr_setaffinity_np (&attr, sizeof one, &one) != 0
      || pthread_attr_setinheritsched (&attr, PTHREAD_EXPLICIT_SCHED) != 0
      || pthread_attr_setschedpolicy (&attr, SCHED_OTHER) != 0 || pthread_attr_setschedparam (&attr, &none) != 0)
    return wrong ("an attribute is refused");
  int error = pthread_create (&id, &attr, run, &t);
  if (error)
    return wrong ("a thread with affinity and policy cannot be started: %s", strerror (error));
  pthread_join (id, NULL);
  return t.result ? t.result : in_threads (inherits_policy);
}

/* What glibc keeps of a thread stays as it is while the kernel writes the numbers of CPUs into the descriptor: an area
   that lies over something else would show.  */
#define KEYS 64

static int
keeps_all (void)
{
  static unsigned char pattern[sizeof (struct __res_state)];
  static pthread_key_t keys[KEYS];
  static int made;
  struct __res_state was = _res;
  pthread_mutexattr_t robust;
  pthread_mutex_t mutex;
  cpu_set_t allowed, one;
  pthread_t self = pthread_self ();
  if (!made++)
    for (int i = 0; i < KEYS; i++)
      if (pthread_key_create (&keys[i], NULL) != 0)
        return wrong ("there are no more than %d keys", i);
  memset (pattern, 0x5a, sizeof pattern);
  memcpy (&_res, pattern, sizeof pattern);
  for (int i = 0; i < KEYS; i++)
    pthread_setspecific (keys[i], &keys[i]);
  pthread_mutexattr_init (&robust);
  pthread_mutexattr_setrobust (&robust, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init (&mutex, &robust);
  pthread_mutex_lock (&mutex);
  if (sched_getaffinity (0, sizeof allowed, &allowed) != 0)
    return cannot ("sched_getaffinity");
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET (cpu, &allowed))
      {
        CPU_ZERO (&one);
        CPU_SET (cpu, &one);
        sched_setaffinity (0, sizeof one, &one);
      }
  sched_setaffinity (0, sizeof allowed, &allowed);
  int same = memcmp (&_res, pattern, sizeof pattern) == 0;
  _res = was;
  if (!same)
    return wrong ("the state of the resolver was written over");
  for (int i = 0; i < KEYS; i++)
    if (pthread_getspecific (keys[i]) != &keys[i])
      return wrong ("the value of key %d was written over", i);
  if (pthread_mutex_unlock (&mutex) != 0 || !pthread_equal (self, pthread_self ()))
    return wrong ("a robust mutex cannot be unlocked");
  return kernel_has_robust_list ();
}

static int kept (void) { return everywhere (keeps_all); }

#endif
