/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* refuse-clone3 PROGRAM ARG...: runs a program under a filter that answers clone3 with ENOSYS, as a kernel
   before 5.3 and many a container engine do: glibc then makes threads by clone.  Static, so that nothing of the
   libc under test takes part.  */
#define _GNU_SOURCE
#include <err.h>

#include "filter.h"

#define CLONE3 435 /* on every architecture */
#define CANNOT 77  /* probe.h */

int
main (int argc, char **argv)
{
  if (argc < 2)
    errx (2, "usage: refuse-clone3 PROGRAM ARG...");
  int error = answer_call (CLONE3, SECCOMP_RET_ERRNO | ENOSYS);
  if (error || syscall (CLONE3, NULL, 0) == 0 || errno != ENOSYS)
    errx (CANNOT, "no filter can be made here: %s", strerror (error ? error : errno));
  execv (argv[1], argv + 1);
  err (127, "%s", argv[1]);
}
