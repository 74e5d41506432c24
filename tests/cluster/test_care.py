"""A cluster as an operator and the users of dlockctl meet it: leaders that die, are handed over, restarted; nodes that are removed."""
import concurrent.futures
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time

import wire
from nodes import DLOCKCTL, PATIENCE, STEADY, Cluster, lasting, ms, wait_until
from test_tool import tool, variables_of

# Leadership goes back after so long; a transfer by hand outlasts it.
RETURN_S = 10
KILLS = 4
# The longest pause between two attempts to dial a member.
REDIAL_S = 1
GONE = "not a member any more: empty its state directory"


def running(cluster):
    return [node for node in cluster.nodes if node.process and node.process.poll() is None]


def leader_of(cluster):
    """The node that leads in the highest term, by its own account."""
    leaders = [(status["term"], node.name) for node in running(cluster) if (status := node.status()) and status["role"] == "leader"]
    return next(node for node in cluster.nodes if node.name == max(leaders)[1]) if leaders else None


def wait_for_leader(cluster, name=None, bound=PATIENCE):
    def leads():
        leader = leader_of(cluster)
        return leader if leader and (not name or leader.name == name) else None
    return wait_until(leads, lambda: f"{name or 'somebody'} leads:\n" + "\n".join(node.log()[-600:] for node in cluster.nodes), bound)


def servers_of(nodes):
    return ",".join(node.address for node in nodes)


def members(cluster, node):
    status, out, error = tool(cluster, "--json", "members", server=node.address)
    assert status == 0, (status, error)
    return {member["name"]: member for member in map(json.loads, out.splitlines())}


def said(done, status, *words):
    """It ended so; what went wrong is one line on stderr that has the words."""
    assert done[0] == status and (status in (0, 1) or (done[1] == "" and done[2].count("\n") == 1)), done
    assert all(word in done[1] + done[2] for word in words), (words, done)
    return done


class User(threading.Thread):
    """Takes and gives back a lock by dlockctl, command after command."""

    def __init__(self, cluster, name, nodes):
        super().__init__(daemon=True)
        self.name, self.cluster = name, cluster
        self.variables = {**variables_of(cluster, cluster.directory, servers_of(nodes)), "DLOCK_CLIENT": name}
        self.until, self.commands = threading.Event(), []

    def run(self):
        while not self.until.is_set():
            for command in ("preempt", "release"):
                begin = time.monotonic()
                done = subprocess.run([DLOCKCTL, "--timeout", lasting(30), command, f"of/{self.name}"], capture_output=True, text=True, env=self.variables,
                                      stdin=subprocess.DEVNULL)
                self.commands.append((begin, time.monotonic(), command, done.returncode, done.stderr))

    def finish(self):
        """Every command was a yes. The times of all, in ms."""
        self.until.set()
        self.join()
        wrong = [each for each in self.commands if each[3] != 0]
        assert not wrong, wrong[:3]
        return [1000 * (end - begin) for begin, end, *_ in self.commands]


class Prober(threading.Thread):
    """Preempts and releases a lock of its own at a node that stays: when it was granted."""

    def __init__(self, addresses):
        super().__init__(daemon=True)
        self.addresses, self.grants, self.until, self.error = addresses, [], threading.Event(), None

    def run(self):
        try:
            with wire.Connection(self.addresses[0], "prober", timeout=PATIENCE) as connection:
                while not self.until.is_set():
                    got = connection.preempt("probed", deadline_ms=int(1000 * PATIENCE))
                    assert got.outcome == wire.YES, got
                    gone = connection.release("probed", deadline_ms=int(1000 * PATIENCE), token=got.token)
                    assert gone.outcome == wire.YES, gone
                    self.grants.append(time.monotonic())
        except Exception as error:
            self.error = error

    def finish(self):
        self.until.set()
        self.join()
        if self.error:
            raise self.error

    def pause(self, begin, end):
        """The longest time without a grant in that time, in ms."""
        times = [each for each in self.grants if begin <= each <= end]
        return 1000 * max((later - earlier for earlier, later in zip(times, times[1:])), default=0)


