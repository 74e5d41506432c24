/* target.h - a file that is written beside, and renamed when it is complete. Problems are told here, in one line. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum target_kind {
        TARGET_NEW,                          /* there must be none of that name; only its user may read it, and only one writes it at a time */
        TARGET_REPLACE,                      /* the same, but one of that name goes when this is complete */
        TARGET_SHARED,                       /* many may be written at once, and the last that is complete stays; of the mode and owner of the
                                              * one it replaces, or as the umask has it */
};

struct target {
        enum target_kind kind;
        const char *path;
        char *unfinished;                    /* its name until then; NULL: done */
        bool named, locked;                  /* LOCKED: so that no two write it, or remove it */
        int fd;                              /* -1: not begun */
        uint64_t written;
};

/* All return 0, or what to exit with. */
int target_begin(struct target *target, const char *path, enum target_kind kind);
/* Blocks until all of data is written. */
int target_write(struct target *target, const char *data, size_t size);
int target_sync(struct target *target);
/* It is there, and on disk, when this returns 0. */
int target_finish(struct target *target);
/* Removes what is not finished. */
void target_end(struct target *target);
