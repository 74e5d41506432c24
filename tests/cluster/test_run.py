"""dlockctl run: the command and all that it starts end with the lock, at the latest; and it is otherwise as if it were run without."""
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time

from nodes import DLOCKCTL, PATIENCE, ROOT, Cluster, wait_until
from test_tool import tool, variables_of

HELD, LOST, UNKNOWN, UNREACHABLE, USAGE, NOT_RUN, NOT_FOUND = 119, 120, 121, 122, 125, 126, 127

CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")

# Writes its number, and so does one that has got away by the book: orphaned, in a session of its own, deaf to what can be ignored.
GETAWAY = """
(setsid sh -c 'trap "" TERM HUP INT; echo $$ >>"$PIDS"; while :; do sleep 0.05; done' &)
until [ -s "$PIDS" ]; do sleep 0.01; done
echo $$ >>"$PIDS"
while :; do sleep 0.05; done
"""


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def state_of(pid):
    """The letter of proc(5); X when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def is_alive(pid):
    """Zombies are not."""
    return state_of(pid) not in "ZX"


def environment_of(cluster, **more):
    return {**variables_of(cluster, cluster.directory), "PIDS": str(cluster.directory / "pids"), "D": str(cluster.directory), "DLOCKCTL": str(DLOCKCTL), **more}


def sockets_of(pid):
    files = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):     # closed meanwhile
            files.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return {file for file in files if file.startswith("socket:")}


class Run:
    """A dlockctl run in the background; whoever leaves the context leaves nothing behind."""

    def __init__(self, cluster, *arguments, program=DLOCKCTL, environment=None, **more):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True, **more}
        self.cluster = cluster
        self.process = subprocess.Popen([program, "run", *arguments], env=environment or environment_of(cluster), **options)
        self.pids = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in (*self.guardians(), self.process.pid, *self.pids):
            with contextlib.suppress(OSError):
                # Not somebody else who has got the number since.
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if str(self.cluster.directory).encode() in file.read():
                        os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def guardians(self):
        """Its child, as soon as there is one. Before that it has another for a moment, which starts the watcher and stays in its group."""
        with contextlib.suppress(OSError):
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
                return [pid for pid in map(int, file.read().split()) if os.getpgid(pid) == pid]
        return []

    def guardian(self):
        return wait_until(self.guardians, "there is a guardian")[0]

    def wait_for_pids(self, count=2):
        file = self.cluster.directory / "pids"
        self.pids = wait_until(lambda: file.exists() and len(lines := file.read_text().split()) >= count and [int(pid) for pid in lines],
                               lambda: f"{count} processes run: {self.process.poll()} {self.process.stderr and self.process.stderr.read() if self.process.poll() else ''}")
        return self.pids

    def wait_for_file(self, name):
        file = self.cluster.directory / name
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"), lambda: f"{name} is written: {self.process.poll()}")
        return file.read_text().splitlines()

    def finish(self, bound=PATIENCE):
        """(status, stdout, stderr)"""
        out, error = self.process.communicate(timeout=bound)
        return self.process.returncode, out, error

    def finish_with(self, text):
        out, error = self.process.communicate(text, timeout=PATIENCE)
        return self.process.returncode, out, error

    def wait_until_dead(self, bound=PATIENCE):
        """When that was, at the latest, by CLOCK_BOOTTIME."""
        end = time.monotonic() + bound
        while any(is_alive(pid) for pid in self.pids):
            assert time.monotonic() < end, "the tree does not die"
            time.sleep(0.002)
        return now_ns()


def run(cluster, *arguments, **more):
    return tool(cluster, "run", *arguments, **more)


def owner(cluster, lock="job"):
    return json.loads(tool(cluster, "--json", "check", "--consistent", lock)[1])["owner"]


def waiters(cluster, lock="job"):
    return json.loads(tool(cluster, "--json", "show", "--consistent", lock)[1])["waiting"]


def take_away(cluster, lock="job"):
    """What an operator does who thinks that the holder is dead: the lease is over, and the holder does not know."""
    assert tool(cluster, "--client", owner(cluster, lock), "release", lock)[0] == 0


def one_line(error):
    return error.startswith("dlockctl: ") and error.count("\n") == 1


# --- pain 1: the lock is lost, and the work goes on ---

def test_pain_1_whoever_loses_the_lock_is_stopped_with_all_that_it_started():
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "3s", "job", "sh", "-c", GETAWAY) as first:
        first.wait_for_pids()
        take_away(cluster)
        status, out, error = first.finish()
        assert (status, out) == (LOST, "") and one_line(error) and "the lock was lost" in error, (status, out, error)
        assert not any(is_alive(pid) for pid in first.pids)


def test_pain_1_without_servers_nothing_lives_at_the_deadline():
    with Cluster(followers=2) as cluster:
        with Run(cluster, "--ttl", "6s", "job", "sh", "-c", GETAWAY) as job:
            job.wait_for_pids()
            for node in cluster.nodes:
                node.process.send_signal(signal.SIGSTOP)
            # No renewal was asked for later that got an answer.
            last = now_ns()
            assert job.wait_until_dead() < last + 6_000_000_000 * 99 // 100
            status, _, error = job.finish()
            assert status == LOST and one_line(error), (status, error)


def test_pain_1_nothing_of_the_first_lives_when_the_next_is_granted():
    with Cluster(followers=2) as cluster:
        with Run(cluster, "--server", cluster.nodes[0].address, "--ttl", "3s", "job", "sh", "-c", GETAWAY) as first:
            first.wait_for_pids()
            # Its only server goes; to the others nothing has happened.
            cluster.nodes[0].process.send_signal(signal.SIGSTOP)
            look = 'for pid in $(cat "$PIDS"); do kill -0 "$pid" 2>/dev/null && echo "$pid lives"; done; true'

            def next_is_granted():
                status, out, error = run(cluster, "job", "sh", "-c", look, **environment_of(cluster))
                assert status in (0, HELD, UNKNOWN), (status, error)
                return status == 0 and (out,)
            assert wait_until(next_is_granted, "the next is granted") == ("",)
            assert first.finish()[0] == LOST


def test_pain_1_on_lost_kill_and_on_lost_command():
    trap = 'trap "echo term >>$D/told; exit" TERM; trap "echo hup >>$D/told; exit" HUP; echo $$ >>"$PIDS"; while :; do sleep 0.05; done'
    for on_lost, told in (("term", "term\n"), ("kill", ""), ('echo "$DLOCK_NAME" >"$D/hook"; kill -HUP $DLOCK_PID', "hup\n")):
        with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "2s", "--on-lost", on_lost, "job", "sh", "-c", trap) as job:
            job.wait_for_pids(1)
            take_away(cluster)
            assert job.finish()[0] == LOST
            file = cluster.directory / "told"
            assert (file.read_text() if file.exists() else "") == told, on_lost
            assert told != "hup\n" or job.wait_for_file("hook") == ["job"]


# --- pain 7: hosts whose clocks differ ---

def held_for(cluster, lock="job"):
    return json.loads(tool(cluster, "--json", "show", "--consistent", lock)[1])["held_ms"]


def test_pain_7_a_lock_is_held_at_least_as_long_as_was_said_and_renewed_meanwhile():
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "4s", "--hold-at-least", "6s", "job", "sh", "-c", "exit 7") as job:
        begin = time.clock_gettime(time.CLOCK_BOOTTIME)
        wait_until(lambda: owner(cluster), "the lock is held")
        wait_until(lambda: (held_for(cluster) or 0) > 4500, "it is held for longer than its time to live")
        assert job.finish() == (7, "", "")
        assert time.clock_gettime(time.CLOCK_BOOTTIME) - begin >= 6 and owner(cluster) is None
        # Who takes longer is not kept up.
        begin = time.monotonic()
        assert run(cluster, "--hold-at-least", "100ms", "job", "sleep", "0.3")[0] == 0 and time.monotonic() - begin < PATIENCE
        # Nor who cannot be run.
        assert run(cluster, "--hold-at-least", "1h", "job", "/no/such/thing")[0] == NOT_FOUND


def test_a_signal_ends_the_wait_of_hold_at_least_and_the_status_is_that_of_the_command():
    with Cluster(followers=0) as cluster:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            with Run(cluster, "--hold-at-least", "1h", "job", "sh", "-c", 'echo $$ >"$PIDS"; exit 6') as job:
                job.wait_for_pids(1)
                wait_until(lambda: not is_alive(job.pids[0]), "the command has ended")
                os.kill(job.process.pid, number)
                assert job.finish() == (6, "", "") and owner(cluster) is None, number
                (cluster.directory / "pids").unlink()
        # Also one that came before: whoever stops a service does not want to wait.
        with Run(cluster, "--hold-at-least", "1h", "job", "sh", "-c", 'trap "exit 5" TERM; echo $$ >"$PIDS"; while :; do sleep 0.05; done') as job:
            job.wait_for_pids(1)
            os.kill(job.process.pid, signal.SIGTERM)
            assert job.finish() == (5, "", "") and owner(cluster) is None
            (cluster.directory / "pids").unlink()
        # And so does the end of either process.
        for victim in (lambda job: job.process.pid, lambda job: job.guardian()):
            with Run(cluster, "--ttl", "1h", "--hold-at-least", "1h", "job", "sh", "-c", 'echo $$ >"$PIDS"') as job:
                job.wait_for_pids(1)
                wait_until(lambda: not is_alive(job.pids[0]), "the command has ended")
                os.kill(victim(job), signal.SIGKILL)
                wait_until(lambda: owner(cluster) is None, "the lock is free")
                (cluster.directory / "pids").unlink()


def test_a_guardian_that_is_killed_before_hold_at_least_is_over_is_told_and_the_status_is_that_of_the_command():
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "1s", "--hold-at-least", "1h", "job", "sh", "-c", 'echo $$ >"$PIDS"; exit 7') as job:
        job.wait_for_pids(1)
        job.wait_until_dead()
        wait_until(lambda: json.loads(tool(cluster, "--json", "show", "job")[1])["held_ms"] > 1500, "it is renewed for longer than the command lived")
        os.kill(job.guardian(), signal.SIGKILL)
        status, _, error = job.finish()
        assert status == 7 and one_line(error) and "--hold-at-least" in error and "was given back" in error, (status, error)
        assert owner(cluster) is None


def test_a_lock_that_is_lost_before_hold_at_least_is_over_is_told_and_the_status_is_that_of_the_command():
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "2s", "--hold-at-least", "1h", "job", "sh", "-c", 'echo $$ >"$PIDS"; exit 4') as job:
        job.wait_for_pids(1)
        wait_until(lambda: not is_alive(job.pids[0]), "the command has ended")
        take_away(cluster)
        status, out, error = job.finish()
        assert (status, out) == (4, "") and one_line(error) and "hold-at-least" in error, (status, out, error)


# --- pain 2: orphans, and signals that go astray ---

# Tells each signal, in order, and ends with USR1.
LISTENER = """
import os, signal, time
def told(number, frame):
    os.write(1, b"%d\\n" % number)
    if number == signal.SIGUSR1:
        os._exit(5)
