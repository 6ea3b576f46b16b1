/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* debugged: what the release's own libthread_db tells a debugger of this program's threads, beside what the threads
   say themselves.  The program is its own debugger: it brings what libthread_db wants of one (proc_service).
   One line for each thread; the last one is of the process.  */
#define _GNU_SOURCE
#include <err.h>
#include <link.h>
#include <pthread.h>
#include <stdlib.h>
#include <thread_db.h>

#include "probe.h"

#define THREADS 5 /* beside the main one: two plain ones, one with a used descriptor, on an own stack, detached */
#define STACK (512 * 1024)

static __thread int own = 0x5eed; /* the program's block of thread-local data begins with it */

struct ps_prochandle
{
  pid_t pid;
};

struct known
{
  const char *kind;
  pid_t tid;
  pthread_t id;
  void *start;
  uintptr_t pointer, block;
};
static struct known known[THREADS + 1];
static pthread_barrier_t all_there, may_end;
static td_err_e (*info_of) (const td_thrhandle_t *, td_thrinfo_t *);
static td_err_e (*block_of) (const td_thrhandle_t *, unsigned long, psaddr_t *);

/* What a debugger brings.  */
int ps_pdread (struct ps_prochandle *, psaddr_t, void *, size_t);
int ps_pdwrite (struct ps_prochandle *, psaddr_t, const void *, size_t);
int ps_pglobal_lookup (struct ps_prochandle *, const char *, const char *, psaddr_t *);
pid_t ps_getpid (struct ps_prochandle *);
int ps_get_thread_area (struct ps_prochandle *, lwpid_t, int, psaddr_t *);

enum { OK, ERROR, BAD_PID, BAD_LWP, BAD_ADDRESS, NO_SYMBOL };

int
ps_pdread (struct ps_prochandle *p, psaddr_t from, void *to, size_t size)
{
  (void) p;
  memcpy (to, from, size);
  return OK;
}

int
ps_pdwrite (struct ps_prochandle *p, psaddr_t to, const void *from, size_t size)
{
  (void) p;
  memcpy (to, from, size);
  return OK;
}

/* A debugger reads all symbols; those of GLIBC_PRIVATE are there for it.  */
int
ps_pglobal_lookup (struct ps_prochandle *p, const char *object, const char *name, psaddr_t *address)
{
  (void) p;
  (void) object;
  *address = dlvsym (RTLD_DEFAULT, name, "GLIBC_PRIVATE");
  if (*address == NULL)
    *address = dlsym (RTLD_DEFAULT, name);
  return *address ? OK : NO_SYMBOL;
}

pid_t
ps_getpid (struct ps_prochandle *p)
{
  return p->pid;
}

/* Where a thread's descriptor is: x86_64 names the register that points there, AArch64 (WHICH) how far below the thread
   pointer it begins.  */
int
ps_get_thread_area (struct ps_prochandle *p, lwpid_t tid, int which, psaddr_t *address)
{
  (void) p;
  for (int n = 0; n <= THREADS; n++)
    if (known[n].tid == tid)
      {
#ifdef __x86_64__
        (void) which;
        *address = (psaddr_t) known[n].pointer;
#else
        *address = (psaddr_t) (known[n].pointer - (uintptr_t) which);
#endif
        return OK;
      }
  return BAD_LWP;
}

#define UNUSED(name) int name (void); int name (void) { return ERROR; }
UNUSED (ps_lgetfpregs)
UNUSED (ps_lgetregs)
UNUSED (ps_lsetfpregs)
UNUSED (ps_lsetregs)

static int
find_block (struct dl_phdr_info *info, size_t size, void *block)
{
  if (size < offsetof (struct dl_phdr_info, dlpi_tls_data) + sizeof info->dlpi_tls_data)
    return 0;
  *(uintptr_t *) block = (uintptr_t) info->dlpi_tls_data; /* the first object is the program */
  return 1;
}

static void
know (struct known *k)
{
  own++;
  k->tid = (pid_t) syscall (SYS_gettid);
  k->id = pthread_self ();
  k->pointer = (uintptr_t) thread_pointer ();
  dl_iterate_phdr (find_block, &k->block);
}

static void *
thread (void *of)
{
  know (of);
  pthread_barrier_wait (&all_there);
  pthread_barrier_wait (&may_end);
  return NULL;
}

static void *
nothing (void *unused)
{
  return unused;
}

