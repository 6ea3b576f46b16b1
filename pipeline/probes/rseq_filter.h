/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A seccomp filter that refuses the rseq system call, as container engines and sandboxes do.  */
#ifndef RSEQ_FILTER_H
#define RSEQ_FILTER_H

#include "filter.h"

#ifdef __x86_64__
# define FILTER_RSEQ 334
#else
# define FILTER_RSEQ 293
#endif

/* What stands for an error where the caller is not answered but killed.  */
#define KILLED (-1)

/* From now on rseq fails with ERROR in the calling thread and in all that come of it, also after exec; KILLED:
   whoever calls it ends by SIGSYS.  Returns 0 or an errno.  */
static inline int
refuse_rseq (int error)
{
  return answer_call (FILTER_RSEQ, error == KILLED ? SECCOMP_RET_KILL_PROCESS
                                                   : SECCOMP_RET_ERRNO | ((unsigned int) error & SECCOMP_RET_DATA));
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
  } known[] = { { "ENOSYS", ENOSYS }, { "EPERM", EPERM }, { "EBUSY", EBUSY }, { "SIGSYS", KILLED } };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strcmp (name, known[i].name) == 0)
      return known[i].error;
  return 0;
}

#endif
