/* disk.c - a disk that fails on command, for a daemon that runs with LD_PRELOAD=this.
 *
 * It stands between SQLite and the files dlock.db and dlock.db-wal below DISK_DIRECTORY (an environment variable), where it keeps:
 *
 *   control     numbers that the test writes and this library reads, below
 *   undo.0, .1  of the database and of its WAL: what every write since the last sync has overwritten
 *
 * With the undo a test turns the files of a killed process into what a power cut may leave: a write that was
 * synced is there; of those that were not, any may be there, or not, or in part (disk.py). The undo
 * outlives the process, because what a killed process wrote without a sync is still not on the disk when the
 * next process reads it. Every file here is mapped, so that a SIGKILL at any moment leaves it true. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define UNDO_BYTES (UINT64_C(128) << 20)

/* disk.py knows the order. */
struct control {
        _Atomic uint64_t stalled_until_ns;   /* CLOCK_MONOTONIC: no sync returns before */
        _Atomic uint64_t sync_ns;            /* what every sync takes at least */
        _Atomic uint64_t sync_errno;         /* not 0: syncs fail with it, and sync nothing */
        _Atomic uint64_t write_errno;        /* not 0: writes fail with it */
        _Atomic uint64_t lies;               /* not 0: syncs say yes and sync nothing */
        _Atomic uint64_t dies_in;            /* not 0: of so many writes, truncations and syncs the last is the process's end */
        _Atomic uint64_t writes, syncs, ended; /* counted; ended: calls that this library made fail, or the process's end */
};

struct undo {
        _Atomic uint64_t start, end;         /* offsets of the records that count, in this file */
        uint8_t records[];
};

/* Before the bytes that the write found, if any. */
struct record {
        uint64_t offset, size, old_size;     /* size: bytes that follow; old_size: of the whole file, before */
        uint64_t written;                    /* the length of the write; UINT64_MAX: a truncation to offset */
};

#define TRUNCATION UINT64_MAX

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct control *control;
static struct undo *undo[2];
static uint64_t laps[2];                     /* how often an undo was emptied: offsets of before mean nothing then */

static ssize_t (*next_pwrite)(int, const void *, size_t, off64_t);
static ssize_t (*next_write)(int, const void *, size_t);
static int (*next_fdatasync)(int);
static int (*next_fsync)(int);
static int (*next_ftruncate)(int, off64_t);
static int (*next_unlink)(const char *);

/* --- setting up --- */

static void *map(const char *name, uint64_t size)
{
        const char *directory = getenv("DISK_DIRECTORY");
        char path[4096];
        void *memory;
        int fd;

        (void)snprintf(path, sizeof(path), "%s/%s", directory ? directory : ".", name);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || next_ftruncate(fd, (off64_t)size) < 0)
                abort();
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (memory == MAP_FAILED)
                abort();
        (void)close(fd);
        return memory;
}

/* POSIX returns functions as pointers to objects. */
static void find(const char *name, void *ret_function)
{
        void *found = dlsym(RTLD_NEXT, name);

        if (!found)
                abort();
        (void)memcpy(ret_function, &found, sizeof(found));
}

__attribute__((constructor)) static void set_up(void)
{
        find("pwrite64", &next_pwrite);
        find("write", &next_write);
        find("fdatasync", &next_fdatasync);
        find("fsync", &next_fsync);
        find("ftruncate64", &next_ftruncate);
        find("unlink", &next_unlink);
        control = map("control", 4096);
        undo[0] = map("undo.0", UNDO_BYTES);
        undo[1] = map("undo.1", UNDO_BYTES);
        if (undo[0]->end < sizeof(struct undo))
                undo[0]->end = undo[0]->start = sizeof(struct undo);
        if (undo[1]->end < sizeof(struct undo))
                undo[1]->end = undo[1]->start = sizeof(struct undo);
}

/* --- which file --- */

static bool ends_with(const char *path, size_t size, const char *end)
{
        size_t length = strlen(end);

        return size >= length && memcmp(path + size - length, end, length) == 0;
}

static struct undo *undo_of_path(const char *path, size_t size)
{
        if (!control)
                return NULL;
        if (ends_with(path, size, "/dlock.db"))
                return undo[0];
        if (ends_with(path, size, "/dlock.db-wal"))
                return undo[1];
        return NULL;
}

static struct undo *undo_of(int fd)
{
        char link[64], path[4096];
        ssize_t size;

        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        size = readlink(link, path, sizeof(path));
        return size < 0 ? NULL : undo_of_path(path, (size_t)size);
}

/* --- the undo --- */

static void forget(struct undo *file, uint64_t end)
{
        file->start = end;
        if (file->start == file->end) {
                /* In this order a kill in between leaves an end before the start, which is as empty. */
                file->end = sizeof(struct undo);
                file->start = sizeof(struct undo);
                laps[file == undo[1]]++;
        }
}

