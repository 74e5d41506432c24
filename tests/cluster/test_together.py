"""Several locks at once, all or nothing: one token, one lease, one place in every queue."""
import contextlib
import json
import os
import random
import signal
import subprocess
import threading

import wire
from nodes import DLOCKCTL, PATIENCE, Cluster, wait_until
from test_care import leader_of, wait_for_leader
from test_queues import TIMED_OUT, Waiter, shown, wait_for_queue
from test_run import HELD, LOST, USAGE, Run, cgroups_are_given, environment_of, is_alive, kill_both, one_line, owner
from test_tool import tool


def take(cluster, *words, client="ann"):
    status, out, error = tool(cluster, "--client", client, "--json", "preempt", *words)
    assert status == 0, (out, error)
    return json.loads(out)


def owners(cluster, *locks):
    return [owner(cluster, lock) for lock in locks]


def wait_for_waits(cluster, count):
    """A lock that is free shows nobody who waits: the log does."""
    wait_until(lambda: sum(json.loads(line)["kind"] == "wait" for line in tool(cluster, "--json", "history")[1].splitlines()) == count, f"{count} wait")


# --- dlockctl ---


def test_usage_that_makes_no_sense_is_told():
    with Cluster(followers=0) as cluster:
        many = [f"n{i}" for i in range(9)]
        for words, what in ((["preempt", "a", "b", "a"], "a is asked for twice: each lock once would be right"), (["preempt", *many], "up to 8 locks at once would be right"),
                            (["preempt", *many, *many], "up to 8 locks at once would be right"), (["preempt", "a", ""], "not a lock name"), (["preempt", "a", "b\nc"], "not a lock name"),
                            (["preempt", "--shared", "a", "b"], "without slots and period would be right"), (["preempt", "--slots", "2", "a", "b"], "without slots and period"),
                            (["preempt", "--once-per", "1h", "a", "b"], "without slots and period"), (["preempt", "a", "--ttl", "5s"], "options come before the names"),
                            (["preempt", "a", "b", "-w"], "options come before the names"), (["release", "a", "--token"], "options come before the names"),
                            (["preempt"], "preempt takes one operand or more: dlockctl preempt [OPTIONS] NAME... would be right"), (["check", "a", "b"], "check takes one operand"),
                            (["preempt", "--also", "b", "a"], "--also is for dlockctl run and hold")):
            status, out, error = tool(cluster, *words)
            assert (status, out) == (2, "") and one_line(error) and what in error, (words, status, out, error)
        eight = [word for name in many[1:] for word in ("--also", name)]
        for words, what in ((["run", "--also", "a", "a", "true"], "a is asked for twice"), (["run", *eight, "a", "true"], "up to 8 locks"), (["run", "a", "--also", "b", "--shared", "true"], "without slots"),
                            (["hold", "--try", "--also", "", "a"], "not a lock name"), (["run", "a", "--also"], "wants a value")):
            status, out, error = tool(cluster, *words)
            assert (status, out) == (USAGE, "") and one_line(error) and what in error, (words, status, out, error)
        assert owners(cluster, "a", "b", "n0") == [None] * 3
        # What begins with - may be a name, and eight are not too many.
        assert tool(cluster, "preempt", "--", "a", "-b")[0] == 0 and tool(cluster, "check", "--consistent", "--", "-b")[0] == 0
        assert len(take(cluster, *many[1:])["locks"]) == 8


