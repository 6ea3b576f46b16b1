/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* as-user PROGRAM ARG...: starts a program as a user who owns nothing.  What only root may read shows there.  */
#define _GNU_SOURCE
#include <err.h>
#include <grp.h>
#include <unistd.h>

#define NOBODY 65534
#define CANNOT 77 /* the place does not let the probe work, as in probe.h */

int
main (int argc, char **argv)
{
  if (argc < 2)
    return 2;
  if (setgroups (0, NULL) != 0 || setgid (NOBODY) != 0 || setuid (NOBODY) != 0)
    err (CANNOT, "becoming an ordinary user");
  execv (argv[1], argv + 1);
  err (126, "%s", argv[1]);
}
