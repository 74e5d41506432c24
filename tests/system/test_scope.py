"""dlockctl run where systemd is: its command has a cgroup of its own in a login session, and stays in the cgroup of a service."""
import os
import time
import unittest.mock

from dlock import one_host, owner, three_hosts
from lab import wait_until

LOST = 120
# For an answer of the bus, when nothing else is said.
PATIENCE_OF_LIBSYSTEMD_S = 25
# Tells when it was alive last, and so does one that has got away by the book: orphaned, in a session of its own, deaf to what can be ignored. All
# hosts have one kernel, so they agree on the time since boot.
GETAWAY = """#!/usr/bin/python3
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
file = os.open(f"/run/alive/{os.getpid()}", os.O_RDWR | os.O_CREAT)
while True:
    os.pwrite(file, b"%024d\\n" % time.clock_gettime_ns(time.CLOCK_BOOTTIME), 0)
    time.sleep(0.002)
"""


def prepare(host):
    host.write("/usr/local/bin/getaway", GETAWAY, 0o755)
    host.run("rm -rf /run/alive; install -d -m 1777 /run/alive")


def in_session(words, name="login-1", more=""):
    """A shell line: as if from a login session, whose scope systemd keeps."""
    return f"exec systemd-run -q --scope --unit={name} {more} -- {words}"


def alive(host):
    """Those of the tree, by number."""
    return host.out("for pid in $(ls /run/alive); do [ ! -e /proc/$pid/exe ] || echo $pid; done").split()


def wait_for_tree(host):
    return wait_until(lambda: len(alive(host)) == 2 and alive(host), "the command and its getaway")


def cgroup_of(host, pid):
    return host.out(f"sed -n s/^0:://p /proc/{pid}/cgroup")


def top_of(host):
    """Of the hierarchy of version 2."""
    return "/sys/fs/cgroup" if host.out("stat -fc %T /sys/fs/cgroup") == "cgroup2fs" else "/sys/fs/cgroup/unified"


def scopes(host):
    return host.out("systemctl list-units --all --no-legend --plain 'run-dlock-*'")


def two_of(host):
    """Front and guardian."""
    found = host.out("pgrep -x dlockctl").split()
    assert len(found) == 2, found
    return found


def test_pain_1_what_has_got_away_is_gone_before_another_host_has_the_lock(labs):
    lab, (_, b, c) = three_hosts(labs)
    prepare(b)
    job = b.start(in_session("dlockctl run --ttl 6s job getaway"))
    tree = wait_for_tree(b)
    assert all("/run-dlock-" in cgroup_of(b, pid) for pid in tree)
    lab.cut(b)
    begin = int(c.out("dlockctl run --wait=60s job python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_BOOTTIME))'"))
    assert job.wait(60) == LOST and not alive(b)
    last = max(int(b.read(f"/run/alive/{pid}")) for pid in tree)
    print(f"      free for {(begin - last) / 1e9:.1f} s", flush=True)
    assert last < begin
    wait_until(lambda: scopes(b) == "", "the scope to be gone")


def test_pain_2_sigkill_of_both_kills_the_tree_in_its_scope_and_frees_the_lock_at_once(labs):
    a = one_host(labs)
    prepare(a)
    for kill in ("kill -9 {}", "pkill -9 -x dlockctl", "systemctl kill -s KILL login-1.scope"):
        job = a.start(in_session("dlockctl run --ttl 1h job getaway"))
        tree = wait_for_tree(a)
        assert all("/run-dlock-" in cgroup_of(a, pid) for pid in tree)
        a.run(kill.format(" ".join(two_of(a))))
        wait_until(lambda: not alive(a), "the tree to be dead", 60)
        wait_until(lambda: owner(a, "job") is None, "the lock to be free", 60)
        job.wait(60)
        wait_until(lambda: scopes(a) == "", "the scope to be gone")
        a.run("rm -f /run/alive/*")
    # Who stops the scope stops the command.
    job = a.start(in_session("dlockctl run job sleep 60"))
    name = wait_until(lambda: scopes(a).split()[:1], "a scope")[0]
    a.run(["systemctl", "stop", name])
    assert job.wait(60) == 128 + 15
    assert owner(a, "job") is None


def test_pain_2_so_it_does_where_there_are_cgroups_of_version_2_alone(labs):
    with unittest.mock.patch.dict(os.environ, {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}):
        test_pain_2_sigkill_of_both_kills_the_tree_in_its_scope_and_frees_the_lock_at_once(labs)
    assert top_of(labs.labs[0].hosts[0]) == "/sys/fs/cgroup"


