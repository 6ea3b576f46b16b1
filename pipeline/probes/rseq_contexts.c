/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* rseq-contexts LIBRARY [AUDITOR]: code that runs in unusual places looks at its registration (look.h):
   constructors, handlers, children, destructors; and code in a library that was loaded later, in a
   namespace of its own, in an auditor, and while the program is relocated.  A static program is given the library alone.
   "rseq-contexts child NAME" is what it starts.  */
#define _GNU_SOURCE
#include <err.h>
#include <link.h>
#include <pthread.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "look.h"

extern char **environ;

static const char *self;
static int child_of_ours;
static pthread_key_t key;

#ifndef STATIC /* a static program resolves its indirect functions before it has thread-local data */
/* What the kernel says while the program is relocated, before any constructor.  No function of the C library can
   be called here, so the question (kernel_word_here) is put by hand.  */
static struct asked early = { .mark = ASKED, .error = EPROTO };
static siginfo_t question;
static pid_t asker[2];

static inline long
call_kernel (long number, long a, long b, long c, long d)
{
#ifdef __x86_64__
  register long r10 __asm__ ("r10") = d;
  long result;
  __asm__ volatile ("syscall"
                    : "=a"(result)
                    : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                    : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__ ("x8") = number;
  register long x0 __asm__ ("x0") = a;
  register long x1 __asm__ ("x1") = b;
  register long x2 __asm__ ("x2") = c;
  register long x3 __asm__ ("x3") = d;
  __asm__ volatile ("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#endif
}

static int
resolved (void)
{
  return 1;
}

static int (*resolve (void)) (void)
{
  question.si_signo = SIGSTOP;
  question.si_code = SI_QUEUE;
  question.si_ptr = &early;
  asker[0] = (pid_t) call_kernel (SYS_getpid, 0, 0, 0, 0);
  asker[1] = (pid_t) call_kernel (SYS_gettid, 0, 0, 0, 0);
  if (call_kernel (SYS_rt_tgsigqueueinfo, asker[0], asker[1], SIGSTOP, (long) &question) < 0)
    early.error = EPROTO;
  return resolved;
}

int indirect (void) __attribute__ ((ifunc ("resolve")));
#endif

static void __attribute__ ((constructor))
construct (int argc, char **argv)
{
  child_of_ours = argc > 1 && strcmp (argv[1], "child") == 0;
#ifndef STATIC /* of what we start, too: the resolver asked there as well */
  if (indirect ())
    look_with ("resolver of an indirect function", -1, &early.word, (int) early.error, 0);
#endif
  if (!child_of_ours)
    look ("constructor", -1);
}

static void __attribute__ ((destructor))
destruct (void)
{
  if (!child_of_ours)
    look ("destructor", -1);
}

static void at_exit (void) { look ("atexit", -1); }
static void on_signal (int n) { (void) n; look ("signal handler", -1); }
static void on_stack (int n) { (void) n; look ("signal handler on its own stack", -1); }
static void at_start (int n) { (void) n; look ("signal handler at a thread's start", -1); }
static void prepare (void) { look ("atfork, before", -1); }
static void parent (void) { look ("atfork, in the parent", -1); }
static void child (void) { look ("atfork, in the child", -1); }
static void end_of_key (void *unused) { (void) unused; look ("destructor of thread-specific data", -1); }
#ifdef STATIC /* elsewhere the unwinder is libgcc_s.so.1, which is in no package of glibc's */
static void on_cancel (void *unused) { (void) unused; look ("cancellation handler", -1); }
#endif

static void *
thread (void *context)
{
  look (context, -1);
  return NULL;
}

static void *
leave_data (void *unused)
{
  (void) unused;
  pthread_setspecific (key, &key);
  return NULL;
}

#ifdef STATIC
static void *
be_cancelled (void *unused)
{
  pthread_cleanup_push (on_cancel, unused);
  for (;;)
    pause ();
  pthread_cleanup_pop (0);
  return NULL;
}
#endif

static void
join (pthread_t id)
{
  if (pthread_join (id, NULL) != 0)
    errx (1, "a thread cannot be joined");
}

static pthread_t
start (const pthread_attr_t *attr, void *(*begin) (void *), const char *context)
{
  pthread_t id;
  int error = pthread_create (&id, attr, begin, (void *) context);
  if (error)
    errx (CANNOT, "a thread cannot be started: %s", strerror (error));
  return id;
}

static void
wait_for (pid_t pid, const char *what)
{
  int status;
  if (pid < 0)
    err (CANNOT, "%s", what);
  while (waitpid (pid, &status, 0) < 0)
    if (errno != EINTR)
      err (1, "%s", what);
  if (status != 0)
    errx (1, "%s ended with %s %d", what, WIFSIGNALED (status) ? "signal" : "status",
          WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status));
}

/* The child goes on as a program may: it looks, starts a thread, and forks again.  */
static void *
fork_here (void *context)
{
  char inner[64];
  pid_t pid = fork ();
  if (pid == 0)
    {
      look (context, -1);
      snprintf (inner, sizeof inner, "%s, its thread", (const char *) context);
      join (start (NULL, thread, inner));
      _exit (0);
    }
  wait_for (pid, context);
  return NULL;
}

/* Start this program to look as CONTEXT; LOADER: by calling ld.so with it, null: as it is.  */
static void
spawn (const char *loader, const char *context, char *const environment[])
{
  pid_t pid;
  char *argv[] = { (char *) loader, (char *) self, (char *) "child", (char *) context, NULL };
  char **from = argv + (loader == NULL);
  int error = posix_spawn (&pid, from[0], NULL, NULL, from, environment);
  if (error)
    errx (CANNOT, "%s: %s", context, strerror (error));
  wait_for (pid, context);
}

static void *
call (void *library, const char *context)
{
  if (library == NULL)
    errx (1, "%s: %s", context, dlerror ());
  void (*function) (const char *) = (void (*) (const char *)) dlsym (library, "look_from_library");
  if (function == NULL)
    errx (1, "%s: %s", context, dlerror ());
  function (context);
  return library;
}

#ifndef STATIC
/* The path of ld.so, as this program names it.  */
static const char *
interpreter (void)
{
  const ElfW (Phdr) *header = (const void *) getauxval (AT_PHDR);
  const char *base = NULL, *found = NULL;
  for (unsigned long n = 0; n < getauxval (AT_PHNUM); n++)
    if (header[n].p_type == PT_PHDR)
      base = (const char *) header - header[n].p_vaddr;
  for (unsigned long n = 0; n < getauxval (AT_PHNUM); n++)
    if (header[n].p_type == PT_INTERP)
      found = base + header[n].p_vaddr;
  if (base == NULL || found == NULL)
    errx (1, "this program names no ld.so");
  return found;
}

static void
libraries (const char *library, const char *auditor)
{
  char audit[512];
  /* One is unloaded now, the other at the end.  */
  dlclose (call (dlopen (library, RTLD_NOW | RTLD_LOCAL), "a library loaded by dlopen"));
  call (dlmopen (LM_ID_NEWLM, library, RTLD_NOW), "a library loaded by dlmopen");
  snprintf (audit, sizeof audit, "LD_AUDIT=%s", auditor);
  char *tunables = getenv ("GLIBC_TUNABLES");
  char kept[256];
  snprintf (kept, sizeof kept, "GLIBC_TUNABLES=%s", tunables ? tunables : "");
  char *environment[] = { audit, tunables ? kept : NULL, NULL };
  spawn (NULL, "a program with an auditor", environment);
  spawn (interpreter (), "a program that ld.so was called to start", environ);
}
#endif

int
main (int argc, char **argv)
{
  self = argv[0];
  if (argc == 3 && child_of_ours)
    {
      look (argv[2], -1);
      return 0;
    }
  look ("main", -1);

  struct sigaction action = { .sa_handler = on_signal };
  sigaction (SIGUSR1, &action, NULL);
  raise (SIGUSR1);
  static char stack[64 * 1024];
  stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
  action.sa_handler = on_stack;
  action.sa_flags = SA_ONSTACK;
  if (sigaltstack (&alternate, NULL) != 0)
    err (1, "sigaltstack");
  sigaction (SIGUSR1, &action, NULL);
  raise (SIGUSR1);

  /* Pending for the process, blocked in the main thread, not in the new one: it is the first thing that one
     does.  */
  sigset_t blocked, none;
  pthread_attr_t attr;
  action = (struct sigaction) { .sa_handler = at_start };
  sigaction (SIGUSR2, &action, NULL);
  sigemptyset (&none);
  sigemptyset (&blocked);
  sigaddset (&blocked, SIGUSR2);
  pthread_sigmask (SIG_BLOCK, &blocked, NULL);
  kill (getpid (), SIGUSR2);
  pthread_attr_init (&attr);
  pthread_attr_setsigmask_np (&attr, &none);
  join (start (&attr, thread, "a thread that began with a signal"));
  pthread_attr_destroy (&attr);

  pthread_key_create (&key, end_of_key);
  join (start (NULL, leave_data, NULL));
#ifdef STATIC
  pthread_t victim = start (NULL, be_cancelled, NULL);
  pthread_cancel (victim);
  join (victim);
#endif

  fork_here ((void *) "child of fork");
  join (start (NULL, fork_here, "child of fork in a thread"));
  pthread_atfork (prepare, parent, child);
  pid_t pid = fork ();
  if (pid == 0)
    _exit (0);
  wait_for (pid, "fork");

  pid = _Fork (); /* runs no handlers, and may be called where fork may not */
  if (pid == 0)
    {
      look ("child of _Fork", -1);
      _exit (0);
    }
  wait_for (pid, "_Fork");

  spawn (NULL, "a program started by posix_spawn", environ);
  pid = vfork ();
  if (pid == 0)
    {
      look ("child of vfork", -1);
      execl (self, self, "child", "a program started after vfork", (char *) NULL);
      _exit (127);
    }
  wait_for (pid, "vfork");
  look ("main after vfork", -1);

#ifdef STATIC
  if (argc == 2)
    dlclose (call (dlopen (argv[1], RTLD_NOW | RTLD_LOCAL), "a library loaded by a static program"));
#else
  if (argc == 3)
    libraries (argv[1], argv[2]);
#endif
  atexit (at_exit);
  return 0;
}
