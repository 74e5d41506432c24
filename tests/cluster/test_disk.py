"""Databases that are foreign, damaged or too new, full disks, and followers that were away for long."""
import concurrent.futures
import contextlib
import os
import resource
import shutil
import sqlite3
import struct
import subprocess
import threading
import time

import wire
from nodes import DLOCKD, PATIENCE, STEADY, Cluster, wait_until


def picture(node):
    return {file.name: file.read_bytes() for file in node.data.iterdir()}


def assert_refused(node, *words):
    """It ends with one line that has these words, and leaves every byte of the database as it was."""
    before, said = picture(node), len(node.log())
    node.launch()
    assert node.wait_for_exit() == 1
    line = node.log()[said:].strip()
    assert "\n" not in line and all(word in line for word in words), line
    assert picture(node) == before


def stopped_follower(cluster):
    follower = cluster.followers[0]
    follower.stop()
    return follower, follower.data / "dlock.db"


def test_a_database_of_a_newer_schema_is_refused_untouched():
    with Cluster(followers=1) as cluster:
        follower, path = stopped_follower(cluster)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA user_version = 999")
        assert_refused(follower, "dlock.db", "newer")


def test_a_damaged_database_is_refused_untouched():
    with Cluster(followers=1) as cluster:
        follower, path = stopped_follower(cluster)
        whole = path.read_bytes()
        for damage in (whole[:2000], b"not a database" * 500, whole[:4096] + os.urandom(len(whole) - 4096)):
            path.write_bytes(damage)
            assert_refused(follower, "dlock.db")
        path.write_bytes(whole)
        follower.start()


def test_a_database_behind_a_link_is_refused_untouched_also_when_the_link_leads_nowhere():
    with Cluster(followers=1) as cluster:
        follower, path = stopped_follower(cluster)
        elsewhere = path.parent.parent / "elsewhere.db"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        for target in (elsewhere, elsewhere.with_suffix(".unmounted")):
            if target != elsewhere:
                elsewhere.rename(target)
            said = len(follower.log())
            follower.launch()
            assert follower.wait_for_exit() == 1
            assert "dlock.db is a symbolic link" in follower.log()[said:] and path.is_symlink(), follower.log()[said:]
        path.unlink()
        target.rename(path)
        follower.start()


def test_what_the_user_of_a_node_may_not_open_is_refused_with_what_would_be_right():
    with Cluster(followers=1) as cluster:
        follower, path = stopped_follower(cluster)
        follower.prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
        for closed, status, words in ((path, 1, "make the user of this node its owner"), (follower.config, 2, "that the user of this node may read")):
            mode, said = closed.stat().st_mode, len(follower.log())
            closed.chmod(0)
            follower.launch()
            assert follower.wait_for_exit() == status
            line = follower.log()[said:].strip()
            assert "\n" not in line and f"{closed} cannot be" in line and "Permission denied" in line and words in line, line
            closed.chmod(mode)
        follower.start()


def test_a_database_of_another_node_is_refused_untouched():
    with Cluster() as cluster:
        first, second = cluster.followers
        first.stop()
        second.stop()
        shutil.copy(second.data / "dlock.db", first.data / "dlock.db")
        assert_refused(first, "dlock.db", "follower-2", "follower-1")


CONTRADICTIONS = (
    "UPDATE meta SET term = 0",
    "UPDATE meta SET node = 0",
    "UPDATE meta SET cluster = NULL",
    "UPDATE meta SET configuration = x'ffffffff'",
    "UPDATE meta SET configuration = NULL",
    "UPDATE meta SET configuration_index = 99999",
    "UPDATE log SET term = term + 50 WHERE idx = (SELECT max(idx) FROM log)",
    "UPDATE log SET cluster_ms = 0 WHERE idx = (SELECT max(idx) FROM log)",
    "UPDATE log SET kind = 'lease' WHERE idx = (SELECT max(idx) FROM log)",
    "UPDATE lock SET token = token + 1",
    "UPDATE lock SET name = char(10) || name",
    "UPDATE client SET principal = 'uid:99'",
    "UPDATE request SET entry_index = 999999999",
    "UPDATE address SET body = x'ff'",
    "DELETE FROM client",
)