def test_all_are_taken_under_one_token_or_none():
    with Cluster() as cluster:
        said = take(cluster, "c", "a", "b")
        assert said["granted"] and said["locks"] == ["c", "a", "b"] and said["session"] is None, said
        for node in cluster.nodes:
            for lock in ("a", "b", "c"):
                now = shown(cluster, lock, node.address)
                assert (now["owner"], now["token"], now["lease"]) == ("ann", said["token"], False), now
        # One that is held keeps all of them, and those that are free stay so. What is refused is told by name.
        status, out, error = tool(cluster, "--client", "bob", "preempt", "d", "b", "e", "c")
        assert (status, error) == (1, "") and out == f"b: held, token {said['token']}, owner ann\nc: held, token {said['token']}, owner ann\n", (status, out, error)
        refused = json.loads(tool(cluster, "--client", "bob", "--json", "preempt", "d", "b")[1])
        assert not refused["granted"] and refused["token"] is None and refused["locks"] == ["d", "b"] and refused["held"] == [{"lock": "b", "owner": "ann", "free_in_ms": None}], refused
        assert owners(cluster, "d", "e") == [None, None]
        # Also when one of them is held by who asks.
        status, out, _ = tool(cluster, "--client", "ann", "preempt", "b", "d")
        assert (status, out) == (1, f"b: held already by yourself, token {said['token']}, owner ann\n") and owner(cluster, "d") is None, out
        status, out, _ = tool(cluster, "--client", "eve", "preempt", "y", "x")
        assert status == 0 and out.startswith("y, x: granted, token "), out


def test_each_is_released_by_itself_and_release_takes_several():
    with Cluster() as cluster:
        token = take(cluster, "--ttl", "1h", "a", "b", "c", "d")["token"]
        assert tool(cluster, "--client", "ann", "release", "b")[:2] == (0, f"b: released, token {token}\n")
        assert owners(cluster, "a", "b", "c", "d") == ["ann", None, "ann", "ann"]
        # The lease lives on with the others.
        assert tool(cluster, "--client", "ann", "renew", "--ttl", "1h", str(token))[0] == 0
        take(cluster, "b", client="bob")
        status, out, error = tool(cluster, "--client", "ann", "release", "--token", str(token), "a", "b", "c")
        assert (status, error) == (1, "") and out.splitlines()[0] == f"a: released, token {token}" and out.splitlines()[1].startswith("b: not released, token ") \
            and out.splitlines()[2] == f"c: released, token {token}", out
        status, out, _ = tool(cluster, "--client", "ann", "--json", "release", "d", "a")
        lines = [json.loads(line) for line in out.splitlines()]
        assert status == 1 and [(line["lock"], line["released"]) for line in lines] == [("d", True), ("a", False)], lines
        # With the last of them the lease has ended.
        assert tool(cluster, "--client", "ann", "renew", "--ttl", "1h", str(token))[0] == 1
        first = take(cluster, "x", "y")["token"]
        assert tool(cluster, "--client", "ann", "release", "--token", str(first), "y", "x")[0] == 0
        # By the id that is kept for this user.
        status, out, error = tool(cluster, "preempt", "p", "q")
        assert status == 0, error
        status, out, error = tool(cluster, "release", "p", "q")
        assert (status, error, out.count(": released, token ")) == (0, "", 2), (status, out, error)
        for node in cluster.nodes[:2]:
            node.kill()
        status, out, error = tool(cluster, "--client", "ann", "--timeout", "1s", "release", "x", "y")
        assert (status, out) == (3, "") and "dlockctl: x: not known to be released\n" in error and "dlockctl: y: not known to be released\n" in error, error


def test_lease_that_expires_frees_all_at_once_and_those_who_wait_for_each_get_in():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        said = take(cluster, "--ttl", "2s", "--lock-delay", "0", "a", "b", "c")
        assert said["session"] == said["token"] and said["deadline_boottime_ms"], said
        waiters = [stack.enter_context(Waiter(cluster, "--json", "preempt", "--wait", lock, client=f"w{lock}")) for lock in ("a", "b", "c")]
        tokens = []
        for waiter in waiters:
            status, out, error = waiter.finish()
            assert status == 0, (out, error)
            tokens.append(json.loads(out)["token"])
        assert owners(cluster, "a", "b", "c") == ["wa", "wb", "wc"]
        assert len(set(tokens)) == 1 or tokens == sorted(tokens), tokens
        kinds = [json.loads(line) for line in tool(cluster, "--json", "history")[1].splitlines()]
        assert sum(kind["kind"] == "expire" for kind in kinds) == 1, kinds


