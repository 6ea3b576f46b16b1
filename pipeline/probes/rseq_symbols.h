/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SYMBOL (NAME): the address of a public rseq symbol, null where the libc has none.  Looked up at run time, so
   that the program starts on every release.  With -DSTATIC it is for a static program, which has no table of
   symbols to look them up in, with -DAUDITOR for an auditor, whose constructor cannot call dlsym (in 2.34 it
   crashes); with -DCOPIED the program names them, and starts only where they are.  */
#ifndef RSEQ_SYMBOLS_H
#define RSEQ_SYMBOLS_H

#include <dlfcn.h>
#include <stddef.h>

#if defined STATIC || defined AUDITOR
# define MAYBE __attribute__ ((weak))
#else
# define MAYBE
#endif

#ifdef STATIC
/* From 2.35 on libc.a itself has what the unwinder calls.  */
# if !__GLIBC_PREREQ(2, 35)
#  include "launch/find_object.h"
# endif
#endif

#if defined STATIC || defined AUDITOR || defined COPIED
extern const ptrdiff_t __rseq_offset MAYBE;
extern const unsigned int __rseq_size MAYBE;
extern const unsigned int __rseq_flags MAYBE;
# define SYMBOL(name) (&name)
#else
# define SYMBOL(name) dlsym (RTLD_DEFAULT, #name)
#endif

#endif
