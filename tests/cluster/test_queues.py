"""Waiting for a lock on real daemons: in the order of coming, over everything that may happen, and without ghosts."""
import contextlib
import json
import os
import re
import signal
import subprocess
import time

import wire
from nodes import DLOCKCTL, PATIENCE, Cluster, wait_until
from test_care import wait_for_leader
from test_run import environment_of, one_line
from test_tool import tool

TIMED_OUT, UNKNOWN = 118, 121


class Waiter:
    """A dlockctl that waits; whoever leaves the context leaves nothing behind."""

    def __init__(self, cluster, *arguments, client=None, server=None, **more):
        environment = {**environment_of(cluster), **({"DLOCK_SERVER": server} if server else {})}
        self.process = subprocess.Popen([DLOCKCTL, *(("--client", client) if client else ()), *arguments], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self, bound=PATIENCE):
        out, error = self.process.communicate(timeout=bound)
        return self.process.returncode, out, error


def shown(cluster, lock, server=None):
    status, out, error = tool(cluster, "--json", "show", "--consistent", lock, server=server)
    assert status in (0, 1), error
    return json.loads(out)


def wait_for_queue(cluster, lock, count, server=None):
    wait_until(lambda: (shown(cluster, lock, server)["waiting"] or 0) == count, lambda: f"{count} wait: {shown(cluster, lock, server)}")


def take(cluster, lock, client="first"):
    status, out, error = tool(cluster, "--client", client, "--json", "preempt", lock)
    assert status == 0, (out, error)
    return json.loads(out)["token"]


def test_locks_are_granted_in_the_order_of_coming_through_whichever_node():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        take(cluster, "job")
        waiters = []
        for i in range(6):
            node = cluster.nodes[i % 3]
            waiters.append(stack.enter_context(Waiter(cluster, "--json", "preempt", "--wait", "job", client=f"c{i}", server=node.address)))
            wait_for_queue(cluster, "job", i + 1)
        tokens = []
        assert tool(cluster, "--client", "first", "release", "job")[0] == 0
        for i, waiter in enumerate(waiters):
            status, out, error = waiter.finish()
            assert status == 0, (out, error)
            said = json.loads(out)
            assert said["granted"] and said["owner"] == f"c{i}" and said["session"] is None, said
            # What was not asked for as a lease lasts.
            now = shown(cluster, "job")
            assert now["owner"] == f"c{i}" and now["token"] == said["token"] and now["session"] is None and now["waiting"] == 5 - i, now
            tokens.append(said["token"])
            assert all(each.process.poll() is None for each in waiters[i + 1:])
            assert tool(cluster, "--client", f"c{i}", "release", "--token", str(said["token"]), "job")[0] == 0
        assert tokens == sorted(tokens)


def test_pain_13_whoever_waits_no_longer_leaves_no_ghost():
    """Out of patience, ended by a signal, or killed: the lock goes to the next one who lives."""
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        token = take(cluster, "job")
        status, out, error = tool(cluster, "preempt", "--try", "job")
        assert status == 1 and "held" in out, (status, out, error)
        begin = time.monotonic()
        status, out, error = tool(cluster, "--json", "--client", "late", "preempt", "--wait=700ms", "job")
        assert status == 1 and json.loads(out)["timed_out"] and not json.loads(out)["granted"] and error == "", (status, out, error)
        assert 0.7 <= time.monotonic() - begin < PATIENCE
        # It is told for whom it has waited in vain.
        assert json.loads(out)["owner"] == "first" and json.loads(out)["holders"] == 1 and json.loads(out)["token"] is None, out
        out = tool(cluster, "--client", "late", "preempt", "--wait=100ms", "job")[1]
        assert out == f"job: it was not granted in time, held, token {token}, owner first\n", out
        assert shown(cluster, "job")["waiting"] == 0
        for number in (signal.SIGINT, signal.SIGTERM):
            with Waiter(cluster, "preempt", "-w", "1h", "job", client="told") as told:
                wait_for_queue(cluster, "job", 1)
                told.process.send_signal(number)
                status, out, error = told.finish()
                assert status == -number, (status, out, error)
                assert shown(cluster, "job")["waiting"] == 0
        killed = stack.enter_context(Waiter(cluster, "preempt", "--ttl", "2s", "--wait", "job", client="killed"))
        wait_for_queue(cluster, "job", 1)
        alive = stack.enter_context(Waiter(cluster, "preempt", "--wait", "job", client="alive"))
        wait_for_queue(cluster, "job", 2)
        killed.process.kill()
        wait_for_queue(cluster, "job", 1)
        assert tool(cluster, "--client", "first", "release", "--token", str(token), "job")[0] == 0
        assert alive.finish()[0] == 0
        assert shown(cluster, "job")["owner"] == "alive"


