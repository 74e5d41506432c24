"""A program that holds a lease with libdlock, while nodes stop, die and come back, and while it stops itself."""
import contextlib
import os
import signal
import subprocess

import wire
from nodes import BUILD, PATIENCE, Cluster, wait_until

# Sanitizers make elections slow.
TTL_MS = 5000 if PATIENCE <= 30 else 20000
STOP_MS = TTL_MS // 10


class Holder:
    """tests/cluster/holder.c, with what it has told so far."""

    def __init__(self, cluster, lock, nodes):
        self.output = cluster.directory / f"holder-{lock}"
        environment = {"PATH": os.environ["PATH"], "HOME": str(cluster.directory), "XDG_STATE_HOME": str(cluster.directory), "DLOCK_CLIENT": "holder"}
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen([BUILD / "tests/holder", ",".join(node.address for node in nodes), lock, str(TTL_MS), str(STOP_MS)],
                                            stdin=subprocess.PIPE, stdout=output, env=environment)
        self.token = int(wait_until(lambda: self.told("granted"), "the lease is granted")[0][0])

    def __enter__(self):
        return self

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
    with Cluster() as cluster, Holder(cluster, "job", cluster.nodes) as holder:
        holder.wait_for_renewals(1)
        for node in cluster.nodes:
            node.process.send_signal(signal.SIGSTOP)
        lost = int(wait_until(lambda: holder.told("lost"), "it is lost")[0][0])
        assert holder.told("at-risk"), holder.lines()
        deadline = holder.deadline()
        # Not before it must be, and with almost all the time to stop that was asked for.
        assert deadline - STOP_MS <= lost < deadline - STOP_MS // 2, (lost, holder.lines())
        for node in cluster.nodes:
            node.process.send_signal(signal.SIGCONT)
        wait_until(lambda: owner_of(cluster.leader, "job") == ("", 0), "nobody renews it, and it ends")


def test_a_holder_that_was_stopped_learns_that_it_lost_its_lease():
    with Cluster() as cluster, Holder(cluster, "job", cluster.nodes) as holder:
        holder.wait_for_renewals(1)
        holder.process.send_signal(signal.SIGSTOP)
        with cluster.leader.client("next") as other:
            got = wait_until(lambda: (lambda result: result if result.outcome == wire.YES else None)(other.preempt("job")), "it is another's")
            assert got.token > holder.token
        assert not holder.told("lost")
        holder.process.send_signal(signal.SIGCONT)
        wait_until(lambda: holder.told("lost"), "it learns of it")
        assert owner_of(cluster.leader, "job") == ("next", got.token)
