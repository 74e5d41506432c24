#include "peer/hub.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/diag.h"
#include "base/random.h"
#include "net/stream.h"

/* A connection that has not answered the hello within this time is closed. */
#define HANDSHAKE_MS 2000
/* The pause before the second attempt to dial a member; it doubles up to PEER_REDIAL_MS_MAX, and a random part of up to its half is left out. */
#define REDIAL_FIRST_MS 50
/* Connections that have not said hello, and guests: strangers must not use up the descriptors. */
#define STRANGERS_MAX 64
/* The links of a node that is no member any more: what it asked for, its own removal perhaps, is answered by then. */
#define GONE_MS 1000
/* No descriptor for another link: until the next attempt. */
#define STARVED_MS 1000
/* Lines about strangers in a minute: they may come as often as they like. */
#define COMPLAINTS_PER_MINUTE 10
/* A stranger's frame: a hello or a join. */
#define STRANGER_FRAME_BYTES 1024

enum link_state {
        LINK_CONNECTING,                     /* dialled, TCP not there yet */
        LINK_GREETING,                       /* dialled, hello sent */
        LINK_ACCEPTED,                       /* accepted, no hello yet */
        LINK_UP,                             /* a member */
        LINK_GUEST,                          /* accepted, wants to join */
        LINK_JOINING,                        /* dialled to join, welcome received */
};

struct peer_link {
        TAILQ_ENTRY(peer_link) link;
        struct peer_hub *hub;
        struct stream stream;
        struct loop_source *source;
        enum link_state state;
        uint64_t cookie;
        uint64_t node;                       /* UP; dialled: who is expected, 0: to join */
        uint64_t give_up_ms;
        bool dialled, for_join, closing;
        char host[64], local_host[64];
};

struct member {
        uint64_t node;
        char name[LIMIT_NODE_NAME_BYTES + 1];
        char address[LIMIT_ADDRESS_BYTES + 1];       /* "": not known */
        bool listed;                         /* during members_begin .. end */
        bool was_listed;                     /* else it is let in by an entry that has not reached this node yet */
        uint64_t gone_ms;                    /* when it was listed no more; 0: it is */
        bool dialling;
        size_t links_up;
        uint64_t redial_ms, backoff_ms;
        bool complained;
        bool removed_self;                   /* it said that this node is no member any more, and nothing else since */
        bool refuses;                        /* it dialled and would not have this node: nothing is said of its next attempts */
};

struct listener {
        struct peer_hub *hub;
        int fd;
};

struct peer_hub {
        struct loop *loop;
        struct peer_handler handler;
        struct peer_hello self;
        struct listen_sockets sockets;
        struct loop_source *listeners[LISTEN_FDS_MAX];
        struct listener listener_contexts[LISTEN_FDS_MAX];
        TAILQ_HEAD(link_list, peer_link) links;
        struct member members[LIMIT_MEMBERS];
        size_t member_count;
        size_t strangers;
        uint64_t now, cookie_next;
        uint64_t accept_again;               /* 0: listening */
        uint64_t complaints_since;
        unsigned complaints;
        char complaint[LIMIT_REASON_BYTES + 256];    /* the last one */
        struct peer_link *join;
        struct peer_raft raft;               /* decoding scratch */
};

static struct member *find_member(struct peer_hub *hub, uint64_t node)
{
        for (size_t i = 0; i < hub->member_count; i++)
                if (hub->members[i].node == node)
                        return &hub->members[i];
        return NULL;
}

static void complain(struct peer_hub *hub, const char *format, ...) _printf_(2, 3);
static void complain(struct peer_hub *hub, const char *format, ...)
{
        char text[sizeof(hub->complaint)];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        if (hub->now - hub->complaints_since >= 60000) {
                hub->complaints_since = hub->now;
                hub->complaints = 0;
        } else if (strcmp(text, hub->complaint) == 0) {
                return;
        }
        (void)snprintf(hub->complaint, sizeof(hub->complaint), "%s", text);
        if (++hub->complaints <= COMPLAINTS_PER_MINUTE)
                diag_notice("%s", text);
        if (hub->complaints == COMPLAINTS_PER_MINUTE)
                diag_notice("more strangers are not named in this minute");
}