def test_lock_delay_is_of_each_of_them():
    with Cluster() as cluster:
        take(cluster, "--ttl", "1s", "--lock-delay", "1min", "a", "b")
        wait_until(lambda: owner(cluster, "a") is None, "the lease expires")
        status, out, error = tool(cluster, "--client", "bob", "preempt", "c", "b", "a")
        assert (status, error) == (1, "") and [line.split(" in ")[0] for line in out.splitlines()] == ["b: free", "a: free"] and "(lock-delay)" in out, out
        status, out, error = tool(cluster, "run", "--also", "b", "c", "true")
        assert status == HELD and one_line(error) and "b is free in" in error, error


def test_who_waits_for_several_gets_all_in_its_turn_and_is_not_starved_by_those_who_want_one():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        take(cluster, "a", client="h")
        both = stack.enter_context(Waiter(cluster, "--json", "preempt", "--wait", "b", "a", client="both"))
        wait_for_queue(cluster, "a", 1)
        # It has nothing yet, and b is free: but nobody passes it.
        assert owner(cluster, "b") is None and both.process.poll() is None
        status, out, _ = tool(cluster, "--client", "late", "preempt", "b")
        assert (status, out) == (1, "b: it is free, but somebody waits for it and for others together\n"), out
        status, out, _ = tool(cluster, "--client", "late", "preempt", "c", "b")
        assert (status, out) == (1, "c, b: one of them is free, but somebody waits for it and for others together\n"), out
        status, out, error = tool(cluster, "run", "b", "true")
        assert status == HELD and one_line(error) and "somebody waits for it" in error, (status, error)
        singles = []
        for i in range(6):
            singles.append(stack.enter_context(Waiter(cluster, "--json", "preempt", "--wait", "ab"[i % 2], client=f"s{i // 2}{'ab'[i % 2]}")))
            wait_for_waits(cluster, 2 + i)
        assert tool(cluster, "--client", "h", "release", "a")[0] == 0
        status, out, error = both.finish()
        assert status == 0, (out, error)
        token = json.loads(out)["token"]
        assert owners(cluster, "a", "b") == ["both", "both"] and shown(cluster, "b")["token"] == token == shown(cluster, "a")["token"]
        assert all(single.process.poll() is None for single in singles)
        assert tool(cluster, "--client", "both", "release", "a", "b")[0] == 0
        for i, single in enumerate(singles):
            status, out, error = single.finish()
            assert status == 0, (out, error)
            assert tool(cluster, "--client", f"s{i // 2}{'ab'[i % 2]}", "release", "ab"[i % 2])[0] == 0


def test_a_stream_of_those_who_want_one_starves_nobody_who_wants_both():
    with Cluster() as cluster:
        stop = cluster.directory / "stop"
        stream = ["sh", "-c", 'while ! test -e "$D/stop"; do "$DLOCKCTL" run --wait "$0" true || exit 1; done']
        loops = [subprocess.Popen([*stream, lock], env=environment_of(cluster, DLOCK_SERVER=cluster.nodes[i].address), stdin=subprocess.DEVNULL) for i in range(3) for lock in ("a", "b")]
        try:
            tokens = []
            for i in range(5):
                status, out, error = tool(cluster, "--client", f"both{i}", "--json", "preempt", "--wait", "--ttl", "1min", "a", "b")
                assert status == 0, (out, error)
                tokens.append(json.loads(out)["token"])
                assert tool(cluster, "--client", f"both{i}", "release", "--token", str(tokens[-1]), "b", "a")[0] == 0
        finally:
            stop.touch()
            codes = [loop.wait(PATIENCE) for loop in loops]
        assert codes == [0] * len(loops), codes
        # While one waits for both, nobody gets one of them who has not waited.
        events = [json.loads(line) for line in tool(cluster, "--json", "history")[1].splitlines()]
        for i, token in enumerate(tokens):
            came = [event["index"] for event in events if event["kind"] == "wait" and event["client"] == f"both{i}"]
            assert not [event for event in events if event["kind"] == "preempt" and came and came[0] < event["index"] < token], (came, token, events)


