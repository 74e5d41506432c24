#include "dlockd/departed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/diag.h"
#include "base/random.h"

/* A process that dies closes its files a moment before it has ended. One that lives for longer only closed a connection. */
#define LOOK_MS 5000
/* Looked at at once: each has the descriptor of a connection that was closed. Of those beyond, the time to live tells. */
#define LOOKS_MAX 4096
/* How long it may take until there is a leader. */
#define PATIENCE_MS 60000

struct look {
        TAILQ_ENTRY(look) link;
        struct departed_table *table;
        int pidfd;
        struct loop_source *source;
        uint64_t until;
        pid_t pid;
        struct principal principal;
        struct departed_id *ids;
        size_t id_count;
        struct lock_request *pending;
        size_t pending_count;
};

/* What is asked in the name of the dead. Its address is the tag of its answer. */
struct giving_up {
        LIST_ENTRY(giving_up) link;
        struct lock_request request;
};

struct departed_table {
        struct daemon *daemon;
        TAILQ_HEAD(, look) looks;            /* by until */
        size_t count;
        LIST_HEAD(, giving_up) asked;
};

pid_t departed_process_of(int fd)
{
        struct ucred credentials;
        socklen_t size = sizeof(credentials);
        int family;
        socklen_t family_size = sizeof(family);

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &family_size) < 0 || family != AF_UNIX)
                return 0;
        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0 ? 0 : credentials.pid;
}

static struct look *forget(struct look *look)
{
        TAILQ_REMOVE(&look->table->looks, look, link);
        look->table->count--;
        loop_source_free(look->source);
        if (look->pidfd >= 0)
                (void)close(look->pidfd);
        free(look->ids);
        free(look->pending);
        free(look);
        return NULL;
}

/* What it waits for, or held, as the table has it; false: nothing, or not its own. Who has got the lock may have been told so, through another node,
 * before its end: the leader looks again. What is lost with a lock-delay waits for its time to live, and then for that. */
static bool find_left(const struct look *look, const struct departed_id *left, struct lock_request *request)
{
        const struct lock_table *table = replica_table(look->table->daemon->replica);
        struct lock_session_view session;
        struct lock_waiter_view waiter;
        const char *client, *principal;

        *request = (struct lock_request){ .handle = id128_random(), .seq = 1, .principal = look->principal };
        if (left->waits && lock_table_find_waiter(table, left->id, &waiter)) {
                request->kind = LOCK_CHANGE_RELEASE;
                request->token = left->id;
                request->if_waits = true;
                (void)lock_name_set(&request->name, waiter.name, waiter.name_size);
                client = waiter.client;
                principal = waiter.principal;
        } else if (!left->waits && lock_table_find_session(table, left->id, &session) && !session.ended && session.delay_ms == 0) {
                request->kind = LOCK_CHANGE_CLOSE;
                request->session = left->id;
                client = session.client;
                principal = session.principal;
        } else {
                return false;
        }
        (void)client_id_set(&request->client, client, strlen(client));
        return strcmp(principal, look->principal.text) == 0;
}

static void give_up(struct departed_table *table, const struct lock_request *request)
{
        struct giving_up *asked = alloc_zeroed(1, sizeof(*asked));
        const struct replica_origin origin = { .session = DEPARTED_ORIGIN, .tag = (uint64_t)(uintptr_t)asked };

        asked->request = *request;
        LIST_INSERT_HEAD(&table->asked, asked, link);
        replica_request(table->daemon->replica, &origin, request, table->daemon->now + PATIENCE_MS);
        daemon_want_turn(table->daemon);
}

/* It shall not happen; and when it has entered the queue by then, it leaves that. */
static void call_off(const struct look *look, const struct lock_request *pending)
{
        give_up(look->table, &(struct lock_request){
                .kind = LOCK_CHANGE_CANCEL,
                .handle = pending->handle,
                .seq = pending->seq,
                .client = pending->client,
                .name = pending->name,
                .principal = look->principal,
        });
}

void departed_answer(struct departed_table *table, const struct replica_answer *answer)
{
        struct giving_up *asked = (struct giving_up *)(uintptr_t)answer->origin.tag;
        struct lock_request request = asked->request;
        bool was_cancelled = request.kind == LOCK_CHANGE_CANCEL;

        LIST_REMOVE(asked, link);
        free(asked);
        if (!was_cancelled || answer->outcome != REPLICA_WAITING)
                return;
        request.kind = LOCK_CHANGE_RELEASE;
        request.if_waits = true;
        request.token = answer->token;
        request.handle = id128_random();
        request.seq = 1;
        give_up(table, &request);
}

static void has_ended(struct look *look)
{
        size_t count = 0;

        for (size_t i = 0; i < look->id_count; i++) {
                struct lock_request request;

                if (!find_left(look, &look->ids[i], &request))
                        continue;
                give_up(look->table, &request);
                count++;
        }
        for (size_t i = 0; i < look->pending_count; i++, count++)
                call_off(look, &look->pending[i]);
        if (count > 0)
                diag_info("process %d of %s has ended: what it waited for, or held until then, is given up: %zu in all", (int)look->pid, look->principal.text, count);
        (void)forget(look);
}

static void on_end(void *context, uint32_t events)
{
        (void)events;
        has_ended(context);
}

static void *copy(const void *array, size_t count, size_t size)
{
        void *made = count > 0 ? alloc_zeroed(count, size) : NULL;

        if (made)
                memcpy(made, array, count * size);
        return made;
}

/* A process that took the number since then lives, and is nobody's loss when it ends in that time: the other one is dead. */
void departed_look(struct departed_table *table, const struct departed_left *left)
{
        struct look *look;

        if (table->count == LOOKS_MAX || table->daemon->stopping)
                return;
        look = alloc_zeroed(1, sizeof(*look));
        *look = (struct look){
                .table = table,
                .until = table->daemon->now + LOOK_MS,
                .pid = left->pid,
                .principal = *left->principal,
                .ids = copy(left->ids, left->id_count, sizeof(left->ids[0])),
                .id_count = left->id_count,
                .pending = copy(left->pending, left->pending_count, sizeof(left->pending[0])),
                .pending_count = left->pending_count,
        };
        TAILQ_INSERT_TAIL(&table->looks, look, link);
        table->count++;
        look->pidfd = pidfd_open(left->pid, 0);
        /* Also when a thread has its number by now. */
        if (look->pidfd < 0 && (errno == ESRCH || errno == EINVAL))
                has_ended(look);
        else if (look->pidfd < 0 || loop_add_io(table->daemon->loop, look->pidfd, EPOLLIN, on_end, look, &look->source) < 0)
                (void)forget(look);
}

void departed_tick(struct departed_table *table)
{
        struct look *look;

        while ((look = TAILQ_FIRST(&table->looks)) && table->daemon->now >= look->until)
                (void)forget(look);
}

struct departed_table *departed_table_new(struct daemon *daemon)
{
        struct departed_table *table = alloc_zeroed(1, sizeof(*table));

        TAILQ_INIT(&table->looks);
        LIST_INIT(&table->asked);
        table->daemon = daemon;
        return table;
}

struct departed_table *departed_table_free(struct departed_table *table)
{
        struct giving_up *asked;
        struct look *look;

        if (!table)
                return NULL;
        while ((asked = LIST_FIRST(&table->asked))) {
                LIST_REMOVE(asked, link);
                free(asked);
        }
        while ((look = TAILQ_FIRST(&table->looks)))
                (void)forget(look);
        free(table);
        return NULL;
}
