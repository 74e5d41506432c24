#include "dlockd/failure.h"

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

/* The text that the service manager held for this run; "" for none. Read once. */
static const char *remembered(void)
{
        static char text[TEXT_BYTES];
        static bool done;
        char **names = NULL;
        int count;

        if (done)
                return text;
        done = true;
        count = sd_listen_fds_with_names(0, &names);
        for (int i = 0; i < count; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (strcmp(names[i], NAME) == 0) {
                        ssize_t size = pread(fd, text, sizeof(text) - 1, 0);

                        text[size > 0 ? size : 0] = 0;
                        (void)close(fd);
                }
                free(names[i]);
        }
        free(names);
        return text;
}

static bool is_known(const char *text)
{
        char whole[TEXT_BYTES];

        (void)snprintf(whole, sizeof(whole), "%s", text);
        return strcmp(whole, remembered()) == 0;
}

static void remember(const char *text)
{
        _cleanup_close_ int fd = -1;
        char whole[TEXT_BYTES];
        size_t size;

        if (!getenv("NOTIFY_SOCKET") || is_known(text))
                return;
        failure_forget();
        size = (size_t)snprintf(whole, sizeof(whole), "%s", text);
        size = MIN(size, sizeof(whole) - 1);
        fd = memfd_create("dlock-" NAME, MFD_CLOEXEC);
        if (fd >= 0 && pwrite(fd, whole, size, 0) == (ssize_t)size)
                (void)sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDPOLL=0\nFDNAME=" NAME, &fd, 1);
}

void failure_say(const char *text)
{
        if (!is_known(text))
                diag_error("%s", text);
        remember(text);
}

void failure_forget(void)
{
        if (*remembered())
                (void)sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=" NAME);
}

/* False: told to stop. */
static bool wait_a_little(const char *text)
{
        const struct timespec second = { .tv_sec = 1 };
        sigset_t stop;

        notify_status("waiting for the repair: %s", text);
        (void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, (uint64_t)30 * 1000 * 1000);
        (void)sigemptyset(&stop);
        (void)sigaddset(&stop, SIGTERM);
        (void)sigaddset(&stop, SIGINT);
        (void)pthread_sigmask(SIG_BLOCK, &stop, NULL);
        return sigtimedwait(&stop, NULL, &second) < 0;
}

bool failure_try_again(const char *text)
{
        if (is_known(text) && getenv("NOTIFY_SOCKET"))
                return wait_a_little(text);
        failure_say(text);
        return false;
}

static bool has_room(const char *directory)
{
        _cleanup_close_ int fd = open(directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

        return fd >= 0 && posix_fallocate(fd, 0, ROOM_BYTES) == 0 && fsync(fd) == 0;
}

bool failure_wait_for_room(const char *directory)
{
        while (*remembered() && !has_room(directory))
                if (!wait_a_little(remembered()))
                        return false;
        return true;
}
