/* backup.h - backups that clients take from this node, piece by piece.
 *
 * A backup belongs to the session that asked for it and ends with it; the store
 * has the file. The answers go to the session's waiting request. */
#pragma once

#include "base/bytes.h"
#include "dlockd/daemon.h"
#include "wire/wire.h"

/* Whether the client of a session may have one: on a Unix socket, root or this process's own user. */
bool backup_is_allowed(int fd);

/* Room for another backup is taken for the session, until backup_forget. False: there is none. */
bool backup_begin(struct daemon *daemon, uint64_t session);
/* Has it made, as of now or later: session_backup is called then. tag: the session's. */
void backup_make(struct daemon *daemon, uint64_t session, uint64_t tag);
/* Reads a piece: session_backup is called then. False: the session has no such backup. */
bool backup_read(struct daemon *daemon, uint64_t session, const struct wire_request *request, uint64_t tag);

/* The store's answer: the piece for the client, without its tag. event NULL: it failed, and why. What was made for a session
 * that is gone is dropped. False: the session has no backup any more. */
bool backup_piece(struct daemon *daemon, const struct read_request *read, const struct store_event *event, const char *why, struct wire_piece *ret_piece);

/* The session is gone, or wants no backup any more. */
void backup_forget(struct daemon *daemon, uint64_t session);
/* Drops what nobody has asked for in a while. */
void backup_tick(struct daemon *daemon);
/* At the end. */
void backup_forget_all(struct daemon *daemon);
