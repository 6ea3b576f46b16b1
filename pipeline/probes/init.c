/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The first program in a virtual machine: makes the machine usable, runs the runner, switches it off.
 *
 * Layout of the initramfs (pipeline/place/initramfs.py):
 *   /init                 this program
 *   /pipeline/modules     paths of kernel modules in load order, one a line (may be empty)
 *   /pipeline/command     the runner's argv, one argument a line
 * The runner's output goes to the virtio-serial port called "pipeline.results". Everything said here goes
 * to the console, each line beginning with "pipeline-init:", which the host looks for. When all is done,
 * and on every failure, the machine is switched off, so that QEMU ends.
 *
 * Kernel command line:
 *   pipeline.refuse_rseq   the rseq system call fails with ENOSYS for the runner and all it starts, as on
 *                          a kernel built without it
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PORT_NAME "pipeline.results"
#define MAX_ARGS 64

#if defined __x86_64__
# define THIS_ARCH AUDIT_ARCH_X86_64
# define RSEQ_CALL 334
#elif defined __aarch64__
# define THIS_ARCH AUDIT_ARCH_AARCH64
# define RSEQ_CALL 293
#else
# error "unknown architecture"
#endif

static void
say (const char *format, ...)
{
  char line[512];
  va_list args;
  va_start (args, format);
  vsnprintf (line, sizeof line, format, args);
  va_end (args);
  dprintf (2, "pipeline-init: %s\n", line);
}

static void __attribute__ ((noreturn))
power_off (void)
{
  sync ();
  /* The serial console may still have characters to send.  */
  struct timespec moment = { 0, 20 * 1000 * 1000 };
  nanosleep (&moment, NULL);
  reboot (RB_POWER_OFF);
  /* Ending as PID 1 is a panic, and with panic=-1 and -no-reboot QEMU ends then, too.  */
  _exit (1);
}

static void __attribute__ ((noreturn))
fail (const char *what)
{
  say ("failed: %s: %s", what, strerror (errno));
  power_off ();
}

static void
must_mount (const char *type, const char *where)
{
  mkdir (where, 0755);
  if (mount (type, where, type, 0, NULL) != 0 && errno != EBUSY)
    fail (where);
}

/* The whole file as a string; the caller never frees it.  */
static char *
read_file (const char *path)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    fail (path);
  size_t size = 0, room = 65536;
  char *text = malloc (room);
  if (text == NULL)
    fail ("memory");
  for (;;)
    {
      ssize_t n = read (fd, text + size, room - size - 1);
      if (n < 0)
        fail (path);
      if (n == 0)
        break;
      size += n;
      if (size + 1 >= room)
        {
          errno = EFBIG;
          fail (path);
        }
    }
  close (fd);
  text[size] = '\0';
  return text;
}

static void
load_modules (void)
{
  char *text = read_file ("/pipeline/modules");
  for (char *path = strtok (text, "\n"); path != NULL; path = strtok (NULL, "\n"))
    {
      int fd = open (path, O_RDONLY | O_CLOEXEC);
      if (fd < 0)
        fail (path);
      if (syscall (SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)
        fail (path);
      close (fd);
    }
}

/* Open the port by its name: the /dev/virtio-ports links are made by udev, which is not here.  */
static int
find_port (void)
{
  const char *class = "/sys/class/virtio-ports";
  DIR *ports = opendir (class);
  if (ports == NULL)
    return -1;
  int found = -1;
  for (struct dirent *entry; found < 0 && (entry = readdir (ports)) != NULL;)
    {
      char path[512], name[64] = "";
      snprintf (path, sizeof path, "%s/%s/name", class, entry->d_name);
      int fd = open (path, O_RDONLY | O_CLOEXEC);
      if (fd < 0)
        continue;
      ssize_t n = read (fd, name, sizeof name - 1);
      close (fd);
      if (n <= 0)
        continue;
      name[strcspn (name, "\n")] = '\0';
      if (strcmp (name, PORT_NAME) == 0)
        {
          snprintf (path, sizeof path, "/dev/%s", entry->d_name);
          found = open (path, O_WRONLY | O_CLOEXEC);
        }
    }
  closedir (ports);
  return found;
}

/* Devices are found while init already runs: wait for the port, 10 s in steps of 10 ms.  */
static int
open_port (void)
{
  for (int i = 0; i < 1000; i++)
    {
      int fd = find_port ();
      if (fd >= 0)
        return fd;
      struct timespec moment = { 0, 10 * 1000 * 1000 };
      nanosleep (&moment, NULL);
    }
  errno = ENODEV;
  fail ("virtio-serial port " PORT_NAME);
}

/* As seen by programs, a kernel without rseq.  */
static void
refuse_rseq (void)
{
  struct sock_filter code[] = {
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, arch)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCH, 0, 3),
    BPF_STMT (BPF_LD | BPF_W | BPF_ABS, offsetof (struct seccomp_data, nr)),
    BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, RSEQ_CALL, 0, 1),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
    BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = { sizeof code / sizeof code[0], code };
  if (prctl (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
      || prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
    fail ("seccomp");
}

static int
has_option (const char *name)
{
  char *text = read_file ("/proc/cmdline");
  for (char *word = strtok (text, " \n"); word != NULL; word = strtok (NULL, " \n"))
    if (strcmp (word, name) == 0)
      return 1;
  return 0;
}

static void
run_runner (int port)
{
  char *argv[MAX_ARGS + 1];
  int n = 0;
  char *text = read_file ("/pipeline/command");
  for (char *word = strtok (text, "\n"); word != NULL && n < MAX_ARGS; word = strtok (NULL, "\n"))
    argv[n++] = word;
  argv[n] = NULL;
  int refuse = has_option ("pipeline.refuse_rseq");
  pid_t runner = fork ();
  if (runner < 0)
    fail ("fork");
  if (runner == 0)
    {
      if (dup2 (port, 1) < 0)
        fail ("dup2");
      if (refuse)
        refuse_rseq ();
      char *env[] = { NULL };
      execve (argv[0], argv, env);
      say ("failed: %s: %s", argv[0], strerror (errno));
      _exit (127);
    }
  for (;;)
    {
      int status;
      pid_t ended = wait (&status);
      if (ended < 0)
        {
          if (errno == EINTR)
            continue;
          fail ("wait");
        }
      if (ended != runner)
        continue; /* an orphan of a job */
      if (WIFSIGNALED (status))
        say ("failed: the runner was ended by signal %d", WTERMSIG (status));
      else if (WEXITSTATUS (status) != 0)
        say ("failed: the runner ended with status %d", WEXITSTATUS (status));
      else
        say ("done");
      return;
    }
}

int
main (void)
{
  if (getpid () != 1)
    {
      fprintf (stderr, "init: only for PID 1 of a virtual machine\n");
      return 2;
    }
  must_mount ("devtmpfs", "/dev");
  int console = open ("/dev/console", O_RDWR);
  if (console >= 0)
    for (int fd = 0; fd < 3; fd++)
      dup2 (console, fd);
  if (console > 2)
    close (console);
  must_mount ("proc", "/proc");
  must_mount ("sysfs", "/sys");
  must_mount ("tmpfs", "/tmp");
  say ("up");
  load_modules ();
  int port = open_port ();
  run_runner (port);
  /* What was written to the port is handed over when the port is closed.  */
  close (port);
  power_off ();
}
