/* alloc.h - memory that is there, or the process ends.
 *
 * The lock table must apply every committed entry; a node that has no memory
 * for one cannot go on without telling lies, so it stops and starts again from
 * its log. Inputs are bounded by limits.h before anything is allocated. */
#pragma once

#include <stddef.h>

/* Zeroed memory for count objects of size bytes. Never NULL. The caller frees. */
void *alloc_zeroed(size_t count, size_t size) __attribute__((malloc, returns_nonnull));

/* As realloc(3) for count objects of size bytes. Never NULL; new bytes are not zeroed. */
void *alloc_resized(void *old, size_t count, size_t size) __attribute__((returns_nonnull));

/* A zero-terminated copy of size bytes. Never NULL. The caller frees. */
char *alloc_text(const char *text, size_t size) __attribute__((malloc, returns_nonnull));
