/* cgroup.h - a cgroup (version 2) for a program and all that it starts, made by a process that stays outside of it.
 *
 * It is made below the cgroup that this process is in, where that may be divided: a unit of systemd with Delegate=, a cgroup of this kind,
 * or where there is no systemd and it can be written. Who is in the scope of a login session or a terminal gets a scope beside that from systemd. Nobody
 * leaves a service, or a scope of systemd-run(1): stopping that must stop all of it, and what it limits stays limited. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CGROUP_PATH_SIZE 4096

/* Asks nobody, and may be wrong when it says true. */
bool cgroup_is_possible(void);
/* Makes one of a name that nobody else uses, and puts the process into it, within a time; where that takes a scope, this process moves into
 * that one too. False: there is none, and the process is where it was, or in the scope. */
bool cgroup_make(const char *name, const char *description, pid_t pid, uint32_t patience_ms, char ret_path[CGROUP_PATH_SIZE]);

/* A path of "" is that of none. */

/* Nobody is in it, or below; or it is gone. */
bool cgroup_is_empty(const char *path);
/* SIGKILL to all in it and below, at once, also to those of other users. */
void cgroup_kill(const char *path);
/* With those below it, when they are empty. */
void cgroup_remove(const char *path);
