"""A holder that was paused and wakes up too late: the lock cannot stop it, the resource can."""
import contextlib
import json
import os
import signal
import sqlite3
import subprocess

from nodes import DLOCKCTL, PATIENCE, ROOT, Cluster, wait_until
from test_tool import tool, variables_of

# Holds a lock, waits until it is told to go on, and writes without another look.
HOLDER = """
token=$(dlockctl --json preempt resource | sed 's/.*"token":\\([0-9]*\\).*/\\1/')
echo "$token" >"$SCRATCH/$DLOCK_CLIENT.has"
while [ ! -e "$SCRATCH/$DLOCK_CLIENT.go" ]; do sleep 0.02; done
export DLOCK_TOKEN=$token
"""


class Holder:
    """A process that has the lock, and writes with action when it is told to."""

    def __init__(self, cluster, name, action):
        self.scratch, self.name = cluster.directory, name
        environment = {**variables_of(cluster, cluster.directory), "DLOCK_CLIENT": name, "SCRATCH": str(cluster.directory)}
        environment["PATH"] = f"{DLOCKCTL.parent}:{environment['PATH']}"
        self.process = subprocess.Popen(["sh", "-c", HOLDER + action], env=environment, start_new_session=True, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        has = self.scratch / f"{name}.has"
        wait_until(lambda: has.exists() and has.read_text().endswith("\n"), f"{name} has the lock")
        self.token = int(has.read_text())

    def pause(self):
        os.killpg(self.process.pid, signal.SIGSTOP)

    def wake(self):
        os.killpg(self.process.pid, signal.SIGCONT)

    def finish(self):
        """(status, stderr)"""
        (self.scratch / f"{self.name}.go").touch()
        _, error = self.process.communicate(timeout=2 * PATIENCE)
        return self.process.returncode, error


@contextlib.contextmanager
def too_late(action):
    """What alice, who was paused, and bob, who got the lock meanwhile, came to: (alice's result, bob's, the cluster's directory)."""
    with Cluster(followers=0) as cluster:
        alice = Holder(cluster, "alice", action)
        alice.pause()
        # Whoever looks after the cluster thinks that she is dead.
        assert tool(cluster, "--client", "alice", "release", "resource")[0] == 0
        bob = Holder(cluster, "bob", action)
        assert bob.token > alice.token
        done = bob.finish()
        (cluster.directory / "alice.go").touch()
        alice.wake()
        yield alice.finish(), done, cluster.directory


def test_a_paused_holder_that_wakes_up_too_late_runs_nothing():
    action = 'exec dlockctl fence "$SCRATCH/resource.fence" -- sh -c \'echo "$DLOCK_CLIENT" >>"$SCRATCH/resource"\''
    with too_late(action) as (late, done, scratch):
        assert done == (0, ""), done
        assert late[0] == 121 and "is refused" in late[1] and late[1].count("\n") == 1, late
        assert (scratch / "resource").read_text() == "bob\n"


def test_a_paused_holder_that_wakes_up_too_late_puts_nothing_into_place():
    action = 'echo "$DLOCK_CLIENT" | dlockctl fence --into "$SCRATCH/resource" "$SCRATCH/resource.fence"'
    with too_late(action) as (late, done, scratch):
        assert done == (0, ""), done
        assert late[0] == 1 and "is refused" in late[1] and late[1].count("\n") == 1, late
        assert (scratch / "resource").read_text() == "bob\n"
        assert sorted(file.name for file in scratch.glob("resource*")) == ["resource", "resource.fence"]


def test_a_paused_holder_that_wakes_up_too_late_changes_no_row():
    # The statement is the one of libdlock(3).
    statement = "UPDATE resource SET value = :value, token = :token WHERE name = :name AND token <= :token"
    assert statement in " ".join((ROOT / "packaging/man/libdlock.3").read_text().split()), "the manual has another statement"
    with Cluster(followers=0) as cluster, contextlib.closing(sqlite3.connect(cluster.directory / "resource.db")) as database:
        database.execute("CREATE TABLE resource (name TEXT PRIMARY KEY, value TEXT, token INTEGER NOT NULL)")
        database.execute("INSERT INTO resource VALUES ('report', '', 0)")

        def write(client, token):
            return database.execute(statement, {"name": "report", "value": client, "token": token}).rowcount
        first = json.loads(tool(cluster, "--json", "--client", "alice", "preempt", "resource")[1])["token"]
        assert write("alice", first) == 1 and write("alice again", first) == 1
        assert tool(cluster, "--client", "alice", "release", "resource")[0] == 0
        second = json.loads(tool(cluster, "--json", "--client", "bob", "preempt", "resource")[1])["token"]
        assert write("bob", second) == 1
        assert write("alice, late", first) == 0
        assert database.execute("SELECT value FROM resource").fetchall() == [("bob",)]


def test_fence_says_what_is_wrong_and_passes_statuses_on():
    with Cluster(followers=0) as cluster:
        file = cluster.directory / "fence"

        def fence(*arguments, **environment):
            return tool(cluster, "fence", *arguments, server="/nowhere", **environment)
        assert fence("--token", "5", file) == (0, f"{file}: token 5 accepted\n", "")
        assert fence(file, DLOCK_TOKEN="5")[0] == 0
        assert fence("--token", "4", file)[:2] == (1, f"{file}: token 4 refused, 5 was accepted before\n")
        status, out, error = tool(cluster, "--json", "fence", "--token", "4", file)
        assert status == 1 and json.loads(out) == {"accepted": False, "token": 4, "highest": 5} and error == ""
        assert fence("--token", "6", file, "--", "sh", "-c", "exit 7")[0] == 7
        assert fence("--token", "6", file, "sh", "-c", "kill -9 $$")[0] == -signal.SIGKILL
        assert fence("--token", "5", file, "touch", cluster.directory / "no")[0] == 121 and not (cluster.directory / "no").exists()
        assert fence("--token", "6", file, "/nonexistent")[0] == 127 and fence("--token", "6", file, "/etc/passwd")[0] == 126
        other = cluster.directory / "other"
        other.write_text("precious\n")
        for arguments, status in (((file,), 2), (("--token", "0", file), 2), (("--token", "1e3", file), 2), (("--token", "9007199254740992", file), 2), (("--token", "1", other), 2),
                                  (("--token", "1", other, "true"), 122), (("--token", "1", cluster.directory / "none/fence"), 2), ((), 2)):
            done = fence(*arguments)
            assert done[0] == status and done[1] == "" and done[2].count("\n") == 1, (arguments, done)
        assert other.read_text() == "precious\n"
        assert fence(file, DLOCK_TOKEN="many")[0] == 2
        # Whoever is at it keeps others out, and is waited for.
        busy = subprocess.Popen([DLOCKCTL, "fence", "--token", "7", file, "sh", "-c", "echo in; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert busy.stdout.readline() == "in\n"
        done = fence("--timeout", "100ms", "--token", "8", file)
        assert done[0] == 4 and "nothing has happened" in done[2], done
        assert fence("--timeout", "100ms", "--token", "8", file, "true")[0] == 124
        busy.communicate(timeout=PATIENCE)
        assert busy.returncode == 0 and fence("--token", "8", file)[0] == 0


def test_a_fence_that_puts_something_into_place_answers_programs_and_keeps_its_memory_apart():
    with Cluster(followers=0) as cluster:
        file, path = cluster.directory / "report.fence", cluster.directory / "report"

        def put(token, text, into, memory, *more):
            done = subprocess.run([DLOCKCTL, *more, "fence", "--token", str(token), "--into", into, memory], input=text, capture_output=True, text=True, timeout=PATIENCE,
                                  cwd=cluster.directory, check=False)
            return done.returncode, done.stdout, done.stderr
        status, out, error = put(6, "six\n", path, file, "--json")
        assert status == 0 and json.loads(out) == {"accepted": True, "token": 6, "highest": 6} and error == "", (out, error)
        status, out, error = put(5, "five\n", path, file, "--json")
        assert status == 1 and json.loads(out) == {"accepted": False, "token": 5, "highest": 6} and error == "", (out, error)
        assert path.read_text() == "six\n" and put(7, "seven\n", path, file) == (0, "", "")
        # What is not in place was not accepted, as far as anybody is told.
        status, out, error = put(8, "eight\n", cluster.directory / "none/report", file, "--json")
        assert status == 2 and out == "" and error.count("\n") == 1, (out, error)
        # One name for both would leave nothing of the memory, and accept who comes too late.
        (cluster.directory / "link").symlink_to(file)
        for into, memory in ((file, file), ("report.fence", file), ("./report.fence", "report.fence"), (file, "link"), ("new", "new"), ("./other", "other")):
            status, out, error = put(9, "nine\n", into, memory)
            assert status == 2 and out == "" and error.count("\n") == 1 and "a file of its own" in error, (into, memory, status, out, error)
        assert put(6, "late\n", path, file)[0] == 1 and path.read_text() == "seven\n"
        assert not (cluster.directory / "new").exists() and put(8, "", path, "other")[0] == 1
