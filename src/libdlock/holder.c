/* holder.c - what a client says of itself when it asks for a lock: for people, and only what costs nothing to find out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "base/name.h"
#include "libdlock/internal.h"

/* What does not fit, or is not clean, is not known. */
static void set_text(char *place, size_t size_max, const char *text)
{
        size_t size = strlen(text);

        if (size <= size_max && name_is_clean_utf8(text, size))
                (void)memcpy(place, text, size + 1);
}

/* The user's unit when a user's manager started it, else the system's. */
static void find_unit(pid_t pid, char unit[LIMIT_UNIT_BYTES + 1])
{
        char *found = NULL;

        if (sd_pid_get_user_unit(pid, &found) < 0 && sd_pid_get_unit(pid, &found) < 0)
                return;
        set_text(unit, LIMIT_UNIT_BYTES, found);
        free(found);
}

static const struct holder *find_self(struct dlock *dlock)
{
        char host[LIMIT_HOST_BYTES + 1] = "";

        if (dlock->holder_known)
                return &dlock->self;
        if (gethostname(host, sizeof(host)) == 0)
                set_text(dlock->self.host, LIMIT_HOST_BYTES, host);
        dlock->self.pid = (uint32_t)getpid();
        find_unit(0, dlock->self.unit);
        dlock->holder_known = true;
        return &dlock->self;
}

int holder_describe(struct dlock *dlock, const struct dlock_request *asked, struct request *request)
{
        struct holder holder = *find_self(dlock);
        size_t size = asked->note ? strnlen(asked->note, LIMIT_NOTE_BYTES + 1) : 0;

        if (size > LIMIT_NOTE_BYTES || (size > 0 && !name_is_clean_utf8(asked->note, size)))
                return set_error(dlock, -EINVAL, "not a note: up to %d bytes of UTF-8 without control characters would be right", LIMIT_NOTE_BYTES);
        if (size > 0)
                (void)memcpy(holder.note, asked->note, size + 1);
        if (asked->pid != 0 && asked->pid != holder.pid) {
                holder.pid = asked->pid;
                holder.unit[0] = 0;
                find_unit((pid_t)asked->pid, holder.unit);
        }
        holder_put(&request->holder, &holder);
        return 0;
}
