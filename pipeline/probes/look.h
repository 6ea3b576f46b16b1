/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a thread can find out about its own registration wherever it is: in a signal handler, between fork and
   exec, while it starts or ends.  One line for each look, written at once.  Nothing here takes a lock, calls
   malloc or runs another's handlers.  For programs that look-tracer starts: without it a look stops for good.  */
#ifndef LOOK_H
#define LOOK_H

#include <sched.h>

#include "look_asked.h"
#include "rseq_symbols.h"

/* A number that no CPU has, with every bit of one, and how often it is planted before it counts as lost: a
   preemption in between puts the true number back.  */
#define PLANTED 0x7fffffffU
#define PATIENCE 100

/* The kernel's word on the calling thread, from the tracer that must follow it.  SIGSTOP cannot be blocked, and
   has no handler.  Returns 0 or an errno.  */
static int
kernel_word_here (struct kernel_word *word)
{
  struct asked asked = { .mark = ASKED, .error = EPROTO };
  siginfo_t info;
  memset (&info, 0, sizeof info);
  info.si_signo = SIGSTOP;
  info.si_code = SI_QUEUE;
  info.si_ptr = &asked;
  long sent = syscall (SYS_rt_tgsigqueueinfo, syscall (SYS_getpid), syscall (SYS_gettid), SIGSTOP, &info);
  *word = asked.word;
  return sent < 0 ? errno : (int) *(volatile int64_t *) &asked.error;
}

/* What the libc exports, found at the first look of a program or library: a symbol cannot be looked up in every
   context, and the first look is in a constructor or in main.  */
struct exported
{
  const ptrdiff_t *offset;
  const unsigned int *size, *flags;
};

static const struct exported *
exported (void)
{
  static struct exported found;
  static int looked;
  if (!looked)
    {
      found.offset = SYMBOL (__rseq_offset);
      found.size = SYMBOL (__rseq_size);
      found.flags = SYMBOL (__rseq_flags);
      looked = 1;
    }
  return found.offset && found.size && found.flags ? &found : NULL;
}

/* No errno: a function that succeeds leaves this where it was.  */
#define NO_ERROR 12345

/* Write what the thread sees, where the kernel's answer is there already: WORD, or an errno.  FIRST is cpu_id
   where libc says that it is, as the look began: no stop had made the kernel write it once more.  */
static void
look_with (const char *context, int reused, const struct kernel_word *kernels, int error, uint32_t first)
{
  struct kernel_word word = *kernels;
  char line[1100], libc[400] = "null";
  const struct exported *from_libc = exported ();
  int cpus = 0, wrong = 0, wrong_getcpu = 0, touched = 0, planted = -1;
  unsigned int here = 0;
  struct area words = { 0 };
  cpu_set_t was, one;

  if (word.pointer)
    {
      volatile struct area *area = (volatile struct area *) (uintptr_t) word.pointer;
      for (int i = 0; i < PATIENCE; i++) /* all of one CPU */
        {
          unsigned int cpu = ~0U;
          words = *area;
          syscall (SYS_getcpu, &cpu, &here, NULL);
          if (cpu == words.cpu_id)
            break;
        }
      planted = 0;
      for (int i = 0; i < PATIENCE && !planted; i++)
        {
          uint32_t honest = area->cpu_id;
          area->cpu_id = PLANTED;
          planted = sched_getcpu () == (int) PLANTED;
          area->cpu_id = honest;
        }
    }
  if (sched_getaffinity (0, sizeof was, &was) == 0)
    {
      for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        {
          unsigned int told = ~0U, node = ~0U, alone = ~0U, kernels = 0;
          if (!CPU_ISSET (cpu, &was))
            continue;
          CPU_ZERO (&one);
          CPU_SET (cpu, &one);
          if (sched_setaffinity (0, sizeof one, &one) != 0)
            continue;
          cpus++;
          syscall (SYS_getcpu, NULL, &kernels, NULL);
          errno = NO_ERROR;
          wrong += sched_getcpu () != cpu;
          wrong_getcpu += getcpu (&told, &node) != 0 || told != (unsigned int) cpu || node != kernels
                          || getcpu (&alone, NULL) != 0 || alone != told || getcpu (NULL, &alone) != 0
                          || alone != node;
          touched += errno != NO_ERROR;
        }
      sched_setaffinity (0, sizeof was, &was);
    }
  if (from_libc)
    {
      struct area told = { 0 };
      if (*from_libc->offset)
        told = *area_at (*from_libc->offset);
      snprintf (libc, sizeof libc,
                "{\"offset\":%td,\"size\":%u,\"flags\":%u,\"cpu_id_start\":%u,\"cpu_id\":%u,"
                "\"rseq_cs\":%ju,\"area_flags\":%u,\"first\":%u,\"tail\":[%u,%u,%u]}",
                *from_libc->offset, *from_libc->size, *from_libc->flags, told.cpu_id_start, told.cpu_id,
                (uintmax_t) told.rseq_cs, told.flags, first, told.unused[0], told.unused[1], told.unused[2]);
    }
  int n = snprintf (line, sizeof line,
                    "{\"context\":\"%s\",\"reused\":%d,\"error\":\"%s\",\"pointer\":%ju,\"place\":%td,"
                    "\"size\":%u,\"signature\":%u,\"flags\":%u,\"cpu_id_start\":%u,\"cpu_id\":%u,"
                    "\"rseq_cs\":%ju,\"area_flags\":%u,\"tail\":[%u,%u,%u],\"node\":%u,"
                    "\"planted\":%d,\"cpus\":%d,\"wrong\":%d,\"wrong_getcpu\":%d,\"touched\":%d,\"libc\":%s}\n",
                    context, reused, error_name (error), (uintmax_t) word.pointer,
                    word.pointer ? (char *) (uintptr_t) word.pointer - thread_pointer () : (ptrdiff_t) 0,
                    word.size, word.signature, word.flags, words.cpu_id_start, words.cpu_id,
                    (uintmax_t) words.rseq_cs, words.flags, words.unused[0], words.unused[1],
                    words.unused[2], here, planted, cpus, wrong, wrong_getcpu,
                    touched, libc);
  /* Not through stdio: a child made by fork would write its parent's lines again.  */
  for (int done = 0; done < n;)
    {
      ssize_t written = write (1, line + done, (size_t) (n - done));
      if (written < 0 && errno != EINTR)
        _exit (3);
      done += written > 0 ? (int) written : 0;
    }
}

/* Look, and write what was seen.  REUSED: 1 if this thread's descriptor was another's before, 0 if it was
   not, -1 if that is not asked.  */
static inline void
look (const char *context, int reused)
{
  int saved = errno;
  const struct exported *from_libc = exported ();
  uint32_t first = from_libc && *from_libc->offset ? area_at (*from_libc->offset)->cpu_id : 0;
  struct kernel_word word;
  int error = kernel_word_here (&word);
  look_with (context, reused, &word, error, first);
  errno = saved;
}

#endif
