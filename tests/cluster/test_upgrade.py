"""From one feature level to the next, node by node: build/next is the same program one level higher, which adds an entry "next"."""
import shutil
import threading

import wire
from nodes import BUILD, DLOCKD, Cluster, wait_until
from test_load import check_history, finish, run_load
from test_rescue import backup, dlockd, restore

NEXT = BUILD / "next/dlockd"
TOO_OLD = "the refused node's program is older than what the cluster uses by now: upgrade dlock-server on its host"


def next_rows(node):
    return node.sql("SELECT idx, term FROM log WHERE kind = 'next' ORDER BY idx")


def tables(node):
    """All that its database says."""
    names = [name for name, in node.sql("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {name: node.sql(f"SELECT * FROM {name}") for name in names}


def upgrade(node):
    node.stop()
    node.program = NEXT
    node.start()
    wait_until(node.is_ready, lambda: f"{node.name} is back\n{node.log()[-2000:]}")


def check_the_step(cluster):
    """Exactly from the moment on when all nodes know it, and once in every term, there is the new kind."""
    for node in cluster.nodes:
        raised = node.sql("SELECT idx FROM log WHERE kind = 'configuration' AND substr(body, 2, 2) = x'0200' ORDER BY idx LIMIT 1")[0][0]
        rows = next_rows(node)
        assert rows and rows[0][0] > raised, (node.name, raised, rows)
        assert len({term for _, term in rows}) == len(rows), f"more than one in a term: {rows}"


def rolling_upgrade(order):
    with Cluster() as cluster:
        stop = threading.Event()
        recorder, threads = run_load(cluster, [node.address for node in cluster.nodes], 16, stop.is_set, [f"upgrade/{n}" for n in range(10)])
        try:
            for node in order(cluster):
                assert not any(next_rows(each) for each in cluster.nodes), "the new kind is used before all nodes know it"
                assert {each.configuration()[0] for each in cluster.nodes} == {1}
                before = recorder.counts["yes"]
                upgrade(node)
                wait_until(lambda: recorder.counts["yes"] > before + 50 or any(thread.error for thread in threads), f"the cluster goes on with {node.name} upgraded")
            for node in cluster.nodes:
                wait_until(lambda: node.configuration()[0] == 2 and next_rows(node), lambda: f"{node.name} has what is new\n{node.log()[-2000:]}")
            # Another leader makes use of it too.
            terms = {term for _, term in next_rows(cluster.leader)}
            with cluster.leader.client("operator") as operator:
                assert operator.transfer("leader" if operator.status()["leader"] == "follower-1" else "follower-1").outcome == wire.YES
            wait_until(lambda: {term for _, term in next_rows(cluster.leader)} > terms, "the next leader uses it too")
        finally:
            stop.set()
        finish(threads)
        check_history(cluster, recorder)
        check_the_step(cluster)


def test_an_upgrade_leader_last_is_not_noticed_and_what_is_new_is_used_when_all_know_it():
    rolling_upgrade(lambda cluster: [*cluster.followers, cluster.leader])


def test_an_upgrade_leader_first_is_not_noticed_and_what_is_new_is_used_when_all_know_it():
    rolling_upgrade(lambda cluster: [cluster.leader, *cluster.followers])


def test_what_is_new_waits_for_a_node_that_is_away():
    with Cluster() as cluster:
        first, second = cluster.followers
        second.kill()
        upgrade(cluster.leader)
        upgrade(first)
        with first.client("alice") as alice:
            for number in range(20):
                assert alice.preempt(f"meanwhile/{number}").outcome == wire.YES
        assert cluster.leader.configuration()[0] == 1 and not next_rows(cluster.leader), "nobody knows about the third"
        second.start()
        cluster.wait_until_equal()
        assert cluster.leader.configuration()[0] == 1 and not next_rows(cluster.leader)
        upgrade(second)
        wait_until(lambda: all(next_rows(node) for node in cluster.nodes), "all have what is new")
        # A row is on a disk before it is committed, and told then.
        wait_until(lambda: cluster.leader.log().count("all members know feature level 2") == 1, cluster.leader.log)
        check_the_step(cluster)


def all_new(**options):
    cluster = Cluster(**options)
    for node in cluster.nodes:
        node.program = NEXT
    return cluster


def test_a_node_that_is_put_back_to_the_old_program_ends_with_what_to_do_and_its_database_stays():
    with all_new() as cluster:
        wait_until(lambda: all(next_rows(node) for node in cluster.nodes), "all have what is new")
        for node in (cluster.followers[0], cluster.leader):
            new, node.program = node.program, DLOCKD
            node.stop()
            before = tables(node)
            for start in range(2):
                said = len(node.log())
                node.launch()
                assert node.wait_for_exit() == 1
                line = node.log()[said:]
                assert line.count("\n") == 1 and f"{node.data}/dlock.db is of a cluster" in line and "upgrade dlock-server on this host" in line, line
                assert tables(node) == before, "the database has changed"
                # From the second time on there is nothing left in the WAL either.
                files = {file.name: file.read_bytes() for file in node.data.iterdir()}
                assert start == 0 or files == kept, "the files have changed"
                kept = files
            node.program = new
            node.start()
            wait_until(node.is_ready, f"{node.name} is back")
        cluster.wait_for_voters(3)


def test_an_old_program_is_refused_by_a_newer_cluster_as_a_member_and_as_one_that_would_join():
    with all_new(followers=1) as cluster:
        wait_until(lambda: all(next_rows(node) for node in cluster.nodes), "all have what is new")
        joiner = cluster.add(3)
        joiner.start()
        wait_until(lambda: f"not a member yet: {cluster.leader.peer}: {TOO_OLD}" in joiner.log(), lambda: f"the joiner is told\n{joiner.log()}")
        wait_until(lambda: f"refused the node follower-3 at 127.0.0.1: {TOO_OLD}" in cluster.leader.log(), "the leader says so too")
        assert joiner.log().count(TOO_OLD) == 1 and not joiner.status()["leader"], joiner.log()
        assert cluster.leader.status()["members"] == 2
        upgrade(joiner)
        cluster.wait_for_voters(3)
        # What a node that was left behind may have: a database of before, and the identity of a member.
        joiner.kill()
        old = Cluster(followers=2)
        with old:
            behind = old.followers[1]
            behind.stop()
            upgrade(old.leader)
            upgrade(old.followers[0])
            with old.leader.client("operator") as operator:
                assert operator.remove(behind.name).outcome == wire.YES
            wait_until(lambda: old.leader.configuration()[0] == 2, "the level rises without it")
            behind.launch()                  # it may end before it has answered anybody
            assert behind.wait_for_exit() == 1
            assert f"refused this node: {TOO_OLD}" in behind.log() and behind.log().endswith("upgrade dlock-server on this host\n"), behind.log()
            assert not next_rows(behind)


def test_a_backup_keeps_its_level_and_an_old_program_refuses_one_of_a_newer_cluster():
    with all_new(followers=0) as cluster:
        leader = cluster.leader
        wait_until(lambda: next_rows(leader), "it has what is new")
        with leader.client("alice") as alice:
            token = alice.preempt("kept").token
        file = backup(cluster, "backup")
        leader.stop()
        before = tables(leader)
        leader.program = DLOCKD
        for done in (dlockd(leader, "--recover"), restore(leader, file)):
            assert done[0] == 1 and done[2].startswith("dlockd: ") and done[2].count("\n") == 1, done
        assert tables(leader) == before
        shutil.rmtree(leader.data)
        leader.data.mkdir()
        status, out, error = restore(leader, file, "--accept-loss")
        assert status == 1 and out == "" and str(file) in error and "upgrade dlock-server" in error and error.count("\n") == 1, (status, out, error)
        assert list(leader.data.iterdir()) == []
        leader.program = NEXT
        assert restore(leader, file, "--accept-loss")[0] == 0
        assert leader.sql("SELECT substr(configuration, 2, 2) FROM meta") == [(b"\x02\0",)]
        leader.start()
        wait_until(leader.is_ready, "it leads")
        with leader.client("alice") as alice:
            kept = alice.check("kept")
            assert (kept.owner, kept.token) == ("alice", token), kept


def test_a_backup_of_an_old_cluster_is_taken_by_a_newer_program():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        file = backup(cluster, "backup")
        leader.stop()
        shutil.rmtree(leader.data)
        leader.data.mkdir()
        leader.program = NEXT
        assert restore(leader, file, "--accept-loss")[0] == 0
        assert leader.sql("SELECT substr(configuration, 2, 2) FROM meta") == [(b"\x01\0",)]
        leader.start()
        wait_until(lambda: next_rows(leader) and leader.configuration()[0] == 2, "the level rises when it runs")
