"""Daemons on hosts of their own, with a network and disks that fail on command, and a collection of what they commit."""
import collections
import contextlib
import pathlib
import shutil
import signal
import sqlite3
import tempfile
import threading
import time

import history
import wire
from disk import Disk
from network import Network, address
from nodes import DISK, NETWORK, PATIENCE, Node, wait_until


class Host(Node):
    """A node that is alone on its host."""

    def __init__(self, lab, number, name, join, settings, faulty_disk):
        super().__init__(lab.directory, name, join, settings, host=address(number))
        self.number = number
        self.down = False               # the test wants it so
        self.excused = 0                # as many of its disk's faults as it has ended for
        self.files = threading.Lock()   # whoever reads or changes the database beside the daemon
        self.disk = Disk(DISK, lab.directory / f"{name}.disk", self.data)
        # Sanitizers want to be first, and are told not to mind.
        preload = [f"{key}={value}" for key, value in {**self.disk.environment, "ASAN_OPTIONS": "verify_asan_link_order=0"}.items()]
        self.prefix = [*lab.network.prefix(number), *(["env", *preload] if faulty_disk else [])]

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def launch(self):
        self.excused = self.disk.get("ended")
        with self.files:
            super().launch()
        self.down = False

    def disk_ended_it(self):
        """Its disk has told this life of it to end, be it at the last moment before the fault was over."""
        return self.disk.get("ended") > self.excused

    def kill(self, number=signal.SIGKILL):
        self.down = True
        super().kill(number)

    def lose_power(self, dice, how):
        self.kill()
        with self.files:
            self.disk.cut_power(dice, how)

    def read_committed(self, after):
        """Rows beyond an index that are committed for certain, by what this node's database says."""
        with self.files, contextlib.closing(sqlite3.connect(f"file:{self.data}/dlock.db?mode=ro", uri=True, timeout=2, isolation_level=None)) as database:
            database.execute("BEGIN")
            base = database.execute("SELECT base_index FROM meta").fetchone()[0]
            return [history.row_of(row) for row in database.execute(f"{history.SELECT} WHERE idx > ? AND idx <= ? ORDER BY idx", (after, base))]


class Lab:
    """count nodes, the first of them dlock-leader; use as a context manager."""

    def __init__(self, count, seed=0, settings="", faulty_disks=True):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="dlock-lab-"))
        self.network = Network(NETWORK, range(1, count + 1), seed)
        names = ["leader"] + [f"follower-{number}" for number in range(1, count)]
        self.nodes = [
            Host(self, number, name, [] if number == 1 else [f"{address(1)}:7402"], settings, faulty_disks) for number, name in enumerate(names, 1)
        ]
        self.log = history.Log()
        self.log.realtime = self.realtime()
        self.collected = 0
        self.collector, self.done = None, threading.Event()

    def __enter__(self):
        try:
            for node in self.nodes:
                node.start()
            self.wait_until_ready()
        except BaseException:
            self.__exit__(None)
            raise
        self.collector = threading.Thread(target=self.collect, daemon=True)
        self.collector.start()
        return self

    def __exit__(self, kind, *_):
        self.done.set()
        if self.collector:
            self.collector.join()
        for node in self.nodes:
            if node.is_running():
                node.process.send_signal(signal.SIGCONT)
                node.kill()
        self.network.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def collect(self):
        """Keeps what nodes trim. A row that one has and another has otherwise is found here too."""
        while not self.done.wait(0.2):
            for node in self.nodes:
                if not node.down and node.is_running():
                    with contextlib.suppress(sqlite3.Error):
                        rows = node.read_committed(self.collected)
                        self.log.add(node.name, rows, time.monotonic_ns())
            self.collected = max(self.log.rows, default=0)

    def node(self, number):
        return self.nodes[number - 1]

    def statuses(self):
        """Of those that answer."""
        return {node.number: status for node in self.nodes if not node.down and (status := node.status())}

    def leader(self):
        """The number of the node that leads in the highest term, by its own account; None: nobody says so."""
        leaders = [(status["term"], number) for number, status in self.statuses().items() if status["role"] == "leader"]
        return max(leaders)[1] if leaders else None

    def wait_until_ready(self, bound=2 * PATIENCE):
        """Everybody is a voter, and at the same index as the others."""
        def ready():
            states = self.statuses()
            return len(states) == len(self.nodes) and all(state["leader"] and state["voters"] == len(self.nodes) for state in states.values()) \
                and len({(state["applied"], state["log_last"], state["term"]) for state in states.values()}) == 1
        wait_until(ready, lambda: f"all nodes are ready and at the same index: {self.describe()}", bound)

    def describe(self):
        words = ("role", "leader", "term", "commit", "applied", "log_last", "voters")
        return "".join(f"\n  {node.name}: " + (" ".join(f"{word} {state[word]}" for word in words) if (state := node.status()) else "no answer") for node in self.nodes)

    def realtime(self):
        """What it is ahead of the monotonic clock."""
        return time.time_ns() - time.monotonic_ns()

    def nothing_lives(self):
        """Every session in the log has ended, as far as one node says."""
        last = max(self.log.rows, default=0)
        for node in self.nodes:
            if status := node.status():
                rows = [history.row_of(row) for row in node.sql(f"{history.SELECT} WHERE idx > {last} AND idx <= {status['applied']} ORDER BY idx")]
                self.log.add(node.name, rows, time.monotonic_ns())
                return not history.living(self.log)
        return False

    def final(self):
        """(the log of all nodes, {node: its map}), once they are equal and what nobody renews any more is free. If it never is, that is in them."""
        self.done.set()
        self.collector.join()
        with contextlib.suppress(AssertionError):
            wait_until(self.nothing_lives, "every session has ended")
        self.wait_until_ready()
        if abs(self.realtime() - self.log.realtime) > 5 * 10**6:
            self.log.realtime = None        # somebody has set the clock
        last = next(iter(self.statuses().values()))["applied"]
        maps = {}
        for node in self.nodes:
            # Applied is not yet on one's own disk: a majority's is enough for that.
            wait_until(lambda: node.sql("SELECT coalesce(max(idx), 0) FROM log")[0][0] >= last, f"{node.name} has row {last}")
            self.log.add(node.name, [history.row_of(row) for row in node.sql(f"{history.SELECT} WHERE idx <= {last} ORDER BY idx")])
            with wire.Connection(node.address, "the-end") as connection:
                maps[node.name] = collections.defaultdict(list)
                for lock, owner, token in connection.list():
                    maps[node.name][lock].append((owner, token))
        return self.log, maps

    def tail(self, lines=12):
        return "\n".join(f"--- {node.name}\n" + "\n".join(node.log().splitlines()[-lines:]) for node in self.nodes)
