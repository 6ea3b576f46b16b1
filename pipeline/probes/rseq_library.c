/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A library for rseq-contexts: it looks when it is loaded, called and unloaded.  Compiled with -DAUDITOR it is
   an auditor of ld.so (rtld-audit(7)), with a C library of its own in its own namespace: its constructor and its
   first call run before anything of the program is relocated.  */
#define _GNU_SOURCE
#include "look.h"

#ifdef AUDITOR
# include <link.h>
# define WHAT "an auditor"

unsigned int
la_version (unsigned int version)
{
  look ("an auditor, asked for its version", -1);
  return version;
}

void
la_preinit (uintptr_t *cookie)
{
  (void) cookie;
  look ("an auditor", -1);
}
#else
# define WHAT "a library"

void
look_from_library (const char *context)
{
  look (context, -1);
}
#endif

static void __attribute__ ((constructor))
construct (void)
{
  look ("constructor of " WHAT, -1);
}

static void __attribute__ ((destructor))
destruct (void)
{
  look ("destructor of " WHAT, -1);
}
