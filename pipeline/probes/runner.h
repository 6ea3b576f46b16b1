/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the runner share.  The runner is one program made of one source file; these headers
   only keep it readable.  */
#ifndef RUNNER_H
#define RUNNER_H

#include <stddef.h>

/* A buffer that grows.  */
struct text
{
  char *data;
  size_t len;
  size_t size;
};

/* A list of strings, ended by a null pointer once it has any.  */
struct list
{
  char **item;
  size_t count;
};

struct job
{
  char *id;
  char *root;
  long timeout_ms;
  struct list env;
  struct list argv;
};

struct jobs
{
  struct job *item;
  size_t count;
};

#endif
