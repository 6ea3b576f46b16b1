#ifndef _SYS_RSEQ_H
#define _SYS_RSEQ_H 1
extern const unsigned int __rseq_size;
#endif
