/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this place really is, found by looking.  */
#ifndef RUNNER_FACTS_H
#define RUNNER_FACTS_H

#include <sched.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

#include "runner_text.h"

#ifndef SYS_rseq
# ifdef __x86_64__
#  define SYS_rseq 334
# else
#  define SYS_rseq 293
# endif
#endif
#ifndef AT_RSEQ_FEATURE_SIZE
# define AT_RSEQ_FEATURE_SIZE 27
# define AT_RSEQ_ALIGN 28
#endif

/* What the kernel says to an rseq call that is wrong in every way: EINVAL if it has rseq.  */
static const char *
rseq_answer (void)
{
  if (syscall (SYS_rseq, NULL, 0, 0xffff, 0) == 0)
    return "accepted";
  const char *name = strerrorname_np (errno);
  return name ? name : "unknown";
}

/* The value of the first line of /proc/cpuinfo called NAME, copied to VALUE; empty if there is none.  */
static void
cpuinfo (const char *name, char *value, size_t size)
{
  char line[1024];
  *value = '\0';
  FILE *f = fopen ("/proc/cpuinfo", "re");
  if (f == NULL)
    return;
  while (fgets (line, sizeof line, f))
    {
      char *colon = strchr (line, ':');
      if (strncmp (line, name, strlen (name)) != 0 || colon == NULL)
        continue;
      line[strcspn (line, "\n")] = '\0';
      snprintf (value, size, "%s", colon[1] == ' ' ? colon + 2 : colon + 1);
      break;
    }
  fclose (f);
}

/* The name a hypervisor gives itself (x86: CPUID leaf 0x40000000); TCGTCGTCGTCG is QEMU's emulation.  */
static void
hypervisor (char name[13])
{
  memset (name, 0, 13);
#ifdef __x86_64__
  unsigned int a = 1, b, c = 0, d;
  __asm__ volatile ("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  if (c >> 31 == 0)
    return;
  a = 0x40000000;
  c = 0;
  __asm__ volatile ("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  memcpy (name, &b, 4);
  memcpy (name + 4, &c, 4);
  memcpy (name + 8, &d, 4);
#endif
}

/* CPUs that programs may run on here: a control group or a mask may hide some that are online.  */
static long
allowed_cpus (void)
{
  static cpu_set_t mask[8];
  if (sched_getaffinity (0, sizeof mask, mask) < 0)
    return sysconf (_SC_NPROCESSORS_ONLN);
  return CPU_COUNT_S (sizeof mask, mask);
}

static void
text_add_facts (struct text *t)
{
  struct utsname u;
  char model[256], part[64], hyper[13];
  uname (&u);
  cpuinfo ("model name", model, sizeof model);
  if (*model == '\0')
    {
      cpuinfo ("CPU implementer", model, sizeof model - 80);
      cpuinfo ("CPU part", part, sizeof part);
      if (*model)
        snprintf (model + strlen (model), 80, " part %s", part);
    }
  hypervisor (hyper);
  text_addf (t, "{\"kind\":\"facts\",\"cpus\":%ld,\"rseq_feature_size\":%lu,\"rseq_align\":%lu,"
             "\"page_size\":%ld",
             allowed_cpus (), getauxval (AT_RSEQ_FEATURE_SIZE), getauxval (AT_RSEQ_ALIGN),
             sysconf (_SC_PAGESIZE));
  text_add_string (t, "kernel", u.release);
  text_add_string (t, "kernel_version", u.version);
  text_add_string (t, "machine", u.machine);
  text_add_string (t, "cpu_model", model);
  text_add_string (t, "hypervisor", hyper);
  text_add_string (t, "rseq", rseq_answer ());
  text_add (t, "}\n", 2);
}

#endif
