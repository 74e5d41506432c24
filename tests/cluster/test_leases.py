"""Sessions and leases on real daemons: who renews keeps what it holds, whatever becomes of the servers; who does not loses it."""
import collections
import json
import os
import signal
import threading
import time

import wire
from nodes import PATIENCE, STEADY, Cluster, lasting, ms, wait_until
from test_care import wait_for_leader
from test_tool import tool

MANY = 50000


class Keeper(threading.Thread):
    """A client with one session, which it renews through whichever node answers; it counts on it as libdlock does."""

    def __init__(self, cluster, name, ttl_ms):
        super().__init__(daemon=True)
        self.cluster, self.name, self.ttl = cluster, name, ttl_ms / 1000
        self.until = threading.Event()
        self.answers = collections.Counter()
        self.session = self.ask(lambda client: client.open_session(ttl_ms)).token
        self.deadline = time.monotonic() + self.ttl
        self.late = float("-inf")            # how long after its deadline an answer came, at worst

    def ask(self, question):
        """The answer of the first node that has one."""
        while not self.until.is_set():
            for node in self.cluster.nodes:
                try:
                    with node.client(self.name, timeout=self.ttl / 4) as client:
                        result = question(client)
                except (OSError, wire.Closed, wire.Refused):
                    continue
                if result.outcome in (wire.YES, wire.NO):
                    return result
        return None

    def run(self):
        while not self.until.wait(self.ttl / 10):
            asked = time.monotonic()
            result = self.ask(lambda client: client.renew(self.session, deadline_ms=int(self.ttl * 250)))
            if result is None:
                return
            self.answers[result.outcome] += 1
            if result.outcome == wire.YES:
                self.late = max(self.late, time.monotonic() - self.deadline)
                self.deadline = asked + self.ttl

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.until.set()
        self.join()


def row_of(node, lock):
    """(owner, token), or None: the lock is free there."""
    with node.client() as client:
        held = client.check(lock)
    return (held.owner, held.token) if held.outcome == wire.YES else None


def kinds(node, kind):
    return [index for index, in node.sql(f"SELECT idx FROM log WHERE kind = '{kind}'")]


def test_pain_6_what_a_dead_holder_left_is_free_after_its_time_and_not_before():
    with Cluster() as cluster:
        begin = time.monotonic()
        status, out, error = tool(cluster, "--client", "dead", "preempt", "--ttl", lasting(5), "--lock-delay", "0", "left")
        assert status == 0, (out, error)
        # Its last sign of life was that; the daemons cannot have heard of it before it was begun.
        wait_until(lambda: not row_of(cluster.nodes[0], "left"), "the lock is free")
        assert time.monotonic() - begin > ms(5) / 1000
        # What a majority has is applied, also where the disk is not done yet.
        wait_until(lambda: "expire" in tool(cluster, "history", "left")[1], lambda: f"its end is told: {tool(cluster, 'history', 'left')}")
        wait_until(lambda: kinds(cluster.leader, "expire"), "its end is on the leader's disk")
        assert len(kinds(cluster.leader, "expire")) == 1, kinds(cluster.leader, "expire")
        status, out, error = tool(cluster, "--client", "next", "preempt", "left")
        assert status == 0, (out, error)


def test_pain_11_a_session_and_what_is_held_in_it_ride_out_a_restart_of_every_node():
    with Cluster() as cluster, Keeper(cluster, "keeper", ms(12)) as keeper:
        token = keeper.ask(lambda client: client.preempt("kept", session=keeper.session)).token
        for node in list(cluster.nodes):
            node.stop()
            node.start()
            wait_until(node.is_ready, lambda: f"{node.name} is back\n{node.log()}")
        leader = wait_for_leader(cluster)
        leader.kill()
        wait_for_leader(cluster)
        leader.start()
        cluster.wait_until_equal()
        assert keeper.answers[wire.NO] == 0 and keeper.late < 0, (keeper.answers, keeper.late)
        assert row_of(leader, "kept") == ("keeper", token)
        assert keeper.ask(lambda client: client.close_session(keeper.session)).outcome == wire.YES
        wait_until(lambda: all(not row_of(node, "kept") for node in cluster.nodes), "it is free at every node")


def test_sessions_outlive_the_death_of_all_nodes_and_have_their_whole_time_after_it():
    with Cluster() as cluster:
        with cluster.followers[0].client("one") as client:
            session = client.open_session(ms(5)).token
            assert client.preempt("a", session=session).outcome == wire.YES
            assert client.preempt("b", ttl_ms=ms(5)).outcome == wire.YES
        for node in cluster.nodes:
            node.kill()
        time.sleep(ms(6) / 1000)             # for longer than they live
        begin = time.monotonic()
        for node in cluster.nodes:
            node.start()
        leader = wait_for_leader(cluster)
        assert row_of(leader, "a") and row_of(leader, "b")
        wait_until(lambda: not row_of(leader, "a") and not row_of(leader, "b"), "both are free")
        assert time.monotonic() - begin > ms(5) / 1000


