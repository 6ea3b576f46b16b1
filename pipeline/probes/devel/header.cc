/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The declarations of <sys/rseq.h> have exactly their types, seen from C++.  Only compiled.  */
#include "header.h"

template <typename A, typename B> struct same { enum { value = 0 }; };
template <typename A> struct same<A, A> { enum { value = 1 }; };
#define IS(object, type) (same<__typeof__ (&(object)), type *>::value)

CHECK (type_of_offset, IS (__rseq_offset, const ptrdiff_t));
CHECK (type_of_size, IS (__rseq_size, const unsigned int));
CHECK (type_of_flags, IS (__rseq_flags, const unsigned int));
