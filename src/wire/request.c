/* request.c - what clients say. */
#include <assert.h>
#include <stdlib.h>

#include "wire/internal.h"

void wire_write_hello(struct bytes *out, const struct wire_hello *hello)
{
        size_t frame = wire_frame_begin(out, WIRE_HELLO, 0);

        bytes_put_u16(out, hello->version_min);
        bytes_put_u16(out, hello->version_max);
        id128_put(out, hello->cluster);
        client_id_put(out, &hello->client);
        bytes_put_u8(out, hello->assign);
        bytes_put_u32(out, hello->pid);
        wire_frame_end(out, frame, LIMIT_CLIENT_REQUEST_BYTES);
}

bool wire_read_hello(const struct wire_frame *frame, struct wire_hello *ret_hello)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);

        if (frame->type != WIRE_HELLO || frame->tag != 0)
                return false;
        *ret_hello = (struct wire_hello){ 0 };
        ret_hello->version_min = bytes_get_u16(&reader);
        ret_hello->version_max = bytes_get_u16(&reader);
        ret_hello->cluster = id128_get(&reader);
        client_id_get(&reader, true, &ret_hello->client);
        ret_hello->assign = wire_get_bool(&reader);
        ret_hello->pid = bytes_get_u32(&reader);
        if (ret_hello->version_min == 0 || ret_hello->version_min > ret_hello->version_max)
                return false;
        if (ret_hello->assign && ret_hello->client.size > 0)
                return false;
        /* A newer client may say more; what it said so far stays as it is for ever, so that versions can be compared. */
        if (ret_hello->version_max > WIRE_VERSION_MAX)
                return !reader.bad;
        return bytes_reader_finished(&reader);
}

static bool names_hold(enum wire_type type)
{
        return type == WIRE_RELEASE || type == WIRE_KEEP || type == WIRE_BREAK;
}

static void put_change(struct bytes *out, const struct wire_request *request)
{
        id128_put(out, request->handle);
        bytes_put_u64(out, request->seq);
        client_id_put(out, &request->client);
        lock_name_put(out, &request->name);
        if (names_hold(request->type))
                bytes_put_u64(out, request->token);
        if (request->type == WIRE_BREAK) {
                bytes_put_u8(out, request->now);
                holder_view_put(out, request->holder);
        }
        if (request->type == WIRE_PREEMPT) {
                bytes_put_u64(out, request->session);
                bytes_put_u32(out, request->ttl_ms);
                bytes_put_u32(out, request->delay_ms);
                bytes_put_u64(out, request->period_ms);
                bytes_put_u16(out, request->slots);
                names_view_put(out, request->further);
                bytes_put_u8(out, request->wait);
                holder_view_put(out, request->holder);
        }
}

static void put_session(struct bytes *out, const struct wire_request *request)
{
        if (request->type != WIRE_RENEW) {
                id128_put(out, request->handle);
                bytes_put_u64(out, request->seq);
        }
        client_id_put(out, &request->client);
        if (request->type == WIRE_OPEN) {
                bytes_put_u32(out, request->ttl_ms);
                bytes_put_u32(out, request->delay_ms);
                holder_view_put(out, request->holder);
        } else {
                bytes_put_u64(out, request->session);
        }
        if (request->type == WIRE_RENEW)
                bytes_put_u32(out, request->ttl_ms);
}

static void put_check(struct bytes *out, const struct wire_request *request)
{
        bytes_put_u64(out, request->min_index);
        bytes_put_u8(out, request->consistent);
        lock_name_put(out, &request->name);
        if (request->type == WIRE_CHECK)
                client_id_put(out, &request->client);
        bytes_put_u64(out, request->type == WIRE_CHECK ? request->token : request->after_token);
}

static void put_list(struct bytes *out, const struct wire_request *request)
{
        bytes_put_u64(out, request->min_index);
        lock_name_put(out, &request->name);
        lock_name_put(out, &request->after);
        bytes_put_u64(out, request->after_token);
        bytes_put_u16(out, request->limit);
}

