/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The library that loading/find.c looks for, and the one that it preloads: whose symbol comes first.  */
const char *whose (void);

const char *
whose (void)
{
  return WHOSE;
}
