/* config.h - a node's settings from its ini files: the only room that names inih.
 *
 * Every key has one row in one table (section, key, parser, range, default,
 * meaning); unknown sections and keys, bad values, duplicates within a file and
 * lines that the ini library would misread (reader.h) are refused, naming file
 * and line and what would be accepted. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/parse.h"

enum config_role { CONFIG_LEADER, CONFIG_FOLLOWER };

#define CONFIG_LISTEN_MAX 8
#define CONFIG_JOIN_MAX 16
/* Each follower on a host has a loopback address of its own, 127.77.0.N. */
#define CONFIG_INSTANCE_MAX 250

struct config_addresses {
        size_t count;
        struct address items[CONFIG_JOIN_MAX];
};

struct config {
        enum config_role role;
        unsigned instance;                           /* of a follower, 1 to CONFIG_INSTANCE_MAX; 0 for the leader */
        /* [node] */
        char name[LIMIT_NODE_NAME_BYTES + 1];        /* name: default leader, follower-N */
        char directory[4096];                        /* directory: default auto: $STATE_DIRECTORY, else /var/lib/dlock/leader or /var/lib/dlock/follower-N */
        bool witness;                                /* witness: default no; a follower that votes and keeps all, but serves no clients */
        /* [listen] - numeric addresses; in clients socket paths too, and "none" for an empty list */
        struct config_addresses clients;             /* clients: default /run/dlock/leader.sock, 127.0.0.1:7401 (follower N: 127.77.0.N:7401); of a witness none */
        struct address peers;                        /* peers: default 127.0.0.1:7402 (follower N: 127.77.0.N:7402) */
        bool allow_insecure;                         /* allow_insecure: default no; non-loopback TCP in clients, peers and join is refused without it */
        /* [peer] */
        bool has_advertise;
        struct address advertise;                    /* advertise: default none (peers, or for 0.0.0.0 and [::] the local address of its connections) */
        /* [cluster] */
        struct config_addresses join;                /* join: default for a follower 127.0.0.1:7402; for the leader none */
        bool bootstrap_now;                          /* bootstrap = auto|now, default auto (wait 3 s for peers); leader only */
        unsigned max_voters;                         /* 1 to LIMIT_VOTERS, default 5 */
        unsigned min_voters;                         /* 1 or 2, default 1 */
        /* [election] - all with units */
        uint64_t timeout_ms;                         /* timeout: 100ms to 60s, default 1s */
        uint64_t heartbeat_ms;                       /* heartbeat: 10ms to 20s, default 100ms; at most a third of timeout */
        /* [log] */
        uint64_t keep_entries;                       /* keep_entries: 0 to 100000000, default 100000 */
        /* [diagnostics] */
        unsigned log_level;                          /* level = error|warning|notice|info|debug, default info */
};

/* Reads DIRECTORY/leader.ini, or DIRECTORY/follower.ini and then DIRECTORY/follower-N.ini if it is there
 * (a key of the latter replaces the former's). A missing file says nothing; without any, all is default. %i in a follower's name,
 * directory, clients, peers and advertise is its instance, %% is %. 0, or -errno (-EINVAL for what a file says) with one line in
 * error: "FILE:LINE: what is wrong; what would be accepted"; then *ret_config is untouched. */
int config_load(const char *directory, enum config_role role, unsigned instance, struct config *ret_config, char error[512]);

/* Every key with its value in force, as an ini file that config_load reads back to the same, whatever the instance. */
void config_print(const struct config *config, FILE *file);

/* Every key of the table at its default with its meaning as a comment: the shipped etc/ files are this output. */
void config_print_defaults(enum config_role role, FILE *file);

/* Where the running settings and reloaded ones differ in what only a restart applies (name, directory, witness, clients, peers,
 * advertise): writes the keys, separated by ", ", into names; returns how many. */
size_t config_needs_restart(const struct config *running, const struct config *loaded, char names[256]);