def test_who_gives_up_leaves_every_queue():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        take(cluster, "a", client="h")
        status, out, _ = tool(cluster, "--client", "late", "--json", "preempt", "--wait=300ms", "b", "a")
        assert status == 1 and json.loads(out)["timed_out"] and json.loads(out)["held"] == [{"lock": "a", "owner": "h", "free_in_ms": None}], out
        status, out, _ = tool(cluster, "--client", "late", "preempt", "--wait=300ms", "b", "a")
        assert status == 1 and out.splitlines()[0] == "b, a: it was not granted in time" and out.splitlines()[1].endswith(", owner h"), out
        told = stack.enter_context(Waiter(cluster, "preempt", "--wait", "c", "a", "b", client="told"))
        wait_for_queue(cluster, "a", 1)
        behind = stack.enter_context(Waiter(cluster, "preempt", "--wait", "b", client="behind"))
        wait_for_waits(cluster, 4)
        told.process.send_signal(signal.SIGTERM)
        assert told.finish()[0] == -signal.SIGTERM
        # It was first for b, which was free.
        assert behind.finish()[0] == 0 and owner(cluster, "b") == "behind"
        assert tool(cluster, "--client", "x", "preempt", "c")[0] == 0
        status, out, error = tool(cluster, "run", "--wait=300ms", "--also", "c", "a", "true")
        assert status == TIMED_OUT and one_line(error) and "a is held by " in error and "; c is held by " in error, error
        assert shown(cluster, "a")["waiting"] == 0


def test_who_waits_too_long_for_several_is_told_that_it_waits_no_more_and_a_free_one_shows_who_waits():
    with Cluster(followers=0) as cluster, contextlib.ExitStack() as stack:
        take(cluster, "b", client="h")
        for more in (), ("--json",):
            stopped = stack.enter_context(Waiter(cluster, "preempt", "--ttl", "2s", "--wait", *more, "a", "b", client="stopped"))
            wait_for_queue(cluster, "b", 1)
            row = shown(cluster, "a")
            assert row["owner"] is None and row["waiting"] == 1 and [each["owner"] for each in row["queue"]] == ["stopped"], row
            stopped.process.send_signal(signal.SIGSTOP)
            wait_for_queue(cluster, "b", 0)
            assert shown(cluster, "a")["waiting"] == 0 and shown(cluster, "a")["queue"] == []
            stopped.process.send_signal(signal.SIGCONT)
            status, out, error = stopped.finish()
            assert status == 1 and error == "", (status, out, error)
            if more:
                assert json.loads(out)["held"] == [{"lock": "b", "owner": "h", "free_in_ms": None}] and not json.loads(out)["timed_out"], out
                assert json.loads(out)["reason"].startswith("it waits no more"), out
            else:
                assert out.splitlines()[0].startswith("a, b: it waits no more") and out.splitlines()[1].startswith("b: held, "), out


def test_keep_and_break_are_of_all_in_the_lease():
    with Cluster() as cluster:
        token = take(cluster, "--ttl", "1h", "a", "b")["token"]
        status, _, error = tool(cluster, "break", "--reason", "it hangs", "b", server=cluster.leader.address)
        assert status == 2 and one_line(error) and "can only be broken at once" in error, (status, error)
        assert owners(cluster, "a", "b") == ["ann", "ann"]
        assert tool(cluster, "break", "--now", "--reason", "it hangs", "b", server=cluster.leader.address)[0] == 0
        wait_until(lambda: owners(cluster, "a", "b") == [None, None], lambda: f"both are free: {owners(cluster, 'a', 'b')}")
        assert tool(cluster, "--client", "ann", "renew", "--ttl", "1h", str(token))[0] == 1


