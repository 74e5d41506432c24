"""Lock-delay on real daemons: a lock that its holder lost is nobody's for a while; one that was given back is free at once."""
import contextlib
import json
import re
import time

import wire
from nodes import DLOCKCTL, STEADY, Cluster, lasting, ms, wait_until
from test_care import wait_for_leader
from test_queues import Waiter, shown, wait_for_queue
from test_run import one_line
from test_tool import tool


def free_in(cluster, lock, server=None):
    """Milliseconds of its lock-delay that are left, as the leader tells it; None: it is in none."""
    return shown(cluster, lock, server)["free_in_ms"]


def lose(cluster, lock, *arguments, client="dead"):
    """A lease that nobody renews. Returns its token, and when its end was seen first, which is not before it."""
    status, out, error = tool(cluster, "--json", "--client", client, "preempt", "--ttl", lasting(3), *arguments, lock)
    assert status == 0, error
    wait_until(lambda: shown(cluster, lock)["owner"] is None, "the lease is over")
    return json.loads(out)["token"]


def kinds(cluster, lock):
    return [(row["index"], row["kind"], row["token"]) for row in map(json.loads, tool(cluster, "--json", "history", lock)[1].splitlines())]


def cluster_ms(cluster, index):
    return next(row["cluster_ms"] for row in map(json.loads, tool(cluster, "--json", "history")[1].splitlines()) if row["index"] == index)


def test_an_expired_lease_leaves_its_lock_to_nobody_for_its_delay_and_everybody_is_told_how_long():
    with Cluster() as cluster:
        lose(cluster, "job", "--lock-delay", "10min")
        lost = lose(cluster, "soon", "--lock-delay", "6s")
        for client in ("next", "dead"):      # who lost it is no exception
            status, out, error = tool(cluster, "--client", client, "preempt", "job")
            assert status == 1 and re.fullmatch(r"job: free in \d+\.\d s \(lock-delay after dead lost it\)\n", out) and error == "", (status, out, error)
        said = json.loads(tool(cluster, "--json", "--client", "next", "preempt", "job")[1])
        assert not said["granted"] and said["owner"] is None and said["token"] is None and 0 < said["free_in_ms"] <= 600000 and not said["too_soon"], said
        # It is nobody's, but it is not free.
        assert tool(cluster, "--client", "dead", "release", "job") == (1, "job: not released, nobody owns it\n", "")
        assert tool(cluster, "break", "--reason", "lost", "job") == (1, "job: not broken, nobody owns it\n", "")
        for server in (node.address for node in cluster.nodes):
            for command in ("check", "show"):
                status, out, error = tool(cluster, command, "--consistent", "job", server=server)
                assert status == 1 and re.match(r"job: free in \d+ min \(lock-delay\) \(as of entry", out), (status, out, error)
                said = json.loads(tool(cluster, "--json", command, "--consistent", "job", server=server)[1])
                assert said["owner"] is None and 0 < said["free_in_ms"] <= 600000, said
        assert tool(cluster, "list")[1].count("job") == 0
        wait_until(lambda: tool(cluster, "--client", "next", "preempt", "soon")[0] == 0, "it is granted")
        end = next(index for index, kind, _ in kinds(cluster, "soon") if kind == "expire")
        granted = shown(cluster, "soon")["token"]
        assert granted > end > lost and cluster_ms(cluster, granted) - cluster_ms(cluster, end) >= 6000
        assert free_in(cluster, "soon") is None


def test_a_delay_of_zero_is_none():
    with Cluster(followers=0) as cluster, contextlib.ExitStack() as stack:
        status, out, error = tool(cluster, "--json", "--client", "dead", "preempt", "--ttl", lasting(5), "--lock-delay", "0", "job")
        assert status == 0, error
        lease = json.loads(out)["token"]
        waiter = stack.enter_context(Waiter(cluster, "--json", "preempt", "--ttl", "20s", "--wait", "job", client="next"))
        with cluster.leader.client("dead") as dead:      # not before somebody waits
            wait_until(lambda: dead.renew(lease).outcome == wire.YES and shown(cluster, "job")["waiting"] == 1, "one waits")
        status, out, error = waiter.finish()
        assert status == 0, error
        end = next(index for index, kind, _ in kinds(cluster, "job") if kind == "expire")
        assert json.loads(out)["token"] == end, (out, kinds(cluster, "job"))
        assert shown(cluster, "job")["lock_delay_ms"] == 1200


