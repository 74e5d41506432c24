/* state.h - what a client remembers: its id and its cluster's, per user and machine.
 *
 * One small file each under $XDG_STATE_HOME/dlock, made once and never changed;
 * of several processes that make one at the same time all end with the same. */
#pragma once

#include <stddef.h>

#include "base/id128.h"

#define STATE_ERROR_BYTES 512

enum state_kind { STATE_CLIENT, STATE_CLUSTER };

/* 0; -ENOENT: there is none, or no place for one; -EBADMSG: the file holds something else; -errno. error gets one line. */
int state_read(enum state_kind kind, struct id128 *ret_id, char error[STATE_ERROR_BYTES]);
/* Keeps id unless there is one already; *ret_id is the one that is kept. 0 or -errno. */
int state_keep(enum state_kind kind, struct id128 id, struct id128 *ret_id, char error[STATE_ERROR_BYTES]);
/* 0, also when there was none; -errno. */
int state_forget(enum state_kind kind, char error[STATE_ERROR_BYTES]);
