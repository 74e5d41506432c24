/* tree.h - the processes below this one, whatever they do to get away.
 *
 * Who loses its parent is given to the nearest process above that asked for orphans (PR_SET_CHILD_SUBREAPER), so neither a
 * double fork nor a session or process group of one's own leads out. Needs /proc; never signals a process that is not below
 * this one, also when numbers are used anew. For a process with one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A number alone names another process later. */
struct tree_process {
        pid_t pid, parent;
        uint64_t started;                    /* in ticks since boot */
        bool threads;                        /* more than one */
        bool stopped;                        /* by a signal */
        bool alive;                          /* not only waiting for its parent to ask how it ended */
};

struct tree_list {
        struct tree_process *items;
        size_t count, room;
};

struct tree {
        struct tree_list spared;             /* children that this process had before */
        struct tree_list told;               /* who got the last signal that is sent only once */
        int told_number;
        bool scan;                           /* all of /proc is read, where a process does not tell its children */
};

/* As ^Z does it to a job. False also when there is no such process. */
bool tree_is_stopped(pid_t pid);

/* From now on orphans come to this process. Children that it has already are not of the tree. 0; -ENOSYS: there is no /proc;
 * -errno of prctl(2). */
int tree_begin(struct tree *tree);
void tree_end(struct tree *tree);

/* Takes notice of all that have ended below. True: pid is among them, and *ret_status is as of wait(2). */
bool tree_reap(struct tree *tree, pid_t pid, int *ret_status);
/* Nobody is below. Exact, not a look at /proc: each process below has an ancestor that is a child of this one. */
bool tree_is_empty(struct tree *tree);
/* Sends to all that are found alive, and returns how many that were: SIGKILL to all, another signal to those only that did
 * not get it before, with SIGCONT, without which who is stopped would not see it. Who begins when it is asked to end, to clean up, does
 * not get it. */
size_t tree_signal(struct tree *tree, int number);
/* SIGSTOP until nobody new is found, so that nobody forks faster than others die; then SIGKILL. Some may have been missed still: call it
 * until the tree is empty. */
void tree_kill(struct tree *tree);
