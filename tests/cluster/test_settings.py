"""Settings as an administrator meets them: checked before a start, refused with file and line, applied at a start."""
import subprocess

from nodes import DLOCKD, Cluster, wait_until


def dlockd(node, *arguments):
    done = subprocess.run([DLOCKD, "--config-dir", node.config, *arguments], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def test_check_config_prints_what_would_be_used_and_starts_nothing():
    cluster = Cluster(followers=1)
    for node in cluster.nodes:
        status, first, error = dlockd(node, "--check-config", *node.arguments)
        assert (status, error) == (0, "") and f"directory = {node.data}" in first, (status, error)
        assert list(node.data.iterdir()) == []
        next(node.config.glob("*.ini")).write_text(first)
        assert dlockd(node, "--check-config", *node.arguments) == (0, first, "")
    cluster.__exit__(None)


def test_a_bad_file_is_refused_by_the_check_and_by_the_start_with_file_and_line():
    cluster = Cluster(followers=0)
    leader, file = cluster.leader, cluster.leader.config / "leader.ini"
    good = file.read_text()
    lines = good.count("\n")
    for bad, words in (("max_voters = 10\n", "1 to 9"), ("nonsense = 1\n", "unknown key"), ("[nonsense]\n", "unknown section"),
                       ("  max_voters = 3\n", "indented"), ("bootstrap = now\n", "already set"), ("bootstrap\n", "key = value"),
                       ("[listen]\n[listen]\n[election]\ntimeout = 1\nheartbeat = 1s\n", "a third")):
        file.write_text(good + bad)
        line = lines + bad.count("\n")
        for arguments in (["--check-config", "leader"], ["leader"]):
            status, out, error = dlockd(leader, *arguments)
            assert (status, out) == (2, ""), (bad, status, out, error)
            assert f"{file}:{line}: " in error and words in error and "would be accepted" in error and error.count("\n") == 1, (bad, error)
        assert list(leader.data.iterdir()) == []
    cluster.__exit__(None)


def test_a_file_that_is_a_link_to_nothing_is_not_taken_for_none():
    cluster = Cluster(followers=0)
    file = cluster.leader.config / "leader.ini"
    file.unlink()
    assert dlockd(cluster.leader, "--check-config", "leader")[0] == 0
    file.symlink_to(file.with_suffix(".unmounted"))
    status, out, error = dlockd(cluster.leader, "--check-config", "leader")
    assert (status, out) == (2, "") and f"{file}: No such file" in error and error.count("\n") == 1, (status, out, error)
    cluster.__exit__(None)


def test_an_address_that_cannot_be_had_is_named_with_its_key():
    cluster = Cluster(followers=0)
    file = cluster.leader.config / "leader.ini"
    # Of a block that is for documentation only, so no host has it; and a directory that is not there.
    for key, address, words in (("peers", "192.0.2.1:7402", "has no such address"), ("clients", f"{cluster.directory}/none/x.sock", "directory does not exist")):
        other = "" if key == "clients" else "clients = none\n"
        file.write_text(f"[node]\ndirectory = {cluster.leader.data}\n[listen]\nallow_insecure = yes\n{other}{key} = {address}\n")
        status, out, error = dlockd(cluster.leader, "leader")
        assert (status, out) == (1, "") and f"cannot listen on {address} ([listen] {key}): " in error and words in error, (status, out, error)
        assert error.count("\n") == 1, error
    cluster.__exit__(None)


def test_wrong_usage_of_the_daemon_is_one_line():
    cluster = Cluster(followers=0)
    for arguments in ([], ["leader", "follower"], ["follower"], ["follower", "0"], ["follower", "251"], ["follower", "01"], ["follower", "x"], ["leader", "--check-config"],
                      ["--nonsense", "leader"]):
        status, out, error = dlockd(cluster.leader, *arguments)
        assert (status, out) == (2, "") and error.count("\n") == 1, (arguments, status, out, error)
    assert "before" in dlockd(cluster.leader, "leader", "--check-config")[2]
    cluster.__exit__(None)


def test_a_node_that_moved_is_found_at_its_new_address_and_no_vote_changes():
    with Cluster() as cluster:
        leader, follower, _ = cluster.nodes

        def rows(kind):
            return leader.sql(f"SELECT idx, body FROM log WHERE kind = '{kind}'")

        def told():
            """The addresses of all time; that a node is away, or back, says another byte."""
            return {body[1:9] + body[10:] for _, body in rows("address")}

        def as_before():
            """No new address, and who votes is what it was."""
            assert len(told()) == addresses and rows("configuration") == configurations, (addresses, told(), configurations, rows("configuration"))
        wait_until(lambda: len(told()) == len(cluster.nodes), lambda: f"all addresses are in the log: {told()}\n{leader.log()}")
        wait_until(lambda: leader.sql("SELECT max(idx) FROM log")[0][0] == leader.status()["log_last"], "the log is on the leader's disk")
        addresses, configurations = len(told()), rows("configuration")
        follower.stop()
        follower.start()
        cluster.wait_until_equal()
        as_before()
        for peer, settings in (("127.77.9.1", ""), ("127.77.9.1", "[peer]\nadvertise = localhost:{port}\n")):
            follower.stop()
            follower.peer = f"{peer}:{follower.peer_port}"
            follower.configure([leader.peer], settings.format(port=follower.peer_port))
            follower.start()
            addresses += 1
            wait_until(lambda: len(told()) == addresses, lambda: f"the new address is in the log: {told()}\n{leader.log()[-2000:]}")
            new = f"localhost:{follower.peer_port}" if settings else follower.peer
            assert new.encode() in rows("address")[-1][1], (new, rows("address"))
        as_before()
        assert leader.status()["voters"] == 3, leader.status()


def test_a_leader_that_moved_while_a_follower_was_stopped_is_found_by_its_join_address():
    with Cluster() as cluster:
        leader, stopped, other = cluster.nodes
        stopped.stop()
        leader.stop()
        leader.peer = f"127.77.9.2:{leader.peer_port}"
        leader.configure([])
        leader.start()
        cluster.nodes = [leader, other]
        cluster.wait_for_voters(3)
        with leader.client("operator") as operator:
            assert operator.transfer("leader").outcome == 1
        # Nobody dials who was stopped, and what it knows of the leader's address is old; it hears only from the other follower.
        stopped.configure([leader.peer])
        stopped.start()
        wait_until(stopped.is_ready, "it finds the leader")
        cluster.nodes = [leader, stopped, other]
        cluster.wait_until_equal()
