/* configuration.h - who is a member, who votes, and the bytes of it. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id128.h"
#include "base/limits.h"

enum raft_standing {
        RAFT_LEARNER = 1,                    /* gets everything, does not vote */
        RAFT_VOTER = 2,
};

struct raft_member {
        uint64_t id;                         /* index of the entry that let it in: never given twice; 1: who made the cluster */
        struct id128 incarnation;            /* made with its database */
        enum raft_standing standing;
        bool preferred;                      /* leadership belongs here; on one member at most */
        bool witness;                        /* a voter without client listeners */
        char name[LIMIT_NODE_NAME_BYTES + 1];
};

struct raft_configuration {
        uint64_t index;                      /* of its entry; 0: made at bootstrap, or empty */
        unsigned level;                      /* what every member is known to understand (RAFT_FEATURE_LEVEL of its program) */
        size_t count;
        struct raft_member members[];        /* by id, rising */
};

/* A copy with room for extra more members. The caller frees with free(3). source may be NULL: empty. */
struct raft_configuration *raft_configuration_copy(const struct raft_configuration *source, size_t extra);

const struct raft_member *raft_configuration_find(const struct raft_configuration *configuration, uint64_t id);
const struct raft_member *raft_configuration_find_incarnation(const struct raft_configuration *configuration, struct id128 incarnation);
const struct raft_member *raft_configuration_find_name(const struct raft_configuration *configuration, const char *name);
size_t raft_configuration_voters(const struct raft_configuration *configuration);
bool raft_configuration_votes(const struct raft_configuration *configuration, uint64_t id);

/* Appends the entry body. */
void raft_configuration_put(struct bytes *bytes, const struct raft_configuration *configuration);
/* NULL: not well formed (ids rise, names and standings are valid, one preferred at most). index is set as given. */
struct raft_configuration *raft_configuration_get(uint64_t index, const void *body, size_t size);
