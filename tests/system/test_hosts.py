"""A leader and two followers on three hosts, that lose power and network."""
from dlock import AT, FOLLOWER_1, FOLLOWER_2, LEADER, NO, UNKNOWN, UNREACHABLE, YES, ask, is_led, owner, preempt, release, three_hosts, wait_for_voters
from lab import wait_until

# Takes locks of its own one after the other and prints each with its token when it is told that it has it.
TAKE = """
n=0
while n=$((n + 1)) && answer=$(dlockctl --json --timeout 5s --client taker preempt "taken/$n" 2>/dev/null); do
        echo "$n $answer"
done
"""


def test_locks_are_the_same_through_every_host(labs):
    _, (a, b, c) = three_hosts(labs)
    token = preempt(b, "deploy", client="on-b")
    for host in (a, b, c):
        assert wait_until(lambda: owner(host, "deploy") == "on-b", f"{host.name} to show it")
        status, answer = ask(host, "preempt", "deploy", client="on-c")
        assert (status, answer["owner"], answer["granted"]) == (NO, "on-b", False), answer
        assert ask(host, "release", "deploy", client="on-c")[0] == NO
    release(c, "deploy", client="on-b")
    assert owner(c, "deploy") is None
    assert preempt(a, "deploy", client="on-a", server=f"{c.address}:7401") > token
    # The second of its servers answers when the first does not.
    assert owner(a, "deploy", server=f"{a.address}:1,{b.address}:7401") == "on-a"
    names = {host.name: ask(host, "status")[1]["node"] for host in (a, b, c)}
    assert names == {"a": "leader", "b": "follower-1", "c": "follower-2"}, names


def test_a_follower_without_power_is_not_missed_and_catches_up(labs):
    _, (a, b, c) = three_hosts(labs)
    kept = {f"kept/{number}": preempt(c, f"kept/{number}", client="owner") for number in range(10)}
    c.power_cut()
    for number in range(10, 20):
        kept[f"kept/{number}"] = preempt(b, f"kept/{number}", client="owner")
    assert owner(a, "kept/19") == "owner"
    c.boot()
    wait_for_voters(c, AT[FOLLOWER_2], 3)
    for lock, token in kept.items():
        assert wait_until(lambda: ask(c, "check", lock)[1].get("token") == token, f"{lock} at the follower")


def acknowledged(process):
    """lock: token, of what TAKE was told."""
    found = {}
    for line in process.stdout.read().splitlines():
        number, _, answer = line.partition(" ")
        if answer.endswith("}"):
            found[f"taken/{number}"] = int(answer.partition('"token":')[2].partition(",")[0])
    return found


def assert_kept(host, taken):
    for lock, token in taken.items():
        status, answer = ask(host, "check", lock)
        assert (status, answer["owner"], answer["token"]) == (YES, "taker", token), (lock, token, answer)


def test_nothing_acknowledged_is_lost_when_the_leader_loses_power(labs):
    _, (a, b, c) = three_hosts(labs)
    taker = b.start(["sh", "-c", TAKE])
    wait_until(lambda: ask(b, "check", "taken/30")[0] == YES, "some locks to be taken")
    a.power_cut()
    for host in (b, c):  # without one of them there is no majority, and the taker ends
        wait_until(lambda: (ask(host, "status")[1].get("leader") or "leader") != "leader", f"{host.name} to have another leader")
    c.power_cut()
    assert taker.wait(60) == 0
    taken = acknowledged(taker)
    assert len(taken) >= 29
    assert owner(b, "taken/1") == "taker"  # checks go on, changes wait
    assert ask(b, "preempt", "later", client="taker", timeout="2s")[0] in (UNKNOWN, UNREACHABLE)
    a.boot()
    c.boot()
    wait_for_voters(a, AT[LEADER], 3)
    for host in (a, b, c):
        wait_until(lambda: is_led(host), f"{host.name} to know the leader")
        assert_kept(host, taken)
    preempt(c, "after", client="taker")


def test_nothing_acknowledged_is_lost_when_all_hosts_lose_power(labs):
    lab, (a, b, c) = three_hosts(labs)
    takers = [b.start(["sh", "-c", TAKE]), c.start(["sh", "-c", TAKE.replace("taken/", "also/")])]
    wait_until(lambda: ask(b, "check", "taken/30")[0] == YES and ask(c, "check", "also/30")[0] == YES, "some locks to be taken")
    lab.each(type(a).power_cut)
    taken = {}
    for taker, prefix in zip(takers, ("taken/", "also/")):
        taker.wait(60)
        taken |= {lock.replace("taken/", prefix): token for lock, token in acknowledged(taker).items()}
    assert len(taken) >= 58
    lab.boot()
    for host, node in zip((a, b, c), (LEADER, FOLLOWER_1, FOLLOWER_2)):
        wait_for_voters(host, AT[node], 3)
    assert_kept(a, taken)
    assert_kept(c, {lock: taken[lock] for lock in list(taken)[:20]})


def test_a_follower_that_is_cut_off_says_how_old_its_answer_is_and_catches_up(labs):
    lab, (a, b, c) = three_hosts(labs)
    preempt(b, "old", client="owner")
    wait_until(lambda: owner(c, "old", server=AT[FOLLOWER_2]) == "owner", "the follower to show it")
    lab.cut(c)
    preempt(b, "new", client="owner")
    wait_until(lambda: ask(c, "check", "old", server=AT[FOLLOWER_2])[1].get("leader_age_ms", 0) >= 1500, "the follower to say how old its answer is")
    assert owner(c, "old", server=AT[FOLLOWER_2]) == "owner"
    assert owner(c, "new", server=AT[FOLLOWER_2]) is None
    assert ask(c, "preempt", "third", client="other", server=AT[FOLLOWER_2], timeout="2s")[0] in (UNKNOWN, UNREACHABLE)
    lab.heal()
    wait_until(lambda: owner(c, "new", server=AT[FOLLOWER_2]) == "owner", "the follower to catch up")
    preempt(c, "fourth", client="other", server=AT[FOLLOWER_2], timeout="30s")


def test_a_leader_that_is_cut_off_grants_nothing(labs):
    lab, (a, b, c) = three_hosts(labs)
    lab.cut(a)
    status, answer = ask(a, "preempt", "lock", client="alone", timeout="3s")
    assert status in (UNKNOWN, UNREACHABLE), (status, answer)
    wait_until(lambda: "no majority" in a.unit(LEADER, "StatusText"), "the leader to say so")
    lab.heal()
    for host, node in zip((a, b, c), (LEADER, FOLLOWER_1, FOLLOWER_2)):
        wait_until(lambda: is_led(host, AT[node]), f"{host.name} to know the leader")
    preempt(b, "other", client="owner")
    assert owner(a, "lock") == owner(b, "lock", timeout="20s")


def test_a_host_that_is_switched_off_in_order_and_on_again_is_part_of_the_cluster(labs):
    _, (a, b, c) = three_hosts(labs)
    preempt(c, "kept", client="owner")
    for host, node in ((c, FOLLOWER_2), (a, LEADER)):
        host.poweroff()
        assert owner(b, "kept") == "owner"
        host.boot()
        for each, its in zip((a, b, c), (LEADER, FOLLOWER_1, FOLLOWER_2)):
            wait_for_voters(each, AT[its], 3)
        preempt(b, f"after {host.name} {node}", client="owner")
