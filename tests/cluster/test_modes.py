"""Locks that are held together: shared by readers, or by so many as there are slots; each who holds one has a hold of its own."""
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import threading

import wire
from nodes import DLOCKCTL, PATIENCE, Cluster, wait_until
from test_care import leader_of, wait_for_leader
from test_queues import Waiter, shown, wait_for_queue
from test_run import HELD, environment_of
from test_tool import tool
from test_watch import told, watch_all

SHARED = 65535
README = pathlib.Path(__file__).parents[2] / "README.md"


def take(cluster, lock, client, *options):
    status, out, error = tool(cluster, "--client", client, "--json", "preempt", *options, lock)
    assert status == 0, (out, error)
    return json.loads(out)["token"]


def tokens_of(cluster, lock, server=None):
    return [hold["token"] for hold in shown(cluster, lock, server)["holders"]]


# --- dlockctl ---


def test_options_that_make_no_sense_are_told():
    with Cluster(followers=0) as cluster:
        for words, what in (("preempt --slots 0 x", "--slots 0: a number from 1 to 4096"), ("preempt --slots 4097 x", "--slots 4097: a number from 1 to 4096"),
                            ("preempt --slots two x", "--slots two: a number"), ("preempt --slots -3 x", "--slots -3: a number"), ("preempt --slots", "option --slots wants a value"),
                            ("preempt --slots 65535 x", "--slots 65535: a number from 1 to 4096"),
                            ("preempt --shared --slots 3 x", "--shared and --slots: one of both"), ("preempt --slots 3 --shared x", "--shared and --slots: one of both"),
                            ("preempt --slots 1 --shared x", "--shared and --slots: one of both"),
                            ("check --shared x", "--shared is for dlockctl preempt, run and hold"), ("list --slots 3", "--slots is for dlockctl preempt, run and hold")):
            status, out, error = tool(cluster, *words.split())
            assert (status, out, error.count("\n")) == (2, "", 1) and what in error, (words, status, error)
        for words in ("run --shared --slots 3 x true", "run x --slots 0 true", "hold --slots 4097 x", "hold --shared --slots 2 x"):
            status, out, error = tool(cluster, *words.split())
            assert (status, out, error.count("\n")) == (125, "", 1) and "would be right" in error, (words, status, error)
        # One slot is a lock like any other.
        assert json.loads(tool(cluster, "--json", "preempt", "--slots", "1", "x")[1])["slots"] == 1
        assert json.loads(tool(cluster, "--json", "check", "x")[1])["slots"] == 1


def test_readers_hold_it_together_and_a_writer_alone():
    with Cluster() as cluster:
        tokens = [take(cluster, "db", f"r{i}", "--shared") for i in range(3)]
        assert tokens == sorted(set(tokens))
        for options, server in ((("db",), 0), (("--slots", "3", "db"), 1), (("--slots", "2", "db"), 2)):
            status, out, error = tool(cluster, "--client", "w", "preempt", *options, server=cluster.nodes[server].address)
            assert (status, error) == (1, "") and out == f"db: held (shared), token {tokens[0]}, owner r0 and 2 others\n", (options, status, out, error)
        refused = json.loads(tool(cluster, "--client", "w", "--json", "preempt", "db")[1])
        assert (refused["granted"], refused["token"], refused["owner"], refused["slots"], refused["holders"]) == (False, None, "r0", "shared", 3), refused
        granted = json.loads(tool(cluster, "--client", "r3", "--json", "preempt", "--shared", "db")[1])
        assert (granted["granted"], granted["slots"], granted["holders"]) == (True, "shared", None), granted
        for client, token in zip(("r0", "r1", "r2", "r3"), (*tokens, granted["token"]), strict=True):
            assert tool(cluster, "--client", "w", "preempt", "db")[0] == 1
            assert tool(cluster, "--client", client, "release", "db")[:2] == (0, f"db: released, token {token}\n")
        status, out, _ = tool(cluster, "--client", "w", "--json", "preempt", "db")
        assert status == 0 and json.loads(out)["slots"] == 1 and json.loads(out)["token"] > granted["token"], out
        status, out, _ = tool(cluster, "--client", "r0", "preempt", "--shared", "db")
        assert status == 1 and re.fullmatch(r"db: held, token \d+, owner w\n", out), out


