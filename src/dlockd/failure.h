/* failure.h - a failure is said once, however often the service manager starts the node again.
 *
 * What was said, and how many runs in a row have failed, is kept in a
 * descriptor that systemd holds for the service between its runs
 * (FileDescriptorStoreMax=1), so it is forgotten with a stop or a repair, and
 * needs no disk. Nothing here waits for longer than FAILURE_WAIT_SECONDS: a job
 * of systemd's ends, and the next run begins with settings read anew. */
#pragma once

#include <stdbool.h>

#define FAILURE_WAIT_SECONDS 60

enum failure_next {
        FAILURE_TRY_AGAIN,                   /* it has waited; the cause may be repaired */
        FAILURE_END,                         /* the node must end as failed; the service manager starts it again */
        FAILURE_STOPPED,                     /* told to stop meanwhile: end as one that was stopped */
};

/* Says why the node cannot go on, unless the last run ended with the same, and has it kept for the next run. */
void failure_say(const char *text);
/* Before anything is tried: the more runs in a row have failed, the longer it waits. Never FAILURE_END. */
enum failure_next failure_pause(void);
/* The node could not start. The first time it ends at once, so that who started it is told; started again by the service
 * manager, it waits in silence, a second at a time. */
enum failure_next failure_try_again(const char *text);
/* The last run could not write to this directory, and there is no room there yet: waits. */
enum failure_next failure_wait_for_room(const char *directory);
/* The node is up. Should it fail again in the same way, that is news. */
void failure_over(void);
/* It has been up for long enough: runs that failed before count no more. */
void failure_forget(void);
