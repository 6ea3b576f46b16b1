/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* find: says where ld.so found libfound.so.1, which nothing but its search leads to; whose symbol a program has of
   two; and whether the C library itself calls the program's malloc, as one with an allocator of its own needs.  */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t used;
static volatile size_t calls; /* the compiler knows what strndup does, but not of this malloc */

void *
malloc (size_t size)
{
  static char memory[1 << 20] __attribute__ ((aligned (64)));
  size_t at = used;
  calls++;
  used += (size + 63) / 64 * 64 + 64;
  if (used > sizeof memory)
    return NULL;
  memcpy (memory + at, &size, sizeof size);
  return memory + at + 64;
}

void free (void *memory) { (void) memory; }

void *
calloc (size_t count, size_t size)
{
  return malloc (count * size); /* never used before, so zero */
}

void *
realloc (void *old, size_t size)
{
  size_t before = 0;
  void *new = malloc (size);
  if (old && new)
    {
      memcpy (&before, (char *) old - 64, sizeof before);
      memcpy (new, old, before < size ? before : size);
    }
  return new;
}

int
main (void)
{
  struct link_map *map = NULL;
  void *library = dlopen ("libfound.so.1", RTLD_NOW | RTLD_GLOBAL);
  const char *(*whose) (void) = (const char *(*) (void)) dlsym (RTLD_DEFAULT, "whose");
  if (library && dlinfo (library, RTLD_DI_LINKMAP, &map) != 0)
    return 1;
  calls = 0;
  char *text = strndup ("text", 4);
  int by_us = text && calls == 1;
  printf ("{\"found\":\"%s\",\"whose\":\"%s\",\"malloc\":%d}\n", map ? map->l_name : "", whose ? whose () : "", by_us);
  fflush (stdout);
  return 0;
}
