/* worker.h - a thread and its queue. Internal to store/.
 *
 * The mutex protects the queue and nothing else: it is not held while a job runs. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

struct job {
        STAILQ_ENTRY(job) next;
};

STAILQ_HEAD(job_list, job);

struct worker {
        pthread_t thread;
        bool started;
        pthread_mutex_t mutex;
        pthread_cond_t wake, idle;
        struct job_list queue;
        bool busy, stopping;
        /* Takes everything that was queued, in order, and frees it. Runs in the thread. */
        void (*run)(void *context, struct job_list *jobs);
        void *context;
};

/* 0 or -errno. The thread takes no signals. */
int worker_start(struct worker *worker, const char *name, void (*run)(void *context, struct job_list *jobs), void *context);
void worker_push(struct worker *worker, struct job *job);
/* Waits until nothing is queued or running. */
void worker_drain(struct worker *worker);
/* Finishes what is queued and ends the thread. Accepts one that was never started. */
void worker_stop(struct worker *worker);
