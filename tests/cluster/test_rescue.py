"""Backups of running nodes, new clusters made of them, and survivors that go on alone."""
import collections
import itertools
import os
import pathlib
import re
import shutil
import sqlite3
import struct
import subprocess
import threading
import time
from contextlib import closing

import wire
from nodes import BUILD, DLOCKD, PATIENCE, Cluster, wait_until
from test_disk import write_entries
from test_load import finish, run_load
from test_tool import tool

RAISE = 1 << 40
LAST_CALL = BUILD / "tests/last_call.so"
# Where everything is slow, not at every moment.
STRIDE = 1 if PATIENCE <= 30 else 9


def dlockd(node, *arguments, **options):
    """(exit status, stdout, stderr) of dlockd for this node with these options."""
    done = subprocess.run([node.program, "--config-dir", node.config, *arguments, *node.arguments], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, **options)
    return done.returncode, done.stdout, done.stderr


def restore(node, file, *more, **options):
    return dlockd(node, f"--restore={file}", *more, **options)


def recover(node, *more, **options):
    return dlockd(node, "--recover", *more, **options)


def assert_said(done, status, *words):
    """It ended so, with one line on stderr that has the words."""
    assert done[0] == status, done
    assert done[2].startswith("dlockd: ") or "/" in done[2], done
    assert done[2].count("\n") == 1 and all(word in done[2] for word in words), done


def picture(directory):
    return {file.name: file.read_bytes() for file in pathlib.Path(directory).iterdir()}


def sql(file, statement):
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        return database.execute(statement).fetchall()


def backup(cluster, name, node=None, *more, **options):
    file = cluster.directory / name
    done = tool(cluster, "backup", *more, str(file), server=(node or cluster.leader).address, **options)
    assert done[0] == 0, done
    return file


def held_after(log, index):
    """{lock: (client, token)} after the entries of a log up to index; the log is whole."""
    assert log[0][0] == 1
    owner = {}
    for idx, kind, lock, client, token in log:
        if idx > index:
            break
        if kind == "preempt":
            assert lock not in owner
            owner[lock] = (client, token)
        elif kind == "release":
            assert owner.pop(lock) == (client, token)
    return owner


def log_of(node):
    return node.sql("SELECT idx, kind, lock, client, token FROM log ORDER BY idx")


def held_by(node):
    with node.client() as connection:
        return {lock: (client, token) for lock, client, token in connection.list()}


def empty(node):
    shutil.rmtree(node.data)
    node.data.mkdir()


def wait_for_base(node):
    """Its tables hold all that its log holds."""
    wait_until(lambda: node.sql("SELECT base_index = (SELECT max(idx) FROM log) FROM meta") == [(1,)], "the tables are as new as the log")


def take_locks(node, *names, client="alice"):
    with node.client(client) as connection:
        return {name: connection.preempt(name).token for name in names}


def test_backups_under_load_are_of_one_moment_and_a_new_cluster_goes_on_from_it_with_higher_tokens():
    with Cluster() as cluster:
        stop = threading.Event()
        recorder, threads = run_load(cluster, [node.address for node in cluster.nodes], 24, stop.is_set, [f"load/{n}" for n in range(30)])
        files = []
        try:
            for number in range(6):
                before = recorder.counts["yes"]
                wait_until(lambda: recorder.counts["yes"] > before + 200 or any(thread.error for thread in threads), "the load goes on")
                with recorder.lock:
                    acknowledged = max((max(tokens) for tokens in recorder.grants.values() if tokens), default=0)
                files.append((backup(cluster, f"backup-{number}", cluster.nodes[number % 3]), acknowledged, cluster.nodes[number % 3]))
        finally:
            stop.set()
        finish(threads)
        cluster.wait_until_equal()
        wait_until(lambda: len({tuple(log_of(node)[-1]) for node in cluster.nodes}) == 1, "the logs are equal")
        log = log_of(cluster.leader)
        newest = log[-1][0]
        for node in cluster.nodes:
            node.kill()
        leader = cluster.leader
        for file, acknowledged, node in files:
            index = sql(file, "SELECT max(idx) FROM log")[0][0]
            if node is leader:
                assert index >= acknowledged, "a grant that was acknowledged before is not in the backup"
            assert sql(file, "SELECT quick_check FROM pragma_quick_check") == [("ok",)]
            rows = sql(file, "SELECT idx, kind, lock, client, token FROM log ORDER BY idx")
            assert rows == log[rows[0][0] - 1 : index], "the backup's log is not that of the cluster"
            empty(leader)
            status, out, error = restore(leader, file, "--accept-loss")
            assert status == 0 and not error, (status, out, error)
            leader.start()
            wait_until(leader.is_ready, "the new cluster leads")
            state = leader.status()
            assert state["members"] == state["voters"] == 1 and state["log_first"] > index + RAISE
            assert held_by(leader) == held_after(log, index), file
            with leader.client("newcomer") as newcomer:
                granted = newcomer.preempt("after/restore")
                assert granted.outcome == wire.YES and newest + RAISE // 2 < granted.token < 1 << 53, granted
            leader.stop()


