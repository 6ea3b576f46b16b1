/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rseq-copied LIBRARY: a program that is not position-independent and names the rseq symbols itself, so that
   ld.so copies them into it (copy relocations).  It looks (look.h) through its copies, as a library that it
   loads does; and the loader's own variables must say the same.  */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>
#include <stdlib.h>

#include "look.h"

extern const char __executable_start[], _end[];

static void
compare (const char *name, const void *copy, size_t size)
{
  const void *own = dlsym (RTLD_NEXT, name);
  if ((const char *) copy < __executable_start || (const char *) copy >= _end
      || dlsym (RTLD_DEFAULT, name) != copy)
    errx (1, "%s is not copied into the program", name);
  if (own == NULL || own == copy)
    errx (1, "ld.so has no %s of its own", name);
  if (memcmp (own, copy, size) != 0)
    errx (1, "the copy of %s is not what ld.so has", name);
}

static void *
thread (void *context)
{
  look (context, -1);
  return NULL;
}

int
main (int argc, char **argv)
{
  pthread_t id;
  if (argc != 2)
    errx (2, "usage: rseq-copied LIBRARY");
  compare ("__rseq_offset", &__rseq_offset, sizeof __rseq_offset);
  compare ("__rseq_size", &__rseq_size, sizeof __rseq_size);
  compare ("__rseq_flags", &__rseq_flags, sizeof __rseq_flags);
  look ("main", -1);
  if (pthread_create (&id, NULL, thread, "a thread") != 0 || pthread_join (id, NULL) != 0)
    errx (CANNOT, "a thread cannot be started");
  void *library = dlopen (argv[1], RTLD_NOW | RTLD_LOCAL);
  void (*function) (const char *)
    = library ? (void (*) (const char *)) dlsym (library, "look_from_library") : NULL;
  if (function == NULL)
    errx (1, "%s", dlerror ());
  function ("a library loaded by dlopen");
  return 0;
}