def test_dlockctl_rides_out_leaders_that_are_killed():
    with Cluster() as cluster:
        held = tool(cluster, "--client", "keeper", "preempt", "kept")
        assert held[0] == 0, held
        token = json.loads(tool(cluster, "--json", "check", "kept")[1])["token"]
        # Of users whose list begins with another node each, one is always at the leader.
        users = [User(cluster, f"user-{at}", cluster.nodes[at:] + cluster.nodes[:at]) for at in range(3)]
        for user in users:
            user.start()
        for _ in range(KILLS):
            leader = wait_for_leader(cluster)
            busy = [len(user.commands) for user in users]
            leader.kill()
            wait_until(lambda: all(len(user.commands) > before + 2 for user, before in zip(users, busy)), "every user is served again")
            leader.start()
            cluster.wait_for_voters(3)
        times = [sorted(user.finish()) for user in users]
        print(f"      {KILLS} leaders killed: {sum(map(len, times))} commands of dlockctl, every one a yes; "
              f"median {times[0][len(times[0]) // 2]:.0f} ms, the longest of each user {', '.join(f'{each[-1]:.0f} ms' for each in times)}", flush=True)
        for node in cluster.nodes:
            kept = json.loads(tool(cluster, "--json", "check", "--consistent", "kept", server=node.address)[1])
            assert (kept["owner"], kept["token"]) == ("keeper", token), kept


def test_without_a_majority_dlockctl_says_unknown_and_with_nobody_unreachable():
    with Cluster() as cluster:
        assert tool(cluster, "--client", "keeper", "preempt", "kept")[0] == 0
        survivor = cluster.followers[0]
        wait_until(lambda: tool(cluster, "check", "kept", server=survivor.address)[0] == 0, "the survivor has the lock")
        # The leader last, or the survivor might lead for a moment; and while it believes in a leader it forwards: of what it has begun it knows less.
        for node in reversed(cluster.nodes):
            if node is not survivor:
                node.kill()
        wait_until(lambda: (survivor.status() or {}).get("leader") == "", lambda: f"it knows that nobody leads\n{survivor.log()}")

        # Much longer than 2 s, so that it does not all go to the one that is asked first: its reason is there long before the end.
        def ask(*words, patience=lasting(10)):
            return tool(cluster, "--timeout", patience, *words, server=servers_of(cluster.nodes))

        def all_are_told(*commands):
            """At the same time, since each of them takes all of its patience."""
            with concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
                for done, (_, *what) in zip(pool.map(lambda command: ask(*command[0].split()), commands), commands):
                    said(done, *what)
        all_are_told(("preempt other", 3, survivor.address, "majority"), ("--client keeper release kept", 3, survivor.address),
                     ("check --consistent kept", 3, survivor.address, "majority"), (f"transfer {survivor.name}", 3, survivor.address, "it may still happen"),
                     ("remove leader", 3, survivor.address, "it may still happen"))
        said(ask("check", "kept"), 0, "owner keeper")
        said(ask("check", "other"), 1, "free")
        said(ask("status"), 0, "none known with a majority", "changes wait")
        state = json.loads(ask("--json", "status")[1])
        assert (state["majority"], state["voters_connected"]) == (False, None), state
        seen = members(cluster, survivor)
        assert [seen[node.name]["state"] for node in cluster.nodes] == ["not connected", "connected", "not connected"], seen
        assert all(member["behind"] is None and member["role"] == "voter" for member in seen.values()), seen
        cluster.leader.start()
        said(ask("preempt", "other", patience=lasting(30)), 0, "granted")
        said(ask("check", "--consistent", "other", patience=lasting(30)), 0, "owner")
        for node in running(cluster):
            node.kill()
        all_are_told(*((command, 4) for command in ("preempt x", "check --consistent x", "transfer leader", "remove leader", "members")))


test_without_a_majority_dlockctl_says_unknown_and_with_nobody_unreachable.takes_long = True


def test_a_leader_that_loses_its_majority_says_so_of_what_it_has_begun():
    # Asked before it knows, it knows before it has to answer.
    with Cluster(settings=f"[election]\ntimeout = {lasting(4)}\n") as cluster, cluster.leader.client("alice", timeout=2 * PATIENCE) as alice:
        for node in cluster.followers:
            node.process.send_signal(signal.SIGSTOP)
        alice.send(wire.PREEMPT, wire.request_body(wire.PREEMPT, ms(8), "begun", os.urandom(16), 1))
        # It waits for the node a little longer than that has time: where all is slow not long enough for its reason.
        said(tool(cluster, "--timeout", lasting(8), "preempt", "begun-too", server=cluster.leader.address), 3, cluster.leader.address, "it may have happened or not")
        told = wire.Result(wire.Reader(alice.receive()[2]))
        assert told.outcome == wire.UNKNOWN and "no leader with a majority any more: it may have happened or not" in told.reason, told


