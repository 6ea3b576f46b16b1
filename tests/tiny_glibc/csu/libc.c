/* The C library of a tree that only looks like glibc.  */
#include <stdio.h>

int
puts (const char *s)
{
  return s[0];
}

int
sched_getcpu (void)
{
  return 0;
}
