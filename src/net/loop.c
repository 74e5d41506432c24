#include "net/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <systemd/sd-event.h>

#include "base/alloc.h"

/* After the sockets, before nothing ... */
#define TURN_PRIORITY 10
/* ... unless it was wanted so many times: busy sockets must not keep it from coming. */
#define TURN_PATIENCE 64
#define TURN_PRIORITY_OVERDUE (-10)

struct loop {
        sd_event *event;
};

struct loop_source {
        sd_event_source *source;
        loop_handler handler;
        void *context;
        unsigned wanted;                     /* turns: since the last one */
};

int loop_new(struct loop **ret_loop)
{
        struct loop *loop = alloc_zeroed(1, sizeof(*loop));
        int r = sd_event_new(&loop->event);

        if (r < 0) {
                free(loop);
                return r;
        }
        *ret_loop = loop;
        return 0;
}

struct loop *loop_free(struct loop *loop)
{
        if (loop) {
                sd_event_unref(loop->event);
                free(loop);
        }
        return NULL;
}

static struct loop_source *source_new(loop_handler handler, void *context)
{
        struct loop_source *source = alloc_zeroed(1, sizeof(*source));

        source->handler = handler;
        source->context = context;
        return source;
}

/* Hands the source over, or frees it when r says that sd-event refused it. */
static int source_made(int r, struct loop_source *source, struct loop_source **ret_source)
{
        if (r < 0) {
                free(source);
                return r;
        }
        *ret_source = source;
        return 0;
}

static int on_io(sd_event_source *event_source, int fd, uint32_t events, void *data)
{
        const struct loop_source *source = data;

        (void)event_source;
        (void)fd;
        source->handler(source->context, events);
        return 0;
}

int loop_add_io(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *context, struct loop_source **ret_source)
{
        struct loop_source *source = source_new(handler, context);

        return source_made(sd_event_add_io(loop->event, &source->source, fd, events, on_io, source), source, ret_source);
}

void loop_io_set_events(struct loop_source *source, uint32_t events)
{
        (void)sd_event_source_set_io_events(source->source, events);
}

static int on_time(sd_event_source *event_source, uint64_t usec, void *data)
{
        const struct loop_source *source = data;

        (void)event_source;
        (void)usec;
        source->handler(source->context, 0);
        return 0;
}

int loop_add_timer(struct loop *loop, loop_handler handler, void *context, struct loop_source **ret_source)
{
        struct loop_source *source = source_new(handler, context);
        int r = sd_event_add_time(loop->event, &source->source, CLOCK_MONOTONIC, UINT64_MAX, 1000, on_time, source);

        if (r >= 0)
                (void)sd_event_source_set_enabled(source->source, SD_EVENT_OFF);
        return source_made(r, source, ret_source);
}

void loop_timer_set(struct loop_source *source, uint64_t at_ms)
{
        (void)sd_event_source_set_time(source->source, at_ms * 1000);
        (void)sd_event_source_set_enabled(source->source, SD_EVENT_ONESHOT);
}

static int on_signal(sd_event_source *event_source, const struct signalfd_siginfo *info, void *data)
{
        const struct loop_source *source = data;

        (void)event_source;
        (void)info;
        source->handler(source->context, 0);
        return 0;
}

int loop_add_signal(struct loop *loop, int signal, loop_handler handler, void *context, struct loop_source **ret_source)
{
        struct loop_source *source = source_new(handler, context);
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, signal);
        (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
        return source_made(sd_event_add_signal(loop->event, &source->source, signal, on_signal, source), source, ret_source);
}

static int on_turn(sd_event_source *event_source, void *data)
{
        struct loop_source *source = data;

        if (source->wanted >= TURN_PATIENCE)
                (void)sd_event_source_set_priority(event_source, TURN_PRIORITY);
        source->wanted = 0;
        source->handler(source->context, 0);
        return 0;
}

int loop_add_turn(struct loop *loop, loop_handler handler, void *context, struct loop_source **ret_source)
{
        struct loop_source *source = source_new(handler, context);
        int r = sd_event_add_defer(loop->event, &source->source, on_turn, source);

        if (r >= 0)
                (void)sd_event_source_set_enabled(source->source, SD_EVENT_OFF);
        if (r >= 0)
                (void)sd_event_source_set_priority(source->source, TURN_PRIORITY);
        return source_made(r, source, ret_source);
}

void loop_want_turn(struct loop_source *source)
{
        if (source->wanted++ == 0)
                (void)sd_event_source_set_enabled(source->source, SD_EVENT_ONESHOT);
        else if (source->wanted == TURN_PATIENCE)
                (void)sd_event_source_set_priority(source->source, TURN_PRIORITY_OVERDUE);
}

struct loop_source *loop_source_free(struct loop_source *source)
{
        if (source) {
                sd_event_source_disable_unref(source->source);
                free(source);
        }
        return NULL;
}

int loop_run(struct loop *loop)
{
        return sd_event_loop(loop->event);
}

void loop_exit(struct loop *loop, int code)
{
        (void)sd_event_exit(loop->event, code);
}