/* --- links --- */

static bool is_stranger(const struct peer_link *link)
{
        return link->state == LINK_ACCEPTED || link->state == LINK_GUEST;
}

static void schedule_redial(struct peer_hub *hub, struct member *member)
{
        member->backoff_ms = member->backoff_ms ? MIN(member->backoff_ms * 2, (uint64_t)PEER_REDIAL_MS_MAX) : REDIAL_FIRST_MS;
        member->redial_ms = hub->now + member->backoff_ms - random_u64() % (member->backoff_ms / 2);
}

/* Tells who must know, then frees. reason: for people, or NULL when it was expected. */
static void close_link(struct peer_link *link, const char *reason)
{
        struct peer_hub *hub = link->hub;
        struct member *member = link->node ? find_member(hub, link->node) : NULL;
        enum link_state state = link->state;
        bool for_join = hub->join == link;
        uint64_t node = link->node;

        TAILQ_REMOVE(&hub->links, link, link);
        hub->strangers -= is_stranger(link);
        loop_source_free(link->source);
        stream_done(&link->stream);
        free(link);
        if (for_join)
                hub->join = NULL;

        if (member && state == LINK_UP) {
                member->links_up--;
                if (reason && member->links_up == 0 && !member->refuses)
                        diag_info("link to %s is down: %s", member->name, reason);
                schedule_redial(hub, member);
                if (member->links_up == 0)
                        hub->handler.linked(hub->handler.context, node, 0, false);
        } else if (member && (state == LINK_CONNECTING || state == LINK_GREETING)) {
                member->dialling = false;
                schedule_redial(hub, member);
        }
        if (for_join)
                hub->handler.join_down(hub->handler.context, reason ? reason : "closed");
}

static void on_link(void *context, uint32_t events);

static void update_events(struct peer_link *link)
{
        uint32_t events = EPOLLIN;

        if (link->state == LINK_CONNECTING)
                events = EPOLLOUT;
        else if (stream_unsent(&link->stream) > 0)
                events |= EPOLLOUT;
        loop_io_set_events(link->source, events);
}

static struct peer_link *add_link(struct peer_hub *hub, int fd, enum link_state state)
{
        struct peer_link *link = alloc_zeroed(1, sizeof(*link));

        stream_init(&link->stream, fd);
        stream_tune(fd, true);
        link->hub = hub;
        link->state = state;
        link->cookie = hub->cookie_next++;
        link->give_up_ms = hub->now + HANDSHAKE_MS;
        link->dialled = state == LINK_CONNECTING;
        stream_peer_host(fd, link->host, sizeof(link->host));
        if (loop_add_io(hub->loop, fd, state == LINK_CONNECTING ? EPOLLOUT : EPOLLIN, on_link, link, &link->source) < 0) {
                stream_done(&link->stream);
                free(link);
                return NULL;
        }
        TAILQ_INSERT_TAIL(&hub->links, link, link);
        hub->strangers += is_stranger(link);
        return link;
}

static void link_is_up(struct peer_link *link, const struct peer_hello *hello)
{
        struct peer_hub *hub = link->hub;
        struct member *member = find_member(hub, hello->node);

        if (!member) {
                /* Let in by an entry that has not reached this node yet. */
                if (hub->member_count == LIMIT_MEMBERS) {
                        close_link(link, "too many members");
                        return;
                }
                member = &hub->members[hub->member_count++];
                *member = (struct member){ .node = hello->node };
        }
        (void)snprintf(member->name, sizeof(member->name), "%s", hello->name);
        hub->strangers -= is_stranger(link);
        link->state = LINK_UP;
        link->node = hello->node;
        link->give_up_ms = UINT64_MAX;
        if (link->dialled)
                member->dialling = false;
        member->removed_self = false;
        member->backoff_ms = 0;
        member->refuses = member->refuses && !link->dialled;
        member->complained = member->refuses;
        stream_local_host(link->stream.fd, link->local_host, sizeof(link->local_host));
        hub->handler.reached(hub->handler.context, link->local_host);
        if (member->links_up++ == 0 && !member->refuses)
                diag_info("link to %s is up", member->name);
        /* Of one more link, too: the other may be dead and not missed yet, with what was sent on it, and from before an upgrade. */
        hub->handler.linked(hub->handler.context, hello->node, hello->level, true);
}