def test_who_gives_back_delays_nobody():
    with Cluster(followers=0) as cluster:
        for arguments in (("preempt", "--ttl", "1h", "--lock-delay", "10min", "job"), ("preempt", "--ttl", "1h", "job")):
            assert tool(cluster, "--client", "tidy", *arguments)[0] == 0
            assert tool(cluster, "--client", "tidy", "release", "job")[0] == 0
            assert free_in(cluster, "job") is None
        assert tool(cluster, "run", "--lock-delay", "10min", "job", "true")[0] == 0
        assert tool(cluster, "run", "--lock-delay", "10min", "job", "true")[0] == 0
        with cluster.leader.client("closes") as client:
            session = client.open_session(60000, delay_ms=600000).token
            assert client.preempt("job", session=session).outcome == wire.YES
            assert client.close_session(session).outcome == wire.YES
        assert tool(cluster, "preempt", "job")[0] == 0


def test_a_break_at_once_delays_the_next_and_so_does_a_session_that_expires():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        assert tool(cluster, "--client", "hangs", "preempt", "--ttl", "1h", "--lock-delay", "3s", "job")[0] == 0
        assert shown(cluster, "job")["lock_delay_ms"] == 3000
        waiter = stack.enter_context(Waiter(cluster, "--json", "preempt", "--ttl", "20s", "--wait", "job", client="next"))
        wait_for_queue(cluster, "job", 1)
        begin = time.monotonic()
        assert tool(cluster, "break", "--now", "--reason", "gone", "job")[0] == 0
        status, out, error = waiter.finish()
        assert status == 0 and time.monotonic() - begin > 3, (out, error)
        with cluster.followers[0].client("one") as client:
            session = client.open_session(ms(3), delay_ms=600000).token
            for lock in ("a", "b"):
                assert client.preempt(lock, session=session).outcome == wire.YES
        wait_until(lambda: shown(cluster, "a")["owner"] is None and shown(cluster, "b")["owner"] is None, "both are free")
        for lock in ("a", "b"):
            assert 0 < free_in(cluster, lock) <= 600000
        with cluster.followers[1].client("two") as client:
            told = client.preempt("a")
            assert told.outcome == wire.NO and not told.owner and 0 < told.free_in_ms <= 600000 and "lock-delay after one lost it" in told.reason, told


def test_a_failover_in_a_delay_makes_it_longer_and_not_shorter():
    with Cluster(settings=STEADY) as cluster, contextlib.ExitStack() as stack:
        servers = ",".join(node.address for node in cluster.nodes)
        lose(cluster, "looked-at", "--lock-delay", "10min")
        lost = tool(cluster, "--json", "--client", "dead", "preempt", "--ttl", lasting(3), "--lock-delay", lasting(6), "job")
        assert lost[0] == 0, lost
        waiter = stack.enter_context(Waiter(cluster, "--json", "preempt", "--ttl", "20s", "--wait", "job", client="next", server=servers))
        with cluster.leader.client("looks") as client:
            def over():
                """Since when, at the latest, it has so much of its delay to come."""
                seen, told = time.monotonic(), client.check("job", consistent=True)
                return (seen, told.free_in_ms) if told.outcome == wire.NO else None
            seen, left = wait_until(over, "the lease is over")
        cluster.leader.kill()
        wait_for_leader(cluster)
        assert 0 < free_in(cluster, "looked-at", cluster.followers[0].address) <= 600000
        status, out, error = waiter.finish()
        assert status == 0, (out, error)
        assert time.monotonic() - seen > left / 1000
        token = json.loads(out)["token"]
        rows = [json.loads(line) for line in tool(cluster, "--json", "history", server=cluster.followers[0].address)[1].splitlines()]
        end = next(row for row in rows if row["kind"] == "expire" and row["lock"] == "job")
        grant = next(row for row in rows if row["index"] == token)
        assert grant["kind"] == "grant" and grant["cluster_ms"] - end["cluster_ms"] >= ms(6), (end, grant)
        # Somebody began to lead meanwhile.
        noops = "SELECT idx FROM log WHERE kind = 'noop'"
        wait_until(lambda: cluster.followers[0].sql("SELECT max(idx) FROM log")[0][0] >= token, "it is on its disk")
        assert any(end["index"] < index < token for index, in cluster.followers[0].sql(noops)), (end, token, cluster.followers[0].sql(noops))