def test_a_time_behind_wait_becomes_no_name():
    """--wait takes its time after a "="; else whoever forgets that takes a lock that is called so, and waits without an end."""
    with Cluster(followers=0) as cluster:
        for command, status in ((("preempt", "--wait", "5s", "job"), 2), (("preempt", "--wait", "30", "job"), 2), (("hold", "--wait", "5s", "job"), 125),
                                (("run", "--wait", "5s", "job", "true"), 125), (("run", "job", "--wait", "5s", "true"), 125)):
            done = tool(cluster, *command)
            assert done[:2] == (status, "") and one_line(done[2]) and f"--wait={command[command.index('--wait') + 1]} would be right" in done[2], (command, done)
        assert tool(cluster, "list")[1].count("\n") <= 1
        assert tool(cluster, "preempt", "--wait", "--", "5s", "job")[0] == 0 and tool(cluster, "run", "--wait", "other", "true")[0] == 0


def test_pain_14_the_next_one_is_told_at_once_and_nobody_else_is_woken():
    """A grant goes to one of many, and costs the others nothing: no herd, and no polling."""
    with Cluster() as cluster:
        take(cluster, "job")
        names = [f"w{i}" for i in range(40)]
        clients = [cluster.nodes[i % 3].client(name) for i, name in enumerate(names)]
        waiters = []
        for client in clients:
            result = client.change(wire.PREEMPT, "job", ttl_ms=60000, wait=True)
            assert result.outcome == wire.WAITING, result
            waiters.append(result.token)
            client.send(wire.AWAIT, wire.request_body(wire.AWAIT, 60000, "job", token=result.token))
        entries = cluster.nodes[0].status()["log_last"]
        token, owner, longest = None, "first", 0
        for i, client in enumerate(clients):
            with cluster.nodes[0].client(owner) as holder:
                begin = time.monotonic()
                assert holder.change(wire.RELEASE, "job", token=token).outcome == wire.YES
            kind, _, body = client.receive()
            longest = max(longest, time.monotonic() - begin)
            told = wire.Result(wire.Reader(body))
            assert kind == wire.RESULT and told.outcome == wire.YES and told.owner == names[i], told
            token, owner = told.token, names[i]
        # One entry a hand-over.
        assert cluster.nodes[0].status()["log_last"] == entries + len(clients)
        assert longest < 2, longest
        for client in clients:
            client.close()


def test_queue_survives_the_leader_and_whoever_waits_there():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        wait_for_leader(cluster)
        token = take(cluster, "job")
        servers = ",".join(node.address for node in cluster.nodes)
        waiters = []
        for i in range(3):
            waiters.append(stack.enter_context(Waiter(cluster, "--json", "preempt", "--ttl", "10s", "--wait", "job", client=f"c{i}", server=servers)))
            wait_for_queue(cluster, "job", i + 1)
        cluster.nodes[0].kill()
        with cluster.nodes[1].client("first") as client:
            wait_until(lambda: client.change(wire.RELEASE, "job", token=token).outcome == wire.YES, "it is released")
        for i, waiter in enumerate(waiters):
            status, out, error = waiter.finish(2 * PATIENCE)
            assert status == 0, (out, error)
            said = json.loads(out)
            assert said["owner"] == f"c{i}" and said["ttl_ms"] == 10000 and said["session"] < said["token"], said
            assert tool(cluster, "--client", f"c{i}", "release", "--token", str(said["token"]), "job", server=cluster.nodes[1].address)[0] == 0


