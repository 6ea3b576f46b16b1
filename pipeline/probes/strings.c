/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* strings: functions of memory and strings, of which the C library has several variants and chooses one for the
   processor, compared with the plainest loops: of many lengths, at many places before the end of memory, where a byte
   too far is a fault.  One line for each function, with the first length and place at which it was wrong.
   Compiled without the compiler's own knowledge of these functions.  */
#define _GNU_SOURCE
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>

#if defined STATIC && !__GLIBC_PREREQ(2, 35) /* from 2.35 on libc.a itself has what the unwinder calls */
# include "launch/find_object.h"
#endif

typedef unsigned char byte;

#define ROOM 65536 /* a page, even of the largest */
#define LONGEST 4500
#define EDGE 40 /* bytes on either side that must not be written */

static byte *from, *other, *to; /* ends of three rooms */
static byte kept[LONGEST + 2 * EDGE];

static byte *
room (void)
{
  byte *memory = mmap (NULL, 2 * ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || mprotect (memory + ROOM, ROOM, PROT_NONE) != 0)
    err (77, "mmap");
  return memory + ROOM;
}

static void
fill (byte *at, size_t n, byte first)
{
  for (size_t i = 0; i < n; i++)
    at[i] = (byte) (first + i % 251 + 1 + (first + i % 251 + 1 > 255)); /* never zero */
}

static void
copy (byte *at, const byte *what, size_t n)
{
  for (size_t i = 0; i < n; i++)
    at[i] = what[i];
}

static int
same (const byte *a, const byte *b, size_t n)
{
  for (size_t i = 0; i < n; i++)
    if (a[i] != b[i])
      return 0;
  return 1;
}

static int
sign (int n)
{
  return (n > 0) - (n < 0);
}

/* Whether T, of N bytes, became what WHAT is, and nothing around it changed.  KEPT is T's room as it was.  */
static int
became (const byte *t, const byte *what, size_t n, size_t after)
{
  return same (t - EDGE, kept, EDGE) && same (t, what, n) && same (t + n, kept + EDGE + n, after);
}

static void
keep (byte *t, size_t n)
{
  fill (t - EDGE, n + EDGE, 77);
  copy (kept, t - EDGE, n + EDGE);
}

/* Each: S has N bytes that are not zero, and if it is a string a zero behind them; T has room for as many.  */
#define CHECK(name) static int check_##name (byte *s, byte *t, byte *o, size_t n, size_t after)
#define IGNORE (void) s, (void) t, (void) o, (void) n, (void) after

CHECK (memcpy) { IGNORE; return memcpy (t, s, n) == t && became (t, s, n, after); }
CHECK (mempcpy) { IGNORE; return mempcpy (t, s, n) == t + n && became (t, s, n, after); }

CHECK (memmove)
{
  IGNORE;
  for (size_t shift = 1; shift < 90; shift += 13)
    if (n > shift)
      {
        copy (o, s, n); /* what it was */
        memmove (s + shift, s, n - shift);
        if (!same (s + shift, o, n - shift) || !same (s, o, shift))
          return 0;
        copy (s, o, n);
        memmove (s, s + shift, n - shift);
        if (!same (s, o + shift, n - shift) || !same (s + n - shift, o + n - shift, shift))
          return 0;
        copy (s, o, n);
      }
  return memmove (t, s, n) == t && became (t, s, n, after);
}

CHECK (memset)
{
  IGNORE;
  for (size_t i = 0; i < n; i++)
    o[i] = 0xb7;
  return memset (t, 0x1b7, n) == t && became (t, o, n, after);
}

CHECK (memchr)
{
  IGNORE;
  byte last = n ? s[n - 1] : 0;
  size_t first = 0;
  while (first < n && s[first] != last)
    first++;
  return memchr (s, 0, n) == NULL && (n == 0 || memchr (s, last, n) == s + first)
         && (n == 0 || memrchr (s, last, n) == s + n - 1) && memrchr (s, 0, n) == NULL;
}

CHECK (memcmp)
{
  IGNORE;
  copy (o, s, n);
  if (memcmp (s, o, n) != 0)
    return 0;
  for (size_t i = 0; i < n; i += 1 + i / 5)
    {
      o[i] ^= 0x80;
      if (sign (memcmp (s, o, n)) != (s[i] < o[i] ? -1 : 1))
        return 0;
      o[i] ^= 0x80;
    }
  return 1;
}

CHECK (memccpy)
{
  IGNORE;
  if (memccpy (t, s, 0, n) != NULL || !became (t, s, n, after))
    return 0;
  size_t first = 0;
  while (n && s[first] != s[n / 2])
    first++;
  keep (t, n + after);
  return n == 0 || (memccpy (t, s, s[n / 2], n) == t + first + 1 && same (t, s, first + 1)
                    && same (t + first + 1, kept + EDGE + first + 1, n - first - 1));
}

CHECK (memmem)
{
  IGNORE;
  size_t tail = n < 9 ? n : 9;
  copy (o, s + n - tail, tail);
  byte *found = memmem (s, n, o, tail);
  size_t first = 0;
  while (!same (s + first, o, tail))
    first++;
  return found == s + first;
}

