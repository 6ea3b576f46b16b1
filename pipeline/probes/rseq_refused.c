/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a program sees of its libc where rseq is refused (rseq-refuse starts it).

     rseq-refused offset              prints where the area lies from the thread pointer
     rseq-refused start OFFSET        says what libc says; then the same in a thread of each kind
     rseq-refused later WAY ERROR OFFSET
                                      says what libc says, has rseq refused from now on, says it again, and makes a
                                      thread of one kind, or with "all" one of each

   OFFSET is for a libc without __rseq_offset: a number, or something else if it is not known; then the area's
   words are not looked at.  In each thread sched_getcpu is compared with the CPU that the thread was just moved to, for every CPU.
   Compiled with -DSTATIC it is for a static program.  */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <threads.h>
#include <time.h>

#include "probe.h"
#include "rseq_filter.h"
#include "rseq_symbols.h"

#define MAX_CPUS 8192
#define CALLS 20 /* on each CPU */
#define STACK (1 << 20)
#define PATIENCE 30 /* seconds for a thread to begin */

static cpu_set_t allowed[MAX_CPUS / CPU_SETSIZE];
static ptrdiff_t offset;
static int offset_known;
static const char *way;
static sem_t ran;

/* What libc says in the calling thread, in one line.  */
static void
look (const char *who)
{
  static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
  int cpus = 0, unpinned = 0, seen = 0;
  long wrong = 0;
  for (int cpu = 0; cpu < MAX_CPUS; cpu++)
    if (CPU_ISSET_S (cpu, sizeof allowed, allowed))
      {
        cpu_set_t only[MAX_CPUS / CPU_SETSIZE];
        CPU_ZERO_S (sizeof only, only);
        CPU_SET_S (cpu, sizeof only, only);
        if (sched_setaffinity (0, sizeof only, only) < 0)
          {
            unpinned++;
            continue;
          }
        cpus++;
        for (int i = 0; i < CALLS; i++)
          {
            int said = sched_getcpu ();
            if (said != cpu)
              {
                wrong++;
                seen = said;
              }
          }
      }
  sched_setaffinity (0, sizeof allowed, allowed);
  const unsigned int *size = SYMBOL (__rseq_size), *flags = SYMBOL (__rseq_flags);
  pthread_mutex_lock (&one);
  printf ("{\"from\":\"thread\",\"who\":\"%s\",\"told\":\"%s\",\"cpus\":%d,\"wrong\":%ld,\"seen\":%d,"
          "\"unpinned\":%d",
          who, error_name (rseq_is_told ()), cpus, wrong, seen, unpinned);
  if (size)
    printf (",\"size\":%u", *size);
  if (flags)
    printf (",\"flags\":%u", *flags);
  if (offset_known)
    {
      struct area area = *area_at (offset);
      printf (",\"cpu_id_start\":%u,\"cpu_id\":%u,\"rseq_cs\":%ju,\"area_flags\":%u", area.cpu_id_start,
              area.cpu_id, (uintmax_t) area.rseq_cs, area.flags);
    }
  puts ("}");
  fflush (stdout);
  pthread_mutex_unlock (&one);
}

static void *
body (void *name)
{
  look (name);
  sem_post (&ran);
  return NULL;
}

static int
c11_body (void *name)
{
  body (name);
  return 0;
}

static void
timer_body (union sigval name)
{
  body (name.sival_ptr);
}

static void *
nothing (void *unused)
{
  return unused;
}

static int
is (const char *what)
{
  return strcmp (way, what) == 0;
}

/* Make a thread as WAY says; returns 0 or an errno.  */
static int
make_thread (void)
{
  pthread_t id;
  pthread_attr_t attributes;
  if (is ("c11"))
    {
      thrd_t thread;
      return thrd_create (&thread, c11_body, (void *) way) == thrd_success ? 0 : EAGAIN;
    }
  if (is ("timer"))
    {
      struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_value.sival_ptr = (void *) way };
      struct itimerspec soon = { .it_value.tv_nsec = 1 };
      event.sigev_notify_function = timer_body;
      timer_t timer;
      return timer_create (CLOCK_MONOTONIC, &event, &timer) == 0 && timer_settime (timer, 0, &soon, NULL) == 0
                 ? 0
                 : errno;
    }
  pthread_attr_init (&attributes);
  if (is ("affinity")) /* the thread starts stopped, and is let go once it has its CPUs */
    pthread_attr_setaffinity_np (&attributes, sizeof allowed, allowed);
  if (is ("detached"))
    pthread_attr_setdetachstate (&attributes, PTHREAD_CREATE_DETACHED);
  if (is ("own-stack"))
    {
      void *stack = mmap (NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (stack == MAP_FAILED)
        err (1, "mmap");
      pthread_attr_setstack (&attributes, stack, STACK);
    }
  return pthread_create (&id, &attributes, body, (void *) way);
}