static void send_hello(struct peer_link *link, enum peer_type type)
{
        struct peer_hello hello = link->hub->self;

        hello.version_min = type == PEER_WELCOME ? PEER_VERSION_MAX : PEER_VERSION_MIN;
        hello.version_max = PEER_VERSION_MAX;
        hello.expects = type == PEER_HELLO ? link->node : 0;
        peer_write_hello(&link->stream.out, type, &hello);
}

static void refuse(struct peer_link *link, const char *reason)
{
        peer_write_refusal(&link->stream.out, reason);
        (void)stream_send(&link->stream);
        close_link(link, reason);
}

/* --- the handshake --- */

static const char *check_hello(struct peer_hub *hub, const struct peer_hello *hello)
{
        if (hello->version_min > PEER_VERSION_MAX || hello->version_max < PEER_VERSION_MIN)
                return "no common version of the peer protocol: upgrade the older of the two nodes";
        if (!id128_is_null(hello->cluster) && !id128_is_null(hub->self.cluster) && !id128_equal(hello->cluster, hub->self.cluster))
                return "foreign cluster: this node belongs to another cluster; check the join addresses, or empty the state directory of the node that is in the wrong one";
        if (id128_equal(hello->incarnation, hub->self.incarnation))
                return "this is a copy of the same node's database, or the node itself";
        return hub->handler.judge(hub->handler.context, hello);
}

static void on_hello(struct peer_link *link, const struct peer_hello *hello)
{
        struct peer_hub *hub = link->hub;
        const char *reason = check_hello(hub, hello);

        /* It may have dialled the node that was at this address before: a cluster is alive all the same. */
        if (!reason && hello->node != 0 && hub->self.node == 0)
                hub->handler.met_cluster(hub->handler.context, hello, link->host);
        if (!reason && hello->expects != 0 && hello->expects != hub->self.node)
                reason = "this address belongs to another node now";
        if (reason) {
                complain(hub, "refused the node %s at %s: %s", hello->name, link->host, reason);
                refuse(link, reason);
                return;
        }
        send_hello(link, PEER_WELCOME);
        if (hello->node != 0 && hub->self.node != 0) {
                link_is_up(link, hello);
                return;
        }
        link->state = LINK_GUEST;
        link->give_up_ms = hub->now + 30000;
}

static void on_welcome(struct peer_link *link, const struct peer_hello *welcome)
{
        struct peer_hub *hub = link->hub;
        const char *reason = check_hello(hub, welcome);

        if (!reason && !link->for_join && welcome->node != link->node)
                reason = "the node at this address is not the one expected there";
        if (reason) {
                struct member *member = link->node ? find_member(hub, link->node) : NULL;

                if (member && !member->complained) {
                        diag_notice("not linked to %s at %s: %s", member->name, member->address, reason);
                        member->complained = true;
                }
                refuse(link, reason);
                return;
        }
        if (!link->for_join || (welcome->node != 0 && hub->self.node != 0)) {
                if (hub->join == link && peer_hub_is_linked(hub, welcome->node)) {
                        close_link(link, "linked already");
                        return;
                }
                if (hub->join == link)
                        hub->join = NULL;    /* a member found through a join address is a link like any other */
                link_is_up(link, welcome);
                return;
        }
        link->state = LINK_JOINING;
        link->give_up_ms = hub->now + 30000;
        stream_local_host(link->stream.fd, link->local_host, sizeof(link->local_host));
        hub->handler.join_up(hub->handler.context, welcome, link->local_host);
}

