/* backup.h - whole copies of a node's database: made from a running node, and turned into a new cluster's.
 *
 * A backup is an SQLite database like the node's, with all its tables, but with
 * an application id of its own: no node starts on it. */
#pragma once

#include "store/store.h"

#define STORE_BACKUP_APPLICATION_ID 0x644c6342       /* "dLcB" */

/* --- from a running node --- */

/* Copies the database to a file without a name beside it, in one read transaction of seconds at most, on a thread of its own.
 * Everything written before the call is in it. STORE_BACKUP_MADE carries its id, its size and its newest entry; or
 * STORE_READ_FAILED. Takes a token as store_write does. */
void store_backup_make(struct store *store, uint64_t cookie);
/* At most size_max bytes from offset: STORE_BACKUP_CHUNK, or STORE_READ_FAILED. */
void store_backup_read(struct store *store, uint64_t cookie, uint64_t backup, uint64_t offset, size_t size_max);
/* Forgets the file. Backups that are not dropped go with the store. */
void store_backup_drop(struct store *store, uint64_t backup);

/* --- with no node running; each blocks on the disk and returns 0, or -errno with one line in error --- */

/* Opens a copy of the backup that fd reads (from is its name, for messages), to be loaded and written like a node's database.
 * The directory must be there, be used by nobody and hold no database (-EEXIST). Nothing is in its place yet. */
int store_restore_open(const char *directory, const char *node_name, int fd, const char *from, store_describe describe,
                       struct store **ret_store, char error[512]);
/* Closes it; in_place: and makes it the directory's database, durably, in one step. Otherwise nothing remains of it. */
int store_restore_close(struct store *store, bool in_place, char error[512]);

/* Keeps a copy of the database of an open store beside it under this name, durably, before what follows may change it. */
int store_keep_copy(struct store *store, const char *name, char error[512]);
