"""The table of DESIGN section 1, through the leader and through a follower."""
import os

import wire
from nodes import Cluster, wait_until


def everywhere(rule):
    with Cluster() as cluster:
        for number, node in enumerate((cluster.leader, *cluster.followers)):
            rule(cluster, node, f"lock-{number}")


def test_a_free_lock_is_granted_and_seen_at_once_where_it_was_asked_for():
    def rule(cluster, node, lock):
        with node.client("alice") as alice:
            assert alice.check(lock).outcome == wire.NO
            got = alice.preempt(lock)
            assert got.outcome == wire.YES and got.token == got.index > 0, got
            seen = alice.check(lock)
            assert (seen.outcome, seen.owner, seen.token) == (wire.YES, "alice", got.token), seen
            assert seen.index >= got.index and seen.leader_age_ms >= 0
    everywhere(rule)


def test_a_held_lock_is_refused_naming_the_owner_also_to_the_owner():
    def rule(cluster, node, lock):
        with cluster.leader.client("alice") as alice, node.client("alice") as again, node.client("bob") as bob:
            token = alice.preempt(lock).token
            for other in (again, bob):
                no = other.preempt(lock)
                assert (no.outcome, no.owner, no.token) == (wire.NO, "alice", token), no
    everywhere(rule)


def test_only_the_owner_releases():
    def rule(cluster, node, lock):
        with node.client("alice") as alice, node.client("bob") as bob:
            assert bob.release(lock).outcome == wire.NO
            first = alice.preempt(lock)
            no = bob.release(lock)
            assert (no.outcome, no.owner) == (wire.NO, "alice"), no
            assert alice.release(lock).outcome == wire.YES
            assert alice.check(lock).outcome == wire.NO
            second = bob.preempt(lock)
            assert second.outcome == wire.YES and second.token > first.token
    everywhere(rule)


def test_a_retry_gets_its_first_answer_through_any_node_and_happens_once():
    with Cluster() as cluster:
        handle = os.urandom(16)
        with cluster.followers[0].client("alice") as first, cluster.followers[1].client("alice") as second, cluster.leader.client("alice") as third:
            got = first.preempt("backup", handle=handle, seq=1)
            for connection in (second, third, first):
                again = connection.preempt("backup", handle=handle, seq=1)
                assert (again.outcome, again.token) == (wire.YES, got.token), again
            assert first.release("backup", handle=handle, seq=2, token=got.token).outcome == wire.YES
            assert third.release("backup", handle=handle, seq=2, token=got.token).outcome == wire.YES

            def kinds():
                return [event[1] for event in third.history("backup")]
            # History is what the node has on disk; that the others have it was enough for the answer.
            wait_until(lambda: kinds()[-1:] == ["release"], lambda: f"the release is on its disk: {kinds()}")
            assert kinds() == ["preempt", "release"], kinds()


def test_a_release_is_of_one_hold():
    def rule(_, node, lock):
        with node.client("alice") as alice:
            first = alice.preempt(lock)
            assert alice.release(lock, token=first.token).outcome == wire.YES
            second = alice.preempt(lock)
            no = alice.release(lock, token=first.token)
            assert (no.outcome, no.owner, no.token) == (wire.NO, "alice", second.token), no
            no = alice.change(wire.RELEASE, lock, token=0)
            assert no.outcome == wire.REJECTED and "no token" in no.reason, no
            assert alice.check(lock, min_index=second.index).token == second.token
    everywhere(rule)


def test_a_later_request_of_an_unknown_handle_is_not_known():
    with Cluster() as cluster, cluster.leader.client("alice") as alice:
        assert alice.preempt("backup", handle=os.urandom(16), seq=7).outcome == wire.UNKNOWN
        assert alice.check("backup").outcome == wire.NO


