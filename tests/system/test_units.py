"""The services and sockets of a cluster on one host."""
import json

from dlock import (ALL_SOCKETS, AT, FOLLOWER_1, FOLLOWER_2, LEADER, NO, NODES, REFUSED, SOCKETS, UNREACHABLE, YES, all_vote, ask, busy_clients,
                   install, is_led, one_host, owner, preempt, release, set_ini, wait_for_voters)
from lab import wait_until

TCP = {LEADER: "127.0.0.1:7401", FOLLOWER_1: "127.77.0.1:7401", FOLLOWER_2: "127.77.0.2:7401"}


def test_three_started_units_form_a_cluster_that_root_finds(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    a.run("systemctl start dlock-leader dlock-follower@1 dlock-follower@2")
    assert a.is_active(*NODES, *ALL_SOCKETS)
    wait_until(lambda: all_vote(a, None, 3), "a cluster, asked without naming a server")
    assert ask(a, "status")[1]["node"] in ("leader", "follower-1", "follower-2")
    token = preempt(a, "backup")
    owners = [ask(a, "check", "backup", server=server) for server in (*AT.values(), *TCP.values())]
    assert len({(status, answer["owner"], answer["token"]) for status, answer in owners}) == 1 and owners[0][0] == YES and owners[0][1]["token"] == token
    status, answer = ask(a, "preempt", "backup", server=AT[FOLLOWER_2], client="another")
    assert status == NO and answer["owner"] == owners[0][1]["owner"]
    assert ask(a, "release", "backup", server=AT[FOLLOWER_2], client="another")[0] == NO
    release(a, "backup")
    assert owner(a, "backup") is None
    for node in NODES:
        assert a.out(f"stat -c '%U %a' /var/lib/dlock/{AT[node].split('/')[3][:-5]}") == "dlock 700"
        assert a.out(["ps", "-o", "user=", "-p", a.unit(node, "MainPID")]) == "dlock"
    assert a.out("systemctl --failed --no-legend") == ""


def test_enabled_units_are_a_cluster_again_after_a_reboot(labs):
    a = one_host(labs)
    a.run(["systemctl", "enable", "-q", *NODES, *ALL_SOCKETS])
    token = preempt(a, "kept", client="owner")
    a.reboot()
    for node in NODES:
        wait_for_voters(a, AT[node], 3)
    assert ask(a, "check", "kept", server=AT[FOLLOWER_1])[1]["token"] == token
    release(a, "kept", client="owner", server=AT[FOLLOWER_2])


def test_with_only_sockets_enabled_one_connection_starts_all_nodes(labs):
    a = one_host(labs)
    preempt(a, "kept", client="owner")
    # It is stopped before the others, who hear of it: that the host goes down is not that this node shall stay stopped.
    a.write(f"/etc/systemd/system/{FOLLOWER_2}.d/last.conf", f"[Unit]\nAfter={LEADER} {FOLLOWER_1}\n")
    a.run(["systemctl", "daemon-reload"])
    a.run(["systemctl", "enable", "-q", *ALL_SOCKETS])
    a.reboot()
    assert a.is_active(*ALL_SOCKETS)
    assert not any(a.is_active(node) for node in NODES)
    assert owner(a, "kept", server=AT[FOLLOWER_1], timeout="30s") == "owner"
    wait_until(lambda: a.is_active(*NODES), "all nodes to be started by one client")
    preempt(a, "new", client="owner", server=AT[FOLLOWER_1])
    for node in NODES:
        wait_for_voters(a, AT[node], 3)


def test_an_empty_cluster_begins_with_one_connection_to_a_follower(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    a.run(["systemctl", "start", *SOCKETS[LEADER], *SOCKETS[FOLLOWER_1]])
    assert not a.is_active(LEADER) and not a.is_active(FOLLOWER_1)
    preempt(a, "first", client="owner", server=AT[FOLLOWER_1], timeout="40s")
    assert a.is_active(LEADER, FOLLOWER_1)


def test_no_connection_is_refused_and_no_answer_lost_over_restarts(labs):
    a = one_host(labs)
    sockets = {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in ALL_SOCKETS}
    peers = ["127.0.0.1:7402", "127.77.0.1:7402", "127.77.0.2:7402"]
    with busy_clients(a, list(AT.values()), [*TCP.values(), *peers]):
        for node in (FOLLOWER_1, LEADER, FOLLOWER_2, LEADER):
            before = a.unit(node, "MainPID")
            a.run(["systemctl", "restart", node])
            assert a.unit(node, "MainPID") != before
            for each in NODES:
                wait_until(lambda: is_led(a, AT[each]), f"{each} to know a leader after a restart of {node}")
    assert sockets == {unit: a.unit(unit, "ActiveEnterTimestampMonotonic") for unit in sockets}


def test_a_killed_node_is_started_again_and_nobody_is_refused(labs):
    a = one_host(labs)
    with busy_clients(a, list(AT.values()), list(TCP.values())):
        for node in NODES:
            before = a.unit(node, "MainPID")
            a.run(["systemctl", "kill", "-s", "KILL", node])
            wait_until(lambda: a.unit(node, "MainPID") not in ("0", before) and a.is_active(node), f"{node} to be started again")
            wait_for_voters(a, AT[node], 3)


def test_a_hung_node_is_ended_by_the_watchdog_and_started_again(labs):
    a = one_host(labs)
    a.write(f"/run/systemd/system/{LEADER}.d/short.conf", "[Service]\nWatchdogSec=2\n")
    a.run(["systemctl", "daemon-reload"])
    a.run(["systemctl", "restart", LEADER])
    wait_for_voters(a, AT[LEADER], 3)
    before = a.unit(LEADER, "MainPID")
    a.run(["kill", "-STOP", before])
    wait_until(lambda: a.unit(LEADER, "MainPID") not in ("0", before) and a.is_active(LEADER), "the watchdog")
    wait_for_voters(a, AT[LEADER], 3)


def test_a_reload_takes_a_good_file_and_keeps_the_old_settings_with_a_bad_one(labs):
    a = one_host(labs)
    process = a.unit(LEADER, "MainPID")
    set_ini(a, "leader.ini", diagnostics__level="error")
    a.run(["systemctl", "reload", LEADER])
    preempt(a, "unsaid", client="owner")
    set_ini(a, "leader.ini", diagnostics__level="info")
    a.run(["systemctl", "reload", LEADER])
    preempt(a, "said", client="owner")
    assert not a.journal("DLOCK_LOCK=unsaid") and a.journal("DLOCK_LOCK=said")
    set_ini(a, "leader.ini", diagnostics__level="loud")
    assert not a.ok(["systemctl", "reload", LEADER])
    line = int(a.out("grep -n '^level = loud' /etc/dlock/leader.ini | cut -d: -f1"))
    complaint = wait_until(lambda: [text for text in a.messages(LEADER) if "/etc/dlock/leader.ini" in text], "the journal to say so")[0]
    assert f"{line}" in complaint and "loud" in complaint and "info" in complaint, complaint
    preempt(a, "still", client="owner")
    assert a.journal("DLOCK_LOCK=still") and a.is_active(LEADER) and a.unit(LEADER, "MainPID") == process


def test_a_stopped_node_stays_stopped_until_a_client_wants_it(labs):
    a = one_host(labs)
    a.run(["systemctl", "stop", FOLLOWER_1])
    # The others redial several times in as long as this.
    assert a.ok(f"for i in $(seq 80); do [ $(systemctl show --value -p ActiveState {FOLLOWER_1}) = inactive ] || exit 1; sleep 0.1; done")
    assert a.is_active(*SOCKETS[FOLLOWER_1])
    preempt(a, "meanwhile", client="owner", server=AT[FOLLOWER_2])
    # Just started, it answers from what it had; then it catches up.
    wait_until(lambda: owner(a, "meanwhile", server=AT[FOLLOWER_1]) == "owner", "the node that a client has started to catch up")
    assert a.is_active(FOLLOWER_1)


def test_a_stopped_leader_stays_stopped_while_followers_are_asked(labs):
    a = one_host(labs)
    preempt(a, "lock", client="owner")
    a.run(["systemctl", "stop", LEADER])
    for server in (AT[FOLLOWER_1], AT[FOLLOWER_2]):
        assert owner(a, "lock", server=server) == "owner"
        ask(a, "preempt", "new", client="owner", server=server, timeout="4s")
    assert a.unit(LEADER, "ActiveState") == "inactive" and a.is_active(*SOCKETS[LEADER])
    a.run(["systemctl", "start", LEADER])
    wait_for_voters(a, AT[LEADER], 3)


def test_changes_are_in_the_journal_of_the_leader_by_field(labs):
    a = one_host(labs)
    token = preempt(a, "nightly/backup", client="cron-1", server=AT[FOLLOWER_1])
    assert ask(a, "preempt", "nightly/backup", client="cron-2")[0] == NO
    release(a, "nightly/backup", client="cron-1")
    said = wait_until(lambda: [entry for entry in a.journal("DLOCK_LOCK=nightly/backup") if len(a.journal("DLOCK_LOCK=nightly/backup")) > 1], "both changes in the journal")
    assert [entry["DLOCK_CLIENT"] for entry in said] == ["cron-1", "cron-1"]
    assert {entry["_SYSTEMD_UNIT"] for entry in said} == {LEADER}
    assert int(said[0]["DLOCK_INDEX"]) == token < int(said[1]["DLOCK_INDEX"])
    assert not a.journal("DLOCK_CLIENT=cron-2")


def test_the_status_text_says_role_term_index_and_leader_or_that_there_is_no_majority(labs):
    a = one_host(labs)
    preempt(a, "lock", client="owner")

    def says(node, *words):
        return all(word in a.unit(node, "StatusText") for word in words)

    def says_what_status_says(node, *words):
        state = ask(a, "status", server=AT[node])[1]
        return says(node, *words, f"term {state['term']}", f"commit {state['commit']}")

    wait_until(lambda: says_what_status_says(LEADER, "leader"), "the leader's text to say its term and commit")
    wait_until(lambda: says_what_status_says(FOLLOWER_1, "follower", "leader leader"), "the follower's text to say its term, commit and leader")
    a.run(["systemctl", "stop", *(socket for node in (LEADER, FOLLOWER_2) for socket in SOCKETS[node]), LEADER, FOLLOWER_2])
    wait_until(lambda: says(FOLLOWER_1, "no majority"), "a follower alone to say so")


def test_a_client_id_is_its_users_own(labs):
    a = one_host(labs)
    preempt(a, "lock", client="shared", user="alice")
    for server in (AT[LEADER], AT[FOLLOWER_1]):
        for command in ("release", "preempt"):
            status, answer = ask(a, command, "lock", client="shared", user="bob", server=server)
            assert status == REFUSED, (command, status, answer)
        assert owner(a, "lock", user="bob", server=server) == "shared"
    release(a, "lock", client="shared", user="alice", server=AT[FOLLOWER_1])
    preempt(a, "lock", client="shared", user="alice")
    release(a, "lock", client="shared")  # root may


def test_each_user_has_an_id_that_is_kept(labs):
    a = one_host(labs)
    ids = [json.loads(a.out("dlockctl --json whoami", user=user))["client"] for user in ("alice", "bob", "alice", None)]
    assert ids[0] == ids[2] and len(set(ids)) == 3
    preempt(a, "hers", user="alice")
    assert ask(a, "release", "hers", user="bob")[0] == NO and owner(a, "hers", user="bob") == ids[0]
    assert a.out("find /home/alice/.local/state -name '*dlock*' | head -1")
    release(a, "hers", user="alice")


def test_changed_addresses_move_the_sockets_by_a_daemon_reload_and_a_restart(labs):
    a = one_host(labs)
    set_ini(a, "follower.ini", listen__clients="/run/dlock/follower-%i.sock, 127.77.0.%i:7501", listen__peers="127.77.0.%i:7502")
    a.run(["systemctl", "reload", FOLLOWER_1])
    assert wait_until(lambda: [text for text in a.messages(FOLLOWER_1) if "daemon-reload" in text and "restart" in text], "the journal to say what to do")
    assert ask(a, "status", server="127.77.0.1:7401")[0] == YES
    a.run(["systemctl", "daemon-reload"])
    a.run(["systemctl", "stop", FOLLOWER_1, *SOCKETS[FOLLOWER_1]])
    a.run(["systemctl", "start", FOLLOWER_1])
    assert a.is_active(*SOCKETS[FOLLOWER_1], FOLLOWER_1)
    wait_until(lambda: is_led(a, "127.77.0.1:7501"), "the follower at its new address")
    assert ask(a, "status", server="127.77.0.1:7401")[0] == UNREACHABLE
    listening = a.out("ss -Hlnt")
    assert "127.77.0.1:7502 " in listening and "127.77.0.1:7402 " not in listening
    assert not [text for text in a.messages(FOLLOWER_1) if "the socket unit does not" in text]
    preempt(a, "lock", client="owner", server="127.77.0.1:7501")
    # A wrong file makes no drop-in and breaks no boot.
    a.write("/etc/dlock/leader.ini", "[listen]\nclients = nonsense\n")
    a.reboot()


def test_an_address_beyond_the_host_is_refused_unless_the_ini_admits_it(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    set_ini(a, "leader.ini", listen__peers=f"{a.address}:7402")
    a.run(["systemctl", "daemon-reload"])
    assert not a.ok(["systemctl", "start", LEADER])
    assert wait_until(lambda: [text for text in a.messages(LEADER) if "allow_insecure" in text], "the journal to name the key")
    set_ini(a, "leader.ini", listen__allow_insecure="yes")
    wait_until(lambda: is_led(a, AT[LEADER]), "the leader to come back by itself")
