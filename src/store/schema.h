/* schema.h - the tables, and whether a file has them. Internal to store/. */
#pragma once

#include "store/database.h"
#include "store/store.h"

/* Brings an open database from version to STORE_SCHEMA_VERSION in one transaction; 0 is an empty file. */
int schema_upgrade(struct database *database, int version);

/* Makes path with everything in it and closes it again. Returns SQLite's code; the words are in error. */
int schema_create(const char *path, const struct store_identity *identity, char error[512]);

/* Exchanges the tables of the state and their staging twins, inside the caller's transaction. */
int schema_swap_stage(struct database *database);

/* Makes the file a node's own, whatever it was before, inside the caller's transaction. */
int schema_claim(struct database *database);

/* Judges the file at path for node_name and changes nothing, whatever it is.
 * 0: fit to be opened, at *ret_version. -ENOENT: there is none. Else -errno and words. */
int inspect_database(const char *path, const char *node_name, int *ret_version, char error[512]);

/* Judges the backup at path, which is called name in the words; sync: and makes sure that what was read is on the disk.
 * The schema's version, or -errno and words. */
int inspect_backup(const char *path, const char *name, bool sync, char error[512]);
