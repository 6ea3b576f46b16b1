/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Where the jobs' roots are, and how trees are laid over them without writing to them: bind mounts in a
   mount namespace of our own, the roots themselves being mounted read-only on top of themselves.  */
#ifndef RUNNER_ROOTS_H
#define RUNNER_ROOTS_H

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "runner_text.h"

struct roots
{
  const char *directory; /* --roots DIR: root R is DIR/R */
  struct list named;     /* --root R=DIR */
  struct list overlays;  /* --overlay /PATH=DIR */
};

static char *
joined (const char *a, const char *b, const char *c)
{
  struct text t = { 0 };
  text_add (&t, a, strlen (a));
  text_add (&t, b, strlen (b));
  text_add (&t, c, strlen (c));
  return t.data;
}

/* The directory of a root, or null if nobody named it.  */
static char *
root_directory (const struct roots *roots, const char *name)
{
  size_t len = strlen (name);
  for (size_t i = 0; i < roots->named.count; i++)
    if (strncmp (roots->named.item[i], name, len) == 0 && roots->named.item[i][len] == '=')
      return roots->named.item[i] + len + 1;
  return roots->directory ? joined (roots->directory, "/", name) : NULL;
}

static int
write_file (const char *name, const char *value)
{
  int fd = open (name, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  ssize_t n = write (fd, value, strlen (value));
  close (fd);
  return n < 0 ? -1 : 0;
}

/* An ordinary user may chroot and mount in a user namespace of his own, as its root.  */
static int
become_namespace_root (int flags)
{
  char map[64];
  unsigned int uid = geteuid (), gid = getegid ();
  if (unshare (CLONE_NEWUSER | flags) < 0)
    return -1;
  (void) write_file ("/proc/self/setgroups", "deny");
  snprintf (map, sizeof map, "0 %u 1", gid);
  if (write_file ("/proc/self/gid_map", map) < 0)
    return -1;
  snprintf (map, sizeof map, "0 %u 1", uid);
  return write_file ("/proc/self/uid_map", map);
}

/* Flags of a mount that a user namespace may not take away, and that a remount must therefore repeat.  */
static unsigned long
kept_flags (const char *path)
{
  static const unsigned long pair[][2]
    = { { ST_NOSUID, MS_NOSUID },         { ST_NODEV, MS_NODEV },   { ST_NOEXEC, MS_NOEXEC },
        { ST_NODIRATIME, MS_NODIRATIME }, { ST_NOATIME, MS_NOATIME }, { ST_RELATIME, MS_RELATIME } };
  struct statvfs fs;
  unsigned long flags = 0;
  if (statvfs (path, &fs) == 0)
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
      if (fs.f_flag & pair[i][0])
        flags |= pair[i][1];
  return flags;
}

static int
bind_read_only (const char *from, const char *to)
{
  if (mount (from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
    return -1;
  return mount (NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | kept_flags (to), NULL);
}

/* Prepare the roots the jobs use.  Returns null, or what could not be done.  */
static char *
prepare_roots (const struct roots *roots, const struct jobs *jobs)
{
  int mounts = roots->overlays.count > 0;
  if (!mounts)
    {
      if (chroot ("/") < 0)
        (void) become_namespace_root (0); /* if this fails too, each job says so */
      return NULL;
    }
  if (unshare (CLONE_NEWNS) < 0 && become_namespace_root (CLONE_NEWNS) < 0)
    return joined ("no mount namespace (neither root's nor a user's own): ", strerror (errno), "");
  if (mount (NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
    return joined ("cannot make mounts private: ", strerror (errno), "");

  struct list done = { 0 };
  for (size_t j = 0; j < jobs->count; j++)
    {
      char *root = root_directory (roots, jobs->item[j].root);
      struct stat st;
      int seen = root == NULL || stat (root, &st) < 0; /* the job itself will say that it is not there */
      for (size_t i = 0; i < done.count && !seen; i++)
        seen = strcmp (done.item[i], root) == 0;
      if (seen)
        continue;
      list_add (&done, root);
      if (bind_read_only (root, root) < 0)
        return joined (root, ": cannot be mounted read-only: ", strerror (errno));
      for (size_t i = 0; i < roots->overlays.count; i++)
        {
          char *path = strdup (roots->overlays.item[i]);
          char *from = path ? strchr (path, '=') : NULL;
          if (from == NULL)
            return joined (roots->overlays.item[i], ": an overlay is /PATH=DIRECTORY", "");
          *from++ = '\0';
          char *to = joined (root, "/", path);
          if (bind_read_only (from, to) < 0)
            return joined (to, ": nothing can be mounted there: ", strerror (errno));
          free (path);
          free (to);
        }
    }
  return NULL;
}

#endif
