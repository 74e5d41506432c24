"""Two servers and a witness: a node that votes and keeps all, and that no client can connect to."""
import os
import subprocess

import wire
from nodes import DLOCKD, Cluster, Node, wait_until
from test_load import finish, run_load
from test_settings import dlockd
from test_tool import tool


class Witness(Node):
    """A follower that answers nobody: what it does is seen in its log and by the others."""

    def configure(self, join, settings=""):
        (self.config / "follower.ini").write_text(
            f"[node]\ndirectory = {self.data}\nwitness = yes\n[listen]\npeers = {self.peer}\n[cluster]\njoin = {', '.join(join)}\n{settings}"
        )

    def answers(self):
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log()[-3000:]}"
        return "leads in term" in self.log()

    def terms_led(self):
        return [int(line.split()[-1]) for line in self.log().splitlines() if "this node leads in term" in line]


class Pair(Cluster):
    """leader and follower-1, which serve clients, and follower-2, which is the witness."""

    def __init__(self, settings=""):
        super().__init__(followers=1, settings=settings)
        self.witness = Witness(self.directory, "follower-2", [self.leader.peer], settings)

    def __enter__(self):
        try:
            for node in (*self.nodes, self.witness):
                node.start()
            self.wait_for_voters(3)
        except BaseException:
            self.__exit__(None)
            raise
        return self

    def __exit__(self, kind, *_):
        self.witness.kill()
        super().__exit__(kind)


def goes_on(recorder, threads, what):
    """Clients are told yes again, from now on."""
    before = recorder.counts["yes"]

    def more():
        for thread in threads:
            if thread.error:
                raise thread.error
        return recorder.counts["yes"] > before + 20
    wait_until(more, what)


def judge(cluster, recorder):
    """Everything that was acknowledged is in the log, and the witness has the same."""
    cluster.wait_until_equal()
    columns = "SELECT idx, term, kind, lock, client, token FROM log ORDER BY idx"
    wait_until(lambda: len({tuple(node.sql(columns)) for node in (*cluster.nodes, cluster.witness)}) == 1, "the three logs are equal")
    granted, owner = {}, {}
    for _, _, kind, lock, client, token in cluster.witness.sql(columns):
        if kind == "preempt":
            assert lock not in owner, f"{lock} was granted twice"
            owner[lock] = client
            granted[lock, token] = client
        elif kind == "release":
            assert owner.pop(lock) == client
    for lock, tokens in recorder.grants.items():
        for token, client in tokens.items():
            assert granted.get((lock, token)) == client, f"an acknowledged grant of {lock} is not in the log"


def test_a_witness_keeps_everything_and_listens_to_nobody():
    with Pair() as cluster:
        with cluster.leader.client("alice") as alice:
            token = alice.preempt("kept").token
        assert cluster.leader.configuration()[1] == {"leader": (True, True, False), "follower-1": (True, False, False), "follower-2": (True, False, True)}
        wait_until(lambda: ("kept", token) in cluster.witness.sql("SELECT lock, token FROM log"), "the witness has the lock")
        inodes = {os.readlink(f"/proc/{cluster.witness.process.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{cluster.witness.process.pid}/fd")}
        sockets = subprocess.run(["ss", "-Hlntxe"], capture_output=True, text=True, check=True).stdout.splitlines()
        inodes = {inode[8:-1] for inode in inodes if inode.startswith("socket:[")}
        mine = [line for line in sockets if any(f"ino:{inode} " in line + " " or f" {inode} " in line for inode in inodes)]
        assert len(mine) == 1 and cluster.witness.peer in mine[0], mine


def test_pain_16_either_server_may_die_and_the_other_goes_on_with_the_witness():
    with Pair() as cluster:
        stop = []
        recorder, threads = run_load(cluster, [node.address for node in cluster.nodes], 16, lambda: stop, [f"pair/{n}" for n in range(8)])
        try:
            for victim in (cluster.leader, cluster.nodes[1], cluster.leader):
                victim.kill()
                goes_on(recorder, threads, f"the other server goes on without {victim.name}")
                victim.start()
                cluster.wait_for_voters(3)
            cluster.witness.kill()
            goes_on(recorder, threads, "the servers go on without the witness")
            cluster.witness.start()
        finally:
            stop.append(True)
        finish(threads)
        judge(cluster, recorder)