def test_clients_ids_and_results_of_requests_come_back_with_a_backup():
    with Cluster(followers=0) as cluster:
        leader, handle = cluster.leader, os.urandom(16)
        with wire.Connection(leader.address, assign=True) as connection:
            client = connection.client
            first = connection.preempt("kept", handle=handle, seq=1)
        wait_for_base(leader)
        file = backup(cluster, "backup")
        clients, cluster_id = leader.sql("SELECT id, principal, last_index FROM client ORDER BY id"), leader.status()["cluster"]
        leader.stop()
        empty(leader)
        assert restore(leader, file, "--accept-loss")[0] == 0
        assert leader.sql("SELECT id, principal, last_index FROM client ORDER BY id") == clients
        assert leader.sql("SELECT count(*) FROM address") == [(0,)]
        leader.start()
        wait_until(leader.is_ready, "it leads")
        assert leader.status()["cluster"] != cluster_id
        with leader.client(client) as connection:
            again = connection.preempt("kept", handle=handle, seq=1)
            assert (again.outcome, again.token) == (wire.YES, first.token), (first, again)
            assert connection.release("kept").outcome == wire.YES
            assert connection.preempt("kept").token > RAISE


def test_a_restored_cluster_grows_again_and_may_be_backed_up_and_restored_again():
    with Cluster() as cluster:
        take_locks(cluster.leader, "a", "b")
        file = backup(cluster, "backup", cluster.followers[0])
        for node in cluster.nodes:
            node.kill()
            empty(node)
        assert restore(cluster.leader, file, "--accept-loss")[0] == 0
        for node in cluster.nodes:
            node.start()
        cluster.wait_for_voters(3)
        assert all(set(held_by(node)) == {"a", "b"} for node in cluster.nodes)
        token = take_locks(cluster.followers[1], "c")["c"]
        assert token > RAISE
        assert tool(cluster, "forget-cluster")[0] == 0
        again = backup(cluster, "again", cluster.followers[1])
        for node in cluster.nodes:
            node.kill()
            empty(node)
        assert restore(cluster.leader, again, "--accept-loss")[0] == 0
        cluster.leader.start()
        wait_until(cluster.leader.is_ready, "it leads")
        assert take_locks(cluster.leader, "d")["d"] > token + RAISE // 2
        assert set(held_by(cluster.leader)) == {"a", "b", "c", "d"}


def test_the_same_backup_restored_again_goes_on_above_the_tokens_of_the_first_time():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        take_locks(leader, "a")
        file = backup(cluster, "backup")
        highest = 0
        for more in ([], [f"--tokens-above={RAISE * 3}"]):
            leader.kill()
            empty(leader)
            assert restore(leader, file, *more, "--accept-loss")[0] == 0
            leader.start()
            wait_until(leader.is_ready, "it leads")
            token = take_locks(leader, "b")["b"]
            assert token > highest + RAISE // 2
            highest = token
        assert highest > 4 * RAISE


