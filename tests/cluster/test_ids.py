"""Who is who: ids that are given once, kept, and known again."""
import pathlib
import signal
import time

import wire
from nodes import PATIENCE, Cluster, wait_until
from test_care import RETURN_S, empty

# An empty leader listens for so long for a cluster that is there already.
LISTEN_S = 3


def node_ids(cluster):
    return [node.sql("SELECT cluster, node, incarnation FROM meta")[0] for node in cluster.nodes]


def let_it_listen(leader):
    """Makes it one that looks who is there before it makes a cluster, at no address in particular."""
    text = (leader.config / "leader.ini").read_text()
    (leader.config / "leader.ini").write_text(text.replace("bootstrap = now\n", ""))


def wait_until_it_leads(leader):
    """Again: from when all has been well for a while, which begins anew with whoever does not run for a moment."""
    wait_until(lambda: (leader.status() or {}).get("role") == "leader", lambda: "it leads again\n" + leader.log(), RETURN_S + 2 * PATIENCE)


def expect_let_in_again(cluster, cluster_id):
    """It makes no second cluster: it is let in as a new node, in the place of the one whose name it has, and leads again."""
    leader = cluster.leader
    wait_until(lambda: "found a cluster that is there already" in leader.log(), lambda: "it hears of the cluster\n" + "\n".join(node.log()[-3000:] for node in cluster.nodes))
    wait_until_it_leads(leader)
    assert node_ids(cluster)[0][0] == cluster_id
    assert leader.status()["members"] == 3 and leader.status()["voters"] == 3, leader.status()


def test_nodes_keep_their_ids_over_restarts_of_both_sides():
    with Cluster() as cluster:
        before = node_ids(cluster)
        assert len({row[1] for row in before}) == 3 and len({row[0] for row in before}) == 1
        for node in cluster.nodes:
            node.stop()
        for node in cluster.nodes:
            node.start()
        cluster.wait_for_voters(3)
        assert node_ids(cluster) == before


def test_a_client_without_an_id_is_given_one_that_nobody_else_gets():
    with Cluster() as cluster:
        given = set()
        for node in cluster.nodes * 5:
            with wire.Connection(node.address, assign=True) as connection:
                assert len(connection.client) == 36
                given.add(connection.client)
                assert connection.preempt(f"lock-{len(given)}").outcome == wire.YES
                assert connection.check(f"lock-{len(given)}").owner == connection.client
        assert len(given) == 15


def test_an_emptied_disk_is_a_new_node():
    with Cluster() as cluster:
        before = node_ids(cluster)[1]
        follower = cluster.followers[0]
        follower.kill()
        empty(follower)
        follower.start()
        wait_until(lambda: (follower.status() or {}).get("voters") == 3, lambda: "the new node is a voter\n" + follower.log()[-2000:])
        after = node_ids(cluster)[1]
        assert after[0] == before[0] and after[1] != before[1] and after[2] != before[2]
        assert cluster.leader.status()["members"] == 3


def test_a_client_that_pinned_another_cluster_is_refused():
    with Cluster(followers=0) as cluster:
        try:
            wire.Connection(cluster.leader.address, "alice", cluster=bytes(range(16)))
        except wire.Refused as refusal:
            assert refusal.args[0] == 2
            return
        raise AssertionError("it was let in")


def test_a_node_of_a_foreign_cluster_is_refused_on_both_sides():
    with Cluster(followers=1) as one, Cluster(followers=0) as other:
        stranger = one.followers[0]
        stranger.stop()
        stranger.configure([other.leader.peer])
        one.leader.kill()
        stranger.start()
        wait_until(lambda: "foreign cluster" in other.leader.log(), "the foreign leader refuses")
        assert other.leader.status()["members"] == 1


def test_a_leader_with_an_emptied_disk_joins_what_it_hears_of():
    with Cluster() as cluster:
        cluster_id = node_ids(cluster)[0][0]
        leader = cluster.leader
        leader.kill()
        empty(leader)
        leader.configure([cluster.followers[0].peer])
        leader.launch()
        expect_let_in_again(cluster, cluster_id)


