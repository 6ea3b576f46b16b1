/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A seccomp filter that answers the rseq system call with an error, as container engines and sandboxes do.  */
#ifndef RSEQ_FILTER_H
#define RSEQ_FILTER_H

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __x86_64__
# define FILTER_ARCH AUDIT_ARCH_X86_64
# define FILTER_RSEQ 334
#elif defined __aarch64__
# define FILTER_ARCH AUDIT_ARCH_AARCH64
# define FILTER_RSEQ 293
#else
# error "this architecture is not known here"
#endif

/* From now on rseq fails with ERROR in the calling thread and in all that come of it, also after exec.
   Returns 0 or an errno.  */
static inline int
refuse_rseq (int error)
{
  struct sock_filter code[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, arch)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 0, 3),
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, FILTER_RSEQ, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned int) error & SECCOMP_RET_DATA)),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof code / sizeof code[0], code };
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
      || prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
    return errno;
  return 0;
}

/* What an rseq call that is wrong in every way is told: EINVAL by a kernel that has rseq, else the filter's
   error or ENOSYS.  */
static inline int
rseq_is_told (void)
{
  return syscall (FILTER_RSEQ, NULL, 0, 0xffff, 0) == 0 ? 0 : errno;
}

static inline int
error_named (const char *name)
{
  static const struct
  {
    const char *name;
    int error;
  } known[] = { { "ENOSYS", ENOSYS }, { "EPERM", EPERM }, { "EBUSY", EBUSY } };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strcmp (name, known[i].name) == 0)
      return known[i].error;
  return 0;
}

#endif
