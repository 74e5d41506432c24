"""A program that holds a lease with libdlock, while nodes stop, die and come back, and while it stops itself."""
import contextlib
import os
import signal
import subprocess

import wire
from nodes import BUILD, PATIENCE, Cluster, ms, wait_until

# An election fits in, and a while in which somebody does not run.
TTL_MS = ms(10)
STOP_MS = TTL_MS // 10


class Holder:
    """tests/cluster/holder.c, with what it has told so far."""

    def __init__(self, cluster, lock, nodes, ttl_ms=TTL_MS, stop_ms=STOP_MS, bound=()):
        """bound: words behind "bound", if it shall be; servers are the nodes' sockets, or what is a text."""
        self.output = cluster.directory / f"holder-{lock}"
        environment = {"PATH": os.environ["PATH"], "HOME": str(cluster.directory), "XDG_STATE_HOME": str(cluster.directory), "DLOCK_CLIENT": "holder"}
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen([BUILD / "tests/holder", ",".join(node if isinstance(node, str) else node.address for node in nodes), lock, str(ttl_ms), str(stop_ms), *bound],
                                            stdin=subprocess.PIPE, stdout=output, env=environment)
        self.token = int(wait_until(lambda: self.told("granted"), "the lease is granted")[0][0])
        if bound:
            wait_until(lambda: self.told("bound"), "its node knows")

    def __enter__(self):
        return self

    def die(self):
        self.process.kill()
        self.process.wait(PATIENCE)

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait(PATIENCE)

    def lines(self):
        return [line.split(" ") for line in self.output.read_text().splitlines()]

    def told(self, what):
        return [rest for word, *rest in self.lines() if word == what]

    def deadline(self):
        return [int(line[-1]) for line in self.lines() if line[0] in ("granted", "renewed")][-1]

    def wait_for_renewals(self, count):
        """And nothing was lost meanwhile."""
        more = len(self.told("renewed")) + count
        wait_until(lambda: len(self.told("renewed")) >= more or self.told("lost"), f"{count} renewals")
        assert not self.told("lost"), self.lines()


def owner_of(node, lock):
    with contextlib.suppress(OSError, wire.Closed, wire.Refused):
        with node.client("looks") as looks:
            seen = looks.check(lock, consistent=True)
            return (seen.owner, seen.token) if seen.outcome in (wire.YES, wire.NO) else None
    return None


def test_a_lease_outlives_nodes_that_stop_or_die():
    with Cluster() as cluster, Holder(cluster, "job", [*cluster.followers, cluster.leader]) as holder:
        leader, first, second = cluster.nodes
        holder.wait_for_renewals(1)
        # The node that it is connected with says nothing any more.
        first.process.send_signal(signal.SIGSTOP)
        holder.wait_for_renewals(2)
        first.process.send_signal(signal.SIGCONT)
        # The leader says nothing any more, and another one is elected.
        leader.process.send_signal(signal.SIGSTOP)
        holder.wait_for_renewals(2)
        leader.process.send_signal(signal.SIGCONT)
        wait_until(lambda: all(node.is_ready() for node in cluster.nodes), "all know a leader")
        # It dies, and then the next one.
        for node in (leader, second):
            node.kill()
            holder.wait_for_renewals(1)
            node.start()
        assert wait_until(lambda: owner_of(first, "job"), "a leader tells") == ("holder", holder.token)


def test_a_lease_that_nobody_can_renew_is_lost_before_it_ends():
    ttl_ms, stop_ms = ms(10), ms(3.2)
    with Cluster() as cluster, Holder(cluster, "job", cluster.nodes, ttl_ms, stop_ms) as holder:
        holder.wait_for_renewals(1)
        for node in cluster.nodes:
            node.process.send_signal(signal.SIGSTOP)
        lost = int(wait_until(lambda: holder.told("lost"), "it is lost")[0][0])
        assert holder.told("at-risk"), holder.lines()
        deadline = holder.deadline()
        # Not before it must be, and, if it only runs, with almost all the time to stop that was asked for.
        assert deadline - stop_ms <= lost < deadline - stop_ms // 8, (lost, holder.lines())
        for node in cluster.nodes:
            node.process.send_signal(signal.SIGCONT)
        # It has its whole time again with every leader, and when that has not run for a while.
        wait_until(lambda: owner_of(cluster.leader, "job") == ("", 0), "nobody renews it, and it ends", 3 * PATIENCE)