def test_check_show_and_list_tell_how_and_by_whom_it_is_held():
    with Cluster() as cluster:
        free = json.loads(tool(cluster, "--json", "check", "db")[1])
        assert (free["owner"], free["slots"], free["holders"]) == (None, None, 0), free
        assert shown(cluster, "db")["holders"] == [] and shown(cluster, "db")["slots"] is None
        first, second = take(cluster, "db", "ann", "--shared", "--note", "reads"), take(cluster, "db", "bob", "--shared", "--ttl", "1h")
        third, other = take(cluster, "db", "ann", "--shared"), take(cluster, "of-3", "ann", "--slots", "3")
        checked = json.loads(tool(cluster, "--json", "check", "--consistent", "db")[1])
        assert (checked["owner"], checked["token"], checked["slots"], checked["holders"]) == ("ann", first, "shared", 3), checked
        assert tool(cluster, "check", "db")[1].startswith(f"db: owner ann and 2 others (shared), token {first} (as of entry ")
        assert json.loads(tool(cluster, "--json", "check", "of-3")[1])["slots"] == 3
        # One's own among many.
        for client, expected, token in (("bob", 0, second), ("ann", 0, first), ("eve", 1, first)):
            status, out, _ = tool(cluster, "--client", client, "--json", "check", "--mine", "--consistent", "db")
            assert status == expected and json.loads(out)["token"] == token, (client, status, out)
        for token, expected in ((first, 0), (third, 0), (other, 1)):
            assert tool(cluster, "check", "--consistent", "--token", str(token), "db")[0] == expected, token
        assert tool(cluster, "--client", "ann", "check", "--mine", "--token", str(third), "db")[0] == 0
        assert tool(cluster, "--client", "bob", "check", "--mine", "--token", str(third), "db")[0] == 1

        with Waiter(cluster, "preempt", "--wait", "db", client="w"):
            wait_for_queue(cluster, "db", 1)
            out = tool(cluster, "show", "--consistent", "db")[1]
            assert re.match(r"db\n  held    shared, by 3\n  waiting 1 behind them\n\n  owner   ann\n", out), out
            assert re.findall(r"^  token   (\d+)$", out, re.M) == [str(first), str(second), str(third)] and out.count("as of entry") == 1, out
            assert out.count("  note    reads\n") == 1 and out.count("  lease   of 60 min") == 1, out
            everything = shown(cluster, "db")
            assert (everything["owner"], everything["token"], everything["slots"], everything["waiting"]) == ("ann", first, "shared", 1), everything
            assert [(hold["owner"], hold["token"], hold["note"]) for hold in everything["holders"]] == [("ann", first, "reads"), ("bob", second, None), ("ann", third, None)]
            # A try passes nobody who waits, and is told that.
            assert tool(cluster, "--client", "late", "preempt", "--shared", "db")[0] == 1
            rows = [json.loads(line) for line in tool(cluster, "--json", "list")[1].splitlines()]
            assert [(row["lock"], row["token"], row["slots"], row["holders"], row["waiting"]) for row in rows] == [
                ("db", first, "shared", 3, 1), ("db", second, "shared", 3, 1), ("db", third, "shared", 3, 1), ("of-3", other, 3, 1, 0)], rows
            lines = tool(cluster, "list")[1].splitlines()
            assert [line[-12:].strip() for line in lines] == ["HOLDERS", "3 shared", "3 shared", "3 shared", "1 of 3"] and len({len(line) for line in lines}) == 1, lines


