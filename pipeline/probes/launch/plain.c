/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A plain C program: allocation, sorting, number and string conversion, a locale. */
#include <inttypes.h>
#include <locale.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 10000 };

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    const char *locale = setlocale(LC_ALL, "C");
    uint32_t *numbers = malloc(COUNT * sizeof *numbers);
    if (!locale || !numbers)
        return 2;
    uint32_t state = 2463534242u; /* Marsaglia's xorshift32: the same numbers everywhere */
    for (int i = 0; i < COUNT; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        numbers[i] = state;
    }
    qsort(numbers, COUNT, sizeof *numbers, compare);
    int ordered = 1;
    uint64_t sum = 0;
    for (int i = 0; i < COUNT; i++) {
        ordered &= i == 0 || numbers[i - 1] <= numbers[i];
        sum += numbers[i];
    }
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (!memory || fprintf(memory, "%.3f %s", strtod("2.5e2", NULL), localeconv()->decimal_point) < 0
        || fclose(memory))
        return 2;
    printf("{\"name\": \"launch-plain\", \"ordered\": %s, \"sum\": %" PRIu64 ", \"text\": \"%s\", "
           "\"locale\": \"%s\"}\n",
           ordered ? "true" : "false", sum, text, locale);
    free(text);
    free(numbers);
    return fflush(stdout) ? 2 : 0;
}
