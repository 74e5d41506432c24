#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

static int file_failed(const char *path, const char *what)
{
        return tool_fail(EXIT_USAGE, "%s cannot be %s: %s", path, what, strerror(errno));
}

/* An earlier one that was interrupted is written anew; somebody else's, or one that is being written, is left alone. */
static int open_alone(struct target *target)
{
        struct stat opened, named;

        if (asprintf(&target->unfinished, "%s.tmp", target->path) < 0)
                return tool_fail(EXIT_USAGE, "out of memory");
        target->fd = open(target->unfinished, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
        if (target->fd < 0)
                return file_failed(target->unfinished, "made");
        if (fstat(target->fd, &opened) < 0 || !S_ISREG(opened.st_mode) || opened.st_uid != geteuid() || opened.st_nlink > 1)
                return tool_fail(EXIT_USAGE, "%s is there, and not a file of yours: another FILE would be right", target->unfinished);
        if (flock(target->fd, LOCK_EX | LOCK_NB) < 0 || lstat(target->unfinished, &named) < 0 || named.st_ino != opened.st_ino)
                return tool_fail(EXIT_USAGE, "%s is being written by another dlockctl", target->unfinished);
        target->named = target->locked = true;
        if (fchmod(target->fd, 0600) < 0 || ftruncate(target->fd, 0) < 0)
                return file_failed(target->unfinished, "written");
        return 0;
}

static char *directory_of(const char *path)
{
        const char *slash = strrchr(path, '/');

        return !slash ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

/* Without a name where the file system can do that: who is killed leaves nothing behind. */
static int open_among_others(struct target *target)
{
        char *directory = directory_of(target->path);

        if (directory)
                target->fd = open(directory, O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
        free(directory);
        if (asprintf(&target->unfinished, "%s.XXXXXX", target->path) < 0)
                return tool_fail(EXIT_USAGE, "out of memory");
        if (target->fd >= 0)
                return 0;
        target->fd = mkostemp(target->unfinished, O_CLOEXEC);
        if (target->fd < 0)
                return file_failed(target->path, "written beside");
        target->named = true;
        return 0;
}

int target_begin(struct target *target, const char *path, enum target_kind kind)
{
        struct stat status;

        *target = (struct target){ .path = path, .fd = -1, .kind = kind };
        if (!*path || path[strlen(path) - 1] == '/')
                return tool_fail(EXIT_USAGE, "'%s' names no file; the path of one would be right", path);
        if (lstat(path, &status) == 0 && !S_ISREG(status.st_mode))
                return tool_fail(EXIT_USAGE, "%s is not a file; another path would be right", path);
        if (lstat(path, &status) == 0 && kind == TARGET_NEW)
                return tool_fail(EXIT_USAGE, "%s is there already; another FILE, or --force, would be right", path);
        return kind == TARGET_SHARED ? open_among_others(target) : open_alone(target);
}

int target_write(struct target *target, const char *data, size_t size)
{
        while (size > 0) {
                ssize_t n = write(target->fd, data, size);

                if (n < 0 && errno != EINTR)
                        return file_failed(target->unfinished, "written");
                if (n > 0) {
                        data += n;
                        size -= (size_t)n;
                        target->written += (uint64_t)n;
                }
        }
        return 0;
}

static int put_in_place(const struct target *target)
{
        if (target->kind == TARGET_NEW) {
                if (renameat2(AT_FDCWD, target->unfinished, AT_FDCWD, target->path, RENAME_NOREPLACE) == 0)
                        return 0;
                /* A file system that cannot say no to a replacement. */
                if (errno != EINVAL && errno != ENOSYS)
                        return -1;
        }
        return rename(target->unfinished, target->path);
}

static int sync_directory(const char *path)
{
        char *directory = directory_of(path);
        int fd = directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, r = fd < 0 ? -1 : fsync(fd);

        /* Some file systems have nothing to sync there. */
        if (r < 0 && errno == EINVAL)
                r = 0;
        if (fd >= 0)
                (void)close(fd);
        free(directory);
        return r;
}

/* A name that nobody has, for as long as it takes to rename it. */
static int give_name(struct target *target)
{
        char here[64];
        int fd = mkostemp(target->unfinished, O_CLOEXEC);

        if (fd < 0)
                return -1;
        (void)close(fd);
        target->named = true;
        (void)snprintf(here, sizeof(here), "/proc/self/fd/%d", target->fd);
        if (unlink(target->unfinished) < 0)
                return -1;
        return linkat(AT_FDCWD, here, AT_FDCWD, target->unfinished, AT_SYMLINK_FOLLOW);
}

int target_sync(struct target *target)
{
        return fsync(target->fd) < 0 ? file_failed(target->unfinished, "written") : 0;
}

static void make_public(const struct target *target)
{
        struct stat before;
        mode_t mask = umask(0);

        (void)umask(mask);
        if (lstat(target->path, &before) != 0)
                before = (struct stat){ .st_mode = 0666 & ~mask, .st_uid = geteuid(), .st_gid = getegid() };
        /* Who may not give a file away keeps it. */
        (void)!fchown(target->fd, before.st_uid, before.st_gid);
        (void)fchmod(target->fd, before.st_mode & 0777);
}

int target_finish(struct target *target)
{
        if (target->kind == TARGET_SHARED)
                make_public(target);
        if (target_sync(target) != 0)
                return EXIT_USAGE;
        if (!target->named && give_name(target) < 0)
                return file_failed(target->path, "put in place");
        if (put_in_place(target) < 0 || sync_directory(target->path) < 0)
                return file_failed(target->path, "put in place");
        free(target->unfinished);
        target->unfinished = NULL;
        return 0;
}

void target_end(struct target *target)
{
        if (target->unfinished && target->named && (target->locked || target->kind == TARGET_SHARED))
                (void)unlink(target->unfinished);
        if (target->fd >= 0)
                (void)close(target->fd);
        free(target->unfinished);
        *target = (struct target){ .fd = -1 };
}
