"""The units of packaging/examples on every host: the job of a period runs once, whatever happens to the hosts."""
import concurrent.futures
import json
import os
import random
import re
import time

from dlock import AT, FOLLOWER_2, NODES, SOCKETS, UNREACHABLE, ask, owner, three_hosts
from lab import Host, wait_until
from test_readme import section

SECONDS = float(os.environ.get("TIMERS_SECONDS", "180"))
EXAMPLES = "/usr/share/doc/dlockctl/examples"
# The times of the examples, made short: timers fire every INTERVAL_S.
PERIOD_S, INTERVAL_S, TTL_S = 5, 2, 6
# For another leader, and the lease of a host that lost its power while it had the lock; of a loaded machine.
FAILOVER_S = 12
# One write that is on the disk before the job ends. All hosts have one kernel, so they agree on the time since boot.
RUNS = "/var/lib/runs"
JOB = f"""#!/bin/sh
read -r since_boot idle </proc/uptime
echo "$(hostname) ${{DLOCK_TOKEN:-0}} $since_boot $(date +%s.%N)" | dd of={RUNS} oflag=append conv=notrunc,fsync status=none
"""


def edit(host, path, *changes):
    text = host.read(path)
    for old, new in changes:
        assert text.count(old) == 1, (path, old, text)
        text = text.replace(old, new)
    host.write(path, text)


def write_job(host, path):
    host.run(["touch", RUNS])
    host.write(path, JOB, 0o755)


def runs(host):
    """(host, token, seconds since boot, seconds of the wall clock) of each."""
    found = [line.split() for line in host.read(RUNS).splitlines()]
    return [(words[0], int(words[1]), float(words[2]), float(words[3])) for words in found]


def grants(host, lock):
    rows = map(json.loads, host.out(["dlockctl", "--json", "--timeout", "30s", "history", lock]).splitlines())
    return [row for row in rows if row["kind"] == "preempt"]


# --- dlockctl run ------------------------------------------------------------------------


def start_timer(host):
    """As README.md says; then with the times of this test."""
    write_job(host, "/usr/local/sbin/backup")
    copy, enable = section("A timer on every host")[1][0].strip().splitlines()
    host.run(copy)
    assert host.ok(["grep", "-qxF", "--", section("A timer on every host")[1][1].strip(), "/etc/systemd/system/backup.service"])
    verified = host.run("systemd-analyze verify --man=no backup.service backup.timer", check=False)
    assert verified.returncode == 0 and not (verified.stdout + verified.stderr).strip(), verified.stdout + verified.stderr
    edit(host, "/etc/systemd/system/backup.service", ("--once-per 20h", f"--ttl {TTL_S}s --once-per {PERIOD_S}s"), ("RestartSec=1min", "RestartSec=1s"),
         ("[Unit]\n", "[Unit]\nStartLimitIntervalSec=0\n"))
    edit(host, "/etc/systemd/system/backup.timer", ("*-*-* 02:30:00", f"*:*:0/{INTERVAL_S}\nAccuracySec=100ms"))
    host.run("systemctl daemon-reload")
    host.run(enable)
    host.run("sync")


def stop_timer(host):
    """A run that has begun comes to its end: a service that is stopped between its grant and its job has none to show."""
    host.run("systemctl stop backup.timer")
    wait_until(lambda: host.unit("backup.service", "ActiveState") in ("inactive", "failed"), "the last run to end")
    host.run("systemctl stop backup.service")


def all_connected(hosts):
    return any(ask(host, "status", server=AT[node], timeout="2s")[1].get("voters_connected") == 3 for host, node in zip(hosts, NODES))


class Cuts:
    """Power cuts at random, and when they were, by the wall clock."""

    def __init__(self, lab, seed):
        self.lab, self.hosts, self.random = lab, lab.hosts, random.Random(seed)
        self.times, self.without_majority = [], []

    def wait_for_a_moment(self):
        """Any, or one at which the timers have just fired."""
        time.sleep(self.random.uniform(3, 10))
        if self.random.random() < 0.5:
            time.sleep(INTERVAL_S - time.time() % INTERVAL_S + self.random.uniform(0.02, 0.5))

    def go_round(self):
        victims = self.random.sample(self.hosts, 2 if self.random.random() < 0.25 else 1)
        begin = time.time()
        for host in victims:
            self.lab.cut(host)  # or the kernel of all these hosts would close the dead one's connections for it
        for host in victims:
            self.times.append(time.time())
            host.power_cut()
        self.lab.heal()
        time.sleep(self.random.uniform(1, 8))
        with concurrent.futures.ThreadPoolExecutor(len(victims)) as pool:
            for host in victims:
                host.launch()
            list(pool.map(lambda host: Host.wait_booted(host, may_be_degraded=True), victims))
        if len(victims) > 1:
            self.without_majority.append((begin, time.time()))
        wait_until(lambda: all_connected(self.hosts), "all nodes to be back")

    def excused_s(self, begin, end):
        """How long of this no majority was up, or not yet for FAILOVER_S."""
        total = 0.0
        for down, up in self.without_majority:
            until = min(up + FAILOVER_S, end)
            total += max(0.0, until - max(down, begin))
            begin = max(begin, until)
        return total