def test_a_transfer_by_hand_is_for_good_until_the_target_dies():
    with Cluster(settings=STEADY) as cluster:
        by_name = {node.name: node for node in cluster.nodes}
        said(tool(cluster, "transfer", "nobody"), 2, "no member has this name", "dlockctl members")
        said(tool(cluster, "transfer", "leader", user=1001), 2, "root")
        # At a node that is not the leader, and not the target either.
        said(tool(cluster, "transfer", "follower-1", server=by_name["follower-2"].address), 0, "follower-1 leads")
        end = time.monotonic() + RETURN_S + 3
        assert wait_for_leader(cluster).name == "follower-1"
        seen = members(cluster, by_name["follower-1"])
        assert seen["follower-1"]["role"] == "leader" and seen["leader"]["preferred"], seen
        # A new leader learns only now how far the others are.
        wait_until(lambda: all(member["behind"] == 0 and member["state"] == "connected" for member in members(cluster, by_name["follower-1"]).values()),
                   lambda: f"all are connected and level: {members(cluster, by_name['follower-1'])}")
        state = json.loads(tool(cluster, "--json", "status", server=by_name["follower-1"].address)[1])
        assert (state["majority"], state["voters_connected"]) == (True, 3), state
        # Asked again it stays where it is; by the network, too, since the other end is on this host.
        said(tool(cluster, "--json", "transfer", "follower-1", server=by_name["leader"].tcp), 0, '{"leader":"follower-1"}')
        while time.monotonic() < end:
            assert wait_for_leader(cluster).name == "follower-1"
            time.sleep(0.1)
        by_name["follower-1"].kill()
        begin = time.monotonic()
        wait_for_leader(cluster, "leader", RETURN_S + 2 * PATIENCE)
        print(f"      leadership was back at the preferred node {time.monotonic() - begin:.1f} s after the other died", flush=True)


def test_every_node_tells_its_journal_who_is_a_member_who_was_handed_leadership_and_that_it_was_paused():
    with Cluster(settings=f"[election]\ntimeout = {lasting(4)}\n") as cluster:
        leader, first, second = cluster.nodes
        ids = {name: member["id"] for name, member in members(cluster, leader).items()}
        for name, journal in (("follower-1", leader.log), ("follower-2", leader.log), ("this node", first.log)):
            wait_until(lambda: f"{name} votes now\n" in journal(), lambda: f"{name} votes\n{journal()}")
        assert f"follower-1 is a member now, as node {ids['follower-1']}\n" in leader.log(), leader.log()
        assert leader.log().count("follower-1 asks from") == 1, leader.log()
        said(tool(cluster, "transfer", "follower-1"), 0)
        assert "handing leadership over to follower-1\n" in leader.log(), leader.log()
        first.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: "this node leads" in leader.log().split("handing")[1] + second.log(), "another leads")
        finally:
            first.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "this node did not run for " in first.log(), lambda: f"it notices that it was paused\n{first.log()}")
        cluster.wait_for_voters(3)
        said(tool(cluster, "remove", "follower-2"), 0)
        for node in (leader, first):
            wait_until(lambda: f"follower-2, which was node {ids['follower-2']}, is no member any more\n" in node.log(), lambda: node.log())


def empty(node):
    for file in node.data.iterdir():
        file.unlink()


def is_removed(node):
    return (node.status() or {}).get("role") == "removed"


def comes_back_as_a_new_node(cluster, node, join):
    """Its old database is refused, with what to do; that done, it is a voter again."""
    wait_until(lambda: GONE in node.log(), lambda: f"{node.name} says that it was removed\n{node.log()}")
    said(tool(cluster, "--timeout", lasting(3), "preempt", "at/removed", server=node.address), 3)
    wait_until(lambda: is_removed(node), lambda: f"{node.name} knows that it was removed: {node.status()}")
    assert "role     removed\n" in tool(cluster, "status", server=node.address)[1]
    node.stop()
    before = node.log().count(GONE)
    node.start()
    wait_until(lambda: node.log().count(GONE) > before, lambda: f"{node.name} says so at every start\n{node.log()}")
    wait_until(lambda: is_removed(node), lambda: f"{node.name} knows that it was removed: {node.status()}")
    node.kill()
    empty(node)
    node.configure([join.peer])
    node.start()
    cluster.wait_for_voters(3)


