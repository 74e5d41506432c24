#include "raft/configuration.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/name.h"

/* First byte of every body. */
#define CONFIGURATION_FORMAT 1

enum { FLAG_PREFERRED = 1, FLAG_WITNESS = 2 };

struct raft_configuration *raft_configuration_copy(const struct raft_configuration *source, size_t extra)
{
        size_t count = source ? source->count : 0;
        struct raft_configuration *copy;

        copy = alloc_zeroed(1, sizeof(*copy) + (count + extra) * sizeof(copy->members[0]));
        copy->level = 1;
        if (!source)
                return copy;
        copy->index = source->index;
        copy->level = source->level;
        copy->count = count;
        if (count > 0)
                memcpy(copy->members, source->members, count * sizeof(copy->members[0]));
        return copy;
}

const struct raft_member *raft_configuration_find(const struct raft_configuration *configuration, uint64_t id)
{
        for (size_t i = 0; i < configuration->count; i++)
                if (configuration->members[i].id == id)
                        return &configuration->members[i];
        return NULL;
}

const struct raft_member *raft_configuration_find_incarnation(const struct raft_configuration *configuration, struct id128 incarnation)
{
        for (size_t i = 0; i < configuration->count; i++)
                if (id128_equal(configuration->members[i].incarnation, incarnation))
                        return &configuration->members[i];
        return NULL;
}

const struct raft_member *raft_configuration_find_name(const struct raft_configuration *configuration, const char *name)
{
        for (size_t i = 0; i < configuration->count; i++)
                if (strcmp(configuration->members[i].name, name) == 0)
                        return &configuration->members[i];
        return NULL;
}

size_t raft_configuration_voters(const struct raft_configuration *configuration)
{
        size_t voters = 0;

        for (size_t i = 0; i < configuration->count; i++)
                voters += configuration->members[i].standing == RAFT_VOTER;
        return voters;
}

bool raft_configuration_votes(const struct raft_configuration *configuration, uint64_t id)
{
        const struct raft_member *member = raft_configuration_find(configuration, id);

        return member && member->standing == RAFT_VOTER;
}

void raft_configuration_put(struct bytes *bytes, const struct raft_configuration *configuration)
{
        assert(configuration->count <= LIMIT_MEMBERS);
        bytes_put_u8(bytes, CONFIGURATION_FORMAT);
        bytes_put_u16(bytes, (uint16_t)configuration->level);
        bytes_put_u16(bytes, (uint16_t)configuration->count);
        for (size_t i = 0; i < configuration->count; i++) {
                const struct raft_member *member = &configuration->members[i];

                bytes_put_u64(bytes, member->id);
                id128_put(bytes, member->incarnation);
                bytes_put_u8(bytes, (uint8_t)member->standing);
                bytes_put_u8(bytes, (uint8_t)((member->preferred ? FLAG_PREFERRED : 0) | (member->witness ? FLAG_WITNESS : 0)));
                bytes_put_text8(bytes, member->name, strlen(member->name));
        }
}

/* previous: the id before, which this one must exceed. */
static bool get_member(struct bytes_reader *reader, uint64_t previous, struct raft_member *member)
{
        uint8_t standing, flags;
        size_t size;

        member->id = bytes_get_u64(reader);
        member->incarnation = id128_get(reader);
        standing = bytes_get_u8(reader);
        flags = bytes_get_u8(reader);
        size = bytes_get_text8(reader, member->name, sizeof(member->name));
        if (reader->bad || member->id <= previous || !node_name_is_valid(member->name, size))
                return false;
        if ((standing != RAFT_LEARNER && standing != RAFT_VOTER) || (flags & ~(FLAG_PREFERRED | FLAG_WITNESS)))
                return false;
        member->standing = (enum raft_standing)standing;
        member->preferred = flags & FLAG_PREFERRED;
        member->witness = flags & FLAG_WITNESS;
        return true;
}

struct raft_configuration *raft_configuration_get(uint64_t index, const void *body, size_t size)
{
        struct bytes_reader reader = bytes_reader_of(body, size);
        struct raft_configuration *configuration;
        uint8_t format = bytes_get_u8(&reader);
        unsigned level = bytes_get_u16(&reader);
        size_t count = bytes_get_u16(&reader), preferred = 0;
        uint64_t previous = 0;

        if (reader.bad || format != CONFIGURATION_FORMAT || level == 0 || count > LIMIT_MEMBERS)
                return NULL;
        configuration = raft_configuration_copy(NULL, count);
        configuration->index = index;
        configuration->level = level;
        configuration->count = count;
        for (size_t i = 0; i < count; i++) {
                if (!get_member(&reader, previous, &configuration->members[i])) {
                        free(configuration);
                        return NULL;
                }
                previous = configuration->members[i].id;
                preferred += configuration->members[i].preferred;
        }
        if (preferred > 1 || !bytes_reader_finished(&reader)) {
                free(configuration);
                return NULL;
        }
        return configuration;
}
