/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The two secrets that glibc keeps for a program, as the main thread, another one and a child of fork have them,
   beside the kernel's random bytes (AT_RANDOM) that they must be made of: the stack protector's guard, and the
   guard that mangles pointers.  Null where a program cannot name them: in static programs of AArch64.
   "guards smash" writes over a guard on its stack.  */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <err.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined STATIC && !__GLIBC_PREREQ(2, 35) /* from 2.35 on libc.a itself has what the unwinder calls */
# include "launch/find_object.h"
#endif

#ifdef __x86_64__
static void
say_guards (const char *context)
{
  uint64_t stack, pointer;
  __asm__ ("mov %%fs:0x28, %0" : "=r"(stack));
  __asm__ ("mov %%fs:0x30, %0" : "=r"(pointer));
  printf ("{\"context\":\"%s\",\"stack\":\"%016" PRIx64 "\",\"pointer\":\"%016" PRIx64 "\"", context, stack,
          pointer);
}
#else
static void
say_guards (const char *context)
{
  printf ("{\"context\":\"%s\"", context);
  const char *names[] = { "stack", "pointer" };
# ifdef STATIC
  const uint64_t *guards[] = { NULL, NULL };
# else
  const uint64_t *guards[] = { dlsym (RTLD_DEFAULT, "__stack_chk_guard"),
                               dlvsym (RTLD_DEFAULT, "__pointer_chk_guard", "GLIBC_PRIVATE") };
# endif
  for (int i = 0; i < 2; i++)
    if (guards[i])
      printf (",\"%s\":\"%016" PRIx64 "\"", names[i], *guards[i]);
    else
      printf (",\"%s\":null", names[i]);
}
#endif

static void *
say (void *context)
{
  uint64_t random[2];
  memcpy (random, (const void *) getauxval (AT_RANDOM), sizeof random);
  say_guards (context);
  printf (",\"random\":[\"%016" PRIx64 "\",\"%016" PRIx64 "\"]}\n", random[0], random[1]);
  fflush (stdout);
  return NULL;
}

static void __attribute__ ((noinline, optimize ("stack-protector-all")))
smash (volatile size_t n)
{
  char there[8];
  volatile char *at = there;
  for (size_t i = 0; i < n; i++)
    at[i] = 'x';
}

/* What a jump buffer holds cannot be used as it is: no word of it is an address of this program's stack.  */
static int
bare_addresses (void)
{
  jmp_buf there;
  uint64_t words[sizeof there / 8];
  int found = 0;
  memset (there, 0, sizeof there);
  if (setjmp (there))
    return -1;
  memcpy (words, there, sizeof words);
#ifdef __x86_64__ /* __jmpbuf: rbx, rbp, r12 to r15, rsp, pc; the frame, the stack and the place are mangled */
  static const int mangled[] = { 1, 6, 7 };
#else /* x19 to x28, x29, x30, unused, sp; the place and the stack are mangled */
  static const int mangled[] = { 11, 13 };
#endif
  uint64_t stack = (uint64_t) __builtin_frame_address (0), code = (uint64_t) &bare_addresses;
  for (size_t i = 0; i < sizeof mangled / sizeof *mangled; i++)
    found += words[mangled[i]] - stack + 65536 < 131072 || words[mangled[i]] - code + 65536 < 131072;
  return found;
}

int
main (int argc, char **argv)
{
  int status;
  pthread_t id;
  if (argc == 2 && strcmp (argv[1], "smash") == 0)
    {
      setrlimit (RLIMIT_CORE, &(struct rlimit) { 0, 0 });
      smash (64);
      return 0;
    }
  say ((void *) "main");
  if (pthread_create (&id, NULL, say, (void *) "thread") != 0)
    errx (77, "a thread cannot be started");
  pthread_join (id, NULL);
  pid_t pid = fork ();
  if (pid == 0)
    {
      say ((void *) "child");
      _exit (0);
    }
  if (pid < 0 || waitpid (pid, &status, 0) < 0 || status != 0)
    errx (1, "the child ended with %#x", status);
  printf ("{\"context\":\"jump buffer\",\"bare\":%d}\n", bare_addresses ());
  fflush (stdout);
  pid = fork ();
  if (pid == 0)
    {
      execl (argv[0], argv[0], "smash", (char *) NULL);
      _exit (127);
    }
  if (pid < 0 || waitpid (pid, &status, 0) < 0)
    err (1, "fork");
  printf ("{\"context\":\"smashed\",\"signal\":%d}\n", WIFSIGNALED (status) ? WTERMSIG (status) : 0);
  return 0;
}
