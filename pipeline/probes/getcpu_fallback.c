/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* getcpu-fallback: sched_getcpu and getcpu where the kernel gives no vDSO (rseq-tracer --no-vdso starts this), so
   that what is not read from the rseq area is a system call: right on each CPU, and once a filter answers that
   call with an error, an error as the manual has it: -1 and errno.  One line before and one for each error.
   Compiled with -DSTATIC it is for a static program.  */
#define _GNU_SOURCE
#include <err.h>
#include <sched.h>
#include <stdio.h>
#include <sys/auxv.h>

#include "filter.h"
/* From 2.35 on libc.a itself has what the unwinder calls.  */
#if defined STATIC && !__GLIBC_PREREQ(2, 35)
# include "launch/find_object.h"
#endif

#ifdef __x86_64__
# define NR_GETCPU 309
#else
# define NR_GETCPU 168
#endif
#define CANNOT 77 /* probe.h */
#define MAX_CPUS 8192

static cpu_set_t allowed[MAX_CPUS / CPU_SETSIZE];

static void
look (const char *refused)
{
  int cpus = 0, wrong = 0, failed = 0, got = 0, got_wrong = 0, number = 0, got_number = 0;
  for (int cpu = 0; cpu < MAX_CPUS; cpu++)
    {
      cpu_set_t one[MAX_CPUS / CPU_SETSIZE];
      unsigned int told = ~0U, node = ~0U;
      CPU_ZERO_S (sizeof one, one);
      CPU_SET_S (cpu, sizeof one, one);
      if (!CPU_ISSET_S (cpu, sizeof allowed, allowed) || sched_setaffinity (0, sizeof one, one) < 0)
        continue;
      cpus++;
      errno = 0;
      int said = sched_getcpu ();
      failed += said == -1;
      number = said == -1 ? errno : number;
      wrong += said != -1 && said != cpu;
      errno = 0;
      int result = getcpu (&told, &node);
      got += result == 0;
      got_number = result == -1 ? errno : got_number;
      got_wrong += result == 0 ? told != (unsigned int) cpu || node > MAX_CPUS : result != -1;
    }
  sched_setaffinity (0, sizeof allowed, allowed);
  printf ("{\"refused\":\"%s\",\"vdso\":%s,\"cpus\":%d,\"wrong\":%d,\"failed\":%d,\"errno\":\"%s\","
          "\"getcpu\":%d,\"getcpu_wrong\":%d,\"getcpu_errno\":\"%s\"}\n",
          refused, getauxval (AT_SYSINFO_EHDR) ? "true" : "false", cpus, wrong, failed,
          number ? strerrorname_np (number) : "0", got, got_wrong,
          got_number ? strerrorname_np (got_number) : "0");
  fflush (stdout);
}

int
main (void)
{
  static const int errors[] = { ENOSYS, EPERM };
  if (sched_getaffinity (0, sizeof allowed, allowed) < 0)
    err (1, "sched_getaffinity");
  look ("");
  for (int i = 0; i < 2; i++)
    {
      int error = answer_call (NR_GETCPU, SECCOMP_RET_ERRNO | (unsigned int) errors[i]);
      if (error)
        errx (CANNOT, "no filter can be made here: %s", strerror (error));
      look (strerrorname_np (errors[i]));
    }
  return 0;
}
