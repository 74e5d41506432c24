/* fence.c - the other half of a fencing token: a resource that refuses who comes too late.
 *
 * The highest token that was accepted stands in a file beside the resource, twenty digits and a newline, written in place:
 * less than a sector, so that a power cut leaves the old number or the new one. Who was accepted keeps the file locked until
 * its descriptor is closed, so that a check and the write that it is for are one.
 *
 * The idea, that the resource must check since no lock service can: M. Burrows, The Chubby lock service, section 2.4 (2006);
 * M. Kleppmann, How to do distributed locking (2016). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "dlock.h"

#define DIGITS 20
#define FILE_BYTES_MAX 64

/* What the file says; 0 for one that is new. -EBADMSG: it is something else. */
static int read_highest(int fd, uint64_t *ret_highest)
{
        char text[FILE_BYTES_MAX + 1];
        struct stat status;
        ssize_t size;

        if (fstat(fd, &status) < 0)
                return -errno;
        if (!S_ISREG(status.st_mode))
                return -EBADMSG;
        size = pread(fd, text, sizeof(text), 0);
        if (size < 0)
                return -errno;
        if (size == sizeof(text))
                return -EBADMSG;
        *ret_highest = 0;
        /* Made, and then the power failed: there are no bytes, or empty ones. */
        for (ssize_t i = 0; i < size && text[i] == 0; i++)
                if (i == size - 1)
                        return 0;
        text[size] = 0;
        if (size > 0 && text[size - 1] == '\n')
                text[--size] = 0;
        return size == 0 || (strlen(text) == (size_t)size && parse_u64(text, ret_highest)) ? 0 : -EBADMSG;
}

static int write_highest(int fd, uint64_t token)
{
        char text[DIGITS + 2];
        int size = snprintf(text, sizeof(text), "%0*" PRIu64 "\n", DIGITS, token);
        ssize_t written = pwrite(fd, text, (size_t)size, 0);

        if (written < 0)
                return -errno;
        if (written < size)
                return -ENOSPC;
        /* Before anything is done that relies on it. */
        return fdatasync(fd) < 0 ? -errno : 0;
}

/* A file that is new is there after a power cut, too. */
static int sync_directory(const char *file)
{
        _cleanup_free_ char *copy = strdup(file);
        _cleanup_close_ int fd = -1;
        char *slash = copy ? strrchr(copy, '/') : NULL;

        if (!copy)
                return -ENOMEM;
        if (slash)
                slash[slash == copy ? 1 : 0] = 0;
        fd = open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

static int lock_file(int fd, bool wait)
{
        int r;

        do
                r = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
        while (r < 0 && errno == EINTR && wait);
        return r < 0 ? -errno : 0;
}

int dlock_fence(const char *file, uint64_t token, int wait, uint64_t *ret_highest)
{
        _cleanup_close_ int fd = -1;
        uint64_t highest = 0;
        int r;

        if (!file || !*file || token == 0)
                return -EINVAL;
        fd = open(file, O_RDWR | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 && errno == ENOENT)
                fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
        if (fd < 0)
                return -errno;
        r = lock_file(fd, wait);
        if (r == 0)
                r = read_highest(fd, &highest);
        if (r < 0)
                return r;
        if (ret_highest)
                *ret_highest = highest;
        if (token < highest)
                return -ESTALE;
        if (token > highest) {
                r = write_highest(fd, token);
                if (r == 0 && highest == 0)
                        r = sync_directory(file);
        }
        return r < 0 ? r : TAKE_FD(fd);
}