def test_of_several_holds_the_one_that_is_meant_is_named():
    with Cluster() as cluster:
        first, second, other = take(cluster, "db", "ann", "--shared"), take(cluster, "db", "ann", "--shared"), take(cluster, "db", "bob", "--shared")
        status, out, error = tool(cluster, "--client", "ann", "release", "db")
        assert (status, out, error) == (2, "", f"dlockctl: db: you hold it 2 times, as tokens {first}, {second}: --token TOKEN, of the one that is meant, would be right\n"), error
        assert tool(cluster, "--client", "ann", "release", "--token", str(second), "db")[:2] == (0, f"db: released, token {second}\n")
        assert tokens_of(cluster, "db") == [first, other]
        # Not bob's; and without a token it is clear now which.
        assert tool(cluster, "--client", "ann", "release", "--token", str(other), "db")[0] == 1
        assert tool(cluster, "--client", "ann", "release", "db")[:2] == (0, f"db: released, token {first}\n")
        status, out, _ = tool(cluster, "--client", "ann", "release", "db")
        assert (status, out) == (1, f"db: not released, token {other}, owner bob\n"), out

        third = take(cluster, "db", "ann", "--shared")
        status, out, error = tool(cluster, "break", "--reason", "it hangs", "db", server=cluster.leader.address)
        assert (status, out, error.count("\n")) == (2, "", 1) and f"db: 2 hold it together, as tokens {other} of uid:" in error and f", {third} of uid:" in error, error
        assert tokens_of(cluster, "db") == [other, third]
        status, out, error = tool(cluster, "break", "--reason", "it hangs", "--token", str(other), "db", server=cluster.leader.address)
        assert status == 0 and f"token {other}" in out, (out, error)
        assert tokens_of(cluster, "db") == [third]
        assert tool(cluster, "break", "--reason", "it hangs", "db", server=cluster.leader.address)[0] == 0
        assert tokens_of(cluster, "db") == []
        assert tool(cluster, "break", "--reason", "it hangs", "db", server=cluster.leader.address)[:2] == (1, "db: not broken, nobody owns it\n")


def test_run_tells_with_whom_it_is_held_and_hold_waits_for_all_of_them():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        tokens = [take(cluster, "db", f"r{i}", "--shared") for i in range(3)]
        status, out, error = tool(cluster, "run", "db", "true")
        assert status == HELD and re.fullmatch(rf"dlockctl: db is held \(shared\) by uid:{os.getuid()} on \S+, process {os.getpid()}, and 2 others, the first for \d+\.\d s\n", error), error
        assert tool(cluster, "run", "--shared", "db", "sh", "-c", "exit 7")[0] == 7
        assert tool(cluster, "run", "--slots", "4", "db", "true")[0] == HELD
        holder = stack.enter_context(Waiter(cluster, "hold", "--json", "db"))
        wait_for_queue(cluster, "db", 1)
        # A try passes nobody who waits, and is told so.
        status, out, error = tool(cluster, "run", "--shared", "db", "true")
        assert status == HELD and re.search(r" is held \(shared\) by .*, and 2 others, the first for \d+\.\d s; 1 waits for it\n", error), error
        reader = stack.enter_context(Waiter(cluster, "hold", "--json", "--shared", "db"))
        wait_for_queue(cluster, "db", 2)
        for i, token in enumerate(tokens):
            assert holder.process.poll() is None and shown(cluster, "db")["waiting"] == 2
            assert tool(cluster, "--client", f"r{i}", "release", "--token", str(token), "db")[0] == 0
        said = json.loads(holder.process.stdout.readline())
        assert said["held"] and shown(cluster, "db")["slots"] == 1 and shown(cluster, "db")["waiting"] == 1, said
        holder.process.send_signal(signal.SIGTERM)
        assert holder.finish()[0] == 0
        assert json.loads(reader.process.stdout.readline())["held"] and shown(cluster, "db")["slots"] == "shared"
        reader.process.send_signal(signal.SIGTERM)
        assert reader.finish()[0] == 0


