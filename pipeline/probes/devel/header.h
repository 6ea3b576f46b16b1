/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What <sys/rseq.h> must say, in any dialect of C and C++.  Includes it with the kernel's own header before it,
   after it, or not at all, and twice.  */
#ifdef KERNEL_FIRST
# include <linux/rseq.h>
#endif
#include <sys/rseq.h>
#include <sys/rseq.h>
#ifdef KERNEL_LAST
# include <linux/rseq.h>
#endif
#include <stddef.h>

/* Also before C11 and C++11.  */
#define CHECK(name, condition) extern char check_##name[(condition) ? 1 : -1]
#define AT(type, member, offset, size) \
  CHECK (offset_of_##type##_##member, offsetof (struct type, member) == (offset)); \
  CHECK (size_of_##type##_##member, sizeof (((struct type *) 0)->member) == (size))

AT (rseq, cpu_id_start, 0, 4);
AT (rseq, cpu_id, 4, 4);
AT (rseq, rseq_cs, 8, 8);
AT (rseq, flags, 16, 4);
CHECK (align_of_rseq, __alignof__ (struct rseq) == 32);
#ifdef NO_KERNEL_HEADERS /* glibc's own copy; a newer kernel's may have grown */
CHECK (size_of_rseq, sizeof (struct rseq) == 32);
#else
CHECK (size_of_rseq, sizeof (struct rseq) >= 32 && sizeof (struct rseq) % 32 == 0);
#endif

AT (rseq_cs, version, 0, 4);
AT (rseq_cs, flags, 4, 4);
AT (rseq_cs, start_ip, 8, 8);
AT (rseq_cs, post_commit_offset, 16, 8);
AT (rseq_cs, abort_ip, 24, 8);
CHECK (size_of_rseq_cs, sizeof (struct rseq_cs) == 32);
CHECK (align_of_rseq_cs, __alignof__ (struct rseq_cs) == 32);

CHECK (uninitialized, (int) RSEQ_CPU_ID_UNINITIALIZED == -1);
CHECK (failed, (int) RSEQ_CPU_ID_REGISTRATION_FAILED == -2);
CHECK (unregister, RSEQ_FLAG_UNREGISTER == 1);

#ifdef __x86_64__
CHECK (signature, RSEQ_SIG == 0x53053053);
#elif defined __aarch64__ && !defined __AARCH64EB__
CHECK (signature, RSEQ_SIG == 0xd428bc00);
#else
# error "the signature of this architecture is not known"
#endif