def test_pain_5_a_leader_that_was_stopped_ends_nobody_when_it_goes_on():
    with Cluster(followers=0) as cluster:    # alone, it has lost no leadership meanwhile
        node = cluster.leader
        with node.client("patient", timeout=2 * PATIENCE) as client:
            lease = client.preempt("a", ttl_ms=ms(4)).token
            os.kill(node.process.pid, signal.SIGSTOP)
            try:
                time.sleep(ms(5) / 1000)     # for longer than it lives
                client.send(wire.RENEW, wire.request_body(wire.RENEW, int(1000 * PATIENCE), "", client="patient", session=lease))
            finally:
                os.kill(node.process.pid, signal.SIGCONT)
            kind, _, data = client.receive()
            assert kind == wire.RESULT, kind
            renewed = wire.Result(wire.Reader(data))
            assert renewed.outcome == wire.YES, (renewed, node.log())
            assert not kinds(node, "expire")
            wait_until(lambda: not row_of(node, "a"), "it ends when nobody renews it any more")


def test_pain_5_a_deposed_leader_that_goes_on_ends_nobody():
    with Cluster() as cluster, Keeper(cluster, "keeper", ms(5)) as keeper:
        assert keeper.ask(lambda client: client.preempt("kept", session=keeper.session)).outcome == wire.YES
        for _ in range(2):
            leader = wait_for_leader(cluster)
            os.kill(leader.process.pid, signal.SIGSTOP)
            others = [node for node in cluster.nodes if node is not leader]
            try:
                wait_until(lambda: any((node.status() or {}).get("role") == "leader" for node in others), "another leads")
                time.sleep(ms(6) / 1000)     # until all that it knows of is over
            finally:
                os.kill(leader.process.pid, signal.SIGCONT)
            wait_until(leader.is_ready, lambda: f"it follows\n{leader.log()}")
        assert keeper.answers[wire.NO] == 0, keeper.answers
        assert not kinds(cluster.leader, "expire")


def pipelined(client, frames, bound=2 * PATIENCE):
    """Sends all, and takes as many answers, by tag; not more on their way than a node reads."""
    answers, sent = {}, 0
    end = time.monotonic() + bound
    while len(answers) < len(frames):
        assert time.monotonic() < end, f"{len(answers)} of {len(frames)} answers"
        while sent < len(frames) and sent - len(answers) < 900:
            part = frames[sent:sent + 100]
            client.socket.sendall(b"".join(wire.frame(kind, sent + at, body) for at, (kind, body) in enumerate(part)))
            sent += len(part)
        kind, tag, data = client.receive()
        assert kind == wire.RESULT, kind
        answers[tag] = wire.Result(wire.Reader(data))
    return [answers[at] for at in range(len(frames))]


