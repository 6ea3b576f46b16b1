/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The declarations of <sys/rseq.h> have exactly their types, seen from C.  Only compiled.  */
#include "header.h"

/* Through pointers, for of what they point to the qualifiers count, too.  */
#define IS(object, type) __builtin_types_compatible_p (__typeof__ (&(object)), type *)

CHECK (type_of_offset, IS (__rseq_offset, const ptrdiff_t));
CHECK (type_of_size, IS (__rseq_size, const unsigned int));
CHECK (type_of_flags, IS (__rseq_flags, const unsigned int));
