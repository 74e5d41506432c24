"""Watching: what becomes of locks is told in the order of the log, by whichever node, once, and nothing is left out unsaid (W1 to W4)."""
import fcntl
import json
import resource
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import wire
from nodes import DLOCKCTL, PATIENCE, Cluster, wait_until
from test_care import servers_of
from test_disk import write_entries
from test_tool import tool, variables_of

def told(events):
    """What is told of an event, without when."""
    return [(event.kind, event.lock, event.token) for event in events]


def watch_all(client, after, count, name="", **more):
    """Page after page, until so many events were told."""
    events = []
    while len(events) < count:
        page = client.watch(name, after, **more)
        assert page.outcome == wire.YES, page.reason
        assert [event.index for event in page.events] == sorted(event.index for event in page.events)
        assert all(after < event.index <= page.next_after for event in page.events)
        events += page.events
        after = page.next_after
    assert len(events) == count
    return events


def test_watch_tells_what_becomes_of_locks_in_order():
    with Cluster() as cluster:
        with cluster.nodes[0].client("me") as client, cluster.nodes[1].client("you") as other:
            a = client.preempt("w/a")
            lease = client.preempt("w/lease", ttl_ms=1000)
            client.preempt("other")
            client.release("w/a")
            session = other.open_session(60000)
            b = other.preempt("w/b", session=session.token)
            other.close_session(session.token)
            want = [(wire.GRANTED, "w/a", a.token), (wire.GRANTED, "w/lease", lease.token), (wire.RELEASED, "w/a", a.token),
                    (wire.GRANTED, "w/b", b.token), (wire.CLOSED, "w/b", b.token), (wire.EXPIRED, "w/lease", lease.token)]
            for node in cluster.nodes:
                with node.client() as watcher:
                    events = watch_all(watcher, 0, 6, "w/")
                    assert told(events) == want, events
                    assert [event.index for event in events if event.kind == wire.GRANTED] == [a.token, lease.token, b.token]
                    assert [event.client for event in events] == ["me", "me", "me", "you", "you", "me"]
                    assert (events[3].session, events[3].ttl_ms, events[5].session) == (session.token, 60000, lease.token)
                    # From any place in between, and of one name only.
                    assert told(watch_all(watcher, events[1].index, 4, "w/")) == want[2:]
                    assert told(watch_all(watcher, 0, 2, "w/b", exact=True)) == want[3:5]
                    # A page ends with an entry.
                    page = watcher.watch("w/", 0, limit=2)
                    assert (told(page.events), page.next_after, page.more) == (want[:2], lease.token, True)


def test_watch_waits_for_an_event_and_says_at_the_deadline_how_far_it_saw():
    with Cluster() as cluster, cluster.nodes[0].client("me") as client:
        with cluster.nodes[2].client() as watcher:
            begin = time.monotonic()
            page = watcher.watch("w/", 0, deadline_ms=600)
            assert (page.outcome, page.events, page.more) == (wire.YES, [], False)
            assert time.monotonic() - begin > 0.55
            other = client.preempt("other")
            later = watcher.watch("w/", page.next_after, deadline_ms=600)
            assert later.next_after >= other.token, "an idle watcher knows how fresh it is"
            tag = watcher.send(wire.WATCH, wire.watch_body("w/", later.next_after))
            begin = time.monotonic()
            grant = client.preempt("w/a")
            kind, got, body = watcher.receive()
            assert (kind, got) == (wire.CHANGES, tag)
            page = wire.Changes(wire.Reader(body))
            assert told(page.events) == [(wire.GRANTED, "w/a", grant.token)]
            assert time.monotonic() - begin < 5
            # W1: what it leads to can be read at that node.
            assert watcher.check("w/a").token == grant.token


def test_end_of_a_session_with_many_locks_is_told_whole_and_for_its_cause():
    with Cluster() as cluster, cluster.nodes[0].client("me") as client:
        session = client.open_session(60000)
        for i in range(300):
            client.preempt(f"w/{i:03}", session=session.token)
        before = client.status()["applied"]
        client.close_session(session.token)
        with cluster.nodes[1].client() as watcher:
            events = watch_all(watcher, before, 300, "w/")
            assert {event.kind for event in events} == {wire.CLOSED}
            assert len({event.lock for event in events}) == 300
            # A page has whole entries, also where its limit is less.
            page = watcher.watch("w/", before, limit=10)
            assert len(page.events) > 10 and {event.index for event in page.events} == {page.next_after}, len(page.events)


