"""dlock-hold@.service: what is bound to it runs on one host, the one that holds the lock, whatever happens."""
import os
import signal
import time

from dlock import NODES, YES, ask, is_led, one_host, owner, three_hosts
from lab import Failed, wait_until
from test_readme import section

HOLD, APP = "dlock-hold@app.service", "app.service"
DROP_INS = "/etc/systemd/system"
# The lock-delay is a second more than what it takes to stop what is bound: KILL_AFTER_S, and the margin of a twentieth of the time to live.
TTL_S, KILL_AFTER_S, DELAY_S = 10, 2, 3.5
# A file for each run: when it began, on the disk before the run does anything, and when it was alive last. All hosts have one kernel, so they agree on
# the time since boot.
RUNS = "/var/lib/app"
PROGRAM = f"""#!/usr/bin/python3
import os, signal, sys, time
now = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.makedirs("{RUNS}", exist_ok=True)
begin = now()
file = os.open(f"{RUNS}/{{begin}}", os.O_RDWR | os.O_CREAT)
os.write(file, b"%024d\\n" % begin)
os.fsync(file)
os.fsync(os.open("{RUNS}", os.O_RDONLY))
while True:
    os.pwrite(file, b"%024d\\n" % now(), 0)
    time.sleep(0.005)
"""


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


# --- what ran when ---------------------------------------------------------------------


class Watch:
    """All runs of all hosts."""

    def __init__(self, lab):
        self.lab, self.known = lab, {}

    def look(self, host):
        text = host.out(f"mkdir -p {RUNS} && cd {RUNS} && head -n 1 $(ls) /dev/null /dev/null")
        for block in text.split("==> ")[1:]:
            name, _, last = block.partition(" <==\n")
            if name.isdigit():
                # What a cut leaves of the file is its first line.
                key = (int(name), host.name)
                self.known[key] = max(int(last.strip().split("\n")[0] or 0), self.known.get(key, key[0]))

    def look_unless_it_goes_down(self, host):
        """What ran on one that does is read when it is back."""
        try:
            self.look(host)
        except Failed:
            wait_until(lambda: not os.path.exists(f"/proc/{host.leader}/ns/user"), f"{host.name}, which cannot be asked, to go down")

    def power_cut(self, host):
        """The run that goes on then ends with the host's power: when that was is known here only."""
        self.look(host)
        goes_on = [key for key, end in self.known.items() if key[1] == host.name and end > now_ns() - 1_000_000_000]
        self.lab.cut(host)  # or the kernel of all these hosts would close the dead one's connections for it
        host.power_cut()
        for key in goes_on:
            self.known[key] = now_ns()
        self.lab.heal()

    def assert_one_at_a_time(self):
        """The runs (begin, end, host) in order."""
        for host in self.lab.hosts:
            if host.is_up():
                self.look_unless_it_goes_down(host)
        found = sorted((begin, end, name) for (begin, name), end in self.known.items())
        for (_, end, name), (begin, _, next_name) in zip(found, found[1:]):
            assert end < begin, f"on {name} until {end}, but on {next_name} from {begin}: {found}"
        return found


def test_the_judge_of_these_runs_sees_two_at_a_time(_):
    class NoHosts:
        hosts = ()
    watch = Watch(NoHosts)
    watch.known = {(10, "a"): 20, (30, "b"): 40, (41, "a"): 50}
    assert [run[2] for run in watch.assert_one_at_a_time()] == ["a", "b", "a"]
    watch.known[(39, "c")] = 39
    try:
        watch.assert_one_at_a_time()
    except AssertionError:
        return
    raise AssertionError("it saw nothing")


# --- who holds it ----------------------------------------------------------------------


def holder(hosts, service=APP):
    found = [host for host in hosts if host.is_up() and host.is_active(HOLD, service)]
    return found[0] if found else None


def wait_for_holder(hosts, service=APP, bound=120.0):
    return wait_until(lambda: holder(hosts, service), "a host to hold the lock and run the service", bound)


