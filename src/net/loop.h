/* loop.h - the event loop: the only room that names sd-event.
 *
 * Sources are dispatched one at a time; the turn comes after every socket that
 * was ready (DESIGN D7, D8). Handlers must not block. One thread. */
#pragma once

#include <stdint.h>

struct loop;
struct loop_source;

/* events: those of epoll(7); 0 for timers and signals. */
typedef void (*loop_handler)(void *context, uint32_t events);

/* 0 or -errno. */
int loop_new(struct loop **ret_loop);
/* Accepts NULL; returns NULL. Sources must be freed before. */
struct loop *loop_free(struct loop *loop);

/* The descriptor stays the caller's. */
int loop_add_io(struct loop *loop, int fd, uint32_t events, loop_handler handler, void *context, struct loop_source **ret_source);
void loop_io_set_events(struct loop_source *source, uint32_t events);
/* A timer that is off until it is set; fires once per setting, at a time of CLOCK_MONOTONIC. */
int loop_add_timer(struct loop *loop, loop_handler handler, void *context, struct loop_source **ret_source);
void loop_timer_set(struct loop_source *source, uint64_t at_ms);
/* Blocks the signal for this thread and those made later. */
int loop_add_signal(struct loop *loop, int signal, loop_handler handler, void *context, struct loop_source **ret_source);
/* Called after loop_want_turn when nothing else is ready, or when it was wanted often. */
int loop_add_turn(struct loop *loop, loop_handler handler, void *context, struct loop_source **ret_source);
void loop_want_turn(struct loop_source *source);
/* Accepts NULL; returns NULL. May be called from the source's own handler. */
struct loop_source *loop_source_free(struct loop_source *source);

/* Runs until loop_exit; its code or -errno. */
int loop_run(struct loop *loop);
void loop_exit(struct loop *loop, int code);