static void remember(struct undo *file, int fd, uint64_t offset, uint64_t written)
{
        struct record record = { .offset = offset, .written = written };
        struct stat status;
        uint64_t at;

        if (fstat(fd, &status) < 0)
                abort();
        record.old_size = (uint64_t)status.st_size;
        if (offset < record.old_size)
                record.size = written < record.old_size - offset ? written : record.old_size - offset;
        if (file->end < file->start)
                forget(file, file->end);
        at = file->end;
        if (at + sizeof(record) + record.size > UNDO_BYTES)
                abort();
        (void)memcpy((uint8_t *)file + at, &record, sizeof(record));
        if (record.size && pread64(fd, (uint8_t *)file + at + sizeof(record), record.size, (off64_t)offset) != (ssize_t)record.size)
                abort();
        file->end = at + sizeof(record) + record.size;
}

/* --- faults --- */

static void sleep_until(uint64_t end_ns)
{
        struct timespec end = { .tv_sec = (time_t)(end_ns / 1000000000), .tv_nsec = (long)(end_ns % 1000000000) };

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
                ;
}

static uint64_t now_ns(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool dies_now(void)
{
        uint64_t left = control->dies_in;

        /* The test may take it back at the same moment. */
        while (left != 0 && !atomic_compare_exchange_weak(&control->dies_in, &left, left - 1))
                ;
        return left == 1;
}

static void die(void)
{
        control->ended++;
        (void)raise(SIGKILL);
}

/* --- what SQLite calls --- */

static ssize_t write_at(struct undo *file, int fd, const void *data, size_t size, off64_t offset)
{
        ssize_t n;

        (void)pthread_mutex_lock(&mutex);
        remember(file, fd, (uint64_t)offset, size);
        control->writes++;
        if (dies_now()) {
                (void)next_pwrite(fd, data, size / 2, offset);
                die();
        }
        if (control->write_errno) {
                control->ended++;
                errno = (int)control->write_errno;
                n = -1;
        } else {
                n = next_pwrite(fd, data, size, offset);
        }
        (void)pthread_mutex_unlock(&mutex);
        return n;
}

static int sync_file(int (*next)(int), struct undo *file, int fd)
{
        uint64_t begin = now_ns(), end, lap;

        (void)pthread_mutex_lock(&mutex);
        end = file->end;
        lap = laps[file == undo[1]];
        control->syncs++;
        if (dies_now())
                die();
        (void)pthread_mutex_unlock(&mutex);
        if (control->sync_ns)
                sleep_until(begin + control->sync_ns);
        /* The test may lengthen a stall while it lasts, or end it. */
        while (control->stalled_until_ns > now_ns())
                sleep_until(now_ns() + 5000000);
        if (control->sync_errno) {
                control->ended++;
                errno = (int)control->sync_errno;
                return -1;
        }
        if (control->lies)
                return 0;
        if (next(fd) < 0)
                return -1;
        /* What was written since it began is not known to be there. */
        (void)pthread_mutex_lock(&mutex);
        if (lap == laps[file == undo[1]] && file->start < end)
                forget(file, end);
        (void)pthread_mutex_unlock(&mutex);
        return 0;
}

static int truncate_file(struct undo *file, int fd, off64_t size)
{
        int r;

        (void)pthread_mutex_lock(&mutex);
        remember(file, fd, (uint64_t)size, TRUNCATION);
        if (dies_now())
                die();
        r = next_ftruncate(fd, size);
        (void)pthread_mutex_unlock(&mutex);
        return r;
}

#define EXPORT __attribute__((visibility("default")))

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
        struct undo *file = undo_of(fd);

        return file ? write_at(file, fd, data, size, offset) : next_pwrite(fd, data, size, offset);
}

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
        struct undo *file = undo_of(fd);
        off64_t offset;
        ssize_t n;

        if (!file)
                return next_write(fd, data, size);
        offset = lseek64(fd, 0, SEEK_CUR);
        n = write_at(file, fd, data, size, offset);
        if (n > 0)
                (void)lseek64(fd, offset + n, SEEK_SET);
        return n;
}

EXPORT int fdatasync(int fd)
{
        struct undo *file = undo_of(fd);

        return file ? sync_file(next_fdatasync, file, fd) : next_fdatasync(fd);
}

EXPORT int fsync(int fd)
{
        struct undo *file = undo_of(fd);

        return file ? sync_file(next_fsync, file, fd) : next_fsync(fd);
}

EXPORT int ftruncate64(int fd, off64_t size)
{
        struct undo *file = undo_of(fd);

        return file ? truncate_file(file, fd, size) : next_ftruncate(fd, size);
}

/* SQLite takes the WAL away when all of it is in the database and synced there. */
EXPORT int unlink(const char *path)
{
        struct undo *file = undo_of_path(path, strlen(path));

        if (file) {
                (void)pthread_mutex_lock(&mutex);
                forget(file, file->end);
                (void)pthread_mutex_unlock(&mutex);
        }
        return next_unlink(path);
}