def test_restore_wants_a_flag_a_backup_and_an_empty_directory_of_a_stopped_node_and_changes_nothing_otherwise():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        take_locks(leader, "a", "b", "c")
        file = backup(cluster, "backup")
        assert_said(restore(leader, file, "--accept-loss"), 1, "in use by another process")
        leader.stop()
        before = picture(leader.data)
        assert_said(restore(leader, file, "--accept-loss"), 1, "dlock.db is there")
        assert picture(leader.data) == before
        own = cluster.directory / "own"
        shutil.copy(leader.data / "dlock.db", own)
        empty(leader)
        done = restore(leader, file)
        assert_said(done, 2, "nothing was done", "--accept-loss")
        assert "3 locks" in done[1] and "Lost:" in done[1] and str(leader.data) in done[1], done
        assert_said(restore(leader, own, "--accept-loss"), 1, str(own), "dlockctl backup")
        assert_said(restore(leader, cluster.directory / "nothing", "--accept-loss"), 1, "nothing", "No such file")
        assert_said(restore(leader, DLOCKD, "--accept-loss"), 1, "not an SQLite database")
        for wrong in (["--restore", str(file), "--recover"], ["--accept-loss"], ["--tokens-above=5"], ["--restore", str(file), "--tokens-above=high"]):
            assert dlockd(leader, *wrong)[0] == 2
        assert picture(leader.data) == {}
        with closing(sqlite3.connect(file)) as database:
            database.execute("UPDATE log SET token = 99 WHERE kind = 'preempt' AND lock = 'b'")
            database.commit()
        assert_said(restore(leader, file, "--accept-loss"), 1, "token")
        assert picture(leader.data) == {}
        shutil.copy(file, leader.data / "dlock.db")
        leader.launch()
        assert leader.wait_for_exit() == 1
        assert "is a backup" in leader.log().splitlines()[-1] and "--restore" in leader.log().splitlines()[-1]


def test_no_restore_once_tokens_would_reach_two_to_the_53rd():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        take_locks(leader, "a")
        wait_for_base(leader)
        file = backup(cluster, "backup")
        leader.stop()
        for last, fits in (((1 << 53) - 1 - 2 * RAISE, True), ((1 << 53) - 2 * RAISE, False)):
            high = cluster.directory / f"high-{last}"
            shutil.copy(file, high)
            with closing(sqlite3.connect(high)) as database:
                database.execute("DELETE FROM log")
                database.execute("UPDATE meta SET base_index = ?", (last,))
                database.commit()
            empty(leader)
            done = restore(leader, high, "--accept-loss")
            assert (done[0] == 0) == fits, done
            if not fits:
                assert_said(done, 1, "2^53")
                assert picture(leader.data) == {}


