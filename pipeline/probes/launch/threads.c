/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads: creation, a mutex, a condition variable, thread-local storage, return values. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

enum { THREADS = 8, ROUNDS = 10000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter;
static int turn;
static _Thread_local long own;

static void *work(void *argument)
{
    const int number = (int)(intptr_t)argument;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        counter++;
        own++;
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    while (turn != number)
        pthread_cond_wait(&changed, &lock);
    turn++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return (void *)(intptr_t)own;
}

int main(void)
{
    pthread_t threads[THREADS];
    long in_threads = 0;
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i))
            return 2;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        if (pthread_join(threads[i], &result))
            return 2;
        in_threads += (long)(intptr_t)result;
    }
    printf("{\"name\": \"launch-threads\", \"threads\": %d, \"counter\": %ld, \"in_threads\": %ld, "
           "\"in_main\": %ld, \"turns\": %d}\n",
           THREADS, counter, in_threads, own, turn);
    return fflush(stdout) ? 2 : 0;
}
