/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rseq-refuse ERROR TUNABLE -- COMMAND... [-- COMMAND...]...: runs each command under a filter that answers
   rseq with ERROR (ENOSYS, EPERM, EBUSY; SIGSYS: who calls it is killed; "later": with no filter, the command makes its own) and prints how it ended and
   what it wrote.  Where no filter can be had, but rseq is answered with that very error already, the commands
   run as they are.  Static, so that nothing of the libc under test takes part.

   An argument "@offset" stands for what `PROGRAM offset' prints when nothing refuses rseq and TUNABLE is 1: where a
   libc without public symbols has its area.

   One line says what rseq is told here, then one a command; "code" says why a command did not run: "filter", no
   filter could be made; "exec", it could not be started, "error" being the errno's name; else it is "".  */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "rseq_filter.h"
#include "runner_text.h"

#define CANNOT 77 /* probe.h */
#define MAX_ARGS 16
#define EMULATOR "/probes/.qemu" /* pipeline/place/qemu_user.py */
#define OUTPUT_LIMIT 200000

extern char **environ;

static const char *
name_of (int error)
{
  const char *name = error == KILLED ? "SIGSYS" : error ? strerrorname_np (error) : "0";
  return name ? name : "unknown";
}

/* Why a command did not run: CODE as printed, "" if it ran, and an errno.  */
struct failure
{
  char code[8];
  int error;
};

static void __attribute__ ((noreturn))
give_up (int to, const char *code, int error)
{
  struct failure failure = { .error = error };
  strcpy (failure.code, code);
  write_all (to, (const char *) &failure, sizeof failure);
  _exit (127);
}

/* Run ARGV and take what it writes; returns its wait status.  ARGV[-1] must be EMULATOR's name.  */
static int
run (char **argv, char **env, int error, struct text said[2], struct failure *failure)
{
  int out[2][2], failed[2], status;
  if (pipe2 (failed, O_CLOEXEC) < 0)
    err (1, "pipe");
  for (int i = 0; i < 2; i++)
    if (pipe2 (out[i], O_CLOEXEC) < 0)
      err (1, "pipe");
  pid_t child = fork ();
  if (child < 0)
    err (1, "fork");
  if (child == 0)
    {
      dup2 (out[0][1], 1);
      dup2 (out[1][1], 2);
      int refused = error ? refuse_rseq (error) : 0;
      if (refused)
        give_up (failed[1], "filter", refused);
      execve (argv[0], argv, env);
      if (errno == ENOEXEC)
        execve (EMULATOR, argv - 1, env); /* argv[-1] is there for this */
      give_up (failed[1], "exec", errno);
    }
  close (failed[1]);
  memset (failure, 0, sizeof *failure);
  if (read (failed[0], failure, sizeof *failure) < 0) /* nothing comes of a program that was started */
    err (1, "read");
  close (failed[0]);
  struct pollfd fds[2];
  for (int i = 0; i < 2; i++)
    {
      close (out[i][1]);
      fds[i] = (struct pollfd){ out[i][0], POLLIN, 0 };
      text_add (&said[i], "", 0);
    }
  while (fds[0].fd >= 0 || fds[1].fd >= 0)
    {
      if (poll (fds, 2, -1) < 0 && errno != EINTR)
        err (1, "poll");
      for (int i = 0; i < 2; i++)
        if (fds[i].fd >= 0 && fds[i].revents)
          {
            char block[4096];
            ssize_t n = read (fds[i].fd, block, sizeof block);
            if (n > 0 && said[i].len < OUTPUT_LIMIT)
              text_add (&said[i], block, (size_t) n);
            if (n <= 0)
              {
                close (fds[i].fd);
                fds[i].fd = -1;
              }
          }
    }
  if (waitpid (child, &status, 0) < 0)
    err (1, "waitpid");
  return status;
}

/* Where PROGRAM has its area when rseq is on; "unknown" if it does not tell.  */
static char *
offset_of (char *program, char *tunable)
{
  char setting[256], *argv[] = { (char *) EMULATOR, program, (char *) "offset", NULL }, *env[] = { setting, NULL };
  struct text said[2] = { 0 };
  struct failure failure;
  snprintf (setting, sizeof setting, "GLIBC_TUNABLES=%s=1", tunable);
  int status = run (argv + 1, env, 0, said, &failure);
  said[0].data[strcspn (said[0].data, "\n")] = '\0';
  return WIFEXITED (status) && WEXITSTATUS (status) == 0 && *said[0].data ? said[0].data
                                                                         : (char *) "unknown";
}

static void
report (char **argv, char *tunable, int error)
{
  static char *program, *offset; /* those of the last command: a program is asked once */
  struct text said[2] = { 0 }, t = { 0 };
  struct failure failure;
  for (char **a = argv; *a; a++)
    if (strcmp (*a, "@offset") == 0)
      {
        if (program == NULL || strcmp (program, argv[0]) != 0)
          offset = offset_of (argv[0], tunable);
        program = argv[0];
        *a = offset;
      }
  int status = run (argv, environ, error, said, &failure);
  text_addf (&t, "{\"from\":\"command\"");
  text_add_string (&t, "program", argv[0]);
  text_add_string (&t, "code", failure.code);
  text_add_string (&t, "error", failure.error ? name_of (failure.error) : "");
  if (WIFEXITED (status))
    text_addf (&t, ",\"status\":%d,\"signal\":null", WEXITSTATUS (status));
  else
    text_addf (&t, ",\"status\":null,\"signal\":%d", WTERMSIG (status));
  text_add_string (&t, "stdout", said[0].data);
  text_add_string (&t, "stderr", said[1].data);
  text_add (&t, "}\n", 2);
  write_all (1, t.data, t.len);
}

/* What rseq is told under the filter; where there can be none, what it is told without.  */
static int
told_under_filter (int error, int *filtered)
{
  int status;
  pid_t child = fork ();
  if (child < 0)
    err (1, "fork");
  if (child == 0)
    {
      if (refuse_rseq (error) != 0)
        _exit (255);
      _exit (rseq_is_told ());
    }
  if (waitpid (child, &status, 0) < 0)
    err (1, "waitpid");
  *filtered = 1;
  if (WIFSIGNALED (status) && WTERMSIG (status) == SIGSYS)
    return KILLED;
  if (!WIFEXITED (status))
    errx (1, "the filter could not be tried");
  *filtered = WEXITSTATUS (status) != 255;
  return *filtered ? WEXITSTATUS (status) : rseq_is_told ();
}

int
main (int argc, char **argv)
{
  if (argc < 5 || strcmp (argv[3], "--") != 0)
    errx (2, "usage: rseq-refuse ENOSYS|EPERM|EBUSY|SIGSYS|later TUNABLE -- COMMAND... [-- COMMAND...]...");
  int error = error_named (argv[1]), filtered = 0, told = rseq_is_told ();
  if (error)
    {
      int under = told_under_filter (error, &filtered);
      if (under != error)
        errx (CANNOT, "no filter can be made here, and rseq is told %s", name_of (under));
      told = under;
    }
  printf ("{\"from\":\"place\",\"told\":\"%s\",\"filtered\":%s}\n", name_of (told), filtered ? "true" : "false");
  fflush (stdout);
  for (int i = 4; i < argc;)
    {
      char *command[MAX_ARGS + 2] = { (char *) EMULATOR };
      int n = 1;
      for (; i < argc && strcmp (argv[i], "--") != 0; i++)
        if (n <= MAX_ARGS)
          command[n++] = argv[i];
      i++;
      if (n > 1)
        report (command + 1, argv[2], filtered ? error : 0);
    }
  return 0;
}
