/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* own-registration: registers an rseq area of its own, as programs did before glibc, in the main thread
   and in another.  Where glibc holds the registration the kernel must refuse it; where it does not, it must
   take it, use it and give it back.  One line a thread; results are names of errors, "0" for success.  */
#define _GNU_SOURCE
#include <err.h>
#include <pthread.h>

#include "probe.h"

static const char *
rseq (volatile void *area, uint32_t length, int flags, uint32_t signature)
{
  return error_name (syscall (NR_RSEQ, area, length, flags, signature) == 0 ? 0 : errno);
}

static void *
try (void *name)
{
  static __thread volatile struct area own;
  struct kernel_word word;
  own.cpu_id = UINT32_MAX;
  const char *asked = error_name (kernel_word_of_self (&word));
  printf ("{\"thread\":\"%s\",\"asked\":\"%s\",\"held\":%s", (const char *) name, asked,
          word.pointer ? "true" : "false");
  if (word.pointer) /* what the kernel says to the holder's area given again, right and wrong */
    {
      void *area = (void *) (uintptr_t) word.pointer;
      printf (",\"same\":\"%s\"", rseq (area, word.size, 0, word.signature));
      printf (",\"same_wrong_signature\":\"%s\"", rseq (area, word.size, 0, word.signature ^ 1));
    }
  const char *registered = rseq (&own, sizeof own, 0, SIGNATURE);
  printf (",\"own\":\"%s\"", registered);
  if (strcmp (registered, "0") == 0)
    {
      uint32_t cpu_id = own.cpu_id;
      asked = error_name (kernel_word_of_self (&word));
      printf (",\"cpu_id\":%u,\"asked_again\":\"%s\",\"kernel_agrees\":%s", cpu_id, asked,
              word.pointer == (uintptr_t) &own ? "true" : "false");
      printf (",\"given_back\":\"%s\"", rseq (&own, sizeof own, UNREGISTER, SIGNATURE));
      printf (",\"cpu_id_after\":%u", own.cpu_id);
    }
  puts ("}");
  return NULL;
}

int
main (void)
{
  pthread_t id;
  try ((void *) "main");
  if (pthread_create (&id, NULL, try, (void *) "other") != 0)
    errx (1, "cannot start a thread");
  pthread_join (id, NULL);
  return 0;
}
