"""The leader's host dies, the network parts, nodes and hosts are restarted: the others go on, and leadership returns."""
import json

from dlock import (AT, FOLLOWER_1, FOLLOWER_2, LEADER, NODES, PATIENCE, SOCKETS, UNKNOWN, UNREACHABLE, YES, ask, install, knows_leader, one_host, owner, preempt, release,
                   three_hosts, wait_for_voters)
from lab import wait_until
from pace import paced

# Of a machine that does much else; an idle one needs a second or two for either.
VANISHED_S, RESTARTED_S = 25, 20
# Caught up and connected for 10 s, and the boot before.
RETURN_S = 180


def leads_again(hosts):
    for host, node in zip(hosts, NODES):
        wait_until(lambda: knows_leader(host, AT[node]), f"{node} to be led by dlock-leader again", RETURN_S)
        wait_for_voters(host, AT[node], 3)


def is_led(host, node):
    """By anybody."""
    status, answer = ask(host, "status", server=AT[node], timeout="2s")
    return status == YES and answer["leader"] and answer["voters"] == 3


def test_the_others_go_on_without_the_leaders_host_and_with_half_a_network_and_leadership_returns(labs):
    lab, (a, b, c) = three_hosts(labs)
    held = preempt(b, "held", client="holder")
    with paced(b, AT[FOLLOWER_1], what="the leader's host loses power", may_be_unknown=True) as power:
        wait_until(lambda: ask(c, "list", "paced-", server=AT[FOLLOWER_2])[0] == YES, "the client to work")
        lab.cut(a)  # or the kernel of all these hosts would close the dead one's connections for it
        a.power_cut()
        lab.heal()
        wait_until(lambda: ask(c, "status", server=AT[FOLLOWER_2])[1].get("leader") in ("follower-1", "follower-2"), "another to lead")
        preempt(c, "meanwhile", client="other", server=AT[FOLLOWER_2], timeout="20s")
        a.boot()
        leads_again((a, b, c))
    assert power.longest < VANISHED_S
    assert ask(a, "check", "held", server=AT[LEADER])[1]["token"] == held and owner(a, "meanwhile", server=AT[LEADER]) == "other"

    with paced(c, AT[FOLLOWER_2], what="the leader is cut off", may_be_unknown=True) as cut:
        lab.cut(a)
        wait_until(lambda: ask(b, "status", server=AT[FOLLOWER_1])[1].get("leader") in ("follower-1", "follower-2"), "the majority to have a leader")
        taken = preempt(b, "on the majority's side", client="other", server=AT[FOLLOWER_1], timeout="20s")
        assert ask(a, "preempt", "on the minority's side", client="other", server=AT[LEADER], timeout="2s")[0] in (UNKNOWN, UNREACHABLE)
        wait_until(lambda: ask(a, "check", "held", server=AT[LEADER])[1].get("leader_age_ms", 0) >= 2000, "the minority to say how old its answers are")
        assert owner(a, "held", server=AT[LEADER]) == "holder" and owner(a, "on the majority's side", server=AT[LEADER]) is None
        lab.heal()
        leads_again((a, b, c))
    assert cut.longest < VANISHED_S
    for host, node in zip((a, b, c), NODES):
        assert ask(host, "check", "on the majority's side", server=AT[node])[1]["token"] == taken
        assert owner(host, "on the minority's side", server=AT[node]) is None
    release(a, "held", client="holder", server=AT[LEADER])


test_the_others_go_on_without_the_leaders_host_and_with_half_a_network_and_leadership_returns.takes_long = True


