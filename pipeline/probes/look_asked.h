/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How a thread asks look-tracer for the kernel's word on itself: it stops by a signal that carries the address
   of this question, and goes on with the answer in it.  */
#ifndef LOOK_ASKED_H
#define LOOK_ASKED_H

#include "probe.h"

#define ASKED 0x64656b7361UL

/* Read and written by the tracer in words of eight bytes.  */
struct asked
{
  uint64_t mark;
  struct kernel_word word;
  int64_t error; /* an errno, 0 if the kernel answered */
};

#endif