def test_node_that_is_behind_waits_instead_of_going_back():
    with Cluster() as cluster, cluster.nodes[0].client("me") as client:
        client.preempt("w/a")
        ahead = client.status()["applied"] + 5
        with cluster.nodes[2].client() as watcher:
            page = watcher.watch("w/", ahead, deadline_ms=500)
            assert page.outcome == wire.UNKNOWN and "behind" in page.reason, page.reason
            tag = watcher.send(wire.WATCH, wire.watch_body("w/", ahead))
            grants = [client.preempt(f"w/{i}") for i in range(8)]
            kind, got, body = watcher.receive()
            assert (kind, got) == (wire.CHANGES, tag)
            page = wire.Changes(wire.Reader(body))
            assert page.outcome == wire.YES
            assert all(event.index > ahead for event in page.events) and page.next_after > ahead
            assert grants[-1].token > ahead


def test_restarted_node_says_that_it_remembers_nothing_of_before():
    with Cluster() as cluster, cluster.nodes[0].client("me") as client:
        grant = client.preempt("w/a")
        node = cluster.nodes[2]
        wait_until(lambda: node.sql("SELECT base_index FROM meta")[0][0] >= grant.token, "its base has it")
        node.stop()
        node.start()
        wait_until(node.is_ready, "it is back")
        with node.client() as watcher:
            page = watcher.watch("w/", grant.token - 1)
            assert page.outcome == wire.NO and page.floor >= grant.token, page.reason
            rows, _, index = watcher.list_page("w/")
            assert [(lock, token) for lock, _, token in rows] == [("w/a", grant.token)]
            client.release("w/a")
            assert told(watch_all(watcher, index, 1, "w/")) == [(wire.RELEASED, "w/a", grant.token)]


def test_node_that_gets_a_snapshot_tells_who_waits_that_something_was_missed():
    with Cluster(settings="[log]\nkeep_entries = 1000\n") as cluster:
        leader, node = cluster.leader, cluster.nodes[2]
        with node.client(timeout=4 * PATIENCE) as watcher, leader.client("me") as client:
            before = watcher.watch("w/", 0, deadline_ms=100).next_after
            tag = watcher.send(wire.WATCH, wire.watch_body("w/", before, deadline_ms=int(3000 * PATIENCE)))
            node.process.send_signal(signal.SIGSTOP)
            write_entries(leader, 60000)
            grant = client.preempt("w/missed")
            write_entries(leader, 3000)
            wait_until(lambda: leader.sql("SELECT min(idx) FROM log")[0][0] > grant.token, "the log is trimmed", 2 * PATIENCE)
            node.process.send_signal(signal.SIGCONT)
            floor = 0
            while floor <= grant.token:
                # A snapshot that was begun before it was granted comes first.
                kind, got, body = watcher.receive()
                assert (kind, got) == (wire.CHANGES, tag)
                page = wire.Changes(wire.Reader(body))
                assert page.outcome == wire.NO and page.floor > floor, (page.outcome, page.reason, page.events)
                floor = page.floor
                tag = watcher.send(wire.WATCH, wire.watch_body("w/", floor, deadline_ms=int(3000 * PATIENCE))) if floor <= grant.token else None
            rows, _, index = watcher.list_page("w/", min_index=page.floor)
            assert [(lock, token) for lock, _, token in rows] == [("w/missed", grant.token)]
            client.release("w/missed")
            assert told(watch_all(watcher, index, 1, "w/")) == [(wire.RELEASED, "w/missed", grant.token)]