for number in range(1, signal.NSIG):
    if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, 32, 33) and signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGPIPE:
        signal.signal(number, told)
open(os.environ["D"] + "/ready", "w").write("ready\\n")
while True:
    time.sleep(0.05)         # Not pause(): a signal just before that would be told only with the next.
"""
JOB_CONTROL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT}


def test_pain_2_every_signal_is_passed_on():
    with Cluster(followers=0) as cluster, Run(cluster, "job", sys.executable, "-c", LISTENER) as job:
        job.wait_for_file("ready")
        sent = [number for number in range(1, signal.NSIG) if number not in
                {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGUSR1, 32, 33} | JOB_CONTROL and number != signal.SIGXFSZ]
        for number in sent:
            os.kill(job.process.pid, number)
        text, end = "", time.monotonic() + PATIENCE
        while text.count("\n") < len(sent) and select.select([job.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
            text += os.read(job.process.stdout.fileno(), 65536).decode()
        told = {int(line) for line in text.splitlines()}
        assert told == set(sent), (told ^ set(sent))
        os.kill(job.process.pid, signal.SIGUSR1)
        assert job.finish() == (5, f"{signal.SIGUSR1:d}\n", "")
        assert owner(cluster) is None


def test_pain_2_what_the_command_leaves_behind_is_stopped_before_the_lock_is_free():
    leave = """
    (setsid sh -c 'echo $$ >>"$PIDS"; exec sleep 1000' &)
    (setsid sh -c 'trap "" TERM; echo $$ >>"$PIDS"; while :; do sleep 0.05; done' &)
    until [ "$(wc -l <"$PIDS")" = 2 ]; do sleep 0.01; done 2>/dev/null
    exit 3
    """
    with Cluster(followers=0) as cluster, Run(cluster, "--kill-after", "300ms", "job", "sh", "-c", leave) as job:
        assert job.finish()[0] == 3
        assert not any(is_alive(pid) for pid in job.wait_for_pids())
        assert owner(cluster) is None


def expect_freed_at_once(kill):
    """Long before the lease would end. kill is given the job."""
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "1h", "--kill-after", "300ms", "job", "sh", "-c", GETAWAY) as job:
        job.wait_for_pids()
        kill(job)
        wait_until(lambda: owner(cluster) is None, "the lock is free")
        assert not any(is_alive(pid) for pid in job.pids)
        job.finish()


def test_pain_2_sigkill_of_the_front_kills_the_tree_and_frees_the_lock_at_once():
    expect_freed_at_once(lambda job: os.kill(job.process.pid, signal.SIGKILL))


def test_pain_2_sigkill_of_the_process_group_frees_the_lock_at_once():
    expect_freed_at_once(lambda job: os.killpg(job.process.pid, signal.SIGKILL))


def test_pain_2_sigkill_of_the_guardian_kills_the_tree_and_frees_the_lock_at_once():
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "1h", "--kill-after", "300ms", "job", "sh", "-c", GETAWAY) as job:
        job.wait_for_pids()
        os.kill(job.guardian(), signal.SIGKILL)
        status, _, error = job.finish()
        assert status == LOST and one_line(error) and "was killed" in error and "was given back" in error, (status, error)
        assert not any(is_alive(pid) for pid in job.pids)
        assert owner(cluster) is None


def test_pain_13_sigkill_of_the_guardian_of_one_that_waits_leaves_nobody_in_the_queue():
    with Cluster(followers=0) as cluster, Run(cluster, "job", "sleep", "1000") as holder:
        wait_until(lambda: owner(cluster), "it is held")
        for more in ((), ("--also", "other")):
            # What is told then depends on who is the first to notice what: often enough, on the whole.
            for _ in range(8):
                with Run(cluster, "--ttl", "1h", "--wait", *more, "job", "touch", cluster.directory / "ran") as job:
                    guardian = job.guardian()
                    wait_until(lambda: waiters(cluster) == 1, "it waits")
                    os.kill(guardian, signal.SIGKILL)
                    status, _, error = job.finish()
                assert status == UNKNOWN and one_line(error) and "nothing was run" in error, (status, error)
                assert waiters(cluster) == 0
        holder.process.send_signal(signal.SIGTERM)
        holder.finish()
        assert owner(cluster) is None and not (cluster.directory / "ran").exists()


def test_pain_2_the_tree_of_a_user_without_privileges_dies_too():
    with Cluster(followers=0) as cluster:
        cluster.directory.chmod(0o777)
        # The tree may be in a home that others may not look into.
        for file in ("dlockctl", "libdlock.so.0"):
            shutil.copy(DLOCKCTL.parent / file, cluster.directory)
        for victim in ("front", "guardian", "lock"):
            (cluster.directory / "pids").unlink(missing_ok=True)
            with Run(cluster, "--ttl", "3s", "job", "sh", "-c", GETAWAY, program=cluster.directory / "dlockctl", user=54321, cwd=cluster.directory) as job:
                job.wait_for_pids()
                if victim == "lock":
                    take_away(cluster)
                else:
                    os.kill(job.process.pid if victim == "front" else job.guardian(), signal.SIGKILL)
                wait_until(lambda: owner(cluster) is None, "the lock is free")
                job.wait_until_dead()
                job.finish()


def hides_cgroups(cluster):
    """A program that is dlockctl where no cgroup is to be seen."""
    program = cluster.directory / "without-cgroups"
    program.write_text(f"""#!/bin/sh