/* Of strings, with a zero at S[N].  */
#define S ((char *) s)
#define T ((char *) t)
#define O ((char *) o)
CHECK (strlen)
{
  IGNORE;
  return strlen (S) == n && strnlen (S, n + 1) == n && strnlen (S, n) == n && strnlen (S, n / 2) == n / 2
         && rawmemchr (s, 0) == s + n;
}
CHECK (strcpy) { IGNORE; return strcpy (T, S) == T && became (t, s, n + 1, after - 1); }
CHECK (stpcpy) { IGNORE; return stpcpy (T, S) == T + n && became (t, s, n + 1, after - 1); }

CHECK (strncpy) /* of a string that is as long, and of a shorter one: the rest is zero */
{
  IGNORE;
  size_t half = n - n / 2;
  if (strncpy (T, S, n) != T || !became (t, s, n, after))
    return 0;
  copy (o, s + n / 2, half);
  for (size_t i = half; i < n; i++)
    o[i] = 0;
  return strncpy (T, S + n / 2, n) == T && became (t, o, n, after);
}

CHECK (strcat)
{
  IGNORE;
  t[0] = 'x';
  t[1] = 0;
  copy (o, (const byte *) "x", 1);
  copy (o + 1, s, n + 1);
  return strcat (T, S) == T && became (t, o, n + 2, after - 2);
}

CHECK (strchr)
{
  IGNORE;
  byte last = n ? s[n - 1] : 0;
  size_t first = 0;
  while (first < n && s[first] != last)
    first++;
  return strchr (S, 0) == S + n && strchr (S, last) == S + first && strchrnul (S, last) == S + first
         && strrchr (S, last) == (n ? S + n - 1 : S) && strrchr (S, 0) == S + n;
}

CHECK (strcmp)
{
  IGNORE;
  copy (o, s, n + 1);
  if (strcmp (S, O) != 0 || strncmp (S, O, n + 9) != 0 || strcasecmp (S, O) != 0)
    return 0;
  for (size_t i = 0; i < n; i += 1 + i / 5)
    {
      o[i] = s[i] == 'z' ? '{' : s[i] == '{' ? '}' : '{'; /* no letter */
      int wanted = s[i] < o[i] ? -1 : 1;
      if (sign (strcmp (S, O)) != wanted || sign (strncmp (S, O, n)) != wanted || strncmp (S, O, i) != 0)
        return 0;
      o[i] = s[i];
    }
  o[n / 2] = 0;
  return n == 0 || (strcmp (S, O) > 0 && strcmp (O, S) < 0);
}

CHECK (strspn)
{
  IGNORE;
  byte last[2] = { n ? s[n - 1] : 'x', 0 };
  size_t first = 0;
  while (first < n && s[first] != last[0])
    first++;
  for (size_t i = 0; i < n; i++)
    o[i] = i % 3 ? 'a' : 'b';
  o[n] = 0;
  return strcspn (S, (char *) last) == first && strspn (O, "ab") == n && strcspn (O, "xyz") == n
         && strpbrk (O, "xyz") == NULL;
}

CHECK (strstr)
{
  IGNORE;
  size_t tail = n < 9 ? n : 9, first = 0;
  copy (o, s + n - tail, tail + 1);
  while (!same (s + first, o, tail))
    first++;
  return strstr (S, O) == S + first;
}

static const struct
{
  const char *name;
  int (*check) (byte *, byte *, byte *, size_t, size_t);
  int string;
} checks[] = {
#define M(name) { #name, check_##name, 0 }
#define STRING(name) { #name, check_##name, 1 }
  M (memcpy), M (mempcpy), M (memmove), M (memset), M (memchr), M (memcmp), M (memccpy), M (memmem),
  STRING (strlen), STRING (strcpy), STRING (stpcpy), STRING (strncpy), STRING (strcat), STRING (strchr),
  STRING (strcmp), STRING (strspn), STRING (strstr),
};

int
main (void)
{
  static const size_t more[] = { 95, 96, 97, 127, 128, 129, 191, 192, 193, 255, 256, 257, 383, 384, 511, 512, 513, 767,
                                 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097 };
  static const size_t pads[] = { 0, 1, 7, 16, 33 }; /* bytes to the end of memory */
  from = room ();
  other = room ();
  to = room ();
  for (size_t c = 0; c < sizeof checks / sizeof *checks; c++)
    {
      long wrong_length = -1, wrong_pad = -1;
      for (size_t l = 0; l < 72 + sizeof more / sizeof *more && wrong_length < 0; l++)
        for (size_t p = 0; p < sizeof pads / sizeof *pads && wrong_length < 0; p++)
          {
            size_t n = l < 72 ? l : more[l - 72], pad = pads[p], zero = checks[c].string ? 1 : 0;
            size_t after = pads[(p + 2) % 5] + 2; /* at least two, for what appends */
            byte *s = from - pad - n - zero, *t = to - n - after, *o = other - pads[(p + 1) % 5] - n - 2;
            fill (s, n, (byte) (n + pad));
            if (zero)
              s[n] = 0;
            keep (t, n + after);
            if (!checks[c].check (s, t, o, n, after))
              {
                wrong_length = (long) n;
                wrong_pad = (long) pad;
              }
          }
      printf ("{\"function\":\"%s\",\"length\":%ld,\"pad\":%ld}\n", checks[c].name, wrong_length, wrong_pad);
      fflush (stdout);
    }
  return 0;
}
