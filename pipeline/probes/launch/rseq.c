/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Uses the three public rseq symbols, and so needs their version node of ld.so: where the release does not
   export it, this program must not start. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/rseq.h>

int main(void)
{
    const uintptr_t area = (uintptr_t)__builtin_thread_pointer() + (uintptr_t)__rseq_offset;
    printf("{\"name\": \"launch-rseq\", \"offset\": %td, \"size\": %u, \"flags\": %u, \"aligned\": %s}\n",
           __rseq_offset, __rseq_size, __rseq_flags, area % 32 == 0 ? "true" : "false");
    return fflush(stdout) ? 2 : 0;
}
