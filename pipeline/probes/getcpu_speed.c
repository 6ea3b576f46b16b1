/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* getcpu-speed TUNABLE: nanoseconds a call.

   Three children of this program run side by side, the tunable unset, 0 and 1, and take turns, a short
   sample each, so that whatever else the machine does hits all alike.  Kinds: sched_getcpu in each child
   (unset, off, on), the getcpu system call (raw), a function that only reads the area's cpu_id, called
   as a shared library's functions are (direct), an empty loop (empty).  A bare read in the loop would not
   do for direct: a processor overlaps such reads, to a cycle each, which no call can be compared with.
   Where a process happens to lie in memory, and which processor it runs on, can make it a third slower than
   its like for as long as it lives.  So the children are started anew every few rounds, all on one
   processor, the next one each time.
   A round is one sample of each kind; a sample is short, so that many escape preemption.  Rounds are
   added, to a limit, until the ratios that are judged are known well enough: the interval in which the
   median of a pair's ratios surely lies is narrow.  On an idle machine that is soon; on a busy one it
   takes more rounds.  Where PIPELINE_EMULATED is set, a few are enough.  One line a kind, with all
   samples.  */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>
#include <time.h>

#include "probe.h"

#define ROUNDS 15 /* of one set of children */
#define MIN_ROUNDS (8 * ROUNDS)
#define MAX_ROUNDS (80 * ROUNDS)
#define PATIENCE_NS 20e9 /* no more rounds are added after this */
#define SAMPLE_NS 1000000
#define NARROW 1.15 /* the upper end of an interval over its lower end */
#define EMULATED_ROUNDS 5 /* times there are shown and not judged */
#define MAX_CPUS 8192

enum kind
{
  UNSET,
  OFF,
  ON,
  RAW,
  DIRECT,
  EMPTY,
  KINDS
};
static const char *const kind_name[KINDS] = { "unset", "off", "on", "raw", "direct", "empty" };
/* The child that measures it: which tunable it has.  */
static const int kind_child[KINDS] = { 0, 1, 2, 1, 2, 2 };

/* The ratios that pipeline/check/speed.py judges.  */
static const enum kind pairs[][2]
  = { { UNSET, OFF }, { UNSET, ON }, { OFF, RAW }, { ON, DIRECT }, { ON, OFF } };

static volatile struct area *area;
static volatile int sink;

static int
read_area (void)
{
  return (int) area->cpu_id;
}

/* Read from memory for each call, as the linkage table is.  */
static int (*volatile direct) (void) = read_area;

static double
now_ns (void)
{
  struct timespec ts;
  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}

static void
repeat (int kind, long calls)
{
  unsigned int cpu;
  switch (kind)
    {
    case RAW:
      for (long i = 0; i < calls; i++)
        syscall (SYS_getcpu, &cpu, NULL, NULL);
      break;
    case DIRECT:
      for (long i = 0; i < calls; i++)
        sink = direct ();
      break;
    case EMPTY:
      for (long i = 0; i < calls; i++)
        __asm__ volatile ("");
      break;
    default:
      for (long i = 0; i < calls; i++)
        sink = sched_getcpu ();
    }
}

/* A child: for each kind it reads, one sample (a double), -1 if it cannot be had.  */
static int
serve (void)
{
  static long calls[KINDS];
  unsigned char kind;
  const char *from;
  ptrdiff_t offset = area_offset (&from);
  if (from != NULL)
    area = area_at (offset);
  while (read (0, &kind, 1) == 1)
    {
      double sample = -1;
      if (kind < KINDS && (kind != DIRECT || area != NULL))
        {
          long *n = &calls[kind];
          if (*n == 0) /* find how many calls fill a sample */
            for (*n = 1000; *n < 1L << 40; *n *= 4)
              {
                double t = now_ns ();
                repeat (kind, *n);
                t = now_ns () - t;
                if (t > SAMPLE_NS / 10.0)
                  {
                    *n = (long) (*n * (SAMPLE_NS / t)) + 1;
                    break;
                  }
              }
          double start = now_ns ();
          repeat (kind, *n);
          sample = (now_ns () - start) / (double) *n;
        }
      if (write (1, &sample, sizeof sample) != sizeof sample)
        return 1;
    }
  return 0;
}

struct child
{
  pid_t pid;
  int to, from;
};