exec unshare --mount sh -ec 'if [ -d /sys/fs/cgroup ]; then mount -t tmpfs none /sys/fs/cgroup; fi; exec "$0" "$@"' {DLOCKCTL} "$@"
""")
    program.chmod(0o755)
    return program


def cgroup_in(cluster, *words, **more):
    """Where a command is that is run so."""
    with Run(cluster, *words, "grep", "^0::", "/proc/self/cgroup", **more) as job:
        status, out, error = job.finish()
    assert error == "" and (status, bool(out)) in ((0, True), (1, False)), (status, out, error)
    return out.strip()


def cgroups_are_given(cluster):
    given = "/run-dlock-" in cgroup_in(cluster, "where")
    with open("/proc/self/cgroup") as file:
        own = [line[4:].strip() for line in file if line.startswith("0::/")]
    # On a host of systemd it depends on what the tests were started from.
    assert given or os.path.exists("/run/systemd/system") or not any(os.access(f"{top}/{path}/cgroup.procs", os.W_OK) for top in CGROUPS for path in own)
    return given


def is_left(cgroup):
    """As /proc tells it."""
    return any(os.path.exists(f"{top}/{cgroup.removeprefix('0::/')}") for top in CGROUPS)


def kill_both(job):
    """As kill -9 does it: neither has the time to do what takes some when the other dies."""
    for pid in (job.guardian(), job.process.pid):
        os.kill(pid, signal.SIGKILL)


def test_pain_2_sigkill_of_both_without_a_cgroup_kills_the_command_and_the_lock_is_free_after_the_ttl():
    with Cluster(followers=0) as cluster:
        program = hides_cgroups(cluster)
        assert "/run-dlock-" not in cgroup_in(cluster, "where", program=program)
        with Run(cluster, "--ttl", "2s", "job", "sh", "-c", 'echo $$ >>"$PIDS"; while :; do sleep 0.05; done', program=program) as job:
            job.wait_for_pids(1)
            kill_both(job)
            job.wait_until_dead()
            wait_until(lambda: owner(cluster) is None, "the lock is free")


def test_pain_2_sigkill_of_both_with_a_cgroup_kills_the_tree_and_frees_the_lock_at_once():
    with Cluster(followers=0) as cluster:
        if not cgroups_are_given(cluster):
            return
        for by_name in (False, True):
            (cluster.directory / "pids").unlink(missing_ok=True)
            with Run(cluster, "--ttl", "1h", "--kill-after", "2min", "job", "sh", "-c", GETAWAY) as job:
                job.wait_for_pids()
                with open(f"/proc/{job.pids[0]}/cgroup") as file:
                    cgroup = next(line.strip() for line in file if line.startswith("0::"))
                assert is_left(cgroup)
                if by_name:
                    # What a person does who wants to be rid of it.
                    subprocess.run(["pkill", "-9", "-s", str(job.process.pid), "-x", "dlockctl"], check=True)
                else:
                    kill_both(job)
                # Each alone would wait for longer.
                job.wait_until_dead(8)
                wait_until(lambda: owner(cluster) is None, "the lock is free")
                job.finish()
            wait_until(lambda: not is_left(cgroup), "the cgroup is gone")


def test_pain_3_when_both_stand_still_past_their_deadline_nothing_in_the_cgroup_lives():
    with Cluster(followers=0) as cluster:
        if not cgroups_are_given(cluster):
            return
        with Run(cluster, "--ttl", "6s", "job", "sh", "-c", GETAWAY) as job:
            job.wait_for_pids()
            guardian = job.guardian()
            for pid in (guardian, job.process.pid):
                os.kill(pid, signal.SIGSTOP)
            last = now_ns()
            assert job.wait_until_dead() < last + 6_000_000_000 * 99 // 100
            wait_until(lambda: owner(cluster) is None, "the lease ends")
            # The kernel lets a stopped group go on that has lost its last member with a parent elsewhere.
            for pid in (guardian, job.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            status, _, error = job.finish()
            assert status == LOST and one_line(error), (status, error)


def test_the_cgroup_of_a_nested_run_is_in_that_of_the_outer_one_and_both_go_with_their_runs():
    with Cluster(followers=0) as cluster:
        if not cgroups_are_given(cluster):
            return
        outer, inner = run(cluster, "a", "sh", "-c", f"grep ^0:: /proc/self/cgroup; exec {DLOCKCTL} run b grep ^0:: /proc/self/cgroup")[1].split()
        assert inner.startswith(outer + "/run-dlock-") and "/run-dlock-" in outer, (outer, inner)
        wait_until(lambda: not is_left(outer), "the cgroups are gone")


def test_pain_2_a_signal_ends_the_request_at_once_and_leaves_no_lock():
    with Cluster(followers=0) as cluster:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            cluster.leader.process.send_signal(signal.SIGSTOP)
            with Run(cluster, "--timeout", "20s", "job", "touch", cluster.directory / "ran") as job:
                guardian = job.guardian()
                # A request that is granted when the server goes on.
                # Besides its end of those to the front and to the watcher.
                wait_until(lambda: len(sockets_of(guardian) - sockets_of(job.process.pid)) >= 2, "it asks")
                begin = time.monotonic()
                os.kill(job.process.pid, number)
                # Nobody keeps the pipes open either.
                assert job.finish() == (128 + number, "", "") and time.monotonic() - begin < 5
                cluster.leader.process.send_signal(signal.SIGCONT)
                wait_until(lambda: not is_alive(guardian), "it has withdrawn")
            assert owner(cluster) is None and not (cluster.directory / "ran").exists()


def test_pain_2_a_fork_bomb_ends_with_its_lock():
    bomb = """
    import os, resource, time
    if os.getuid() == 0:
        os.setresuid(54321, 54321, 54321)
    resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))
    open(os.environ["PIDS"], "a")
    os.write(1, b"go\\n")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.fork()
        except OSError:
            pass
    """
    bomb = "\n".join(line[4:] for line in bomb.splitlines())
    with Cluster(followers=0) as cluster:
        (cluster.directory / "pids").touch()
        (cluster.directory / "pids").chmod(0o666)
        cluster.directory.chmod(0o755)
        with Run(cluster, "--ttl", "3s", "job", sys.executable, "-c", bomb) as job:
            assert job.process.stdout.readline() == "go\n"
            take_away(cluster)
            assert job.finish()[0] == LOST
            # They all have the pipe: finish() came to its end.


# --- pain 3: a pause ---

def test_pain_3_a_guardian_that_stands_still_past_its_deadline_is_not_waited_for():
    with Cluster(followers=0) as cluster:
        with Run(cluster, "--ttl", "6s", "job", "sh", "-c", GETAWAY) as job:
            job.wait_for_pids()
            os.kill(job.guardian(), signal.SIGSTOP)
            last = now_ns()
            assert job.wait_until_dead() < last + 6_000_000_000 * 99 // 100
            status, _, error = job.finish()
            assert status == LOST and one_line(error), (status, error)
        wait_until(lambda: owner(cluster) is None, "the lease ends")


def test_pain_3_a_front_that_stands_still_past_its_deadline_keeps_the_lock():
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "1s", "job", "sh", "-c", 'echo $$ >>"$PIDS"; read line; exit 4', stdin=subprocess.PIPE) as job:
        job.wait_for_pids(1)
        before = owner(cluster)
        os.kill(job.process.pid, signal.SIGSTOP)
        # Three times to live.
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert owner(cluster) == before and is_alive(job.pids[0])
        job.process.stdin.write("\n")
        job.process.stdin.flush()
        wait_until(lambda: owner(cluster) is None, "the lock is free")
        os.kill(job.process.pid, signal.SIGCONT)
        assert job.finish()[0] == 4


# --- pain 9: exit statuses ---

def test_pain_9_exit_statuses_are_those_of_the_command_or_tell_what_was():
    with Cluster(followers=0) as cluster:
        for status in (0, 1, 7, 119, 255):
            assert run(cluster, "job", "sh", "-c", f"exit {status}") == (status, "", "")
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSEGV, signal.SIGRTMIN):
            assert run(cluster, "job", "sh", "-c", f"ulimit -c 0; kill -{number:d} $$") == (128 + number, "", "")
        assert run(cluster, "job", "/nonexistent")[0] == NOT_FOUND and run(cluster, "job", "/etc/passwd")[0] == NOT_RUN
        assert tool(cluster, "preempt", "--note", "by\u00a0hand", "job")[0] == 0
        touch = ("job", "touch", cluster.directory / "ran")
        for options, code in (((), HELD), (("--try",), HELD), (("-E", "0"), 0), (("--conflict-exit-code", "75"), 75)):
            status, out, error = run(cluster, *options, *touch)
            assert (status, out) == (code, "") and one_line(error) and "job is held by uid:" in error and "by\u00a0hand" in error, (status, out, error)
        status, out, error = run(cluster, *touch, server=str(cluster.directory / "nobody.sock"))
        assert (status, out) == (UNREACHABLE, "") and one_line(error), (status, error)
        assert not (cluster.directory / "ran").exists()
        assert tool(cluster, "release", "job")[0] == 0
        assert run(cluster, "-E", "9", "job", "sh", "-c", "exit 119")[0] == 119


def test_pain_9_wrong_usage_is_told_in_one_line_and_nothing_is_run():
    with Cluster(followers=0) as cluster:
        ran = str(cluster.directory / "ran")
        for words, what in (("", "a name and a command"), ("job", "a name and a command"), ("job --", "a name and a command"), ("--ttl 0s job touch RAN", "from 1s to 24h"),
                            ("--ttl 25h job touch RAN", "from 1s to 24h"), ("--kill-after 9s job touch RAN", "up to 8.1 s, or --ttl from 33 s on, would be right"),
                            ("job --kill-after 9s -- touch RAN", "up to 8.1 s"), ("--on-lost= job touch RAN", "--on-lost"), ("-E 256 job touch RAN", "from 0 to 255"),
                            ("-E x job touch RAN", "from 0 to 255"), ("--client me job touch RAN", "an id of its own"), ("--json job touch RAN", "standard output is that"),
                            ("--server nowhere job touch RAN", "nowhere"), ("--nonsense job touch RAN", "--nonsense"), ("job -x touch RAN", "-x"), ("a\nb touch RAN", "")):
            status, out, error = run(cluster, *[ran if word == "RAN" else word for word in words.split(" ") if word])
            assert (status, out) == (USAGE, "") and one_line(error) and what in error, (words, status, error)
        for words, what in ((("--timeout", "0"), "--timeout 0"), (("--nonsense",), "--nonsense"), (("-E", "3"), "after that word"), (("--ttl", "30s"), "after that word")):
            status, out, error = tool(cluster, *words, "run", "job", "touch", ran)
            assert (status, out) == (USAGE, "") and one_line(error) and what in error, (words, status, error)
        assert not os.path.exists(ran)
        for words, what in (("-t 0 check run", "--timeout 0"), ("nonsense run", "nonsense"), ("check --try x", "is for dlockctl preempt, run and hold"), ("preempt -E 3 x", "is for dlockctl run")):
            status, _, error = tool(cluster, *words.split())
            assert status == 2 and what in error, error


def test_pain_2_without_the_proc_of_its_processes_nothing_is_run():
    with Cluster(followers=0) as cluster:
        # In a name space of processes, but with the /proc of another. A sanitizer may look for leaks there in vain.
        done = subprocess.run(["unshare", "--pid", "--fork", DLOCKCTL, "run", "job", "touch", cluster.directory / "ran"],
                              env=environment_of(cluster, LD_LIBRARY_PATH=str(DLOCKCTL.parent), ASAN_OPTIONS="detect_leaks=0"), capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == USAGE and one_line(done.stderr) and "/proc is not there" in done.stderr, done
        assert not (cluster.directory / "ran").exists() and owner(cluster) is None


def test_options_stop_at_the_command():
    with Cluster(followers=0) as cluster:
        for line in ("job echo --ttl -x", "job -- echo --ttl -x", "--ttl 5s -- job echo --ttl -x", "job --ttl 5s -- echo --ttl -x", "--try job --ttl 5s echo --ttl -x"):
            assert run(cluster, *line.split()) == (0, "--ttl -x\n", ""), line


# --- pain 10: the dilemma of the ttl ---

def test_pain_10_a_long_ttl_delays_nobody_when_the_holder_ends():
    with Cluster(followers=0) as cluster:
        begin = time.monotonic()
        for _ in range(10):
            assert run(cluster, "--ttl", "24h", "job", "true") == (0, "", "")
        assert time.monotonic() - begin < PATIENCE


# --- pain 11: a blip of the servers ---

def test_pain_11_a_failover_and_a_rolling_restart_do_not_end_the_job():
    with Cluster(followers=2) as cluster:
        with Run(cluster, "--ttl", "6s", "job", "sh", "-c", 'echo $DLOCK_TOKEN >>"$PIDS"; read line; exit 6', stdin=subprocess.PIPE) as job:
            token = job.wait_for_pids(1)[0]
            job.pids = []
            cluster.leader.kill()
            wait_until(lambda: any((node.status() or {}).get("role") == "leader" for node in cluster.followers), "a follower leads")
            cluster.leader.start()
            cluster.wait_for_voters(3)
            for node in cluster.nodes:
                node.stop()
                node.start()
                cluster.wait_for_voters(3)
            # Long enough that it has needed a renewal since.
            end = now_ns() + 7_000_000_000
            wait_until(lambda: now_ns() > end or job.process.poll() is not None, "more than a ttl is over")
            assert json.loads(tool(cluster, "--json", "check", "--consistent", "job")[1])["token"] == token
            job.process.stdin.write("\n")
            job.process.stdin.flush()
            assert job.finish() == (6, "", "")


# --- pain 12: outcome unknown ---

def test_pain_12_an_unknown_outcome_never_runs_the_command_and_leaves_no_lock():
    with Cluster(followers=2) as cluster:
        for node in cluster.nodes[:2]:
            node.process.send_signal(signal.SIGSTOP)
        status, out, error = run(cluster, "--timeout", "1500ms", "--ttl", "5s", "job", "touch", cluster.directory / "ran")
        assert (status, out) == (UNKNOWN, "") and one_line(error) and "nothing was run" in error, (status, error)
        assert not (cluster.directory / "ran").exists()
        for node in cluster.nodes[:2]:
            node.process.send_signal(signal.SIGCONT)
        wait_until(lambda: tool(cluster, "--timeout", "1s", "check", "--consistent", "job")[0] == 1, "the lock is free")


# --- as if it were run without ---

def test_a_lock_that_cannot_be_given_back_is_told_and_the_status_is_that_of_the_command():
    with Cluster(followers=0) as cluster:
        with Run(cluster, "--ttl", "1s", "--timeout", "3s", "job", "sh", "-c", "read line; exit 6", stdin=subprocess.PIPE) as job:
            wait_until(lambda: owner(cluster), "it has the lock")
            cluster.leader.process.send_signal(signal.SIGSTOP)
            # The answer comes only after the deadline.
            status, out, error = job.finish_with("\n")
            assert (status, out) == (6, "") and one_line(error) and "could not be given back" in error and "ends by itself within 1.0 s" in error, (status, error)
        cluster.leader.process.send_signal(signal.SIGCONT)
        wait_until(lambda: owner(cluster) is None, "the lease ends")


def test_pain_2_a_signal_ends_the_giving_back_that_no_server_answers_and_so_does_the_end_of_the_lease():
    with Cluster(followers=0) as cluster:
        with Run(cluster, "--ttl", "1h", "--timeout", "10min", "job", "sh", "-c", "read line; exit 6", stdin=subprocess.PIPE) as job, \
             Run(cluster, "--ttl", "2s", "--timeout", "10min", "other", "sh", "-c", "read line; exit 7", stdin=subprocess.PIPE) as other:
            wait_until(lambda: owner(cluster) and owner(cluster, "other"), "they have their locks")
            cluster.leader.process.send_signal(signal.SIGSTOP)
            for each in (job, other):
                each.process.stdin.write("\n")
                each.process.stdin.flush()

            def told():
                """What comes before it gives back is of the command."""
                job.process.send_signal(signal.SIGTERM)
                return job.process.poll() is not None
            wait_until(told, "it ends")
            assert job.process.returncode in (6, 128 + signal.SIGTERM)
            error = job.process.stderr.read()
            assert one_line(error) and "could not be given back: it was told to end" in error, error
            assert other.process.wait(PATIENCE) == 7 and "ends by itself within 2.0 s" in other.process.stderr.read()
        cluster.leader.process.send_signal(signal.SIGCONT)


def test_two_jobs_of_one_user_exclude_each_other():
    with Cluster(followers=0) as cluster:
        assert run(cluster, "job", "sh", "-c", '"$DLOCKCTL" run job true; echo $?', DLOCK_CLIENT="me", DLOCKCTL=str(DLOCKCTL))[:2] == (0, f"{HELD}\n")


def test_the_innermost_of_nested_locks_wins_in_the_environment():
    with Cluster(followers=0) as cluster:
        status, out, _ = run(cluster, "the outer", DLOCKCTL, "run", "inner", "sh", "-c", 'echo "$DLOCK_NAME $DLOCK_TOKEN $DLOCK_DEADLINE_BOOTTIME_NS"; echo "$DLOCK_HELD"')
        first, *pairs = out.splitlines()
        name, token, deadline = first.split()
        assert status == 0 and name == "inner" and 0 < int(deadline) - now_ns() < 30_000_000_000, out
        outer_token, outer_name = pairs[0].split(" ", 1)
        assert pairs[1] == f"{token} inner" and outer_name == "the outer" and int(outer_token) < int(token), out


def test_the_command_finds_signals_and_files_as_they_were():
    look = """
    import os
    for line in open("/proc/self/status"):
        if line.startswith(("SigBlk", "SigIgn")):
            print(line, end="")
    print(sorted(os.listdir("/proc/self/fd")), os.getpgrp(), os.read(7, 100))
    """
    look = "\n".join(line[4:] for line in look.splitlines())
    with Cluster(followers=0) as cluster:
        def told(*words):
            inside, outside = os.pipe()
            os.write(outside, b"from 7")

            def prepare():
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
                os.dup2(inside, 7, inheritable=True)
            process = subprocess.Popen([*words, sys.executable, "-c", look], env=environment_of(cluster), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                       close_fds=False, preexec_fn=prepare, start_new_session=True)
            os.close(inside)
            out = process.communicate(timeout=PATIENCE)[0]
            os.close(outside)
            return out.replace(f" {process.pid} ", " its-group ")
        alone, under_lock = told(), told(DLOCKCTL, "run", "job")
        # Beyond the 31 of old: what the C library keeps for itself, make may hand on as ignored.
        ignored = int(re.search("SigIgn:\t(.*)", alone)[1], 16) & 0x7FFFFFFF
        assert "SigBlk:\t0000000000000800\n" in alone and ignored == 0x01011001 and alone.endswith(" its-group b'from 7'\n"), alone
        assert under_lock == alone, (under_lock, alone)


def test_closed_standard_files_stay_closed():
    with Cluster(followers=0) as cluster:
        environment = environment_of(cluster)
        script = 'for fd in 0 1 2; do [ ! -e /proc/$$/fd/$fd ] || exit 9; done; exit 8'
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            look = script.replace("0 1 2", " ".join(str("<>2".index(word[0])) for word in closed.split()))
            line = f'"$DLOCKCTL" run job sh -c "$LOOK" {closed}'
            assert subprocess.run(["sh", "-c", line], env={**environment, "LOOK": look}, timeout=PATIENCE, stdin=subprocess.DEVNULL).returncode == 8, closed
        # Help that nobody gets to see is no success.
        assert subprocess.run(["sh", "-c", '"$DLOCKCTL" run --help >&-'], env=environment, timeout=PATIENCE, stderr=subprocess.DEVNULL).returncode == 2


def test_input_and_output_are_those_of_the_command_alone():
    with Cluster(followers=0) as cluster:
        script = 'cat; exec <&- >&-; echo closed >"$D/closed"; while :; do sleep 0.05; done'
        with Run(cluster, "job", "sh", "-c", script, stdin=subprocess.PIPE) as job:
            os.write(job.process.stdin.fileno(), b"hello\n")
            job.process.stdin.close()
            job.wait_for_file("closed")
            # The end of the output is there, though the command runs.
            ready = select.select([job.process.stdout], [], [], PATIENCE)[0]
            assert ready and job.process.stdout.read() == "hello\n"
            job.process.stdin = None
            os.kill(job.process.pid, signal.SIGTERM)
            assert job.process.wait(PATIENCE) == 128 + signal.SIGTERM


def test_a_full_pipe_delays_no_stop():
    with Cluster(followers=0) as cluster:
        reader, writer = os.pipe()
        with Run(cluster, "--ttl", "2s", "job", "sh", "-c", 'echo $$ >>"$PIDS"; exec yes', stdout=writer, stderr=writer) as job:
            os.close(writer)
            job.wait_for_pids(1)
            size = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)

            def is_full():
                waiting = bytearray(4)
                fcntl.ioctl(reader, termios.FIONREAD, waiting)
                return int.from_bytes(waiting, sys.byteorder) == size
            wait_until(is_full, "the pipe is full")
            take_away(cluster)
            job.wait_until_dead()
            os.set_blocking(reader, False)
            # Now somebody reads, and is told.
            told = b""

            def ended():
                nonlocal told
                with contextlib.suppress(BlockingIOError):
                    told += os.read(reader, 1 << 20)
                return job.process.poll() is not None
            wait_until(ended, "it ends")
            with contextlib.suppress(BlockingIOError):
                told += os.read(reader, 1 << 20)
            assert job.process.returncode == LOST and b"the lock was lost" in told
        os.close(reader)


def test_the_commands_of_the_readme():
    section = (ROOT / "README.md").read_text().split("### A job under a lock")[1].split("\n#")[0]
    commands = [line.strip() for line in section.splitlines() if line.startswith("    dlockctl run ")]
    assert len(commands) == 2, commands
    with Cluster(followers=0) as cluster:
        programs = cluster.directory / "programs"
        programs.mkdir()
        for name, text in (("backup.sh", 'echo "$* under $DLOCK_NAME"'), ("make-report", 'echo "a report"'), ("dlockctl", f'exec "{DLOCKCTL}" "$@"')):
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        environment = environment_of(cluster)
        environment["PATH"] = f"{programs}:{environment['PATH']}"

        def out(command):
            done = subprocess.run(["sh", "-c", command], env=environment, cwd=cluster.directory, capture_output=True, text=True, timeout=PATIENCE)
            assert done.returncode == 0 and done.stderr == "", done
            return done.stdout
        assert out(commands[0]) == "--full under backup\n"
        assert out(commands[1]) == "" and (cluster.directory / "report.html").read_text() == "a report\n"


# --- on a terminal ---

class Terminal:
    """An interactive shell on a pty."""

    def __init__(self, cluster):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {**environment_of(cluster), "PS1": "ready> ", "TERM": "dumb", "HISTFILE": ""})
        self.text = ""
        self.expect("ready> ")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGHUP)
        os.waitpid(self.pid, 0)

    def say(self, text):
        os.write(self.fd, text.encode())

    def expect(self, what):
        """Everything up to that, which is dropped."""
        end = time.monotonic() + PATIENCE
        while what not in self.text:
            assert select.select([self.fd], [], [], max(0, end - time.monotonic()))[0], f"no {what!r} in {self.text!r}"
            self.text += os.read(self.fd, 65536).decode(errors="replace")
        before, _, self.text = self.text.partition(what)
        return before


def test_on_a_terminal_an_interrupt_reaches_the_command_once():
    count = """
    import os, signal, time
    count = 0
    def interrupted(number, frame):
        global count
        count += 1
        os.write(1, b"interrupted ")
    def tell(number, frame):
        os.write(1, b"count %d. " % count)
    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGUSR1, tell)
    open(os.environ["PIDS"], "a").write(f"{os.getppid()}\\n")
    print("begun", flush=True)
    while True:
        time.sleep(0.05)
    """
    with Cluster(followers=0) as cluster, Terminal(cluster) as terminal:
        script = cluster.directory / "count.py"
        script.write_text("\n".join(line[4:] for line in count.splitlines()))
        for prefix in ("", "setsid "):
            (cluster.directory / "pids").unlink(missing_ok=True)
            terminal.say(f'"$DLOCKCTL" run job {prefix}{sys.executable} {script}\n')
            terminal.expect("begun")
            with open(f"/proc/{(cluster.directory / 'pids').read_text().split()[0]}/stat") as file:
                front = int(file.read().rsplit(")", 1)[1].split()[1])
            terminal.say("\x03")
            terminal.expect("interrupted")
            # Behind whatever else the front has passed on.
            for _ in range(2):
                os.kill(front, signal.SIGUSR1)
                terminal.expect("count ")
                assert terminal.expect(".") == "1", prefix
            os.kill(front, signal.SIGTERM)
            terminal.expect("ready> ")
            terminal.say("echo status $?\n")
            terminal.expect("status 143")
            terminal.expect("ready> ")


def test_on_a_terminal_an_interrupt_ends_a_loop_of_the_shell():
    with Cluster(followers=0) as cluster, Terminal(cluster) as terminal:
        script = cluster.directory / "loop.sh"
        script.write_text('for i in 1 2 3; do "$DLOCKCTL" run job sh -c "echo begun $i; exec sleep 1000"; done\n')
        terminal.say(f"bash {script}\n")
        terminal.expect("begun 1")
        terminal.say("\x03")
        assert "begun" not in terminal.expect("ready> ")
        terminal.say("echo status $?\n")
        terminal.expect("status 130")
        wait_until(lambda: owner(cluster) is None, "the lock is free")


def test_on_a_terminal_a_stopped_job_keeps_its_lock_and_goes_on():
    with Cluster(followers=0) as cluster, Terminal(cluster) as terminal:
        terminal.say('"$DLOCKCTL" run --ttl 1s job sh -c "echo \\$\\$ >$PIDS; read line; echo got \\$line"\n')
        before = wait_until(lambda: owner(cluster), "it has the lock")
        pid = wait_until(lambda: (cluster.directory / "pids").exists() and (cluster.directory / "pids").read_text().split(), "it runs")[0]
        terminal.say("\x1a")
        terminal.expect("Stopped")
        terminal.expect("ready> ")
        # Bash says so when the front has stopped: a command that still reads would have the next byte that is typed.
        wait_until(lambda: state_of(pid) == "T", "the command has stopped, too")
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert owner(cluster) == before
        terminal.say("fg\n")
        terminal.expect("read line")
        terminal.say("words\n")
        terminal.expect("got words")
        terminal.expect("ready> ")
        terminal.say("echo status $?\n")
        terminal.expect("status 0")
        assert owner(cluster) is None


def test_on_a_terminal_a_job_that_was_stopped_while_it_waits_gets_the_lock_and_begins_when_it_goes_on():
    with Cluster(followers=0) as cluster, Run(cluster, "job", "sleep", "1000") as holder, Terminal(cluster) as terminal:
        before = wait_until(lambda: owner(cluster), "it is held")
        terminal.say('"$DLOCKCTL" run --wait --ttl 1s job sh -c "echo \\$\\$ >$PIDS"\n')
        wait_until(lambda: waiters(cluster) == 1, "it waits")
        terminal.say("\x1a")
        terminal.expect("Stopped")
        terminal.expect("ready> ")
        holder.process.send_signal(signal.SIGTERM)
        holder.finish()
        # For longer than without renewals.
        wait_until(lambda: (held := json.loads(tool(cluster, "--json", "show", "job")[1]))["held_ms"] and held["held_ms"] > 2500 and held["owner"] != before, "it has the lock")
        assert not (cluster.directory / "pids").exists()
        terminal.say("fg\n")
        wait_until(lambda: (cluster.directory / "pids").exists(), "it begins")
        terminal.expect("ready> ")
        terminal.say("echo status $?\n")
        terminal.expect("status 0")
        assert owner(cluster) is None


def test_on_a_terminal_that_goes_away_the_command_ends():
    with Cluster(followers=0) as cluster:
        with Terminal(cluster) as terminal:
            terminal.say('exec "$DLOCKCTL" run --ttl 1h job sh -c "echo \\$\\$ >$PIDS; sleep 1000"\n')
            wait_until(lambda: owner(cluster), "it has the lock")
            pid = wait_until(lambda: (cluster.directory / "pids").exists() and (cluster.directory / "pids").read_text().split(), "it runs")[0]
        wait_until(lambda: not is_alive(pid) and owner(cluster) is None, "nothing is left")


def test_pain_7_a_job_that_every_host_starts_runs_once_in_a_period():
    with Cluster() as cluster:
        ran = cluster.directory / "ran"

        def start(node, period="6s"):
            return tool(cluster, "run", "-E", "0", "--once-per", period, "job", "sh", "-c", f"echo {node.name} >>{ran}", server=node.address)
        begin = time.monotonic()
        for node in cluster.nodes:           # one after the other: no lock alone would keep them apart
            assert start(node) == (0, "", ""), node.name
        assert ran.read_text().count("\n") == 1
        wait_until(lambda: start(cluster.nodes[-1]) == (0, "", "") and ran.read_text().count("\n") == 2, "the next period")
        assert time.monotonic() - begin > 5.5
        # What failed has run, too.
        assert tool(cluster, "run", "--once-per", "1h", "other", "sh", "-c", "exit 7")[0] == 7
        assert tool(cluster, "run", "--once-per", "1h", "other", "sh", "-c", "exit 7") == (0, "", "")
        status, out, error = tool(cluster, "run", "--once-per", "0s", "other", "true")
        assert status == USAGE and "from 1s to 366d" in error, (status, out, error)
