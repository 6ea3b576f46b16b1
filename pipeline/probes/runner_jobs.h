/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads a job file.  The format (pipeline/place/batch.py writes it) is lines of a word, a space and a
   percent-escaped value:

     jobs 1              format version
     job ID              begins a job
     root NAME
     timeout MS
     env NAME=VALUE      any number
     arg VALUE           one or more; the first is the program
     end COUNT           number of jobs: a file that was cut short is refused  */
#ifndef RUNNER_JOBS_H
#define RUNNER_JOBS_H

#include <ctype.h>
#include <fcntl.h>

#include "runner_text.h"

static void
unescape (char *s)
{
  char *to = s;
  for (; *s; s++)
    if (s[0] == '%' && isxdigit ((unsigned char) s[1]) && isxdigit ((unsigned char) s[2]))
      {
        char hex[3] = { s[1], s[2], '\0' };
        *to++ = (char) strtol (hex, NULL, 16);
        s += 2;
      }
    else
      *to++ = *s;
  *to = '\0';
}

static char *
read_file (const char *name)
{
  struct text t = { 0 };
  char block[65536];
  ssize_t n;
  int fd = open (name, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    err (2, "%s", name);
  while ((n = read (fd, block, sizeof block)) > 0)
    text_add (&t, block, (size_t) n);
  if (n < 0)
    err (2, "%s", name);
  close (fd);
  text_add (&t, "", 0);
  return t.data;
}

static struct jobs
read_jobs (const char *name)
{
  struct jobs jobs = { 0 };
  struct job *job = NULL;
  int version = 0, ended = 0;
  char *rest = read_file (name);
  for (char *line; (line = strsep (&rest, "\n")) != NULL;)
    {
      if (*line == '\0')
        continue;
      char *value = strchr (line, ' ');
      if (value == NULL || ended)
        errx (2, "%s: '%s' is no job file line", name, line);
      *value++ = '\0';
      unescape (value);
      if (strcmp (line, "jobs") == 0)
        version = atoi (value);
      else if (strcmp (line, "end") == 0)
        ended = 1 + (strtoul (value, NULL, 10) == jobs.count);
      else if (strcmp (line, "job") == 0)
        {
          jobs.item = grown (jobs.item, (jobs.count + 1) * sizeof *jobs.item);
          job = &jobs.item[jobs.count++];
          *job = (struct job) { .id = value, .root = "", .timeout_ms = 60000 };
        }
      else if (job == NULL)
        errx (2, "%s: '%s' before the first job", name, line);
      else if (strcmp (line, "root") == 0)
        job->root = value;
      else if (strcmp (line, "timeout") == 0)
        job->timeout_ms = atol (value);
      else if (strcmp (line, "env") == 0)
        list_add (&job->env, value);
      else if (strcmp (line, "arg") == 0)
        list_add (&job->argv, value);
      else
        errx (2, "%s: unknown word '%s'", name, line);
    }
  if (version != 1)
    errx (2, "%s: this is not a job file of version 1", name);
  if (ended != 2)
    errx (2, "%s: the job file is cut short", name);
  return jobs;
}

#endif
