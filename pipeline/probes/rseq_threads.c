/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rseq-threads N: a program with N threads beside the main one.  Says what its libc says of rseq, and for
   each thread its id, its thread pointer and the words of the area where __rseq_offset puts it.  When all
   threads are there it raises SIGUSR1, for a tracer to look; without one nothing happens.
   Says how large the thread descriptor is and where some of its members lie, as the libc tells debuggers
   (libthread_db); a static program cannot look that up.
   Says what the kernel announces of the area (AT_RSEQ_FEATURE_SIZE, AT_RSEQ_ALIGN; 0 before 6.3).
   Where it is AT_SECURE it says so, and what is left of the tunables in its environment, and lets a tracer look at its memory all the same.
   Compiled with -DSTATIC it is for a static program, whose libc.a has the rseq symbols or not.  */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "probe.h"
#include "rseq_symbols.h"

struct view
{
  long tid;
  uintptr_t tp;
  uint32_t cpu_id;
};

static const ptrdiff_t *offset;
static pthread_barrier_t all_there, may_end;

static void
look (struct view *v)
{
  v->tid = syscall (SYS_gettid);
  v->tp = (uintptr_t) thread_pointer ();
  if (offset)
    v->cpu_id = area_at (*offset)->cpu_id;
}

static void *
thread (void *v)
{
  look (v);
  pthread_barrier_wait (&all_there);
  pthread_barrier_wait (&may_end);
  return NULL;
}

static void
say_number (const char *name, int known, long long value)
{
  if (known)
    printf (",\"%s\":%lld", name, value);
  else
    printf (",\"%s\":null", name);
}

#ifndef STATIC
/* What nptl_db/structs.def names: a word with the size of the descriptor; for a member three words, its size
   in bits, how many there are of it, and its offset.  */
static void
say_descriptor (void)
{
  static const char *const members[] = { "list", "tid", "cancelhandling", "report_events", "start_routine",
                                         "schedpolicy", "specific", "eventbuf", "nextevent" };
  const uint32_t *bytes = dlvsym (RTLD_DEFAULT, "_thread_db_sizeof_pthread", "GLIBC_PRIVATE");
  printf ("{\"from\":\"descriptor\",\"size\":%u,\"members\":[", bytes ? *bytes : 0);
  const char *comma = "";
  for (size_t i = 0; i < sizeof members / sizeof *members; i++)
    {
      char name[64];
      snprintf (name, sizeof name, "_thread_db_pthread_%s", members[i]);
      const uint32_t *member = dlvsym (RTLD_DEFAULT, name, "GLIBC_PRIVATE");
      if (member == NULL)
        continue;
      printf ("%s[\"%s\",%u,%u]", comma, members[i], member[2], member[0] / 8 * member[1]);
      comma = ",";
    }
  puts ("]}");
}
#endif

int
main (int argc, char **argv)
{
  int count = argc > 1 ? atoi (argv[1]) : 16;
  const unsigned int *size = SYMBOL (__rseq_size);
  const unsigned int *flags = SYMBOL (__rseq_flags);
  offset = SYMBOL (__rseq_offset);

  printf ("{\"from\":\"announced\",\"size\":%lu,\"align\":%lu}\n", getauxval (27), getauxval (28));
  if (getauxval (AT_SECURE))
    {
      prctl (PR_SET_DUMPABLE, 1);
      const char *tunables = getenv ("GLIBC_TUNABLES");
      if (tunables)
        printf ("{\"from\":\"auxv\",\"secure\":1,\"tunables\":\"%s\"}\n", tunables);
      else
        puts ("{\"from\":\"auxv\",\"secure\":1,\"tunables\":null}");
    }
#ifndef STATIC
  say_descriptor ();
#endif
  signal (SIGUSR1, SIG_IGN);
  struct view *view = calloc ((size_t) count + 1, sizeof *view);
  pthread_t *id = calloc ((size_t) count + 1, sizeof *id);
  if (count < 0 || view == NULL || id == NULL)
    errx (2, "cannot have %d threads", count);
  pthread_barrier_init (&all_there, NULL, (unsigned int) count + 1);
  pthread_barrier_init (&may_end, NULL, (unsigned int) count + 1);
  look (&view[0]);
  for (int i = 1; i <= count; i++)
    if (pthread_create (&id[i], NULL, thread, &view[i]) != 0)
      errx (1, "cannot start thread %d", i);
  pthread_barrier_wait (&all_there);

  printf ("{\"from\":\"libc\"");
  say_number ("size", size != NULL, size ? *size : 0);
  say_number ("flags", flags != NULL, flags ? *flags : 0);
  say_number ("offset", offset != NULL, offset ? *offset : 0);
  puts ("}");
  for (int i = 0; i <= count; i++)
    {
      printf ("{\"from\":\"thread\",\"tid\":%ld,\"tp\":%ju", view[i].tid, (uintmax_t) view[i].tp);
      say_number ("cpu_id", offset != NULL, view[i].cpu_id);
      puts ("}");
    }
  fflush (stdout);
  raise (SIGUSR1);

  pthread_barrier_wait (&may_end);
  for (int i = 1; i <= count; i++)
    pthread_join (id[i], NULL);
  printf ("{\"from\":\"end\",\"threads\":%d}\n", count + 1);
  return 0;
}