def test_a_delay_outlives_the_restart_of_every_node():
    with Cluster() as cluster:
        lose(cluster, "job", "--lock-delay", "10min")
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        wait_for_leader(cluster)
        assert 300000 < free_in(cluster, "job") <= 600000
        assert tool(cluster, "--client", "next", "preempt", "job")[0] == 1
        cluster.leader.stop()
        assert cluster.leader.sql("SELECT lock, client FROM delay") == [("job", "dead")]


def test_run_says_that_the_lock_was_lost_and_waits_until_it_may_have_it():
    with Cluster(followers=0) as cluster:
        lose(cluster, "soon", "--lock-delay", "4s")
        assert tool(cluster, "run", "--wait", "soon", "echo", "ran") == (0, "ran\n", "")
        end = next(index for index, kind, _ in kinds(cluster, "soon") if kind == "expire")
        granted = next(index for index, kind, _ in kinds(cluster, "soon") if kind in ("preempt", "grant") and index > end)
        assert cluster_ms(cluster, granted) - cluster_ms(cluster, end) >= 4000
        lose(cluster, "job", "--lock-delay", "10min")
        status, out, error = tool(cluster, "run", "job", "echo", "ran")
        assert status == 119 and out == "" and one_line(error) and re.search(r"job is free in \d+\.\d s \(lock-delay after dead lost it\)", error), (status, out, error)
        assert tool(cluster, "run", "-E", "7", "job", "echo", "ran")[0] == 7
        status, out, error = tool(cluster, "run", f"--wait={lasting(1)}", "job", "echo", "ran")
        assert status == 118 and out == "" and re.search(r"job is free in \d min \(lock-delay\)", error), (status, out, error)
        status, out, error = tool(cluster, "hold", "--try", "job")
        assert status == 119 and out == "" and re.search(r"job is nobody's yet, free in \d min \(lock-delay\)", error), (status, out, error)


def test_what_is_not_said_depends_on_the_time_to_live_and_what_stops_a_command():
    with Cluster(followers=0) as cluster:
        for ttl, delay in (("1min", 1600), ("1h", 37000), ("24h", 600000)):
            assert tool(cluster, "--client", ttl, "preempt", "--ttl", ttl, ttl)[0] == 0
            assert shown(cluster, ttl)["lock_delay_ms"] == delay
        assert "; lock-delay 37 s" in tool(cluster, "show", "1h")[1]
        assert tool(cluster, "preempt", "plain")[0] == 0
        assert shown(cluster, "plain")["lock_delay_ms"] is None
        for arguments, delay in (((), 8500), (("--ttl", "1h"), 37000), (("--ttl", "1h", "--kill-after", "2min"), 126000), (("--lock-delay", "0s"), None), (("--lock-delay", "90s"), 90000)):
            status, out, error = tool(cluster, "run", *arguments, "job", "sh", "-c", f"{DLOCKCTL} --json show job")
            assert status == 0 and json.loads(out)["lock_delay_ms"] == delay, (arguments, out, error)


def test_a_delay_that_cannot_be_is_refused_in_one_line():
    with Cluster(followers=0) as cluster:
        for line, what in (("preempt --lock-delay 1s x", "with --ttl TIME"), ("preempt --ttl 1s --lock-delay 11min x", "up to 10min"), ("preempt --ttl 1s --lock-delay -1s x", "up to 10min"),
                           ("renew --lock-delay 1s 5", "preempt, run and hold"), ("check --lock-delay 1s x", "preempt, run and hold")):
            status, out, error = tool(cluster, *line.split())
            assert status == 2 and out == "" and one_line(error) and what in error, (line, status, out, error)
        status, out, error = tool(cluster, "run", "--lock-delay", "x", "job", "true")
        assert status == 125 and "up to 10min" in error, error
