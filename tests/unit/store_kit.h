/* store_kit.h - what the tests of the store share: a directory for every test, a toy entry, and what came back. */
#pragma once

#include <check.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "store/store.h"
#include "unit/suite.h"

#define NODE "alpha"

extern char directory[64];
extern char error[512];

struct seen {
        uint64_t token;
        unsigned failed, read_failed, snapshots, chunks, logs, histories, backups;
        char text[1024];
        uint64_t cookie, log_first, log_last, looked_until, snapshot, total, offset;
        bool more;
        uint64_t indices[2048];
        char locks[2048][32];
        size_t count;
        struct raft_base base;
        uint8_t configuration[64];
        struct bytes stream;
};

struct loaded {
        struct store_content content;
        char text[16384];                    /* one line per record and entry */
        uint64_t entries, records;
        bool refuse;
};

void make_directory(void);
void remove_directory(void);
char *path_of(const char *name, char path[128]);
struct raft_entry *entry_new(uint64_t index, uint64_t term, enum raft_entry_kind kind, const char *lock, const char *client, uint64_t token);
bool describe(const struct raft_entry *entry, struct store_columns *ret_columns);
void keep(void *context, const struct store_event *event);
void wait_for(struct store *store, struct seen *seen, const unsigned *counter, unsigned wanted);
const char *load_record(void *context, const struct raft_record *record);
bool load_entry(void *context, const struct raft_entry *entry);
struct store *open_store(void);
int load(struct store *store, struct loaded *loaded);
struct store *open_and_load(struct loaded *loaded);
uint64_t append(struct store *store, uint64_t term, uint64_t first, uint64_t last, const struct store_batch *more);
struct raft_record record_of(enum raft_table table, const char *key, const char *label, uint64_t number, const char *body);
struct raft_base base_of(uint64_t index, uint64_t term);
void run_sql(const char *sql);
void crash_after(void (*work)(const char *argument), const char *argument);
void run_sql_and_leave_it_open(const char *sql);
void append_and_leave_it_open(const char *argument);
struct bytes picture(void);
void assert_refused(const char *name, int number, const char *words);
void make_database(uint64_t entries);
void write_file(const char *name, const void *data, size_t size, off_t offset);
/* A case whose every test has a directory of its own. */
TCase *add_case(Suite *s, const char *name);
/* Returns the exit status. */