def test_nodes_that_stop_at_the_same_time_do_not_hand_leadership_to_and_fro():
    for stops in (("leader", "follower-1"), ("leader", "follower-1", "follower-2")):
        with Cluster(followers=2, settings=STEADY) as cluster:
            term = wait_for_leader(cluster, "leader").status()["term"]
            stopping = [node for node in cluster.nodes if node.name in stops]
            for node in stopping:
                node.process.send_signal(signal.SIGTERM)
            assert [node.wait_for_exit() for node in stopping] == [0] * len(stopping)
            led = sum(node.log().count("this node leads") for node in cluster.nodes)
            assert led <= 3, (term, [node.log()[-1500:] for node in cluster.nodes])


def test_live_dead_and_leading_nodes_are_removed_and_join_again():
    with Cluster() as cluster:
        leader, first, second = cluster.nodes
        assert tool(cluster, "--client", "keeper", "preempt", "kept")[0] == 0
        said(tool(cluster, "remove", "nobody"), 2, "no member has this name")
        said(tool(cluster, "remove", "follower-2", user=1001), 2, "root")
        ids = {name: member["id"] for name, member in members(cluster, leader).items()}
        # A live one, asked at itself.
        said(tool(cluster, "remove", "follower-2", server=second.address), 0, "follower-2 is no member any more", "empty its state directory")
        assert set(members(cluster, leader)) == {"leader", "follower-1"}
        comes_back_as_a_new_node(cluster, second, leader)
        assert members(cluster, leader)["follower-2"]["id"] > max(ids.values())
        # A dead one.
        first.kill()
        wait_until(lambda: members(cluster, leader)["follower-1"]["state"] == "not connected", "the leader misses it")
        said(tool(cluster, "remove", "follower-2", server=leader.address), 2, "too few of the other voters")
        said(tool(cluster, "remove", "follower-1", server=leader.address), 0, "2 are left, of them 2 vote")
        said(tool(cluster, "remove", "follower-1", server=leader.address), 2, "no member has this name")
        first.start()
        comes_back_as_a_new_node(cluster, first, leader)
        # The leader itself, asked at itself: it hands over, and is taken out by the next.
        said(tool(cluster, "--json", "remove", "leader", server=leader.address), 0, '{"removed":"leader"}')
        next_leader = wait_for_leader(cluster)
        assert next_leader is not leader and set(members(cluster, next_leader)) == {"follower-1", "follower-2"}
        assert tool(cluster, "preempt", "after", server=first.address)[0] == 0
        comes_back_as_a_new_node(cluster, leader, next_leader)
        for node in cluster.nodes:
            said(tool(cluster, "check", "--consistent", "kept", server=node.address), 0, "owner keeper")
        # It is the preferred one again: dlock-leader is what it is called.
        wait_for_leader(cluster, "leader", RETURN_S + 2 * PATIENCE)
        # The last voter is not removed.
        for node in (first, second):
            said(tool(cluster, "remove", node.name, server=leader.address), 0)
        said(tool(cluster, "remove", "leader", server=leader.address), 2, "only voter")
        assert tool(cluster, "preempt", "alone", server=leader.address)[0] == 0


test_live_dead_and_leading_nodes_are_removed_and_join_again.takes_long = True


def test_a_removed_node_that_runs_on_or_is_started_again_does_not_wake_who_is_stopped():
    with Cluster() as cluster:
        leader, first, second = cluster.nodes
        said(tool(cluster, "remove", "follower-2", server=leader.address), 0)
        wait_until(lambda: is_removed(second), "it knows that it is removed")
        for again in (False, True):
            if again:
                second.stop()
                begin = len(second.log())
                second.start()
                wait_until(lambda: all(re.search(f"{node.name} at .* refused this node: not a member", second.log()[begin:]) for node in (leader, first)),
                           lambda: f"both others tell it\n{second.log()}")
            leader.stop()
            # As its socket unit would, which starts the node for whoever comes.
            host, port = leader.peer.split(":")
            with socket.create_server((host, int(port))) as listener:
                listener.settimeout(3 * REDIAL_S)
                try:
                    peer = listener.accept()[1]
                except TimeoutError:
                    peer = None
            assert not peer, f"somebody dials who was stopped\n{first.log()[-600:]}\n{second.log()[-600:]}"
            wait_until(lambda: is_removed(second), lambda: f"it is removed: {second.status()}")
            leader.start()
            wait_until(leader.is_ready, lambda: f"it is back\n{leader.log()}")


