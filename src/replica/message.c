#include "replica/message.h"

#include <assert.h>
#include <string.h>

enum { JOIN_WITNESS = 1, JOIN_PREFERRED = 2 };
enum { REQUEST_WAIT = 1, REQUEST_NOW = 2, REQUEST_IF_WAITS = 4 };

static void put_request(struct bytes *bytes, const struct lock_request *request)
{
        bytes_put_u8(bytes, (uint8_t)request->kind);
        id128_put(bytes, request->handle);
        bytes_put_u64(bytes, request->seq);
        client_id_put(bytes, &request->client);
        principal_put(bytes, &request->principal);
        lock_name_put(bytes, &request->name);
        bytes_put_u64(bytes, request->token);
        bytes_put_u64(bytes, request->session);
        bytes_put_u32(bytes, request->ttl_ms);
        bytes_put_u32(bytes, request->delay_ms);
        bytes_put_u64(bytes, request->period_ms);
        bytes_put_u16(bytes, request->slots);
        names_view_put(bytes, request->further);
        bytes_put_u8(bytes, (uint8_t)((request->wait ? REQUEST_WAIT : 0) | (request->now ? REQUEST_NOW : 0) | (request->if_waits ? REQUEST_IF_WAITS : 0)));
        holder_view_put(bytes, request->holder);
}

static bool names_hold(enum lock_change_kind kind)
{
        return kind == LOCK_CHANGE_RELEASE || kind == LOCK_CHANGE_KEEP || kind == LOCK_CHANGE_BREAK;
}

/* A request has what its kind says, and no more. */
static bool request_agrees(const struct lock_request *request)
{
        bool ttl_is_valid = limit_ttl_is_valid(request->ttl_ms);
        bool preempts = request->kind == LOCK_CHANGE_PREEMPT, opens = request->kind == LOCK_CHANGE_OPEN, breaks = request->kind == LOCK_CHANGE_BREAK;
        bool in_session = request->kind == LOCK_CHANGE_CLOSE || request->kind == LOCK_RENEW;

        if ((request->kind == LOCK_RENEW) != (request->seq == 0) || names_hold(request->kind) != (request->token != 0))
                return false;
        if (request->period_ms != 0 && (!preempts || !limit_period_is_valid(request->period_ms)))
                return false;
        if (request->slots != 0 && (!preempts || !limit_slots_is_valid(request->slots)))
                return false;
        if (request->further.count != 0 && (!preempts || request->slots != 0 || request->period_ms != 0))
                return false;
        if ((request->now && !breaks) || (request->if_waits && request->kind != LOCK_CHANGE_RELEASE))
                return false;
        if (!limit_delay_is_valid(request->ttl_ms, request->delay_ms))
                return false;
        if (request->wait && (!preempts || (request->ttl_ms == 0 && request->session == 0)))
                return false;
        if (preempts)
                return request->ttl_ms == 0 || (ttl_is_valid && request->session == 0);
        return in_session == (request->session != 0) && (opens ? ttl_is_valid : request->ttl_ms == 0 || (request->kind == LOCK_RENEW && ttl_is_valid)) &&
               (opens || breaks || request->holder.size == 0) && (lock_change_names(request->kind) || request->name.size == 0);
}

static void get_request(struct bytes_reader *reader, struct lock_request *request)
{
        uint8_t kind = bytes_get_u8(reader), flags;

        if ((kind < LOCK_CHANGE_CLIENT || kind > LOCK_CHANGE_CLOSE) && kind != LOCK_CHANGE_KEEP && kind != LOCK_CHANGE_BREAK && kind != LOCK_RENEW) {
                reader->bad = true;
                return;
        }
        request->kind = (enum lock_change_kind)kind;
        request->handle = id128_get(reader);
        request->seq = bytes_get_u64(reader);
        client_id_get(reader, kind == LOCK_CHANGE_CLIENT, &request->client);
        principal_get(reader, false, &request->principal);
        lock_name_get(reader, !lock_change_names(request->kind), &request->name);
        request->token = bytes_get_u64(reader);
        request->session = bytes_get_u64(reader);
        request->ttl_ms = bytes_get_u32(reader);
        request->delay_ms = bytes_get_u32(reader);
        request->period_ms = bytes_get_u64(reader);
        request->slots = bytes_get_u16(reader);
        names_view_get(reader, &request->name, &request->further);
        flags = bytes_get_u8(reader);
        request->wait = flags & REQUEST_WAIT;
        request->now = flags & REQUEST_NOW;
        request->if_waits = flags & REQUEST_IF_WAITS;
        holder_view_get(reader, &request->holder);
        if (flags > (REQUEST_WAIT | REQUEST_NOW | REQUEST_IF_WAITS) || !request_agrees(request))
                reader->bad = true;
}

