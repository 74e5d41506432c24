/* servers.h - which servers there are to ask, from text, file and directory. */
#pragma once

#include <stddef.h>

#include "base/parse.h"

#define SERVERS_DIRECTORY "/run/dlock"
#define SERVERS_MAX 512
#define SERVERS_ERROR_BYTES 512

/* What was asked for: addresses, and "local" for the sockets of this host. */
struct servers {
        struct address *wanted;              /* kind UNIX with an empty host: local */
        size_t wanted_count;
        struct address *found;               /* local replaced by what is there */
        size_t found_count, found_capacity;
        const char *directory;               /* where local sockets are */
};

/* "ADDR[,ADDR...]". 0; -EINVAL with one line in error; -ENOMEM. */
int servers_set(struct servers *servers, const char *text, char error[SERVERS_ERROR_BYTES]);
/* "servers" of an ini file, once or in several lines; local when there is no such file or key. 0; -EINVAL, or the -errno of the file. */
int servers_load(struct servers *servers, const char *path, char error[SERVERS_ERROR_BYTES]);
/* Fills found, looking for local sockets again. 0 or -ENOMEM. */
int servers_find(struct servers *servers);
void servers_done(struct servers *servers);
