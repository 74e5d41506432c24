"""A disk that takes long for what the timeouts of elections hang on."""
import signal

import wire
from disk import Disk
from nodes import DISK, Cluster, wait_until

SAID = " ms for one write to "


def slow_leader():
    """A cluster of one that is not started yet, and its disk."""
    cluster = Cluster(followers=0, settings="[election]\ntimeout = 600ms\n")
    disk = Disk(DISK, cluster.directory / "disk", cluster.leader.data)
    cluster.leader.environment.update({**disk.environment, "ASAN_OPTIONS": "verify_asan_link_order=0"})
    return cluster, disk


def test_a_disk_that_takes_more_than_a_third_of_the_timeout_is_named_once_and_again_when_it_is_twice_as_slow():
    cluster, disk = slow_leader()
    with cluster, cluster.leader.client("alice") as alice:
        leader = cluster.leader

        def write(milliseconds, count):
            disk.set("sync_ns", milliseconds * 1_000_000)
            for _ in range(count):
                assert alice.preempt("lock").outcome == wire.YES and alice.release("lock").outcome == wire.YES
        write(20, 3)
        assert SAID not in leader.log()
        write(250, 2)
        lines = [line for line in leader.log().splitlines() if SAID in line]
        assert len(lines) == 1 and "[election] timeout (600 ms)" in lines[0] and f"{leader.data}/dlock.db" in lines[0], lines
        assert 250 <= int(lines[0].partition("took ")[2].split()[0]) < 500, lines
        write(600, 1)
        assert leader.log().count(SAID) == 2
        # With a timeout to fit there is nothing to say.
        leader.configure([], "[election]\ntimeout = 10s\n")
        leader.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "reloaded the settings" in leader.log(), "it has the new timeout")
        write(1000, 1)
        assert leader.log().count(SAID) == 2
        disk.heal()
