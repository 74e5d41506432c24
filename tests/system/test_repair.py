"""What was wrong for a while and is put right: nodes come back by themselves, and say what was wrong once."""
import time

from dlock import (AT, FOLLOWER_1, FOLLOWER_2, LEADER, NODES, SOCKETS, UNKNOWN, UNREACHABLE, YES, ask, install, is_led, one_host, owner, preempt,
                   wait_for_voters)
from lab import wait_until

# Long enough that a complaint with every restart would show; twice.
WHILE = 8


def lines_since(host, unit, cursor):
    """What the unit and systemd about it have said since."""
    entries = host.journal(options=f"--after-cursor='{cursor}' -u {unit}")
    return [str(entry["MESSAGE"]) for entry in entries]


def cursor(host):
    return host.journal(options="-n 1")[-1]["__CURSOR"]


def assert_said_once(lines, *words):
    said = [line for line in lines if all(word in line for word in words)]
    assert len(said) == 1, lines


def stays_silent(host, unit):
    """By now all is said that there is to say, by systemd too."""
    begin = cursor(host)
    time.sleep(WHILE)
    lines = lines_since(host, unit, begin)
    assert not lines, lines


def waits_for_repair(host, node, *words):
    text = host.unit(node, "StatusText")
    return host.unit(node, "ActiveState") == "activating" and "waiting for the repair" in text and all(word in text for word in words)


def test_a_node_with_a_bad_file_comes_back_after_the_repair(labs):
    a = one_host(labs)
    good = a.read("/etc/dlock/leader.ini")
    a.write("/etc/dlock/leader.ini", good.replace("max_voters = 5", "max_voters = many"))
    begin, sockets = cursor(a), {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in SOCKETS[LEADER]}
    a.run(["systemctl", "restart", LEADER], check=False)
    waiting = a.start(["dlockctl", "--timeout", "10min", "--server", AT[LEADER], "check", "lock"], bound=600)
    wait_until(lambda: waits_for_repair(a, LEADER, "max_voters"), "the leader to wait for the repair")
    stays_silent(a, LEADER)
    assert a.is_active(*SOCKETS[LEADER]) and not a.is_active(LEADER)
    assert_said_once(lines_since(a, LEADER, begin), "leader.ini", "max_voters", "many")
    assert waiting.poll() is None
    a.write("/etc/dlock/leader.ini", good)
    wait_until(lambda: a.is_active(LEADER), "the leader to come back")
    assert waiting.wait(120) == 1  # free: the connection has waited, and is served
    assert sockets == {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in sockets}
    wait_for_voters(a, AT[LEADER], 3)


def test_whoever_restarts_a_node_that_waits_is_told_at_once_what_is_wrong(labs):
    a = one_host(labs)
    a.write("/etc/dlock/leader.ini", "[cluster]\nmax_voters = many\n")
    for _ in range(2):
        begin = cursor(a)
        assert a.run(["systemctl", "restart", LEADER], check=False).returncode == 1
        assert_said_once(lines_since(a, LEADER, begin), "leader.ini", "max_voters", "many")
        wait_until(lambda: waits_for_repair(a, LEADER, "max_voters"), "the leader to wait for the repair")
    a.run(["systemctl", "stop", *SOCKETS[LEADER], LEADER])
    assert a.unit(LEADER, "ActiveState") == "inactive"
    a.write("/etc/dlock/leader.ini", "")
    a.run(["systemctl", "start", LEADER])
    wait_for_voters(a, AT[LEADER], 3)


def test_a_node_whose_port_is_taken_comes_back_when_it_is_free_and_is_no_flood_meanwhile(labs):
    a = one_host(labs)
    a.run(["systemctl", "stop", *SOCKETS[LEADER], LEADER])
    taker = a.start(["python3", "-c", "import socket\ns = socket.create_server(('127.0.0.1', 7401))\nprint('taken', flush=True)\ninput()"])
    assert taker.stdout.readline() == "taken\n"
    begin = cursor(a)
    assert not a.ok(["systemctl", "start", LEADER])
    time.sleep(2 * WHILE)
    lines = lines_since(a, LEADER, begin)
    assert_said_once(lines, "cannot listen on", "socket unit")
    assert len([line for line in lines if line.startswith("Starting ")]) <= 5, lines
    taker.communicate("\n", timeout=60)
    wait_until(lambda: a.is_active(LEADER, *SOCKETS[LEADER]), "the leader to come back")
    preempt(a, "lock", client="owner", server="127.0.0.1:7401")


test_a_node_whose_port_is_taken_comes_back_when_it_is_free_and_is_no_flood_meanwhile.takes_long = True


