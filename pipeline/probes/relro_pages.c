/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* relro-pages DSO...: are the pages that PT_GNU_RELRO promises read-only once the loader is done?  The kernel
   is asked to write to each of them (read from a pipe, which fails with EFAULT), and /proc/self/maps is read.
   A line for each object and each rseq symbol that is wrong or cannot be asked about, and one of totals.
   Compiled with -DSTATIC it is for a static program, and asks about the rseq symbols alone.  */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>

#include "probe.h"
#include "rseq_symbols.h"

/* What a debugger brings to libthread_db.  */
#define SERVICE(name) void name (void); void name (void) {}
SERVICE (ps_get_thread_area)
SERVICE (ps_getpid)
SERVICE (ps_lgetfpregs)
SERVICE (ps_lgetregs)
SERVICE (ps_lsetfpregs)
SERVICE (ps_lsetregs)
SERVICE (ps_pdread)
SERVICE (ps_pdwrite)
SERVICE (ps_pglobal_lookup)

static uintptr_t page_size;
static int pipe_ends[2];

struct mapping
{
  uintptr_t start, end;
  int writable;
};
static struct mapping *mappings;
static size_t mapping_count;

/* Read the kernel's list of this process's mappings; without /proc it stays empty.  */
static void
read_mappings (void)
{
  char *line = NULL;
  size_t size = 0, room = 0;
  FILE *maps = fopen ("/proc/self/maps", "re");
  while (maps != NULL && getline (&line, &size, maps) > 0)
    {
      unsigned long start, end;
      char access[5];
      if (sscanf (line, "%lx-%lx %4s", &start, &end, access) != 3)
        continue;
      if (mapping_count == room)
        {
          room = room ? 2 * room : 1024;
          mappings = reallocarray (mappings, room, sizeof *mappings);
          if (mappings == NULL)
            err (1, "reallocarray");
        }
      mappings[mapping_count++] = (struct mapping) { start, end, access[1] == 'w' };
    }
  free (line);
  if (maps != NULL)
    fclose (maps);
}

/* 1 if the kernel lists the page as writable, 0 if not, -1 if it lists no such page.  */
static int
listed_writable (uintptr_t page)
{
  for (size_t n = 0; n < mapping_count; n++)
    if (mappings[n].start <= page && page < mappings[n].end)
      return mappings[n].writable;
  return -1;
}

/* Errno of the kernel writing the byte that is there already; 0 if it could.  */
static int
write_error (uintptr_t address)
{
  unsigned char byte = *(volatile unsigned char *) address;
  if (write (pipe_ends[1], &byte, 1) != 1)
    err (1, "write to a pipe");
  if (read (pipe_ends[0], (void *) address, 1) == 1)
    return 0;
  int error = errno;
  if (read (pipe_ends[0], &byte, 1) < 0 && errno != EAGAIN) /* the byte may be there still, or not */
    err (1, "read from a pipe");
  return error;
}

struct object
{
  uintptr_t base, start, end;
  int found, has_relro;
};

static int
look (struct dl_phdr_info *info, size_t size, void *data)
{
  struct object *object = data;
  (void) size;
  if (info->dlpi_addr != object->base || info->dlpi_name[0] == '\0')
    return 0;
  object->found = 1;
  for (int n = 0; n < info->dlpi_phnum; n++)
    if (info->dlpi_phdr[n].p_type == PT_GNU_RELRO)
      {
        uintptr_t start = info->dlpi_addr + info->dlpi_phdr[n].p_vaddr;
        object->has_relro = 1;
        object->start = start & -page_size;
        object->end = (start + info->dlpi_phdr[n].p_memsz) & -page_size;
      }
  return 1;
}

static void
ask_symbol (const char *name, const void *address)
{
  if (address == NULL)
    return;
  int error = write_error ((uintptr_t) address);
  printf ("{\"symbol\":\"%s\",\"write\":\"%s\",\"listed\":%d}\n", name, error_name (error),
          listed_writable ((uintptr_t) address));
}

int
main (int argc, char **argv)
{
  unsigned int objects = 0, with_relro = 0, pages = 0;
  struct object *all = calloc (argc, sizeof *all);
  page_size = sysconf (_SC_PAGESIZE);
  if (all == NULL || pipe2 (pipe_ends, O_NONBLOCK) < 0)
    err (1, "cannot begin");
  for (int n = 1; n < argc; n++)
    {
      struct link_map *map;
      void *handle = dlopen (argv[n], RTLD_NOW);
      if (handle == NULL || dlinfo (handle, RTLD_DI_LINKMAP, &map) < 0)
        {
          printf ("{\"object\":\"%s\",\"error\":\"not loaded\"}\n", argv[n]);
          fprintf (stderr, "%s\n", dlerror ());
          continue;
        }
      all[n].base = map->l_addr;
      dl_iterate_phdr (look, &all[n]);
      if (!all[n].found)
        printf ("{\"object\":\"%s\",\"error\":\"not listed\"}\n", argv[n]);
    }
  read_mappings ();
  for (int n = 1; n < argc; n++)
    {
      unsigned int writable = 0, written = 0;
      if (!all[n].found)
        continue;
      objects++;
      with_relro += all[n].has_relro;
      for (uintptr_t page = all[n].start; page < all[n].end; page += page_size)
        {
          pages++;
          writable += listed_writable (page) > 0;
          written += write_error (page) != EFAULT;
        }
      if (writable || written)
        printf ("{\"object\":\"%s\",\"writable\":%u,\"written\":%u}\n", argv[n], writable, written);
    }
  ask_symbol ("__rseq_size", SYMBOL (__rseq_size));
  ask_symbol ("__rseq_offset", SYMBOL (__rseq_offset));
  ask_symbol ("__rseq_flags", SYMBOL (__rseq_flags));
  printf ("{\"end\":true,\"objects\":%u,\"with_relro\":%u,\"pages\":%u,\"page_size\":%lu,\"mappings\":%zu}\n",
          objects, with_relro, pages, (unsigned long) page_size, mapping_count);
  fflush (stdout);
  _exit (0); /* no destructor of a library that was only looked at */
}
