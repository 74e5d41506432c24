#include "dlockd/failure.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "dlockd/notify.h"

#define NAME "failure"
#define TEXT_BYTES 1024
/* What a node needs to begin: a WAL of its usual length. */
#define ROOM_BYTES (4 * 1024 * 1024)

/* What the service manager holds; read once. */
struct memory {
        unsigned runs;                       /* that failed in a row */
        char text[TEXT_BYTES];               /* what the last one said; "" when it was up */
};

static unsigned waited;                      /* seconds, by this run */

static void memory_read(int fd, struct memory *memory)
{
        char whole[TEXT_BYTES + 16];
        ssize_t size = pread(fd, whole, sizeof(whole) - 1, 0);
        char *end;

        whole[size > 0 ? size : 0] = 0;
        memory->runs = (unsigned)strtoul(whole, &end, 10);
        if (*end == '\n')
                (void)snprintf(memory->text, sizeof(memory->text), "%s", end + 1);
}

static struct memory *memory(void)
{
        static struct memory the_memory;
        static bool done;
        char **names = NULL;
        int count;

        if (done)
                return &the_memory;
        done = true;
        count = sd_listen_fds_with_names(0, &names);
        for (int i = 0; i < count; i++) {
                /* It stays open: the next call of sd_listen_fds(3) fails when one of the descriptors does not exist. */
                if (strcmp(names[i], NAME) == 0)
                        memory_read(SD_LISTEN_FDS_START + i, &the_memory);
                free(names[i]);
        }
        free(names);
        return &the_memory;
}

static bool is_under_systemd(void)
{
        return getenv("NOTIFY_SOCKET") != NULL;
}

static bool is_known(const char *text)
{
        char whole[TEXT_BYTES];

        (void)snprintf(whole, sizeof(whole), "%s", text);
        return *whole && strcmp(whole, memory()->text) == 0;
}

static void memory_drop(void)
{
        if (memory()->runs > 0)
                (void)sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=" NAME);
        *memory() = (struct memory){ .runs = 0 };
}

static void memory_keep(unsigned runs, const char *text)
{
        _cleanup_close_ int fd = -1;
        struct memory next = { .runs = runs };

        if (!is_under_systemd())
                return;
        fd = memfd_create("dlock-" NAME, MFD_CLOEXEC);
        if (fd < 0)
                return;
        (void)snprintf(next.text, sizeof(next.text), "%s", text);
        memory_drop();
        if (dprintf(fd, "%u\n%s", next.runs, next.text) > 0 && sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDPOLL=0\nFDNAME=" NAME, &fd, 1) > 0)
                *memory() = next;
}

/* By way of stderr, which the journal knows to be the service's. Of a message from a process that ends at once it often
 * cannot find out any more whose it was, and "systemctl status" would not show it. */
static void say_last_words(const char *text)
{
        (void)fprintf(stderr, getenv("JOURNAL_STREAM") ? "<3>%s\n" : "%s\n", text);
}

void failure_say(const char *text)
{
        if (!is_known(text))
                say_last_words(text);
        memory_keep(memory()->runs + 1, text);
}

void failure_over(void)
{
        if (memory()->text[0])
                memory_keep(memory()->runs, "");
}

void failure_forget(void)
{
        memory_drop();
}

/* FAILURE_STOPPED: a start after it shall be told anew what is wrong. */
static enum failure_next wait_a_second(const char *why)
{
        const struct timespec second = { .tv_sec = 1 };
        sigset_t stop;

        notify_status("waiting for the repair: %s", why);
        (void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, (uint64_t)30 * 1000 * 1000);
        (void)sigemptyset(&stop);
        (void)sigaddset(&stop, SIGTERM);
        (void)sigaddset(&stop, SIGINT);
        (void)pthread_sigmask(SIG_BLOCK, &stop, NULL);
        if (sigtimedwait(&stop, NULL, &second) < 0) {
                waited++;
                return FAILURE_TRY_AGAIN;
        }
        memory_drop();
        return FAILURE_STOPPED;
}

enum failure_next failure_pause(void)
{
        unsigned runs = memory()->runs, seconds = runs < 2 ? 0 : runs > 6 ? FAILURE_WAIT_SECONDS : 1u << (runs - 1);
        enum failure_next next = FAILURE_TRY_AGAIN;

        while (waited < seconds && next == FAILURE_TRY_AGAIN)
                next = wait_a_second(memory()->text[0] ? memory()->text : "the last runs have failed");
        return next;
}

enum failure_next failure_try_again(const char *text)
{
        if (!is_under_systemd() || !is_known(text)) {
                failure_say(text);
                return FAILURE_END;
        }
        return waited < FAILURE_WAIT_SECONDS ? wait_a_second(text) : FAILURE_END;
}

/* A directory that cannot be used at all is the store's to explain. */
static bool has_room(const char *directory)
{
        _cleanup_close_ int fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

        if (fd < 0)
                return errno != ENOSPC && errno != EDQUOT && errno != EIO;
        return posix_fallocate(fd, 0, ROOM_BYTES) == 0 && fsync(fd) == 0;
}

enum failure_next failure_wait_for_room(const char *directory)
{
        enum failure_next next = FAILURE_TRY_AGAIN;
        char why[TEXT_BYTES + 400];

        /* How much, since with some room, but less, it would wait in vain. */
        (void)snprintf(why, sizeof(why), "%d MiB of room are needed in %.300s; %s", ROOM_BYTES >> 20, directory, memory()->text);
        while (memory()->text[0] && next == FAILURE_TRY_AGAIN && !has_room(directory))
                next = waited < FAILURE_WAIT_SECONDS ? wait_a_second(why) : FAILURE_END;
        return next;
}