# --- run and hold ---


def test_run_has_all_in_its_environment_and_gives_all_back_at_once():
    with Cluster() as cluster:
        status, out, error = tool(cluster, "run", "b", "--also", "c", "--also", "a", "--", "sh", "-c", 'echo "$DLOCK_NAME $DLOCK_TOKEN"; echo "$DLOCK_HELD"; "$0" --json check --consistent c', DLOCKCTL)
        assert (status, error) == (0, ""), error
        lines = out.splitlines()
        token = lines[0].split()[1]
        assert lines[0].split()[0] == "b" and lines[1:4] == [f"{token} b", f"{token} c", f"{token} a"] and json.loads(lines[4])["token"] == int(token), lines
        assert owners(cluster, "a", "b", "c") == [None] * 3
        kinds = [json.loads(line)["kind"] for line in tool(cluster, "--json", "history")[1].splitlines()]
        assert kinds.count("close") == 1 and kinds.count("release") == 0, kinds
        # The same after it has waited.
        take(cluster, "--ttl", "2s", "--lock-delay", "0", "a", client="short")
        with Waiter(cluster, "run", "--wait", "--also", "a", "b", "sh", "-c", "exit 7") as job:
            assert job.finish()[0] == 7
        assert owners(cluster, "a", "b") == [None] * 2 and not shown(cluster, "a")["waiting"]


def test_run_is_refused_with_all_who_hold_one():
    with Cluster() as cluster:
        take(cluster, "b", client="bob")
        take(cluster, "c", client="cid")
        status, out, error = tool(cluster, "run", "--also", "b", "--also", "c", "a", "true")
        assert (status, out) == (HELD, "") and one_line(error) and "b is held by uid:" in error and "; c is held by uid:" in error and "a is" not in error, error
        assert tool(cluster, "run", "-E", "5", "--also", "b", "a", "true")[0] == 5
        assert owner(cluster, "a") is None


def test_sigkill_of_run_frees_all_at_once():
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "1h", "--kill-after", "300ms", "--also", "a", "job", "sh", "-c", 'echo $$ >>"$PIDS"; echo $$ >>"$PIDS"; exec sleep 1000') as job:
        job.wait_for_pids()
        assert owner(cluster, "a") == owner(cluster) is not None
        os.kill(job.process.pid, signal.SIGKILL)
        wait_until(lambda: owners(cluster, "job", "a") == [None, None], "both locks are free")
        assert not any(is_alive(pid) for pid in job.pids)
        job.finish()
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "1h", "--kill-after", "300ms", "--also", "a", "job", "sh", "-c", 'echo $$ >>"$PIDS"; echo $$ >>"$PIDS"; exec sleep 1000') as job:
        job.wait_for_pids()
        os.kill(job.guardian(), signal.SIGKILL)
        status, _, error = job.finish()
        assert status == LOST and one_line(error) and error.startswith("dlockctl: job, a: ") and "was given back" in error, (status, error)
        assert owners(cluster, "job", "a") == [None, None]


def test_sigkill_of_run_and_its_guardian_frees_all_at_once_where_there_are_cgroups():
    with Cluster(followers=0) as cluster:
        if not cgroups_are_given(cluster):
            return
        with Run(cluster, "--ttl", "1h", "--kill-after", "2min", "--also", "a", "--also", "b", "job", "sh", "-c", 'echo $$ >>"$PIDS"; echo $$ >>"$PIDS"; exec sleep 1000') as job:
            job.wait_for_pids()
            kill_both(job)
            wait_until(lambda: owners(cluster, "job", "a", "b") == [None] * 3, "all are free")
            job.finish()
        kinds = [json.loads(line)["kind"] for line in tool(cluster, "--json", "history")[1].splitlines()]
        assert kinds.count("close") == 1, kinds


