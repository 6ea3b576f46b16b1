/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Roots are read-only, so who has to write to a directory lays an empty one over it, in a mount namespace of its own.
   A container does not let a mount be made; there the place itself gives copies of /etc and /tmp that may be written
   to (pipeline/place/container.py).  */
#ifndef WRITABLE_H
#define WRITABLE_H

#include <err.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

/* Make PATH writable.  Ends with CANNOT if this place does not let that be.  */
static inline void
make_writable (const char *path)
{
  if (unshare (CLONE_NEWNS) == 0 && mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
      && mount ("own", path, "tmpfs", 0, "mode=1777,size=16m") == 0)
    return;
  if (access (path, W_OK) != 0)
    err (77, "nothing can be written to %s", path);
}

#endif
