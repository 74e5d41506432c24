"""Many clients at once, and nodes that die under them: every answer against a model."""
import collections
import os
import random
import signal
import threading
import time

import wire
from nodes import PATIENCE, Cluster, wait_until


class Recorder:
    """What clients were told, and whether it can all be true."""

    def __init__(self):
        self.lock = threading.Lock()
        self.grants = collections.defaultdict(dict)     # lock -> token -> client
        self.releases = collections.defaultdict(set)    # lock -> tokens given up
        self.counts = collections.Counter()
        self.unknown = set()                            # locks with a request of unknown outcome

    def granted(self, lock, client, token):
        with self.lock:
            self.counts["yes"] += 1
            assert token not in self.grants[lock], f"token {token} of {lock} twice"
            self.grants[lock][token] = client

    def released(self, lock, token):
        with self.lock:
            self.counts["yes"] += 1
            self.releases[lock].add(token)


class Worker(threading.Thread):
    """Preempts, checks and releases a few locks, each of which others want too; resends under the same id when in doubt."""

    def __init__(self, number, addresses, recorder, until, locks):
        super().__init__(daemon=True)
        self.name = f"client-{number}"
        self.random = random.Random(number)
        self.addresses, self.recorder, self.until, self.locks = addresses, recorder, until, locks
        self.connection, self.error = None, None

    def connect(self):
        while self.connection is None:
            try:
                self.connection = wire.Connection(self.random.choice(self.addresses), self.name)
            except (OSError, wire.Closed, wire.Refused):
                time.sleep(0.02)

    def change(self, kind, lock, token=None):
        """The outcome that stands, asked for as often as it takes; None when it stays unknown."""
        handle, end = os.urandom(16), time.monotonic() + 2 * PATIENCE
        while time.monotonic() < end:
            self.connect()
            try:
                result = self.connection.change(kind, lock, handle=handle, seq=1, deadline_ms=3000, token=token)
            except (OSError, wire.Closed):
                self.connection = None
                continue
            assert result.outcome != wire.REJECTED, result
            if result.outcome != wire.UNKNOWN:
                return result
        return None

    def cycle(self):
        lock = self.random.choice(self.locks)
        got = self.change(wire.PREEMPT, lock)
        if got is None:
            self.recorder.unknown.add(lock)
            return
        if got.outcome == wire.NO:
            self.recorder.counts["no"] += 1
            assert got.owner and got.owner != self.name, got
            return
        self.recorder.granted(lock, self.name, got.token)
        self.connect()
        try:
            seen = self.connection.check(lock, min_index=got.index)
            assert seen.outcome != wire.YES or (seen.owner, seen.token) == (self.name, got.token), (seen, got)
            assert seen.outcome != wire.NO, f"{lock} is free to its owner"
        except (OSError, wire.Closed):
            self.connection = None
        gone = self.change(wire.RELEASE, lock, got.token)
        if gone is None:
            self.recorder.unknown.add(lock)
            return
        assert gone.outcome == wire.YES, f"{self.name} lost {lock} with token {got.token}: {gone}"
        self.recorder.released(lock, got.token)

    def run(self):
        try:
            while not self.until():
                self.cycle()
        except Exception as error:
            self.error = error
        finally:
            if self.connection:
                self.connection.close()


def check_history(cluster, recorder):
    """The log of every node is one history in which all that was answered happened."""
    cluster.wait_until_equal()
    logs = []

    def equal():
        # Applied is not yet on one's own disk: a majority's is enough for that.
        logs[:] = [node.sql("SELECT idx, term, kind, lock, client, token FROM log ORDER BY idx") for node in cluster.nodes]
        first = max(log[0][0] for log in logs)
        tails = [[row for row in log if row[0] >= first] for log in logs]
        return tails[0] == tails[1] == tails[2]
    wait_until(equal, "the logs are equal")
    owner, granted, released = {}, collections.defaultdict(dict), collections.defaultdict(set)
    for _, _, kind, lock, client, token in min(logs, key=lambda log: log[0][0]):
        if kind == "preempt":
            assert lock not in owner, f"{lock} was granted twice"
            owner[lock] = (client, token)
            granted[lock][token] = client
        elif kind == "release":
            assert owner[lock][0] == client, f"{lock} was released by {client}"
            released[lock].add(owner.pop(lock)[1])
    for lock, tokens in recorder.grants.items():
        for token, client in tokens.items():
            assert granted[lock].get(token) == client, f"an acknowledged grant of {lock} is not in the log: {client} {token}"
        assert recorder.releases[lock] <= released[lock], f"an acknowledged release of {lock} is not in the log"
        if lock not in recorder.unknown:
            assert set(granted[lock]) == set(tokens), f"the log has grants of {lock} that nobody was told of"
    held = sorted((lock, client, token) for lock, (client, token) in owner.items())
    for node in cluster.nodes:
        with node.client() as connection:
            assert sorted(connection.list()) == held, f"the map of {node.name} is not what its log says"


