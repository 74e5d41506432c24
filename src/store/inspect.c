/* The look before the first write: whose file is this, and is it whole? */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "store/backup.h"
#include "store/schema.h"
#include "store/wal.h"

#define MAGIC "SQLite format 3"

static int refuse(char error[512], int number, const char *format, ...) _printf_(3, 4);
static int refuse(char error[512], int number, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(error, 512, format, arguments);
        va_end(arguments);
        return number;
}

static int refuse_damaged(char error[512], const char *path, const char *how)
{
        return refuse(error, -EBADMSG, "%.180s is damaged (%.120s); it was left as it is: restore a backup, or move it away"
                      " and let this node join again as a new one", path, how);
}

static int refuse_not_a_database(char error[512], const char *path)
{
        return refuse(error, -EBADMSG, "%.180s is not an SQLite database; it was left as it is: restore a backup, or move it away"
                      " and let this node join again as a new one", path);
}

/* 1: a side file with something in it is there. */
static int side_file(const char *path, const char *suffix, char error[512])
{
        _cleanup_free_ char *side = NULL;
        struct stat status;

        if (asprintf(&side, "%s%s", path, suffix) < 0)
                return refuse(error, -ENOMEM, "out of memory");
        if (stat(side, &status) < 0)
                return errno == ENOENT ? 0 : refuse(error, -errno, "%.300s: %s", side, strerrordesc_np(errno));
        return status.st_size > 0;
}

/* The first bytes, before SQLite sees the file; it is synced on the way, because
 * it may be a fresh copy that is still only in memory (P8). */
static int check_header(const char *path, char error[512])
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        char magic[sizeof(MAGIC)];
        struct stat status;
        ssize_t size;

        if (fd < 0)
                return refuse(error, -errno, "%.300s cannot be opened: %s: %s", path, strerrordesc_np(errno), errno == EACCES ? "make the user of this node its owner" : "check the disk");
        if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
                return refuse_not_a_database(error, path);
        if (fsync(fd) < 0)
                return refuse(error, -errno, "%.300s cannot be synced: %s: check the disk", path, strerrordesc_np(errno));
        size = pread(fd, magic, sizeof(magic), 0);
        if (size < 0)
                return refuse(error, -errno, "%.300s cannot be read: %s: check the disk", path, strerrordesc_np(errno));
        if (size != sizeof(magic) || memcmp(magic, MAGIC, sizeof(magic)) != 0)
                return refuse_not_a_database(error, path);
        return 0;
}

