/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Compiled and linked for profiling (-pg), with the start files that are for that alone: what is in the gmon.out
   that a child leaves.  It is written in the current directory.  */
#define _GNU_SOURCE
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../writable.h"
/* From 2.35 on libc.a itself has what GCC's unwinder calls.  */
#if defined STATIC && !__GLIBC_PREREQ(2, 35)
# include "../launch/find_object.h"
#endif

#define CALLS 1234

extern const char __executable_start[], etext[];

/* The records of gmon.out (sys/gmon_out.h), as they lie there.  */
struct histogram
{
  uintptr_t low, high;
  int32_t size, rate;
  char dimension[15], unit;
} __attribute__ ((packed));

struct arc
{
  uintptr_t from, self;
  int32_t count;
} __attribute__ ((packed));

__attribute__ ((noipa)) static int
called (int n)
{
  return n + 1;
}

static void
child (void)
{
  int sum = 0;
  for (int n = 0; n < CALLS; n++)
    sum = called (sum);
  exit (sum == CALLS ? 0 : 1);
}

int
main (void)
{
  int status = 0, record;
  char head[20] = "";
  int32_t version;
  make_writable ("/tmp");
  if (chdir ("/tmp") != 0)
    err (2, "/tmp");
  pid_t pid = fork ();
  if (pid == 0)
    child ();
  if (pid < 0 || waitpid (pid, &status, 0) != pid)
    err (2, "a child");
  FILE *file = fopen ("gmon.out", "re");
  unlink ("gmon.out");
  if (file == NULL || fread (head, sizeof head, 1, file) != 1)
    {
      printf ("{\"status\":%d,\"magic\":\"\"}\n", status);
      return 0;
    }
  /* Of a program that may lie anywhere, addresses are those in its file.  */
#ifdef __PIE__
  uintptr_t begin = (uintptr_t) __executable_start;
#else
  uintptr_t begin = 0;
#endif
  uintptr_t function = (uintptr_t) called - begin, end = (uintptr_t) etext - begin;
  struct histogram text = { 0 };
  struct arc one;
  int calls = 0;
  while ((record = fgetc (file)) != EOF)
    if (record == 0 && fread (&text, sizeof text, 1, file) == 1)
      fseek (file, 2L * text.size, SEEK_CUR);
    else if (record == 1 && fread (&one, sizeof one, 1, file) == 1)
      calls += one.self >= function && one.self < function + 64 ? one.count : 0;
    else
      break;
  memcpy (&version, head + 4, sizeof version);
  printf ("{\"status\":%d,\"magic\":\"%.4s\",\"version\":%d,\"calls\":%d,\"covered\":%s,\"ends\":%s}\n", status, head,
          version, calls, text.low <= function && function < text.high ? "true" : "false",
          text.high >= end && text.high - end < 64 ? "true" : "false");
  return 0;
}