def test_a_database_that_contradicts_itself_is_refused_by_words_not_by_a_crash():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        with leader.client("alice") as alice:
            for number in range(20):
                assert alice.preempt(f"early/{number}").outcome == wire.YES
        wait_until(lambda: leader.sql("SELECT count(*) FROM log WHERE kind = 'address'")[0][0] > 0, "it has written down where it is")
        leader.stop()
        leader.start()
        wait_until(leader.is_ready, "it leads again")
        time.sleep(0.1)  # cluster time passes, so that time that falls can be seen
        with leader.client("alice") as alice:
            for number in range(5):
                assert alice.preempt(f"late/{number}").outcome == wire.YES
            leader.kill()
        keep = cluster.directory / "kept"
        shutil.copytree(leader.data, keep)
        for sql in CONTRADICTIONS:
            shutil.rmtree(leader.data)
            shutil.copytree(keep, leader.data)
            with contextlib.closing(sqlite3.connect(leader.data / "dlock.db")) as database:
                assert database.execute(sql).rowcount > 0, sql
                database.commit()
            said = len(leader.log())
            leader.launch()
            assert leader.wait_for_exit() == 1, sql
            line = leader.log()[said:].strip()
            assert "\n" not in line and "dlock.db" in line and "restore a backup" in line, (sql, line)


def move_in_bodies(database, table, key, old, new):
    """A row's token, session and index, wherever they stand."""
    body, = database.execute(f"SELECT body FROM {table} WHERE token = ?", (old,)).fetchone()
    name = str(new) if table == "session" else key
    database.execute(f"UPDATE {table} SET {'id' if table == 'session' else 'name'} = ?, token = ?, body = ? WHERE token = ?",
                     (name, new, body.replace(struct.pack("<Q", old), struct.pack("<Q", new)), old))


def test_a_session_a_lease_and_a_token_that_no_entry_up_to_the_state_made_are_refused():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        with leader.client("alice") as alice:
            session = alice.open_session(3600000).token
            lease = alice.preempt("leased", ttl_ms=3600000).token
            kept = alice.preempt("kept").token
        wait_until(lambda: leader.sql("SELECT base_index FROM meta")[0][0] >= kept, "they are in the tables")
        leader.kill()
        keep = cluster.directory / "kept"
        shutil.copytree(leader.data, keep)
        # Every column agrees with its body, and the lock of the lease with its session.
        for rows in ((("session", "", session),), (("session", "", lease), ("lock", "leased", lease)), (("lock", "kept", kept),), ()):
            shutil.rmtree(leader.data)
            shutil.copytree(keep, leader.data)
            with contextlib.closing(sqlite3.connect(leader.data / "dlock.db")) as database:
                far = database.execute("SELECT max(idx) + 1 FROM log").fetchone()[0]
                for table, key, old in rows:
                    move_in_bodies(database, table, key, old, far)
                database.commit()
            said = len(leader.log())
            leader.launch()
            if rows:
                assert leader.wait_for_exit() == 1, rows
                line = leader.log()[said:].strip()
                assert "\n" not in line and "dlock.db" in line and "comes from an entry after the state" in line and "restore a backup" in line, (rows, line)
        wait_until(leader.is_ready, lambda: f"what was not moved is loaded\n{leader.log()}")