def assert_once_at_most(found, granted):
    """found: the runs in the order of their times."""
    tokens = [token for _, token, _, _ in found]
    assert tokens == sorted(set(tokens)), f"tokens do not rise with time: {tokens}"
    before = dict(zip([row["token"] for row in granted[1:]], granted))
    for one, two in zip(granted, granted[1:]):
        assert two["cluster_ms"] - one["cluster_ms"] >= PERIOD_S * 1000, (one, two)
    for name, token, _, wall in found:
        assert any(row["token"] == token for row in granted), f"{name} ran with token {token}, which was never granted"
        # From the grant before, not from its run, which came somewhat later.
        assert token not in before or wall - before[token]["wall_ms"] / 1000 >= PERIOD_S - 0.25, (name, token, wall, before[token])


def longest_gap(granted, begin, end, cuts):
    """From grant to grant, with a majority up. A grant is a run, but for one that a power cut came too soon after."""
    times = [begin, *(row["wall_ms"] / 1000 for row in granted), end]
    return max(two - one - cuts.excused_s(one, two) for one, two in zip(times, times[1:]))


def assert_once_at_least(gap, cuts):
    assert gap <= PERIOD_S + INTERVAL_S + FAILOVER_S, f"nothing ran for {gap:.1f} s with a majority up; cuts at {cuts.times}"


def lost_to_a_cut(found, granted, cuts):
    """The grants that no run came of: each has a power cut of its own that is to blame."""
    ran, blamed, lost = {token for _, token, _, _ in found}, list(cuts.times), 0
    for row in granted:
        if row["token"] not in ran:
            near = [moment for moment in blamed if abs(moment - row["wall_ms"] / 1000) < 5]
            assert near, f"{row} had no run, and no host lost its power then: cuts at {cuts.times}"
            blamed.remove(near[0])
            lost += 1
    return lost


def told(found, gap, lost, cuts, seed):
    gaps = [two[2] - one[2] for one, two in zip(found, found[1:])]
    on = ", ".join(f"{name} {sum(run[0] == name for run in found)}" for name in "abc")
    return (f"      timers for {SECONDS:.0f} s, seed {seed}: {len(found)} runs ({on}), {len(cuts.times)} power cuts, {len(cuts.without_majority)} times without a majority; "
            f"from run to run {min(gaps):.2f} to {max(gaps):.2f} s, with a majority up {gap:.2f} s at most; {lost} grants lost to a power cut")


def test_pain_7_a_timer_on_every_host_runs_its_job_once_in_a_period_while_hosts_lose_power(labs):
    lab, hosts = three_hosts(labs)
    seed = os.environ.get("SEED") or str(int.from_bytes(os.urandom(4), "big"))
    cuts, clocks = Cuts(lab, seed), time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    lab.each(start_timer)
    begin = time.time()
    wait_until(lambda: any(runs(host) for host in hosts), "the first run")
    while time.time() - begin < SECONDS - 25:
        cuts.wait_for_a_moment()
        cuts.go_round()
    time.sleep(max(0.0, begin + SECONDS - time.time()))
    wait_until(lambda: all_connected(hosts), "all nodes")
    end = time.time()
    lab.each(stop_timer)
    assert abs(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - clocks) < 0.1, "the clock was set meanwhile: the log's times say nothing"
    found = sorted((run for host in hosts for run in runs(host)), key=lambda run: run[2])
    granted = grants(hosts[0], "backup")
    lost, gap = lost_to_a_cut(found, granted, cuts), longest_gap(granted, begin, end, cuts)
    print(told(found, gap, lost, cuts, seed), flush=True)
    assert_once_at_most(found, granted)
    assert_once_at_least(gap, cuts)


test_pain_7_a_timer_on_every_host_runs_its_job_once_in_a_period_while_hosts_lose_power.takes_long = True


class CutsThatWere(Cuts):
    def __init__(self, times=(), without_majority=()):
        self.times, self.without_majority = list(times), list(without_majority)


def fails(check, *arguments):
    try:
        check(*arguments)
    except AssertionError:
        return True
    return False


