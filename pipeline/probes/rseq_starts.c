/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rseq-starts: threads begun in every way there is; each looks at its own registration (look.h).

   A descriptor and a stack are used again: by generations of threads that were joined, on a stack of the
   program's own, after a thread that was cancelled.  That they are the same is said, so that a pass means it.
   Compiled with -DTLS_SIZE and -DTLS_ALIGN it has a block of thread-local data of that size and alignment.  */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <threads.h>
#include <time.h>

#include "look.h"

#define GENERATIONS 5
#define WIDTH 4
#define STACK (512 * 1024)

#ifdef TLS_SIZE
static __thread char block[TLS_SIZE] __attribute__ ((aligned (TLS_ALIGN)));
#endif

struct start
{
  const char *context;
  pthread_t seen[GENERATIONS * WIDTH];
  int count;
};

static pthread_barrier_t together;
static volatile int ended;

static int
used_before (const struct start *s)
{
  for (int i = 0; i < s->count; i++)
    if (pthread_equal (s->seen[i], pthread_self ()))
      return 1;
  return 0;
}

static void *
run (void *of)
{
  struct start *s = of;
#ifdef TLS_SIZE
  if ((uintptr_t) block % TLS_ALIGN)
    errx (1, "thread-local data is misaligned");
  block[TLS_SIZE - 1] = 1;
#endif
  look (s->context, s->count < 0 ? -1 : used_before (s));
  return NULL;
}

static void *
run_together (void *of)
{
  pthread_barrier_wait (&together); /* all descriptors are in use at once */
  run (of);
  pthread_barrier_wait (&together);
  return NULL;
}

static void *
run_detached (void *of)
{
  run (of);
  ended = 1;
  return NULL;
}

static int
run_thrd (void *of)
{
  run (of);
  return 0;
}

static void
run_timer (union sigval value)
{
  run (value.sival_ptr);
  ended = 1;
}

#ifdef STATIC
static void *
wait_for_cancel (void *unused)
{
  for (;;)
    pause ();
  return unused;
}
#endif

static void *
run_nested (void *of)
{
  pthread_t id;
  if (pthread_create (&id, NULL, run, of) != 0 || pthread_join (id, NULL) != 0)
    errx (1, "a thread cannot start a thread");
  return NULL;
}

static void
join_one (const pthread_attr_t *attr, void *(*begin) (void *), struct start *s)
{
  pthread_t id;
  int error = pthread_create (&id, attr, begin, s);
  if (error)
    errx (CANNOT, "%s: a thread cannot be started: %s", s->context, strerror (error));
  if (pthread_join (id, NULL) != 0)
    errx (1, "%s: a thread cannot be joined", s->context);
  if (s->count >= 0)
    s->seen[s->count++] = id;
}

static void
wait_until_ended (void)
{
  for (int i = 0; i < 2000 && !ended; i++)
    {
      struct timespec nap = { 0, 5000000 };
      nanosleep (&nap, NULL);
    }
  if (!ended)
    errx (1, "a thread did not end in 10 s");
}

