/* The way back: finished work, from any thread to the one that calls store_process. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "store/internal.h"

struct event *event_new(enum store_event_kind kind, uint64_t cookie)
{
        struct event *event = alloc_zeroed(1, sizeof(*event));

        event->event.kind = kind;
        event->event.cookie = cookie;
        return event;
}

struct event *event_free(struct event *event)
{
        if (!event)
                return NULL;
        row_list_done(&event->rows);
        bytes_done(&event->data);
        free(event->text);
        free(event);
        return NULL;
}

static void wake(struct store *store)
{
        /* Fails only when the counter is full, and then it is readable anyway. */
        (void)!eventfd_write(store->event_fd, 1);
}

void event_post(struct store *store, struct event *event)
{
        bool first;

        (void)pthread_mutex_lock(&store->event_mutex);
        first = TAILQ_EMPTY(&store->events);
        TAILQ_INSERT_TAIL(&store->events, event, next);
        (void)pthread_mutex_unlock(&store->event_mutex);
        if (first)
                wake(store);
}

/* A token says everything the tokens before it said: one that nobody has taken yet is raised. */
static bool raise_last_token(struct store *store, uint64_t token, uint64_t commit_ms)
{
        struct event *last;
        bool raised;

        (void)pthread_mutex_lock(&store->event_mutex);
        last = TAILQ_LAST(&store->events, event_list);
        raised = last && last->event.kind == STORE_PERSISTED;
        if (raised) {
                last->event.token = token;
                last->event.commit_ms = MAX(last->event.commit_ms, commit_ms);
        }
        (void)pthread_mutex_unlock(&store->event_mutex);
        return raised;
}

void event_post_persisted(struct store *store, uint64_t token, uint64_t commit_ms)
{
        struct event *event;

        if (raise_last_token(store, token, commit_ms))
                return;
        event = event_new(STORE_PERSISTED, 0);
        event->event.token = token;
        event->event.commit_ms = commit_ms;
        event_post(store, event);
}

void event_post_text(struct store *store, enum store_event_kind kind, uint64_t cookie, const char *format, ...)
{
        struct event *event = event_new(kind, cookie);
        char text[1024];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        event->text = alloc_text(text, strlen(text));
        event_post(store, event);
}

int store_fd(const struct store *store)
{
        return store->event_fd;
}

static void fill_pointers(struct event *event)
{
        event->event.text = event->text;
        event->event.entries = event->rows.entries;
        event->event.entry_count = event->rows.count;
        event->event.data = event->data.data;
        event->event.size = event->data.size;
}

void store_process(struct store *store, void (*handler)(void *context, const struct store_event *event), void *context)
{
        struct event_list taken = TAILQ_HEAD_INITIALIZER(taken);
        struct event *event;
        eventfd_t count;

        /* First the counter, then the list: what is posted in between wakes again. */
        (void)!eventfd_read(store->event_fd, &count);
        (void)pthread_mutex_lock(&store->event_mutex);
        TAILQ_CONCAT(&taken, &store->events, next);
        (void)pthread_mutex_unlock(&store->event_mutex);
        while ((event = TAILQ_FIRST(&taken))) {
                TAILQ_REMOVE(&taken, event, next);
                fill_pointers(event);
                handler(context, &event->event);
                event_free(event);
        }
}
