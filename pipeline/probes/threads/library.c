/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A library with thread-local data, for threads/main.c.  */
#ifndef SIZE
# define SIZE 2
#endif

static __thread int there[SIZE] = { 0x5eed };

int *data (void);

int *
data (void)
{
  return there;
}
