/* Preloaded into every program of a rebuild: the date is another one, the kernel has another release, there is
   one more processor, and directories are read backwards.

   A package that embeds any of them comes out different then.  What a program does without the C library (a
   static program, a system call of its own, a file of /proc) is not changed, nor what it walks with nftw.
   Times of files are the kernel's and stay as they are.  */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fts.h>
#include <glob.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* So many days and some hours later it is another day, month, year and weekday than in the first build.  */
static long int
later (void)
{
  static long int seconds;
  if (seconds == 0)
    {
      const char *days = getenv ("VARY_DAYS");
      seconds = (days != NULL ? atol (days) : 400) * 24 * 60 * 60 + 12345;
    }
  return seconds;
}

#define REAL(name, type) ((type) dlsym (RTLD_NEXT, name))

int
clock_gettime (clockid_t clock, struct timespec *now)
{
  int result = REAL ("clock_gettime", int (*) (clockid_t, struct timespec *)) (clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += later ();
  return result;
}

int
timespec_get (struct timespec *now, int base)
{
  int result = REAL ("timespec_get", int (*) (struct timespec *, int)) (now, base);
  if (result == TIME_UTC)
    now->tv_sec += later ();
  return result;
}

int
gettimeofday (struct timeval *restrict now, void *restrict zone)
{
  int result = REAL ("gettimeofday", int (*) (struct timeval *, void *)) (now, zone);
  if (result == 0)
    now->tv_sec += later ();
  return result;
}

time_t
time (time_t *now)
{
  time_t then = REAL ("time", time_t (*) (time_t *)) (NULL) + later ();
  if (now != NULL)
    *now = then;
  return then;
}

/* A moment to wait for, as the kernel has it.  One of a clock that we leave alone is long past.  */
static const struct timespec *
true_moment (const struct timespec *moment, struct timespec *copy)
{
  if (moment->tv_sec < REAL ("time", time_t (*) (time_t *)) (NULL) + later () / 2)
    return moment;
  *copy = *moment;
  copy->tv_sec -= later ();
  return copy;
}

int
sem_timedwait (sem_t *restrict semaphore, const struct timespec *restrict until)
{
  struct timespec copy;
  return REAL ("sem_timedwait", int (*) (sem_t *, const struct timespec *)) (
      semaphore, true_moment (until, &copy));
}

int
pthread_cond_timedwait (pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                        const struct timespec *restrict until)
{
  struct timespec copy;
  return REAL ("pthread_cond_timedwait",
               int (*) (pthread_cond_t *, pthread_mutex_t *, const struct timespec *)) (
      condition, mutex, true_moment (until, &copy));
}

int
pthread_mutex_timedlock (pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
  struct timespec copy;
  return REAL ("pthread_mutex_timedlock", int (*) (pthread_mutex_t *, const struct timespec *)) (
      mutex, true_moment (until, &copy));
}

int
clock_nanosleep (clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
  struct timespec copy;
  if (flags & TIMER_ABSTIME)
    time = true_moment (time, &copy);
  return REAL ("clock_nanosleep", int (*) (clockid_t, int, const struct timespec *, struct timespec *)) (
      clock, flags, time, left);
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

/* One processor more than there is.  */
static void
one_more (size_t size, cpu_set_t *set)
{
  for (size_t cpu = 0; cpu < 8 * size; cpu++)
    if (!CPU_ISSET_S (cpu, size, set))
      {
        CPU_SET_S (cpu, size, set);
        break;
      }
}

int
sched_getaffinity (pid_t pid, size_t size, cpu_set_t *set)
{
  int result = REAL ("sched_getaffinity", int (*) (pid_t, size_t, cpu_set_t *)) (pid, size, set);
  if (result == 0)
    one_more (size, set);
  return result;
}

int
pthread_getaffinity_np (pthread_t thread, size_t size, cpu_set_t *set)
{
  int result = REAL ("pthread_getaffinity_np", int (*) (pthread_t, size_t, cpu_set_t *)) (thread, size, set);
  if (result == 0)
    one_more (size, set);
  return result;
}

/* Who goes to the processor that is not there stays where it is.  */
int
sched_setaffinity (pid_t pid, size_t size, const cpu_set_t *set)
{
  int result = REAL ("sched_setaffinity", int (*) (pid_t, size_t, const cpu_set_t *)) (pid, size, set);
  return result != 0 && errno == EINVAL ? 0 : result;
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

static void
take_lock (void)
{
  pthread_mutex_lock (&lock);
}

static void
give_lock (void)
{
  pthread_mutex_unlock (&lock);
}

/* A child of a process whose other thread reads a directory finds it whole.  */
__attribute__ ((constructor)) static void
begin (void)
{
  pthread_atfork (take_lock, give_lock, give_lock);
}

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

/* Places in a directory are numbers of entries that are left, and one more: 0 is none.  */
long int
telldir (DIR *directory)
{
  pthread_mutex_lock (&lock);
  struct reading *reading = *find (directory);
  if (reading == NULL)
    reading = read_all (directory);
  long int place = (long int) reading->left + 1;
  pthread_mutex_unlock (&lock);
  return place;
}

void
seekdir (DIR *directory, long int place)
{
  pthread_mutex_lock (&lock);
  struct reading *reading = *find (directory);
  if (reading != NULL && place > 0 && (size_t) place <= reading->count + 1)
    reading->left = (size_t) place - 1;
  pthread_mutex_unlock (&lock);
}

/* The C library's own readers of directories do not come by here: what they leave in the file system's order
   is turned around.  */
int
scandir (const char *restrict name, struct dirent ***restrict entries, int (*select) (const struct dirent *),
         int (*compare) (const struct dirent **, const struct dirent **))
{
  int count = REAL ("scandir", int (*) (const char *, struct dirent ***, int (*) (const struct dirent *),
                                        int (*) (const struct dirent **, const struct dirent **))) (
      name, entries, select, compare);
  for (int i = 0; compare == NULL && i < count / 2; i++)
    {
      struct dirent *other = (*entries)[i];
      (*entries)[i] = (*entries)[count - 1 - i];
      (*entries)[count - 1 - i] = other;
    }
  return count;
}

static int
backwards (const FTSENT **one, const FTSENT **other)
{
  return strcmp ((*other)->fts_name, (*one)->fts_name);
}

FTS *
fts_open (char *const *paths, int options, int (*compare) (const FTSENT **, const FTSENT **))
{
  return REAL ("fts_open", FTS *(*) (char *const *, int, int (*) (const FTSENT **, const FTSENT **))) (
      paths, options, compare != NULL ? compare : backwards);
}

int
glob (const char *restrict pattern, int flags, int (*wrong) (const char *, int), glob_t *restrict found)
{
  size_t before = flags & GLOB_APPEND ? found->gl_pathc : 0;
  int result = REAL ("glob", int (*) (const char *, int, int (*) (const char *, int), glob_t *)) (
      pattern, flags, wrong, found);
  if (result == 0 && (flags & GLOB_NOSORT))
    {
      char **first = found->gl_pathv + (flags & GLOB_DOOFFS ? found->gl_offs : 0) + before;
      for (size_t i = 0, count = found->gl_pathc - before; i < count / 2; i++)
        {
          char *other = first[i];
          first[i] = first[count - 1 - i];
          first[count - 1 - i] = other;
        }
    }
  return result;
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

/* What programs with large files call; on 64-bit systems it is the same.  */
__asm__ (".globl scandir64, fts64_open, glob64\n"
         ".set scandir64, scandir\n"
         ".set fts64_open, fts_open\n"
         ".set glob64, glob\n");
