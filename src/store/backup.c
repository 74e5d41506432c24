/* Backups: the database copied page by page as of one moment. The copy is what the
 * source must be read for; looking it over and streaming it needs the source no more. */
#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/alloc.h"
#include "store/internal.h"
#include "store/schema.h"

/* 4 MiB between two looks at whether the store is being closed. */
#define STEP_PAGES 1024

/* Where the header of an SQLite file has what is changed in a copy (https://sqlite.org/fileformat2.html, 1.3). */
#define HEADER_VERSIONS 18
#define HEADER_APPLICATION_ID 68

/* What a node at work may write while a backup of it is there. */
#define ROOM_LEFT_BYTES (32 * 1024 * 1024)

static int say(char error[512], int number, const char *format, ...) _printf_(3, 4);
static int say(char error[512], int number, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(error, 512, format, arguments);
        va_end(arguments);
        return number;
}

static int say_database(char error[512], const char *what, struct database *database)
{
        char words[256];

        return say(error, database_error_number(database) == ENOSPC ? -ENOSPC : -EIO, "%.200s: %s", what,
                   database_explain(database, words, sizeof(words)));
}

/* --- copying ------------------------------------------------------------------------ */

/* The steps see one moment: the source's read transaction spans them. */
static int copy_pages(struct store *store, struct database *target, struct database *source)
{
        sqlite3_backup *backup = sqlite3_backup_init(target->handle, "main", source->handle, "main");
        int rc = SQLITE_OK;

        if (!backup)
                return sqlite3_extended_errcode(target->handle);
        while (rc == SQLITE_OK && !store->closing)
                rc = sqlite3_backup_step(backup, STEP_PAGES);
        (void)sqlite3_backup_finish(backup);
        return rc == SQLITE_DONE ? SQLITE_OK : rc == SQLITE_OK ? SQLITE_ABORT : rc;
}

static int copy_between(struct store *store, struct database *source, const char *path, uint64_t *ret_last, char error[512])
{
        struct database target = {};
        struct row_bounds bounds;
        int rc, r = 0;

        rc = database_run(source, STATEMENT_BEGIN_READ);
        if (rc == SQLITE_OK)
                rc = row_read_bounds(source, &bounds);
        if (rc != SQLITE_OK)
                return say_database(error, store->path, source);
        rc = database_open_copy(&target, path);
        if (rc == SQLITE_OK)
                rc = copy_pages(store, &target, source);
        if (rc == SQLITE_ABORT)
                r = say(error, -ECANCELED, "the node is stopping");
        else if (rc != SQLITE_OK)
                r = say_database(error, path, &target);
        database_close(&target);
        if (r == 0)
                *ret_last = bounds.last;
        return r;
}

int backup_copy(struct store *store, const char *target, uint64_t *ret_last, char error[512])
{
        /* Made here and not by SQLite: nobody else may read it for a moment either. */
        _cleanup_close_ int fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        struct database source = {};
        int r;

        if (fd < 0)
                return say(error, -errno, "%.300s cannot be made: %s", target, strerrordesc_np(errno));
        if (database_open_reader(&source, store->path) == SQLITE_OK)
                r = copy_between(store, &source, target, ret_last, error);
        else
                r = say_database(error, store->path, &source);
        database_rollback(&source);
        database_close(&source);
        return r;
}

/* Not a node's database any more, and a file that needs no others beside it. */
static int mark(int fd)
{
        static const uint8_t versions[] = { 1, 1 };
        static const uint8_t application[] = { STORE_BACKUP_APPLICATION_ID >> 24 & 0xff, STORE_BACKUP_APPLICATION_ID >> 16 & 0xff,
                                               STORE_BACKUP_APPLICATION_ID >> 8 & 0xff, STORE_BACKUP_APPLICATION_ID & 0xff };

        errno = EIO;                         /* for a short write */
        if (pwrite(fd, versions, sizeof(versions), HEADER_VERSIONS) != sizeof(versions) ||
            pwrite(fd, application, sizeof(application), HEADER_APPLICATION_ID) != sizeof(application))
                return -errno;
        return 0;
}