def test_a_refusal_is_not_logged_and_an_accepted_change_is_one_row_everywhere():
    with Cluster() as cluster, cluster.followers[0].client("alice") as alice, cluster.followers[1].client("bob") as bob:
        for number in range(5):
            assert alice.preempt(f"job/{number}").outcome == wire.YES
            assert bob.preempt(f"job/{number}").outcome == wire.NO
            assert bob.release(f"job/{number}").outcome == wire.NO
            assert alice.release(f"job/{number}").outcome == wire.YES
        cluster.wait_until_equal()
        def rows_of(node):
            return node.sql("SELECT idx, term, kind, lock, client, token FROM log WHERE kind IN ('preempt', 'release') ORDER BY idx")
        # What a majority has is applied everywhere, also where the disk is not done yet.
        for node in cluster.nodes:
            wait_until(lambda: len(rows_of(node)) >= 10, f"{node.name} has them on disk")
        rows = [rows_of(node) for node in cluster.nodes]
        assert rows[0] == rows[1] == rows[2]
        assert [(row[2], row[3], row[4]) for row in rows[0]] == [(kind, f"job/{n}", "alice") for n in range(5) for kind in ("preempt", "release")]


def test_a_client_that_moves_to_another_node_never_goes_back_in_time():
    with Cluster() as cluster, cluster.followers[0].client("alice") as here, cluster.followers[1].client("alice") as there:
        for number in range(200):
            got = here.preempt(f"step/{number}")
            seen = there.check(f"step/{number}", min_index=got.index)
            assert (seen.outcome, seen.token) == (wire.YES, got.token), (number, seen)


def test_an_id_of_one_local_user_is_refused_to_another_but_not_to_root():
    # Root may use anybody's id; another uid may not. This test needs root to become others.
    assert os.geteuid() == 0, "run as root: it becomes two other users"
    with Cluster(followers=1) as cluster:
        cluster.directory.chmod(0o755)

        def as_user(uid, node, kind, lock, tcp=False):
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.setresuid(uid, uid, uid)
                    with wire.Connection(node.tcp if tcp else node.address, "shared-id") as connection:
                        os.write(write, bytes([connection.change(kind, lock).outcome]))
                finally:
                    os._exit(0)
            os.close(write)
            outcome = os.read(read, 1)
            os.close(read)
            os.waitpid(child, 0)
            return outcome[0] if outcome else None
        follower = cluster.followers[0]
        assert as_user(1001, cluster.leader, wire.PREEMPT, "a") == wire.YES
        for tcp in (False, True):
            assert as_user(1002, follower, wire.PREEMPT, "b", tcp) == wire.REJECTED
        assert as_user(1002, cluster.leader, wire.RELEASE, "a") == wire.REJECTED
        assert as_user(1001, follower, wire.PREEMPT, "b", tcp=True) == wire.YES
        assert as_user(0, follower, wire.RELEASE, "a") == wire.YES


def test_lists_are_paged_in_order_and_by_prefix():
    with Cluster(followers=1) as cluster, cluster.followers[0].client("alice") as alice:
        names = sorted([f"a/{n:04}" for n in range(1500)] + ["b", "a", "a0", "ä/ö"], key=str.encode)
        for name in names:
            assert alice.preempt(name).outcome == wire.YES
        assert [row[0] for row in alice.list()] == names
        assert [row[0] for row in alice.list("a/")] == [name for name in names if name.startswith("a/")]
        rows, more, _ = alice.list_page("a/", limit=10)
        assert len(rows) == 10 and more
        assert alice.list("nothing") == []


def test_names_are_1_to_255_bytes_without_control_characters():
    with Cluster(followers=0) as cluster:
        with cluster.leader.client("alice") as alice:
            assert alice.preempt("x" * 255).outcome == wire.YES
            assert alice.preempt("löck/ß ü").outcome == wire.YES
        for bad in (b"", b"a\nb", b"\x7f", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"a\xc2\x85"):
            with cluster.leader.client("alice") as alice:
                try:
                    answer = alice.preempt(bad)
                except wire.Closed:
                    continue
                raise AssertionError(f"{bad!r} was answered with {answer}")
        assert len(cluster.leader.client("alice").list()) == 2