def test_run_waits_its_turn_and_runs_one_after_the_other():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        first = stack.enter_context(Waiter(cluster, "run", "job", "sh", "-c", 'echo begin >>"$D/order"; until [ -e "$D/go" ]; do sleep 0.01; done; echo 0 >>"$D/order"'))
        wait_until(lambda: (cluster.directory / "order").exists(), "the first one runs")
        others = []
        for i in range(1, 4):
            others.append(stack.enter_context(Waiter(cluster, "run", "--wait", "job", "sh", "-c", f'echo {i} >>"$D/order"; exit {i}')))
            wait_for_queue(cluster, "job", i)
        (cluster.directory / "go").touch()
        assert first.finish()[0] == 0
        for i, other in enumerate(others, 1):
            status, out, error = other.finish()
            assert (status, out, error) == (i, "", ""), (status, out, error)
        assert (cluster.directory / "order").read_text().split() == ["begin", "0", "1", "2", "3"]


def test_run_that_does_not_get_its_turn_in_time_says_so_with_a_status_of_its_own():
    with Cluster(followers=0) as cluster:
        take(cluster, "job")
        status, out, error = tool(cluster, "run", "--wait=500ms", "job", "true")
        assert status == TIMED_OUT and out == "" and one_line(error) and f"held by uid:{os.getuid()}" in error, (status, out, error)
        assert tool(cluster, "run", "-w", "500ms", "-E", "7", "job", "true")[0] == 7
        assert shown(cluster, "job")["waiting"] == 0
        for number in (signal.SIGTERM, signal.SIGINT):
            with Waiter(cluster, "run", "--wait", "job", "touch", "ran") as waiter:
                wait_for_queue(cluster, "job", 1)
                waiter.process.send_signal(number)
                assert waiter.finish()[0] in (128 + number, -number)
                wait_for_queue(cluster, "job", 0)
        assert not (cluster.directory / "ran").exists()


def test_run_that_waits_and_is_killed_leaves_the_queue_at_once():
    with Cluster(followers=0) as cluster:
        take(cluster, "job")
        with Waiter(cluster, "run", "--wait", "--ttl", "1h", "job", "true") as waiter:
            wait_for_queue(cluster, "job", 1)
            waiter.process.kill()
            wait_for_queue(cluster, "job", 0)


def test_pain_13_who_is_killed_while_it_waits_leaves_the_queue_at_once_however_long_its_lease():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        take(cluster, "job")
        for node in cluster.nodes:
            waiters = [stack.enter_context(Waiter(cluster, "preempt", "--ttl", "24h", "--wait", *more, "job", client=f"c{i}", server=node.address))
                       for i, more in enumerate(((), ("--shared",), ()))]
            wait_for_queue(cluster, "job", 3)
            # One that only stands still, or loses its connection, has its place.
            waiters[0].process.send_signal(signal.SIGSTOP)
            waiters[1].process.kill()
            wait_for_queue(cluster, "job", 2)
            assert waiters[0].process.poll() is None and waiters[2].process.poll() is None
            for waiter in (waiters[0], waiters[2]):
                waiter.process.kill()
            wait_for_queue(cluster, "job", 0)
        waiter = stack.enter_context(Waiter(cluster, "preempt", "--ttl", "24h", "--wait", "job", client="lives", server=",".join(node.address for node in cluster.followers)))
        wait_for_queue(cluster, "job", 1)
        for node in cluster.followers:
            node.kill()
            node.start()
        cluster.wait_until_equal()
        assert tool(cluster, "--client", "first", "release", "job")[0] == 0
        assert waiter.finish()[0] == 0


def test_pain_13_all_who_are_killed_at_once_leave_the_queue():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        take(cluster, "job")
        for node in cluster.nodes:
            waiters = [stack.enter_context(Waiter(cluster, "preempt", "--ttl", "24h", "--wait", "job", client=f"c{i}", server=node.address)) for i in range(6)]
            wait_for_queue(cluster, "job", 6, node.address)
            # They ask the node how it stands: it has heard that from all of them when it answers whom it hears last.
            asked = stack.enter_context(Waiter(cluster, "preempt", "--ttl", "24h", "--wait=1s", "job", client="last", server=node.address))
            assert asked.finish()[0] == 1
            # The node hears of all of them in one turn.
            node.process.send_signal(signal.SIGSTOP)
            for waiter in waiters:
                waiter.process.kill()
                waiter.process.wait()
            node.process.send_signal(signal.SIGCONT)
            wait_for_queue(cluster, "job", 0)


