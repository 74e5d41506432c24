/* internal.h - the store and its five threads. Internal to store/.
 *
 * writer      the only one that changes anything; jobs are whole transactions' parts
 * checkpoint  copies the WAL into the file while the writer goes on
 * reader      old log entries and snapshots, for followers
 * history     log rows, for people
 * backup      whole copies of the database, for people
 *
 * They share the queues in struct worker, the event list, and the few atomics below. */
#pragma once

#include <stdatomic.h>

#include "base/cleanup.h"
#include "store/database.h"
#include "store/row.h"
#include "store/store.h"
#include "store/worker.h"

/* --- what comes back ------------------------------------------------------------- */

/* A finished piece of work with all its event points to. */
struct event {
        TAILQ_ENTRY(event) next;
        struct store_event event;
        char *text;
        struct row_list rows;
        struct bytes data;
};

struct event *event_new(enum store_event_kind kind, uint64_t cookie);
struct event *event_free(struct event *event);
/* Takes the event. */
void event_post(struct store *store, struct event *event);
void event_post_persisted(struct store *store, uint64_t token, uint64_t commit_ms);
void event_post_text(struct store *store, enum store_event_kind kind, uint64_t cookie, const char *format, ...) _printf_(4, 5);

/* --- what goes in ------------------------------------------------------------------ */

/* BACKUP writes nothing: it goes on to the backup thread when all before it is durable. */
enum write_kind { WRITE_BATCH, WRITE_STAGE_BEGIN, WRITE_STAGE_CHUNK, WRITE_STAGE_INSTALL, WRITE_BACKUP };

/* A copy of a caller's batch; everything it points to is in the same piece of memory. */
struct write_job {
        struct job job;
        enum write_kind kind;
        uint64_t token;
        struct store_batch batch;            /* BATCH; INSTALL: base only */
        const void *chunk;                   /* STAGE_CHUNK */
        size_t chunk_size;
        uint64_t cookie;                     /* BACKUP */
};

struct write_job *write_job_copy(enum write_kind kind, const struct store_batch *batch, const void *chunk, size_t chunk_size);

enum read_kind {
        READ_LOG,
        READ_SNAPSHOT_MAKE,
        READ_SNAPSHOT_CHUNK,
        READ_SNAPSHOT_DROP,
        READ_HISTORY,
        READ_BACKUP_MAKE,
        READ_BACKUP_CHUNK,
        READ_BACKUP_DROP,
};

struct read_job {
        struct job job;
        enum read_kind kind;
        uint64_t cookie;
        uint64_t from;                       /* LOG: first index; HISTORY: after; CHUNK: offset */
        size_t count_max, bytes_max;
        uint64_t snapshot;                   /* or backup */
        char *lock;                          /* HISTORY; NULL: all */
};

/* --- the threads' own things -------------------------------------------------------- */

struct writer {
        struct worker worker;
        struct database database;
        uint64_t base_index;                 /* as the database will have them when the open transaction commits; */
        uint64_t log_last;                   /* what a batch says is checked against them */
        unsigned wal_frames;                 /* in the WAL since it last started over */
        unsigned checkpoint_at;              /* frames at which the next checkpoint is due */
        char words[320];                     /* why a batch cannot be carried out, when it is not SQLite's fault */
};

/* HALF: the checkpointer is done, the writer's part is due. */
enum checkpoint_state { CHECKPOINT_NONE, CHECKPOINT_RUNNING, CHECKPOINT_HALF };

struct spool {
        SLIST_ENTRY(spool) next;
        uint64_t id;
        int fd;
        uint64_t total;
};

SLIST_HEAD(spool_list, spool);

struct reader {
        struct worker worker;
        struct database database;
        struct spool_list spools;
        size_t spool_count;
        uint64_t spool_last_id;
};

struct backups {
        struct worker worker;
        struct spool_list spools;
        uint64_t last_id;
};