def test_watch_tells_each_hold_and_observe_nobody_who_shares():
    with Cluster() as cluster:
        first = take(cluster, "db", "ann", "--shared")
        with Waiter(cluster, "watch", "--json", "--count", "5", "db") as watcher, Waiter(cluster, "observe", "--json", "--count", "3", "db") as observer:
            kinds = [json.loads(watcher.process.stdout.readline()) for _ in range(2)]
            assert [line["kind"] for line in kinds] == ["held", "complete"] and kinds[0]["slots"] == "shared" and kinds[1]["slots"] is None, kinds
            nobody = json.loads(observer.process.stdout.readline())
            assert nobody["kind"] == "complete" and nobody["owner"] is None, nobody
            second = take(cluster, "db", "ann", "--shared")
            for token in (first, second):
                assert tool(cluster, "--client", "ann", "release", "--token", str(token), "db")[0] == 0
            leader = take(cluster, "db", "bob")
            assert tool(cluster, "--client", "bob", "release", "db")[0] == 0
            status, out, error = watcher.finish()
            lines = [json.loads(line) for line in out.splitlines()]
            assert [(line["kind"], line["token"], line["slots"]) for line in lines] == [
                ("granted", second, "shared"), ("released", first, "shared"), ("released", second, "shared"), ("granted", leader, 1), ("released", leader, 1)], lines
            status, out, error = observer.finish()
            assert [(line["kind"], line["token"]) for line in map(json.loads, out.splitlines())] == [("granted", leader), ("released", leader)], out
        third = take(cluster, "db", "ann", "--slots", "3")
        with Waiter(cluster, "watch", "db") as watcher:
            assert re.search(rf"  held      db +ann  token {third} \(3 slots\)\n$", watcher.process.stdout.readline())
        status, out, error = tool(cluster, "observe", "--once", "--for", "1s", "db")
        assert (status, out) == (1, "") and "nobody leads db" in error, (status, out, error)
        with Waiter(cluster, "observe", "--once", "db") as observer:
            assert tool(cluster, "--client", "ann", "release", "db")[0] == 0
            leader = take(cluster, "db", "bob")
            status, out, error = observer.finish()
            assert status == 0 and out.startswith("db is led by bob") and f"token {leader}" in out, (status, out, error)


# --- what holds of them ---