def test_who_waits_and_wants_it_once_is_told_that_it_ran_meanwhile():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        token = take(cluster, "job")
        runs = []
        for i in range(3):
            runs.append(stack.enter_context(Waiter(cluster, "run", "--wait", "--once-per", "1h", "job", "sh", "-c", 'echo ran >>"$D/runs"')))
            wait_for_queue(cluster, "job", i + 1)
        assert tool(cluster, "--client", "first", "release", "--token", str(token), "job")[0] == 0
        assert [each.finish() for each in runs] == [(0, "", "")] * 3
        assert (cluster.directory / "runs").read_text() == "ran\n"
        wait_for_queue(cluster, "job", 0)


def test_a_session_that_has_the_lock_is_told_so_and_has_it_once():
    with Cluster() as cluster:
        with cluster.nodes[1].client("alice") as client, cluster.nodes[2].client("alice") as other:
            session = client.open_session(20000).token
            granted = client.change(wire.PREEMPT, "job", session=session)
            assert granted.outcome == wire.YES
            again = other.change(wire.PREEMPT, "job", session=session, wait=True)
            assert (again.outcome, again.token) == (wire.REENTERED, granted.token), again
            # Another process of the same client is another holder.
            assert other.change(wire.PREEMPT, "job").outcome == wire.NO
            assert other.change(wire.RELEASE, "job", token=granted.token).outcome == wire.YES
            assert client.check("job", consistent=True).outcome == wire.NO


def test_hold_that_is_kept_outlives_its_lease():
    with Cluster(followers=0) as cluster:
        with cluster.nodes[0].client("alice") as client:
            granted = client.change(wire.PREEMPT, "job", ttl_ms=1000)
            assert client.change(wire.KEEP, "job", token=granted.token).outcome == wire.YES
            assert client.renew(granted.token).outcome == wire.NO
            lease = client.change(wire.PREEMPT, "other", ttl_ms=1000)
            assert lease.outcome == wire.YES
            wait_until(lambda: client.check("other", consistent=True).outcome == wire.NO, "the other lease ends")
            assert client.check("job", consistent=True).token == granted.token


def test_waiting_is_refused_where_nothing_could_end_it():
    """A wait without a session would be a ghost: it is malformed."""
    with Cluster(followers=0) as cluster:
        with cluster.nodes[0].client("alice") as client:
            try:
                client.change(wire.PREEMPT, "job", wait=True)
                raise AssertionError("taken")
            except wire.Closed:
                pass
        for wrong in (("--wait=0s",), ("--wait=soon",), ("-w",)):
            status, out, error = tool(cluster, "preempt", *wrong, *(("job",) if wrong != ("-w",) else ()))
            assert status == 2 and one_line(error), (wrong, status, error)
        status, out, error = tool(cluster, "check", "--wait", "job")
        assert status == 2 and "preempt, run and hold" in error, error


