/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In which order do constructors and destructors run?  Of this program (by priority, and before all others
   DT_PREINIT_ARRAY), of libraries that need each other (order/library.c, programs.toml says who needs whom), of
   such as are loaded later, closed again, or loaded by another's constructor.  One line each, as it happens:
   + for a constructor, - for a destructor, = for a place in the program.  */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined STATIC && !__GLIBC_PREREQ(2, 35) /* from 2.35 on libc.a itself has what the unwinder calls */
# include "../launch/find_object.h"
#endif

void note (char what, const char *object);

/* Not through stdio: the C library may not have begun, or have ended.  */
void
note (char what, const char *object)
{
  char line[64] = "{\"step\":\"?";
  size_t n = strlen (line), length = strlen (object);
  line[n - 1] = what;
  memcpy (line + n, object, length);
  memcpy (line + n + length, "\"}\n", 3);
  for (size_t done = 0; done < n + length + 3;)
    {
      ssize_t written = write (1, line + done, n + length + 3 - done);
      if (written < 0 && errno != EINTR)
        _exit (3);
      done += written > 0 ? (size_t) written : 0;
    }
}

static void before_all (void) { note ('+', "preinit"); }
__attribute__ ((section (".preinit_array"), used)) static void (*const preinit) (void) = before_all;

static void __attribute__ ((constructor (101))) construct_first (void) { note ('+', "early"); }
static void __attribute__ ((constructor (102))) construct (void) { note ('+', "main"); }
static void __attribute__ ((destructor (102))) destruct (void) { note ('-', "main"); }
static void __attribute__ ((destructor (101))) destruct_last (void) { note ('-', "early"); }
static void exit_first (void) { note ('-', "atexit 2"); }
static void exit_last (void) { note ('-', "atexit 1"); }

#ifndef STATIC
static void *
load (const char *name)
{
  void *library = dlopen (name, RTLD_NOW);
  if (library == NULL)
    errx (1, "%s", dlerror ());
  return library;
}
#endif

int
main (void)
{
  note ('=', "main");
  atexit (exit_last);
  atexit (exit_first);
#ifndef STATIC
  load ("order-late");
  load ("order-one");
  load ("order-two");
  load ("order-nested");
  void *closed = load ("order-closed");
  load ("order-one"); /* once more: nothing of it runs again */
  note ('=', "close");
  if (dlclose (closed) != 0)
    errx (1, "%s", dlerror ());
  note ('=', "closed");
#endif
  note ('=', "exit");
  return 0;
}
