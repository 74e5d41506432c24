"""dlockctl as scripts use it: exit status, JSON, one line on stderr."""
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time

import wire
from nodes import DLOCKCTL, PATIENCE, Cluster, wait_until


def variables_of(cluster, home, server=None):
    """Nothing of whoever runs the tests: clusters of tests have no place in a real home."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "DLOCK_SERVER": server or cluster.nodes[-1].address}


def tool(cluster, *arguments, server=None, user=None, **environment):
    """(exit status, stdout, stderr) of dlockctl at the last follower, or the node named by server."""
    program = DLOCKCTL
    if user:
        # The tree may be in a home that others may not look into.
        program = cluster.directory / "dlockctl"
        for file in ("dlockctl", "libdlock.so.0"):
            shutil.copy(DLOCKCTL.parent / file, cluster.directory)
    home = cluster.directory / f"home-{user or 0}"
    home.mkdir(exist_ok=True)
    if user:
        os.chown(home, user, user)
        cluster.directory.chmod(0o755)
    variables = {**variables_of(cluster, home, server), **environment}
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=2 * PATIENCE, env=variables, user=user, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def test_exit_statuses_are_yes_no_usage_unknown_unreachable():
    with Cluster() as cluster:
        assert tool(cluster, "check", "backup")[0] == 1
        assert tool(cluster, "preempt", "backup")[0] == 0
        assert tool(cluster, "preempt", "backup")[0] == 1
        assert tool(cluster, "check", "backup")[0] == 0
        assert tool(cluster, "--client", "other", "preempt", "backup")[0] == 1
        assert tool(cluster, "--client", "other", "release", "backup")[0] == 1
        assert tool(cluster, "release", "backup")[0] == 0
        for wrong in (["preempt"], ["nonsense"], ["check", "a", "b"], ["preempt", ""], ["preempt", "a\nb"], ["--client", "a b", "check", "x"],
                      ["--timeout", "soon", "check", "x"], ["--server", "nowhere", "check", "x"], ["--nonsense", "check", "x"],
                      ["bench", "--prefix", "x" * 254]):
            status, out, error = tool(cluster, *wrong)
            assert (status, out) == (2, "") and error.startswith("dlockctl: ") and error.count("\n") == 1, (wrong, status, out, error)
        status, _, error = tool(cluster, "--timeout", "2", "preempt", "backup", server=str(cluster.directory / "nobody.sock"))
        assert status == 4 and error.count("\n") == 1, (status, error)
        for node in cluster.nodes[:2]:
            node.kill()
        for command in ("preempt", "release"):
            status, out, error = tool(cluster, "--json", "--timeout", "1500ms", command, "backup")
            assert (status, out) == (3, "") and error.count("\n") == 1, (status, error)
            assert ("nothing was released" in error) == (command == "release"), error
        for node in cluster.nodes[2:]:
            node.process.send_signal(signal.SIGSTOP)
        for command in ("check", "preempt"):
            status, out, error = tool(cluster, "--json", "--timeout", "1ms", command, "backup")
            assert (status, out) in ((3, ""), (4, "")) and error.rstrip().endswith(("in time", "time to ask", "happened or not")), (status, error)


def test_a_release_with_a_token_is_of_that_hold_only():
    with Cluster(followers=0) as cluster:
        def token(*arguments):
            return json.loads(tool(cluster, "--client", "alice", "--json", *arguments)[1])["token"]
        first = token("preempt", "x")
        assert token("release", "x") == first
        second = token("preempt", "x")
        status, out, _ = tool(cluster, "--client", "alice", "release", "--token", str(first), "x")
        assert (status, out) == (1, f"x: not released, token {second}, owner alice\n")
        status, out, _ = tool(cluster, "--client", "bob", "release", f"--token={second}", "x")
        assert (status, out) == (1, f"x: not released, token {second}, owner alice\n")
        assert json.loads(tool(cluster, "--client", "alice", "--json", "release", "--token", str(first), "x")[1]) == {
            "lock": "x", "released": False, "token": second, "owner": "alice"}
        status, out, _ = tool(cluster, "--client", "alice", "release", "--token", str(second), "x")
        assert (status, out) == (0, f"x: released, token {second}\n")
        status, out, _ = tool(cluster, "--client", "alice", "release", "--token", str(second), "x")
        assert (status, out) == (1, "x: not released, nobody owns it\n")


def test_what_is_wrong_with_an_option_is_told_of_that_option():
    with Cluster(followers=0) as cluster:
        for words, what in (("release --token 0 x", "--token 0: a number from 1 to 2^53 - 1"), ("release --token=-1 x", "--token -1: a number from 1 to 2^53 - 1"),
                            ("release --token 18446744073709551616 x", "a number from 1 to 2^53 - 1"), ("release --token 5x x", "--token 5x: a number from 1 to 2^53 - 1"),
                            ("release --token", "option --token wants a value; dlockctl release --help"), ("--token 5 release x", "--token is for dlockctl release"),
                            ("show --token 5 x", "--token is for dlockctl release, check, fence and break"), ("list --prefix a", "--prefix is for dlockctl bench"),
                            ("list --sec 5", "--seconds is for dlockctl bench"), ("bench --prefix", "option --prefix wants a value; dlockctl bench --help"),
                            ("list --force", "--force is for dlockctl backup"), ("check --ttl 5s x", "--ttl is for dlockctl preempt, renew, run and hold"),
                            ("preempt --ttl 999ms x", "--ttl 999ms: a time from 1s to 24h"), ("preempt --ttl 25h x", "--ttl 25h: a time from 1s to 24h"),
                            ("preempt --ttl", "option --ttl wants a value"), ("renew x", "x is no token"), ("renew 0", "0 is no token"),
                            ("renew", "renew takes one operand: dlockctl renew [OPTIONS] TOKEN would be right"), ("list --consistent", "--consistent is for dlockctl check")):
            status, out, error = tool(cluster, *words.split())
            assert (status, out, error.count("\n")) == (2, "", 1) and what in error, (words, status, error)


def keys_in_the_manual():
    """{command: keys} of the section JSON of dlockctl(1)."""
    keys, command = {}, None
    for line in (pathlib.Path(__file__).parents[2] / "packaging/man/dlockctl.1").read_text().split(".Sh JSON")[1].split(".Sh ")[0].splitlines():
        if line.startswith(".It Cm "):
            command = line.split()[2]
            keys[command] = []
        elif line.startswith(".Cm "):
            keys[command].append(line.split()[1])
    return {command: sorted(names) for command, names in keys.items()}


def test_json_has_the_documented_keys():
    with Cluster() as cluster:
        def told(*arguments):
            return json.loads(tool(cluster, "--json", *arguments)[1])
        free = told("check", "backup")
        assert free["lock"] == "backup" and free["owner"] is None and free["index"] > 0 and free["leader_age_ms"] >= 0, free
        got = told("--client", "alice", "preempt", "backup")
        assert got["granted"] is True and got["owner"] == "alice" and got["token"] > 0, got
        no = told("--client", "bob", "preempt", "backup")
        assert no["granted"] is False and no["owner"] == "alice" and no["token"] is None, no
        held = told("check", "backup")
        assert (held["owner"], held["token"]) == ("alice", got["token"])
        status = told("status")
        assert status["node"] == "follower-2" and status["leader"] in [node.name for node in cluster.nodes]
        assert status["role"] == ("leader" if status["leader"] == "follower-2" else "follower"), status
        assert status["term"] > 0 and status["applied"] <= status["commit"]
        documented = keys_in_the_manual()
        for command in (f"backup {cluster.directory}/backup", "check other", "preempt other", "preempt --ttl 1h leased", "renew 999", "show leased", "show other", "release other", "show nobody", "list", "history", "status", "whoami",
                        "bench --clients 1 --seconds 1", "forget-cluster"):
            command = command.split()
            for line in tool(cluster, "--json", *command)[1].splitlines():
                assert sorted(json.loads(line)) == documented[command[0]], (command, line)


def test_a_lease_is_renewed_or_ends():
    with Cluster() as cluster:
        got = json.loads(tool(cluster, "--json", "preempt", "--ttl", "1h", "long")[1])
        left_ms = got["deadline_boottime_ms"] - time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6
        assert got["granted"] and got["session"] == got["token"] and got["ttl_ms"] == 3600000 and 3500000 < left_ms <= 3564000, (got, left_ms)
        no = json.loads(tool(cluster, "--json", "preempt", "--ttl", "1h", "long")[1])
        assert no["granted"] is False and (no["session"], no["ttl_ms"], no["deadline_boottime_ms"]) == (None, None, None), no
        status, out, _ = tool(cluster, "renew", "--ttl", "1h", str(got["token"]))
        assert status == 0 and re.fullmatch(f"{got['token']}: renewed, for 59 min if it is not renewed\n", out), (status, out)
        assert tool(cluster, "renew", str(got["token"]))[:2] == (0, f"{got['token']}: renewed\n")
        # What it does not live for is not to be counted on.
        for node in cluster.nodes:
            status, out, error = tool(cluster, "renew", "--ttl", "2h", str(got["token"]), server=node.address)
            assert (status, out, error.count("\n")) == (2, "", 1) and "its time to live is 3600.000 s" in error, (status, out, error)
        for node in cluster.nodes:
            leads = node.status()["role"] == "leader"
            wait_until(lambda: tool(cluster, "check", "long", server=node.address)[0] == 0, f"{node.name} knows of it")
            row = json.loads(tool(cluster, "--json", "show", "long", server=node.address)[1])
            assert (row["session"], row["ttl_ms"]) == (got["token"], 3600000) and (row["expires_ms"] is None or 3500000 < row["expires_ms"] <= 3600000), row
            out = tool(cluster, "show", "long", server=node.address)[1]
            assert re.search(r"^  lease   of 60 min(, ends in 59 min if it is not renewed)?; lock-delay 37 s$", out, re.M), out
            if leads and node.status()["role"] == "leader":
                assert row["expires_ms"] is not None and ", ends in" in out, (row, out)
        assert tool(cluster, "release", "long")[0] == 0
        assert tool(cluster, "renew", str(got["token"]))[:2] == (1, f"{got['token']}: not renewed, it has ended\n")

        status, out, _ = tool(cluster, "--client", "alice", "preempt", "--ttl", "1s", "short")
        token = int(re.fullmatch(r"short: granted, token (\d+), owner alice, for 0\.[0-9] s if it is not renewed\n", out)[1])
        wait_until(lambda: tool(cluster, "check", "--consistent", "short")[0] == 1, "nobody renewed it")
        assert json.loads(tool(cluster, "--client", "alice", "--json", "renew", "--ttl", "1s", str(token))[1]) == {
            "renewed": False, "session": None, "ttl_ms": None, "deadline_boottime_ms": None}
        wait_until(lambda: f"expire         short                             alice  token {token}\n" in tool(cluster, "history", "short")[1], "its end is an entry")
        assert tool(cluster, "--client", "alice", "release", "--token", str(token), "short")[0] == 1
        assert json.loads(tool(cluster, "--json", "show", "short")[1])["session"] is None


def test_a_lock_in_a_session_is_shown_with_it():
    with Cluster(followers=0) as cluster, cluster.leader.client("alice") as alice:
        session = alice.open_session(60000).token
        assert alice.preempt("x", session=session).token > session
        row = json.loads(tool(cluster, "--json", "list")[1])
        assert (row["session"], row["ttl_ms"]) == (session, 60000) and 50000 < row["expires_ms"] <= 60000, row
        out = tool(cluster, "show", "x")[1]
        assert re.search(rf"^  session {session} of 60 s, ends in 5\d s if it is not renewed$", out, re.M), out
        assert alice.renew(session).token == session
        assert alice.close_session(session).outcome == wire.YES
        wait_until(lambda: tool(cluster, "check", "x")[0] == 1, "what was held in it is free")
        out = tool(cluster, "history")[1]
        assert re.search(rf" open +alice  session {session}$", out, re.M) and re.search(rf" close +alice  session {session}$", out, re.M), out
        # Locks that are held until they are released have no session.
        assert alice.preempt("y").outcome == wire.YES
        row = json.loads(tool(cluster, "--json", "list")[1])
        assert (row["lock"], row["session"], row["ttl_ms"], row["expires_ms"]) == ("y", None, None, None), row


def test_history_tells_what_configurations_and_addresses_are_about():
    with Cluster(followers=1) as cluster:
        follower = cluster.followers[0]
        assert tool(cluster, "preempt", "x")[0] == 0
        follower.stop()
        out = tool(cluster, "history", server=cluster.leader.address)[1]
        for kind, detail in (("configuration", r"level \d+: leader \(preferred\), follower-1 \(learner\)"), ("configuration", r"level \d+: leader \(preferred\), follower-1"),
                             ("address", f"leader at {cluster.leader.peer}"), ("address", f"follower-1 at {follower.peer}"), ("address", f"follower-1 at {follower.peer}, stopped")):
            assert re.search(rf"^ *\d+  \S+ \S+  {kind} +{detail}$", out, re.M), (kind, detail, out)
        rows = [json.loads(line) for line in tool(cluster, "--json", "history", server=cluster.leader.address)[1].splitlines()]
        assert all((row["detail"] is not None) == (row["kind"] in ("configuration", "address")) for row in rows), rows
        assert any(row["detail"] == f"follower-1 at {follower.peer}, stopped" for row in rows), rows


def test_a_list_tells_in_its_last_columns_what_each_lock_lives_in():
    with Cluster(followers=1) as cluster, cluster.leader.client("alice") as alice:
        session = alice.open_session(60000).token
        for name, life in (("in a session", {"session": session}), ("kept", {}), ("leased", {"ttl_ms": 3600000})):
            assert alice.preempt(name, **life).outcome == wire.YES
        follower = cluster.followers[0]
        wait_until(lambda: follower.status()["applied"] >= cluster.leader.status()["commit"], "the follower has them")
        wait_until(lambda: cluster.leader.status()["role"] == "leader", "the leader leads")
        for node, minute, hour in ((cluster.leader, r"[456]\d s", r"(59|60) min"), (follower, "-", "-")):
            title, *rows = tool(cluster, "list", server=node.address)[1].splitlines()
            assert title.split() == ["LOCK", "OWNER", "TOKEN", "HELD", "SINCE", "SESSION", "TTL", "LEFT", "WAITING", "HOLDERS"], title
            ends = [row[title.index("SINCE") + 19:] for row in rows]
            for end, expected in zip(ends, (rf" +{session} +60 s +{minute} +0 +1", r" +- +- +- +0 +1", rf" +lease +60 min +{hour} +0 +1"), strict=True):
                assert re.fullmatch(expected, end), (node.name, expected, rows)
            assert len({len(line) for line in (title, *rows)}) == 1, (title, rows)


def test_show_tells_who_holds_a_lock_at_every_node_and_after_a_restart():
    with Cluster() as cluster:
        status, out, _ = tool(cluster, "show", "backup")
        assert status == 1 and out.startswith("backup: free (as of entry "), (status, out)
        assert tool(cluster, "--client", "alice", "preempt", "--note", "nightly, J\u00f6rg", "backup")[0] == 0
        for server in [node.address for node in cluster.nodes]:
            status, out, error = tool(cluster, "--json", "show", "--consistent", "backup", server=server)
            shown = json.loads(out)
            expected = {"lock": "backup", "owner": "alice", "user": f"uid:{os.getuid()}", "host": socket.gethostname(), "pid": os.getpid(),
                        "note": "nightly, J\u00f6rg"}
            assert (status, error) == (0, "") and {key: shown[key] for key in expected} == expected, (server, shown, error)
            listed = json.loads(tool(cluster, "--json", "list", server=server)[1])
            assert {key: listed[key] for key in expected} == expected, (server, listed)
        out = tool(cluster, "show", "backup")[1]
        for line in ("  owner   alice\n", f"  host    {socket.gethostname()}\n", f"  process {os.getpid()}\n", "  note    nightly, J\u00f6rg\n"):
            assert line in out, out
        for node in cluster.nodes:
            node.kill()
        for node in cluster.nodes:
            node.start()
        cluster.wait_for_voters(3)
        assert json.loads(tool(cluster, "--json", "show", "--consistent", "backup")[1])["note"] == "nightly, J\u00f6rg"
        # What a terminal would obey is no note, and what was wrong is said before anybody is asked.
        for note in ("line\nbreak", "\033[2J", "n" * 256):
            status, out, error = tool(cluster, "preempt", "--note", note, "other")
            assert (status, out) == (2, "") and "not a note" in error and error.count("\n") == 1, (note, status, error)
        assert tool(cluster, "preempt", "--note", "n" * 255, "other")[0] == 0
        assert len(json.loads(tool(cluster, "--json", "show", "other")[1])["note"]) == 255


def test_a_name_that_turns_text_is_shown_as_one_that_does():
    with Cluster(followers=0) as cluster:
        name = "job/\u202ekcabllor\u2066"
        assert tool(cluster, "--client", "alice", "preempt", name)[0] == 0
        for command in (("list",), ("check", name), ("history", name)):
            out = tool(cluster, *command)[1]
            assert "job/?kcabllor?" in out and "\u202e" not in out, out
        assert json.loads(tool(cluster, "--json", "check", name)[1])["lock"] == name


def test_the_client_id_is_made_once_per_user_and_kept():
    with Cluster(followers=0) as cluster:
        first, again, other = tool(cluster, "whoami"), tool(cluster, "whoami"), tool(cluster, "whoami", user=1001)
        assert first[0] == 0 and first == again and first[1] != other[1]
        assert tool(cluster, "preempt", "mine")[0] == 0
        owner = json.loads(tool(cluster, "--json", "check", "mine")[1])["owner"]
        assert owner in first[1] and len(owner) == 36
        kept = tool(cluster, "whoami", XDG_STATE_HOME=str(cluster.directory / "elsewhere"))
        assert kept[1] != first[1]


def test_machines_that_share_a_home_have_an_id_each():
    # Machines are told apart by /etc/machine-id; a bare chroot, which has none, cannot play two.
    if not pathlib.Path("/etc/machine-id").exists():
        return
    cluster = Cluster(followers=0)

    def whoami(machine):
        (cluster.directory / "machine-id").write_text(machine)
        done = subprocess.run(["unshare", "--mount", "sh", "-c", f"mount --bind {cluster.directory}/machine-id /etc/machine-id && exec {DLOCKCTL} whoami"],
                              capture_output=True, text=True, timeout=30, env=variables_of(cluster, cluster.directory))
        assert done.returncode == 0 and len(done.stdout) == 37, done
        return done.stdout
    first, second, bare = whoami("1" * 32 + "\n"), whoami("2" * 32 + "\n"), whoami("")
    assert len({first, second, bare}) == 3
    assert (first, second, bare) == (whoami("1" * 32 + "\n"), whoami("2" * 32 + "\n"), whoami(""))
    cluster.__exit__(None)


def test_without_a_writable_home_changes_need_an_id_and_reads_do_not():
    with Cluster(followers=0) as cluster:
        nowhere = {"HOME": "/proc/nowhere", "XDG_STATE_HOME": "/proc/nowhere"}
        status, _, error = tool(cluster, "preempt", "x", **nowhere)
        assert status == 2 and "--client" in error and error.count("\n") == 1, (status, error)
        assert tool(cluster, "check", "x", **nowhere)[0] == 1
        assert tool(cluster, "--client", "me", "preempt", "x", **nowhere)[0] == 0
        assert tool(cluster, "release", "x", DLOCK_CLIENT="me", **nowhere)[0] == 0
        status, out, error = tool(cluster, "--json", "preempt", "x", user=65534, HOME=str(cluster.directory / "none"))
        assert (status, out) == (2, "") and "no home directory" in error and "--client" in error, (status, error)
        assert tool(cluster, "check", "x", user=65534, HOME=str(cluster.directory / "none"))[0] == 1


def test_a_home_that_is_not_there_is_not_made():
    # Nobody's home is /nonexistent for a reason, and root could make it.
    with Cluster(followers=0) as cluster:
        home = cluster.directory / "open" / "none"
        home.parent.mkdir()
        home.parent.chmod(0o777)
        assert tool(cluster, "whoami", user=65534, HOME=str(home))[0] == 2
        assert not home.exists()


def test_an_id_of_another_user_is_refused():
    with Cluster() as cluster:
        assert tool(cluster, "preempt", "mine", user=1001)[0] == 0
        stolen = tool(cluster, "whoami", user=1001)[1].strip()
        for command in ("preempt", "release"):
            status, out, error = tool(cluster, "--json", "--client", stolen, command, "mine", user=1002, server=cluster.nodes[1].address)
            assert (status, out) == (2, "") and "another user" in error and error.count("\n") == 1, (status, error)
        assert tool(cluster, "check", "mine")[0] == 0
        assert tool(cluster, "--client", stolen, "release", "mine")[0] == 0


def test_the_next_server_is_tried_when_one_is_down():
    with Cluster() as cluster:
        servers = ",".join(node.address for node in cluster.nodes[1:])
        cluster.nodes[1].stop()
        assert tool(cluster, "--server", servers, "preempt", "x")[0] == 0
        assert tool(cluster, "--server", f"127.0.0.1:1,{cluster.leader.tcp}", "check", "x")[0] == 0


def test_another_cluster_is_refused_until_the_first_is_forgotten():
    with Cluster(followers=0) as one, Cluster(followers=0) as two:
        assert tool(one, "preempt", "x")[0] == 0
        status, _, error = tool(one, "preempt", "x", server=two.leader.address)
        assert status == 4 and "forget-cluster" in error and error.count("\n") == 1, (status, error)
        assert tool(one, "check", "x", server=f"{two.leader.address},{one.leader.address}")[0] == 0
        assert tool(one, "forget-cluster")[0] == 0
        assert tool(one, "preempt", "x", server=two.leader.address)[0] == 0


def test_options_stop_at_the_first_operand():
    with Cluster(followers=0) as cluster:
        assert tool(cluster, "preempt", "--json", "x")[0] == 0
        assert tool(cluster, "release", "x", "--json")[0] == 2
        assert tool(cluster, "preempt", "--", "--json")[0] == 0


def test_output_that_cannot_be_written_is_noticed():
    with Cluster(followers=0) as cluster:
        with open("/dev/full", "w") as full:
            done = subprocess.run([DLOCKCTL, "status"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30,
                                  env=variables_of(cluster, cluster.directory))
        assert "could not be written" in done.stderr
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done


def test_a_change_whose_answer_cannot_be_written_is_not_taken_for_none():
    with Cluster(followers=0) as cluster:
        def unwritten(command, to):
            read, write = os.pipe()
            os.close(read)
            with open("/dev/full", "w") as full:
                done = subprocess.run([DLOCKCTL, "--client", "me", *command], stdout=full if to == "full" else write, stderr=subprocess.PIPE,
                                      text=True, timeout=30, env=variables_of(cluster, cluster.directory))
            os.close(write)
            assert done.stderr.count("\n") == 1, done
            return done.returncode
        for to in ("full", "pipe"):
            assert unwritten(["preempt", "x"], to) == 3
            assert tool(cluster, "check", "x")[0] == 0
            assert unwritten(["preempt", "x"], to) == 2
            assert unwritten(["--json", "release", "x"], to) == 3
            assert tool(cluster, "check", "x")[0] == 1


def test_lists_of_more_than_a_page_are_whole():
    with Cluster(followers=1) as cluster:
        with cluster.leader.client("alice") as alice:
            for number in range(2500):
                alice.preempt(f"many/{number:05}")
        wait_until(lambda: tool(cluster, "check", "many/02499")[0] == 0, "the follower has all")
        names = [json.loads(line)["lock"] for line in tool(cluster, "--json", "list", "many/")[1].splitlines()]
        assert names == [f"many/{number:05}" for number in range(2500)]
        assert len(tool(cluster, "--json", "history")[1].splitlines()) >= 2500


def test_the_time_a_lock_is_held_goes_on_at_every_node_while_nothing_changes():
    with Cluster(followers=1) as cluster:
        assert tool(cluster, "preempt", "long")[0] == 0

        def held(node):
            return json.loads(tool(cluster, "--json", "list", server=node.address)[1] or "{}").get("held_ms", 0)

        def counts_on_by_itself():
            applied = cluster.leader.status()["applied"]
            for node in cluster.nodes:
                more = held(node) + 500
                wait_until(lambda: held(node) >= more, f"{node.name} counts on")
            return all(node.status()["applied"] == applied for node in cluster.nodes)
        # A node may just be telling its address, or a busy machine have made an election.
        wait_until(counts_on_by_itself, "time goes on without an entry")


# What the package bash-completion defines, as far as it is used; then the words of a line, of which the last is to be completed.
COMPLETE = """
_init_completion() { words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${words[cword]} prev=${words[cword-1]}; }
__ltrim_colon_completions() { :; }
. "$1"
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
_dlockctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_completion_offers_names_as_they_are_and_runs_nothing_of_what_they_say():
    with Cluster(followers=1) as cluster:
        ran = cluster.directory / "ran"
        names = [f"zz/$(touch${{IFS}}{ran})", "zz/a b", "zz/c:d"]
        file = pathlib.Path(__file__).resolve().parents[2] / "packaging/completions/dlockctl"
        environment = {**os.environ, "XDG_STATE_HOME": str(cluster.directory), "PATH": f"{pathlib.Path(DLOCKCTL).parent}:{os.environ['PATH']}"}
        with wire.Connection(cluster.leader.address, client="owner") as connection:
            for name in names:
                connection.preempt(name)

        def offered(*words):
            done = subprocess.run(["bash", "-c", COMPLETE, "-", file, "dlockctl", "--server", cluster.leader.address, *words], capture_output=True, text=True, timeout=30,
                                  env=environment)
            assert done.returncode == 0 and not done.stderr and not ran.exists(), (words, done)
            return [shlex.split(line)[0] for line in done.stdout.splitlines() if line]
        for words in (["check", "zz/"], ["run", "--also", "zz/"]):
            assert offered(*words) == names, words
        assert offered("check", "zz/a\\ ") == ["zz/a b"]
        assert offered("transfer", "f") == ["follower-1"] and offered("transfer", "") == ["leader", "follower-1"] and offered("transfer", "x") == []