def test_pain_8_everybody_sees_who_holds_what_for_which_reason_and_who_broke_it():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        holder = stack.enter_context(Waiter(cluster, "run", "--ttl", "3s", "--note", "nightly", "job", "sh", "-c", 'echo $$ >>"$PIDS"; while :; do sleep 0.05; done'))
        wait_until(lambda: (cluster.directory / "pids").exists(), "it runs")
        waiter = stack.enter_context(Waiter(cluster, "--json", "preempt", "--ttl", "20s", "--wait", "job", client="next"))
        wait_for_queue(cluster, "job", 1)
        row = shown(cluster, "job")
        assert (row["note"], row["waiting"], row["pid"]) == ("nightly", 1, holder.process.pid) and row["host"] and row["user"] == f"uid:{os.getuid()}", row
        other = stack.enter_context(Waiter(cluster, "--json", "preempt", "--ttl", "20s", "--wait", "--note", "weekly", "--shared", "job", client="last"))
        for node in cluster.nodes:
            queue = wait_until(lambda at=node.address: len(shown(cluster, "job", at)["queue"]) == 2 and shown(cluster, "job", at)["queue"], "both wait")
            assert [(each["owner"], each["note"], each["slots"], each["ttl_ms"]) for each in queue] == [("next", None, 1, 20000), ("last", "weekly", "shared", 20000)], queue
            assert queue[0]["waiter"] < queue[1]["waiter"] and queue[0]["waiting_ms"] >= queue[1]["waiting_ms"], queue
        out = tool(cluster, "show", "job")[1]
        assert re.search(r"\n  queue   1\. next, for \S+ \S+; uid:\d+ on \S+\n          2\. last, for \S+ \S+, shared; uid:\d+ on \S+: weekly\nas of entry ", out), out
        other.process.send_signal(signal.SIGINT)
        wait_for_queue(cluster, "job", 1)
        status, out, error = tool(cluster, "break", "job")
        assert status == 2 and one_line(error) and "--reason" in error, error
        begin = time.monotonic()
        status, out, error = tool(cluster, "break", "--reason", "it hangs since noon", "job")
        assert status == 0 and "broken" in out, (out, error)
        # The holder is told, and stops; only then is the next one served.
        status, out, error = holder.finish()
        assert status == 120 and "the lock was lost" in error, (status, error)
        status, out, error = waiter.finish()
        assert status == 0 and json.loads(out)["owner"] == "next" and time.monotonic() - begin < 10, (out, error)
        rows = [json.loads(line) for line in tool(cluster, "--json", "history", "job")[1].splitlines()]
        broken = [each for each in rows if each["kind"] == "break"]
        # Of one that does not stop everybody sees that it is broken.
        assert tool(cluster, "--client", "deaf", "preempt", "--ttl", "1h", "other")[0] == 0 and shown(cluster, "other")["broken"] is False
        assert tool(cluster, "break", "--reason", "it does not answer", "other")[0] == 0
        for node in cluster.nodes:
            assert shown(cluster, "other", node.address)["broken"] is True
            assert "; broken: it is renewed no more\n" in tool(cluster, "show", "--consistent", "other", server=node.address)[1].replace("; lock-delay 37 s", "")
        assert len(broken) == 1 and broken[0]["token"] == row["token"] and "it hangs since noon" in broken[0]["detail"] and f"uid:{os.getuid()}" in broken[0]["detail"], rows
        # For people, too: which lock, whose hold of it, and after that by whom and why.
        line = next(each for each in tool(cluster, "history")[1].splitlines() if "  break  " in each)
        assert re.fullmatch(rf" *\d+  \S+ \S+  break +job +\S+  token {row['token']}  uid:{os.getuid()} on \S+: it hangs since noon", line), line


def test_broken_at_once_or_without_a_lease_it_is_free():
    with Cluster() as cluster:
        token = take(cluster, "job")
        assert tool(cluster, "break", "--reason", "gone", "--token", str(token + 1), "job")[0] == 1
        status, out, error = tool(cluster, "--json", "break", "--reason", "gone", "job")
        assert status == 0 and json.loads(out) == {"broken": True, "token": token, "owner": None}, (out, error)
        assert tool(cluster, "check", "--consistent", "job")[0] == 1
        assert tool(cluster, "--client", "first", "release", "--token", str(token), "job")[0] == 1
        assert tool(cluster, "break", "--reason", "gone", "job")[0] == 1
        assert tool(cluster, "--client", "first", "preempt", "--ttl", "1h", "job")[0] == 0
        assert tool(cluster, "break", "--now", "--reason", "its host has burnt", "job")[0] == 0
        assert tool(cluster, "check", "--consistent", "job")[0] == 1


def test_pain_1_whoever_breaks_a_lock_ends_its_job_then_and_not_with_the_next_renewal():
    """The leases are long. Through every node; and at once, when another may have the lock already, most of all."""
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        for node in cluster.nodes:
            for how in ((), ("--now",)):
                holder = stack.enter_context(Waiter(cluster, "run", "--ttl", "1h", "--lock-delay", "0", "job", "sleep", "1000", server=node.address))
                wait_until(lambda: shown(cluster, "job")["owner"], "it has the lock")
                begin = time.monotonic()
                status, out, error = tool(cluster, "break", *how, "--reason", "it hangs", "job")
                assert status == 0, (out, error)
                status, out, error = holder.finish()
                assert status == 120 and f"says that {'it has ended' if how else 'an operator has broken it'}" in error and one_line(error), (status, error)
                assert time.monotonic() - begin < 10
                assert tool(cluster, "check", "--consistent", "job")[0] == 1


