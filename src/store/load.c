/* Everything a node has, once, at its start. Every row of the log is read and
 * compared, the ones before the base too: better refused now than by a reader later. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "store/internal.h"

struct load {
        struct store *store;
        const struct store_loader *loader;
        struct database database;
        struct row_meta meta;
        struct row_bounds bounds;
        char reason[ROW_REASON_BYTES];
};

static int corrupt(struct load *load, const char *reason)
{
        (void)snprintf(load->reason, sizeof(load->reason), "%s", reason);
        return SQLITE_CORRUPT;
}

static int load_table(struct load *load, const struct state_table *table)
{
        _cleanup_reset_ sqlite3_stmt *statement = database_statement(&load->database, table->list);
        struct raft_record record;
        const char *key, *wrong;
        int rc;

        if (!statement)
                return sqlite3_extended_errcode(load->database.handle);
        while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
                wrong = row_read_record(statement, table->table, &record) ? load->loader->record(load->loader->context, &record) : "is not one that dlock wrote";
                if (!wrong)
                        continue;
                key = column_text(statement, 0);
                (void)snprintf(load->reason, sizeof(load->reason), "a row of the state %s: table %d, key '%.100s'", wrong, (int)table->table,
                               key && name_is_clean_utf8(key, strlen(key)) ? key : "(not a text)");
                return SQLITE_CORRUPT;
        }
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int load_entry(struct load *load, sqlite3_stmt *statement, uint64_t index)
{
        const struct raft_base *base = &load->meta.base;
        _cleanup_free_ struct raft_entry *entry = NULL;

        entry = row_read_entry(statement, load->store->describe, load->reason);
        if (!entry)
                return SQLITE_CORRUPT;
        if (entry->index != index) {
                (void)snprintf(load->reason, sizeof(load->reason), "log row %llu is missing", (unsigned long long)index);
                return SQLITE_CORRUPT;
        }
        if (index == base->index && entry->term != base->term)
                return corrupt(load, "the log and the state were not written by the same node");
        if (index > base->index && !load->loader->entry(load->loader->context, entry)) {
                (void)snprintf(load->reason, sizeof(load->reason), "log row %llu does not follow from the rows before", (unsigned long long)index);
                return SQLITE_CORRUPT;
        }
        return SQLITE_OK;
}

static int load_log(struct load *load)
{
        _cleanup_reset_ sqlite3_stmt *statement = database_statement(&load->database, STATEMENT_LOG_READ);
        uint64_t index = load->bounds.first;
        int rc;

        if (!statement)
                return sqlite3_extended_errcode(load->database.handle);
        if (load->bounds.first > load->meta.base.index + 1 || load->bounds.last < load->meta.base.index)
                return corrupt(load, "the log does not reach the state");
        (void)bind_u64(statement, 1, index);
        (void)sqlite3_bind_int64(statement, 2, -1);
        while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
                rc = load_entry(load, statement, index++);
                if (rc != SQLITE_OK)
                        return rc;
        }
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static struct store_content content_of(const struct load *load)
{
        return (struct store_content){
                .identity = load->meta.identity,
                .hard = load->meta.hard,
                .base = load->meta.base,
                .log_first = load->bounds.first,
                .log_last = load->bounds.last,
        };
}

static int load_meta(struct load *load)
{
        struct store_content content;
        const char *wrong;
        int rc;

        rc = row_read_meta(&load->database, &load->meta, &load->store->configuration);
        if (rc == SQLITE_CORRUPT && sqlite3_errcode(load->database.handle) != SQLITE_CORRUPT)
                return corrupt(load, "its meta row is not one that dlock wrote");
        if (rc == SQLITE_OK)
                rc = row_read_bounds(&load->database, &load->bounds);
        if (rc != SQLITE_OK || !load->loader->begin)
                return rc;
        content = content_of(load);
        wrong = load->loader->begin(load->loader->context, &content);
        return wrong ? corrupt(load, wrong) : SQLITE_OK;
}

static int load_all(struct load *load)
{
        int rc;

        rc = database_open_reader(&load->database, load->store->path);
        if (rc == SQLITE_OK)
                rc = database_run(&load->database, STATEMENT_BEGIN_READ);
        if (rc == SQLITE_OK)
                rc = load_meta(load);
        for (size_t i = 0; rc == SQLITE_OK && i < STATE_TABLE_COUNT; i++)
                rc = load_table(load, &state_tables[i]);
        if (rc == SQLITE_OK)
                rc = load_log(load);
        return rc;
}

int store_load(struct store *store, const struct store_loader *loader, struct store_content *ret_content, char error[512])
{
        struct load load = { .store = store, .loader = loader };
        char words[256];
        int rc;

        rc = load_all(&load);
        if ((rc & 0xff) == SQLITE_IOERR)
                (void)snprintf(error, 512, "%.150s cannot be read: %s: check the disk and start the node again", store->path,
                               database_explain(&load.database, words, sizeof(words)));
        else if (rc != SQLITE_OK)
                (void)snprintf(error, 512, "%.150s cannot be loaded: %s; restore a backup, or move it away and let this node"
                               " join again as a new one", store->path,
                               *load.reason ? load.reason : database_explain(&load.database, words, sizeof(words)));
        else
                *ret_content = content_of(&load);
        database_rollback(&load.database);
        database_close(&load.database);
        return rc == SQLITE_OK ? 0 : (rc & 0xff) == SQLITE_CORRUPT ? -EBADMSG : -EIO;
}