static void put_history(struct bytes *out, const struct wire_request *request)
{
        lock_name_put(out, &request->name);
        bytes_put_u64(out, request->after_index);
        bytes_put_u16(out, request->limit);
}

static void put_watch(struct bytes *out, const struct wire_request *request)
{
        lock_name_put(out, &request->name);
        bytes_put_u8(out, request->exact);
        bytes_put_u64(out, request->after_index);
        bytes_put_u16(out, request->limit);
}

static void put_backup(struct bytes *out, const struct wire_request *request)
{
        bytes_put_u64(out, request->min_index);
        bytes_put_u64(out, request->backup);
        bytes_put_u64(out, request->offset);
}

void wire_write_request(struct bytes *out, const struct wire_request *request)
{
        size_t frame = wire_frame_begin(out, request->type, request->tag);

        assert(request->deadline_ms <= LIMIT_DEADLINE_MS);
        bytes_put_u32(out, request->deadline_ms);
        switch (request->type) {
        case WIRE_PREEMPT:
        case WIRE_RELEASE:
        case WIRE_CANCEL:
        case WIRE_KEEP:
        case WIRE_BREAK:
                put_change(out, request);
                break;
        case WIRE_AWAIT:
                lock_name_put(out, &request->name);
                bytes_put_u64(out, request->token);
                bytes_put_u8(out, request->bound);
                break;
        case WIRE_OPEN:
        case WIRE_CLOSE:
        case WIRE_RENEW:
                put_session(out, request);
                break;
        case WIRE_CHECK:
        case WIRE_SHOW:
        case WIRE_QUEUE:
                put_check(out, request);
                break;
        case WIRE_LIST:
                put_list(out, request);
                break;
        case WIRE_HISTORY:
                put_history(out, request);
                break;
        case WIRE_WATCH:
                put_watch(out, request);
                break;
        case WIRE_TRANSFER:
        case WIRE_REMOVE:
                wire_put_word(out, request->node, LIMIT_NODE_NAME_BYTES);
                break;
        case WIRE_STATUS:
        case WIRE_MEMBERS:
                break;
        case WIRE_BACKUP:
                put_backup(out, request);
                break;
        case WIRE_HELLO:
        case WIRE_WELCOME:
        case WIRE_REFUSAL:
        case WIRE_RESULT:
        case WIRE_ROWS:
        case WIRE_EVENTS:
        case WIRE_STATE:
        case WIRE_PIECE:
        case WIRE_ROSTER:
        case WIRE_CHANGES:
                abort();                     /* not a request */
        }
        wire_frame_end(out, frame, LIMIT_CLIENT_REQUEST_BYTES);
}

static bool get_change(struct bytes_reader *reader, struct wire_request *request)
{
        request->handle = id128_get(reader);
        request->seq = bytes_get_u64(reader);
        client_id_get(reader, true, &request->client);
        lock_name_get(reader, false, &request->name);
        if (names_hold(request->type))
                request->token = bytes_get_u64(reader);
        if (request->type == WIRE_BREAK) {
                request->now = wire_get_bool(reader);
                holder_view_get(reader, &request->holder);
        }
        if (request->type != WIRE_PREEMPT)
                return true;
        request->session = bytes_get_u64(reader);
        request->ttl_ms = bytes_get_u32(reader);
        request->delay_ms = bytes_get_u32(reader);
        request->period_ms = bytes_get_u64(reader);
        request->slots = bytes_get_u16(reader);
        names_view_get(reader, &request->name, &request->further);
        request->wait = wire_get_bool(reader);
        holder_view_get(reader, &request->holder);
        if (request->wait && request->ttl_ms == 0 && request->session == 0)
                return false;
        if (request->further.count > 0 && (request->slots != 0 || request->period_ms != 0))
                return false;
        return limit_slots_is_valid(request->slots) && (request->ttl_ms == 0 || (request->session == 0 && limit_ttl_is_valid(request->ttl_ms))) &&
               limit_delay_is_valid(request->ttl_ms, request->delay_ms) &&
               (request->period_ms == 0 || limit_period_is_valid(request->period_ms));
}