def main_pid(host):
    pid = int(host.unit(HOLD, "MainPID"))
    assert pid > 0
    return pid


def set_options(host):
    host.write(f"{DROP_INS}/dlock-hold@.service.d/options.conf", f"[Service]\nEnvironment='OPTIONS=--ttl {TTL_S}s --kill-after {KILL_AFTER_S}s --note \"who is first\"'\n")


def prepare(host):
    """As README.md says."""
    lines, commands = section("A service on one host")[1]
    host.write("/usr/local/bin/app", PROGRAM, 0o755)
    host.write(f"{DROP_INS}/{APP}", "[Service]\nExecStart=/usr/local/bin/app\n[Install]\nWantedBy=multi-user.target\n")
    host.run(["systemctl", "enable", "-q", "app"])  # as it came
    host.write(f"{DROP_INS}/{APP}.d/hold.conf", lines)
    set_options(host)
    host.run(f"set -e\nsystemctl daemon-reload\n{commands}\nsync")


def prepare_deaf(host):
    """A target is bound to the lock; a service that is a part of it does not hear SIGTERM."""
    host.write("/usr/local/bin/app", PROGRAM, 0o755)
    host.write(f"{DROP_INS}/app.target", f"[Unit]\nBindsTo={HOLD}\nAfter={HOLD}\nWants={APP}\n")
    host.write(f"{DROP_INS}/{APP}", "[Unit]\nPartOf=app.target\nAfter=app.target\n[Service]\nRestart=always\nExecStart=/usr/local/bin/app deaf\n")
    set_options(host)
    host.run(f"set -e\nsystemctl daemon-reload\nsystemctl -q add-wants {HOLD} app.target\nsystemctl -q enable --now --no-block dlock-hold@app\nsync")


def moves(watch, action, bound, least=0.0):
    """action(host that has it); then another has it, within the bound, and never two had."""
    hosts = watch.lab.hosts
    one = wait_for_holder(hosts)
    time.sleep(1)
    begin = time.monotonic()
    action(one)
    two = wait_for_holder([host for host in hosts if host is not one], bound=bound + 30)
    took = time.monotonic() - begin
    print(f"      from {one.name} to {two.name} in {took:.1f} s", flush=True)
    watch.assert_one_at_a_time()
    assert least <= took < bound, f"it took {took:.1f} s"
    return one, two


# --- tests -----------------------------------------------------------------------------


def test_what_is_bound_to_a_lock_runs_on_one_host_whatever_happens(labs):
    lab, hosts = three_hosts(labs)
    lab.each(prepare)
    watch = Watch(lab)
    one = wait_for_holder(hosts)
    for host in hosts:
        if host is not one:
            wait_until(lambda: "is held by" in host.unit(HOLD, "StatusText"), "the others to wait")
            assert host.unit(HOLD, "ActiveState") == "activating" and host.unit(APP, "ActiveState") == "inactive"
        assert host.out("systemctl is-system-running") == "running"
    shown = ask(one, "show", "app")[1]
    assert (shown["host"], shown["note"], shown["ttl_ms"]) == (one.name, "who is first", TTL_S * 1000)
    # Whoever holds it holds it still when every node was restarted.
    for host, node in zip(hosts, NODES):
        host.run(["systemctl", "restart", node])
        wait_until(lambda: is_led(host), "a leader")
    time.sleep(TTL_S)
    assert holder(hosts) is one and len(watch.assert_one_at_a_time()) == 1
    # Of a loaded machine.
    soon = 30
    one, _ = moves(watch, lambda host: host.run(["systemctl", "stop", HOLD]), soon)
    one.run(["systemctl", "start", "--no-block", HOLD])
    moves(watch, lambda host: host.run(f"kill {main_pid(host)}"), soon)
    moves(watch, lambda host: host.run(f"kill -KILL {main_pid(host)}"), soon)
    moves(watch, lambda host: host.run(f"kill -STOP {main_pid(host)}"), TTL_S + DELAY_S + soon)
    one, _ = moves(watch, lab.cut, TTL_S + DELAY_S + soon, least=TTL_S / 2)
    assert not one.is_active(APP)
    lab.heal()
    one, _ = moves(watch, watch.power_cut, TTL_S + DELAY_S + soon, least=TTL_S / 2)
    one.launch()
    # One that waits is booted all the same, and waits.
    one.wait_booted()
    wait_until(lambda: one.unit(HOLD, "ActiveState") == "activating", "it to wait after the boot")
    one, _ = moves(watch, lambda host: host.run("systemctl reboot", check=False), soon)
    one._wait_off()
    one.boot()
    wait_until(lambda: one.unit(HOLD, "ActiveState") == "activating", "it to wait after the boot")
    print(f"      {len(watch.assert_one_at_a_time())} runs, one at a time")