def test_end_of_a_session_is_told_by_every_node_to_who_asks_for_it():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(node.client("me")) for node in cluster.nodes]
        session = clients[0].open_session(60000).token
        lease = clients[0].preempt("job", ttl_ms=60000).token
        assert clients[1].await_grant("", session, deadline_ms=200).outcome == wire.WAITING
        asked = [(client, client.send(wire.AWAIT, wire.request_body(wire.AWAIT, 30000, "", token=which))) for client in clients for which in (session, lease)]
        with cluster.nodes[2].client("me") as other:
            assert other.close_session(session).outcome == wire.YES
            assert other.release("job", token=lease).outcome == wire.YES
        told = {}
        for client, _ in asked:
            _, tag, body = client.receive()
            told[client, tag] = wire.Result(wire.Reader(body))
        assert set(told) == set(asked) and all((each.outcome, each.reason) == (wire.NO, "it has ended") for each in told.values()), told
        # Of what ended before it is told at once, and of what is yet to be not at all.
        assert clients[0].await_grant("", session).outcome == wire.NO
        assert clients[0].await_grant("", lease + 1000, deadline_ms=200).outcome == wire.WAITING


def test_only_operators_break_locks():
    with Cluster(followers=0) as cluster:
        take(cluster, "job")
        status, out, error = tool(cluster, "break", "--reason", "mine", "job", user=12345)
        assert status == 2 and one_line(error) and "only root" in error, (status, error)
        assert tool(cluster, "check", "job")[0] == 0


def test_many_waits_of_one_connection_do_not_keep_their_leases_from_being_renewed():
    """Each is a question that is long in coming, and what is asked behind them is answered at once."""
    with Cluster() as cluster:
        take(cluster, "job")
        node = cluster.nodes[1]
        with node.client("many") as many:
            lease = many.preempt("job", ttl_ms=10000, wait=True)
            assert lease.outcome == wire.WAITING, lease
            asked = {many.send(wire.AWAIT, wire.request_body(wire.AWAIT, 30000, "job", token=lease.token)) for _ in range(3000)}
            begun = time.monotonic()
            renewal = many.send(wire.RENEW, wire.request_body(wire.RENEW, 5000, "", session=lease.token))
            kind, tag, body = many.receive()
            assert tag == renewal and wire.Result(wire.Reader(body)).outcome == wire.YES and time.monotonic() - begun < 5, (kind, tag)
            # More than one connection may ask: how it stands is told soon.
            more = {many.send(wire.AWAIT, wire.request_body(wire.AWAIT, 30000, "job", token=lease.token)) for _ in range(6000)}
            for _ in range(3000 + 6000 - 8192):
                kind, tag, body = many.receive()
                assert tag in more and wire.Result(wire.Reader(body)).outcome == wire.WAITING, tag
                more.remove(tag)
            status, out, error = tool(cluster, "--client", "first", "release", "job")
            assert status == 0, error
            while asked or more:
                kind, tag, body = many.receive()
                told = wire.Result(wire.Reader(body))
                assert told.outcome == wire.YES and told.owner == "many" and told.token > lease.token, told
                (asked if tag in asked else more).remove(tag)
            assert many.check("job").token == told.token


def test_who_is_told_to_stop_twice_waits_for_the_servers_in_peace():
    """Nobody answers it, so it takes its time; not the processor's."""
    with Cluster() as cluster:
        take(cluster, "job")
        with Waiter(cluster, "--timeout", "4s", "preempt", "--wait", "job", client="late") as waiter:
            wait_for_queue(cluster, "job", 1)
            for node in cluster.nodes:
                node.process.send_signal(signal.SIGSTOP)
            waiter.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)                             # it reads one, and leaves the other
            waiter.process.send_signal(signal.SIGINT)
            _, status, used = os.wait4(waiter.process.pid, 0)
            waiter.process.returncode = os.waitstatus_to_exitcode(status)
            assert waiter.process.returncode in (-signal.SIGTERM, -signal.SIGINT), waiter.process.returncode
            assert used.ru_utime + used.ru_stime < 1, used
            for node in cluster.nodes:
                node.process.send_signal(signal.SIGCONT)