static bool get_session(struct bytes_reader *reader, struct wire_request *request)
{
        if (request->type != WIRE_RENEW) {
                request->handle = id128_get(reader);
                request->seq = bytes_get_u64(reader);
        }
        client_id_get(reader, true, &request->client);
        if (request->type == WIRE_OPEN) {
                request->ttl_ms = bytes_get_u32(reader);
                request->delay_ms = bytes_get_u32(reader);
                holder_view_get(reader, &request->holder);
                return limit_ttl_is_valid(request->ttl_ms) && limit_delay_is_valid(request->ttl_ms, request->delay_ms);
        }
        request->session = bytes_get_u64(reader);
        if (request->type == WIRE_RENEW)
                request->ttl_ms = bytes_get_u32(reader);
        return request->session != 0 && (request->ttl_ms == 0 || limit_ttl_is_valid(request->ttl_ms));
}

static void get_limit(struct bytes_reader *reader, struct wire_request *request)
{
        request->limit = bytes_get_u16(reader);
        if (request->limit == 0 || request->limit > LIMIT_PAGE_ROWS)
                reader->bad = true;
}

/* False: type is not that of a request, or it contradicts itself. */
static bool get_request(struct bytes_reader *reader, uint8_t type, struct wire_request *request)
{
        switch (type) {
        case WIRE_PREEMPT:
        case WIRE_RELEASE:
        case WIRE_CANCEL:
        case WIRE_KEEP:
        case WIRE_BREAK:
                return get_change(reader, request);
        case WIRE_AWAIT:
                lock_name_get(reader, true, &request->name);
                request->token = bytes_get_u64(reader);
                request->bound = wire_get_bool(reader);
                return request->token != 0;
        case WIRE_OPEN:
        case WIRE_CLOSE:
        case WIRE_RENEW:
                return get_session(reader, request);
        case WIRE_CHECK:
        case WIRE_SHOW:
        case WIRE_QUEUE:
                request->min_index = bytes_get_u64(reader);
                request->consistent = wire_get_bool(reader);
                lock_name_get(reader, false, &request->name);
                if (type == WIRE_CHECK)
                        client_id_get(reader, true, &request->client);
                *(type == WIRE_CHECK ? &request->token : &request->after_token) = bytes_get_u64(reader);
                return true;
        case WIRE_LIST:
                request->min_index = bytes_get_u64(reader);
                lock_name_get(reader, true, &request->name);
                lock_name_get(reader, true, &request->after);
                request->after_token = bytes_get_u64(reader);
                get_limit(reader, request);
                return true;
        case WIRE_HISTORY:
                lock_name_get(reader, true, &request->name);
                request->after_index = bytes_get_u64(reader);
                get_limit(reader, request);
                return true;
        case WIRE_WATCH:
                lock_name_get(reader, true, &request->name);
                request->exact = wire_get_bool(reader);
                request->after_index = bytes_get_u64(reader);
                get_limit(reader, request);
                return !request->exact || request->name.size > 0;
        case WIRE_TRANSFER:
        case WIRE_REMOVE:
                wire_get_node_name(reader, false, request->node);
                return true;
        case WIRE_STATUS:
        case WIRE_MEMBERS:
                return true;
        case WIRE_BACKUP:
                request->min_index = bytes_get_u64(reader);
                request->backup = bytes_get_u64(reader);
                request->offset = bytes_get_u64(reader);
                return request->backup != 0 || request->offset == 0;
        default:
                return false;
        }
}

bool wire_read_request(const struct wire_frame *frame, struct wire_request *ret_request)
{
        struct bytes_reader reader = bytes_reader_of(frame->body, frame->body_size);

        *ret_request = (struct wire_request){ .type = frame->type, .tag = frame->tag };
        ret_request->deadline_ms = bytes_get_u32(&reader);
        if (ret_request->deadline_ms > LIMIT_DEADLINE_MS)
                return false;
        return get_request(&reader, frame->type, ret_request) && bytes_reader_finished(&reader);
}