def test_an_emptied_leader_that_has_no_address_to_join_at_asks_whom_it_has_met_until_it_is_let_in():
    with Cluster() as cluster:
        cluster_id = node_ids(cluster)[0][0]
        leader = cluster.leader
        leader.kill()
        empty(leader)
        let_it_listen(leader)
        leader.launch()
        # The others keep its name for it for a while, so that the first answer may be "not now".
        expect_let_in_again(cluster, cluster_id)


def states_at(port):
    """Of the sockets at a port of this host, as the kernel has them: connections that nobody has accepted yet, too."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [row[3] for row in rows if int(row[1].split(":")[1], 16) == port]


def is_listening(port):
    return "0A" in states_at(port)


def is_called(port):
    return "01" in states_at(port)


def test_an_emptied_leader_that_did_not_run_while_it_listened_hears_who_called_meanwhile():
    with Cluster() as cluster:
        cluster_id = node_ids(cluster)[0][0]
        leader = cluster.leader
        leader.kill()
        let_it_listen(leader)
        for node in cluster.followers:
            node.process.send_signal(signal.SIGSTOP)
        made = -1
        while made < leader.log().count("made a new cluster"):      # when it was not stopped in time, once more
            made = leader.log().count("made a new cluster")
            leader.kill()
            empty(leader)
            leader.launch()
            wait_until(lambda: is_listening(leader.peer_port), lambda: f"it listens\n{leader.log()}")
            leader.process.send_signal(signal.SIGSTOP)
        time.sleep(LISTEN_S + 0.5)           # the time in which it hears nobody
        for node in cluster.followers:
            node.process.send_signal(signal.SIGCONT)
        wait_until(lambda: is_called(leader.peer_port), "somebody calls")
        leader.process.send_signal(signal.SIGCONT)
        wait_until(lambda: "found a cluster that is there already" in leader.log(), lambda: f"it hears of the cluster\n{leader.log()}")
        wait_until(leader.is_ready, lambda: f"it is let in\n{leader.log()}")
        assert node_ids(cluster)[0][0] == cluster_id, leader.log()


def test_an_emptied_leader_asks_at_every_address_to_join_at_before_it_makes_a_cluster():
    with Cluster() as cluster, wire.socket.socket() as silent:
        silent.bind(("0.0.0.0", 0))
        silent.listen()                      # takes connections, and says nothing
        cluster_id = node_ids(cluster)[0][0]
        leader = cluster.leader
        leader.stop()                        # so that nobody connects to it
        empty(leader)
        leader.configure([*(f"127.0.0.{host}:{silent.getsockname()[1]}" for host in (1, 2, 3)), cluster.followers[0].peer])
        leader.launch()
        wait_until_it_leads(leader)
        assert node_ids(cluster)[0][0] == cluster_id
        # With nobody to answer it makes one in the end.
        for node in cluster.nodes:
            node.kill()
        empty(leader)
        leader.launch()
        wait_until(lambda: "made a new cluster" in leader.log(), lambda: "it makes a cluster\n" + leader.log())


test_an_emptied_leader_asks_at_every_address_to_join_at_before_it_makes_a_cluster.takes_long = True


def test_a_node_that_was_stopped_finds_the_others_which_do_not_dial_it():
    for _ in range(5):
        with Cluster() as cluster:
            for node in (cluster.leader, cluster.followers[0]):
                node.stop()
                node.start()
                wait_until(node.is_ready, lambda: f"{node.name} is back\n" + "\n".join(each.log()[-800:] for each in cluster.nodes))


def test_two_nodes_that_each_know_the_other_to_have_stopped_meet_again():
    with Cluster() as cluster:
        leader, first, second = cluster.nodes
        leader.stop()
        for node in (first, second):
            wait_until(node.is_ready, lambda: f"{node.name} has another leader\n{node.log()}")
        second.stop()
        leader.start()
        wait_until_it_leads(leader)
        second.start()
        wait_until(second.is_ready, lambda: "it finds the leader\n" + "\n".join(node.log()[-800:] for node in cluster.nodes))


test_two_nodes_that_each_know_the_other_to_have_stopped_meet_again.takes_long = True
