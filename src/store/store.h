/* store.h - what a node keeps on disk: SQLite, the only room that names it.
 *
 * One writer thread with the only writing connection takes what the event loop
 * queues, in order, one transaction for all that waited (WAL, synchronous=FULL).
 * One reader thread with read-only connections serves history, old log entries
 * and snapshots. No call after store_open blocks on the disk; results come back
 * through store_fd and store_process on the calling thread. Any failed write is
 * final: STORE_FAILED is reported once, nothing more is written, and the caller
 * stops the process (rule P5). Not thread-safe: one thread calls. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/id128.h"
#include "base/limits.h"
#include "raft/entry.h"

struct store;

/* The version this program writes (PRAGMA user_version) and the application id of the file. */
#define STORE_SCHEMA_VERSION 1
#define STORE_APPLICATION_ID 0x644c636b      /* "dLck" */

/* Who the database belongs to. Null cluster id and node id 0: not yet a member. */
struct store_identity {
        struct id128 cluster;
        struct id128 incarnation;            /* made when the file is made: an emptied disk is a new node (P7) */
        uint64_t node;
        char name[LIMIT_NODE_NAME_BYTES + 1]; /* as in the ini when the file was made */
};

/* The readable columns of a log row, derived from the entry's body. Empty text and 0 become NULL. Of several locks each has a line. */
struct store_columns {
        const char *kind;
        char lock[LIMIT_LOCKS_AT_ONCE * (LIMIT_LOCK_NAME_BYTES + 1)];
        char client[LIMIT_CLIENT_ID_BYTES + 1];
        uint64_t token;
};

/* Fills the columns from kind and body. False: the body is not what its kind
 * says, or the kind is unknown. Called from the writer and the reader thread:
 * must be pure. */
typedef bool (*store_describe)(const struct raft_entry *entry, struct store_columns *ret_columns);

struct store_content {
        struct store_identity identity;
        struct raft_hard_state hard;
        struct raft_base base;               /* configuration: owned by the store, valid until store_close */
        uint64_t log_first;                  /* the oldest index in the log table; base.index + 1 when empty */
        uint64_t log_last;
};

/* Receives the content at open, in this order: what there is (begin may be NULL), records, then
 * entries after the base by index. Each may refuse the database as corrupt: begin and record by saying
 * what is wrong (NULL: nothing), record as what follows "a row of the state", entry by false. Pointers are valid during the call. */
struct store_loader {
        void *context;
        const char *(*begin)(void *context, const struct store_content *content);
        const char *(*record)(void *context, const struct raft_record *record);
        bool (*entry)(void *context, const struct raft_entry *entry);
};

/* Opens directory/dlock.db, making file and schema when there is none (directory must exist),
 * takes an exclusive lock against a second process, checks application id, schema version,
 * quick integrity and name, and runs a truncating checkpoint that must succeed (P8), before
 * anything is loaded. A database that is refused is left byte for byte as it was, its -wal and -shm too.
 * Blocks on the disk. 0 or -errno, and then one line for people in error[]:
 * what, where, and what would be right. */
int store_open(const char *directory, const char *node_name, store_describe describe, struct store **ret_store,
               char error[512]);

/* Loads everything through loader and tells what there is. Once, after open; blocks on the disk. As store_open. */
int store_load(struct store *store, const struct store_loader *loader, struct store_content *ret_content, char error[512]);

/* Waits for the threads to finish what is queued, checkpoints, closes. Accepts NULL; returns NULL. */
struct store *store_close(struct store *store);

/* --- writes: queued in call order, durable when STORE_PERSISTED with the batch's token comes back --- */

/* Everything one turn wants on disk, in one transaction, in the order of the fields. */
struct store_batch {
        const struct store_identity *identity;       /* NULL: unchanged */
        const struct raft_hard_state *hard;          /* NULL: unchanged */
        bool clear_log;                              /* delete all entries: base, which must be given, stands after them, and the
                                                      * file is a node's own from here on. Of a cluster that begins anew */
        uint64_t truncate_from;                      /* delete entries from here on; 0: none */
        const struct raft_entry *const *entries;     /* consecutive, after what is there */
        size_t entry_count;
        const struct raft_base *base;                /* NULL: unchanged; else the state after records */
        const struct raft_record *records;           /* after-images as of base->index */
        size_t record_count;
        uint64_t trim_to;                            /* delete entries below, at most LIMIT_TRIM_PER_BATCH of them; 0: none */
};

