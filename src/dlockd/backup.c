#include "dlockd/backup.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/diag.h"
#include "base/random.h"
#include "store/backup.h"

struct backup {
        LIST_ENTRY(backup) link;
        uint64_t session;                    /* whose */
        uint64_t id;                         /* as the client knows it; 0: not made yet */
        uint64_t store_id;
        uint64_t index, total;
        int64_t leader_age_ms;
        uint64_t asked;                      /* when it was wanted last */
        bool busy;                           /* the store is at work for it */
};

/* Over TCP the kernel's word about the other end may be about a proxy that forwards for anybody. */
bool backup_is_allowed(int fd)
{
        struct sockaddr local;
        struct ucred credentials;
        socklen_t size = sizeof(local);

        if (getsockname(fd, &local, &size) < 0 || local.sa_family != AF_UNIX)
                return false;
        size = sizeof(credentials);
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
                return false;
        return credentials.uid == 0 || credentials.uid == geteuid();
}

static struct backup *find(struct daemon *daemon, uint64_t session)
{
        struct backup *backup;

        LIST_FOREACH(backup, &daemon->backups, link)
                if (backup->session == session)
                        return backup;
        return NULL;
}

static void forget(struct daemon *daemon, struct backup *backup)
{
        if (backup->store_id != 0)
                store_backup_drop(daemon->store, backup->store_id);
        LIST_REMOVE(backup, link);
        daemon->backup_count--;
        free(backup);
}

void backup_forget(struct daemon *daemon, uint64_t session)
{
        struct backup *backup = find(daemon, session);

        if (backup)
                forget(daemon, backup);
}

void backup_forget_all(struct daemon *daemon)
{
        while (!LIST_EMPTY(&daemon->backups))
                forget(daemon, LIST_FIRST(&daemon->backups));
}

bool backup_begin(struct daemon *daemon, uint64_t session)
{
        struct backup *backup = find(daemon, session);

        /* One for each session: a new one replaces it, but not while an answer of the store about it is awaited. */
        if (backup && !backup->busy)
                forget(daemon, backup);
        else if (backup)
                return false;
        if (daemon->backup_count == LIMIT_BACKUPS)
                return false;
        backup = alloc_zeroed(1, sizeof(*backup));
        backup->session = session;
        backup->busy = true;
        LIST_INSERT_HEAD(&daemon->backups, backup, link);
        daemon->backup_count++;
        return true;
}

void backup_make(struct daemon *daemon, uint64_t session, uint64_t tag)
{
        const struct read_request read = { .kind = READ_BACKUP, .session = session, .tag = tag };

        store_backup_make(daemon->store, daemon_read_cookie(daemon, &read));
}

bool backup_read(struct daemon *daemon, uint64_t session, const struct wire_request *request, uint64_t tag)
{
        const struct read_request read = { .kind = READ_BACKUP_PIECE, .session = session, .tag = tag, .from = request->offset };
        struct backup *backup = find(daemon, session);

        if (!backup || backup->id != request->backup || backup->busy || request->offset > backup->total)
                return false;
        backup->busy = true;
        store_backup_read(daemon->store, daemon_read_cookie(daemon, &read), backup->store_id, request->offset, LIMIT_BACKUP_PIECE_BYTES);
        return true;
}

static void was_made(struct daemon *daemon, struct backup *backup, const struct store_event *event)
{
        backup->id = random_u64() | 1;
        backup->store_id = event->snapshot;
        backup->total = event->total;
        backup->index = event->log_last;
        backup->leader_age_ms = replica_leader_age_ms(daemon->replica);
        diag_info("made a backup of %llu bytes, up to entry %llu", (unsigned long long)event->total, (unsigned long long)event->log_last);
}

bool backup_piece(struct daemon *daemon, const struct read_request *read, const struct store_event *event, const char *why, struct wire_piece *ret_piece)
{
        struct backup *backup = find(daemon, read->session);

        *ret_piece = (struct wire_piece){ .outcome = WIRE_REJECTED, .leader_age_ms = -1 };
        if (!backup) {
                if (event && event->kind == STORE_BACKUP_MADE)
                        store_backup_drop(daemon->store, event->snapshot);
                return false;
        }
        backup->busy = false;
        backup->asked = daemon->now;
        if (!event) {
                (void)snprintf(ret_piece->reason, sizeof(ret_piece->reason), "%s", why);
                forget(daemon, backup);
                return true;
        }
        if (event->kind == STORE_BACKUP_MADE)
                was_made(daemon, backup, event);
        *ret_piece = (struct wire_piece){ .outcome = WIRE_YES, .index = backup->index, .leader_age_ms = backup->leader_age_ms, .backup = backup->id,
                                          .offset = event->offset, .total = backup->total, .data = event->data, .size = event->size };
        return true;
}

void backup_tick(struct daemon *daemon)
{
        struct backup *backup, *next;

        for (backup = LIST_FIRST(&daemon->backups); backup; backup = next) {
                next = LIST_NEXT(backup, link);
                if (!backup->busy && daemon->now - backup->asked >= LIMIT_BACKUP_IDLE_MS)
                        forget(daemon, backup);
        }
}
