/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What iconv makes of characters.  Each argument is CHARSET, which asks for each of the 256 bytes, or
   CHARSET=CODE,CODE,... in hexadecimal.  A line for each has the answers in that order: the number of the
   character, with a ! if it does not become the same code again; x if the code is none, i if it is not all
   of one.  */
#define _GNU_SOURCE
#include <errno.h>
#include <iconv.h>
#include <stdio.h>
#include <string.h>

#define LONGEST 8

/* How many bytes became of those at FROM, -1 if they are none or too few.  */
static int
converted (iconv_t with, const char *from, size_t left, char *to, size_t room)
{
  char input[64], *in = input, *out = to;
  memcpy (input, from, left);
  iconv (with, NULL, NULL, NULL, NULL);
  if (iconv (with, &in, &left, &out, &room) == (size_t) -1 || left != 0
      || iconv (with, NULL, NULL, &out, &room) == (size_t) -1)
    return -1;
  return out - to;
}

static void
answer (iconv_t there, iconv_t back, const char *code, size_t length)
{
  unsigned char character[64];
  char again[64];
  int size = converted (there, code, length, (char *) character, sizeof character);
  if (size < 0 || size % 4 != 0)
    {
      fputs (size < 0 && errno == EILSEQ ? "x " : size < 0 && errno == EINVAL ? "i " : "? ", stdout);
      return;
    }
  for (int at = 0; at < size; at += 4)
    {
      unsigned char *c = character + at;
      printf (at == 0 ? "%x" : "+%x", (unsigned int) c[0] << 24 | c[1] << 16 | c[2] << 8 | c[3]);
    }
  int same = converted (back, (char *) character, size, again, sizeof again) == (int) length
             && memcmp (again, code, length) == 0;
  fputs (same ? " " : "! ", stdout);
}

int
main (int argc, char **argv)
{
  for (int n = 1; n < argc; n++)
    {
      char *codes = strchr (argv[n], '='), code[LONGEST];
      if (codes != NULL)
        *codes++ = '\0';
      iconv_t there = iconv_open ("UTF-32BE", argv[n]), back = iconv_open (argv[n], "UTF-32BE");
      printf ("{\"charset\":\"%s\",\"answers\":\"", argv[n]);
      if (there == (iconv_t) -1 || back == (iconv_t) -1)
        printf ("no conversion: %s", strerrorname_np (errno));
      else if (codes == NULL)
        for (int byte = 0; byte < 256; byte++)
          answer (there, back, &(char) { byte }, 1);
      else
        for (char *one = strtok (codes, ","); one != NULL; one = strtok (NULL, ","))
          {
            size_t length = 0;
            unsigned int byte;
            for (; length < LONGEST && sscanf (one + 2 * length, "%2x", &byte) == 1; length++)
              code[length] = byte;
            answer (there, back, code, length);
          }
      puts ("\"}");
      if (there != (iconv_t) -1)
        iconv_close (there);
      if (back != (iconv_t) -1)
        iconv_close (back);
    }
  return 0;
}
