#include "store_kit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "store/store.h"

#define NODE "alpha"

char directory[64];
char error[512];

/* --- a place of one's own for every test ------------------------------------------ */

static int remove_one(const char *path, const struct stat *status _unused_, int kind _unused_, struct FTW *walk _unused_)
{
        return remove(path);
}

/* What a test kills is a process, and no power fails: it need not wait for a disk. Seen by this process and its children only. */
static void use_memory(void)
{
        static bool apart;

        apart = apart || (geteuid() == 0 && unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
        if (apart)
                (void)mount("tmpfs", directory, "tmpfs", 0, "mode=0700");
}

void make_directory(void)
{
        (void)strcpy(directory, "/tmp/dlock-test-store-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        use_memory();
        error[0] = 0;
}

void remove_directory(void)
{
        (void)umount2(directory, MNT_DETACH);
        (void)nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

char *path_of(const char *name, char path[128])
{
        (void)snprintf(path, 128, "%s/%.60s", directory, name);
        return path;
}

/* --- toy entries --------------------------------------------------------------------- */

struct raft_entry *entry_new(uint64_t index, uint64_t term, enum raft_entry_kind kind, const char *lock, const char *client, uint64_t token)
{
        struct raft_entry *entry;
        struct bytes body = {};

        if (kind != RAFT_ENTRY_NOOP) {
                bytes_put_text8(&body, lock, strlen(lock));
                bytes_put_text8(&body, client, strlen(client));
                bytes_put_u64(&body, token);
        }
        entry = alloc_zeroed(1, sizeof(*entry) + body.size);
        *entry = (struct raft_entry){ .index = index, .term = term, .kind = kind, .cluster_ms = index * 10,
                                      .wall_ms = 1700000000000 + index, .size = (uint32_t)body.size };
        if (body.size)
                memcpy(entry->body, body.data, body.size);
        bytes_done(&body);
        return entry;
}

bool describe(const struct raft_entry *entry, struct store_columns *ret_columns)
{
        static const char *const kinds[] = { NULL, "noop", "configuration", "address", "client", "preempt", "release" };
        struct bytes_reader reader = bytes_reader_of(entry->body, entry->size);

        *ret_columns = (struct store_columns){ .kind = kinds[entry->kind] };
        if (entry->kind == RAFT_ENTRY_NOOP)
                return entry->size == 0;
        (void)bytes_get_text8(&reader, ret_columns->lock, sizeof(ret_columns->lock));
        (void)bytes_get_text8(&reader, ret_columns->client, sizeof(ret_columns->client));
        ret_columns->token = bytes_get_u64(&reader);
        return bytes_reader_finished(&reader);
}

/* --- what came back ---------------------------------------------------------------- */

static void keep_entries(struct seen *seen, const struct store_event *event)
{
        struct store_columns columns;

        seen->count = event->entry_count;
        seen->log_first = event->log_first;
        for (size_t i = 0; i < event->entry_count; i++) {
                ck_assert(describe(event->entries[i], &columns));
                seen->indices[i] = event->entries[i]->index;
                (void)snprintf(seen->locks[i], sizeof(seen->locks[i]), "%.31s", columns.lock);
        }
}

void keep(void *context, const struct store_event *event)
{
        struct seen *seen = context;

        seen->cookie = event->cookie;
        switch (event->kind) {
        case STORE_PERSISTED:
                ck_assert_uint_gt(event->token, seen->token);
                seen->token = event->token;
                return;
        case STORE_FAILED:
        case STORE_READ_FAILED:
                if (event->kind == STORE_FAILED)
                        seen->failed++;
                else
                        seen->read_failed++;
                (void)snprintf(seen->text, sizeof(seen->text), "%s", event->text);
                return;
        case STORE_LOG:
                seen->logs++;
                keep_entries(seen, event);
                return;
        case STORE_HISTORY:
                seen->histories++;
                seen->looked_until = event->looked_until;
                seen->more = event->more;
                keep_entries(seen, event);
                return;
        case STORE_SNAPSHOT_MADE:
                seen->snapshots++;
                seen->snapshot = event->snapshot;
                seen->total = event->total;
                seen->base = event->base;
                ck_assert_uint_le(event->base.configuration_size, sizeof(seen->configuration));
                if (event->base.configuration_size)
                        memcpy(seen->configuration, event->base.configuration, event->base.configuration_size);
                seen->base.configuration = seen->configuration;
                return;
        case STORE_BACKUP_MADE:
                seen->backups++;
                seen->snapshot = event->snapshot;
                seen->total = event->total;
                seen->log_last = event->log_last;
                return;
        case STORE_SNAPSHOT_CHUNK:
        case STORE_BACKUP_CHUNK:
                seen->chunks++;
                seen->offset = event->offset;
                ck_assert_uint_eq(event->offset, seen->stream.size);
                bytes_put(&seen->stream, event->data, event->size);
                return;
        }
        abort();
}

void wait_for(struct store *store, struct seen *seen, const unsigned *counter, unsigned wanted)
{
        while (*counter < wanted) {
                struct pollfd poll_fd = { .fd = store_fd(store), .events = POLLIN };

                ck_assert_int_eq(poll(&poll_fd, 1, 20000), 1);
                store_process(store, keep, seen);
        }
}

/* --- what is loaded ------------------------------------------------------------------ */

static void add_line(struct loaded *loaded, const char *format, ...) _printf_(2, 3);
static void add_line(struct loaded *loaded, const char *format, ...)
{
        size_t at = strlen(loaded->text);
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(loaded->text + at, sizeof(loaded->text) - at, format, arguments);
        va_end(arguments);
}

const char *load_record(void *context, const struct raft_record *record)
{
        struct loaded *loaded = context;

        loaded->records++;
        add_line(loaded, "%d %s %s %llu %.*s\n", (int)record->table, record->key, record->label, (unsigned long long)record->number,
                 (int)record->body_size, (const char *)record->body);
        return loaded->refuse ? "is not wanted" : NULL;
}

bool load_entry(void *context, const struct raft_entry *entry)
{
        struct loaded *loaded = context;
        struct store_columns columns;

        ck_assert(describe(entry, &columns));
        ck_assert_uint_eq(entry->cluster_ms, entry->index * 10);
        ck_assert_uint_eq(entry->wall_ms, 1700000000000 + entry->index);
        loaded->entries++;
        add_line(loaded, "%llu:%llu %s %s %s %llu\n", (unsigned long long)entry->index, (unsigned long long)entry->term, columns.kind,
                 columns.lock, columns.client, (unsigned long long)columns.token);
        return true;
}

struct store *open_store(void)
{
        struct store *store = NULL;
        int r;

        r = store_open(directory, NODE, describe, &store, error);
        ck_assert_msg(r == 0, "%s", error);
        return store;
}

int load(struct store *store, struct loaded *loaded)
{
        struct store_loader loader = { .context = loaded, .record = load_record, .entry = load_entry };

        loaded->text[0] = 0;
        loaded->entries = loaded->records = 0;
        return store_load(store, &loader, &loaded->content, error);
}

struct store *open_and_load(struct loaded *loaded)
{
        struct store *store = open_store();

        ck_assert_msg(load(store, loaded) == 0, "%s", error);
        return store;
}

/* Entries first..last of a term as preempts of "lock-<index % 3>". Returns the token. */
uint64_t append(struct store *store, uint64_t term, uint64_t first, uint64_t last, const struct store_batch *more)
{
        struct store_batch batch = more ? *more : (struct store_batch){};
        struct raft_entry *entries[4096];
        uint64_t token;
        char lock[32];

        ck_assert_uint_lt(last - first, ARRAY_SIZE(entries));
        for (uint64_t index = first; index <= last; index++) {
                (void)snprintf(lock, sizeof(lock), "lock-%u", (unsigned)(index % 3));
                entries[index - first] = entry_new(index, term, RAFT_ENTRY_PREEMPT, lock, "c1", index);
        }
        batch.entries = (const struct raft_entry *const *)entries;
        batch.entry_count = last - first + 1;
        token = store_write(store, &batch);
        for (size_t i = 0; i < batch.entry_count; i++)
                free(entries[i]);
        return token;
}

struct raft_record record_of(enum raft_table table, const char *key, const char *label, uint64_t number, const char *body)
{
        return (struct raft_record){ .table = table, .key = key, .label = label, .number = number,
                                     .body = (const uint8_t *)body, .body_size = body ? strlen(body) : 0 };
}

struct raft_base base_of(uint64_t index, uint64_t term)
{
        return (struct raft_base){ .index = index, .term = term, .cluster_ms = index * 10, .configuration_index = 1,
                                   .configuration = (const uint8_t *)"members", .configuration_size = 7 };
}

void run_sql(const char *sql)
{
        sqlite3 *handle = NULL;
        char path[128];

        ck_assert_int_eq(sqlite3_open(path_of("dlock.db", path), &handle), SQLITE_OK);
        ck_assert_msg(sqlite3_exec(handle, sql, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(handle));
        ck_assert_int_eq(sqlite3_close(handle), SQLITE_OK);
}

/* Runs in a child that ends without closing: what it wrote stays in the -wal. */
void crash_after(void (*work)(const char *argument), const char *argument)
{
        int status;
        pid_t child = fork();

        ck_assert_int_ge(child, 0);
        if (child == 0) {
                work(argument);
                (void)kill(getpid(), SIGKILL);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

void run_sql_and_leave_it_open(const char *sql)
{
        sqlite3 *handle = NULL;
        char path[128];

        if (sqlite3_open(path_of("dlock.db", path), &handle) != SQLITE_OK || sqlite3_exec(handle, sql, NULL, NULL, NULL) != SQLITE_OK)
                _exit(1);
}

void append_and_leave_it_open(const char *argument _unused_)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        append(store, 1, loaded.content.log_last + 1, loaded.content.log_last + 40, NULL);
        if (store_flush(store) < 0)
                _exit(1);
}

/* Names and contents of all files, one after the other. */
struct bytes picture(void)
{
        struct bytes all = {};
        struct dirent **names;
        int count = scandir(directory, &names, NULL, alphasort);

        ck_assert_int_ge(count, 0);
        for (int i = 0; i < count; i++) {
                char path[128], block[4096];
                FILE *file = names[i]->d_type == DT_REG ? fopen(path_of(names[i]->d_name, path), "re") : NULL;
                size_t n;

                bytes_put_text8(&all, names[i]->d_name, strlen(names[i]->d_name));
                while (file && (n = fread(block, 1, sizeof(block), file)) > 0)
                        bytes_put(&all, block, n);
                if (file)
                        (void)fclose(file);
                free(names[i]);
        }
        free(names);
        return all;
}

void assert_refused(const char *name, int number, const char *words)
{
        struct bytes before = picture(), after;
        struct store *store = NULL;
        int r;

        r = store_open(directory, name, describe, &store, error);
        after = picture();
        ck_assert_msg(r == number, "%d: %s", r, error);
        ck_assert_ptr_null(store);
        ck_assert_msg(strstr(error, words), "'%s' is not in '%s'", words, error);
        ck_assert_msg(strstr(error, directory), "the place is not in '%s'", error);
        ck_assert_uint_eq(before.size, after.size);
        ck_assert_mem_eq(before.data, after.data, before.size);
        bytes_done(&before);
        bytes_done(&after);
}

void make_database(uint64_t entries)
{
        struct loaded loaded = {};
        struct store *store = open_and_load(&loaded);

        if (entries > 0)
                append(store, 1, 1, entries, NULL);
        ck_assert_int_eq(store_flush(store), 0);
        store_close(store);
}

void write_file(const char *name, const void *data, size_t size, off_t offset)
{
        char path[128];
        _cleanup_close_ int fd = open(path_of(name, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(pwrite(fd, data, size, offset), (ssize_t)size);
}

TCase *add_case(Suite *s, const char *name)
{
        TCase *c = tcase_create(name);

        tcase_add_checked_fixture(c, make_directory, remove_directory);
        tcase_set_timeout(c, 120);
        suite_add_tcase(s, c);
        return c;
}
