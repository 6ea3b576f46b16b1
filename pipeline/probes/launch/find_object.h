/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* _dl_find_object for programs that have GCC's unwinder linked in.
 *
 * The unwinder of GCC 12 and later finds its tables through _dl_find_object, which glibc has from 2.35 on (in
 * libc.so.6, node GLIBC_2.35). Linked as it comes, a program with libgcc_eh.a could not be built against 2.34,
 * and would need GLIBC_2.35 of a DSO that the launch matrix is not about. So such a program brings the
 * function along, made of dl_iterate_phdr, which every glibc has.
 */
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The layout of struct dl_find_object (glibc's manual, "Dynamic Linker Introspection"); on x86-64 and AArch64
   it has no dlfo_eh_dbase. */
struct found_object {
    unsigned long long flags;
    void *map_start, *map_end;
    struct link_map *link_map;
    void *eh_frame;
    unsigned long long reserved[7];
};

struct object_query {
    uintptr_t address;
    struct found_object *result;
};

static int visit_object(struct dl_phdr_info *info, size_t size, void *data)
{
    const struct object_query *wanted = (const struct object_query *)data;
    uintptr_t tables = 0, low = UINTPTR_MAX, high = 0;
    int holds = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        const uintptr_t begin = info->dlpi_addr + header->p_vaddr, end = begin + header->p_memsz;
        if (header->p_type == PT_GNU_EH_FRAME)
            tables = begin;
        if (header->p_type != PT_LOAD)
            continue;
        holds |= begin <= wanted->address && wanted->address < end;
        low = begin < low ? begin : low;
        high = end > high ? end : high;
    }
    if (!holds || !tables)
        return 0;
    memset(wanted->result, 0, sizeof *wanted->result);
    wanted->result->map_start = (void *)low;
    wanted->result->map_end = (void *)high;
    wanted->result->eh_frame = (void *)tables;
    return 1;
}

#ifdef __cplusplus
extern "C" {
#endif
/* Named by its assembler name: where the headers declare the function, they do so with their own type. */
__attribute__((visibility("hidden"), used)) int find_object(void *, struct found_object *) __asm__(
    "_dl_find_object");

int find_object(void *address, struct found_object *result)
{
    struct object_query wanted = {(uintptr_t)address, result};
    return dl_iterate_phdr(visit_object, &wanted) ? 0 : -1;
}
#ifdef __cplusplus
}
#endif