int
main (void)
{
  pthread_attr_t attr;
  struct start plain = { .context = "main", .count = -1 };
  run (&plain);

  /* Generations: the first thread's descriptor is new, the others' is its.  */
  struct start joined = { .context = "joined" };
  for (int i = 0; i < GENERATIONS; i++)
    join_one (NULL, run, &joined);

  struct start wide = { .context = "several at once" };
  pthread_barrier_init (&together, NULL, WIDTH);
  for (int g = 0; g < 2; g++)
    {
      pthread_t id[WIDTH];
      for (int i = 0; i < WIDTH; i++)
        if (pthread_create (&id[i], NULL, run_together, &wide) != 0)
          errx (CANNOT, "threads cannot be started");
      for (int i = 0; i < WIDTH; i++)
        pthread_join (id[i], NULL);
      for (int i = 0; i < WIDTH; i++)
        wide.seen[wide.count++] = id[i];
    }

  struct start nested = { .context = "from a thread", .count = -1 };
  pthread_t outer;
  if (pthread_create (&outer, NULL, run_nested, &nested) != 0)
    errx (CANNOT, "a thread cannot be started");
  pthread_join (outer, NULL);

#ifdef STATIC /* elsewhere the unwinder is libgcc_s.so.1, which is in no package of glibc's */
  struct start cancelled = { .context = "after a cancelled one" };
  pthread_t victim;
  if (pthread_create (&victim, NULL, wait_for_cancel, NULL) != 0)
    errx (CANNOT, "a thread cannot be started");
  pthread_cancel (victim);
  pthread_join (victim, NULL);
  cancelled.seen[cancelled.count++] = victim;
  join_one (NULL, run, &cancelled);
#endif

  /* Attributes that make pthread_create start the thread stopped, set them, and let it go.  */
  cpu_set_t allowed;
  struct sched_param priority = { .sched_priority = 0 };
  sched_getaffinity (0, sizeof allowed, &allowed);
  struct start affinity = { .context = "with an affinity" };
  pthread_attr_init (&attr);
  pthread_attr_setaffinity_np (&attr, sizeof allowed, &allowed);
  for (int i = 0; i < 2; i++)
    join_one (&attr, run, &affinity);
  pthread_attr_destroy (&attr);

  struct start scheduled = { .context = "with a priority" };
  pthread_attr_init (&attr);
  pthread_attr_setinheritsched (&attr, PTHREAD_EXPLICIT_SCHED);
  pthread_attr_setschedpolicy (&attr, SCHED_OTHER);
  pthread_attr_setschedparam (&attr, &priority);
  for (int i = 0; i < 2; i++)
    join_one (&attr, run, &scheduled);
  pthread_attr_setaffinity_np (&attr, sizeof allowed, &allowed);
  struct start both = { .context = "with both" };
  join_one (&attr, run, &both);
  pthread_attr_destroy (&attr);

  struct start large = { .context = "with a large stack" };
  pthread_attr_init (&attr);
  pthread_attr_setstacksize (&attr, 64 * 1024 * 1024);
  pthread_attr_setguardsize (&attr, 0);
  for (int i = 0; i < 2; i++)
    join_one (&attr, run, &large);
  pthread_attr_destroy (&attr);

  /* Stacks of the program's own, each used twice: the same memory, and so the same descriptor.  */
  char *memory = mmap (NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    err (CANNOT, "mmap");
  static const size_t shifts[] = { 0, 1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 72, 128, 256, 512, 1024, 2048, 4096 };
  for (size_t i = 0; i < sizeof shifts / sizeof *shifts; i++)
    {
      struct start own = { .context = "on an own stack" };
      pthread_attr_init (&attr);
      if (pthread_attr_setstack (&attr, memory + shifts[i], STACK) != 0)
        errx (1, "a stack of the program's own is refused");
      join_one (&attr, run, &own);
      join_one (&attr, run, &own);
      pthread_attr_destroy (&attr);
    }

  struct start detached = { .context = "detached", .count = -1 };
  pthread_t id;
  pthread_attr_init (&attr);
  pthread_attr_setdetachstate (&attr, PTHREAD_CREATE_DETACHED);
  if (pthread_create (&id, &attr, run_detached, &detached) != 0)
    errx (CANNOT, "a detached thread cannot be started");
  wait_until_ended ();
  pthread_attr_destroy (&attr);

  struct start c11 = { .context = "thrd_create", .count = -1 };
  thrd_t thrd;
  if (thrd_create (&thrd, run_thrd, &c11) != thrd_success)
    errx (CANNOT, "thrd_create");
  thrd_join (thrd, NULL);

  struct start timed = { .context = "SIGEV_THREAD", .count = -1 };
  struct sigevent event = { .sigev_notify = SIGEV_THREAD };
  struct itimerspec soon = { .it_value = { 0, 1000000 } };
  timer_t timer;
  event.sigev_notify_function = run_timer;
  event.sigev_value.sival_ptr = &timed;
  ended = 0;
  if (timer_create (CLOCK_MONOTONIC, &event, &timer) != 0 || timer_settime (timer, 0, &soon, NULL) != 0)
    err (CANNOT, "timer_create");
  wait_until_ended ();

  struct start last = { .context = "main at the end", .count = -1 };
  run (&last);
  return 0;
}