def test_a_restart_of_the_leader_and_a_reboot_of_each_host_are_not_noticed_by_who_holds_a_lock(labs):
    lab, (a, b, c) = three_hosts(labs, "d")
    d = lab.hosts[3]
    servers = [f"{host.address}:7401" for host in (b, c, a)]
    held = preempt(d, "held", client="holder", server=",".join(servers))
    with paced(b, AT[FOLLOWER_1], what="systemctl restart dlock-leader") as restarted, paced(a, AT[LEADER], what="the same, at the leader itself") as itself:
        for _ in range(2):
            a.run(["systemctl", "restart", LEADER])
            for host, node in zip((a, b, c), NODES):
                wait_until(lambda: is_led(host, node), f"{node} to be led", PATIENCE)
    assert restarted.longest < RESTARTED_S and itself.longest < RESTARTED_S
    with paced(d, *servers, what="reboots of all hosts, one after the other"):
        for host, node in ((c, FOLLOWER_2), (b, FOLLOWER_1), (a, LEADER)):
            host.reboot()
            wait_until(lambda: is_led(host, node), f"{node} to be back", PATIENCE)
            assert ask(d, "check", "held", server=",".join(servers))[1]["token"] == held
        leads_again((a, b, c))
    assert ask(a, "check", "held", server=AT[LEADER])[1]["token"] == held
    release(d, "held", client="holder", server=",".join(servers))


test_a_restart_of_the_leader_and_a_reboot_of_each_host_are_not_noticed_by_who_holds_a_lock.takes_long = True


def test_a_node_that_was_stopped_stays_stopped_although_the_leader_is_restarted(labs):
    a = one_host(labs)
    a.run(["systemctl", "stop", FOLLOWER_1])
    for _ in range(2):
        a.run(["systemctl", "restart", LEADER])
        for node in (LEADER, FOLLOWER_2):
            wait_until(lambda: is_led(a, node), f"{node} to be led", PATIENCE)
        preempt(a, "lock", client="owner", server=AT[FOLLOWER_2], timeout="20s")
        release(a, "lock", client="owner", server=AT[LEADER], timeout="20s")
        # Longer than anybody waits for anything before it dials.
        assert a.ok(f"for i in $(seq 70); do [ $(systemctl show --value -p ActiveState {FOLLOWER_1}) = inactive ] || exit 1; sleep 0.1; done"), \
            a.run("journalctl -b --no-pager -n 60 -u 'dlock*'").stdout
    assert a.is_active(*SOCKETS[FOLLOWER_1])
    a.run(["systemctl", "start", FOLLOWER_1])
    wait_until(lambda: is_led(a, FOLLOWER_1), "it to be back", PATIENCE)


test_a_node_that_was_stopped_stays_stopped_although_the_leader_is_restarted.takes_long = True


def ids(host):
    """{name of a member: its id}."""
    lines = host.out(["dlockctl", "--json", "--server", AT[LEADER], "members"]).splitlines()
    return {member["name"]: member["id"] for member in map(json.loads, lines)}


def test_a_purged_node_joins_again_as_a_new_one(labs):
    _, (a, b, c) = three_hosts(labs)
    held = preempt(c, "held", client="holder")
    settings = c.read("/etc/dlock/follower.ini")
    before = ids(a)
    c.run("apt-get -q -y purge dlock-server", bound=300)
    assert not c.ok("ls /var/lib/dlock")
    preempt(b, "meanwhile", client="other", server=AT[FOLLOWER_1])
    install(c)
    c.write("/etc/dlock/follower.ini", settings)
    c.run(["systemctl", "daemon-reload"])
    c.run(["systemctl", "start", *SOCKETS[FOLLOWER_2], FOLLOWER_2])
    wait_for_voters(c, AT[FOLLOWER_2], 3)
    after = ids(a)
    assert set(after) == set(before) and after["follower-2"] > before["follower-2"], (before, after)
    assert ask(c, "check", "held", server=AT[FOLLOWER_2])[1]["token"] == held and owner(c, "meanwhile", server=AT[FOLLOWER_2]) == "other"
    # Its vote counts: the leader may go.
    a.kill()
    preempt(c, "after", client="other", server=AT[FOLLOWER_2], timeout="30s")
