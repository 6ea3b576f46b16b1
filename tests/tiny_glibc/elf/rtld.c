/* The loader of a tree that only looks like glibc: the symbols a release is judged by.  */
#define RELRO __attribute__ ((section (".data.rel.ro")))

const unsigned int __rseq_flags = 0;
unsigned int __rseq_size RELRO = 32;
long __rseq_offset RELRO = -32;
const char banner[] = PKGVERSION;

void *
__tls_get_addr (void)
{
  return (void *) banner;
}

void
_start (void)
{
}
