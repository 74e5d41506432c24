/* A database that was another's, or is to be another one: opened from a copy, or
 * copied before it changes. All here runs with no node on the directory. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "store/backup.h"
#include "store/internal.h"
#include "store/schema.h"

#define COPY_BYTES 65536

static int say_file(char error[512], int number, const char *path, const char *what)
{
        (void)snprintf(error, 512, "%.300s cannot be %s: %s", path, what, strerrordesc_np(-number));
        return number;
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = write(fd, data + done, size - done);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0)
                        done += (size_t)n;
        }
        return 0;
}

static int copy_file(int from, const char *from_name, const char *path, char error[512])
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        uint8_t data[COPY_BYTES];
        off_t at = 0;
        ssize_t n;
        int r;

        if (fd < 0)
                return say_file(error, -errno, path, "made");
        while ((n = pread(from, data, sizeof(data), at)) > 0) {
                r = write_all(fd, data, (size_t)n);
                if (r < 0)
                        return say_file(error, r, path, "written");
                at += n;
        }
        return n < 0 ? say_file(error, -errno, from_name, "read") : 0;
}

/* 0: the directory holds no database, nor a part of one. */
static int check_empty(const struct store *store, char error[512])
{
        static const char *const names[] = { "dlock.db", "dlock.db-wal", "dlock.db-journal" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (faccessat(store->directory_fd, names[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
                        (void)snprintf(error, 512, "%.300s/%s is there: a restore wants a state directory without a database: move that away first",
                                       store->directory, names[i]);
                        return -EEXIST;
                }
        return 0;
}

static int open_copy(struct store *store, int fd, const char *from, char error[512])
{
        int r;

        r = store_lock_directory(store, error);
        if (r == 0)
                r = check_empty(store, error);
        if (r < 0)
                return r;
        store_remove_unfinished(store);
        r = copy_file(fd, from, store->path, error);
        if (r == 0)
                r = inspect_backup(store->path, from, true, error);
        if (r < 0)
                return r;
        return store_start(store, r, error);
}

int store_restore_open(const char *directory, const char *node_name, int fd, const char *from, store_describe describe,
                       struct store **ret_store, char error[512])
{
        struct store *store = store_new(directory, "dlock.db.new", describe);
        int r;

        assert(strlen(node_name) <= LIMIT_NODE_NAME_BYTES);
        r = open_copy(store, fd, from, error);
        if (r < 0) {
                if (store->directory_fd >= 0 && r != -EEXIST && r != -EBUSY)
                        store_remove_unfinished(store);
                store_close(store);
                return r;
        }
        *ret_store = store;
        return 0;
}

/* Under its own name last of all: a crash before leaves no database, after it the whole. */
static int put_in_place(int directory_fd, const char *directory, char error[512])
{
        _cleanup_close_ int fd = openat(directory_fd, "dlock.db.new", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0 || fsync(fd) < 0)
                return say_file(error, -errno, directory, "written to");
        if (renameat(directory_fd, "dlock.db.new", directory_fd, "dlock.db") < 0 || fsync(directory_fd) < 0)
                return say_file(error, -errno, directory, "written to");
        return 0;
}

int store_restore_close(struct store *store, bool in_place, char error[512])
{
        _cleanup_free_ char *directory = alloc_text(store->directory, strlen(store->directory));
        /* The same open file: the lock is held until this one is closed too. */
        _cleanup_close_ int directory_fd = fcntl(store->directory_fd, F_DUPFD_CLOEXEC, 3);
        bool failed = store_flush(store) < 0;
        int r = 0;

        store_close(store);
        if (directory_fd < 0)
                return say_file(error, -errno, directory, "written to");
        if (in_place && !failed)
                r = put_in_place(directory_fd, directory, error);
        if (!in_place || failed || r < 0) {
                (void)unlinkat(directory_fd, "dlock.db.new", 0);
                (void)unlinkat(directory_fd, "dlock.db.new-wal", 0);
                (void)unlinkat(directory_fd, "dlock.db.new-shm", 0);
        }
        return failed ? -EIO : r;
}

int store_keep_copy(struct store *store, const char *name, char error[512])
{
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;
        uint64_t last;
        int r;

        if (asprintf(&path, "%s/dlock.db.new", store->directory) < 0)
                return -ENOMEM;
        store_remove_unfinished(store);
        r = backup_copy(store, path, &last, error);
        if (r < 0)
                return r;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fsync(fd) < 0)
                return say_file(error, -errno, path, "written");
        if (renameat2(store->directory_fd, "dlock.db.new", store->directory_fd, name, RENAME_NOREPLACE) < 0 || fsync(store->directory_fd) < 0)
                return say_file(error, -errno, path, "kept");
        return 0;
}
