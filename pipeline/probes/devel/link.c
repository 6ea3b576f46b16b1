/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Linked in every way with a release's start files, linker scripts and archives, and then started on it: what
   runs before main and after it, what comes from libc_nonshared.a, one symbol of each library, and the version
   that its headers and the library itself have.  */
#define _GNU_SOURCE
#include <aio.h>
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <math.h>
#include <netdb.h>
#include <pthread.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>
/* From 2.35 on libc.a itself has what GCC's unwinder calls.  */
#if defined STATIC && !__GLIBC_PREREQ(2, 35)
# include "../launch/find_object.h"
#endif

static char order[32];
static volatile double two = 2;

static void
note (char what)
{
  size_t length = strlen (order);
  if (length + 1 < sizeof order)
    order[length] = what;
}

#define BEFORE(name, letter) static void name (void) { note (letter); }
BEFORE (preinit, 'p')
BEFORE (constructor, 'c')
BEFORE (prepare, 'f')
#ifndef SHARED
__attribute__ ((section (".preinit_array"), used)) static void (*const first) (void) = preinit;
#endif
__attribute__ ((section (".init_array"), used)) static void (*const then) (void) = constructor;

static void
at_the_end (void)
{
  note ('e');
  printf ("{\"order\":\"%s\"}\n", order);
  fflush (stdout);
}

static void
quick (void)
{
  if (write (1, "{\"quick\":true}\n", 15) != 15)
    _exit (3);
}

static void *
thread (void *arg)
{
  return (char *) arg + 1;
}

int
main (void)
{
  pthread_t id;
  void *result = NULL;
  struct timespec now;
  char base = 0;
#ifdef SHARED
  preinit ();
#endif
  note ('m');
  if (pthread_atfork (prepare, NULL, NULL) != 0 || atexit (at_the_end) != 0 || at_quick_exit (quick) != 0)
    return 2;
  if (pthread_create (&id, NULL, thread, &base) != 0 || pthread_join (id, &result) != 0)
    return 2;
  int status = 0;
  pid_t child = fork ();
  if (child == 0)
    quick_exit (7);
  if (child < 0 || waitpid (child, &status, 0) != child)
    return 2;
  printf ("{\"made_for\":\"%d.%d\",\"version\":\"%s\"}\n", __GLIBC__, __GLIBC_MINOR__, gnu_get_libc_version ());
  printf ("{\"joined\":%s,\"child\":%d,\"root\":%.6f,\"clock\":%d,\"error\":\"%s\",\"aio\":%d}\n",
          result == &base + 1 ? "true" : "false", WIFEXITED (status) ? WEXITSTATUS (status) : -1,
          sqrt (two), clock_gettime (CLOCK_MONOTONIC, &now), hstrerror (NETDB_SUCCESS),
          aio_error (&(struct aiocb) { .aio_fildes = -1 }));
  return 0;
}
