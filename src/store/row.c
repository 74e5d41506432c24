#include "store/row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define LABEL_BYTES_MAX 512
#define KEY_BYTES_MAX 255

static bool kind_of_text(const char *text, enum raft_entry_kind *ret_kind)
{
        for (unsigned kind = RAFT_ENTRY_NOOP; kind <= UINT8_MAX; kind++) {
                const char *name = raft_entry_kind_name((enum raft_entry_kind)kind);

                if (name && strcmp(text, name) == 0) {
                        *ret_kind = (enum raft_entry_kind)kind;
                        return true;
                }
        }
        return false;
}

static bool describe_entry(const struct raft_entry *entry, store_describe describe, struct store_columns *ret_columns)
{
        const char *kind = raft_entry_kind_name(entry->kind);

        *ret_columns = (struct store_columns){ .kind = kind };
        return kind && describe(entry, ret_columns) && ret_columns->kind && strcmp(ret_columns->kind, kind) == 0;
}

static int bind_text_or_null(sqlite3_stmt *statement, int place, const char *text)
{
        return *text ? sqlite3_bind_text(statement, place, text, -1, SQLITE_STATIC) : sqlite3_bind_null(statement, place);
}

bool row_bind_entry(sqlite3_stmt *statement, const struct raft_entry *entry, store_describe describe, struct store_columns *columns)
{
        if (!describe_entry(entry, describe, columns))
                return false;
        (void)bind_u64(statement, 1, entry->index);
        (void)bind_u64(statement, 2, entry->term);
        (void)sqlite3_bind_text(statement, 3, raft_entry_kind_name(entry->kind), -1, SQLITE_STATIC);
        (void)bind_text_or_null(statement, 4, columns->lock);
        (void)bind_text_or_null(statement, 5, columns->client);
        if (columns->token)
                (void)bind_u64(statement, 6, columns->token);
        (void)bind_u64(statement, 7, entry->cluster_ms);
        (void)bind_u64(statement, 8, entry->wall_ms);
        (void)sqlite3_bind_blob(statement, 9, entry->body, (int)entry->size, SQLITE_STATIC);
        return true;
}

static bool column_is(sqlite3_stmt *statement, int column, const char *wanted)
{
        const char *text;

        if (sqlite3_column_type(statement, column) == SQLITE_NULL)
                return !*wanted;
        text = column_text(statement, column);
        return text && *wanted && strcmp(text, wanted) == 0;
}

/* What people read in the row must be what the body says. */
static bool columns_agree(sqlite3_stmt *statement, const struct raft_entry *entry, store_describe describe, char reason[ROW_REASON_BYTES])
{
        struct store_columns columns;
        const char *wrong = NULL;

        if (!describe_entry(entry, describe, &columns)) {
                (void)snprintf(reason, ROW_REASON_BYTES, "log row %llu: its body is not that of a '%s'",
                               (unsigned long long)entry->index, raft_entry_kind_name(entry->kind));
                return false;
        }
        if (!column_is(statement, 3, columns.lock))
                wrong = "lock";
        else if (!column_is(statement, 4, columns.client))
                wrong = "client";
        else if (column_u64(statement, 5) != columns.token)
                wrong = "token";
        if (wrong)
                (void)snprintf(reason, ROW_REASON_BYTES, "log row %llu: the column '%s' is not what the body says",
                               (unsigned long long)entry->index, wrong);
        return !wrong;
}

/* What was bound with bind_u64 and is less than 2^63, as every number of ours is. */
static bool column_is_a_number(sqlite3_stmt *statement, int column)
{
        return sqlite3_column_int64(statement, column) >= 0;
}

static const int entry_numbers[] = { 0, 1, 5, 6, 7 };
static const int meta_numbers[] = { 2, 4, 5, 6, 7, 8, 9 };

static bool columns_are_numbers(sqlite3_stmt *statement, const int *columns, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (!column_is_a_number(statement, columns[i]))
                        return false;
        return true;
}

struct raft_entry *row_read_entry(sqlite3_stmt *statement, store_describe describe, char reason[ROW_REASON_BYTES])
{
        _cleanup_free_ struct raft_entry *entry = NULL;
        uint64_t index = column_u64(statement, 0);
        const char *text = column_text(statement, 2);
        const void *body = sqlite3_column_blob(statement, 8);
        size_t size = (size_t)sqlite3_column_bytes(statement, 8);
        enum raft_entry_kind kind;