/* --- frames --- */

/* Said once, until the other has this node again. */
static void on_refusal(struct peer_link *link, const char *reason)
{
        struct member *member = link->node ? find_member(link->hub, link->node) : NULL;
        struct peer_hub *hub = link->hub;
        bool outdated = member && strcmp(reason, PEER_REASON_OLD) == 0, removed = member && strcmp(reason, PEER_REASON_GONE) == 0;

        if (member && !member->complained)
                diag_notice("%s at %s refused this node: %s", member->name, *member->address ? member->address : link->host, reason);
        if (member) {
                member->complained = true;
                member->removed_self = removed;
                member->refuses = link->state == LINK_UP;
        }
        close_link(link, reason);
        if (outdated)
                hub->handler.outdated(hub->handler.context);
        if (removed)
                hub->handler.removed(hub->handler.context);
}

/* Who dialled has nothing against this node when it goes on after the greeting. */
static void on_accepted(struct peer_link *link)
{
        struct member *member = find_member(link->hub, link->node);

        if (!member || !member->refuses)
                return;
        member->refuses = member->complained = false;
        diag_info("link to %s is up", member->name);
}

/* The link may be gone afterwards: callers look it up again by its cookie. */
static void on_frame(struct peer_link *link, const struct peer_frame *frame)
{
        struct peer_hub *hub = link->hub;
        const struct peer_handler *handler = &hub->handler;
        char reason[LIMIT_REASON_BYTES + 1];
        struct peer_hello hello;
        uint64_t cookie = link->cookie;

        switch (frame->type) {
        case PEER_HELLO:
                if (link->state != LINK_ACCEPTED || !peer_read_hello(frame, &hello))
                        break;
                on_hello(link, &hello);
                return;
        case PEER_WELCOME:
                if (link->state != LINK_GREETING || !peer_read_hello(frame, &hello))
                        break;
                on_welcome(link, &hello);
                return;
        case PEER_REFUSAL:
                /* Of a link that is up: this node's program is too old, or it is no member any more. */
                if ((link->state != LINK_GREETING && link->state != LINK_UP) || !peer_read_refusal(frame, reason))
                        break;
                on_refusal(link, reason);
                return;
        case PEER_RAFT:
                if (link->state != LINK_UP || !peer_read_raft(frame, &hub->raft))
                        break;
                on_accepted(link);
                hub->raft.message.node = link->node;
                handler->raft(handler->context, link->node, &hub->raft.message);
                peer_raft_clear(&hub->raft);
                return;
        case PEER_NODE:
                if (link->state == LINK_UP)
                        handler->node(handler->context, link->node, frame->body, frame->body_size);
                else if (link->state == LINK_GUEST)
                        handler->guest(handler->context, cookie, link->host, frame->body, frame->body_size);
                else if (link->state == LINK_JOINING)
                        handler->join_message(handler->context, frame->body, frame->body_size);
                else
                        break;
                return;
        case PEER_BYE:
                if (link->state != LINK_UP)
                        break;
                handler->bye(handler->context, link->node);
                return;
        }
        peer_raft_clear(&hub->raft);
        complain(hub, "closed a link from %s: malformed or unexpected frame of type %u", link->host[0] ? link->host : "a local socket", (unsigned)frame->type);
        close_link(link, "malformed frame");
}

static struct peer_link *find_link(struct peer_hub *hub, uint64_t cookie)
{
        struct peer_link *link;

        TAILQ_FOREACH(link, &hub->links, link)
                if (link->cookie == cookie)
                        return link;
        return NULL;
}

