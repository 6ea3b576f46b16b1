/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* getcpu-path TUNABLE: where does sched_getcpu have its answer from?

   Numbers that no CPU has are written into the area's cpu_id, and sched_getcpu is called: one that reads
   the area gives back each of them, whole, and each of the 31 bits comes back as 1 and as 0.  A preemption in
   between makes the kernel put the true number back.  That is seen: a number that is still in the area after
   the call was there during it, so another answer came from elsewhere.  One that is gone is planted again.
   A negative number is no CPU's: glibc and the kernel write one where there is no registration, -2 and -1, and
   then the answer has to come from elsewhere, also once a program has given the registration back.
   Before that, the words as glibc left them are shown: with rseq off the area says -2, no CPU, and a right
   answer must have come from elsewhere.

   A libc without public symbols, rseq being off, does not tell where its area is; the program then starts
   itself with the tunable on and asks the kernel there, for the place is the same in every process.
   One line for the main thread and one for another.  */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>

#include "probe.h"

#define TRIES 2000
#define AGAIN 1000 /* times that a number is planted anew; a preemption hits one of some ten thousand */
#define IMPOSSIBLE 0x100000U /* more than any machine has CPUs */
#define MAX_CPUS 8192

static const char *self, *tunable;

/* A number that no CPU has, another each time, any of its 31 bits set or not.  */
static uint32_t
impossible (void)
{
  static __thread uint64_t state = 1;
  uint32_t number;
  do
    {
      state = state * 6364136223846793005U + 1442695040888963407U;
      number = (uint32_t) (state >> 33);
    }
  while (number < IMPOSSIBLE);
  return number;
}

/* The offset as another process of this program finds it with rseq on; 0 if it does not.  */
static ptrdiff_t
offset_when_on (void)
{
  char setting[256], answer[64] = "";
  int out[2], status;
  pid_t child;
  posix_spawn_file_actions_t actions;
  snprintf (setting, sizeof setting, "GLIBC_TUNABLES=%s=1", tunable);
  char *argv[] = { (char *) self, (char *) "--offset", NULL }, *env[] = { setting, NULL };
  if (pipe (out) < 0)
    err (1, "pipe");
  posix_spawn_file_actions_init (&actions);
  posix_spawn_file_actions_adddup2 (&actions, out[1], 1);
  posix_spawn_file_actions_addclose (&actions, out[0]);
  if (posix_spawn (&child, self, &actions, NULL, argv, env) != 0)
    errx (1, "cannot start %s", self);
  close (out[1]);
  if (read (out[0], answer, sizeof answer - 1) < 0)
    err (1, "read");
  waitpid (child, &status, 0);
  return strtol (answer, NULL, 10);
}

static void *
look (void *name)
{
  struct kernel_word word;
  const char *from;
  int error = kernel_word_of_self (&word);
  ptrdiff_t offset = area_offset (&from);
  if (from == NULL && (offset = offset_when_on ()) != 0)
    from = "tunable on";

  printf ("{\"thread\":\"%s\",\"error\":\"%s\",\"registered\":%s", (const char *) name, error_name (error),
          word.pointer ? "true" : "false");
  if (from == NULL)
    {
      puts (",\"offset\":null}");
      return NULL;
    }
  volatile struct area *area = area_at (offset);
  uint32_t before = area->cpu_id;
  cpu_set_t was[MAX_CPUS / CPU_SETSIZE] = { 0 }, one[MAX_CPUS / CPU_SETSIZE];
  int pinned = sched_getaffinity (0, sizeof was, was) == 0;
  int cpu = MAX_CPUS - 1; /* the last one allowed: 0 is what a wrong answer most often is */
  while (pinned && cpu > 0 && !CPU_ISSET_S (cpu, sizeof was, was))
    cpu--;
  CPU_ZERO_S (sizeof one, one);
  CPU_SET_S (cpu, sizeof one, one);
  pinned = pinned && sched_setaffinity (0, sizeof one, one) == 0;
  int answer = sched_getcpu ();
  uint32_t after = area->cpu_id;

  int planted = 0, other = 0, passed = 0;
  uint32_t ones = 0, zeros = 0, wrote = 0, read = 0;
  for (int i = 0; i < TRIES; i++)
    {
      uint32_t honest = area->cpu_id, number = impossible (), got, left;
      int again = AGAIN;
      do
        {
          area->cpu_id = number;
          got = (uint32_t) sched_getcpu ();
          left = area->cpu_id;
          area->cpu_id = honest;
        }
      while (got != number && left != number && got == (uint32_t) cpu && again-- > 0);
      if (got == number)
        {
          planted++;
          ones |= number;
          zeros |= ~number;
          continue;
        }
      wrote = number;
      read = got;
      if (got != (uint32_t) cpu)
        other++;
      else if (left == number)
        passed++;
    }
  static const uint32_t marks[] = { UINT32_MAX, UINT32_MAX - 1, UINT32_MAX - 2, (uint32_t) INT32_MIN };
  int fell_back = 0, marked = sizeof marks / sizeof *marks;
  for (int i = 0; i < marked; i++)
    {
      uint32_t honest = area->cpu_id;
      area->cpu_id = marks[i];
      fell_back += sched_getcpu () == cpu;
      area->cpu_id = honest;
    }
  if (pinned)
    sched_setaffinity (0, sizeof was, was);
  printf (",\"offset\":%td,\"offset_from\":\"%s\",\"at_kernel_pointer\":%s,\"before\":%u,\"after\":%u,"
          "\"cpu\":%d,\"answer\":%d,\"tries\":%d,\"planted\":%d,\"other\":%d,"
          "\"passed\":%d,\"ones\":%u,\"zeros\":%u,\"wrote\":%u,\"read\":%u,\"marks\":%d,\"fell_back\":%d}\n",
          offset, from, word.pointer == (uintptr_t) area ? "true" : "false", before, after,
          pinned ? cpu : -1, answer, TRIES, planted, other, passed, ones, zeros & INT32_MAX, wrote, read,
          marked, fell_back);
  return NULL;
}

int
main (int argc, char **argv)
{
  pthread_t id;
  if (argc != 2)
    errx (2, "usage: getcpu-path TUNABLE");
  if (strcmp (argv[1], "--offset") == 0)
    {
      const char *from;
      printf ("%td\n", area_offset (&from));
      return 0;
    }
  self = argv[0];
  tunable = argv[1];
  look ("main");
  if (pthread_create (&id, NULL, look, "other") != 0)
    errx (1, "cannot start a thread");
  pthread_join (id, NULL);
  return 0;
}
