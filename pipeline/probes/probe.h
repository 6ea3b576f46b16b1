/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the probes share: the kernel's rseq interface, and ways to ask it instead of glibc.  */
#ifndef PROBE_H
#define PROBE_H

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* From the kernel's user-space headers; named here so that old headers do.  */
#define GET_RSEQ_CONFIGURATION 0x420f
#define UNREGISTER 1
#define AREA_SIZE 32
/* Exit status of a probe that this place does not let work; its standard error says why.  */
#define CANNOT 77
#ifdef __x86_64__
# define NR_RSEQ 334
# define SIGNATURE 0x53053053U
#elif defined __aarch64__
# define NR_RSEQ 293
# define SIGNATURE 0xd428bc00U
#else
# error "this architecture is not known here"
#endif

/* The first words of struct rseq.  */
struct area
{
  uint32_t cpu_id_start;
  uint32_t cpu_id;
  uint64_t rseq_cs;
  uint32_t flags;
  uint32_t unused[3];
} __attribute__ ((aligned (AREA_SIZE)));

/* The kernel's answer to PTRACE_GET_RSEQ_CONFIGURATION; all zero: not registered.  */
struct kernel_word
{
  uint64_t pointer;
  uint32_t size;
  uint32_t signature;
  uint32_t flags;
  uint32_t pad;
};

static inline char *
thread_pointer (void)
{
  return __builtin_thread_pointer ();
}

static inline const char *
error_name (int error)
{
  const char *name = error ? strerrorname_np (error) : "0";
  return name ? name : "unknown";
}

/* Ask about a stopped tracee.  Returns 0 or an errno.  */
static inline int
kernel_word_of (pid_t tid, struct kernel_word *word)
{
  memset (word, 0, sizeof *word);
  long n = ptrace ((__typeof__ (PTRACE_CONT)) GET_RSEQ_CONFIGURATION, tid, sizeof *word, word);
  return n < 0 ? errno : n < (long) offsetof (struct kernel_word, pad) ? EPROTO : 0;
}

/* Ask about the calling thread.  A thread cannot trace itself; but a child made by fork has the thread's
   memory layout and its registration, so the kernel's word on the child is its word on the thread.
   Returns 0 or an errno.  */
static inline int
kernel_word_of_self (struct kernel_word *word)
{
  int status, error = EPROTO;
  memset (word, 0, sizeof *word);
  pid_t child = fork ();
  if (child < 0)
    return errno;
  if (child == 0)
    {
      prctl (PR_SET_PDEATHSIG, SIGKILL);
      if (ptrace (PTRACE_TRACEME, 0, NULL, NULL) < 0)
        _exit (errno);
      raise (SIGSTOP);
      _exit (EPROTO);
    }
  if (waitpid (child, &status, __WALL) < 0)
    return errno;
  if (WIFEXITED (status))
    return WEXITSTATUS (status) ? WEXITSTATUS (status) : EPROTO;
  if (WIFSTOPPED (status))
    error = kernel_word_of (child, word);
  kill (child, SIGKILL);
  waitpid (child, &status, __WALL);
  return error;
}

/* Where the area lies from the thread pointer: *FROM says who told, "symbol" or "kernel"; null (and 0) if
   nobody could.  */
static inline ptrdiff_t
area_offset (const char **from)
{
  struct kernel_word word;
  const ptrdiff_t *symbol = dlsym (RTLD_DEFAULT, "__rseq_offset");
  *from = symbol ? "symbol" : NULL;
  if (symbol)
    return *symbol;
  if (kernel_word_of_self (&word) != 0 || word.pointer == 0)
    return 0;
  *from = "kernel";
  return (char *) (uintptr_t) word.pointer - thread_pointer ();
}

/* The area at OFFSET from the calling thread's pointer.  */
static inline volatile struct area *
area_at (ptrdiff_t offset)
{
  return (volatile struct area *) (thread_pointer () + offset);
}

#endif