def test_pain_15_fifty_thousand_sessions_that_are_renewed_leave_no_trace_in_the_log_and_delay_nobody():
    with Cluster(settings=STEADY) as cluster:      # an election leaves a trace
        follower = cluster.followers[0]
        with follower.client("many", timeout=2 * PATIENCE) as client, cluster.leader.client("other") as other:
            # They live for long, since a busy machine may need half a minute to open them all.
            opened = pipelined(client, [(wire.OPEN, wire.request_body(wire.OPEN, int(1000 * PATIENCE), "", os.urandom(16), 1, ttl_ms=ms(300))) for _ in range(MANY)])
            assert all(each.outcome == wire.YES for each in opened), collections.Counter(each.outcome for each in opened)
            begin, last = time.monotonic(), cluster.leader.status()["log_last"]
            waits, stop = [], threading.Event()

            def ask():
                while not stop.is_set():
                    asked = time.monotonic()
                    other.check("nothing", consistent=True)
                    waits.append(time.monotonic() - asked)
            asker = threading.Thread(target=ask, daemon=True)
            asker.start()
            renewed = pipelined(client, [(wire.RENEW, wire.request_body(wire.RENEW, int(1000 * PATIENCE), "", session=each.token)) for each in opened])
            stop.set()
            asker.join()
            took = time.monotonic() - begin
            assert all(each.outcome == wire.YES for each in renewed), collections.Counter(each.outcome for each in renewed)
            after = cluster.leader.sql(f"SELECT idx, term, kind FROM log WHERE idx > {last}")
            assert cluster.leader.status()["log_last"] == last, (last, after)
            waits.sort()
            print(f"      {MANY} sessions renewed one by one through a follower in {took:.1f} s; meanwhile {len(waits)} consistent checks, "
                  f"median {waits[len(waits) // 2] * 1000:.1f} ms, the longest {waits[-1] * 1000:.0f} ms")
            assert took < PATIENCE / 3, f"a third of what sessions live by default: {took:.1f} s"
            # Whoever does not run for a while is late now and then.
            assert waits[len(waits) * 9 // 10] < 1, waits[-100:]


def test_a_session_that_holds_ten_thousand_locks_frees_all_of_them():
    with Cluster() as cluster:
        with cluster.followers[0].client("hoarder", timeout=2 * PATIENCE) as client:
            session = client.open_session(3600000).token
            took = pipelined(client, [(wire.PREEMPT, wire.request_body(wire.PREEMPT, int(1000 * PATIENCE), f"hoard/{at}", os.urandom(16), 1, session=session)) for at in range(10000)])
            assert all(each.outcome == wire.YES for each in took)
            assert client.close_session(session).outcome == wire.YES
        wait_until(lambda: all((node.status() or {}).get("locks") == 0 for node in cluster.nodes), "every lock is free")
        cluster.wait_until_equal()
        assert len(kinds(cluster.leader, "expire")) >= 10000 // 256


def test_nobody_ends_or_uses_the_session_of_another():
    with Cluster() as cluster:
        with cluster.followers[0].client("alice") as alice, cluster.followers[1].client("bob") as bob:
            session = alice.open_session(3600000).token
            assert bob.renew(session).outcome == wire.NO
            assert bob.close_session(session).outcome == wire.NO
            assert bob.preempt("x", session=session).outcome == wire.REJECTED
            assert alice.preempt("x", session=session).outcome == wire.YES
            assert alice.renew(session).outcome == wire.YES


def test_what_contradicts_itself_or_is_cut_short_is_refused_and_changes_nothing():
    handle = bytes(15) + b"1"
    whole = wire.request_body(wire.OPEN, 1000, "", handle, 1, ttl_ms=5000)
    wrong = [(wire.PREEMPT, wire.request_body(wire.PREEMPT, 1000, "x", handle, 1, session=1, ttl_ms=5000)),
             (wire.PREEMPT, wire.request_body(wire.PREEMPT, 1000, "x", handle, 1, ttl_ms=999)),
             (wire.PREEMPT, wire.request_body(wire.PREEMPT, 1000, "x", handle, 1, ttl_ms=86400001)),
             (wire.OPEN, wire.request_body(wire.OPEN, 1000, "", handle, 1, ttl_ms=0)),
             (wire.CLOSE, wire.request_body(wire.CLOSE, 1000, "", handle, 1, session=0)),
             (wire.RENEW, wire.request_body(wire.RENEW, 1000, "", session=0)),
             *((wire.OPEN, whole[:size]) for size in range(0, len(whole), 3)), (wire.OPEN, whole + b"x")]
    with Cluster(followers=0) as cluster:
        for kind, body in wrong:
            with cluster.leader.client("hostile") as client:
                client.send(kind, body)
                assert client.receive()[0] == wire.REFUSAL, (kind, body)
        assert cluster.leader.sql("SELECT * FROM log WHERE kind NOT IN ('noop', 'configuration', 'address')") == []
        with cluster.leader.client("well") as client:
            assert client.open_session(5000).outcome == wire.YES


def test_pain_7_what_is_wanted_once_in_a_period_is_granted_once_in_it_whoever_leads_and_whoever_asks():
    with Cluster() as cluster:
        first, second = (node.address for node in cluster.followers)
        for command in (("preempt", "--once-per", "8s", "soon"), ("release", "soon")):
            assert tool(cluster, "--client", "one", *command, server=first)[0] == 0
        status, out, error = tool(cluster, "--client", "one", "--json", "preempt", "--once-per", "1h", "job", server=first)
        assert status == 0 and '"too_soon":false' in out, (out, error)
        status, out, error = tool(cluster, "--client", "two", "preempt", "--once-per", "1h", "job", server=second)
        assert status == 1 and "held" in out, (out, error)
        assert tool(cluster, "--client", "one", "release", "job", server=first)[0] == 0
        status, out, error = tool(cluster, "--client", "two", "preempt", "--once-per", "1h", "job", server=second)
        assert status == 1 and "within the period already, to one" in out, (out, error)
        cluster.leader.kill()                # and the next one knows of it
        wait_for_leader(cluster)
        status, out, error = tool(cluster, "--client", "two", "--json", "preempt", "--once-per", "1h", "job", server=second)
        assert status == 1 and '"too_soon":true' in out and '"granted":false' in out, (out, error)

        def granted():
            return tool(cluster, "--client", "two", "preempt", "--once-per", "8s", "soon", server=second)[0] == 0
        wait_until(granted, "the period is over")
        rows = map(json.loads, tool(cluster, "--json", "history", "soon", server=second)[1].splitlines())
        once, again = (row["cluster_ms"] for row in rows if row["kind"] == "preempt")
        assert again - once >= 8000, "not before"
