#ifndef _STDIO_H
#define _STDIO_H 1
extern int puts (const char *);
#endif