def test_the_judge_of_these_runs_sees_what_is_wrong(_):
    at = {9: 1000.0, 12: 1006.0, 15: 1012.0}
    granted = [{"token": token, "cluster_ms": int(moment - 1000) * 1000, "wall_ms": moment * 1000} for token, moment in at.items()]
    found = [("a", token, moment - 900, moment + 0.1) for token, moment in at.items()]
    assert_once_at_most(found, granted)
    assert fails(assert_once_at_most, [*found, ("b", 15, 113.0, 1013.0)], granted)                      # two with one grant
    assert fails(assert_once_at_most, [*found, ("b", 18, 118.0, 1018.0)], granted)                      # one without
    assert fails(assert_once_at_most, [*found[:2], ("b", 15, 110.0, 1010.5)], granted)                  # one too early
    assert fails(assert_once_at_most, found, [*granted[:2], {**granted[2], "cluster_ms": 10999}])       # a grant too early
    assert fails(assert_once_at_most, sorted([("a", 12, 100.0, 1000.1), ("a", 9, 106.0, 1006.1)], key=lambda run: run[2]), granted)
    assert fails(lost_to_a_cut, found[:2], granted, CutsThatWere([1006.0])) and lost_to_a_cut(found[:2], granted, CutsThatWere([1012.5])) == 1
    assert longest_gap(granted, 999.0, 1040.0, CutsThatWere()) == 28
    # From 1020 to 1030 no majority, and not before 1042 is anything due again.
    assert longest_gap(granted, 999.0, 1040.0, CutsThatWere(without_majority=[(1020.0, 1030.0)])) == 8
    assert longest_gap(granted, 999.0, 1050.0, CutsThatWere(without_majority=[(1020.0, 1030.0), (1035.0, 1036.0)])) == 10
    assert fails(assert_once_at_least, 20, CutsThatWere()) and not fails(assert_once_at_least, 18, CutsThatWere())


# --- ExecCondition= ------------------------------------------------------------------------

SKIPPED_S = 16


def write_report(host):
    write_job(host, "/usr/local/sbin/report")
    host.write("/etc/systemd/system/report.service", "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nExecStart=/usr/local/sbin/report\n")
    # While it waits, what became of the service last is remembered.
    host.write("/etc/systemd/system/report.timer", "[Timer]\nOnCalendar=2199-01-01\n")
    host.run(f"mkdir /etc/systemd/system/report.service.d && cp {EXAMPLES}/once.conf /etc/systemd/system/report.service.d/")
    edit(host, "/etc/systemd/system/report.service.d/once.conf", ("--ttl 1h --once-per 20h", f"--ttl 15s --once-per {SKIPPED_S}s"), ("=50min", "=12s"), ("=1min", "=1s"))
    host.run("systemctl daemon-reload && systemctl start report.timer")


def start_report(*hosts):
    """The results of the services, which were started at once."""
    for process in [host.start(["systemctl", "start", "report.service"]) for host in hosts]:
        assert process.wait(120) == 0, process.stderr.read()
    for host in hosts:
        assert host.unit("report.service", "ActiveState") == "inactive" and host.out("systemctl --failed --no-legend") == ""
    return [host.unit("report.service", "Result") for host in hosts]


def said(host):
    return host.out("journalctl -q --no-pager -o short-monotonic -u report.service")


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|min|h)", text).groups()
    return int(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_with_an_exec_condition_the_service_runs_on_one_host_and_is_skipped_on_the_others(labs):
    lab, (a, b, c) = three_hosts(labs)
    times = dict(re.findall(r"^(?:.* --)?(ttl|once-per|TimeoutStartSec|TimeoutStopSec)[ =](\w+)", a.read(f"{EXAMPLES}/once.conf").replace(" --once-per", "\n --once-per"), re.M))
    assert seconds(times["TimeoutStartSec"]) + seconds(times["TimeoutStopSec"]) < 0.99 * seconds(times["ttl"]) < seconds(times["once-per"]), times
    assert section("A timer on every host")[1][2].strip() in a.read(f"{EXAMPLES}/once.conf")
    lab.each(write_report)
    results = sorted(start_report(b, c))
    assert results == ["exec-condition", "success"], (results, said(b), said(c))
    ran = runs(b) + runs(c)
    assert len(ran) == 1 and owner(a, "report") is not None  # nobody gives it back
    assert ask(a, "show", "report")[1]["ttl_ms"] == 15000
    # When asking takes longer than the period, it runs anew; the log tells whether it was time.
    none_ran = ["exec-condition"] * 3
    wait_until(lambda: start_report(b, c, a) == none_ran, "all to be skipped")
    wait_until(lambda: "success" in start_report(c, b, a), "the next period")
    wait_until(lambda: start_report(b, c, a) == none_ran, "all to be skipped again")
    granted = grants(a, "report")
    assert len(granted) >= 2 and len(runs(a) + runs(b) + runs(c)) == len(granted), granted
    for one, two in zip(granted, granted[1:]):
        assert SKIPPED_S * 1000 <= two["cluster_ms"] - one["cluster_ms"], granted
    # Nor does it run when nobody can be asked, which is no failure either.
    c.run(["systemctl", "stop", *SOCKETS[FOLLOWER_2], FOLLOWER_2])
    time.sleep(SKIPPED_S)
    assert ask(c, "status")[0] == UNREACHABLE and start_report(c) == ["exec-condition"]
    assert wait_until(lambda: "success" in start_report(b, a), "a host that has a node")


test_with_an_exec_condition_the_service_runs_on_one_host_and_is_skipped_on_the_others.takes_long = True
