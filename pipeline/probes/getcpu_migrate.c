/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* getcpu-migrate ROUNDS THREADS: pins itself to each CPU in turn, ROUNDS times, and compares what
   sched_getcpu says; the main thread first, then THREADS threads at once.  One line a CPU, one at the end. */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "probe.h"

#define MAX_CPUS 8192
#define CALLS 200 /* after each migration */

static cpu_set_t mask[MAX_CPUS / CPU_SETSIZE];
static int cpu[MAX_CPUS];
static int cpus, rounds;

struct tally
{
  long calls[MAX_CPUS];
  long wrong[MAX_CPUS];
  int seen[MAX_CPUS]; /* the last wrong answer */
  long unpinned;
};

static int
pin (int to)
{
  cpu_set_t one[MAX_CPUS / CPU_SETSIZE];
  CPU_ZERO_S (sizeof one, one);
  CPU_SET_S (to, sizeof one, one);
  return sched_setaffinity (0, sizeof one, one);
}

static void *
travel (void *arg)
{
  struct tally *t = arg;
  for (int r = 0; r < rounds; r++)
    for (int i = 0; i < cpus; i++)
      {
        if (pin (cpu[i]) < 0)
          {
            t->unpinned++;
            continue;
          }
        for (int k = 0; k < CALLS; k++)
          {
            int seen = sched_getcpu ();
            t->calls[i]++;
            if (seen != cpu[i])
              {
                t->wrong[i]++;
                t->seen[i] = seen;
              }
          }
      }
  return NULL;
}

int
main (int argc, char **argv)
{
  rounds = argc > 1 ? atoi (argv[1]) : 20;
  int threads = argc > 2 ? atoi (argv[2]) : 4;
  if (sched_getaffinity (0, sizeof mask, mask) < 0)
    err (1, "sched_getaffinity");
  for (int i = 0; i < MAX_CPUS; i++)
    if (CPU_ISSET_S (i, sizeof mask, mask))
      cpu[cpus++] = i;

  struct tally *tally = calloc ((size_t) threads + 1, sizeof *tally);
  pthread_t *id = calloc ((size_t) threads + 1, sizeof *id);
  if (threads < 0 || tally == NULL || id == NULL)
    errx (2, "cannot have %d threads", threads);
  travel (&tally[0]);
  for (int i = 1; i <= threads; i++)
    if (pthread_create (&id[i], NULL, travel, &tally[i]) != 0)
      errx (1, "cannot start thread %d", i);
  for (int i = 1; i <= threads; i++)
    pthread_join (id[i], NULL);

  long all = 0, all_wrong = 0, unpinned = 0;
  for (int i = 0; i < cpus; i++)
    {
      long calls = 0, wrong = 0;
      int seen = cpu[i];
      for (int t = 0; t <= threads; t++)
        {
          calls += tally[t].calls[i];
          wrong += tally[t].wrong[i];
          if (tally[t].wrong[i])
            seen = tally[t].seen[i];
        }
      printf ("{\"cpu\":%d,\"calls\":%ld,\"wrong\":%ld,\"seen\":%d}\n", cpu[i], calls, wrong, seen);
      all += calls;
      all_wrong += wrong;
    }
  for (int t = 0; t <= threads; t++)
    unpinned += tally[t].unpinned;
  printf ("{\"cpus\":%d,\"threads\":%d,\"calls\":%ld,\"wrong\":%ld,\"unpinned\":%ld}\n", cpus, threads + 1,
          all, all_wrong, unpinned);
  return 0;
}