test_a_removed_node_that_runs_on_or_is_started_again_does_not_wake_who_is_stopped.takes_long = True


def test_pain_4_a_failover_loses_no_lock_that_was_granted_and_none_is_granted_that_it_could_lose():
    with Cluster() as cluster, cluster.leader.client("alice") as alice:
        leader, first, second = cluster.nodes
        # On two disks, of which one is lost with the leader: the node that was away must not lead without it.
        second.kill()
        kept = alice.preempt("kept")
        assert kept.outcome == wire.YES, kept
        # On the leader's disk alone: it is not said to be granted.
        first.process.send_signal(signal.SIGSTOP)
        begun = alice.preempt("begun", deadline_ms=1000)
        assert begun.outcome == wire.UNKNOWN, begun
        leader.kill()
        second.start()
        first.process.send_signal(signal.SIGCONT)
        for node in (first, second):
            with node.client("bob", timeout=2 * PATIENCE) as bob:
                got = bob.preempt("kept", deadline_ms=int(1000 * PATIENCE))
                assert (got.outcome, got.owner, got.token) == (wire.NO, "alice", kept.token), got


def test_pain_17_an_old_answer_says_how_old_it_is_and_who_wants_none_gets_none():
    with Cluster() as cluster, cluster.leader.client("alice") as alice, cluster.leader.client("bob") as bob:
        leader, first, second = cluster.nodes
        before = alice.preempt("x")
        wait_until(lambda: first.sql("SELECT base_index FROM meta")[0][0] >= before.index, "the follower has it in its tables, on disk")
        first.kill()
        assert alice.release("x").outcome == wire.YES
        after = bob.preempt("x")
        assert after.outcome == wire.YES, after
        for node in (leader, second):
            node.process.send_signal(signal.SIGSTOP)
        # It has what it had, and hears of nothing new.
        first.start()
        with first.client("reader", timeout=2 * PATIENCE) as reader:
            old = reader.check("x")
            assert (old.outcome, old.owner, old.token) == (wire.YES, "alice", before.token), old
            assert before.index <= old.index < after.index and old.leader_age_ms == -1, (before, old, after)
            # Whoever has seen a later index, or wants what holds now, is not told what is over.
            assert reader.check("x", min_index=after.index, deadline_ms=500).outcome == wire.UNKNOWN
            assert reader.check("x", consistent=True, deadline_ms=500).outcome == wire.UNKNOWN
            said(tool(cluster, "check", "x", server=first.address), 0, f"as of entry {old.index}", "never heard from a leader")
            said(tool(cluster, "check", "--max-age", "1h", "x", server=first.address), 3, "too old")
            for node in (leader, second):
                node.process.send_signal(signal.SIGCONT)
            new = reader.check("x", consistent=True, deadline_ms=int(1000 * PATIENCE))
            assert (new.outcome, new.owner, new.token) == (wire.YES, "bob", after.token), new


def test_a_consistent_check_sees_the_newest_change_from_any_node():
    dice = random.Random(1)
    with Cluster() as cluster:
        clients = [node.client(f"client-{node.name}") for node in cluster.nodes]
        for number in range(60):
            writer = dice.choice(clients)
            got = writer.preempt("x") if number % 2 == 0 else owner.release("x")
            owner = writer if number % 2 == 0 else owner
            assert got.outcome == wire.YES, got
            for reader in clients:
                seen = reader.check("x", consistent=True)
                assert seen.index >= got.index, (seen, got)
                assert (seen.owner, seen.token) == ((owner.client, got.token) if number % 2 == 0 else ("", 0)), (seen, got)


def test_what_reached_a_node_that_stood_still_is_asked_when_it_goes_on():
    with Cluster(followers=0) as cluster, cluster.leader.client("early") as client:
        for number in range(3):
            cluster.leader.process.send_signal(signal.SIGSTOP)
            begin, handle = time.monotonic(), os.urandom(16)
            client.send(wire.PREEMPT, wire.request_body(wire.PREEMPT, 2500, f"job/{number}", handle, 1))
            # There is no event to wait for in a node that stands still, for longer than its client has patience.
            while time.monotonic() < begin + 3:
                time.sleep(0.1)
            cluster.leader.process.send_signal(signal.SIGCONT)
            assert client.receive()[2][0] == wire.YES


