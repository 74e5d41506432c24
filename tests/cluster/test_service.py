"""What a node tells its service manager, by sd_notify(3)."""
import signal
import socket

from nodes import PATIENCE, Cluster, wait_until


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, node, watchdog_usec=None):
        path = node.directory / f"{node.name}.notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(PATIENCE)
        node.environment["NOTIFY_SOCKET"] = str(path)
        if watchdog_usec:
            node.environment["WATCHDOG_USEC"] = str(watchdog_usec)

    def next(self):
        return dict(line.partition("=")[::2] for line in self.socket.recv(4096).decode().splitlines())

    def until(self, key, word=""):
        """The message that has the key, and what came before it."""
        before = []
        while True:
            message = self.next()
            if key in message and word in message[key]:
                return message, before
            before.append(message)


def test_a_node_tells_when_it_is_ready_reloads_and_stops():
    cluster = Cluster(followers=0)
    leader = cluster.leader
    manager = Manager(leader)
    leader.launch()
    try:
        manager.until("READY", "1")
        # Now and not only later: the store is open, and whoever connects is answered.
        assert (leader.data / "dlock.db").exists() and leader.status()
        message, _ = manager.until("STATUS", "leader, term ")
        assert "commit " in message["STATUS"]
        for text, said in (("", "reloaded the settings"), ("[log]\nkeep_entries = x\n", "the old settings stay")):
            file = leader.config / "leader.ini"
            file.write_text(file.read_text() + text)
            leader.process.send_signal(signal.SIGHUP)
            message, _ = manager.until("RELOADING", "1")
            assert int(message["MONOTONIC_USEC"]) > 0
            _, before = manager.until("READY", "1")
            assert all("STOPPING" not in each for each in before)
            wait_until(lambda: said in leader.log(), f"the log to say: {said}")
        leader.process.send_signal(signal.SIGTERM)
        manager.until("STOPPING", "1")
        assert leader.wait_for_exit() == 0
    finally:
        cluster.__exit__(None)


def test_the_watchdog_is_fed_by_turns_and_not_while_there_are_none():
    cluster = Cluster(followers=0)
    leader = cluster.leader
    manager = Manager(leader, watchdog_usec=600_000)
    leader.launch()
    try:
        manager.until("READY", "1")
        for _ in range(3):
            manager.until("WATCHDOG", "1")
        leader.process.send_signal(signal.SIGSTOP)
        manager.socket.settimeout(2)
        try:
            while True:
                manager.next()  # what was sent before it was stopped
        except TimeoutError:
            pass
        leader.process.send_signal(signal.SIGCONT)
        manager.socket.settimeout(PATIENCE)
        manager.until("WATCHDOG", "1")
    finally:
        cluster.__exit__(None)


def test_why_a_node_cannot_start_is_said_and_given_to_the_manager_to_keep():
    cluster = Cluster(followers=0)
    leader = cluster.leader
    file = leader.config / "leader.ini"
    good = file.read_text()
    file.write_text(good + "max_voters = many\n")
    manager = Manager(leader)
    leader.launch()
    try:
        assert leader.wait_for_exit() == 2
        assert leader.log().count("max_voters = many") == 1
        message, _ = manager.until("FDSTORE", "1")
        assert message["FDNAME"] == "failure" and message["FDPOLL"] == "0"
    finally:
        cluster.__exit__(None)
