/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One of the libraries of order/main.c, which writes down what it is told.  With -DOPENS its constructor loads
   another.  */
extern void note (char what, const char *object);
extern void *dlopen (const char *, int);

static void __attribute__ ((constructor))
construct (void)
{
  note ('+', NAME);
#ifdef OPENS
  dlopen (OPENS, 2); /* RTLD_NOW */
  note ('=', NAME);
#endif
}

static void __attribute__ ((destructor))
destruct (void)
{
  note ('-', NAME);
}