def test_pain_16_a_follower_goes_on_alone_when_the_other_two_are_gone_and_the_cluster_grows_from_it():
    with Cluster() as cluster:
        leader, survivor, other = cluster.nodes
        tokens = take_locks(leader, *[f"lock/{number}" for number in range(50)])
        assert tool(cluster, "check", "lock/1", server=survivor.address)[0] == 0
        cluster.wait_until_equal()
        old_id = survivor.status()["cluster"]
        assert_said(recover(survivor, "--accept-loss"), 1, "in use by another process", "systemctl stop dlock-follower@1")
        for node in cluster.nodes:
            node.kill()
        last = survivor.sql("SELECT max(idx) FROM log")[0][0]
        done = recover(survivor)
        assert_said(done, 2, "nothing was done", "--accept-loss")
        assert f"entry {last}" in done[1] and "majority" in done[1] and "Lost:" in done[1], done
        held = survivor.sql("SELECT idx FROM log") and held_after(log_of(survivor), last)
        status, out, error = recover(survivor, "--accept-loss")
        assert status == 0 and not error, (status, out, error)
        assert "forget-cluster" in out and "systemctl start dlock-follower@1" in out, out
        kept = [file for file in survivor.data.iterdir() if re.fullmatch(r"dlock\.db\.before-recover-\d{8}T\d{6}Z", file.name)]
        assert sorted(file.name for file in survivor.data.iterdir()) == sorted(["dlock.db", *[file.name for file in kept]]), out
        assert len(kept) == 1 and sql(kept[0], "SELECT max(idx) FROM log") == [(last,)] and str(kept[0]) in out

        survivor.start()
        wait_until(survivor.is_ready, lambda: "the survivor leads\n" + survivor.log()[-2000:])
        state = survivor.status()
        assert state["cluster"] != old_id and state["role"] == "leader" and state["members"] == 1
        assert held_by(survivor) == held and set(held) == set(tokens)
        assert take_locks(survivor, "after")["after"] > RAISE
        assert_said(recover(survivor, "--accept-loss"), 1, "in use by another process")

        # An old member is a stranger, on both sides; emptied it is a new node.
        other.configure([survivor.peer])
        other.launch()
        wait_until(lambda: "foreign cluster" in survivor.log() or "foreign cluster" in other.log(), lambda: "the old member is refused\n" + survivor.log()[-2000:] + other.log()[-2000:])
        other.kill()
        for node in (other, leader):
            empty(node)
            node.configure([survivor.peer])
            node.start()
        cluster.wait_for_voters(3)
        assert all(set(held_by(node)) == {*tokens, "after"} for node in cluster.nodes)

        # Clients that knew the old cluster are told, and forget it.
        status, _, error = tool(cluster, "check", "lock/1", server=survivor.address)
        assert status != 0 and "forget-cluster" in error, (status, error)
        assert tool(cluster, "forget-cluster")[0] == 0
        assert tool(cluster, "check", "lock/1", server=survivor.address)[0] == 0


def test_there_is_nothing_to_recover_without_a_database_or_for_the_only_voter():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        leader.stop()
        before = picture(leader.data)
        assert_said(recover(leader, "--accept-loss"), 1, "only voter")
        assert {name: data for name, data in picture(leader.data).items()} == before
        empty(leader)
        assert_said(recover(leader, "--accept-loss"), 1, "dlock.db", "No such file")
        assert picture(leader.data) == {}
        leader.data.rmdir()
        assert_said(recover(leader, "--accept-loss"), 1, "make it first")
        leader.data.mkdir()


def last_call(number):
    return {"env": {**os.environ, "LD_PRELOAD": str(LAST_CALL), "LAST_CALL": str(number), "ASAN_OPTIONS": "verify_asan_link_order=0"}}


def ends_at_every_call(attempt, check):
    """attempt(options) is killed at its first change of a file, then at its second ... until it is not killed any more."""
    for number in itertools.count(1, STRIDE):
        done = attempt(last_call(number))
        check(done[0] == 0)
        if done[0] == 0:
            print(f"      {number} moments")
            return number
        assert done[0] == -9, done


def test_a_kill_at_any_moment_of_a_recover_leaves_the_old_state_or_the_new():
    with Cluster(followers=1) as cluster:
        follower = cluster.followers[0]
        take_locks(cluster.leader, "a", "b")
        cluster.wait_until_equal()
        for node in cluster.nodes:
            node.kill()
        keep = cluster.directory / "keep"
        shutil.copytree(follower.data, keep)
        old = follower.sql("SELECT cluster FROM meta")[0][0]
        seen = collections.Counter()

        def attempt(options):
            shutil.rmtree(follower.data)
            shutil.copytree(keep, follower.data)
            return recover(follower, "--accept-loss", **options)

        def check(done):
            new = follower.sql("SELECT cluster, node, base_index > 1099511627776, (SELECT count(*) FROM log) FROM meta")[0]
            # What is there is either, and a second attempt gets on with the old.
            assert (new[0] == old) != (new[1:] == (1, 1, 0)), new
            seen[new[0] == old] += 1
            assert not done or new[0] != old
            if new[0] == old:
                assert recover(follower, "--accept-loss")[0] == 0
            if done:
                assert_said(recover(follower, "--accept-loss"), 1, "only voter")
            assert not [file for file in follower.data.iterdir() if ".new" in file.name], list(follower.data.iterdir())
            assert any("before-recover" in file.name for file in follower.data.iterdir())

        calls = ends_at_every_call(attempt, check)
        assert calls > 40 and seen[True] > 2 and seen[False] > 1, (calls, seen)
        follower.start()
        wait_until(follower.is_ready, lambda: "it leads\n" + follower.log()[-2000:])
        assert set(held_by(follower)) == {"a", "b"}


