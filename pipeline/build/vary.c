/* Preloaded into every program of a rebuild: the date is another one, the kernel has another release, there is
   one more processor, and directories are read backwards.

   A package that embeds any of them comes out different then.  What a program does without the C library (a
   static program, a system call of its own, a file of /proc) is not changed.  Times of files are the kernel's
   and stay as they are.  */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* Another day, month, year and weekday.  */
#define LATER (400L * 24 * 60 * 60 + 12345)

#define REAL(name, type) ((type) dlsym (RTLD_NEXT, name))

int
clock_gettime (clockid_t clock, struct timespec *now)
{
  int result = REAL ("clock_gettime", int (*) (clockid_t, struct timespec *)) (clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += LATER;
  return result;
}

int
gettimeofday (struct timeval *restrict now, void *restrict zone)
{
  int result = REAL ("gettimeofday", int (*) (struct timeval *, void *)) (now, zone);
  if (result == 0 && now != NULL)
    now->tv_sec += LATER;
  return result;
}

time_t
time (time_t *now)
{
  time_t then = REAL ("time", time_t (*) (time_t *)) (NULL) + LATER;
  if (now != NULL)
    *now = then;
  return then;
}

int
uname (struct utsname *names)
{
  int result = REAL ("uname", int (*) (struct utsname *)) (names);
  if (result == 0)
    {
      strcpy (names->release, "5.10.0-elsewhere");
      strcpy (names->version, "#7 SMP another build");
    }
  return result;
}

int
sched_getaffinity (pid_t pid, size_t size, cpu_set_t *set)
{
  int result = REAL ("sched_getaffinity", int (*) (pid_t, size_t, cpu_set_t *)) (pid, size, set);
  for (size_t cpu = 0; result == 0 && cpu < 8 * size; cpu++)
    if (!CPU_ISSET_S (cpu, size, set))
      {
        CPU_SET_S (cpu, size, set);
        break;
      }
  return result;
}

int
get_nprocs (void)
{
  return REAL ("get_nprocs", int (*) (void)) () + 1;
}

int
get_nprocs_conf (void)
{
  return REAL ("get_nprocs_conf", int (*) (void)) () + 1;
}

long int
sysconf (int name)
{
  long int result = REAL ("sysconf", long int (*) (int)) (name);
  return result + (name == _SC_NPROCESSORS_ONLN || name == _SC_NPROCESSORS_CONF);
}

/* One directory that is being read: copies of its entries, given from the last to the first.  */
struct reading
{
  DIR *directory;
  struct dirent **entries;
  size_t count, left;
  struct reading *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct reading *all;

static struct reading **
find (DIR *directory)
{
  struct reading **at = &all;
  while (*at != NULL && (*at)->directory != directory)
    at = &(*at)->next;
  return at;
}

static void
forget (DIR *directory)
{
  pthread_mutex_lock (&lock);
  struct reading **at = find (directory), *gone = *at;
  if (gone != NULL)
    {
      *at = gone->next;
      for (size_t i = 0; i < gone->count; i++)
        free (gone->entries[i]);
      free (gone->entries);
      free (gone);
    }
  pthread_mutex_unlock (&lock);
}

static struct reading *
read_all (DIR *directory)
{
  struct reading *made = calloc (1, sizeof *made);
  if (made == NULL)
    abort ();
  made->directory = directory;
  struct dirent *(*next) (DIR *) = REAL ("readdir", struct dirent *(*) (DIR *));
  for (struct dirent *entry; (entry = next (directory)) != NULL;)
    {
      made->entries = realloc (made->entries, (made->count + 1) * sizeof *made->entries);
      struct dirent *copy = made->entries == NULL ? NULL : malloc (sizeof *copy);
      if (copy == NULL)
        abort ();
      memcpy (copy, entry, entry->d_reclen < sizeof *copy ? entry->d_reclen : sizeof *copy);
      made->entries[made->count++] = copy;
    }
  made->left = made->count;
  made->next = all;
  all = made;
  return made;
}

struct dirent *
readdir (DIR *directory)
{
  pthread_mutex_lock (&lock);
  struct reading *reading = *find (directory);
  if (reading == NULL)
    reading = read_all (directory);
  struct dirent *entry = reading->left > 0 ? reading->entries[--reading->left] : NULL;
  pthread_mutex_unlock (&lock);
  return entry;
}

/* The same on 64-bit systems, which are all there are here.  */
struct dirent64 *
readdir64 (DIR *directory)
{
  return (struct dirent64 *) readdir (directory);
}

void
rewinddir (DIR *directory)
{
  forget (directory);
  REAL ("rewinddir", void (*) (DIR *)) (directory);
}

int
closedir (DIR *directory)
{
  forget (directory);
  return REAL ("closedir", int (*) (DIR *)) (directory);
}