def test_what_many_wait_for_keeps_nobody_waiting_and_who_reads_nothing_is_left():
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with Cluster(followers=0) as cluster, cluster.nodes[0].client("me") as client:
        node = cluster.nodes[0]
        lazy = wire.Connection(node.address)
        lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        watchers = [node.client() for _ in range(2000)]
        for number, watcher in enumerate(watchers):
            watcher.send(wire.WATCH, wire.watch_body("all/" if number % 2 else f"own/{number}", 0, deadline_ms=60000))
        begin = time.monotonic()
        for i in range(100):
            assert client.preempt(f"none/{i}").outcome == wire.YES
        quiet = time.monotonic() - begin
        grant = client.preempt("all/x")
        for number, watcher in enumerate(watchers):
            if number % 2:
                page = wire.Changes(wire.Reader(watcher.receive()[2]))
                assert told(page.events) == [(wire.GRANTED, "all/x", grant.token)]
        mine = client.preempt("own/1000")
        page = wire.Changes(wire.Reader(watchers[1000].receive()[2]))
        assert told(page.events) == [(wire.GRANTED, "own/1000", mine.token)]
        # More answers than fit, unread: the connection ends, and nobody else notices.
        for i in range(400):
            client.preempt(f"long/{i:03}" + "x" * 240)
        try:
            for _ in range(20000):
                lazy.send(wire.WATCH, wire.watch_body("long/", 0))
        except (wire.Closed, TimeoutError):
            pass
        assert client.preempt("after").outcome == wire.YES
        for watcher in watchers:
            watcher.close()
        assert quiet < 20, quiet


def test_watches_of_one_connection_are_bounded():
    with Cluster(followers=0) as cluster, cluster.nodes[0].client("me") as client:
        for i in range(32):
            client.send(wire.WATCH, wire.watch_body(f"w/{i}", 0, deadline_ms=60000))
        page = client.watch("w/", 0)
        assert page.outcome == wire.REJECTED and "watches as much as one may" in page.reason, page.reason
        assert client.preempt("x").outcome == wire.YES, "those that wait are in nobody's way"


# --- dlockctl ---


def environment(cluster):
    home = cluster.directory / "home-0"
    home.mkdir(exist_ok=True)
    return variables_of(cluster, home, None)


