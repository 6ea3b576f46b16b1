/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Seccomp filters that answer one system call, as container engines and sandboxes have them.  */
#ifndef FILTER_H
#define FILTER_H

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
#elif defined __aarch64__
# define FILTER_ARCH AUDIT_ARCH_AARCH64
#else
# error "this architecture is not known here"
#endif

/* From now on the system call NUMBER has ANSWER (SECCOMP_RET_...) in the calling thread and in all that come of
   it, also after exec.  Returns 0 or an errno.  */
static inline int
answer_call (unsigned int number, unsigned int answer)
{
  struct sock_filter code[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, arch)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 0, 3),
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, answer),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof code / sizeof code[0], code };
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
      || prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
    return errno;
  return 0;
}

#endif