test_a_kill_at_any_moment_of_a_recover_leaves_the_old_state_or_the_new.takes_long = True


def test_a_kill_at_any_moment_of_a_restore_leaves_no_database_or_the_whole():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        take_locks(leader, "a", "b")
        file = backup(cluster, "backup")
        leader.stop()
        seen = collections.Counter()

        def attempt(options):
            empty(leader)
            return restore(leader, file, "--accept-loss", **options)

        def check(done):
            there = (leader.data / "dlock.db").exists()
            seen[there] += 1
            assert there or not done
            if not there:
                assert restore(leader, file, "--accept-loss")[0] == 0
            assert [name.name for name in leader.data.iterdir()] == ["dlock.db"]
            assert leader.sql("SELECT node, base_index > 1099511627776, (SELECT count(*) FROM log) FROM meta") == [(1, 1, 0)]
            assert leader.sql("SELECT application_id FROM pragma_application_id") == [(0x644C636B,)]

        calls = ends_at_every_call(attempt, check)
        assert calls > 40 and seen[False] > 2 and seen[True] > 0, (calls, seen)
        leader.start()
        wait_until(leader.is_ready, lambda: "it leads\n" + leader.log()[-2000:])
        assert set(held_by(leader)) == {"a", "b"}


test_a_kill_at_any_moment_of_a_restore_leaves_no_database_or_the_whole.takes_long = True


def owners(directory):
    return {(entry.name, entry.stat().st_uid, entry.stat().st_gid, oct(entry.stat().st_mode & 0o777)) for entry in directory.iterdir()}


def test_root_leaves_every_file_to_the_nodes_user():
    with Cluster(followers=1) as cluster:
        leader, follower = cluster.nodes
        take_locks(leader, "a")
        file = backup(cluster, "backup")
        assert file.stat().st_uid == 0 and file.stat().st_mode & 0o777 == 0o600
        for node in cluster.nodes:
            node.kill()
        cluster.directory.chmod(0o755)
        empty(leader)
        for path in (leader.data, follower.data, *follower.data.iterdir()):
            os.chown(path, 1001, 1002)
        for node in cluster.nodes:
            node.data.chmod(0o700)
        assert restore(leader, file, "--accept-loss")[0] == 0
        assert recover(follower, "--accept-loss")[0] == 0
        found = owners(leader.data) | owners(follower.data)
        assert {entry[1:3] for entry in found} == {(1001, 1002)} and len(found) == 2 + 1, found
        assert {entry[3] for entry in owners(leader.data)} == {"0o600"}, found


def test_only_root_and_the_nodes_user_may_back_up_and_only_through_its_socket():
    with Cluster(followers=1) as cluster:
        cluster.directory.chmod(0o755)
        home = cluster.directory / "home-1001"
        home.mkdir()
        for node in cluster.nodes:
            for server, user in ((node.address, 1001), (node.tcp, None), (node.tcp, 1001)):
                os.chown(home, 1001, 1001)
                os.chmod(node.address, 0o666)
                target = home / "backup"
                status, out, error = tool(cluster, "backup", str(target), server=server, user=user)
                assert status == 2 and out == "" and "only root" in error and error.count("\n") == 1, (status, out, error)
                assert list(home.glob("backup*")) == []
            backup(cluster, f"of-{node.name}", node)