def test_pain_9_in_a_scope_the_command_has_its_terminal_and_its_status(labs):
    a = one_host(labs)
    prepare(a)
    for line, status, said in (("sh -c 'tty; ps -o tpgid=,pgid= -p $$; cat /proc/self/cgroup'", 0, ""), ("sh -c 'exit 7'", 7, ""), ("sh -c 'kill -9 $$'", 137, ""), ("cat </etc/hostname", 0, a.name),
                               ("nothing", 127, "cannot be run: ")):
        a.write("/run/line", f"dlockctl run job {line}\n")
        for words in ("sh /run/line", "script -qec 'sh /run/line' /dev/null"):
            done = a.run(in_session(words), check=False)
            assert done.returncode == status and said in done.stdout + done.stderr, done
            if "tty" in line:
                assert "/run-dlock-" in done.stdout, done
            if "tty" in line and "script" in words:
                name, (foreground, own) = done.stdout.splitlines()[0], done.stdout.splitlines()[1].split()
                assert name.strip().startswith("/dev/pts/") and foreground == own, done
    job = a.start(in_session("script -qec 'dlockctl run job sleep 60' /dev/null"))
    wait_until(lambda: a.ok("pgrep -x sleep"), "the command")
    job.stdin.write("\x03")
    job.stdin.flush()
    assert job.wait(60) == 130
    wait_until(lambda: scopes(a) == "", "the scopes to be gone")


def test_a_bus_that_hangs_delays_a_run_by_a_second_and_nothing_else(labs):
    a = one_host(labs)
    a.run("systemctl kill -s STOP dbus.service")
    begin = time.monotonic()
    out = a.out(in_session("dlockctl run job cat /proc/self/cgroup"))
    took = time.monotonic() - begin
    a.run("systemctl kill -s CONT dbus.service")
    assert "/login-1.scope" in out and 1 <= took < PATIENCE_OF_LIBSYSTEMD_S, (took, out)
    assert "/run-dlock-" in a.out(in_session("dlockctl run job cat /proc/self/cgroup"))


def test_pain_2_the_scope_of_a_user_is_from_the_manager_of_that_user(labs):
    a = one_host(labs)
    prepare(a)
    a.run("loginctl enable-linger alice")
    uid = a.out("id -u alice")
    wait_until(lambda: a.ok(f"test -S /run/user/{uid}/bus"), "the bus of alice")
    job = a.start(in_session(f"env XDG_RUNTIME_DIR=/run/user/{uid} dlockctl run --ttl 1h job getaway", more="--uid=alice"))
    tree = wait_for_tree(a)
    assert all(f"/user@{uid}.service/" in cgroup_of(a, pid) and "/run-dlock-" in cgroup_of(a, pid) for pid in tree), [cgroup_of(a, pid) for pid in tree]
    a.run(["kill", "-9", *two_of(a)])
    wait_until(lambda: not alive(a), "the tree to be dead", 60)
    wait_until(lambda: owner(a, "job") is None, "the lock to be free", 60)
    job.wait(60)
    # Who is root's there is stopped too, and the lock is not free before.
    job = a.start(in_session(f"env XDG_RUNTIME_DIR=/run/user/{uid} dlockctl run --ttl 1h --kill-after 1s job sleep 60", more="--uid=alice"))
    pid = wait_until(lambda: a.run("pgrep -x sleep", check=False).stdout.strip(), "the command")
    other = a.start(f"echo $$ >{top_of(a)}{cgroup_of(a, pid)}/cgroup.procs && exec sleep 61")
    wait_until(lambda: a.ok(["pgrep", "-xf", "sleep 61"]), "another to be there")
    a.run(["kill", pid])
    assert job.wait(60) == 128 + 15 and owner(a, "job") is None and not a.ok(["pgrep", "-xf", "sleep 61"])
    assert other.wait(60) in (-9, 137)
    # Without that manager all is as it was before there were scopes.
    out = a.out(in_session("dlockctl run job cat /proc/self/cgroup", more="--uid=bob"))
    assert "/login-1.scope" in out and "/run-dlock-" not in out, out


def start_service(host, more=""):
    host.run("rm -f /run/alive/*")
    host.write("/etc/systemd/system/job.service", f"[Service]\nExecStart=/usr/bin/dlockctl run --ttl 1h --kill-after 1s job getaway\nTimeoutStopSec=3s\n{more}\n")
    host.run("systemctl daemon-reload; systemctl reset-failed job.service; systemctl start job.service")
    tree = wait_for_tree(host)
    return {cgroup_of(host, pid) for pid in tree}


def test_a_service_that_runs_under_a_lock_still_stops_as_a_whole(labs):
    a = one_host(labs)
    prepare(a)
    assert start_service(a) == {"/system.slice/job.service"} and scopes(a) == ""
    a.run("systemctl stop job.service")
    assert not alive(a) and owner(a, "job") is None
    # Here its cgroup is handed over.
    (cgroup,) = start_service(a, "Delegate=yes")
    assert cgroup.startswith("/system.slice/job.service/run-dlock-") and scopes(a) == ""
    a.run("systemctl stop job.service")
    assert not alive(a) and owner(a, "job") is None


def test_pain_2_sigkill_of_both_in_a_service_is_the_end_of_its_tree(labs):
    a = one_host(labs)
    prepare(a)
    start_service(a, "Delegate=yes\nTimeoutStopSec=60s")
    a.run(["kill", "-9", *two_of(a)])
    wait_until(lambda: not alive(a), "the tree to be dead", 60)
    wait_until(lambda: owner(a, "job") is None, "the lock to be free", 60)
    wait_until(lambda: a.unit("job.service", "ActiveState") == "failed", "the service to be over", 60)
    # systemd does it, in its own time.
    start_service(a)
    a.run(["kill", "-9", *two_of(a)])
    wait_until(lambda: not alive(a), "the tree to be dead", 60)
