/* Files without a name that hold what is streamed from them: snapshots, backups. */
#include <errno.h>
#include <stdlib.h>

#include "store/internal.h"

struct spool *spool_free(struct spool *spool)
{
        if (spool->fd >= 0)
                (void)close(spool->fd);
        free(spool);
        return NULL;
}

void spool_list_done(struct spool_list *list)
{
        struct spool *spool;

        while ((spool = SLIST_FIRST(list))) {
                SLIST_REMOVE_HEAD(list, next);
                spool_free(spool);
        }
}

struct spool *spool_find(const struct spool_list *list, uint64_t id)
{
        struct spool *spool;

        SLIST_FOREACH(spool, list, next)
                if (spool->id == id)
                        return spool;
        return NULL;
}

int spool_read(const struct spool *spool, struct bytes *bytes, uint64_t offset, size_t size)
{
        uint8_t *place = bytes_reserve(bytes, size);

        for (size_t done = 0; done < size;) {
                ssize_t n = pread(spool->fd, place + done, size - done, (off_t)(offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                done += (size_t)n;
        }
        bytes->size = size;
        return 0;
}