/* Takes the frames that are whole. False: the link is gone. */
static bool take_frames(struct peer_hub *hub, uint64_t cookie)
{
        struct peer_link *link;

        while ((link = find_link(hub, cookie))) {
                size_t size, frame_max = link->state == LINK_UP ? LIMIT_PEER_FRAME_BYTES : STRANGER_FRAME_BYTES;
                const uint8_t *data = stream_unread(&link->stream, &size);
                struct peer_frame frame;

                switch (peer_frame_parse(data, size, frame_max, &frame)) {
                case PEER_FRAME_INCOMPLETE:
                        return true;
                case PEER_FRAME_MALFORMED:
                        complain(hub, "closed a link from %s: a frame longer than allowed, or not of this protocol", link->host);
                        close_link(link, "malformed frame");
                        return false;
                case PEER_FRAME_READY:
                        break;
                }
                stream_take(&link->stream, frame.total);
                on_frame(link, &frame);
        }
        return false;
}

static void on_connected(struct peer_link *link)
{
        int r = stream_connect_result(link->stream.fd);

        if (r < 0) {
                close_link(link, strerror(-r));
                return;
        }
        stream_peer_host(link->stream.fd, link->host, sizeof(link->host));
        link->state = LINK_GREETING;
        send_hello(link, PEER_HELLO);
        if (stream_send(&link->stream) < 0)
                close_link(link, "connection lost");
        else
                update_events(link);
}

static void on_link(void *context, uint32_t events)
{
        struct peer_link *link = context;
        struct peer_hub *hub = link->hub;
        uint64_t cookie = link->cookie;
        int r = -EAGAIN;

        if (link->state == LINK_CONNECTING) {
                on_connected(link);
                return;
        }
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                r = stream_receive(&link->stream, 2 * LIMIT_PEER_FRAME_BYTES);
        if (r > 0 && !take_frames(hub, cookie))
                return;
        if (r == 0 || (r < 0 && r != -EAGAIN)) {
                close_link(link, r == 0 ? "closed by the other side" : strerror(-r));
                return;
        }
        if (stream_send(&link->stream) < 0)
                close_link(link, "connection lost");
        else
                update_events(link);
}

static void listen_for(struct peer_hub *hub, uint32_t events)
{
        for (size_t i = 0; i < hub->sockets.count; i++)
                loop_io_set_events(hub->listeners[i], events);
}

/* A member says its hello at once: who was silent longest makes room, before who waits to be let in. */
static void make_room_for_stranger(struct peer_hub *hub)
{
        struct peer_link *link, *oldest = NULL;

        TAILQ_FOREACH(link, &hub->links, link)
                if (is_stranger(link) && (!oldest || (oldest->state == LINK_GUEST && link->state == LINK_ACCEPTED)))
                        oldest = link;
        if (oldest)
                close_link(oldest, "too many strangers");
}

static void on_accept(void *context, uint32_t events)
{
        const struct listener *listener = context;
        struct peer_hub *hub = listener->hub;

        (void)events;
        for (int i = 0; i < 64; i++) {
                int fd = listen_accept(listener->fd);

                if (fd == -EMFILE || fd == -ENFILE || fd == -ENOBUFS || fd == -ENOMEM) {
                        /* The socket stays ready: without a pause the loop would ask for ever. */
                        listen_for(hub, 0);
                        hub->accept_again = hub->now + STARVED_MS;
                        complain(hub, "another node cannot be accepted: %s: raise LimitNOFILE, or the system's limits", strerror(-fd));
                }
                if (fd < 0)
                        return;
                if (hub->strangers >= STRANGERS_MAX)
                        make_room_for_stranger(hub);
                (void)add_link(hub, fd, LINK_ACCEPTED);
        }
}

/* --- dialling --- */

static struct peer_link *dial(struct peer_hub *hub, const char *text, const char **ret_reason)
{
        struct address address;
        struct peer_link *link;
        int fd, r;

        if (!address_parse(text, 0, &address)) {
                *ret_reason = "not an address";
                return NULL;
        }
        r = stream_connect(&address, &fd);
        if (r < 0) {
                *ret_reason = strerror(-r);
                return NULL;
        }
        link = add_link(hub, fd, LINK_CONNECTING);
        if (!link)
                *ret_reason = "no resources";
        return link;
}