def test_a_file_that_is_there_is_kept_unless_forced_and_nothing_half_remains():
    with Cluster(followers=0) as cluster:
        file = backup(cluster, "backup")
        first = file.read_bytes()
        take_locks(cluster.leader, "a")
        for wrong in (file, cluster.directory, f"{file}/", "", cluster.directory / "no" / "where"):
            status, out, error = tool(cluster, "backup", str(wrong), server=cluster.leader.address)
            assert status == 2 and out == "" and error.count("\n") == 1, (wrong, status, out, error)
        assert file.read_bytes() == first
        backup(cluster, "backup", None, "--force")
        assert sql(file, "SELECT count(*) FROM log WHERE lock = 'a'") == [(1,)]
        # A part that an interrupted one left does not matter; somebody else's file does.
        part = cluster.directory / "other.tmp"
        part.write_bytes(b"x" * 10_000_000)
        assert sql(backup(cluster, "other"), "SELECT count(*) FROM log WHERE lock = 'a'") == [(1,)]
        os.symlink(file, part)
        assert tool(cluster, "backup", str(cluster.directory / "other2"), server=cluster.leader.address)[0] == 0
        status, _, error = tool(cluster, "backup", "--force", str(cluster.directory / "other"), server=cluster.leader.address)
        assert status == 2 and "other.tmp" in error, (status, error)
        part.unlink()
        assert sorted(path.name for path in cluster.directory.glob("*.tmp")) == []
        cluster.leader.kill()
        status, _, error = tool(cluster, "--timeout", "2", "backup", str(cluster.directory / "none"), server=cluster.leader.address)
        assert status == 4 and error.count("\n") == 1, (status, error)
        assert not list(cluster.directory.glob("none*"))


def ask_backup(connection, number=0, offset=0):
    """(outcome, id, total, data)"""
    reader = connection.ask(wire.BACKUP, struct.pack("<IQQQ", 20000, 0, number, offset), wire.PIECE)
    outcome = reader.number("B")
    reader.take(16)
    number, at, total = reader.number("Q"), reader.number("Q"), reader.number("Q")
    data, reason = reader.take(reader.number("I")), reader.text()
    reader.end()
    assert at == offset or outcome != wire.YES
    return outcome, number, total, data if outcome == wire.YES else reason


def test_slow_takers_of_backups_neither_grow_the_wal_nor_are_more_than_two():
    with Cluster(followers=0) as cluster, cluster.leader.client("a") as first, cluster.leader.client("b") as second, cluster.leader.client("c") as third:
        leader = cluster.leader
        take_locks(leader, *[f"before/{number}" for number in range(200)])
        outcome, number, total, _ = ask_backup(first)
        assert outcome == wire.YES and number != 0 and total > 4096
        assert ask_backup(second)[0] == wire.YES
        assert ask_backup(third)[0] == wire.UNKNOWN
        write_entries(leader, 60000)
        assert (leader.data / "dlock.db-wal").stat().st_size < 24 << 20
        # The slow one's is what it was; another's is not its own.
        assert ask_backup(third, number)[0] == wire.REJECTED
        assert ask_backup(first, number ^ 2)[0] == wire.REJECTED
        assert ask_backup(first, number, total + 1)[0] == wire.REJECTED
        data = b""
        while len(data) < total:
            data += ask_backup(first, number, len(data))[3]
        assert ask_backup(first, number, total)[3] == b""
        file = cluster.directory / "slow"
        file.write_bytes(data)
        assert sql(file, "SELECT count(*) FROM log WHERE lock LIKE 'before/%'") == [(200,)]
        assert sql(file, "SELECT count(*) FROM log WHERE lock LIKE 'writer-%'") == [(0,)]
        # A new one replaces it; the place of one who leaves is free.
        assert ask_backup(first)[0] == wire.YES
        assert ask_backup(first, number)[0] == wire.REJECTED
        second.close()
        wait_until(lambda: ask_backup(third)[0] == wire.YES, "there is room for another")
        assert not list(leader.data.glob("*backup*"))
        deleted = [link for link in (pathlib.Path("/proc") / str(leader.process.pid) / "fd").iterdir() if "dlock.db.backup (deleted)" in os.readlink(link)]
        assert len(deleted) == 2, deleted
        first.close()
        third.close()
        wait_until(lambda: not [link for link in (pathlib.Path("/proc") / str(leader.process.pid) / "fd").iterdir()
                                if link.is_symlink() and "backup" in os.readlink(link)], "the files are gone")
        leader.stop()


