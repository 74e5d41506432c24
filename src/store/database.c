#include "store/database.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* How long a commit waits for somebody with sqlite3 in hand who holds a write lock. */
#define BUSY_MS 10000

/* Page caches: the working set of a writer is the log's tail and the pages of
 * the records of one batch; everything else is the kernel's cache anyway. */
#define WRITER_CACHE_KIB 1024
#define READER_CACHE_KIB 256

/* A WAL that one slow reader made long is cut again when it starts over. Larger
 * than the length at which it normally starts over: overwriting is cheaper than growing. */
#define WAL_KEPT_BYTES (16 * 1024 * 1024)

static int set_up(struct database *database, const char *pragmas)
{
        int rc;

        rc = sqlite3_busy_timeout(database->handle, BUSY_MS);
        /* The file may be anybody's work: nothing in it is run as code. */
        if (rc == SQLITE_OK)
                rc = sqlite3_db_config(database->handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_db_config(database->handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_db_config(database->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_exec(database->handle, pragmas, NULL, NULL, NULL);
        return rc;
}

/* Nobody asks how much memory SQLite uses, and counting takes a lock of all threads at every allocation. */
static void count_no_memory(void)
{
        (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

static int open_and_set_up(struct database *database, const char *path, int flags, const char *vfs, const char *pragmas)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        int rc;

        (void)pthread_once(&once, count_no_memory);
        rc = sqlite3_open_v2(path, &database->handle, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, vfs);
        if (rc != SQLITE_OK)
                return rc;
        return set_up(database, pragmas);
}

int database_open_writer(struct database *database, const char *path, bool create)
{
        char pragmas[512];

        /* auto_vacuum stays off: pages of trimmed rows are used again by the rows that
         * follow, and pointer maps would add a page to most commits. */
        (void)snprintf(pragmas, sizeof(pragmas),
                       "PRAGMA page_size = %d; PRAGMA auto_vacuum = NONE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                       " PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = %d; PRAGMA cache_size = -%d;"
                       " PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF",
                       DATABASE_PAGE_BYTES, WAL_KEPT_BYTES, WRITER_CACHE_KIB);
        return open_and_set_up(database, path, SQLITE_OPEN_READWRITE | (create ? SQLITE_OPEN_CREATE : 0), NULL, pragmas);
}

int database_open_checkpointer(struct database *database, const char *path)
{
        return open_and_set_up(database, path, SQLITE_OPEN_READWRITE, NULL,
                               "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -16; PRAGMA mmap_size = 0");
}

int database_open_reader(struct database *database, const char *path)
{
        char pragmas[128];

        (void)snprintf(pragmas, sizeof(pragmas), "PRAGMA query_only = ON; PRAGMA mmap_size = 0; PRAGMA cache_size = -%d", READER_CACHE_KIB);
        return open_and_set_up(database, path, SQLITE_OPEN_READONLY, NULL, pragmas);
}

int database_open_copy(struct database *database, const char *path)
{
        return open_and_set_up(database, path, SQLITE_OPEN_READWRITE, NULL,
                               "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -256; PRAGMA mmap_size = 0");
}

/* "file:" with everything escaped that means something in a URI. */
static void put_uri(struct bytes *uri, const char *path)
{
        static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-";
        char escaped[4];

        bytes_put(uri, "file:", 5);
        for (const char *at = path; *at; at++) {
                if (strchr(plain, *at)) {
                        bytes_put(uri, at, 1);
                        continue;
                }
                (void)snprintf(escaped, sizeof(escaped), "%%%02X", (unsigned)(unsigned char)*at);
                bytes_put(uri, escaped, 3);
        }
        bytes_put(uri, "?immutable=1", sizeof("?immutable=1"));
}

/* A file without a WAL is looked at as immutable: no lock, no other file. One with
 * a WAL must be seen through it. Then a VFS that takes no locks, together with the
 * exclusive mode that keeps the WAL's index in memory instead of in -shm, reads
 * both files and writes none; only the checkpoint at the close must be forbidden. */
int database_open_look(struct database *database, const char *path, bool wal_is_there)
{
        struct bytes uri = {};
        int rc;

        if (wal_is_there)
                return open_and_set_up(database, path, SQLITE_OPEN_READONLY, "unix-none",
                                       "PRAGMA locking_mode = EXCLUSIVE; PRAGMA mmap_size = 0; PRAGMA query_only = ON");
        put_uri(&uri, path);
        rc = open_and_set_up(database, (const char *)uri.data, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL,
                             "PRAGMA mmap_size = 0; PRAGMA query_only = ON");
        bytes_done(&uri);
        return rc;
}

void database_close(struct database *database)
{
        for (size_t i = 0; i < STATEMENT_COUNT; i++)
                sqlite3_finalize(database->statements[i]);
        (void)sqlite3_close(database->handle);
        *database = (struct database){};
}

void database_close_untouched(struct database *database)
{
        int yes = 1;

        if (database->handle) {
                (void)sqlite3_db_config(database->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
                (void)sqlite3_file_control(database->handle, NULL, SQLITE_FCNTL_PERSIST_WAL, &yes);
        }
        database_close(database);
}

sqlite3_stmt *database_statement(struct database *database, enum statement which)
{
        sqlite3_stmt **statement = &database->statements[which];

        if (!*statement)
                (void)sqlite3_prepare_v3(database->handle, statement_texts[which], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
        return *statement;
}

int database_prepare_all(struct database *database)
{
        for (enum statement which = 0; which < STATEMENT_COUNT; which++)
                if (!database_statement(database, which))
                        return sqlite3_extended_errcode(database->handle);
        return SQLITE_OK;
}

int database_run(struct database *database, enum statement which)
{
        sqlite3_stmt *statement = database_statement(database, which);
        int rc;

        if (!statement)
                return sqlite3_extended_errcode(database->handle);
        errno = 0;
        rc = sqlite3_step(statement);
        /* SQLite keeps the system's number of some failures, but not of a failed commit. */
        if (rc != SQLITE_DONE)
                database->error_number = errno;
        database_reset(statement);
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

void database_reset(sqlite3_stmt *statement)
{
        if (!statement)
                return;
        (void)sqlite3_reset(statement);
        (void)sqlite3_clear_bindings(statement);
}

void database_rollback(struct database *database)
{
        if (database->handle && !sqlite3_get_autocommit(database->handle))
                (void)database_run(database, STATEMENT_ROLLBACK);
}

int database_error_number(struct database *database)
{
        int number = database->handle ? sqlite3_system_errno(database->handle) : 0;

        return number ? number : database->error_number;
}

char *database_explain(struct database *database, char *buffer, size_t size)
{
        int number = database_error_number(database);

        if (!database->handle)
                (void)snprintf(buffer, size, "out of memory");
        else if (number)
                (void)snprintf(buffer, size, "%s (%s)", sqlite3_errmsg(database->handle), strerrordesc_np(number));
        else
                (void)snprintf(buffer, size, "%s", sqlite3_errmsg(database->handle));
        return buffer;
}

const char *column_text(sqlite3_stmt *statement, int column)
{
        const char *text = (const char *)sqlite3_column_text(statement, column);

        if (!text || strlen(text) != (size_t)sqlite3_column_bytes(statement, column))
                return NULL;
        return text;
}