static void dial_member(struct peer_hub *hub, struct member *member)
{
        const char *reason;
        struct peer_link *link = dial(hub, member->address, &reason);

        if (!link) {
                schedule_redial(hub, member);
                return;
        }
        link->node = member->node;
        member->dialling = true;
}

void peer_hub_join(struct peer_hub *hub, const char *address)
{
        const char *reason = NULL;

        if (hub->join) {
                struct peer_link *link = hub->join;

                hub->join = NULL;
                close_link(link, NULL);
        }
        if (!address)
                return;
        hub->join = dial(hub, address, &reason);
        if (hub->join)
                hub->join->for_join = true;
        else
                hub->handler.join_down(hub->handler.context, reason);
}

void peer_hub_tick(struct peer_hub *hub, uint64_t now)
{
        struct peer_link *link, *next;

        hub->now = now;
        if (hub->accept_again != 0 && now >= hub->accept_again) {
                hub->accept_again = 0;
                listen_for(hub, EPOLLIN);
        }
        for (link = TAILQ_FIRST(&hub->links); link; link = next) {
                next = TAILQ_NEXT(link, link);
                if (now >= link->give_up_ms)
                        close_link(link, "no answer to the hello");
        }
        for (size_t i = 0; i < hub->member_count; i++) {
                struct member *member = &hub->members[i];

                if (!member->listed || member->links_up > 0 || member->dialling || member->address[0] == 0 || now < member->redial_ms)
                        continue;
                dial_member(hub, member);
        }
}

/* --- members --- */

void peer_hub_members_begin(struct peer_hub *hub)
{
        for (size_t i = 0; i < hub->member_count; i++)
                hub->members[i].listed = false;
}

void peer_hub_member(struct peer_hub *hub, uint64_t node, const char *name, const char *address)
{
        struct member *member = find_member(hub, node);

        if (node == hub->self.node)
                return;
        if (!member && hub->member_count < LIMIT_MEMBERS) {
                member = &hub->members[hub->member_count++];
                *member = (struct member){ .node = node };
        }
        if (!member)
                return;
        member->listed = member->was_listed = true;
        member->gone_ms = 0;
        (void)snprintf(member->name, sizeof(member->name), "%s", name);
        if (strcmp(member->address, address ? address : "") != 0) {
                (void)snprintf(member->address, sizeof(member->address), "%s", address ? address : "");
                member->redial_ms = member->backoff_ms = 0;
        }
}

static void drop_links(struct peer_hub *hub, uint64_t node, const char *reason)
{
        struct peer_link *link, *next;

        for (link = TAILQ_FIRST(&hub->links); link; link = next) {
                next = TAILQ_NEXT(link, link);
                if (link->state == LINK_UP && link->node == node)
                        refuse(link, reason);
        }
}

/* True: it was a member, and has had its time. */
static bool is_gone(struct peer_hub *hub, struct member *member)
{
        if (member->listed || !member->was_listed)
                return false;
        if (member->gone_ms == 0)
                member->gone_ms = hub->now;
        return hub->now - member->gone_ms >= GONE_MS;
}

void peer_hub_members_end(struct peer_hub *hub)
{
        for (size_t i = 0; i < hub->member_count;) {
                if (is_gone(hub, &hub->members[i]))
                        drop_links(hub, hub->members[i].node, PEER_REASON_GONE);
                if (hub->members[i].listed || hub->members[i].links_up > 0 || hub->members[i].dialling)
                        i++;
                else
                        hub->members[i] = hub->members[--hub->member_count];
        }
}

bool peer_hub_is_linked(const struct peer_hub *hub, uint64_t node)
{
        const struct member *member = find_member((struct peer_hub *)hub, node);

        return member && member->links_up > 0;
}

bool peer_hub_is_removed_by(const struct peer_hub *hub, uint64_t node)
{
        const struct member *member = find_member((struct peer_hub *)hub, node);

        return member && member->removed_self;
}

/* --- sending --- */

static struct peer_link *link_to(struct peer_hub *hub, uint64_t node)
{
        struct peer_link *link;