def test_run_loses_all_or_nothing():
    with Cluster(followers=0) as cluster, Run(cluster, "--ttl", "3s", "--also", "a", "job", "sh", "-c", 'echo $$ >>"$PIDS"; echo $$ >>"$PIDS"; exec sleep 1000') as job:
        job.wait_for_pids()
        assert tool(cluster, "break", "--now", "--reason", "it hangs", "a", server=cluster.leader.address)[0] == 0
        status, _, error = job.finish()
        assert status == LOST and one_line(error) and error.startswith("dlockctl: job, a: the lock was lost"), (status, error)
        assert owners(cluster, "job", "a") == [None, None]


def test_hold_holds_all_and_what_is_left_when_it_is_killed_is_given_back():
    with Cluster() as cluster:
        runtime = cluster.directory / "runtime"
        runtime.mkdir()
        take(cluster, "a", client="h")
        with Waiter(cluster, "hold", "--json", "--also", "a", "job") as hold:
            wait_for_queue(cluster, "a", 1)
            assert tool(cluster, "--client", "h", "release", "a")[0] == 0
            said = json.loads(hold.process.stdout.readline())
            assert said["lock"] == "job" and said["locks"] == ["job", "a"] and shown(cluster, "a")["token"] == said["token"], said
            hold.process.send_signal(signal.SIGTERM)
            status, out, error = hold.finish()
            assert status == 0 and not json.loads(out)["held"] and "a is held by" in error, (status, out, error)
        assert owners(cluster, "job", "a") == [None, None]
        environment = {**environment_of(cluster), "RUNTIME_DIRECTORY": str(runtime)}
        words = ["hold", "--ttl", "1h", "--also", "a", "job"]
        held = subprocess.Popen([DLOCKCTL, *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        assert held.stdout.readline().startswith("job, a: held, token ")
        held.kill()
        held.wait()
        held.stdout.close()
        assert owner(cluster, "a")
        assert subprocess.run([DLOCKCTL, "hold", "--finish", "job"], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=PATIENCE, check=False).returncode == 0
        assert owners(cluster, "job", "a") == [None, None]


# --- over everything that may happen ---


def test_holders_and_waiters_outlive_the_leader():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        servers = ",".join(node.address for node in cluster.nodes)
        holder = stack.enter_context(Waiter(cluster, "hold", "--json", "--also", "b", "a", server=servers))
        token = json.loads(holder.process.stdout.readline())["token"]
        pairs = []
        for count, lock in ((1, "a"), (2, "c")):
            pairs.append(stack.enter_context(Waiter(cluster, "hold", "--json", "--also", lock, "b", server=servers)))
            wait_for_queue(cluster, "b", count)
        leader_of(cluster).kill()
        wait_for_leader(cluster)
        server = next(node.address for node in cluster.nodes if node.process.poll() is None)
        assert shown(cluster, "a", server)["token"] == token == shown(cluster, "b", server)["token"]
        assert tool(cluster, "--client", "late", "preempt", "c", server=server)[0] == 1
        holder.process.send_signal(signal.SIGTERM)
        assert holder.finish()[0] == 0
        said = [json.loads(pairs[i].process.stdout.readline()) if i == 0 else None for i in range(2)]
        assert shown(cluster, "b", server)["token"] == said[0]["token"] > token
        pairs[0].process.send_signal(signal.SIGTERM)
        assert pairs[0].finish()[0] == 0
        last = json.loads(pairs[1].process.stdout.readline())
        assert shown(cluster, "b", server)["token"] == last["token"] == shown(cluster, "c", server)["token"]
        pairs[1].process.send_signal(signal.SIGTERM)
        assert pairs[1].finish()[0] == 0


def test_contention_for_overlapping_sets_is_no_deadlock_and_never_two_in_one_lock():
    rounds, clients, locks = 6, 8, ("a", "b", "c", "d", "e")
    job = 'for name in "$@"; do mkdir "$D/in-$name" || echo "two in $name" >>"$D/wrong"; done; sleep 0.02; for name in "$@"; do rmdir "$D/in-$name"; done; echo x >>"$D/done"'
    with Cluster() as cluster:
        failures = []

        def live(number):
            chance = random.Random(number)
            for _ in range(rounds):
                names = chance.sample(locks, chance.choice((1, 2, 2, 3)))
                words = [word for name in names[1:] for word in ("--also", name)]
                status, _, error = tool(cluster, "run", "--wait", *words, names[0], "sh", "-c", job, "sh", *names, server=cluster.nodes[number % 3].address, D=str(cluster.directory))
                if status != 0:
                    failures.append((names, status, error))

        threads = [threading.Thread(target=live, args=(i,)) for i in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * PATIENCE)
            assert not thread.is_alive(), "somebody waits for ever"
        assert not failures and not (cluster.directory / "wrong").exists(), failures
        assert len((cluster.directory / "done").read_text().split()) == rounds * clients
        assert owners(cluster, *locks) == [None] * len(locks)


# --- the wire ---


def test_hostile_names_end_their_connection_only():
    with Cluster(followers=0) as cluster:
        node = cluster.nodes[0]
        for further, more in ((("b", "a"), {}), (("a",), {}), (("c", "c"), {}), (tuple("cdefghij"), {}), (("c",), {"slots": 2}), (("c",), {"period_ms": 60000}), (("",), {}), (("c\n",), {})):
            with node.client("hostile") as client:
                try:
                    got = client.preempt("b", further=further, **more)
                except (wire.Closed, wire.Refused):
                    continue
                raise AssertionError((further, more, got))
        with node.client("good") as client:
            got = client.preempt("b", further=("c", "d"))
            assert got.outcome == wire.YES and client.check("d").token == got.token


def test_history_of_each_name_has_what_it_was_wanted_in():
    with Cluster() as cluster, contextlib.ExitStack() as stack:
        token = take(cluster, "c", "a", "b", client="h")["token"]
        take(cluster, "x", client="h")
        waiter = stack.enter_context(Waiter(cluster, "--json", "preempt", "--wait", "b", "d", client="w"))
        wait_for_queue(cluster, "b", 1)
        for server in [node.address for node in cluster.nodes]:
            for lock, others in (("a", "b, c"), ("b", "a, c"), ("c", "a, b")):
                # A follower's log has what it was told of.
                events = wait_until(lambda lock=lock, server=server: [json.loads(line) for line in tool(cluster, "--json", "history", lock, server=server)[1].splitlines()], "it is in the log")
                assert [(event["kind"], event["lock"], event["detail"], event["token"]) for event in events if event["kind"] == "preempt"] == [("preempt", lock, f"with {others}", token)], events
                assert [event["detail"] for event in events if event["kind"] == "wait"] == (["with d"] if lock == "b" else []), events
        out = tool(cluster, "history", "b")[1]
        assert f"  preempt        b{' ' * 31}  h  token {token}  with a, c\n" in out, out
        assert tool(cluster, "history", "d")[1].count("  wait  ") == 1 and "with a" not in tool(cluster, "history", "x")[1]
        everything = [json.loads(line) for line in tool(cluster, "--json", "history")[1].splitlines()]
        assert [(event["lock"], event["detail"]) for event in everything if event["kind"] == "preempt"] == [("a", "with b, c"), ("x", None)], everything
        rows = cluster.leader.sql("SELECT lock FROM log WHERE kind IN ('preempt', 'wait') ORDER BY idx")
        assert rows == [("a\nb\nc",), ("x",), ("b\nd",)], rows
        assert "preempt a, b, c by h at " in cluster.leader.log(), cluster.leader.log()[-500:]
        # What is read back from the disk agrees with what was written.
        for node in cluster.nodes:
            node.stop()
        for node in cluster.nodes:
            node.launch()
        wait_for_leader(cluster)
        assert tool(cluster, "--client", "h", "release", "--token", str(token), "a", "b", "c")[0] == 0
        assert json.loads(waiter.finish()[1])["granted"]
