/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* loading: where does ld.so look for a library, and in which order?  It puts one library into several directories
   below /etc, has the release's ldconfig make its cache, and starts programs that look for the library.  Each round
   takes away the directory that won, so that the next one must.  Static, so that nothing of the libc under test takes
   part.  */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "../probe.h"
#include "../writable.h"

#define NAME "libfound.so.1"
#define PROBES "/probes/"
#define CONF "/etc/ld.so.conf"

/* Directories below /etc, the first to win first.  */
static const char *const directories[] = { "rpath", "first/glibc-hwcaps/LEVEL", "first", "second", "runpath",
                                           "cached/glibc-hwcaps/LEVEL", "cached" };
#define DIRECTORIES (sizeof directories / sizeof *directories)

/* The best level of x86-64 that this processor has, "" if it has no more than the first, or is another.  */
static const char *
level (void)
{
#ifdef __x86_64__
  static const char *const best_first[] = { "x86-64-v4", "x86-64-v3", "x86-64-v2" };
  int has[] = { __builtin_cpu_supports ("x86-64-v4"), __builtin_cpu_supports ("x86-64-v3"),
                __builtin_cpu_supports ("x86-64-v2") };
  for (int i = 0; i < 3; i++)
    if (has[i])
      return best_first[i];
#endif
  return "";
}

static void
make_directories (char *path)
{
  for (char *slash = strchr (path + 1, '/'); slash; slash = strchr (slash + 1, '/'))
    {
      *slash = '\0';
      if (mkdir (path, 0755) != 0 && errno != EEXIST)
        err (CANNOT, "%s", path);
      *slash = '/';
    }
}

static void
copy (const char *from, char *to)
{
  char block[65536];
  make_directories (to);
  int in = open (from, O_RDONLY), out = open (to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
  if (in < 0 || out < 0)
    err (CANNOT, "%s to %s", from, to);
  for (ssize_t n; (n = read (in, block, sizeof block)) != 0;)
    if (n < 0 || write (out, block, (size_t) n) != n)
      err (CANNOT, "%s", to);
  close (in);
  close (out);
}

/* Start ARGV with ENVIRONMENT and wait for its end.  */
static int
started (char *const argv[], char *const environment[], int silent)
{
  int status;
  pid_t pid = fork ();
  if (pid == 0)
    {
      if (silent)
        dup2 (2, 1);
      execve (argv[0], argv, environment);
      err (127, "%s", argv[0]);
    }
  if (pid < 0 || waitpid (pid, &status, 0) != pid)
    err (CANNOT, "fork");
  return status;
}

static void
round_of (const char *what, const char *program, char *const environment[])
{
  char path[128];
  snprintf (path, sizeof path, PROBES "%s", program);
  char *argv[] = { path, NULL }, *none[] = { NULL };
  char *ldconfig[] = { (char *) (access ("/sbin/ldconfig", X_OK) == 0 ? "/sbin/ldconfig" : "/usr/sbin/ldconfig"),
                       (char *) "-X", NULL };
  printf ("{\"round\":\"%s\",\"ldconfig\":%d}\n", what, started (ldconfig, none, 1));
  fflush (stdout);
  int status = started (argv, environment, 0);
  if (status)
    printf ("{\"status\":%d}\n", status);
  fflush (stdout);
}

static void
write_conf (const char *text)
{
  FILE *conf = fopen (CONF, "w");
  if (conf == NULL || fputs (text, conf) < 0 || fclose (conf) != 0)
    err (CANNOT, CONF);
}

int
main (void)
{
  static char before[4096], path[DIRECTORIES][256];
  char *none[] = { NULL };
  char *paths[] = { (char *) "LD_LIBRARY_PATH=/etc/first:/etc/second", NULL };
  char *preloaded[] = { (char *) "LD_PRELOAD=" PROBES "loading-preload", NULL };
  make_writable ("/etc");
  FILE *old = fopen (CONF, "r");
  if (old && (fread (before, 1, sizeof before - 1, old) == 0 || fclose (old) != 0))
    err (CANNOT, CONF);
  for (size_t i = 0; i < DIRECTORIES; i++)
    {
      const char *mark = strstr (directories[i], "LEVEL");
      if (mark && !*level ())
        continue;
      snprintf (path[i], sizeof path[i], "/etc/%.*s%s/" NAME, mark ? (int) (mark - directories[i]) : 99, directories[i],
                mark ? level () : "");
      copy (PROBES "loading-library", path[i]);
#ifdef __x86_64__
      if (mark) /* what is in directories of other levels is for other processors, or less good */
        for (const char *const *other = (const char *const[]) { "x86-64-v9", "x86-64-v1", NULL }; *other; other++)
          {
            char beside[256];
            snprintf (beside, sizeof beside, "/etc/%.*s%s/" NAME, (int) (mark - directories[i]), directories[i],
                      *other);
            copy (PROBES "loading-library", beside);
          }
#endif
    }
  write_conf ("/etc/cached\n");
  for (size_t i = 0; i < DIRECTORIES; i++)
    {
      if (!path[i][0])
        continue;
      round_of (path[i], i == 0 ? "loading-rpath" : "loading-runpath", paths);
      if (unlink (path[i]) != 0)
        err (1, "%s", path[i]);
    }
  round_of ("nowhere", "loading-runpath", paths);
  copy (PROBES "loading-library", path[DIRECTORIES - 1]);
  round_of (path[DIRECTORIES - 1], "loading-runpath", none);
  round_of ("preloaded", "loading-runpath", preloaded);
  /* Where /etc is not this program's alone, others come after it.  */
  write_conf (before);
  return unlink ("/etc/ld.so.cache") == 0 ? 0 : 1;
}