def test_a_database_may_be_elsewhere_and_a_wrong_directory_can_be_put_right(labs):
    a = one_host(labs)
    a.run(["install", "-d", "-o", "dlock", "-g", "dlock", "-m", "700", "/srv/locks 2"])
    a.run("systemctl stop dlock-follower@2 && cp -a /var/lib/dlock/follower-2/. '/srv/locks 2' && rm -r /var/lib/dlock/follower-2")
    a.write("/etc/dlock/follower-2.ini", "[node]\ndirectory = /srv/lacks\n")
    a.run("systemctl daemon-reload")
    assert not a.ok(["systemctl", "start", FOLLOWER_2])
    assert [text for text in a.messages(FOLLOWER_2) if "/srv/lacks cannot be opened" in text]
    wait_until(lambda: waits_for_repair(a, FOLLOWER_2, "/srv/lacks"), "the follower to wait for the repair")
    a.write("/etc/dlock/follower-2.ini", "[node]\ndirectory = /srv/locks %i\n")
    a.run("systemctl daemon-reload")
    wait_until(lambda: a.is_active(FOLLOWER_2), "the follower to come back")
    wait_for_voters(a, AT[FOLLOWER_2], 3)
    preempt(a, "lock", client="owner", server=AT[FOLLOWER_2])
    assert a.ok("test -s '/srv/locks 2/dlock.db-wal' && ! test -e /var/lib/dlock/follower-2/dlock.db")


def fill(host, directory):
    host.run(f"head -c 1G /dev/zero >{directory}/fill || true", check=False)


def until_it_fails(host, node):
    """Changes that were acknowledged before the disk was full."""
    kept = {}
    for number in range(4000):
        status, answer = ask(host, "preempt", f"{'long' * 50}/{number}", client="owner", server=AT[node], timeout="2s")
        if status == YES:
            kept[number] = answer["token"]
            continue
        assert status in (UNKNOWN, UNREACHABLE), (status, answer)
        # A slow disk is not full yet.
        if not host.is_active(node):
            return kept
    raise AssertionError("a full disk took 4000 changes")


def test_a_leader_with_a_full_disk_comes_back_after_room_is_made_and_has_lost_nothing(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    a.run("mkdir -p /var/lib/dlock/leader && mount -t tmpfs -o size=16m,mode=700 tmpfs /var/lib/dlock/leader && chown dlock: /var/lib/dlock /var/lib/dlock/leader")
    a.run(["systemctl", "start", *NODES])
    for node in NODES:
        wait_for_voters(a, AT[node], 3)
    preempt(a, "before", client="owner")
    begin, sockets = cursor(a), {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in SOCKETS[LEADER]}
    fill(a, "/var/lib/dlock/leader")
    kept = until_it_fails(a, LEADER)
    wait_until(lambda: waits_for_repair(a, LEADER, "4 MiB of room are needed in /var/lib/dlock/leader", "dlock.db"), "the leader to wait for room")
    stays_silent(a, LEADER)
    assert a.is_active(*SOCKETS[LEADER]) and not a.is_active(LEADER), a.unit(LEADER, "ActiveState")
    assert_said_once([line for line in lines_since(a, LEADER, begin) if " by owner at " not in line], "make room")
    assert owner(a, "before", server=AT[FOLLOWER_1]) == "owner"  # a follower's own map
    a.run("rm /var/lib/dlock/leader/fill")
    wait_until(lambda: a.is_active(LEADER) and is_led(a, AT[LEADER]), "the leader to come back")
    assert sockets == {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in sockets}
    assert owner(a, "before") == "owner"
    for number, token in kept.items():
        assert ask(a, "check", f"{'long' * 50}/{number}", server=AT[LEADER])[1]["token"] == token
    preempt(a, "after", client="owner", server=AT[FOLLOWER_2])


def test_a_follower_whose_disk_is_full_leaves_the_others_at_work(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    a.run("mkdir -p /var/lib/dlock/follower-1 && mount -t tmpfs -o size=16m,mode=700 tmpfs /var/lib/dlock/follower-1 && chown dlock: /var/lib/dlock /var/lib/dlock/follower-1")
    a.run(["systemctl", "start", *NODES])
    for node in NODES:
        wait_for_voters(a, AT[node], 3)
    fill(a, "/var/lib/dlock/follower-1")
    last = 0
    while a.is_active(FOLLOWER_1):
        assert last < 4000
        last += 1
        preempt(a, f"{'long' * 50}/{last}", client="owner", server=AT[LEADER])
    preempt(a, "without it", client="owner", server=AT[FOLLOWER_2])
    assert a.is_active(*SOCKETS[FOLLOWER_1])
    a.run("rm /var/lib/dlock/follower-1/fill")
    wait_until(lambda: a.is_active(FOLLOWER_1) and is_led(a, AT[FOLLOWER_1]), "the follower to come back")
    assert owner(a, "without it", server=AT[FOLLOWER_1]) == "owner"


def test_a_foreign_database_is_refused_and_left_as_it_is(labs):
    a = one_host(labs)
    database = "/var/lib/dlock/follower-2/dlock.db"
    a.run(["systemctl", "stop", *SOCKETS[FOLLOWER_2], FOLLOWER_2])
    a.run(f"cp -a /var/lib/dlock/follower-2 /var/tmp/kept; rm -f {database}-*; head -c 8192 /dev/urandom >{database}; sha256sum {database} >/var/tmp/sum")
    assert not a.ok(["systemctl", "start", FOLLOWER_2])
    assert wait_until(lambda: [text for text in a.messages(FOLLOWER_2) if database in text or "database" in text], "the journal to say so")
    assert a.ok("sha256sum -c --status /var/tmp/sum")
    a.run("rm -rf /var/lib/dlock/follower-2/*; cp -a /var/tmp/kept/. /var/lib/dlock/follower-2/")
    a.run(["systemctl", "start", *SOCKETS[FOLLOWER_2]])
    wait_for_voters(a, AT[FOLLOWER_2], 3)