def test_pain_17_a_leader_that_was_stopped_and_deposed_gives_no_old_answer():
    with Cluster() as cluster:
        old = cluster.leader
        with old.client("alice") as alice, old.client("reader", timeout=PATIENCE) as reader:
            assert alice.preempt("x").outcome == wire.YES
            old.process.send_signal(signal.SIGSTOP)
            others = [node for node in cluster.nodes if node is not old]
            wait_until(lambda: any((node.status() or {}).get("role") == "leader" for node in others), "another one leads")
            for command, client in (("release", "alice"), ("preempt", "bob")):
                said(tool(cluster, "--timeout", lasting(30), "--client", client, command, "x", server=servers_of(others)), 0)
            # The question is there when it wakes up and takes itself for the leader.
            reader.send(wire.CHECK, wire.request_body(wire.CHECK, int(1000 * PATIENCE), "x", consistent=True))
            old.process.send_signal(signal.SIGCONT)
            kind, _, body = reader.receive()
            assert kind == wire.RESULT
            seen = wire.Result(wire.Reader(body))
            assert (seen.outcome, seen.owner) == (wire.YES, "bob"), seen


def test_a_restart_of_the_leader_under_load_is_a_short_pause():
    with Cluster() as cluster:
        assert tool(cluster, "--client", "keeper", "preempt", "kept")[0] == 0
        token = json.loads(tool(cluster, "--json", "check", "kept")[1])["token"]
        seconds = RETURN_S + 15
        bench = subprocess.Popen([DLOCKCTL, "--json", "--server", servers_of(cluster.nodes), "--client", "load", "--timeout", lasting(30), "bench", "--clients", "24", "--spread",
                                  "--seconds", str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                 env=variables_of(cluster, cluster.directory))
        prober = Prober([node.address for node in cluster.followers])
        prober.start()
        try:
            wait_until(lambda: len(prober.grants) > 50, "the load is there")
            restarts = [time.monotonic()]
            cluster.leader.stop()
            cluster.leader.start()
            wait_for_leader(cluster, "leader", RETURN_S + 2 * PATIENCE)
            restarts.append(time.monotonic())
            more = len(prober.grants) + 50
            wait_until(lambda: len(prober.grants) > more, "the load goes on")
            out, error = bench.communicate(timeout=seconds + PATIENCE)
        finally:
            bench.kill()
            prober.finish()
        assert (bench.returncode, error) == (0, ""), (bench.returncode, error)
        result = json.loads(out)
        assert result["failures"] == 0 and result["operations"] > 0, result
        print(f"      24 clients, {result['operations']} operations, no failure; the longest pause when the leader stopped {prober.pause(restarts[0], restarts[1] - 3):.0f} ms, "
              f"when it led again {prober.pause(restarts[1] - 3, time.monotonic()):.0f} ms, else {prober.pause(0, restarts[0]):.0f} ms", flush=True)
        for node in cluster.nodes:
            kept = json.loads(tool(cluster, "--json", "check", "--consistent", "kept", server=node.address)[1])
            assert (kept["owner"], kept["token"]) == ("keeper", token), kept
            assert wire.Connection(node.address, "load").list("bench") == []


test_a_restart_of_the_leader_under_load_is_a_short_pause.takes_long = True


def test_who_is_away_to_the_leader_and_had_its_bye_is_linked_with_it_again():
    """Both were stopped, one after the other, and started again before anybody led who could write it down."""
    with Cluster(followers=3) as cluster:
        leader, (*others, late) = cluster.leader, cluster.followers
        late.stop()
        late.configure([others[0].peer])     # nor does it ask there
        for node in others:
            node.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: (leader.status() or {}).get("leader") == "", "it leads no more")
        said_before = late.log().count("link to leader is up")
        late.start()
        wait_until(lambda: late.log().count("link to leader is up") > said_before, "they are linked")
        leader.stop()
        wait_until(lambda: "link to leader is down" in late.log().partition("leader stops\n")[2], late.log)
        late.process.send_signal(signal.SIGSTOP)
        for node in others:
            node.process.send_signal(signal.SIGCONT)
        leader.start()
        wait_until(leader.is_ready, "there is a leader")
        with leader.client("operator") as operator:
            wait_until(lambda: operator.status()["leader"] == "leader" or operator.transfer("leader").outcome == wire.YES, "it leads again")
        late.process.send_signal(signal.SIGCONT)
        cluster.wait_until_equal()
