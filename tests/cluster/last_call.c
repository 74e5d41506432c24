/* last_call.c - the end of a process at any of its changes of a file, for one that runs with LD_PRELOAD=this.
 *
 * LAST_CALL=n in its environment: the n-th write, sync, truncation, renaming or removal is not made any more; SIGKILL comes instead. */
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

static atomic_long calls;

static void count(void)
{
        const char *last = getenv("LAST_CALL");

        if (last && atomic_fetch_add(&calls, 1) + 1 == atol(last))
                (void)raise(SIGKILL);
}

/* POSIX returns functions as pointers to objects. */
static void find(const char *name, void *ret_function)
{
        void *found = dlsym(RTLD_NEXT, name);

        if (!found)
                abort();
        (void)memcpy(ret_function, &found, sizeof(found));
}

#define COUNTED(type, name, parameters, arguments)                       \
        __attribute__((visibility("default"))) type name parameters;     \
        type name parameters                                             \
        {                                                                \
                type(*next) parameters;                                  \
                                                                         \
                find(#name, &next);                                      \
                count();                                                 \
                return next arguments;                                   \
        }

COUNTED(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
COUNTED(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t offset), (fd, data, size, offset))
COUNTED(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t offset), (fd, data, size, offset))
COUNTED(int, fsync, (int fd), (fd))
COUNTED(int, fdatasync, (int fd), (fd))
COUNTED(int, ftruncate, (int fd, off_t size), (fd, size))
COUNTED(int, ftruncate64, (int fd, off64_t size), (fd, size))
COUNTED(int, rename, (const char *from, const char *to), (from, to))
COUNTED(int, renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to))
COUNTED(int, renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags), (from_fd, from, to_fd, to, flags))
COUNTED(int, unlink, (const char *path), (path))
COUNTED(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
