/* spawn.h - starts a program as if whoever started this one had started it. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct spawn {
        char *const *argv;
        const sigset_t *mask;                /* of signals, as it shall find it */
        bool ignores_child;                  /* SIGCHLD was ignored, and shall be so */
        pid_t group;                         /* that it joins: ^C and ^Z of the terminal go to one */
        int output;                          /* its standard input is /dev/null, and this its standard output; -1: both as here */
        void (*before)(const void *data, pid_t pid); /* is called when there is the process, but not yet the program; NULL: nothing */
        const void *data;
};

/* Searches $PATH, and returns when the program has begun: 0; the -errno of execve(2) or fork(2): it has not. The program is
 * killed when this process dies. */
int spawn(const struct spawn *spawn, pid_t *ret_pid);
/* Files 0 to count - 1 become /dev/null, so that whoever waits for the last one to close them waits for others only. */
void spawn_leave_files(int count);
