/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a batch of jobs, each in its own root, and writes one JSON object a line: the facts of the place,
   a line a job, an end line.  The same program on every place; it needs no /proc, /dev or shell, there or
   in the roots, and may be process 1.

     runner --jobs FILE --out FILE|fd:N [--roots DIR] [--root NAME=DIR]... [--overlay /PATH=DIR]...

   Exit status: 0 all jobs were run (however they ended), 1 the roots could not be prepared, 2 wrong use,
   3 the results could not be written.  */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "runner_facts.h"
#include "runner_jobs.h"
#include "runner_roots.h"

#define OUTPUT_LIMIT (1 << 20) /* bytes of each of a job's outputs; more ends the job */
#define DRAIN_NS 2000000000LL  /* how long an output may stay open after its job has ended */

struct output
{
  int fd;
  struct text text;
};

struct ending
{
  int status;
  int timed_out;
  int overflow;
  long long ns;
};

static volatile pid_t running; /* process group to end when we are told to end */

static long long
now_ns (void)
{
  struct timespec ts;
  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void
on_child (int signum)
{
  (void) signum; /* only there so that ppoll returns */
}

static void
on_end (int signum)
{
  if (running > 0)
    kill (-running, SIGKILL);
  _exit (128 + signum);
}

static void
watch_signals (void)
{
  sigset_t set;
  struct sigaction child = { .sa_handler = on_child }, end = { .sa_handler = on_end };
  sigaction (SIGCHLD, &child, NULL);
  sigaction (SIGTERM, &end, NULL);
  sigaction (SIGINT, &end, NULL);
  sigaction (SIGHUP, &end, NULL);
  signal (SIGPIPE, SIG_IGN);
  sigemptyset (&set);
  sigaddset (&set, SIGCHLD);
  sigprocmask (SIG_BLOCK, &set, NULL); /* taken in ppoll only */
}

/* In the child: never returns.  What fails is told through FAILURE, which exec closes: the code of the step, a
   line feed, a sentence.  */
static void __attribute__ ((noreturn))
become (const struct job *job, const char *root, int in, int out, int errors, int failure)
{
  static char *nothing[] = { NULL };
  const char *step = "chroot";
  sigset_t none;
  setpgid (0, 0);
  prctl (PR_SET_PDEATHSIG, SIGKILL);
  for (int s = 1; s < NSIG; s++)
    signal (s, SIG_DFL);
  sigemptyset (&none);
  sigprocmask (SIG_SETMASK, &none, NULL);
  setrlimit (RLIMIT_CORE, &(struct rlimit) { 0, 0 });
  umask (022);
  dup2 (in, 0);
  dup2 (out, 1);
  dup2 (errors, 2);
  for (int fd = 3; fd < 256; fd++)
    fcntl (fd, F_SETFD, FD_CLOEXEC);
  if (chroot (root) == 0 && (step = "chdir", chdir ("/") == 0))
    {
      step = "exec";
      execve (job->argv.item[0], job->argv.item, job->env.count ? job->env.item : nothing);
    }
  dprintf (failure, "%s\n%s %s: %s", step, step, strcmp (step, "exec") == 0 ? job->argv.item[0] : root,
           strerror (errno));
  _exit (127);
}

/* Take what there is; the file descriptor becomes -1 at the end.  Returns 1 if it is too much.  */
static int
take (struct output *o)
{
  char block[65536];
  ssize_t n = read (o->fd, block, sizeof block);
  if (n < 0 && (errno == EINTR || errno == EAGAIN))
    return 0;
  if (n <= 0)
    {
      close (o->fd);
      o->fd = -1;
      return 0;
    }
  size_t room = OUTPUT_LIMIT - o->text.len;
  text_add (&o->text, block, (size_t) n < room ? (size_t) n : room);
  return (size_t) n > room;
}

static int
has_ended (pid_t pid)
{
  siginfo_t info = { 0 };
  return waitid (P_PID, (id_t) pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

/* Follow a started job to its end and to the end of its outputs.  */
static struct ending
follow (pid_t pid, long timeout_ms, struct output out[2])
{
  struct ending e = { 0 };
  long long start = now_ns (), deadline = start + timeout_ms * 1000000LL;
  sigset_t open_set;
  int reaped = 0;
  sigemptyset (&open_set);
  while (!reaped || out[0].fd >= 0 || out[1].fd >= 0)
    {
      if (!reaped && has_ended (pid))
        {
          e.ns = now_ns () - start;
          kill (-pid, SIGKILL); /* whatever it left behind, while its number is still its own */
          waitpid (pid, &e.status, 0);
          reaped = 1;
          running = 0;
          deadline = now_ns () + DRAIN_NS;
          continue;
        }
      long long left = deadline - now_ns ();
      if (left <= 0 && reaped)
        break;
      if (left <= 0)
        {
          e.timed_out = 1;
          kill (-pid, SIGKILL);
          deadline += 3600 * 1000000000LL;
          continue;
        }
      struct pollfd fds[2] = { { out[0].fd, POLLIN, 0 }, { out[1].fd, POLLIN, 0 } };
      struct timespec wait = { left / 1000000000LL, left % 1000000000LL };
      if (ppoll (fds, 2, &wait, &open_set) <= 0)
        continue;
      for (int i = 0; i < 2; i++)
        if (fds[i].revents && take (&out[i]) && !e.overflow)
          {
            e.overflow = 1;
            if (!reaped)
              kill (-pid, SIGKILL);
          }
    }
  for (int i = 0; i < 2; i++)
    if (out[i].fd >= 0)
      close (out[i].fd);
  while (getpid () == 1 && waitpid (-1, NULL, WNOHANG) > 0)
    continue; /* orphans, which come to process 1 */
  return e;
}

static void
text_add_job (struct text *t, const struct job *job, const struct roots *roots)
{
  int in[2], out[2], errors[2], failure[2];
  char said[512] = "", *why = said;
  const char *code = ""; /* why a job did not start or was ended; pipeline/place/__init__.py knows them */
  struct ending e = { 0 };
  const char *root = root_directory (roots, job->root);
  struct output taken[2] = { { .fd = -1 }, { .fd = -1 } };
  pid_t pid = -1;

  if (root == NULL)
    {
      code = "root";
      snprintf (said, sizeof said, "the runner was not told where the root '%s' is", job->root);
    }
  else if (job->argv.count == 0)
    {
      code = "no-program";
      snprintf (said, sizeof said, "the job has no program");
    }
  else if (pipe2 (in, O_CLOEXEC) < 0 || pipe2 (out, O_CLOEXEC) < 0 || pipe2 (errors, O_CLOEXEC) < 0
           || pipe2 (failure, O_CLOEXEC) < 0)
    err (EXIT_FAILURE, "pipe");
  else
    {
      close (in[1]); /* standard input is at its end, without a need for /dev/null */
      pid = fork ();
      if (pid == 0)
        become (job, root, in[0], out[1], errors[1], failure[1]);
      if (pid < 0)
        {
          code = "fork";
          snprintf (said, sizeof said, "fork: %s", strerror (errno));
        }
      else
        setpgid (pid, pid);
      running = pid;
      close (in[0]);
      close (out[1]);
      close (errors[1]);
      close (failure[1]);
      taken[0].fd = out[0];
      taken[1].fd = errors[0];
      if (pid > 0)
        {
          e = follow (pid, job->timeout_ms, taken);
          ssize_t n = read (failure[0], said, sizeof said - 1);
          said[n > 0 ? n : 0] = '\0';
          char *end = strchr (said, '\n');
          if (end)
            {
              *end = '\0';
              code = said;
              why = end + 1;
            }
        }
      close (failure[0]);
    }
  if (e.overflow)
    {
      code = "output";
      why = said;
      snprintf (said, sizeof said, "ended by the runner: it wrote more than %d bytes", OUTPUT_LIMIT);
    }

  text_addf (t, "{\"kind\":\"job\"");
  text_add_string (t, "id", job->id);
  if (pid > 0 && WIFEXITED (e.status) && *why == '\0')
    text_addf (t, ",\"status\":%d,\"signal\":null", WEXITSTATUS (e.status));
  else if (pid > 0 && WIFSIGNALED (e.status))
    text_addf (t, ",\"status\":null,\"signal\":%d", WTERMSIG (e.status));
  else
    text_addf (t, ",\"status\":null,\"signal\":null");
  text_addf (t, ",\"timed_out\":%s,\"ns\":%lld", e.timed_out ? "true" : "false", e.ns);
  text_add_string (t, "code", code);
  text_add_string (t, "error", why);
  text_add_base64 (t, "stdout", taken[0].text.data, taken[0].text.len);
  text_add_base64 (t, "stderr", taken[1].text.data, taken[1].text.len);
  text_add (t, "}\n", 2);
  free (taken[0].text.data);
  free (taken[1].text.data);
}

static int
open_results (const char *name)
{
  int fd = strncmp (name, "fd:", 3) == 0 ? atoi (name + 3)
                                         : open (name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || fcntl (fd, F_SETFD, FD_CLOEXEC) < 0)
    err (2, "%s", name);
  return fd;
}

static void
say (int fd, struct text *t)
{
  write_all (fd, t->data, t->len);
  free (t->data);
  *t = (struct text) { 0 };
}

int
main (int argc, char **argv)
{
  const char *jobs_file = NULL, *out_file = NULL;
  struct roots roots = { 0 };
  struct text t = { 0 };
  for (int i = 1; i + 1 < argc; i += 2)
    if (strcmp (argv[i], "--jobs") == 0)
      jobs_file = argv[i + 1];
    else if (strcmp (argv[i], "--out") == 0)
      out_file = argv[i + 1];
    else if (strcmp (argv[i], "--roots") == 0)
      roots.directory = argv[i + 1];
    else if (strcmp (argv[i], "--root") == 0)
      list_add (&roots.named, argv[i + 1]);
    else if (strcmp (argv[i], "--overlay") == 0)
      list_add (&roots.overlays, argv[i + 1]);
    else
      errx (2, "unknown option %s", argv[i]);
  if (jobs_file == NULL || out_file == NULL || argc % 2 == 0)
    errx (2, "usage: runner --jobs FILE --out FILE|fd:N [--roots DIR] [--root NAME=DIR] [--overlay /P=DIR]");

  struct jobs jobs = read_jobs (jobs_file);
  int fd = open_results (out_file);
  watch_signals ();
  text_add_facts (&t);
  say (fd, &t);

  char *trouble = prepare_roots (&roots, &jobs);
  if (trouble != NULL)
    {
      text_addf (&t, "{\"kind\":\"trouble\"");
      text_add_string (&t, "message", trouble);
      text_add (&t, "}\n", 2);
      say (fd, &t);
      return 1;
    }
  for (size_t i = 0; i < jobs.count; i++)
    {
      text_add_job (&t, &jobs.item[i], &roots);
      say (fd, &t);
    }
  text_addf (&t, "{\"kind\":\"end\",\"jobs\":%zu}\n", jobs.count);
  say (fd, &t);
  return 0;
}
