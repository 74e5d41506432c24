/* failure.h - a failure is said once, however often the service manager starts the node again.
 *
 * What was said is kept in a descriptor that systemd holds for the service
 * between its runs (FileDescriptorStoreMax=1), so it is forgotten with a stop
 * or a repair, and needs no disk. */
#pragma once

#include <stdbool.h>

/* Says why the node cannot go on, unless the last run ended with the same, and has it kept for the next run. */
void failure_say(const char *text);
/* The node could not start: true when it has waited for the repair and may try again, false when it must end. The first
 * time it ends at once, so that who started it is told; started again by the service manager, it waits in silence. */
bool failure_try_again(const char *text);
/* The last run could not write to this directory, and there is no room there yet: waits. False: told to stop meanwhile. */
bool failure_wait_for_room(const char *directory);
/* The node is up: what the last run failed with is over. */
void failure_forget(void);