/* Before SQLite sees it: what it would take for the end may be damage. */
static int check_wal(const char *path, char error[512])
{
        _cleanup_free_ char *side = NULL;
        _cleanup_close_ int fd = -1;
        uint64_t frame = 0;
        int r;

        if (asprintf(&side, "%s-wal", path) < 0)
                return refuse(error, -ENOMEM, "out of memory");
        fd = open(side, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        r = fd < 0 ? -errno : wal_check(fd, &frame);
        if (r == -EBADMSG)
                return refuse(error, r, "%.180s is damaged at frame %llu, and changes that were acknowledged come after it; it was left as it is:"
                              " restore a backup, or move it and the database away and let this node join again as a new one",
                              side, (unsigned long long)frame);
        return r < 0 ? refuse(error, r, "%.300s cannot be read: %s: check the disk", side, strerrordesc_np(-r)) : 0;
}

static int read_number(struct database *database, const char *sql, int *ret_value)
{
        sqlite3_stmt *statement = NULL;
        int rc;

        rc = sqlite3_prepare_v2(database->handle, sql, -1, &statement, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
                *ret_value = sqlite3_column_int(statement, 0);
        (void)sqlite3_finalize(statement);
        return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* A node's own database, or a backup of one. */
enum wanted { WANT_DATABASE, WANT_BACKUP };

static int check_application(enum wanted wanted, const char *path, int application, char error[512])
{
        if (application == (wanted == WANT_BACKUP ? STORE_BACKUP_APPLICATION_ID : STORE_APPLICATION_ID))
                return 0;
        if (wanted == WANT_BACKUP)
                return refuse(error, -EPERM, "%.180s is not a backup of a node: a file written by \"dlockctl backup\" would be right", path);
        if (application == STORE_BACKUP_APPLICATION_ID)
                return refuse(error, -EPERM, "%.180s is a backup, not a node's database; it was left as it is: move it away, and make a new"
                              " cluster of it with \"dlockd --restore=FILE\"", path);
        return refuse(error, -EPERM, "%.180s belongs to another program: its application id is 0x%08x, not dlock's 0x%08x;"
                      " it was left as it is: correct the state directory", path, (unsigned)application, STORE_APPLICATION_ID);
}

static int check_version(struct database *database, enum wanted wanted, const char *path, int *ret_version, char error[512])
{
        int application = 0, version = 0, r;
        char words[256];

        if (read_number(database, "PRAGMA application_id", &application) != SQLITE_OK ||
            read_number(database, "PRAGMA user_version", &version) != SQLITE_OK)
                return refuse_damaged(error, path, database_explain(database, words, sizeof(words)));
        r = check_application(wanted, path, application, error);
        if (r < 0)
                return r;
        if (version > STORE_SCHEMA_VERSION)
                return refuse(error, -ENOTSUP, "%.180s has schema version %d, this dlockd knows versions up to %d;"
                              " it was left as it is: install the newer dlockd again", path, version, STORE_SCHEMA_VERSION);
        if (version < 1)
                return refuse_damaged(error, path, "no schema version");
        *ret_version = version;
        return 0;
}

static int check_pages(struct database *database, const char *path, char error[512])
{
        static const char heading[] = "*** in database main ***\n";
        sqlite3_stmt *statement = NULL;
        char text[256] = "", *words = text;
        int rc;

        rc = sqlite3_prepare_v2(database->handle, "PRAGMA quick_check(1)", -1, &statement, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
                (void)snprintf(text, sizeof(text), "%s", (const char *)sqlite3_column_text(statement, 0));
        else
                (void)database_explain(database, text, sizeof(text));
        (void)sqlite3_finalize(statement);
        if (strcmp(text, "ok") == 0)
                return 0;
        /* Its words come in lines; the first that says something is enough. */
        if (strncmp(text, heading, strlen(heading)) == 0)
                words += strlen(heading);
        words[strcspn(words, "\n")] = 0;
        return refuse_damaged(error, path, words);
}

static int check_name(struct database *database, const char *path, const char *node_name, char error[512])
{
        _cleanup_reset_ sqlite3_stmt *statement = database_statement(database, STATEMENT_META_READ);
        const char *name = NULL;

        if (statement && sqlite3_step(statement) == SQLITE_ROW)
                name = column_text(statement, 3);
        if (!name)
                return refuse_damaged(error, path, "it does not say whose it is");
        if (strcmp(name, node_name) != 0)
                return refuse(error, -EPERM, "%.180s is the database of node '%.64s', not of '%.64s'; it was left as it is:"
                              " correct the node's name or the state directory", path, name, node_name);
        return 0;
}

/* node_name: whose it must be; NULL: anybody's. */
static int check_content(struct database *database, enum wanted wanted, const char *path, const char *node_name, int *ret_version, char error[512])
{
        char words[256];
        int r;

        r = check_version(database, wanted, path, ret_version, error);
        if (r < 0)
                return r;
        r = check_pages(database, path, error);
        if (r < 0)
                return r;
        if (*ret_version == STORE_SCHEMA_VERSION && database_prepare_all(database) != SQLITE_OK)
                return refuse_damaged(error, path, database_explain(database, words, sizeof(words)));
        return node_name ? check_name(database, path, node_name, error) : 0;
}

int inspect_database(const char *path, const char *node_name, int *ret_version, char error[512])
{
        struct database database = {};
        struct stat status;
        int wal, journal, r;

        /* Its -wal would be elsewhere; and where it leads may not be mounted, which is not the same as an empty directory. */
        if (lstat(path, &status) == 0 && S_ISLNK(status.st_mode))
                return refuse(error, -EBADMSG, "%.180s is a symbolic link; nothing was changed: put the database itself there, or name its directory as [node] directory", path);
        wal = side_file(path, "-wal", error);
        journal = side_file(path, "-journal", error);
        if (wal < 0 || journal < 0)
                return wal < 0 ? wal : journal;
        if (access(path, F_OK) < 0 && errno == ENOENT)
                return wal ? refuse(error, -EBADMSG, "%.180s is missing, but its -wal is there; nothing was changed:"
                                    " put the database back, or move the -wal away to start as a new node", path)
                           : -ENOENT;
        r = check_header(path, error);
        if (r < 0)
                return r;
        if (journal)
                return refuse(error, -EBADMSG, "%.180s has a -journal beside it, left by another program that was interrupted;"
                              " nothing was changed: open it once with sqlite3 to roll that back", path);
        r = wal ? check_wal(path, error) : 0;
        if (r < 0)
                return r;
        r = database_open_look(&database, path, wal) == SQLITE_OK ? 0 : refuse_damaged(error, path, "it cannot be opened");
        if (r == 0)
                r = check_content(&database, WANT_DATABASE, path, node_name, ret_version, error);
        database_close_untouched(&database);
        return r;
}

int inspect_backup(const char *path, const char *name, bool sync, char error[512])
{
        struct database database = {};
        int version, r;

        r = sync ? check_header(path, error) : 0;
        if (r == -EBADMSG)
                return refuse(error, r, "%.300s is not an SQLite database: a file written by \"dlockctl backup\" would be right", name);
        if (r < 0)
                return r;
        r = database_open_look(&database, path, false) == SQLITE_OK ? 0 : refuse_damaged(error, name, "it cannot be opened");
        if (r == 0)
                r = check_content(&database, WANT_BACKUP, name, NULL, &version, error);
        database_close_untouched(&database);
        return r < 0 ? r : version;
}