struct store {
        char *directory, *path;
        int directory_fd;                    /* holds the lock against a second process */
        store_describe describe;
        uint64_t last_token;
        struct bytes configuration;          /* what store_load handed out */

        int event_fd;
        pthread_mutex_t event_mutex;         /* protects the list and nothing else */
        TAILQ_HEAD(event_list, event) events;

        struct writer writer;
        atomic_bool failed;                  /* set once, by the writer or the checkpointer: nothing is written any more */

        struct worker checkpointer;
        struct job checkpoint_job;           /* there is one; queued or at work while CHECKPOINT_RUNNING */
        struct database checkpoint_database;
        _Atomic enum checkpoint_state checkpoint_state;

        struct reader reader;
        struct worker history;
        struct database history_database;
        struct backups backups;
        atomic_bool closing;                 /* a copy that is being made is given up */
};

/* writer.c */
int writer_open(struct store *store, int version, char error[512]);
void writer_run(void *store, struct job_list *jobs);
/* Reports the first failure, and only that; nothing is written afterwards. words: why,
 * when it is not what the database says; NULL otherwise. */
void store_fail(struct store *store, struct database *database, int rc, const char *words);
/* batch.c: the statements of one job, inside the writer's transaction. */
int batch_carry_out(struct store *store, const struct write_job *job);
/* stage.c */
int stage_clear(struct database *database);
int stage_carry_out(struct store *store, const struct write_job *job);
/* batch.c */
int batch_set_base(struct writer *writer, const struct raft_base *base);
int batch_put_record(struct database *database, enum statement which, const struct raft_record *record);
/* checkpoint.c */
void checkpoint_consider(struct store *store);
int checkpoint_note_frames(void *writer, sqlite3 *handle, const char *name, int frames);
void checkpoint_run(void *store, struct job_list *jobs);
/* reader.c */
/* Answers each, in order, and frees it. */
typedef void read_job_fn(struct store *store, const struct read_job *job);
void read_jobs_run(struct store *store, struct job_list *jobs, read_job_fn *run);
void reader_run(void *store, struct job_list *jobs);
void reader_done(struct reader *reader);
int reader_connect(struct store *store, struct database *database, uint64_t cookie);
void reader_post_failure(struct store *store, struct database *database, uint64_t cookie, const char *what);
/* Fills the event within one read transaction. An SQLITE_ code; reason: what is damaged. */
typedef int reader_read_fn(struct store *store, const struct read_job *job, struct event *event, char reason[ROW_REASON_BYTES]);
/* Posts what read finds as an event of this kind, or why it could not. */
void reader_answer(struct store *store, struct database *database, const struct read_job *job, enum store_event_kind kind, reader_read_fn *read);
/* snapshot.c: each answers with an event of its own. */
void snapshot_make(struct store *store, const struct read_job *job);
void snapshot_chunk(struct store *store, const struct read_job *job);
void snapshot_drop(struct store *store, uint64_t id);
/* history.c */
void history_run(void *store, struct job_list *jobs);
/* spool.c */
struct spool *spool_free(struct spool *spool);
void spool_list_done(struct spool_list *list);
struct spool *spool_find(const struct spool_list *list, uint64_t id);
/* Exactly size bytes from offset; 0 or -errno. */
int spool_read(const struct spool *spool, struct bytes *bytes, uint64_t offset, size_t size);
/* backup.c */
void backup_run(void *store, struct job_list *jobs);
/* Copies the database page by page to target, which is made and must not be there, as of one moment, which *ret_last (the newest
 * entry) tells. 0, or -errno and words. -ECANCELED: the store is being closed. */
int backup_copy(struct store *store, const char *target, uint64_t *ret_last, char error[512]);
/* store.c */
/* A copy on the heap, which the worker frees. */
void store_queue_read(struct worker *worker, const struct read_job *job);
void store_remove_unfinished(const struct store *store);
struct store *store_new(const char *directory, const char *file, store_describe describe);
int store_lock_directory(struct store *store, char error[512]);
int store_start(struct store *store, int version, char error[512]);