def run_load(cluster, addresses, workers, until, locks):
    recorder = Recorder()
    threads = [Worker(number, addresses, recorder, until, locks) for number in range(workers)]
    for thread in threads:
        thread.start()
    return recorder, threads


def finish(threads):
    for thread in threads:
        thread.join(5 * PATIENCE)
        assert not thread.is_alive(), f"{thread.name} hangs"
    for thread in threads:
        if thread.error:
            raise thread.error


def test_200_clients_through_two_followers_are_all_answered_truly():
    with Cluster() as cluster:
        stop, end = threading.Event(), time.monotonic() + 10
        recorder, threads = run_load(cluster, [node.address for node in cluster.followers], 200, stop.is_set, [f"shared/{number}" for number in range(60)])
        try:
            wait_until(lambda: any(thread.error for thread in threads) or (time.monotonic() > end and recorder.counts["yes"] > 1000 and recorder.counts["no"] > 50),
                       lambda: f"enough is answered: {recorder.counts}", 10 + 2 * PATIENCE)
        finally:
            stop.set()
        finish(threads)
        assert not recorder.unknown, recorder.counts
        check_history(cluster, recorder)


def kill_loop(victims, kills, number=signal.SIGKILL, workers=24):
    """Kills a node at a random moment under load, starts it again, and goes on when all is well."""
    with Cluster() as cluster:
        dice, stop = random.Random(7), threading.Event()
        recorder, threads = run_load(cluster, [node.address for node in cluster.nodes], workers, stop.is_set,
                                     [f"kill/{number}" for number in range(12)])
        try:
            for _ in range(kills):
                node = dice.choice(victims(cluster))
                before = recorder.counts["yes"]
                time.sleep(dice.uniform(0, 0.15))
                node.kill(number)
                node.launch()
                wait_until(node.is_ready, lambda: f"{node.name} is back\n" + node.log()[-2000:])
                wait_until(lambda: recorder.counts["yes"] > before or any(thread.error for thread in threads), "the cluster goes on")
                for thread in threads:
                    if thread.error:
                        raise thread.error
        finally:
            stop.set()
        finish(threads)
        check_history(cluster, recorder)
        assert recorder.counts["yes"] > kills


def test_nothing_acknowledged_is_lost_by_30_kills_of_the_leader():
    kill_loop(lambda cluster: [cluster.leader], 30)


def test_nothing_acknowledged_is_lost_by_30_kills_of_followers():
    kill_loop(lambda cluster: cluster.followers, 30)


def test_nothing_is_lost_when_all_three_are_killed_at_once():
    with Cluster() as cluster:
        stop = threading.Event()
        recorder, threads = run_load(cluster, [node.address for node in cluster.nodes], 24, stop.is_set, [f"all/{n}" for n in range(12)])
        for _ in range(5):
            before = recorder.counts["yes"]
            time.sleep(0.3)
            for node in cluster.nodes:
                node.process.kill()
            for node in cluster.nodes:
                node.kill()
                node.launch()
            wait_until(lambda: recorder.counts["yes"] > before + 10 or any(thread.error for thread in threads), "the cluster goes on")
        stop.set()
        finish(threads)
        check_history(cluster, recorder)


def test_a_clean_restart_of_any_node_loses_nobody():
    kill_loop(lambda cluster: cluster.nodes, 6, signal.SIGTERM)