/* Copies what it is given. Tokens start at 1 and rise by one with each call; returns the batch's. */
uint64_t store_write(struct store *store, const struct store_batch *batch);

/* Snapshot being received: begin empties the staging table; each chunk is a run of records as
 * store_snapshot_* produced them; install replaces all state by the staged records, sets base,
 * deletes the log unless its entry at base->index has base->term (then only the older part goes),
 * in one transaction. Each takes a token as store_write does. */
uint64_t store_stage_begin(struct store *store);
uint64_t store_stage_chunk(struct store *store, const void *data, size_t size);
uint64_t store_stage_install(struct store *store, const struct raft_base *base);

/* --- reads: answered later by an event that carries the caller's cookie --- */

/* Entries [from, ...) of the log until bytes_max or count_max. */
void store_read_log(struct store *store, uint64_t cookie, uint64_t from, size_t count_max, size_t bytes_max);

/* Copies the state tables to an unlinked spool file under one short read transaction.
 * The event carries base and size; chunks are then read from the file. */
void store_snapshot_make(struct store *store, uint64_t cookie);
void store_snapshot_read(struct store *store, uint64_t cookie, uint64_t snapshot, uint64_t offset, size_t size_max);
/* Forgets the spool file. */
void store_snapshot_drop(struct store *store, uint64_t snapshot);

/* Rows of the log about one lock (NULL: all), index > after, oldest first, at most limit <= LIMIT_PAGE_ROWS,
 * looking at no more than 100,000 rows; *more* and the last index looked at let the caller go on. Served by a thread of its own so
 * that long histories delay no follower. */
void store_read_history(struct store *store, uint64_t cookie, const char *lock, uint64_t after, size_t limit);

enum store_event_kind {
        STORE_PERSISTED,                     /* every write up to token is durable */
        STORE_FAILED,                        /* final; text says what to do */
        STORE_LOG,                           /* entries; empty when from is no longer (or not yet) there */
        STORE_SNAPSHOT_MADE,
        STORE_SNAPSHOT_CHUNK,
        STORE_HISTORY,
        STORE_BACKUP_MADE,                   /* backup.h */
        STORE_BACKUP_CHUNK,
        STORE_READ_FAILED,                   /* a read could not be served; the node goes on; text says why */
};

struct store_event {
        enum store_event_kind kind;
        uint64_t token;                      /* PERSISTED */
        uint64_t commit_ms;                  /* PERSISTED: how long the longest of those transactions took; snapshots do not count */
        uint64_t cookie;                     /* reads */
        const char *text;                    /* FAILED, READ_FAILED */
        struct raft_entry *const *entries;   /* LOG, HISTORY */
        size_t entry_count;
        uint64_t log_first;                  /* LOG, HISTORY: the oldest index there is */
        uint64_t log_last;                   /* BACKUP_MADE: the newest index in it */
        uint64_t looked_until;               /* HISTORY: go on after this */
        bool more;                           /* HISTORY: there may be more after looked_until */
        uint64_t snapshot;                   /* SNAPSHOT_*; BACKUP_*: of the backup */
        struct raft_base base;               /* SNAPSHOT_MADE */
        uint64_t offset;                     /* *_CHUNK */
        const uint8_t *data;                 /* *_CHUNK */
        size_t size;                         /* *_CHUNK */
        uint64_t total;                      /* SNAPSHOT_*, BACKUP_*: bytes of the whole stream */
};

/* Readable when store_process has something. */
int store_fd(const struct store *store);

/* Calls handler once per finished piece of work, in order of completion. Pointers in the event are valid during the call. */
void store_process(struct store *store, void (*handler)(void *context, const struct store_event *event), void *context);

/* Blocks until every queued write is durable or has failed. For tests and for a clean stop. 0 or -errno. */
int store_flush(struct store *store);

/* Walks the records of a snapshot stream (all chunks concatenated, or one chunk: records never cross chunks).
 * False: not well formed, or the callback returned false. */
bool store_snapshot_walk(const void *data, size_t size, void *context, bool (*record)(void *context, const struct raft_record *record));
