"""What was wrong for a while and is put right: nodes come back by themselves, and say what was wrong once."""
import time

from dlock import AT, FOLLOWER_1, FOLLOWER_2, LEADER, NODES, SOCKETS, UNKNOWN, UNREACHABLE, YES, ask, install, knows_leader, one_host, owner, preempt, wait_for_voters
from lab import wait_until

# Long enough that a complaint with every restart would show.
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
    assert len(lines) <= 2 * WHILE, lines


def test_a_node_with_a_bad_file_comes_back_after_the_repair(labs):
    a = one_host(labs)
    good = a.read("/etc/dlock/leader.ini")
    a.write("/etc/dlock/leader.ini", good.replace("max_voters = 5", "max_voters = many"))
    begin, sockets = cursor(a), {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in SOCKETS[LEADER]}
    a.run(["systemctl", "restart", LEADER], check=False)
    waiting = a.start(["dlockctl", "--timeout", "60s", "--server", AT[LEADER], "check", "lock"])
    time.sleep(WHILE)
    assert a.is_active(*SOCKETS[LEADER]) and not a.is_active(LEADER)
    assert_said_once(lines_since(a, LEADER, begin), "leader.ini", "max_voters", "many")
    assert waiting.poll() is None
    a.write("/etc/dlock/leader.ini", good)
    wait_until(lambda: a.is_active(LEADER), "the leader to come back", 15)
    assert waiting.wait(30) == 1  # free: the connection has waited, and is served
    assert sockets == {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in sockets}
    wait_for_voters(a, AT[LEADER], 3)


def fill(host, directory):
    host.run(f"head -c 1G /dev/zero >{directory}/fill || true", check=False)


def until_it_fails(host, server):
    """Changes that were acknowledged before the disk was full."""
    kept = {}
    for number in range(4000):
        status, answer = ask(host, "preempt", f"{'long' * 50}/{number}", client="owner", server=server, timeout="2s")
        if status != YES:
            assert status in (UNKNOWN, UNREACHABLE), (status, answer)
            return kept
        kept[number] = answer["token"]
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
    kept = until_it_fails(a, AT[LEADER])
    time.sleep(WHILE)
    assert a.is_active(*SOCKETS[LEADER]) and not a.is_active(LEADER), a.unit(LEADER, "ActiveState")
    lines = [line for line in lines_since(a, LEADER, begin) if " by owner at " not in line]
    said = [line for line in lines if "full" in line or "space" in line or "room" in line]
    assert 1 <= len(said) <= 2 and len(lines) <= 3 * WHILE, lines
    assert owner(a, "before", server=AT[FOLLOWER_1]) == "owner"  # a follower's own map
    a.run("rm /var/lib/dlock/leader/fill")
    wait_until(lambda: a.is_active(LEADER) and knows_leader(a, AT[LEADER]), "the leader to come back")
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
    wait_until(lambda: a.is_active(FOLLOWER_1) and knows_leader(a, AT[FOLLOWER_1]), "the follower to come back")
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