void node_message_put(struct bytes *bytes, const struct node_message *message)
{
        bytes_put_u8(bytes, (uint8_t)message->kind);
        switch (message->kind) {
        case NODE_FORWARD:
                bytes_put_u64(bytes, message->id);
                bytes_put_u64(bytes, message->term);
                bytes_put_u64(bytes, message->cluster_ms);
                put_request(bytes, &message->request);
                return;
        case NODE_FORWARD_REPLY:
                bytes_put_u64(bytes, message->id);
                bytes_put_u8(bytes, (uint8_t)message->outcome);
                bytes_put_u64(bytes, message->token);
                bytes_put_u64(bytes, message->index);
                bytes_put_u64(bytes, message->until_cluster_ms);
                client_id_put(bytes, &message->client);
                return;
        case NODE_JOIN:
                id128_put(bytes, message->incarnation);
                bytes_put_text8(bytes, message->name, strlen(message->name));
                bytes_put_u8(bytes, (uint8_t)((message->witness ? JOIN_WITNESS : 0) | (message->preferred ? JOIN_PREFERRED : 0)));
                bytes_put_text16(bytes, message->address, strlen(message->address));
                return;
        case NODE_JOIN_REPLY:
                bytes_put_u8(bytes, (uint8_t)message->join);
                bytes_put_u64(bytes, message->node);
                id128_put(bytes, message->cluster);
                bytes_put_text16(bytes, message->address, strlen(message->address));
                return;
        case NODE_LEAVE:
                bytes_put_u8(bytes, message->returns);
                return;
        case NODE_LEAVE_REPLY:
                return;
        case NODE_ANNOUNCE:
                bytes_put_text16(bytes, message->address, strlen(message->address));
                return;
        case NODE_READ:
                bytes_put_u64(bytes, message->id);
                bytes_put_u64(bytes, message->term);
                return;
        case NODE_READ_REPLY:
                bytes_put_u64(bytes, message->id);
                bytes_put_u8(bytes, (uint8_t)message->outcome);
                bytes_put_u64(bytes, message->index);
                return;
        case NODE_ADMIN:
                bytes_put_u64(bytes, message->id);
                bytes_put_u8(bytes, (uint8_t)message->admin.kind);
                bytes_put_u64(bytes, message->admin.node);
                bytes_put_text8(bytes, message->admin.name, strlen(message->admin.name));
                return;
        case NODE_ADMIN_REPLY:
                bytes_put_u64(bytes, message->id);
                bytes_put_u8(bytes, (uint8_t)message->admin_outcome);
                return;
        }
        assert(false);
}

/* Zero bytes inside a text would end it early: refused. */
static void get_address(struct bytes_reader *reader, char *address, size_t capacity)
{
        if (bytes_get_text16(reader, address, capacity) != strlen(address))
                reader->bad = true;
}

static enum replica_outcome get_outcome(struct bytes_reader *reader)
{
        uint8_t number = bytes_get_u8(reader);

        if (number < REPLICA_YES || number > REPLICA_OTHER_TTL)
                reader->bad = true;
        return (enum replica_outcome)number;
}

static void get_admin(struct bytes_reader *reader, struct node_message *message)
{
        uint8_t kind;
        size_t size;

        message->id = bytes_get_u64(reader);
        kind = bytes_get_u8(reader);
        message->admin.kind = (enum admin_kind)kind;
        message->admin.node = bytes_get_u64(reader);
        size = bytes_get_text8(reader, message->admin.name, sizeof(message->admin.name));
        if ((kind != ADMIN_TRANSFER && kind != ADMIN_REMOVE) || !node_name_is_valid(message->admin.name, size))
                reader->bad = true;
}

static void get_body(struct bytes_reader *reader, struct node_message *message)
{
        size_t size;
        uint8_t number;

        switch (message->kind) {
        case NODE_FORWARD:
                message->id = bytes_get_u64(reader);
                message->term = bytes_get_u64(reader);
                message->cluster_ms = bytes_get_u64(reader);
                get_request(reader, &message->request);
                return;
        case NODE_FORWARD_REPLY:
                message->id = bytes_get_u64(reader);
                message->outcome = get_outcome(reader);
                message->token = bytes_get_u64(reader);
                message->index = bytes_get_u64(reader);
                message->until_cluster_ms = bytes_get_u64(reader);
                client_id_get(reader, true, &message->client);
                return;
        case NODE_JOIN:
                message->incarnation = id128_get(reader);
                size = bytes_get_text8(reader, message->name, sizeof(message->name));
                if (!node_name_is_valid(message->name, size) || id128_is_null(message->incarnation))
                        reader->bad = true;
                number = bytes_get_u8(reader);
                if (number & ~(JOIN_WITNESS | JOIN_PREFERRED))
                        reader->bad = true;
                message->witness = number & JOIN_WITNESS;
                message->preferred = number & JOIN_PREFERRED;
                get_address(reader, message->address, sizeof(message->address));
                return;
        case NODE_JOIN_REPLY:
                number = bytes_get_u8(reader);
                if (number < JOIN_WELCOME || number > JOIN_CLUSTER_FULL)
                        reader->bad = true;
                message->join = (enum join_outcome)number;
                message->node = bytes_get_u64(reader);
                message->cluster = id128_get(reader);
                get_address(reader, message->address, sizeof(message->address));
                return;
        case NODE_LEAVE:
                number = bytes_get_u8(reader);
                if (number > 1)
                        reader->bad = true;
                message->returns = number;
                return;
        case NODE_LEAVE_REPLY:
                return;
        case NODE_ANNOUNCE:
                get_address(reader, message->address, sizeof(message->address));
                return;
        case NODE_READ:
                message->id = bytes_get_u64(reader);
                message->term = bytes_get_u64(reader);
                return;
        case NODE_READ_REPLY:
                message->id = bytes_get_u64(reader);
                message->outcome = get_outcome(reader);
                message->index = bytes_get_u64(reader);
                return;
        case NODE_ADMIN:
                get_admin(reader, message);
                return;
        case NODE_ADMIN_REPLY:
                message->id = bytes_get_u64(reader);
                number = bytes_get_u8(reader);
                if (number < ADMIN_DONE || number > ADMIN_WITNESS)
                        reader->bad = true;
                message->admin_outcome = (enum admin_outcome)number;
                return;
        }
        reader->bad = true;
}

bool node_message_get(const void *data, size_t size, struct node_message *ret_message)
{
        struct bytes_reader reader = bytes_reader_of(data, size);

        *ret_message = (struct node_message){ .kind = (enum node_message_kind)bytes_get_u8(&reader) };
        get_body(&reader, ret_message);
        return bytes_reader_finished(&reader);
}