static void
make_and_wait (void)
{
  struct timespec limit;
  int error = make_thread ();
  if (error)
    {
      printf ("{\"from\":\"error\",\"who\":\"%s\",\"error\":\"%s\"}\n", way, error_name (error));
      return;
    }
  clock_gettime (CLOCK_REALTIME, &limit);
  limit.tv_sec += PATIENCE;
  if (sem_timedwait (&ran, &limit) < 0)
    printf ("{\"from\":\"error\",\"who\":\"%s\",\"error\":\"it never ran\"}\n", way);
}

/* The thread is made in a child of fork; end as the child did.  */
static void
in_a_child (void)
{
  int status;
  fflush (stdout);
  pid_t child = fork ();
  if (child < 0)
    err (1, "fork");
  if (child == 0)
    {
      make_and_wait ();
      fflush (stdout);
      _exit (0);
    }
  if (waitpid (child, &status, 0) < 0)
    err (1, "waitpid");
  if (WIFSIGNALED (status))
    {
      raise (WTERMSIG (status));
      abort ();
    }
  if (WEXITSTATUS (status) != 0)
    exit (WEXITSTATUS (status));
}

static void
make_each (const char *const *ways, size_t count)
{
  for (size_t i = 0; i < count; i++)
    {
      way = ways[i];
      if (is ("fork"))
        in_a_child ();
      else
        make_and_wait ();
    }
}

static void
print_offset (void)
{
  struct kernel_word word;
  const ptrdiff_t *symbol = SYMBOL (__rseq_offset);
  if (symbol)
    printf ("%td\n", *symbol);
  else if (kernel_word_of_self (&word) == 0 && word.pointer)
    printf ("%td\n", (char *) (uintptr_t) word.pointer - thread_pointer ());
  else
    puts ("unknown");
}

static void
set_offset (const char *text)
{
  char *end;
  const ptrdiff_t *symbol = SYMBOL (__rseq_offset);
  if (symbol)
    {
      offset = *symbol;
      offset_known = 1;
      return;
    }
  offset = strtol (text, &end, 10);
  offset_known = end != text && *end == '\0';
}

int
main (int argc, char **argv)
{
  static const char *const ways[]
    = { "plain", "affinity", "detached", "own-stack", "c11", "timer", "reused", "fork" };
  const size_t at_start = 6, all = sizeof ways / sizeof *ways;
  if (argc == 2 && strcmp (argv[1], "offset") == 0)
    {
      print_offset ();
      return 0;
    }
  int start = argc == 3 && strcmp (argv[1], "start") == 0;
  if (!start && !(argc == 5 && strcmp (argv[1], "later") == 0))
    errx (2, "usage: rseq-refused offset | start OFFSET | later WAY ERROR OFFSET");
  set_offset (argv[argc - 1]);
  sem_init (&ran, 0, 0);
  if (sched_getaffinity (0, sizeof allowed, allowed) < 0)
    err (1, "sched_getaffinity");
  look ("main");
  if (start)
    make_each (ways, at_start);
  else
    {
      way = argv[2];
      int each = is ("all");
      pthread_t id;
      if ((each || is ("reused")) && pthread_create (&id, NULL, nothing, NULL) == 0)
        pthread_join (id, NULL); /* its stack and descriptor are kept for the next */
      int error = refuse_rseq (error_named (argv[3]));
      if (error)
        errx (CANNOT, "no filter can be made here: %s", error_name (error));
      look ("main, refused");
      make_each (each ? ways : &way, each ? all : 1);
    }
  puts ("{\"from\":\"end\"}");
  return 0;
}
