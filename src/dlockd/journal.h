/* journal.h - what a node tells the journal of its own accord: changes, members, who leads. */
#pragma once

#include <stdint.h>

struct daemon;

/* At the start: what the log has already is not named again. */
void journal_start(struct daemon *daemon);
/* At the end of a turn: what is new. */
void journal_turn(struct daemon *daemon);
/* Before a new look at the clock: a process that did not run has missed what the others did. */
void journal_gap(const struct daemon *daemon, uint64_t now);