def test_a_second_daemon_on_the_same_directory_is_refused():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        config = (leader.config / "leader.ini").read_text().replace(leader.address, leader.address + "2")
        other = cluster.directory / "other"
        other.mkdir()
        (other / "leader.ini").write_text(config.replace(leader.tcp, "127.0.0.99:9").replace(leader.peer, "127.0.0.99:10"))
        done = subprocess.run([DLOCKD, "--config-dir", other, "leader"], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done
        with leader.client("alice") as alice:
            assert alice.preempt("x").outcome == wire.YES


class Burst:
    """Pipelined preempts and releases of one client: the quickest way to many entries."""

    def __init__(self, node, name):
        self.connection = node.client(name, timeout=2 * PATIENCE)
        self.name, self.handles = name, [os.urandom(16) for _ in range(200)]
        self.seq, self.tokens = 0, [0] * 200

    def run(self, entries):
        """Returns how many were accepted; stops early when the node is gone."""
        done = 0
        while done < entries:
            self.seq += 1
            kind = wire.PREEMPT if self.seq % 2 else wire.RELEASE
            data = b"".join(
                wire.frame(kind, tag, wire.request_body(kind, int(1000 * PATIENCE), f"{self.name}/{tag}", handle, self.seq, token=token))
                for tag, (handle, token) in enumerate(zip(self.handles, self.tokens))
            )
            self.connection.socket.sendall(data)
            for _ in self.handles:
                answer, tag, body = self.connection.receive()
                assert answer == wire.RESULT
                result = wire.Result(wire.Reader(body))
                assert result.outcome == wire.YES, result
                self.tokens[tag] = result.token
            done += len(self.handles)
        return done


def write_entries(node, entries, writers=3):
    with concurrent.futures.ThreadPoolExecutor(writers) as pool:
        bursts = [Burst(node, f"writer-{os.urandom(4).hex()}") for _ in range(writers)]
        for done in [pool.submit(burst.run, entries // writers) for burst in bursts]:
            done.result(4 * PATIENCE)


def catches_up(settings, expect_snapshot):
    with Cluster(settings=settings) as cluster:
        follower = cluster.followers[0]
        write_entries(cluster.leader, 600)
        cluster.wait_until_equal()
        follower.kill()
        write_entries(cluster.leader, 100000)
        applied = cluster.leader.status()["applied"]
        assert applied > 100000
        if expect_snapshot:
            wait_until(lambda: cluster.leader.sql("SELECT min(idx) FROM log")[0][0] > 50000, "the log is trimmed", 2 * PATIENCE)
        follower.launch()
        wait_until(lambda: (follower.status() or {}).get("applied", 0) >= applied, lambda: "it has caught up\n" + follower.log()[-2000:], 2 * PATIENCE)
        first = follower.sql("SELECT min(idx) FROM log")[0][0]
        assert (first is None or first > 50000) == expect_snapshot, first
        cluster.wait_until_equal()
        with follower.client() as here, cluster.leader.client() as there:
            assert here.list() == there.list()
            assert here.preempt("after").outcome == wire.YES
            assert here.check("after").outcome == wire.YES


def test_a_follower_that_was_down_for_100000_entries_catches_up_by_the_log():
    catches_up("[log]\nkeep_entries = 1000000\n", False)


def test_a_follower_that_was_down_for_100000_entries_catches_up_by_a_snapshot():
    catches_up("[log]\nkeep_entries = 1000\n", True)


def fill(cluster, node):
    """Writes until the node is gone; what was granted."""
    granted = {}
    number = 0
    with contextlib.suppress(wire.Closed, wire.Refused, OSError):
        with node.client("filler", timeout=2 * PATIENCE) as connection:
            while number < 20000:
                number += 1
                result = connection.preempt(f"fill/{number}/{'x' * 200}", deadline_ms=int(1000 * PATIENCE))
                if result.outcome == wire.YES:
                    granted[f"fill/{number}/{'x' * 200}"] = result.token
                elif result.outcome == wire.UNKNOWN:
                    break
    return granted


def full_disk(cluster, node, make_room):
    granted = fill(cluster, node)
    assert node.wait_for_exit(2 * PATIENCE) == 1, node.log()[-2000:]
    assert len(granted) > 10
    last = node.log().strip().splitlines()[-1]
    assert "dlock.db" in last and ("room" in last or "space" in last or "limit" in last), last
    make_room()
    node.launch()
    wait_until(node.is_ready, lambda: "it comes back\n" + node.log()[-2000:])
    cluster.wait_until_equal()
    with node.client("filler") as connection:
        held = {lock: token for lock, _, token in connection.list()}
    assert all(held.get(lock) == token for lock, token in granted.items()), "an acknowledged grant is gone"


def test_a_leader_whose_file_may_not_grow_stops_says_what_to_do_and_comes_back():
    with Cluster() as cluster:
        leader = cluster.leader
        leader.stop()
        leader.preexec = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        leader.start()

        def make_room():
            leader.preexec = None
        wait_until(leader.is_ready, "it leads again")
        full_disk(cluster, leader, make_room)


def test_a_leader_on_a_full_disk_stops_says_what_to_do_and_comes_back():
    assert os.geteuid() == 0, "run as root: it mounts a small file system"
    with Cluster() as cluster:
        leader = cluster.leader
        leader.stop()
        keep = cluster.directory / "kept"
        shutil.copytree(leader.data, keep)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", leader.data], check=True)
        try:
            for file in keep.iterdir():
                shutil.copy(file, leader.data)
            leader.start()
            wait_until(leader.is_ready, "it leads again")
            full_disk(cluster, leader, lambda: subprocess.run(["mount", "-o", "remount,size=200m", leader.data], check=True))
            leader.stop()
        finally:
            leader.kill()
            subprocess.run(["umount", leader.data], check=True)


def test_a_snapshot_that_cannot_be_kept_is_tried_again_in_peace_until_it_can():
    assert os.geteuid() == 0, "run as root: it mounts a small file system"
    cluster = Cluster(followers=2, settings=f"[log]\nkeep_entries = 1000\n{STEADY}")     # another leader has room
    leader, away = cluster.leader, cluster.followers[0]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,nr_inodes=50", "tmpfs", leader.data], check=True)
    try:
        with cluster:
            away.kill()
            write_entries(leader, 60000)
            wait_until(lambda: leader.sql("SELECT min(idx) FROM log")[0][0] > 30000, "the log is trimmed", 2 * PATIENCE)
            fillers = []
            with contextlib.suppress(OSError):
                for number in range(100):
                    fillers.append(leader.data / f"filler-{number}")
                    fillers[-1].touch()
            said, begin = len(leader.log()), time.monotonic()
            away.launch()
            wait_until(lambda: "snapshot cannot be kept" in leader.log()[said:], "it says why")
            time.sleep(2)  # the time measured, not a wait
            times = leader.log()[said:].count("snapshot cannot be kept")
            assert times < 2 * (time.monotonic() - begin) + 2, times
            for filler in fillers:
                filler.unlink(missing_ok=True)
            cluster.wait_until_equal()
    finally:
        subprocess.run(["umount", leader.data], check=True)
        shutil.rmtree(cluster.directory, ignore_errors=True)


def test_a_million_locks_under_one_prefix_are_listed_without_delaying_others():
    with Cluster(followers=1) as cluster:
        leader, follower = cluster.nodes
        # Fewer under sanitizers, where what counts is each page.
        total, names = int(os.environ.get("MANY_LOCKS", "1000000")), 0
        with leader.client("hoarder", timeout=2 * PATIENCE) as hoarder:
            handles = [os.urandom(16) for _ in range(1000)]
            for seq in range(1, total // len(handles) + 1):
                hoarder.socket.sendall(b"".join(
                    wire.frame(wire.PREEMPT, tag, wire.request_body(wire.PREEMPT, int(2000 * PATIENCE), f"many/{seq:04}/{tag:04}", handle, seq))
                    for tag, handle in enumerate(handles)))
                for _ in handles:
                    assert hoarder.receive()[2][0] == wire.YES
        wait_until(lambda: (follower.status() or {}).get("locks") == total, "the follower has them all", 2 * PATIENCE)
        waits, done = [], threading.Event()

        def look():
            with follower.client("other") as other:
                while not done.is_set():
                    begin = time.monotonic()
                    assert other.check("many/0050/0500").outcome == wire.YES
                    waits.append(time.monotonic() - begin)
        watcher = threading.Thread(target=look)
        watcher.start()
        with follower.client("reader") as reader:
            after, more = "", True
            while more:
                rows, more, _ = reader.list_page("many/", after)
                assert rows and rows[0][0] > after
                after, names = rows[-1][0], names + len(rows)
        done.set()
        watcher.join()
        assert names == total
        # Both clients are threads of this one interpreter: their own turns are most of this. Whoever does not run for a while is late now and then.
        waits.sort()
        assert waits[len(waits) * 9 // 10] < 1.0, waits[-100:]
        follower.stop()
        follower.launch()
        wait_until(lambda: (follower.status() or {}).get("locks") == total, "it has read them again", 2 * PATIENCE)


test_a_million_locks_under_one_prefix_are_listed_without_delaying_others.takes_long = True
