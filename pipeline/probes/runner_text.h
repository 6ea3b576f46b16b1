/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Growing text, JSON strings, base64: all the runner needs to speak.  */
#ifndef RUNNER_TEXT_H
#define RUNNER_TEXT_H

#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runner.h"

static void *
grown (void *old, size_t size)
{
  void *p = realloc (old, size);
  if (p == NULL)
    err (EXIT_FAILURE, "out of memory");
  return p;
}

static void
text_add (struct text *t, const char *data, size_t len)
{
  if (t->len + len + 1 > t->size)
    {
      t->size = 2 * (t->len + len + 1);
      t->data = grown (t->data, t->size);
    }
  memcpy (t->data + t->len, data, len);
  t->len += len;
  t->data[t->len] = '\0';
}

static void __attribute__ ((format (printf, 2, 3)))
text_addf (struct text *t, const char *format, ...)
{
  char line[512];
  va_list ap;
  va_start (ap, format);
  int len = vsnprintf (line, sizeof line, format, ap);
  va_end (ap);
  if (len > 0)
    text_add (t, line, (size_t) len < sizeof line ? (size_t) len : sizeof line - 1);
}

/* ,"NAME":"VALUE" with everything but plain ASCII escaped, bytes taken as Latin-1.  */
static void
text_add_string (struct text *t, const char *name, const char *value)
{
  text_addf (t, ",\"%s\":\"", name);
  for (const unsigned char *p = (const unsigned char *) value; *p; p++)
    if (*p < 0x20 || *p >= 0x7f || *p == '"' || *p == '\\')
      text_addf (t, "\\u%04x", *p);
    else
      text_add (t, (const char *) p, 1);
  text_add (t, "\"", 1);
}

/* ,"NAME":"BASE64" */
static void __attribute__ ((unused))
text_add_base64 (struct text *t, const char *name, const char *data, size_t len)
{
  static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const unsigned char *p = (const unsigned char *) data;
  text_addf (t, ",\"%s\":\"", name);
  for (size_t i = 0; i < len; i += 3)
    {
      size_t left = len - i;
      unsigned int bits = (unsigned int) p[i] << 16;
      if (left > 1)
        bits |= (unsigned int) p[i + 1] << 8;
      if (left > 2)
        bits |= p[i + 2];
      char four[4] = { digit[bits >> 18], digit[bits >> 12 & 63],
                       left > 1 ? digit[bits >> 6 & 63] : '=', left > 2 ? digit[bits & 63] : '=' };
      text_add (t, four, 4);
    }
  text_add (t, "\"", 1);
}

/* One write a line, as far as the system lets us, so that a reader never waits for half a result.  */
static void
write_all (int fd, const char *data, size_t len)
{
  while (len > 0)
    {
      ssize_t n = write (fd, data, len);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        err (3, "cannot write results");
      data += n;
      len -= (size_t) n;
    }
}

static void __attribute__ ((unused))
list_add (struct list *l, char *value)
{
  l->item = grown (l->item, (l->count + 2) * sizeof *l->item);
  l->item[l->count++] = value;
  l->item[l->count] = NULL;
}

#endif
