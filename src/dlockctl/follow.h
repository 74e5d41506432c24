/* follow.h - a watch that is followed to its end: by time, count, signal, or when nobody reads any more. */
#pragma once

#include "tool.h"

/* What is told of a change. True: it counts for --count. */
typedef bool (*follow_tell)(const struct tool *tool, const struct dlock_change *change, void *state);

/* Opens, and follows the lock of that name (exact), or those with that prefix. Returns what to exit with. */
int follow(struct tool *tool, const char *lock, bool exact, follow_tell tell, void *state);
/* All that is known of a change. */
void follow_put_json(const struct dlock_change *change);