test_what_is_bound_to_a_lock_runs_on_one_host_whatever_happens.takes_long = True


def test_what_does_not_stop_is_killed_before_the_lease_ends(labs):
    lab, hosts = three_hosts(labs)
    lab.each(prepare_deaf)
    watch = Watch(lab)
    bound = TTL_S + DELAY_S + 30
    wait_for_holder(hosts)
    moves(watch, lambda host: host.run(f"kill -KILL {main_pid(host)}"), bound)
    moves(watch, lambda host: host.run(f"kill -STOP {main_pid(host)}"), bound)
    one, _ = moves(watch, lab.cut, bound)
    lab.heal()
    wait_until(lambda: one.unit(HOLD, "ActiveState") == "activating", "it to wait again")

    # And when systemd hangs meanwhile.
    def cut_and_hang(host):
        lab.cut(host)
        os.kill(host.leader, signal.SIGSTOP)
    one = wait_for_holder(hosts)
    others = [host for host in hosts if host is not one]
    time.sleep(1)
    cut_and_hang(one)
    try:
        two = wait_for_holder(others)
        assert two is not one
    finally:
        os.kill(one.leader, signal.SIGCONT)
        lab.heal()
    wait_until(lambda: one.unit(HOLD, "ActiveState") == "activating", "it to wait again")
    runs = watch.assert_one_at_a_time()
    assert {run[2] for run in runs[-2:]} == {one.name, two.name}, runs


test_what_does_not_stop_is_killed_before_the_lease_ends.takes_long = True


def test_names_are_escaped_and_a_wrong_option_is_told_once(labs):
    host = one_host(labs)
    for lock in ("web/db", "a-b", "with space", "ünï", "$HOME", "a%i", 'quo"ted', "-x"):
        name = host.out(["systemd-escape", "--template=dlock-hold@.service", "--", lock])
        host.run(["systemctl", "start", name])
        status, shown = ask(host, "show", "--", lock)
        assert status == YES and shown["unit"] == name, (lock, shown)
        host.run(["systemctl", "stop", name])
        assert host.unit(name, "ActiveState") == "inactive" and host.unit(name, "Result") == "success"
    host.write(f"{DROP_INS}/dlock-hold@.service.d/options.conf", "[Service]\nEnvironment='OPTIONS=--ttl 10s --kill-after 9s'\n")
    host.run(["systemctl", "daemon-reload"])
    assert not host.ok(["systemctl", "start", "dlock-hold@x"]) and host.unit("dlock-hold@x.service", "ActiveState") == "failed"
    assert sum("would be right" in line for line in host.messages("dlock-hold@x.service")) == 2  # the other by ExecStopPost=


def test_without_a_bus_the_lock_is_not_taken(labs):
    host = one_host(labs)
    host.run("systemctl stop dbus.socket dbus.service && systemctl mask --runtime dbus.socket dbus.service")
    host.run(["systemctl", "start", "--no-block", HOLD])
    wait_until(lambda: "the system bus" in host.unit(HOLD, "StatusText"), "it to tell why it waits")
    assert owner(host, "app") is None and host.unit(HOLD, "ActiveState") == "activating"
    host.run("systemctl unmask --runtime dbus.socket dbus.service && systemctl start dbus.socket")
    wait_until(lambda: host.is_active(HOLD), "it to hold the lock")