        TAILQ_FOREACH(link, &hub->links, link)
                if (link->state == LINK_UP && link->node == node && !link->closing)
                        return link;
        return NULL;
}

void peer_hub_send_raft(struct peer_hub *hub, const struct raft_message *message)
{
        struct peer_link *link = link_to(hub, message->node);

        if (link)
                peer_write_raft(&link->stream.out, message);
}

void peer_hub_send_node(struct peer_hub *hub, uint64_t node, const void *data, size_t size)
{
        struct peer_link *link = link_to(hub, node);

        if (link)
                peer_write_node(&link->stream.out, data, size);
}

void peer_hub_reply(struct peer_hub *hub, uint64_t cookie, const void *data, size_t size)
{
        struct peer_link *link = find_link(hub, cookie);

        if (link && link->state == LINK_GUEST)
                peer_write_node(&link->stream.out, data, size);
}

void peer_hub_join_send(struct peer_hub *hub, const void *data, size_t size)
{
        if (hub->join && hub->join->state == LINK_JOINING)
                peer_write_node(&hub->join->stream.out, data, size);
}

void peer_hub_flush(struct peer_hub *hub)
{
        struct peer_link *link, *next;

        for (link = TAILQ_FIRST(&hub->links); link; link = next) {
                next = TAILQ_NEXT(link, link);
                if (link->state == LINK_CONNECTING || stream_unsent(&link->stream) == 0)
                        continue;
                if (stream_send(&link->stream) < 0)
                        close_link(link, "connection lost");
                else if (stream_unsent(&link->stream) > LIMIT_PEER_UNSENT_BYTES)
                        close_link(link, "it does not read what is sent to it");
                else
                        update_events(link);
        }
}

void peer_hub_bye(struct peer_hub *hub)
{
        struct peer_link *link;

        TAILQ_FOREACH(link, &hub->links, link)
                if (link->state == LINK_UP)
                        peer_write_bye(&link->stream.out);
        peer_hub_flush(hub);
}

/* --- life --- */

void peer_hub_set_self(struct peer_hub *hub, const struct peer_hello *self)
{
        struct peer_link *link;

        hub->self = *self;
        hub->join = NULL;                    /* its purpose is fulfilled: no report of its end */
        while ((link = TAILQ_FIRST(&hub->links)))
                close_link(link, NULL);
}

int peer_hub_new(struct loop *loop, const struct peer_handler *handler, const struct peer_hello *self, struct listen_sockets *sockets,
                 struct peer_hub **ret_hub)
{
        struct peer_hub *hub = alloc_zeroed(1, sizeof(*hub));
        int r;

        TAILQ_INIT(&hub->links);
        hub->loop = loop;
        hub->handler = *handler;
        hub->self = *self;
        hub->cookie_next = 1;
        hub->sockets = *sockets;
        *sockets = (struct listen_sockets){ 0 };
        for (size_t i = 0; i < hub->sockets.count; i++) {
                hub->listener_contexts[i].hub = hub;
                hub->listener_contexts[i].fd = hub->sockets.fds[i];
                r = loop_add_io(loop, hub->sockets.fds[i], EPOLLIN, on_accept, &hub->listener_contexts[i], &hub->listeners[i]);
                if (r < 0) {
                        peer_hub_free(hub);
                        return r;
                }
        }
        *ret_hub = hub;
        return 0;
}

struct peer_hub *peer_hub_free(struct peer_hub *hub)
{
        struct peer_link *link;

        if (!hub)
                return NULL;
        while ((link = TAILQ_FIRST(&hub->links))) {
                TAILQ_REMOVE(&hub->links, link, link);
                loop_source_free(link->source);
                stream_done(&link->stream);
                free(link);
        }
        for (size_t i = 0; i < hub->sockets.count; i++)
                loop_source_free(hub->listeners[i]);
        listen_close(&hub->sockets);
        peer_raft_done(&hub->raft);
        free(hub);
        return NULL;
}
