/* identity.c - who the client is, and to which cluster it belongs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "libdlock/internal.h"
#include "libdlock/state.h"

static void set_client(struct dlock *dlock, const struct client_id *client)
{
        dlock->client = *client;
        (void)strcpy(dlock->client_text, client->text);
        dlock->client_known = true;
        dlock->client_assign = false;
}

/* where: what to name when text is not an id. */
static int parse_client(struct dlock *dlock, const char *text, const char *where)
{
        struct client_id client;
        struct id128 uuid;
        char buffer[ID128_TEXT_BYTES];

        if (id128_parse(text, &uuid))
                text = id128_format(uuid, buffer);
        if (!client_id_set(&client, text, strlen(text)))
                return set_error(dlock, -EINVAL, "%s is not one: 1 to %d printable ASCII characters without spaces would be right", where,
                                 LIMIT_CLIENT_ID_BYTES);
        set_client(dlock, &client);
        return 0;
}

static int load_kept_client(struct dlock *dlock)
{
        char problem[STATE_ERROR_BYTES], text[ID128_TEXT_BYTES];
        struct client_id client;
        struct id128 id;
        int r;

        r = state_read(STATE_CLIENT, &id, problem);
        if (r == -ENOENT)
                r = state_keep(STATE_CLIENT, id128_random(), &id, problem);
        if (r < 0)
                return set_error(dlock, r, "there is no client id: %s; give one with --client or DLOCK_CLIENT", problem);
        (void)client_id_set(&client, id128_format(id, text), ID128_TEXT_BYTES - 1);
        set_client(dlock, &client);
        return 0;
}

int identity_load_client(struct dlock *dlock)
{
        const char *text = secure_getenv("DLOCK_CLIENT");

        if (dlock->client_known || dlock->client_assign)
                return 0;
        if (text && *text)
                return parse_client(dlock, text, "the client id in DLOCK_CLIENT");
        return load_kept_client(dlock);
}

int dlock_set_client(struct dlock *dlock, const char *client)
{
        if (is_forked(dlock))
                return -ECHILD;
        if (dlock->submitted)
                return set_error(dlock, -EBUSY, "the client id cannot change after the first request");
        if (!client) {
                dlock->client_known = dlock->client_assign = false;
                return identity_load_client(dlock);
        }
        if (*client)
                return parse_client(dlock, client, "the given client id");
        dlock->client_known = false;
        dlock->client_assign = true;
        return 0;
}

const char *dlock_get_client(const struct dlock *dlock)
{
        return dlock->client_known ? dlock->client_text : NULL;
}

/* --- the cluster --- */

int identity_load_cluster(struct dlock *dlock)
{
        char problem[STATE_ERROR_BYTES];
        struct id128 id;
        int r;

        if (dlock->cluster_read)
                return 0;
        r = state_read(STATE_CLUSTER, &id, problem);
        /* A user without a home remembers nothing between programs. */
        if (r < 0 && r != -ENOENT && r != -EACCES)
                return set_error(dlock, r, "the cluster of this client is not known: %s", problem);
        if (r == 0)
                dlock->cluster = id;
        dlock->cluster_read = true;
        return 0;
}

bool identity_is_cluster(struct dlock *dlock, struct id128 id)
{
        char problem[STATE_ERROR_BYTES];
        struct id128 kept;

        if (id128_is_null(dlock->cluster)) {
                dlock->cluster = id;
                /* Another process of this user may have met a cluster first; where nothing can be kept this handle still remembers. */
                if (state_keep(STATE_CLUSTER, id, &kept, problem) == 0)
                        dlock->cluster = kept;
        }
        return id128_equal(dlock->cluster, id);
}

int dlock_get_cluster(struct dlock *dlock, char *buffer, size_t size)
{
        char problem[STATE_ERROR_BYTES], text[ID128_TEXT_BYTES];
        struct id128 id;
        int r;

        if (is_forked(dlock))
                return -ECHILD;
        if (size < ID128_TEXT_BYTES)
                return set_error(dlock, -EINVAL, "a cluster id needs a buffer of %d bytes", ID128_TEXT_BYTES);
        r = state_read(STATE_CLUSTER, &id, problem);
        if (r < 0)
                return set_error(dlock, r, "%s", problem);
        (void)memcpy(buffer, id128_format(id, text), ID128_TEXT_BYTES);
        return 0;
}

int dlock_forget_cluster(struct dlock *dlock)
{
        char problem[STATE_ERROR_BYTES];
        int r;

        if (is_forked(dlock))
                return -ECHILD;
        r = state_forget(STATE_CLUSTER, problem);
        if (r < 0)
                return set_error(dlock, r, "%s", problem);
        dlock->cluster = (struct id128){ 0 };
        dlock->cluster_read = true;
        dlock->min_index = 0;
        /* Whatever is asked from here on begins with a hello that names no cluster. */
        if (dlock->link.state != LINK_NONE) {
                request_requeue_sent(dlock);
                link_close(dlock);
        }
        return 0;
}
