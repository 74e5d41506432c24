/* Whom a node dials, and when: nobody is there, and time is what the test says. */
#include <check.h>
#include <errno.h>

#include "base/cleanup.h"
#include "net/stream.h"
#include "peer/hub.h"
#include "unit/suite.h"

#define STEP_MS 50

static unsigned dials;

/* Instead of stream_connect (tests.mk). */
int __wrap_stream_connect(const struct address *address, int *ret_fd);
int __wrap_stream_connect(const struct address *address, int *ret_fd)
{
        (void)address;
        (void)ret_fd;
        dials++;
        return -ECONNREFUSED;
}

/* An emptied leader listens for so long that those who miss it dial it twice. */
START_TEST(who_is_not_there_is_dialled_again_within_the_longest_pause)
{
        const struct peer_handler handler = { 0 };
        const struct peer_hello self = { .node = 1 };
        struct listen_sockets none = { 0 };
        uint64_t now = 1000, dialled = 0, longest = 0;
        struct peer_hub *hub;
        struct loop *loop;

        dials = 0;
        ck_assert_int_eq(loop_new(&loop), 0);
        ck_assert_int_eq(peer_hub_new(loop, &handler, &self, &none, &hub), 0);
        peer_hub_members_begin(hub);
        peer_hub_member(hub, 2, "follower-1", "127.0.0.1:9");
        peer_hub_members_end(hub);
        for (unsigned seen = 0; dials < 500; now += STEP_MS) {
                peer_hub_tick(hub, now);
                if (dials == seen)
                        continue;
                ck_assert_uint_eq(dials, seen + 1);
                if (dialled != 0)
                        longest = MAX(longest, now - dialled);
                seen = dials;
                dialled = now;
        }
        ck_assert_uint_gt(longest, PEER_REDIAL_MS_MAX / 2);
        ck_assert_uint_le(longest, PEER_REDIAL_MS_MAX);
        peer_hub_free(hub);
        loop_free(loop);
}
END_TEST

static Suite *suite(void)
{
        Suite *s = suite_create("hub");
        TCase *c = tcase_create("hub");

        tcase_add_test(c, who_is_not_there_is_dialled_again_within_the_longest_pause);
        suite_add_tcase(s, c);
        return s;
}

int main(void)
{
        return run_suite(suite());
}