static struct child
start (const char *self, const char *setting)
{
  struct child c;
  int in[2], out[2];
  posix_spawn_file_actions_t actions;
  char *argv[] = { (char *) self, (char *) "--serve", NULL }, *env[] = { (char *) setting, NULL };
  if (pipe2 (in, O_CLOEXEC) < 0 || pipe2 (out, O_CLOEXEC) < 0)
    err (1, "pipe2");
  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_adddup2 (&actions, in[0], 0);
  posix_spawn_file_actions_adddup2 (&actions, out[1], 1);
  if (posix_spawn (&c.pid, self, &actions, NULL, argv, env) != 0)
    errx (1, "cannot start %s", self);
  close (in[0]);
  close (out[1]);
  c.to = in[1];
  c.from = out[0];
  return c;
}

/* All children, on the processor that is the NTH of those that may be used (if it can be had).  */
static void
start_all (struct child child[3], const char *self, char setting[2][256], int nth)
{
  cpu_set_t may[MAX_CPUS / CPU_SETSIZE], one[MAX_CPUS / CPU_SETSIZE];
  int cpu = -1;
  CPU_ZERO_S (sizeof may, may);
  CPU_ZERO_S (sizeof one, one);
  if (sched_getaffinity (0, sizeof may, may) == 0)
    {
      nth %= CPU_COUNT_S (sizeof may, may);
      do
        cpu++;
      while (!CPU_ISSET_S (cpu, sizeof may, may) || nth-- > 0);
      CPU_SET_S (cpu, sizeof one, one);
    }
  for (int i = 0; i < 3; i++)
    {
      child[i] = start (self, i ? setting[i - 1] : NULL);
      if (cpu >= 0)
        sched_setaffinity (child[i].pid, sizeof one, one);
    }
}

static void
end_all (const struct child child[3])
{
  for (int i = 0; i < 3; i++)
    {
      int status;
      close (child[i].to);
      close (child[i].from);
      waitpid (child[i].pid, &status, 0);
    }
}

static int
ascending (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;
  return (x > y) - (x < y);
}

/* Whether the median of the N ratios of A to B is known: its interval by order statistics, three
   standard deviations of a binomial (SpeedRatio.of in pipeline/check/speed.py), is narrow.  */
static int
known (const double *a, const double *b, int n)
{
  double ratio[MAX_ROUNDS];
  int half = 0;
  while (4 * half * half < 9 * n) /* half = 1.5 * sqrt (n), rounded up */
    half++;
  for (int i = 0; i < n; i++)
    ratio[i] = a[i] / b[i];
  qsort (ratio, (size_t) n, sizeof *ratio, ascending);
  return ratio[n / 2 + half] <= NARROW * ratio[(n - 1) / 2 - half];
}

int
main (int argc, char **argv)
{
  static double sample[KINDS][MAX_ROUNDS];
  struct child child[3];
  char setting[2][256];
  int rounds = 0, all_known = 0;
  if (argc != 2)
    errx (2, "usage: getcpu-speed TUNABLE");
  if (strcmp (argv[1], "--serve") == 0)
    return serve ();
  for (int i = 0; i < 2; i++)
    snprintf (setting[i], sizeof setting[i], "GLIBC_TUNABLES=%s=%d", argv[1], i);
  int emulated = getenv ("PIPELINE_EMULATED") != NULL;
  int step = emulated ? EMULATED_ROUNDS : ROUNDS;
  double begun = now_ns ();
  for (int nth = 0; rounds < MAX_ROUNDS && !all_known && now_ns () - begun < PATIENCE_NS; nth++)
    {
      start_all (child, argv[0], setting, nth);
      for (int i = 0; i < step; i++, rounds++)
        for (int k = 0; k < KINDS; k++)
          {
            unsigned char kind = (unsigned char) k;
            struct child *c = &child[kind_child[k]];
            if (write (c->to, &kind, 1) != 1
                || read (c->from, &sample[k][rounds], sizeof (double)) != sizeof (double))
              errx (1, "the child that measures %s has ended", kind_name[k]);
          }
      end_all (child);
      all_known = emulated || rounds >= MIN_ROUNDS;
      for (size_t p = 0; !emulated && all_known && p < sizeof pairs / sizeof *pairs; p++)
        {
          const double *a = sample[pairs[p][0]], *b = sample[pairs[p][1]];
          /* One that cannot be had is -1 in every round.  */
          all_known &= a[0] < 0 || b[0] < 0 || known (a, b, rounds);
        }
    }
  for (int k = 0; k < KINDS; k++)
    {
      printf ("{\"kind\":\"%s\",\"ns\":[", kind_name[k]);
      for (int i = 0; i < rounds; i++)
        printf ("%s%.4f", i ? "," : "", sample[k][i]);
      puts ("]}");
    }
  return 0;
}
