"""dlockctl hold: waits for a lock, holds it in the foreground, and says so, to people and to systemd."""
import contextlib
import json
import select
import signal
import socket
import subprocess
import time

from nodes import DLOCKCTL, PATIENCE, Cluster, lasting, ms, wait_until
from test_run import HELD, LOST, UNREACHABLE, USAGE, environment_of, one_line, owner, take_away
from test_tool import tool

TIMED_OUT = 118


class Hold:
    """A dlockctl hold in the background, and the socket on which it tells systemd."""

    def __init__(self, cluster, *arguments, notifies=False, environment=None):
        environment = environment or environment_of(cluster)
        self.socket = None
        if notifies:
            path = cluster.directory / f"notify-{time.monotonic_ns()}"
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.socket.bind(str(path))
            environment["NOTIFY_SOCKET"] = str(path)
        self.process = subprocess.Popen([DLOCKCTL, "hold", *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdout, self.process.stderr, self.socket):
            if file:
                file.close()

    def line(self, file=None):
        file = file or self.process.stdout
        assert select.select([file], [], [], PATIENCE)[0], f"nothing is said: {self.process.poll()}"
        return file.readline()

    def told(self):
        """The next that systemd is told, as a dict."""
        self.socket.settimeout(PATIENCE)
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def wait_for(self, key, value=None):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            told = self.told()
            if key in told and (value is None or told[key] == value):
                return told
        raise AssertionError(f"systemd is not told {key}")

    def end(self, number=None):
        """(status, stdout, stderr)"""
        if number is not None:
            self.process.send_signal(number)
        out, error = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, error


def fill(address):
    """Whoever is there takes nothing more, from nobody."""
    sent = 1
    while sent:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(BlockingIOError):
            sender.setblocking(False)
            sent = 0
            while True:
                sender.sendto(b"", address)
                sent += 1


def test_it_holds_until_a_signal_and_gives_back():
    with Cluster(followers=0) as cluster:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            with Hold(cluster, "--ttl", "1h", "--note", "mine", "job") as hold:
                assert hold.line().startswith("job: held, token ")
                shown = json.loads(tool(cluster, "--json", "show", "job")[1])
                assert shown["note"] == "mine" and shown["ttl_ms"] == 3600000 and shown["pid"] == hold.process.pid
                status, out, error = hold.end(number)
                assert (status, error) == (0, "") and out.startswith("job: given back, token ") and owner(cluster) is None


def test_who_waits_takes_over_soon_and_a_signal_ends_the_wait_at_once():
    with Cluster(followers=0) as cluster, Hold(cluster, "job") as one:
        one.line()
        with Hold(cluster, "job") as two, Hold(cluster, "job") as three:
            for hold in (two, three):
                assert hold.line(hold.process.stderr).startswith("dlockctl: job is held by ")
            begin = time.monotonic()
            status, out, _ = three.end(signal.SIGTERM)
            assert (status, out) == (128 + signal.SIGTERM, "") and time.monotonic() - begin < PATIENCE / 3
            one.end(signal.SIGTERM)
            begin = time.monotonic()
            assert two.line().startswith("job: held") and time.monotonic() - begin < PATIENCE / 3


def test_pain_13_it_waits_as_long_as_it_is_told_to():
    with Cluster(followers=0) as cluster, Hold(cluster, "job") as one:
        one.line()
        for options, least in ((("--try",), 0), (("--wait=4s",), 4)):
            begin = time.monotonic()
            with Hold(cluster, *options, "job") as two:
                status, out, error = two.end()
                took = time.monotonic() - begin
            assert (status, out) == (HELD if least == 0 else TIMED_OUT, "") and one_line(error) and "is held by" in error, (status, out, error)
            assert least <= took < least + PATIENCE / 3, took
    with Cluster(followers=0) as cluster:
        cluster.leader.stop()
        with Hold(cluster, "--try", "job") as hold:
            status, out, error = hold.end()
            assert (status, out) == (UNREACHABLE, "") and one_line(error)


def test_pain_1_a_loss_is_told_in_time():
    with Cluster(followers=0) as cluster:
        with Hold(cluster, "--ttl", lasting(10), "job") as hold:
            hold.line()
            take_away(cluster)
            status, out, error = hold.end()
            assert (status, out) == (LOST, "") and one_line(error) and "job was lost: " in error, (status, out, error)
        with Hold(cluster, "--json", "--ttl", lasting(12), "--kill-after", lasting(3), "job") as hold:
            assert json.loads(hold.line())["held"] is True
            cluster.leader.process.send_signal(signal.SIGSTOP)
            last = time.clock_gettime(time.CLOCK_BOOTTIME)
            # 3.6 s before the deadline, and no renewal was answered after it stood still; nor is there anybody to give it back to.
            assert json.loads(hold.line())["held"] is False
            assert time.clock_gettime(time.CLOCK_BOOTTIME) - last < ms(12) / 1000
            status, _, error = hold.end()
            assert status == LOST and "was lost" in error, (status, error)
            cluster.leader.process.send_signal(signal.SIGCONT)


def test_systemd_is_told_when_it_is_held_and_when_not_any_more():
    with Cluster(followers=0) as cluster, Hold(cluster, "job") as one:
        one.line()
        with Hold(cluster, "--ttl", lasting(10), "job", notifies=True) as two:
            assert two.told()["STATUS"].startswith("waits: job is held by ")
            one.end(signal.SIGTERM)
            ready = two.wait_for("READY", "1")
            assert ready["STATUS"].startswith("holds job, token ")
            # The watchdog comes in half of the time that is left.
            for _ in range(5):
                told = two.wait_for("WATCHDOG", "1")
                assert 0 < int(told["WATCHDOG_USEC"]) <= 1000 * ms(5)
            two.process.send_signal(signal.SIGTERM)
            two.wait_for("STOPPING", "1")
            assert two.end()[0] == 0
        # A systemd that does not listen is no reason not to renew.
        environment, record = {**environment_of(cluster), "RUNTIME_DIRECTORY": str(cluster.directory)}, cluster.directory / "hold"
        with Hold(cluster, "--ttl", lasting(10), "job", notifies=True, environment=environment) as deaf:
            fill(deaf.socket.getsockname())
            deaf.line()
            for _ in range(2):
                before = record.read_text()
                wait_until(lambda: record.read_text() != before, "it is renewed")
            assert deaf.process.poll() is None and owner(cluster)
            assert deaf.end(signal.SIGTERM)[0] == 0


def test_after_sigkill_what_is_left_is_done_by_finish():
    with Cluster(followers=0) as cluster:
        environment = {**environment_of(cluster), "RUNTIME_DIRECTORY": str(cluster.directory)}
        with Hold(cluster, "--ttl", "1h", "job", environment=dict(environment)) as hold:
            hold.line()
            hold.end(signal.SIGKILL)
            assert owner(cluster)
        with Hold(cluster, "--finish", "job", environment=dict(environment)) as finish:
            status, out, error = finish.end()
            assert (status, out) == (0, "") and one_line(error) and owner(cluster) is None
        # Nothing is left of one that has ended by itself, and nothing is done.
        with Hold(cluster, "job", environment=dict(environment)) as hold:
            hold.line()
            assert hold.end(signal.SIGTERM)[0] == 0
        with Hold(cluster, "--finish", "job", environment=dict(environment)) as finish:
            assert finish.end() == (0, "", "")
        # Nor by a file that is none.
        for text in ("", "\n\n", "job\n", "job\nx 1 2\n", "job\nclient 5 99999999999999999999999 1\n", "job\nclient 5 1 2\n", "x" * 70000, "job\nclient 5 1 1\nx.service ../..\n\0\n"):
            (cluster.directory / "hold").write_text(text)
            with Hold(cluster, "--finish", "job", environment=dict(environment)) as finish:
                assert finish.end()[0] == 0, text


def test_wrong_words_are_told_in_one_line():
    with Cluster(followers=0) as cluster:
        for arguments in ((), ("a", "b"), ("--unit", "x", "job"), ("--unit", "a/b.service", "job"), ("--unit", "app.service", "job"), ("--ttl", "10s", "--kill-after", "9s", "job"),
                          ("--client", "me", "job"), ("--wait=soon", "job"), ("-w", "0s", "job"), ("x" * 256,), ("",), ("--on-lost", "kill", "job")):
            with Hold(cluster, *arguments) as hold:
                status, out, error = hold.end()
                assert (status, out) == (USAGE, "") and one_line(error), (arguments, status, out, error)
        assert tool(cluster, "check", "--unit", "a.service", "job")[0] == 2
        status, _, error = tool(cluster, "--timeout", "0", "hold", "job")
        assert status == USAGE and one_line(error), (status, error)
        closed = subprocess.run(["sh", "-c", f"exec {DLOCKCTL} hold job >&-"], stderr=subprocess.PIPE, text=True, env=environment_of(cluster))
        assert closed.returncode == USAGE and one_line(closed.stderr), closed
