/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A static position-independent program: relocates itself, has its own libc, its own thread area. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From 2.35 on libc.a itself has what the unwinder calls. */
#if !__GLIBC_PREREQ(2, 35)
#include "find_object.h"
#endif

static int twice(int x)
{
    return 2 * x;
}

static int square(int x)
{
    return x * x;
}

/* Pointers in data: right only if the program has relocated itself. */
static int (*volatile functions[])(int) = {twice, square};
static const char *volatile words[] = {"self", "relocated"};
static _Thread_local int in_thread = 1;

static void *work(void *argument)
{
    in_thread += 20;
    *(int *)argument = in_thread;
    return NULL;
}

int main(void)
{
    pthread_t thread;
    int result = 0;
    if (pthread_create(&thread, NULL, work, &result) || pthread_join(thread, NULL))
        return 2;
    char *text = malloc(strlen(words[0]) + strlen(words[1]) + 2);
    if (!text)
        return 2;
    sprintf(text, "%s-%s", words[0], words[1]);
    printf("{\"name\": \"launch-static-pie\", \"twice\": %d, \"square\": %d, \"text\": \"%s\", "
           "\"in_thread\": %d, \"in_main\": %d}\n",
           functions[0](21), functions[1](7), text, result, in_thread);
    free(text);
    return fflush(stdout) ? 2 : 0;
}