class Readers:
    """Runs that share a lock, one after the other in each of so many lines, without a gap in which nobody holds it."""

    def __init__(self, cluster, lock, count):
        self.lines = [subprocess.Popen(["sh", "-c", f'while :; do "$DLOCKCTL" run --wait --shared {lock} sleep 0.3 || exit; done'], env=environment_of(cluster),
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for line in self.lines:
            with contextlib.suppress(OSError):
                os.killpg(line.pid, signal.SIGKILL)
            line.wait()


def test_a_writer_is_not_starved_by_a_stream_of_readers():
    with Cluster() as cluster, Readers(cluster, "db", 4):
        wait_until(lambda: len(shown(cluster, "db")["holders"]) >= 2, "readers hold it together")
        for _ in range(2):
            before = cluster.leader.status()["log_last"]
            status, out, error = tool(cluster, "--client", "w", "--json", "preempt", "--wait=20s", "db")
            assert status == 0, (out, error)
            token = json.loads(out)["token"]
            with cluster.leader.client() as client:
                events = [event for event in client.history("db") if event[0] > before]
            # Of those who came behind it nobody is before it; those who had the lock leave, and no more.
            came = next(index for index, kind, _, who, _ in events if who == "w" and kind in ("wait", "preempt"))
            late = [event for event in events if came < event[0] < token and event[1] == "preempt"]
            assert late == [], events
            assert shown(cluster, "db")["slots"] == 1
            assert tool(cluster, "--client", "w", "release", "db")[0] == 0
            wait_until(lambda: len(shown(cluster, "db")["holders"]) >= 1 and shown(cluster, "db")["slots"] == "shared", "readers have it again")


# Says in a file when it begins and when it ends, on the clock of all.
JOB = 'date +"%s.%N begin" >>"$D/times"; sleep 0.4; date +"%s.%N end" >>"$D/times"'


def most_at_once(cluster):
    """How many of JOB there were at the same time at most, and how many in all."""
    moments = sorted((float(line.split()[0]), line.split()[1] == "begin") for line in (cluster.directory / "times").read_text().splitlines())
    now = most = 0
    for _, begins in moments:
        now += 1 if begins else -1
        most = max(most, now)
    assert now == 0
    return most, sum(begins for _, begins in moments)


def test_no_more_run_at_once_than_there_are_slots():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        jobs = [stack.enter_context(Waiter(cluster, "run", "--wait=30s", "--slots", "3", "build", "sh", "-c", JOB, server=cluster.nodes[i % 3].address)) for i in range(8)]
        for job in jobs:
            status, out, error = job.finish()
            assert status == 0, (status, out, error)
        most, count = most_at_once(cluster)
        assert most == 3 and count == 8, (most, count)
        # Never more, as the log has it, too.
        held, most = set(), 0
        with cluster.leader.client() as client:
            for event in watch_all(client, 0, 16, "build"):
                (held.add if event.kind == wire.GRANTED else held.discard)(event.token)
                assert event.slots == 3
                most = max(most, len(held))
        assert most == 3 and not held


def test_the_slot_of_one_that_is_killed_goes_to_the_next_when_its_time_is_over():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        holders = [stack.enter_context(Waiter(cluster, "hold", "--ttl", "2s", "--slots", "2", "build")) for _ in range(2)]
        for holder in holders:
            assert "held" in holder.process.stdout.readline()
        next_one = stack.enter_context(Waiter(cluster, "--json", "preempt", "--wait", "--slots", "2", "build", client="next"))
        wait_for_queue(cluster, "build", 1)
        before = tokens_of(cluster, "build")
        holders[0].process.kill()
        status, out, error = next_one.finish()
        assert status == 0, (out, error)
        after = tokens_of(cluster, "build")
        assert len(after) == 2 and after[1] == json.loads(out)["token"] and after[0] in before, (before, after)
        assert holders[1].process.poll() is None


def servers(cluster):
    return ",".join(node.address for node in cluster.nodes)


def test_holders_and_waiters_of_all_modes_outlive_the_leader_and_a_restart_of_all():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        wait_for_leader(cluster)
        everywhere = servers(cluster)
        held = {"shared": [take(cluster, "shared", f"s{i}", "--shared") for i in range(3)], "slots": [take(cluster, "slots", f"n{i}", "--slots", "2") for i in range(2)],
                "alone": [take(cluster, "alone", "a")]}
        waiters = {}
        for lock, queue in {"shared": ((), ("--shared",)), "slots": (("--slots", "2"), ("--shared",)), "alone": (("--shared",), ("--shared",), ())}.items():
            waiters[lock] = []
            for i, options in enumerate(queue):
                waiters[lock].append(stack.enter_context(Waiter(cluster, "--timeout", "1min", "--json", "preempt", "--ttl", "1min", "--wait", *options, lock, client=f"{lock}-{i}", server=everywhere)))
                wait_for_queue(cluster, lock, i + 1, everywhere)

        def as_it_was():
            return all(tokens_of(cluster, lock, everywhere) == tokens and shown(cluster, lock, everywhere)["waiting"] == len(waiters[lock]) for lock, tokens in held.items())
        assert as_it_was()
        cluster.leader.kill()
        wait_until(as_it_was, "all is as it was, after the leader")
        cluster.leader.start()
        cluster.wait_for_voters(3)
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        cluster.wait_for_voters(3)
        wait_until(as_it_was, "all is as it was, after all of them")
        assert [shown(cluster, lock)["slots"] for lock in held] == ["shared", 2, 1]

        def release(client, lock, token):
            assert tool(cluster, "--client", client, "release", "--token", str(token), lock, server=everywhere)[0] == 0

        def granted(waiter):
            status, out, error = waiter.finish()
            assert status == 0, (out, error)
            return json.loads(out)["token"]
        # One slot: one more. The other mode goes on waiting.
        release("n0", "slots", held["slots"][0])
        token = granted(waiters["slots"][0])
        assert tokens_of(cluster, "slots") == [held["slots"][1], token] and shown(cluster, "slots")["waiting"] == 1
        # All readers have to leave before the writer, and the reader behind it waits for that one.
        for i, token in enumerate(held["shared"]):
            assert all(waiter.process.poll() is None for waiter in waiters["shared"])
            release(f"s{i}", "shared", token)
        token = granted(waiters["shared"][0])
        assert tokens_of(cluster, "shared") == [token] and waiters["shared"][1].process.poll() is None
        release("shared-0", "shared", token)
        granted(waiters["shared"][1])
        # Those who are next to each other in the queue, and go together, come in together.
        release("a", "alone", held["alone"][0])
        tokens = [granted(waiter) for waiter in waiters["alone"][:2]]
        assert tokens_of(cluster, "alone") == tokens and shown(cluster, "alone")["waiting"] == 1 and waiters["alone"][2].process.poll() is None


class Client(threading.Thread):
    """Wants one of two locks, now in this way and now in that, as a lease that it gives back, until it is told to stop."""

    def __init__(self, cluster, number, stop):
        super().__init__()
        self.addresses = [node.address for node in cluster.nodes]
        self.stop, self.chance, self.name = stop, random.Random(number), f"c{number}"
        self.granted = collections.Counter()

    def run(self):
        while not self.stop.is_set():
            with contextlib.suppress(OSError, wire.Closed, wire.Refused):
                with wire.Connection(self.chance.choice(self.addresses), self.name, timeout=5) as connection:
                    while not self.stop.is_set():
                        self.turn(connection)
            self.stop.wait(0.05)

    def turn(self, connection):
        lock, slots = self.chance.choice(("a", "b")), self.chance.choice((0, SHARED, SHARED, 2, 3, 3))
        result = connection.preempt(lock, slots=slots, ttl_ms=2000, wait=self.chance.random() < 0.6, deadline_ms=3000)
        hold = result.token
        if result.outcome == wire.WAITING:
            result = wire.Result(connection.ask(wire.AWAIT, wire.request_body(wire.AWAIT, 3000, lock, token=hold), wire.RESULT))
        self.granted[slots] += result.outcome == wire.YES
        if result.outcome in (wire.YES, wire.WAITING):
            self.stop.wait(self.chance.random() * 0.02)
            connection.release(lock, token=hold)


def judge(events):
    """Of each lock, in the order of the log: those who hold it together said the same, and are no more than that. Most at once, of each way."""
    held, most = collections.defaultdict(dict), collections.Counter()
    for event in events:
        holds = held[event.lock]
        if event.kind != wire.GRANTED:
            assert holds.pop(event.token) == event.slots, event
            continue
        assert event.token > max(holds, default=0), event
        holds[event.token] = event.slots
        assert set(holds.values()) == {event.slots} and len(holds) <= {0: 1, SHARED: 4096}.get(event.slots, event.slots), (event, holds)
        most[event.slots] = max(most[event.slots], len(holds))
    return most


def test_whoever_asks_in_whatever_way_nobody_holds_it_who_may_not():
    with Cluster() as cluster:
        wait_for_leader(cluster)
        stop, spared = threading.Event(), set(cluster.nodes)
        clients = [Client(cluster, number, stop) for number in range(12)]
        for client in clients:
            client.start()
        try:
            for _ in range(2):
                granted = sum((client.granted for client in clients), collections.Counter())
                # In every way, before the leader is killed and after it.
                wait_until(lambda: all(sum(client.granted[slots] for client in clients) > granted[slots] + 10 for slots in (0, 2, 3, SHARED)), "all of them get something")
                victim = leader_of(cluster)
                spared.discard(victim)
                victim.kill()
                wait_until(lambda: leader_of(cluster), "another leads")
                for node in cluster.nodes:
                    if node.process.poll() is not None:
                        node.start()
                cluster.wait_for_voters(3)
        finally:
            stop.set()
            for client in clients:
                client.join(PATIENCE)
        # At the end it is all given back, or ends by itself.
        wait_until(lambda: not shown(cluster, "a")["holders"] and not shown(cluster, "b")["holders"], "nobody holds anything")
        with spared.pop().client() as client:
            most = judge(everything_told(client))
        assert most[0] == 1 and most[2] == 2 and most[3] == 3 and most[SHARED] > 1, most


def everything_told(client):
    """What a node remembers that was never started anew, up to what it has applied now."""
    events, after, end = [], 0, client.status()["applied"]
    while after < end:
        page = client.watch("", after)
        assert page.outcome == wire.YES, page.reason
        events += page.events
        after = page.next_after
    return events


# --- over the wire ---


def test_a_session_that_has_it_gets_it_again_and_in_no_other_mode():
    with Cluster() as cluster, cluster.nodes[1].client("me") as client:
        session, other = client.open_session(60000).token, client.open_session(60000).token
        for lock, slots, others in (("s", SHARED, (0, 3)), ("n", 3, (0, 4, SHARED)), ("x", 0, (2, SHARED))):
            first = client.preempt(lock, session=session, slots=slots)
            assert first.outcome == wire.YES, first
            again = client.preempt(lock, session=session, slots=slots)
            assert (again.outcome, again.token) == (wire.REENTERED, first.token), again
            for mode in others:
                for wait in (False, True):
                    refused = client.preempt(lock, session=session, slots=mode, wait=wait)
                    assert (refused.outcome, refused.token, refused.owner) == (wire.NO, first.token, "me"), (lock, mode, wait, refused)
            # Another session of the same client is another holder, where there may be one.
            second = client.preempt(lock, session=other, slots=slots)
            assert second.outcome == (wire.YES if slots else wire.NO), second
            if slots:
                assert second.token > first.token and client.check(lock, consistent=True).holders == 2
        assert client.close_session(session).outcome == wire.YES
        assert [client.check(lock, consistent=True).holders for lock in ("s", "n", "x")] == [1, 1, 0]


def test_a_check_names_the_hold_that_is_asked_about():
    with Cluster() as cluster, cluster.nodes[1].client("ann") as ann, cluster.nodes[2].client("bob") as bob:
        first, second = ann.preempt("db", slots=SHARED).token, bob.preempt("db", slots=SHARED).token
        third = bob.preempt("db", slots=SHARED).token
        for client, token, expected in (("", 0, first), ("bob", 0, second), ("ann", 0, first), ("eve", 0, first), ("ann", third, third), ("ann", 99999, first)):
            result = ann.check("db", consistent=True, client=client, token=token)
            assert (result.outcome, result.token, result.slots, result.holders) == (wire.YES, expected, SHARED, 3), (client, token, result)
        free = ann.check("other", consistent=True)
        assert (free.outcome, free.slots, free.holders) == (wire.NO, 0, 0), free


def test_many_holders_are_told_page_by_page():
    count = 1500
    with Cluster(followers=1) as cluster, cluster.leader.client("many") as client:
        tokens = [client.preempt("db", slots=SHARED).token for _ in range(count)]
        before, after = client.preempt("da").token, client.preempt("dc").token
        assert client.check("db", consistent=True).holders == count
        rows = client.list()
        assert rows == [("da", "many", before), *(("db", "many", token) for token in tokens), ("dc", "many", after)]
        # A name alone skips all of that name.
        assert client.list_page("", "db")[0] == [("dc", "many", after)]
        first, more = client.show_page("db")
        assert more and first == [("many", token, SHARED, count) for token in tokens[:1000]]
        assert client.show_page("db", tokens[999]) == ([("many", token, SHARED, count) for token in tokens[1000:]], False)
        # Between two of them, behind the last, and of the token of another lock.
        assert client.show_page("db", tokens[-2] + 1)[0] == [] or client.show_page("db", tokens[-2] + 1)[0][0][1] == tokens[-1]
        assert client.show_page("db", tokens[-1]) == client.show_page("db", 2**64 - 1) == ([], False)
        assert client.show_page("db", before)[0] == []
        assert client.list_page("", "db", 10, 0, tokens[700])[0] == [("db", "many", token) for token in tokens[701:711]]
        assert tokens_of(cluster, "db") == tokens
        listed = [json.loads(line) for line in tool(cluster, "--json", "list")[1].splitlines()]
        assert [row["token"] for row in listed] == [before, *tokens, after] and {row["holders"] for row in listed if row["lock"] == "db"} == {count}
        out = tool(cluster, "show", "db")[1]
        assert out.startswith(f"db\n  held    shared, by {count}\n\n") and out.count("  owner   many\n") == count and out.count("as of entry") == 1
        status, _, error = tool(cluster, "--client", "many", "release", "db")
        assert status == 2 and error.count("\n") == 1 and f"you hold it {count} times, as tokens {tokens[0]}, {tokens[1]}, " in error and " ...: --token" in error, error
        told_of = []
        with Waiter(cluster, "watch", "--json", "db") as watcher:
            for line in watcher.process.stdout:
                change = json.loads(line)
                if change["kind"] == "complete":
                    break
                assert (change["kind"], change["slots"]) == ("held", "shared"), change
                told_of.append(change["token"])
        assert told_of == tokens


def test_so_many_hold_it_and_no_more():
    with Cluster(followers=0) as cluster, cluster.leader.client("many") as client:
        tokens = [client.preempt("db", slots=SHARED).token for _ in range(4096)]
        assert client.check("db", consistent=True).holders == 4096 and client.preempt("db", slots=SHARED).outcome == wire.NO
        waiter = client.preempt("db", slots=SHARED, ttl_ms=60000, wait=True)
        assert waiter.outcome == wire.WAITING, waiter
        assert client.release("db", token=tokens[2000]).outcome == wire.YES
        wait_until(lambda: client.check("db", consistent=True).holders == 4096, "who waits has it")
        told_of, more = [], True
        while more:
            page, more = client.show_page("db", told_of[-1][1] if told_of else 0)
            told_of += page
        assert len(told_of) == 4096 and told_of[-1][1] > tokens[-1] and tokens[2000] not in [token for _, token, _, _ in told_of]


def test_each_hold_is_told_to_who_watches():
    with Cluster() as cluster, cluster.nodes[0].client("me") as client:
        first, second = client.preempt("w", slots=2, ttl_ms=1000).token, client.preempt("w", slots=2).token
        waiter = client.preempt("w", slots=2, ttl_ms=60000, wait=True)
        assert waiter.outcome == wire.WAITING, waiter
        for node in cluster.nodes:
            with node.client() as watcher:
                events = watch_all(watcher, 0, 4, "w")
                granted = events[3].token
                assert told(events) == [(wire.GRANTED, "w", first), (wire.GRANTED, "w", second), (wire.EXPIRED, "w", first), (wire.GRANTED, "w", granted)]
                assert {event.slots for event in events} == {2} and granted > second


def test_what_says_nonsense_of_slots_is_malformed():
    with Cluster(followers=0) as cluster:
        for slots in (1, 4097, 65534, 32768):
            client = cluster.leader.client("me")
            with contextlib.closing(client):
                try:
                    client.preempt("x", slots=slots)
                except wire.Closed:
                    pass
                else:
                    raise AssertionError(f"{slots} slots are answered")
        with cluster.leader.client("me") as client:
            assert client.check("x", consistent=True).outcome == wire.NO
            assert client.preempt("x", slots=4096).outcome == wire.YES and client.preempt("y", slots=2).outcome == wire.YES


# --- README ---


def test_the_commands_of_the_readme_do_what_it_says():
    """Readers and writers, at most three at once, and several locks at once: by the letter."""
    part = README.read_text().split("### Together")[1].split("\n### ")[0]
    lines = [line[4:] for line in part.splitlines() if line.startswith("    dlockctl ")]
    reader, writer, builder, mover = lines
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        home = cluster.directory / "bin"
        home.mkdir()
        (home / "dlockctl").symlink_to(DLOCKCTL)
        # What the programs of the examples do does not matter: they say that they begin and end.
        for name in ("read-it", "write-it", "build-it", "move-it"):
            program = home / name
            program.write_text(f'#!/bin/sh\ndate +"%s.%N {name} begin" >>"$D/said"\nsleep 0.5\ndate +"%s.%N {name} end" >>"$D/said"\n')
            program.chmod(0o755)
        environment = environment_of(cluster, PATH=f"{home}:{os.environ['PATH']}")

        def shell(line):
            process = subprocess.Popen(["sh", "-c", line], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process
        for process in [shell(line) for line in (reader, reader, reader, writer, builder, builder, builder, builder, reader, writer, mover, mover)]:
            out = process.communicate(timeout=PATIENCE)[0]
            assert process.returncode == 0, out
        now = {"read-it": 0, "write-it": 0, "build-it": 0, "move-it": 0}
        most = dict(now)
        for line in sorted((cluster.directory / "said").read_text().splitlines()):
            _, name, what = line.split()
            now[name] += 1 if what == "begin" else -1
            most[name] = max(most[name], now[name])
            assert now["write-it"] <= 1 and not (now["write-it"] and now["read-it"]) and now["build-it"] <= 3 and now["move-it"] <= 1, now
        assert most["read-it"] > 1 and most["build-it"] == 3, most
        kinds = [json.loads(line) for line in tool(cluster, "--json", "history", "disk/a")[1].splitlines()]
        assert kinds and all(kind["detail"] == "with disk/b" for kind in kinds if kind["kind"] in ("preempt", "wait")), kinds