def test_a_holder_that_was_stopped_learns_that_it_lost_its_lease():
    with Cluster() as cluster, Holder(cluster, "job", cluster.nodes) as holder:
        holder.wait_for_renewals(1)
        holder.process.send_signal(signal.SIGSTOP)
        with cluster.leader.client("next") as other:
            got = wait_until(lambda: (lambda result: result if result.outcome == wire.YES else None)(other.preempt("job")), "it is another's", 3 * PATIENCE)
            assert got.token > holder.token
        assert not holder.told("lost")
        holder.process.send_signal(signal.SIGCONT)
        wait_until(lambda: holder.told("lost"), "it learns of it")
        assert wait_until(lambda: owner_of(cluster.leader, "job"), "a leader tells") == ("next", got.token)


def test_pain_6_what_is_bound_to_a_process_ends_with_it_however_long_its_lease():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        def holder(lock, *nodes, bound=("bound",)):
            return stack.enter_context(Holder(cluster, lock, nodes, ttl_ms=24 * 3600 * 1000, bound=bound))
        # Those that nothing frees: not bound, bound with a lock-delay, bound through TCP, where nobody knows who is there.
        last = [holder("alone", cluster.leader, bound=()), holder("delayed", cluster.leader, bound=("bound", "1000")), holder("far", cluster.leader.tcp)]
        for node in cluster.nodes:
            with holder(f"by-{node.name}", node) as one:
                assert owner_of(cluster.leader, f"by-{node.name}") == ("holder", one.token)
                one.die()
                wait_until(lambda at=node: owner_of(cluster.leader, f"by-{at.name}") == ("", 0), "it is free")
        # What another process of the client has, and what its node was stopped and started under, is as it was.
        moved = holder("moved", cluster.followers[0], cluster.followers[1])
        cluster.followers[0].kill()
        cluster.followers[0].start()
        for one in last:
            one.die()
        wait_until(lambda: (seen := owner_of(cluster.followers[0], "moved")) and seen == ("holder", moved.token), "it lives")
        # Bound again, at whichever node it asks now: what that is told is not told to the test.
        moved.process.stdin.close()
        moved.process.wait(PATIENCE)
        wait_until(lambda: owner_of(cluster.leader, "moved") == ("", 0), "its program has ended")
        assert [owner_of(cluster.leader, lock) for lock in ("alone", "delayed", "far")] == [("holder", one.token) for one in last]


def test_what_a_process_was_granted_elsewhere_is_left_to_its_time_to_live_when_it_ends():
    """It changed connections while it waited: the node was not asked to tell it by the one that it left, and does not know what it has heard."""
    with Cluster(followers=0) as cluster, cluster.leader.client("first") as first:
        held = first.preempt("job")
        told, tells = os.pipe()
        process = os.fork()
        if process == 0:
            with contextlib.suppress(Exception):
                left = cluster.leader.client("waiter", pid=os.getpid())
                place = left.preempt("job", wait=True, ttl_ms=24 * 3600 * 1000)
                left.send(wire.AWAIT, wire.request_body(wire.AWAIT, 60000, "job", token=place.token))
                assert left.check("job").outcome == wire.YES         # it was heard
                left.close()
                with cluster.leader.client("waiter", pid=os.getpid()) as other:
                    os.write(tells, b"waits")
                    granted = other.await_grant("job", place.token)
                    os.write(tells, str(granted.token).encode())
                    os.kill(os.getpid(), signal.SIGKILL)
            os._exit(1)
        assert os.read(told, 100) == b"waits"
        assert first.release("job", token=held.token).outcome == wire.YES
        token = int(os.read(told, 100))
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
        # What another left for certain is seen to, behind it.
        with Holder(cluster, "other", [cluster.leader], ttl_ms=3600 * 1000, bound=("bound",)) as holder:
            holder.die()
            wait_until(lambda: owner_of(cluster.leader, "other") == ("", 0), "another's end is seen")
        assert owner_of(cluster.leader, "job") == ("waiter", token)


def test_who_says_to_be_another_process_binds_nothing_to_it():
    with Cluster(followers=0) as cluster, subprocess.Popen(["sleep", "1000"]) as other:
        node = cluster.leader
        with node.client("me", pid=other.pid) as client, node.client("me", pid=os.getpid()) as own:
            session = client.open_session(3600000).token
            mine = own.open_session(3600000).token
            assert client.preempt("job", session=session).outcome == wire.YES
            client.send(wire.AWAIT, wire.request_body(wire.AWAIT, 60000, "", token=session, bound=True))
            own.send(wire.AWAIT, wire.request_body(wire.AWAIT, 60000, "", token=mine, bound=True))
            assert client.check("job").outcome == own.check("job").outcome == wire.YES
        other.kill()
        # This process lives: it only closed its connections.
        with Holder(cluster, "other", [node], ttl_ms=3600 * 1000, bound=("bound",)) as holder:
            holder.die()
            wait_until(lambda: owner_of(node, "other") == ("", 0), "another's end is seen")
        with node.client("me") as client:
            assert client.renew(session).outcome == client.renew(mine).outcome == wire.YES