def test_a_disk_that_a_backup_would_fill_refuses_it_and_the_node_goes_on():
    assert os.geteuid() == 0, "run as root: it mounts a small file system"
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        leader.stop()
        keep = cluster.directory / "kept"
        shutil.copytree(leader.data, keep)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", leader.data], check=True)
        try:
            for path in keep.iterdir():
                shutil.copy(path, leader.data)
            leader.start()
            wait_until(leader.is_ready, "it leads again")
            file = cluster.directory / "backup"
            status, out, error = tool(cluster, "backup", str(file), server=leader.address)
            assert status == 2 and out == "" and "make room" in error and error.count("\n") == 1, (status, out, error)
            assert not list(cluster.directory.glob("backup*"))
            take_locks(leader, "a")
            subprocess.run(["mount", "-o", "remount,size=100m", leader.data], check=True)
            assert tool(cluster, "backup", str(file), server=leader.address)[0] == 0
            leader.stop()
        finally:
            leader.kill()
            subprocess.run(["umount", leader.data], check=True)


def test_a_backup_of_a_large_database_delays_nobody_and_is_whole():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        write_entries(leader, 120000)
        done, slowest = threading.Event(), [0.0, 0]

        def look():
            with leader.client("other") as other:
                while not done.is_set():
                    begin = time.monotonic()
                    assert other.preempt("watched").outcome == wire.YES
                    assert other.release("watched").outcome == wire.YES
                    slowest[:] = max(slowest[0], time.monotonic() - begin), slowest[1] + 1
        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            begin = time.monotonic()
            file = backup(cluster, "large")
            took = time.monotonic() - begin
        finally:
            done.set()
            watcher.join()
        assert sql(file, "SELECT count(*) >= 100000 FROM log") == [(1,)]
        print(f"      {file.stat().st_size >> 20} MiB in {took:.2f} s; the slowest of {slowest[1]} changes meanwhile took {slowest[0] * 1000:.0f} ms")
        assert slowest[1] > 0 and slowest[0] < 2, slowest


def test_a_cluster_that_begins_anew_grants_nothing_while_a_lease_of_before_may_be_counted_on():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        with leader.client("alice") as alice:
            assert alice.preempt("before", ttl_ms=6000).outcome == wire.YES
            file = backup(cluster, "backup")
            lost = alice.preempt("after", ttl_ms=6000)       # no copy knows of it, and alice counts on it
        leader.stop()
        shutil.rmtree(leader.data)
        leader.data.mkdir()
        done = restore(leader, file, "--accept-loss")
        assert done[0] == 0 and "Grants:   nothing for 6 s" in done[1], done
        begin = time.monotonic()
        leader.start()
        wait_until(leader.is_ready, "it leads")
        with leader.client("bob") as bob:
            refused = bob.preempt("after")
            assert refused.outcome == wire.REJECTED and "grants nothing for" in refused.reason, refused
            granted = wait_until(lambda: (result := bob.preempt("after")).outcome == wire.YES and result, "the time is over")
            assert time.monotonic() - begin > 5.5 and granted.token > lost.token
            # What the copy has is held for its whole time, and then free.
            wait_until(lambda: bob.preempt("before").outcome == wire.YES, "the lease of before ends")
        leader.stop()
        shutil.rmtree(leader.data)
        leader.data.mkdir()
        done = restore(leader, file, "--accept-loss", "--grants-after=0", f"--tokens-above={granted.token}")
        assert done[0] == 0 and "nothing for 0 s" in done[1], done
        leader.start()
        wait_until(leader.is_ready, "it leads")
        with leader.client("bob") as bob:
            assert bob.preempt("after").outcome == wire.YES
        for wrong in (["--grants-after=1"], ["--recover", "--grants-after=soon"], ["--recover", "--grants-after=86401"]):
            assert_said(dlockd(leader, *wrong), 2, "grants-after")