def test_a_witness_that_must_lead_serves_forwarded_requests_and_hands_over_to_the_server_that_has_caught_up():
    # The last heartbeat before it hands over is its whole lead: a long one.
    with Pair("[election]\ntimeout = 3s\nheartbeat = 1s\n") as cluster:
        leader, other = cluster.nodes
        other.kill()
        with leader.client("alice") as alice:
            for number in range(50):
                assert alice.preempt(f"held/{number}").outcome == wire.YES
        leader.kill()                   # only the witness has those
        other.start()
        stop = []
        recorder, threads = run_load(cluster, [other.address], 8, lambda: stop, [f"load/{n}" for n in range(8)])
        try:
            wait_until(cluster.witness.terms_led, lambda: f"the witness leads\n{cluster.witness.log()[-2000:]}")
            wait_until(lambda: (other.status() or {}).get("role") == "leader", "the server that has caught up leads")
            goes_on(recorder, threads, "it serves")
        finally:
            stop.append(True)
        finish(threads)
        term = cluster.witness.terms_led()[-1]
        assert other.status()["term"] == term + 1, "it was handed over, not lost"
        served = other.sql(f"SELECT count(*) FROM log WHERE term = {term} AND kind = 'preempt' AND client LIKE 'client-%'")[0][0]
        assert served > 0, "the witness served nobody"
        with other.client("alice") as alice:
            assert alice.check("held/49", min_index=1).owner == "alice"
        leader.start()
        cluster.wait_for_voters(3)
        judge(cluster, recorder)


def test_leadership_is_not_handed_to_a_witness_by_hand():
    with Pair() as cluster:
        for node in cluster.nodes:
            status, _, error = tool(cluster, "transfer", "follower-2", server=node.address)
            assert status == 2 and "a witness, which leads only while no other can" in error, (status, error)
        assert not cluster.witness.terms_led()


def test_a_witness_with_clients_is_refused_and_what_it_is_cannot_change():
    with Pair() as cluster:
        witness, file = cluster.witness, cluster.witness.config / "follower.ini"
        good = file.read_text()
        status, out, error = dlockd(witness, "--check-config", *witness.arguments)
        assert status == 0 and "witness = yes" in out and "clients = none" in out, (status, out, error)
        witness.kill()
        file.write_text(good.replace("[listen]\n", f"[listen]\nclients = {witness.address}\n"))
        for arguments in (["--check-config"], []):
            status, out, error = dlockd(witness, *arguments, *witness.arguments)
            assert (status, out) == (2, "") and f"{file}:5: clients" in error and "witness" in error and error.count("\n") == 1, error
        file.write_text(good.replace("witness = yes\n", "").replace("[listen]\n", f"[listen]\nclients = {witness.address}\n"))
        witness.launch()
        wait_until(lambda: "but the cluster let this node in as a witness" in witness.log(), "it says so")
        wait_until(witness.is_ready, "and goes on")


def test_sockets_for_clients_that_a_witness_is_passed_are_closed_with_a_warning():
    with Pair() as cluster:
        witness = cluster.witness
        witness.kill()
        path = cluster.directory / "passed.sock"
        process = subprocess.Popen(
            ["systemd-socket-activate", "-l", path, "--fdname=clients", DLOCKD, "--config-dir", witness.config, *witness.arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(witness.log_path, "ab"),
        )
        try:
            wait_until(path.exists, "the socket is there")
            with wire.socket.socket(wire.socket.AF_UNIX) as waker:
                waker.connect(str(path))
                wait_until(lambda: "witness = yes: the sockets for clients that were passed are not served" in witness.log(), witness.log)
                wait_until(lambda: str(path) not in subprocess.run(["ss", "-Hlx"], capture_output=True, text=True, check=True).stdout, "it is closed")
        finally:
            process.terminate()
            process.wait(30)
