/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Thread-local data of libraries: questions of threads/main.c, of dynamic programs alone.  */
#ifndef LIBRARIES_H
#define LIBRARIES_H

#include <dlfcn.h>

#include "asked.h"

/* Thread-local data of a library that is loaded while threads are there: of theirs, and of later ones.  DIRECTORY is
   that of this program.  Where it is addressed from the thread pointer it needs room kept free at start-up.  */
static const char *directory = ".";
static int *(*volatile data_of_library) (void);
static pthread_barrier_t loaded;

static int
has_data (void)
{
  int *data = data_of_library ();
  if (data[0] != 0x5eed || data[1] != 0)
    return wrong ("thread-local data of a library is %#x, %#x", (unsigned int) data[0], (unsigned int) data[1]);
  data[0] = data[1] = 0xbad;
  return 0;
}

static int
has_data_later (void)
{
  pthread_barrier_wait (&loaded);
  pthread_barrier_wait (&loaded);
  return has_data ();
}

static int
loads (const char *name)
{
  struct asked_thread early[2] = { { has_data_later, 0, 1 }, { has_data_later, 0, 1 } };
  pthread_t id[2];
  pthread_attr_t attr;
  char file[512];
  int result = attributes (&attr, OWN_STACK);
  snprintf (file, sizeof file, "%s/%s", directory, name);
  pthread_barrier_init (&loaded, NULL, 3);
  if (result || pthread_create (&id[0], NULL, run, &early[0]) != 0
      || pthread_create (&id[1], &attr, run, &early[1]) != 0)
    return result ? result : wrong ("a thread cannot be started");
  pthread_barrier_wait (&loaded);
  void *library = dlopen (file, RTLD_NOW);
  if (library == NULL)
    return wrong ("%s", dlerror ());
  data_of_library = (int *(*) (void)) dlsym (library, "data");
  if (data_of_library == NULL)
    return wrong ("%s", dlerror ());
  pthread_barrier_wait (&loaded);
  for (int i = 0; i < 2; i++)
    {
      pthread_join (id[i], NULL);
      if (early[i].result)
        return said_of (i ? "a thread that was there, on its own stack" : "a thread that was there", early[i].result);
    }
  result = said_of ("the thread that loaded it", has_data ());
  return result ? result : in_threads (has_data);
}

static int static_data (void) { return loads ("threads-library-static"); }
static int dynamic_data (void) { return loads ("threads-library"); }

#endif