class Watcher:
    """A dlockctl that prints JSON lines until it is told to stop."""

    def __init__(self, cluster, *arguments, nodes=None, **more):
        servers = ",".join(node.address for node in nodes or cluster.nodes)
        self.process = subprocess.Popen([DLOCKCTL, "--server", servers, "--json", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, env=environment(cluster), **more)
        self.lines, self.thread = [], threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def wait_for(self, condition, what="it is told"):
        wait_until(lambda: any(condition(line) for line in list(self.lines)), lambda: f"{what}: {self.lines[-5:]} {self.process.poll()}")

    def told(self):
        return [(line["kind"], line["lock"], line["token"]) for line in self.lines]

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.end()

    def end(self):
        status = self.process.wait(30)
        self.thread.join(30)
        return status, self.process.stderr.read()


def test_dlockctl_watch_lists_then_tells_and_ends_as_it_is_told():
    with Cluster() as cluster, cluster.nodes[0].client("me") as client:
        held = client.preempt("w/held")
        client.preempt("other")
        for number in signal.SIGTERM, signal.SIGINT:
            watcher = Watcher(cluster, "watch", "w/")
            watcher.wait_for(lambda line: line["kind"] == "complete")
            new = client.preempt("w/new")
            client.release("w/new")
            watcher.wait_for(lambda line: line["kind"] == "released")
            assert watcher.stop(number) == (0, "")
            assert watcher.told() == [("held", "w/held", held.token), ("complete", None, None), ("granted", "w/new", new.token), ("released", "w/new", new.token)]
            assert [line["after"] for line in watcher.lines[2:]] == [new.token, watcher.lines[3]["index"]]
        # From where that ended.
        client.preempt("w/more")
        watcher = Watcher(cluster, "watch", "--after", str(watcher.lines[-1]["after"]), "--count", "1", "w/")
        assert watcher.end() == (0, "")
        assert [line["lock"] for line in watcher.lines] == ["w/more"]
        begin = time.monotonic()
        status, out, error = tool(cluster, "watch", "--for", "3s", "w/")
        assert (status, error) == (0, "") and "w/held" in out and "changes follow" in out, (status, out, error)
        assert 2.9 < time.monotonic() - begin < PATIENCE
        # A reader that goes.
        shell = f"{DLOCKCTL} --server {cluster.nodes[0].address} watch w/; echo $? >&2"
        done = subprocess.Popen(["bash", "-c", f"{{ {shell}; }} | head -n 1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(cluster))
        out, error = done.communicate(timeout=PATIENCE)
        assert "w/held" in out and error == "0\n", (out, error)


def test_dlockctl_watch_ends_when_it_is_told_though_nobody_reads():
    with Cluster(followers=0) as cluster, cluster.nodes[0].client("me") as client:
        for i in range(1500):
            client.preempt(f"w/{i:04}" + "x" * 200)
        watcher = subprocess.Popen([DLOCKCTL, "--server", cluster.nodes[0].address, "--json", "watch"], stdout=subprocess.PIPE, env=environment(cluster))
        readable = struct.pack("i", 0)
        wait_until(lambda: struct.unpack("i", fcntl.ioctl(watcher.stdout, termios.FIONREAD, readable))[0] > 25000, "the pipe is full")
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(PATIENCE) == 0
        lines = watcher.stdout.read().decode().splitlines()
        assert 30 < len(lines) < 1500
        assert all(json.loads(line)["kind"] == "held" for line in lines[:-1])


def test_dlockctl_watch_says_when_nobody_answers():
    with Cluster() as cluster:
        # However short the patience, it is told why.
        for option in ("--timeout", "100ms"), ("--timeout", "1s"), ("--for", "100ms"):
            for command in ("watch",), ("watch", "--after", "1"), ("observe", "job"):
                status, out, error = tool(cluster, "--server", "/nonexistent.sock", command[0], *option, *command[1:])
                assert status == 4 and out == "" and "no server could be reached: /nonexistent.sock" in error, (option, command, status, out, error)
        # That nothing has happened since is an answer, too.
        index = json.loads(tool(cluster, "--json", "check", "job")[1])["index"]
        assert tool(cluster, "watch", "--after", str(index), "--for", "3s") == (0, "", "")
        for option in ("--after", "0"), ("--count", "x"), ("--for", "soon"):
            assert tool(cluster, "watch", *option)[0] == 2
        assert tool(cluster, "list", "--for", "1s")[0] == 2
        watcher = Watcher(cluster, "watch", "--for", "8s", nodes=[cluster.nodes[2]])
        watcher.wait_for(lambda line: line["kind"] == "complete")
        cluster.nodes[2].kill()
        status, error = watcher.end()
        assert status == 4 and error.count("tried again") == 1, (status, error)


def history_of(cluster, since):
    """[(index, kind, lock)] of the log, in the words of a watcher."""
    kinds = {"preempt": "granted", "release": "released", "expire": "expired"}
    rows = cluster.nodes[1].sql(f"SELECT idx, kind, lock FROM log WHERE idx > {since} AND lock LIKE 'w/%' AND kind IN ('preempt', 'release', 'expire') ORDER BY idx")
    return [(index, kinds[kind], lock) for index, kind, lock in rows]


def follow(lines, history):
    """The locks that are held after what was told, {lock: token}; each step must be one from what was told before to what the log says next."""
    held, gathering, at = {}, False, 0
    for line in lines:
        lock, token, change = line["lock"], line["token"], (line["index"], line["kind"], line["lock"])
        if line["kind"] in ("anew", "complete"):
            gathering = line["kind"] == "anew"
            held = {} if gathering else held
        elif line["kind"] == "held":
            assert lock not in held, line
            held[lock] = token
        else:
            # Between a list and the end of it, what its later pages have is left out.
            assert change in history[at:], ("told twice, or out of order, or it never happened", change)
            missed, at = history[at : history.index(change)], history.index(change) + 1
            assert not missed or gathering, ("lost", missed[:3])
            gathering = False
            assert (lock in held) == (line["kind"] != "granted"), ("back in time", line)
            if line["kind"] == "granted":
                held[lock] = token
            else:
                assert held.pop(lock) == token, line
        if line["kind"] == "complete" and at and at < len(history):
            at = next((i for i in range(at, len(history)) if history[i][0] > line["index"]), len(history))
    return held


class Writers:
    """Take, release and leave to expire some locks, through whichever server answers."""

    def __init__(self, cluster):
        self.cluster, self.until, self.done = cluster, threading.Event(), 0
        self.threads = [threading.Thread(target=self.run) for _ in range(2)]

    def run(self):
        def ask(*words):
            return tool(self.cluster, "--server", servers_of(self.cluster.nodes), "--timeout", "20s", *words)[0]

        while not self.until.is_set():
            name, leased = f"w/{self.done % 7}", self.done % 3 == 0
            if ask("preempt", *(["--ttl", "1s"] if leased else []), name) == 0 and not leased:
                ask("release", name)
            self.done += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.until.set()
        for thread in self.threads:
            thread.join()


def leased(cluster):
    """Whether something below w/ is held for a time; a leader may have to be found first."""
    status, out, _ = tool(cluster, "--server", servers_of(cluster.nodes), "--json", "list", "w/")
    return status not in (0, 1) or any(json.loads(line)["ttl_ms"] for line in out.splitlines())


def watched(cluster, disturb):
    """[(lines of a watcher, log since its list)], of watchers that begin at each of the nodes, while disturb() is at work."""
    with cluster.nodes[0].client("me") as client:
        client.preempt("w/begin")
    watchers = [Watcher(cluster, "watch", "w/", nodes=cluster.nodes[i:] + cluster.nodes[:i]) for i in range(3)]
    for watcher in watchers:
        watcher.wait_for(lambda line: line["kind"] == "complete")
    with Writers(cluster) as writers:
        disturb()
        wait_until(lambda: writers.done > 10, "enough is written")
    wait_until(lambda: not leased(cluster), "leases end")
    status, _, error = tool(cluster, "--server", servers_of(cluster.nodes), "--timeout", "30s", "preempt", "w/end")
    assert status == 0, error
    cluster.wait_until_equal()
    with cluster.nodes[1].client() as client:
        now = {lock: token for lock, _, token in client.list("w/")}
    for watcher in watchers:
        watcher.wait_for(lambda line: line["lock"] == "w/end")
        status, error = watcher.stop()
        assert status == 0, error
        assert follow(watcher.lines, history_of(cluster, next(line["index"] for line in watcher.lines if line["kind"] == "complete"))) == now
    return [watcher.lines for watcher in watchers]


def test_pain_nothing_is_lost_or_told_twice_when_the_leader_is_killed():
    with Cluster() as cluster:
        def disturb():
            time.sleep(1)
            cluster.nodes[0].kill()
            time.sleep(3)

        for lines in watched(cluster, disturb):
            assert "anew" not in {line["kind"] for line in lines}, "nodes that live remember all of it"


def test_pain_nothing_is_told_twice_or_left_out_unsaid_while_nodes_are_killed_and_come_back():
    with Cluster() as cluster:
        def disturb():
            for victim in (0, 1, 2, 0):
                time.sleep(1.5)
                cluster.nodes[victim].kill()
                time.sleep(1.5)
                cluster.nodes[victim].launch()
                wait_until(cluster.nodes[victim].answers, "it is back")

        watched(cluster, disturb)


test_pain_nothing_is_told_twice_or_left_out_unsaid_while_nodes_are_killed_and_come_back.takes_long = True


def test_dlockctl_watch_says_what_is_not_remembered_and_lists_anew():
    with Cluster(followers=0) as cluster:
        node = cluster.nodes[0]
        with node.client("me") as client:
            held = client.preempt("w/held")
            gone = client.preempt("w/gone")
            client.release("w/gone")
            wait_until(lambda: node.sql("SELECT base_index FROM meta")[0][0] > gone.token, "its base has it")
        node.stop()
        node.start()
        watcher = Watcher(cluster, "watch", "--after", str(held.token), "w/")
        watcher.wait_for(lambda line: line["kind"] == "complete")
        with node.client("me") as client:
            client.release("w/held")
        watcher.wait_for(lambda line: line["kind"] == "released")
        assert watcher.stop() == (0, "")
        assert [(kind, lock) for kind, lock, _ in watcher.told()] == [("anew", None), ("held", "w/held"), ("complete", None), ("released", "w/held")]
        out = tool(cluster, "watch", "--after", "1", "--for", "3s", "w/")[1]
        assert "not remembered any more" in out, out
        # Whoever leads now is told though what came before is not remembered.
        status, out, error = tool(cluster, "observe", "--after", "1", "--for", "3s", "w/held")
        assert (status, out) == (0, "w/held has no leader\n"), (status, out, error)


# --- who leads ---


def test_dlockctl_observe_tells_who_leads_and_where():
    with Cluster() as cluster:
        status, out, error = tool(cluster, "observe", "--once", "--for", "3s", "app/leader")
        assert (status, out) == (1, "") and "nobody leads app/leader" in error, (status, out, error)
        watcher = Watcher(cluster, "observe", "app/leader")
        watcher.wait_for(lambda line: line["kind"] == "complete" and line["lock"] == "app/leader")
        waiting = subprocess.Popen([DLOCKCTL, "--server", cluster.nodes[1].address, "observe", "--once", "--note", "app/leader"], stdout=subprocess.PIPE,
                                   text=True, env=environment(cluster))
        time.sleep(0.5)
        assert waiting.poll() is None
        assert tool(cluster, "--client", "one", "preempt", "--note", "10.0.0.1:80", "--ttl", "1s", "--lock-delay", "0", "app/leader")[0] == 0
        out, _ = waiting.communicate(timeout=PATIENCE)
        assert (waiting.returncode, out) == (0, "10.0.0.1:80\n")
        watcher.wait_for(lambda line: line["kind"] == "expired")
        assert tool(cluster, "--client", "two", "preempt", "app/leader")[0] == 0
        watcher.wait_for(lambda line: line["owner"] == "two")
        assert [(line["kind"], line["owner"], line["note"]) for line in watcher.lines] == [
            ("complete", None, None), ("granted", "one", "10.0.0.1:80"), ("expired", "one", None), ("granted", "two", None)]
        assert watcher.stop() == (0, "")
        status, out, error = tool(cluster, "observe", "--once", "--note", "app/leader")
        assert (status, out) == (1, "") and "has left no note" in error
        status, out, error = tool(cluster, "observe", "--once", "--consistent", "app/leader")
        assert status == 0 and "app/leader is led by two" in out, (out, error)
        assert json.loads(tool(cluster, "--json", "observe", "--once", "app/leader")[1])["owner"] == "two"
        status, out, error = tool(cluster, "observe", "--count", "1", "app/leader")
        assert status == 0 and out.startswith("app/leader is led by two"), (out, error)
        for wrong in ("--once", "--count", "2"), ("--consistent",):
            assert tool(cluster, "observe", *wrong, "app/leader")[0] == 2
        status, out, error = tool(cluster, "--server", "/nonexistent.sock", "--timeout", "1s", "observe", "--once", "app/leader")
        assert status == 4, (status, error)


def test_election_the_next_in_the_queue_leads_and_everybody_is_told_in_one_order():
    with Cluster() as cluster:
        servers = servers_of(cluster.nodes)
        watchers = [Watcher(cluster, "observe", "app/leader", nodes=cluster.nodes[i:] + cluster.nodes[:i]) for i in range(3)]
        for watcher in watchers:
            watcher.wait_for(lambda line: line["kind"] == "complete")

        def candidate(name):
            return subprocess.Popen([DLOCKCTL, "--server", servers, "run", "--wait", "--ttl", "3s", "--note", name, "app/leader", "sleep", "60"], stdin=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL, env=environment(cluster))

        def leads():
            status, out, _ = tool(cluster, "--server", servers, "observe", "--once", "--note", "--for", "20s", "app/leader")
            return out.strip() if status == 0 else None

        first = candidate("first")
        wait_until(lambda: leads() == "first", "it leads")
        second = candidate("second")
        wait_until(lambda: json.loads(tool(cluster, "--server", servers, "--json", "observe", "--once", "app/leader")[1])["waiting"] == 1, "the other waits")
        first.terminate()
        first.wait(30)
        wait_until(lambda: leads() == "second", "the other leads")
        cluster.nodes[0].kill()
        second.terminate()
        second.wait(60)
        third = candidate("third")
        wait_until(lambda: leads() == "third", "the third leads, under the next leader of the cluster")
        for watcher in watchers:
            watcher.wait_for(lambda line: line["note"] == "third")
        told = [[(line["index"], line["kind"], line["note"]) for line in watcher.lines[1:]] for watcher in watchers]
        assert told[0] == told[1] == told[2], told
        assert [(kind, note) for _, kind, note in told[0]] == [("granted", "first"), ("released", None), ("granted", "second"), ("released", None), ("granted", "third")]
        assert told[0][1][0] == told[0][2][0], "it is handed over in one entry"
        assert all(watcher.stop()[0] == 0 for watcher in watchers)
        third.terminate()
        third.wait(30)
