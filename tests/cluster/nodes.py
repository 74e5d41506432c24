"""Real daemons on loopback, in a scratch directory of their own."""
import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import time

import wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD", ROOT / "build"))
if not BUILD.is_absolute():
    BUILD = ROOT / BUILD
DLOCKD, DLOCKCTL = BUILD / "dlockd", BUILD / "dlockctl"
NETWORK, DISK = BUILD / "tests/network", BUILD / "tests/disk.so"
PATIENCE = wire.PATIENCE
# An election takes place when a node is gone, and not when one did not run for a while.
STEADY = f"[election]\ntimeout = {round(1000 * PATIENCE / 6)}ms\n"


def ms(seconds):
    """Of what must not end while a test looks: so long, and longer where all is slow."""
    return round(1000 * seconds * PATIENCE / 30)


def lasting(seconds):
    """The same, as dlockctl takes it."""
    return f"{ms(seconds)}ms"


def wait_until(event, what, bound=PATIENCE):
    """Returns event()'s first true value."""
    end = time.monotonic() + bound
    while True:
        value = event()
        if value:
            return value
        assert time.monotonic() < end, f"waited {bound:.0f} s in vain for: {what() if callable(what) else what}"
        time.sleep(0.02)


# Below those that the kernel gives to whoever asks for any, or connects: a node that is down has its port for itself.
PORTS = range(10000, int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))


class Port:
    """Of no other run of tests on this host, for as long as this object lives: who has the name of the claim has the port."""

    def __init__(self):
        while True:
            self.number, self.claim = random.choice(PORTS), socket.socket(socket.AF_UNIX)
            with contextlib.suppress(OSError), socket.socket() as probe:
                self.claim.bind(f"\0dlock-tests-port-{self.number}")
                probe.bind(("", self.number))
                return
            self.claim.close()


class Node:
    """name: "leader" or "follower-N"."""

    def __init__(self, directory, name, join, settings="", host=None):
        """host: its own address on a network of ours; None: this host's loopback."""
        self.name, self.directory = name, directory
        self.arguments = ["leader"] if name == "leader" else ["follower", name.split("-")[1]]
        self.ports = [] if host else [Port(), Port()]
        self.client_port, self.peer_port = (7401, 7402) if host else [port.number for port in self.ports]
        self.address = str(directory / f"{name}.sock")
        self.tcp = f"{host or '127.0.0.1'}:{self.client_port}"
        self.peer = f"{host or '127.0.0.1'}:{self.peer_port}"
        self.listen = "allow_insecure = yes\n" if host else ""
        self.prefix, self.program = [], DLOCKD
        self.data, self.config = directory / name, directory / f"{name}.etc"
        self.log_path = directory / f"{name}.log"
        self.process = None
        self.environment = dict(os.environ)
        self.preexec = None
        self.data.mkdir(exist_ok=True)
        self.config.mkdir(exist_ok=True)
        self.configure(join, settings)

    def configure(self, join, settings=""):
        file = self.config / ("leader.ini" if self.name == "leader" else "follower.ini")
        cluster = "bootstrap = now\n" if self.name == "leader" and not join else f"join = {', '.join(join)}\n"
        file.write_text(
            f"[node]\ndirectory = {self.data}\n[listen]\nclients = {self.address}, {self.tcp}\npeers = {self.peer}\n{self.listen}"
            f"[cluster]\n{cluster}{settings}"
        )

    def launch(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, self.program, "--config-dir", self.config, *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, preexec_fn=self.preexec,
            )

    def start(self):
        self.launch()
        wait_until(self.answers, lambda: f"{self.name} answers\n{self.log()[-2000:]}")
        return self

    def answers(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log()[-3000:]}"
        return self.status()

    def status(self):
        with contextlib.suppress(OSError, wire.Closed, wire.Refused):
            with wire.Connection(self.address, timeout=PATIENCE / 6) as connection:
                return connection.status()
        return None

    def is_ready(self):
        """Knows a leader with a majority, and has heard of it."""
        status = self.status()
        return status if status and status["leader"] and status["term"] > 0 else None

    def client(self, client_id="", **more):
        return wire.Connection(self.address, client_id or f"client-of-{self.name}", **more)

    def kill(self, number=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)

    def stop(self):
        """Cleanly; the exit status must say so."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        assert status == 0, f"{self.name} stopped with status {status}:\n{self.log()[-2000:]}"

    def wait_for_exit(self, bound=PATIENCE):
        return self.process.wait(bound)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def sql(self, statement):
        with contextlib.closing(sqlite3.connect(f"file:{self.data}/dlock.db?mode=ro", uri=True, timeout=10)) as database:
            return database.execute(statement).fetchall()

    def configuration(self):
        """(level, {name: (votes, is preferred, is a witness)}) of the newest entry of members in its log; None: there is none."""
        rows = self.sql("SELECT body FROM log WHERE kind = 'configuration' ORDER BY idx DESC LIMIT 1")
        if not rows:
            return None
        body, members = rows[0][0], {}
        _, level, count = struct.unpack_from("<BHH", body)
        at = 5
        for _ in range(count):
            standing, flags, size = struct.unpack_from("<BBB", body, at + 24)
            name = body[at + 27 : at + 27 + size].decode()
            members[name] = (standing == 2, bool(flags & 1), bool(flags & 2))
            at += 27 + size
        assert at == len(body)
        return level, members


class Cluster:
    """A leader and followers; use as a context manager."""

    def __init__(self, followers=2, settings=""):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="dlock-cluster-"))
        self.settings = settings
        self.leader = Node(self.directory, "leader", [], settings)
        self.nodes = [self.leader]
        for number in range(1, followers + 1):
            self.add(number)

    def add(self, number):
        node = Node(self.directory, f"follower-{number}", [self.leader.peer], self.settings)
        self.nodes.append(node)
        return node

    @property
    def followers(self):
        return self.nodes[1:]

    def __enter__(self):
        try:
            for node in self.nodes:
                node.start()
            self.wait_for_voters(min(len(self.nodes), 5))
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def __exit__(self, kind, *_):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.kill()
        if kind is None or not os.environ.get("KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)

    def wait_for_voters(self, count):
        for node in self.nodes:
            wait_until(lambda: (node.status() or {}).get("voters") == count, lambda: f"{node.name} sees {count} voters\n{node.log()[-2000:]}")
        self.wait_until_equal()

    def wait_until_equal(self):
        """All nodes that run have applied all that the leader has appended."""
        def equal():
            states = [node.status() for node in self.nodes if node.process and node.process.poll() is None]
            return all(states) and all(state["leader"] for state in states) and len({(s["applied"], s["log_last"]) for s in states}) == 1
        wait_until(equal, lambda: "all nodes are at the same index\n" + "\n".join(node.log()[-600:] for node in self.nodes))
