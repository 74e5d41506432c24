/* outcome.h - how a request came out, in the words of the wire.
 *
 * Fills in what an answer of the replica says; the tag is the session's. Sends nothing. */
#pragma once

#include "dlockd/daemon.h"
#include "wire/wire.h"

void outcome_of_change(const struct daemon *daemon, enum wire_type type, const struct replica_answer *answer, struct wire_result *ret_result);
void outcome_of_admin(enum admin_outcome outcome, struct wire_result *ret_result);