static int
each (const td_thrhandle_t *handle, void *count)
{
  td_thrinfo_t info;
  psaddr_t block = NULL;
  memset (&info, 0, sizeof info);
  ++*(int *) count;
  int asked = info_of (handle, &info), block_asked = block_of (handle, 1, &block);
  struct known *k = NULL;
  for (int n = 0; n <= THREADS; n++)
    if (known[n].tid == info.ti_lid)
      k = &known[n];
  printf ("{\"thread\":\"%s\",\"info\":%d,\"block\":%d", k ? k->kind : "unknown", asked, block_asked);
  if (k)
    printf (",\"id\":%d,\"start\":%d,\"active\":%d,\"block_is\":%d", info.ti_tid == k->id,
            info.ti_startfunc == k->start, info.ti_state == TD_THR_ACTIVE || info.ti_state == TD_THR_RUN,
            (uintptr_t) block == k->block);
  puts ("}");
  return 0;
}

static void *
function (void *library, const char *name)
{
  void *found = dlsym (library, name);
  if (found == NULL)
    errx (1, "%s", dlerror ());
  return found;
}

int
main (void)
{
  static const char *const kinds[THREADS] = { "used descriptor", "plain", "plain again", "own stack", "detached" };
  static struct ps_prochandle self;
  td_thragent_t *agent = NULL;
  td_thrhandle_t handle;
  pthread_attr_t attr;
  pthread_t id;
  int counted = -1, seen = 0, mapped = 0, found = 0;
  self.pid = getpid ();
  void *library = dlopen ("libthread_db.so.1", RTLD_NOW);
  if (library == NULL)
    errx (1, "%s", dlerror ());
  td_err_e (*init) (void) = (td_err_e (*) (void)) function (library, "td_init");
  td_err_e (*new) (struct ps_prochandle *, td_thragent_t **)
    = (td_err_e (*) (struct ps_prochandle *, td_thragent_t **)) function (library, "td_ta_new");
  td_err_e (*count) (const td_thragent_t *, int *)
    = (td_err_e (*) (const td_thragent_t *, int *)) function (library, "td_ta_get_nthreads");
  td_err_e (*iterate) (const td_thragent_t *, td_thr_iter_f *, void *, td_thr_state_e, int, sigset_t *, unsigned int)
    = (td_err_e (*) (const td_thragent_t *, td_thr_iter_f *, void *, td_thr_state_e, int, sigset_t *,
                     unsigned int)) function (library, "td_ta_thr_iter");
  td_err_e (*map) (const td_thragent_t *, pthread_t, td_thrhandle_t *)
    = (td_err_e (*) (const td_thragent_t *, pthread_t, td_thrhandle_t *)) function (library, "td_ta_map_id2thr");
  td_err_e (*find) (const td_thragent_t *, lwpid_t, td_thrhandle_t *)
    = (td_err_e (*) (const td_thragent_t *, lwpid_t, td_thrhandle_t *)) function (library, "td_ta_map_lwp2thr");
  info_of = (td_err_e (*) (const td_thrhandle_t *, td_thrinfo_t *)) function (library, "td_thr_get_info");
  block_of = (td_err_e (*) (const td_thrhandle_t *, unsigned long, psaddr_t *)) function (library, "td_thr_tlsbase");

  pthread_barrier_init (&all_there, NULL, THREADS + 1);
  pthread_barrier_init (&may_end, NULL, THREADS + 1);
  if (pthread_create (&id, NULL, nothing, NULL) != 0)
    errx (CANNOT, "a thread cannot be started");
  pthread_join (id, NULL);
  known[0].kind = "main";
  know (&known[0]);
  for (int n = 1; n <= THREADS; n++)
    {
      known[n].kind = kinds[n - 1];
      known[n].start = (void *) thread;
      pthread_attr_init (&attr);
      if (n == 4)
        pthread_attr_setstack (&attr, aligned_alloc (4096, STACK), STACK);
      if (n == 5)
        pthread_attr_setdetachstate (&attr, PTHREAD_CREATE_DETACHED);
      if (pthread_create (&id, &attr, thread, &known[n]) != 0)
        errx (CANNOT, "a thread cannot be started");
    }
  pthread_barrier_wait (&all_there);

  int begun = init (), made = new (&self, &agent);
  printf ("{\"init\":%d,\"new\":%d}\n", begun, made);
  fflush (stdout);
  if (begun != TD_OK || made != TD_OK)
    return 0;
  int asked = count (agent, &counted);
  int iterated = iterate (agent, each, &seen, TD_THR_ANY_STATE, TD_THR_LOWEST_PRIORITY, TD_SIGNO_MASK,
                          TD_THR_ANY_USER_FLAGS);
  for (int n = 0; n <= THREADS; n++)
    {
      mapped += map (agent, known[n].id, &handle) == TD_OK;
      found += find (agent, known[n].tid, &handle) == TD_OK && handle.th_unique == (psaddr_t) known[n].id;
    }
  printf ("{\"asked\":%d,\"counted\":%d,\"iterated\":%d,\"seen\":%d,\"mapped\":%d,\"found\":%d}\n", asked,
          counted, iterated, seen, mapped, found);
  fflush (stdout);
  _exit (0);
}
