"""What installing, upgrading, removing and purging do to a host."""
import time

from dlock import (ALL_SOCKETS, AT, BUILD, FOLLOWER_1, FOLLOWER_2, LEADER, NODES, PACKAGES, SOCKETS, UNREACHABLE, ask, busy_clients, install, one_host, owner, preempt, release,
                   wait_for_voters)
from lab import wait_until

# All files but those that any work of apt, dpkg and systemd changes.
FILES = (
    "find / -xdev \\( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp -o -path /var/log -o -path /var/cache -o -path /run/systemd "
    "-o -path /run/log -o -path /run/dbus -o -path /run/user -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /root -o -path /var/lib/systemd \\) -prune -o -print; "
    "ls /run /var/lib/dpkg/info /var/lib/systemd; find /var/lib/systemd -path '*deb-systemd-helper*'"
)
HOLDS = ("dlock-hold@a-b.service", "dlock-hold-boot@a-b.service")


def installed_units(host):
    text = host.out("systemctl list-unit-files --no-legend --plain 'dlock*'")
    return {line.split()[0]: line.split()[1] for line in text.splitlines()}


def test_installing_enables_and_starts_nothing(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    units = installed_units(a)
    assert set(units) == {
        "dlock-leader.service", "dlock-leader.socket", "dlock-leader-peer.socket",
        "dlock-follower@.service", "dlock-follower@.socket", "dlock-follower-peer@.socket",
        "dlock-hold@.service", "dlock-hold-boot@.service", "dlock-nodes.target",
    }, units
    others = {"dlock-nodes.target": "static", "dlock-hold@.service": "indirect"}  # that one by its [Install], which names another
    assert all(state == others.get(unit, "disabled") for unit, state in units.items()), units
    assert a.out("systemctl list-units --plain --no-legend 'dlock*'") == ""
    assert not a.ok("pidof dlockd")
    assert a.out("ss -Hlntx | grep -c -e 740 -e dlock || true") == "0"
    assert a.out("stat -c '%U %a' /run/dlock") == "root 755"
    assert a.out("getent passwd dlock").endswith(":/usr/sbin/nologin")
    a.reboot()
    assert a.out("systemctl list-units --plain --no-legend 'dlock*'") == "" and a.ok("test -d /run/dlock")


def test_units_are_as_systemd_wants_them(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    verified = a.run(["systemd-analyze", "verify", "--man=no", *NODES, *ALL_SOCKETS, *HOLDS, "dlock-nodes.target"], check=False)
    assert verified.returncode == 0 and not (verified.stdout + verified.stderr).strip(), verified.stdout + verified.stderr


def test_each_service_scores_at_most_2_for_exposure(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    for unit in (LEADER, FOLLOWER_1, *HOLDS):
        done = a.run(["systemd-analyze", "security", "--no-pager", "--threshold=20", unit], check=False)
        print(f"      {done.stdout.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stdout


def test_programs_find_their_libraries_and_pages(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    assert a.out("dlockd --version").startswith("dlockd ") and a.ok("dlockctl --version")
    assert a.ok("dlockd --check-config leader") and a.ok("dlockd --check-config follower 1")
    for page in ("man1/dlockctl.1", "man3/libdlock.3", "man5/dlock.ini.5", "man5/dlock-client.ini.5", "man8/dlockd.8", "man8/dlock-generator.8", "man8/dlock-hold@.service.8"):
        assert a.ok(f"test -s /usr/share/man/{page}.gz"), page
    assert a.ok("test -s /usr/share/bash-completion/completions/dlockctl && test -s /usr/include/dlock.h")


def test_an_upgrade_restarts_what_runs_and_nobody_is_refused(labs):
    a = one_host(labs)
    a.run(["systemctl", "stop", FOLLOWER_2, *SOCKETS[FOLLOWER_2]])
    running = (LEADER, FOLLOWER_1)
    token = preempt(a, "kept", client="owner")
    before = {unit: a.unit(unit, "MainPID") for unit in running}
    sockets = {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for node in running for unit in SOCKETS[node]}
    # Where the administrator's policy forbids it nothing is touched.
    a.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    install(a, "--reinstall")
    assert before == {unit: a.unit(unit, "MainPID") for unit in running}
    a.run("rm /usr/sbin/policy-rc.d")
    with busy_clients(a, [AT[unit] for unit in running], ["127.0.0.1:7401", "127.77.0.1:7401", "127.0.0.1:7402"]):
        install(a, "--reinstall")
        for unit in running:
            wait_until(lambda: a.is_active(unit), f"{unit} to be up after the upgrade")
    for unit in running:
        assert a.unit(unit, "MainPID") not in ("0", before[unit]), unit
    assert sockets == {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in sockets}
    assert not a.ok(["systemctl", "is-active", "-q", FOLLOWER_2]) and "enabled" not in installed_units(a).values()
    assert owner(a, "kept") == "owner" and token
    release(a, "kept", client="owner")


def test_an_upgrade_does_not_wait_for_the_repair_of_a_node(labs):
    a = one_host(labs)
    a.run(["systemctl", "enable", "-q", LEADER])
    a.write("/etc/dlock/leader.ini", "[cluster]\nmax_voters = many\n")
    assert not a.ok(["systemctl", "restart", LEADER])
    wait_until(lambda: "waiting for the repair" in a.unit(LEADER, "StatusText"), "the leader to wait")
    begin = time.monotonic()
    install(a, "--reinstall -o Dpkg::Options::=--force-confold")
    assert time.monotonic() - begin < 200  # less than TimeoutStartSec=
    a.write("/etc/dlock/leader.ini", "")
    wait_for_voters(a, AT[LEADER], 3)


def test_debug_symbols_are_packages_of_their_own_and_fit(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    for package, file in (("dlock-server", "/usr/sbin/dlockd"), ("dlockctl", "/usr/bin/dlockctl"), ("libdlock0", "/usr/lib/*/libdlock.so.0")):
        (symbols,) = (BUILD / "deb").glob(f"{package}-dbgsym_*.deb")
        a.push(symbols, f"/var/tmp/{symbols.name}")
        # The build id is the 20 bytes after the note's head.
        build_id = a.out(f"python3 -c 'import sys; d = open(sys.argv[1], \"rb\").read(); i = d.index(b\"\\3\\0\\0\\0GNU\\0\") + 8; print(d[i:i + 20].hex())' {file}")
        assert f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug" in a.out(f"dpkg -c /var/tmp/{symbols.name}"), (package, build_id)


def test_purging_leaves_a_mount_point_empty(labs):
    (a,) = labs.boot("a").hosts
    a.run("mkdir -p /var/lib/dlock && mount -t tmpfs tmpfs /var/lib/dlock")
    install(a)
    a.run(["systemctl", "start", LEADER])
    wait_for_voters(a, AT[LEADER], 1)
    a.run("apt-get -q -y purge dlock-server")
    assert a.ok("mountpoint -q /var/lib/dlock") and a.out("ls -A /var/lib/dlock") == ""
    assert not a.ok("getent passwd dlock")


def test_removing_stops_all_and_purging_leaves_nothing(labs):
    (a,) = labs.boot("a").hosts
    before, users = set(a.out(FILES).splitlines()), a.read("/etc/passwd") + a.read("/etc/group")
    install(a)
    a.run(["systemctl", "enable", "-q", "--now", *NODES, *ALL_SOCKETS])
    wait_for_voters(a, AT[FOLLOWER_2], 3)
    preempt(a, "lock", client="owner")
    a.write("/etc/systemd/system/app.service", "[Unit]\nBindsTo=dlock-hold@app.service\nAfter=dlock-hold@app.service\n[Service]\nExecStart=sleep 1000\n")
    a.run("systemctl daemon-reload && systemctl -q add-wants dlock-hold@app.service app.service && systemctl -q enable --now dlock-hold@app")
    wait_until(lambda: a.is_active("app.service"), "a service that is bound to a lock to run")
    a.write("/etc/dlock/follower-2.ini", "[diagnostics]\nlevel = debug\n")
    a.run(["apt-get", "-q", "-y", "remove", *PACKAGES])
    assert not a.ok("pidof dlockd dlockctl")
    assert a.unit("app.service", "ActiveState") == "inactive"
    a.run("rm /etc/systemd/system/app.service")
    assert a.out("ss -Hlntx | grep -c -e 740 -e dlock || true") == "0"
    assert a.out("systemctl list-units --plain --no-legend --state=active,activating,failed 'dlock*'") == ""
    assert a.ok("test -s /etc/dlock/leader.ini && test -s /var/lib/dlock/leader/dlock.db")  # until it is purged
    a.run("apt-get -q -y purge dlock-server dlockctl")  # of the libraries nothing was left
    left = set(a.out(FILES).splitlines()) - before
    assert not left, sorted(left)
    assert a.read("/etc/passwd") + a.read("/etc/group") == users
    units = a.out("systemctl list-units --all --plain --no-legend 'dlock*'")
    assert not units, units
    a.reboot()
    install(a)
    a.run(["systemctl", "start", LEADER])
    # What is in a home is its user's, not the package's: root's tool still looks for the cluster that it knew.
    status, answer = ask(a, "status", server=AT[LEADER])
    assert status == UNREACHABLE and "forget-cluster" in answer["error"], (status, answer)
    a.run(["dlockctl", "forget-cluster"])
    wait_for_voters(a, AT[LEADER], 1)
    assert owner(a, "lock") is None