def test_help_and_version_are_on_stdout():
    for arguments in (["--help"], ["preempt", "--help"], ["--version"]):
        done = subprocess.run([DLOCKCTL, *arguments], capture_output=True, text=True, timeout=10)
        assert done.returncode == 0 and done.stdout and not done.stderr, done
        assert not re.search(r"[\]A-Z][A-Z][a-z]", done.stdout), "operands run into what the command does"
    assert pathlib.Path(DLOCKCTL).exists()


def test_check_may_want_an_answer_that_is_fresh_or_that_the_lock_is_its_own():
    with Cluster(followers=1) as cluster:
        leader, follower = cluster.nodes
        assert tool(cluster, "check", "--mine", "x")[0] == 1
        assert tool(cluster, "preempt", "x")[0] == 0
        assert tool(cluster, "check", "--mine", "x")[0] == 0
        status, out, _ = tool(cluster, "--json", "--client", "other", "check", "--mine", "x")
        assert status == 1 and json.loads(out)["owner"], (status, out)
        assert tool(cluster, "check", "--max-age", "1h", "x")[0] == 0 and tool(cluster, "check", "--max-age", "0", "x", server=leader.address)[0] == 0
        leader.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: json.loads(tool(cluster, "--json", "check", "x")[1])["leader_age_ms"] > 500, "the follower's answer is old")
            assert tool(cluster, "check", "x")[0] == 0
            status, out, error = tool(cluster, "--json", "check", "--max-age", "500ms", "--mine", "x")
            assert status == 3 and out == "" and "too old" in error and error.count("\n") == 1, (status, out, error)
        finally:
            leader.process.send_signal(signal.SIGCONT)
        wait_until(lambda: tool(cluster, "check", "--consistent", "--max-age", "0", "x")[0] == 0, "a consistent answer has no age")
        for wrong in (("check", "--max-age", "soon", "x"), ("list", "--mine"), ("preempt", "--max-age", "1s", "x")):
            status, out, error = tool(cluster, *wrong)
            assert status == 2 and out == "" and error.count("\n") == 1, (wrong, error)