/* A disk that a backup filled would stop the node: it is not begun without room for it and some more. */
static int check_room(const struct store *store, char error[512])
{
        struct statvfs room;
        struct stat database = { 0 }, wal = { 0 };
        uint64_t needed;

        (void)fstatat(store->directory_fd, "dlock.db", &database, 0);
        (void)fstatat(store->directory_fd, "dlock.db-wal", &wal, 0);
        needed = (uint64_t)database.st_size + (uint64_t)wal.st_size + ROOM_LEFT_BYTES;
        if (fstatvfs(store->directory_fd, &room) < 0 || (uint64_t)room.f_bavail * room.f_frsize >= needed)
                return 0;
        return say(error, -ENOSPC, "%.300s has too little room, %llu MiB would do", store->directory, (unsigned long long)(needed >> 20) + 1);
}

/* --- making one ---------------------------------------------------------------------- */

static int finish_copy(const char *path, struct spool *spool, char error[512])
{
        off_t size;
        int r;

        spool->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (spool->fd < 0)
                return say(error, -errno, "%.300s: %s", path, strerrordesc_np(errno));
        r = mark(spool->fd);
        size = lseek(spool->fd, 0, SEEK_END);
        if (r < 0 || size < 0)
                return say(error, -EIO, "%.300s: %s", path, strerrordesc_np(r < 0 ? -r : errno));
        spool->total = (uint64_t)size;
        return inspect_backup(path, path, false, error);
}

static int make(struct store *store, struct spool *spool, uint64_t *ret_last, char error[512])
{
        _cleanup_free_ char *path = NULL;
        int r;

        if (asprintf(&path, "%s/dlock.db.backup", store->directory) < 0)
                return say(error, -ENOMEM, "out of memory");
        (void)unlink(path);                  /* a killed process may have left one */
        r = check_room(store, error);
        if (r == 0)
                r = backup_copy(store, path, ret_last, error);
        if (r == 0)
                r = finish_copy(path, spool, error);
        (void)unlink(path);
        return r;
}

static void answer_make(struct store *store, const struct read_job *job)
{
        struct spool *spool = alloc_zeroed(1, sizeof(*spool));
        struct event *event;
        char error[512];
        uint64_t last;
        int r;

        spool->fd = -1;
        r = make(store, spool, &last, error);
        if (r < 0) {
                spool_free(spool);
                event_post_text(store, STORE_READ_FAILED, job->cookie, "a backup cannot be made: %s%s", error, r == -ENOSPC ? ": make room there" : "");
                return;
        }
        spool->id = ++store->backups.last_id;
        SLIST_INSERT_HEAD(&store->backups.spools, spool, next);
        event = event_new(STORE_BACKUP_MADE, job->cookie);
        event->event.snapshot = spool->id;
        event->event.total = spool->total;
        event->event.log_last = last;
        event_post(store, event);
}

/* --- reading one --------------------------------------------------------------------- */

static void answer_read(struct store *store, const struct read_job *job)
{
        const struct spool *spool = spool_find(&store->backups.spools, job->snapshot);
        struct event *event = event_new(STORE_BACKUP_CHUNK, job->cookie);
        int r = spool && job->from <= spool->total ? 0 : -EINVAL;

        event->event.snapshot = job->snapshot;
        event->event.offset = job->from;
        if (r == 0) {
                event->event.total = spool->total;
                r = spool_read(spool, &event->data, job->from, (size_t)MIN((uint64_t)job->bytes_max, spool->total - job->from));
        }
        if (r == 0) {
                event_post(store, event);
                return;
        }
        event_free(event);
        event_post_text(store, STORE_READ_FAILED, job->cookie, "a backup cannot be read at %llu: %s", (unsigned long long)job->from, strerrordesc_np(-r));
}

static void drop(struct store *store, uint64_t id)
{
        struct spool *spool = spool_find(&store->backups.spools, id);

        if (!spool)
                return;
        SLIST_REMOVE(&store->backups.spools, spool, spool, next);
        spool_free(spool);
}

static void answer(struct store *store, const struct read_job *job)
{
        switch (job->kind) {
        case READ_BACKUP_MAKE:
                answer_make(store, job);
                return;
        case READ_BACKUP_CHUNK:
                answer_read(store, job);
                return;
        case READ_BACKUP_DROP:
                drop(store, job->snapshot);
                return;
        case READ_LOG:
        case READ_SNAPSHOT_MAKE:
        case READ_SNAPSHOT_CHUNK:
        case READ_SNAPSHOT_DROP:
        case READ_HISTORY:
                break;
        }
        abort();
}

void backup_run(void *context, struct job_list *jobs)
{
        read_jobs_run(context, jobs, answer);
}