        if (!text || !kind_of_text(text, &kind)) {
                (void)snprintf(reason, ROW_REASON_BYTES, "log row %llu: its kind '%.40s' is not known: if a newer dlockd ran here, install it again",
                               (unsigned long long)index, text ? text : "");
                return NULL;
        }
        if (!columns_are_numbers(statement, entry_numbers, ARRAY_SIZE(entry_numbers))) {
                (void)snprintf(reason, ROW_REASON_BYTES, "log row %llu: a number in it is negative", (unsigned long long)index);
                return NULL;
        }
        if (size > LIMIT_ENTRY_BYTES) {
                (void)snprintf(reason, ROW_REASON_BYTES, "log row %llu: its body is too long", (unsigned long long)index);
                return NULL;
        }
        entry = alloc_zeroed(1, sizeof(*entry) + size);
        entry->index = index;
        entry->term = column_u64(statement, 1);
        entry->kind = kind;
        entry->cluster_ms = column_u64(statement, 6);
        entry->wall_ms = column_u64(statement, 7);
        entry->size = (uint32_t)size;
        if (size > 0)
                memcpy(entry->body, body, size);
        return columns_agree(statement, entry, describe, reason) ? TAKE_POINTER(entry) : NULL;
}

bool row_record_is_sound(const struct raft_record *record)
{
        size_t key = record->key ? strlen(record->key) : 0;

        return key >= 1 && key <= KEY_BYTES_MAX && record->label && strlen(record->label) <= LABEL_BYTES_MAX &&
               record->number <= INT64_MAX && record->body && record->body_size <= LIMIT_ENTRY_BYTES;
}

bool row_read_record(sqlite3_stmt *statement, enum raft_table table, struct raft_record *ret_record)
{
        struct raft_record record = {
                .table = table,
                .key = column_text(statement, 0),
                .label = column_text(statement, 1),
                .number = column_u64(statement, 2),
                .body = sqlite3_column_blob(statement, 3),
                .body_size = (size_t)sqlite3_column_bytes(statement, 3),
        };

        /* SQLite shows an empty blob as NULL, which here would mean a deletion. */
        if (record.body_size == 0)
                record.body = (const uint8_t *)"";
        if (!row_record_is_sound(&record))
                return false;
        *ret_record = record;
        return true;
}

static bool read_identity(sqlite3_stmt *statement, struct store_identity *ret_identity)
{
        const char *cluster = column_text(statement, 0);
        const char *incarnation = column_text(statement, 1);
        const char *name = column_text(statement, 3);

        if (cluster && !id128_parse(cluster, &ret_identity->cluster))
                return false;
        if (!incarnation || !id128_parse(incarnation, &ret_identity->incarnation))
                return false;
        if (!name || strlen(name) > LIMIT_NODE_NAME_BYTES)
                return false;
        (void)strcpy(ret_identity->name, name);
        ret_identity->node = column_u64(statement, 2);
        return true;
}

int row_read_meta(struct database *database, struct row_meta *ret_meta, struct bytes *configuration)
{
        _cleanup_reset_ sqlite3_stmt *statement = database_statement(database, STATEMENT_META_READ);
        struct row_meta meta = {};
        int rc;

        rc = statement ? sqlite3_step(statement) : sqlite3_extended_errcode(database->handle);
        if (rc != SQLITE_ROW)
                return rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
        if (!read_identity(statement, &meta.identity) || !columns_are_numbers(statement, meta_numbers, ARRAY_SIZE(meta_numbers)))
                return SQLITE_CORRUPT;
        meta.hard.term = column_u64(statement, 4);
        meta.hard.vote = column_u64(statement, 5);
        meta.base.index = column_u64(statement, 6);
        meta.base.term = column_u64(statement, 7);
        meta.base.cluster_ms = column_u64(statement, 8);
        meta.base.configuration_index = column_u64(statement, 9);
        bytes_clear(configuration);
        bytes_put(configuration, sqlite3_column_blob(statement, 10), (size_t)sqlite3_column_bytes(statement, 10));
        meta.base.configuration = configuration->data;
        meta.base.configuration_size = configuration->size;
        *ret_meta = meta;
        return SQLITE_OK;
}

int row_read_bounds(struct database *database, struct row_bounds *ret_bounds)
{
        _cleanup_reset_ sqlite3_stmt *statement = database_statement(database, STATEMENT_LOG_BOUNDS);
        int rc;

        rc = statement ? sqlite3_step(statement) : sqlite3_extended_errcode(database->handle);
        if (rc != SQLITE_ROW)
                return rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
        *ret_bounds = (struct row_bounds){ .first = column_u64(statement, 0), .last = column_u64(statement, 1), .base = column_u64(statement, 2) };
        return SQLITE_OK;
}

void row_list_add(struct row_list *list, struct raft_entry *entry)
{
        if (list->count == list->capacity) {
                list->capacity = list->capacity ? list->capacity * 2 : 16;
                list->entries = alloc_resized(list->entries, list->capacity, sizeof(*list->entries));
        }
        list->entries[list->count++] = entry;
        list->bytes += sizeof(*entry) + entry->size;
}

void row_list_done(struct row_list *list)
{
        for (size_t i = 0; i < list->count; i++)
                free(list->entries[i]);
        free(list->entries);
        *list = (struct row_list){};
}
