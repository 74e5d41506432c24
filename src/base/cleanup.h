/* cleanup.h - scope-bound release, so that every path frees what it made. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))
#define _unused_ __attribute__((unused))
#define _printf_(text, values) __attribute__((__format__(__printf__, text, values)))

static inline void cleanup_free(void *pointer)
{
        free(*(void **)pointer);
}

static inline void cleanup_close(const int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
}

static inline void cleanup_fclose(FILE **file)
{
        if (*file)
                (void)fclose(*file);
}

#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/* Hands a descriptor or pointer over on the last line of the function that made it. */
#define TAKE_FD(fd)                   \
        ({                            \
                int *_fd = &(fd);     \
                int _taken = *_fd;    \
                *_fd = -1;            \
                _taken;               \
        })
#define TAKE_POINTER(pointer)                        \
        ({                                           \
                __typeof__(pointer) *_p = &(pointer); \
                __typeof__(pointer) _taken = *_p;    \
                *_p = NULL;                          \
                _taken;                              \
        })

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define MIN(a, b)                       \
        ({                              \
                __typeof__(a) _a = (a); \
                __typeof__(b) _b = (b); \
                _a < _b ? _a : _b;      \
        })
#define MAX(a, b)                       \
        ({                              \
                __typeof__(a) _a = (a); \
                __typeof__(b) _b = (b); \
                _a > _b ? _a : _b;      \
        })
