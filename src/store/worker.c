#include "store/worker.h"

#include <signal.h>
#include <stddef.h>

/* SQLite needs some 50 KiB; sanitizers a multiple. Only what is touched takes memory. */
#define STACK_BYTES (512 * 1024)

static void *worker_main(void *argument)
{
        struct worker *worker = argument;
        struct job_list jobs = STAILQ_HEAD_INITIALIZER(jobs);

        (void)pthread_mutex_lock(&worker->mutex);
        for (;;) {
                while (STAILQ_EMPTY(&worker->queue) && !worker->stopping)
                        (void)pthread_cond_wait(&worker->wake, &worker->mutex);
                if (STAILQ_EMPTY(&worker->queue))
                        break;
                STAILQ_CONCAT(&jobs, &worker->queue);
                worker->busy = true;
                (void)pthread_mutex_unlock(&worker->mutex);
                worker->run(worker->context, &jobs);
                STAILQ_INIT(&jobs);
                (void)pthread_mutex_lock(&worker->mutex);
                worker->busy = false;
                if (STAILQ_EMPTY(&worker->queue))
                        (void)pthread_cond_broadcast(&worker->idle);
        }
        (void)pthread_mutex_unlock(&worker->mutex);
        return NULL;
}

/* Signals belong to the event loop's thread. */
static int start_thread(struct worker *worker, const pthread_attr_t *attributes)
{
        sigset_t all, before;
        int r;

        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&worker->thread, attributes, worker_main, worker);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        return -r;
}

int worker_start(struct worker *worker, const char *name, void (*run)(void *context, struct job_list *jobs), void *context)
{
        pthread_attr_t attributes;
        int r;

        worker->run = run;
        worker->context = context;
        STAILQ_INIT(&worker->queue);
        (void)pthread_mutex_init(&worker->mutex, NULL);
        (void)pthread_cond_init(&worker->wake, NULL);
        (void)pthread_cond_init(&worker->idle, NULL);
        (void)pthread_attr_init(&attributes);
        (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
        r = start_thread(worker, &attributes);
        (void)pthread_attr_destroy(&attributes);
        if (r < 0)
                return r;
        (void)pthread_setname_np(worker->thread, name);
        worker->started = true;
        return 0;
}

void worker_push(struct worker *worker, struct job *job)
{
        (void)pthread_mutex_lock(&worker->mutex);
        STAILQ_INSERT_TAIL(&worker->queue, job, next);
        (void)pthread_cond_signal(&worker->wake);
        (void)pthread_mutex_unlock(&worker->mutex);
}

void worker_drain(struct worker *worker)
{
        (void)pthread_mutex_lock(&worker->mutex);
        while (worker->busy || !STAILQ_EMPTY(&worker->queue))
                (void)pthread_cond_wait(&worker->idle, &worker->mutex);
        (void)pthread_mutex_unlock(&worker->mutex);
}

void worker_stop(struct worker *worker)
{
        if (!worker->started)
                return;
        (void)pthread_mutex_lock(&worker->mutex);
        worker->stopping = true;
        (void)pthread_cond_signal(&worker->wake);
        (void)pthread_mutex_unlock(&worker->mutex);
        (void)pthread_join(worker->thread, NULL);
        (void)pthread_mutex_destroy(&worker->mutex);
        (void)pthread_cond_destroy(&worker->wake);
        (void)pthread_cond_destroy(&worker->idle);
        worker->started = false;
}
