/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which of the loader's variables were heard: what was preloaded and what audits says so itself
   (environment_library.c); this program says whether it is AT_SECURE, whether a library is found that only
   LD_LIBRARY_PATH leads to, and which of the variables are left for the programs that it would start.  */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

#if defined STATIC && !__GLIBC_PREREQ(2, 35) /* from 2.35 on libc.a itself has what the unwinder calls */
# include "launch/find_object.h"
#endif

int
main (int argc, char **argv)
{
  int found = 0;
#ifndef STATIC
  found = dlopen ("environment-library", RTLD_NOW) != NULL;
#endif
  printf ("{\"from\":\"program\",\"secure\":%lu,\"found\":%d,\"left\":[", getauxval (AT_SECURE), found);
  const char *comma = "";
  for (int i = 1; i < argc; i++)
    if (getenv (argv[i]))
      {
        printf ("%s\"%s\"", comma, argv[i]);
        comma = ",";
      }
  puts ("]}");
  return 0;
}
