"""Strangers, vandals and slow readers: the node goes on serving others."""
import concurrent.futures
import contextlib
import os
import pathlib
import random
import resource
import socket
import struct
import time

import wire
from nodes import PATIENCE, Cluster, wait_until


def assert_serves(cluster):
    for node in cluster.nodes:
        with node.client() as connection:
            lock = f"alive/{os.urandom(4).hex()}"
            assert connection.preempt(lock).outcome == wire.YES
            assert connection.release(lock).outcome == wire.YES


def ends(connection, bound=PATIENCE):
    """The other side closes; what it sent before that."""
    connection.settimeout(bound)
    data = b""
    try:
        while True:
            piece = connection.recv(65536)
            if not piece:
                return data
            data += piece
    except ConnectionError:
        return data


GREETING = wire.hello("vandal")
BAD_CLIENT_BYTES = {
    "no hello": wire.frame(wire.STATUS, 1, struct.pack("<I", 0)),
    "a length of zero": struct.pack("<I", 0) + bytes(32),
    "a length of 4 GiB": b"\xff\xff\xff\xff" + bytes(32),
    "a length just over the limit": struct.pack("<I", 4097) + bytes(64),
    "another protocol": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an older version": wire.hello("x", low=0, high=0),
    "a newer version": wire.hello("x", low=9, high=9),
    "a hello with more behind it": wire.frame(wire.HELLO, 0, wire.hello("x")[13:] + b"more"),
    "an id with a space": wire.hello("a b"),
    "an id with a newline": wire.hello("a\nb"),
    "a second hello": GREETING + GREETING,
    "an answer": GREETING + wire.frame(wire.RESULT, 1, bytes(40)),
    "an unknown type": GREETING + wire.frame(200, 1, bytes(8)),
    "a type of zero": GREETING + wire.frame(0, 1, bytes(8)),
    "a request that is too short": GREETING + wire.frame(wire.PREEMPT, 1, bytes(4)),
    "a request that is too long": GREETING + wire.frame(wire.CHECK, 1, wire.request_body(wire.CHECK, 0, "x") + b"y"),
    "an empty name": GREETING + wire.frame(wire.CHECK, 1, wire.request_body(wire.CHECK, 0, "")),
    "a deadline of 49 days": GREETING + wire.frame(wire.CHECK, 1, wire.request_body(wire.CHECK, 0xFFFFFFFF, "x")),
    "a lease of a millisecond": GREETING + wire.frame(wire.PREEMPT, 1, wire.request_body(wire.PREEMPT, 0, "x", bytes(16), 1, ttl_ms=1)),
    "a lease of 49 days": GREETING + wire.frame(wire.PREEMPT, 1, wire.request_body(wire.PREEMPT, 0, "x", bytes(16), 1, ttl_ms=0xFFFFFFFF)),
    "a lease in a session": GREETING + wire.frame(wire.PREEMPT, 1, wire.request_body(wire.PREEMPT, 0, "x", bytes(16), 1, session=5, ttl_ms=5000)),
    "a lock-delay without a lease": GREETING + wire.frame(wire.PREEMPT, 1, wire.request_body(wire.PREEMPT, 0, "x", bytes(16), 1, delay_ms=5000)),
    "a lock-delay in a session": GREETING + wire.frame(wire.PREEMPT, 1, wire.request_body(wire.PREEMPT, 0, "x", bytes(16), 1, session=5, delay_ms=5000)),
    "a lock-delay of 49 days": GREETING + wire.frame(wire.OPEN, 1, wire.request_body(wire.OPEN, 0, "", bytes(16), 1, ttl_ms=5000, delay_ms=0xFFFFFFFF)),
    "a session without an end": GREETING + wire.frame(wire.OPEN, 1, wire.request_body(wire.OPEN, 0, "", bytes(16), 1)),
    "a renewal of nothing": GREETING + wire.frame(wire.RENEW, 1, wire.request_body(wire.RENEW, 0, "")),
    "a page of 65535 rows": GREETING + wire.frame(wire.LIST, 1, struct.pack("<IQ", 0, 0) + b"\0\0" + struct.pack("<QH", 0, 65535)),
    "a page of no rows": GREETING + wire.frame(wire.HISTORY, 1, struct.pack("<I", 0) + b"\0" + struct.pack("<QH", 0, 0)),
}


def test_malformed_client_frames_end_only_their_own_connection():
    with Cluster(followers=1) as cluster:
        for what, data in BAD_CLIENT_BYTES.items():
            for address in (cluster.leader.address, cluster.followers[0].tcp):
                with wire.connect(address) as connection:
                    connection.sendall(data)
                    answer = ends(connection)
                    assert answer == b"" or answer[4] in (wire.REFUSAL, wire.WELCOME), (what, answer)
        assert_serves(cluster)


def test_a_request_without_a_request_id_is_rejected_and_changes_nothing():
    with Cluster(followers=0) as cluster, cluster.leader.client("alice") as alice:
        for handle, seq in ((bytes(16), 1), (os.urandom(16), 0)):
            assert alice.preempt("x", handle=handle, seq=seq).outcome == wire.REJECTED
        assert alice.list() == []


def peer_frame(kind, body):
    return struct.pack("<IB", 1 + len(body), kind) + body


def test_malformed_peer_frames_end_only_their_own_connection():
    with Cluster() as cluster:
        dice = random.Random(3)
        attacks = [b"", b"\0" * 64, b"\xff" * 64, struct.pack("<I", 0), b"GET / HTTP/1.1\r\n\r\n"]
        attacks += [peer_frame(kind, dice.randbytes(size)) for kind in range(0, 9) for size in (0, 1, 40, 200)]
        attacks += [struct.pack("<IB", 1 << 20, 1) + bytes(2000), struct.pack("<IB", 0x7FFFFFFF, 4)]
        for node in cluster.nodes:
            for data in attacks:
                with wire.connect(node.peer) as connection:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    ends(connection)
        assert_serves(cluster)
        assert cluster.leader.status()["voters"] == 3


def test_half_a_frame_and_then_silence_is_ended_before_the_hello_and_harmless_after_it():
    with Cluster(followers=1) as cluster:
        for address in (cluster.leader.address, cluster.leader.peer):
            begin = time.monotonic()
            with wire.connect(address) as connection:
                connection.sendall(wire.hello("x")[:7])
                ends(connection)
            assert time.monotonic() - begin < 5 + PATIENCE / 2
        with cluster.leader.client("slow") as slow:
            request = wire.frame(wire.CHECK, 9, wire.request_body(wire.CHECK, 0, "x"))
            slow.socket.sendall(request[:10])
            assert_serves(cluster)
            slow.socket.sendall(request[10:])
            assert slow.receive()[0] == wire.RESULT


PAGE = wire.frame(wire.LIST, 1, struct.pack("<IQ", 10000, 0) + b"\0\0" + struct.pack("<QH", 0, 1000))


def fill_a_page(node):
    with node.client("alice") as alice:
        handles = [os.urandom(16) for _ in range(1000)]
        alice.socket.sendall(b"".join(
            wire.frame(wire.PREEMPT, tag, wire.request_body(wire.PREEMPT, 60000, f"{tag:03}/{'x' * 200}", handle, 1))
            for tag, handle in enumerate(handles)))
        for _ in handles:
            assert alice.receive()[2][0] == wire.YES


def cpu_seconds(node):
    fields = pathlib.Path(f"/proc/{node.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(node):
    status = pathlib.Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def is_over(connection):
    try:
        connection.setblocking(False)
        connection.send(bytes(1))
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return False


def test_a_client_that_never_reads_is_cut_off_and_delays_nobody():
    with Cluster(followers=1) as cluster:
        fill_a_page(cluster.leader)
        before = memory_mib(cluster.leader)
        with cluster.leader.client("greedy") as greedy:
            greedy.socket.settimeout(3)
            sent = 0
            try:
                while sent < 5000:
                    greedy.socket.sendall(PAGE)
                    sent += 1
            except (TimeoutError, ConnectionError):
                pass
            assert sent < 5000, "it was fed without end"
            begin = time.monotonic()
            assert_serves(cluster)
            # Where all is slow this takes long too, but not until that one is cut off.
            assert time.monotonic() - begin < 5 or not is_over(greedy.socket)
            assert memory_mib(cluster.leader) - before < 30
            wait_until(lambda: is_over(greedy.socket), "the connection that takes nothing is closed")


def test_pages_asked_for_all_at_once_are_answered_and_delay_nobody():
    with Cluster(followers=0) as cluster:
        fill_a_page(cluster.leader)
        before = memory_mib(cluster.leader)
        greedy = [cluster.leader.client(f"greedy-{number}") for number in range(10)]
        with cluster.leader.client("other") as other:
            for each in greedy:
                each.socket.sendall(PAGE * 100)
            waits = []
            for _ in range(20):
                begin = time.monotonic()
                assert other.preempt(f"other/{os.urandom(4).hex()}").outcome == wire.YES
                waits.append(time.monotonic() - begin)
            # Whoever does not run for a while is late once or twice.
            assert sorted(waits)[len(waits) * 3 // 4] < 2, waits
        assert memory_mib(cluster.leader) - before < 100

        def read_all(each):
            with each:
                for _ in range(100):
                    kind, _, body = each.receive()
                    assert kind == wire.ROWS and body[0] == wire.YES

        with concurrent.futures.ThreadPoolExecutor(len(greedy)) as pool:
            for done in [pool.submit(read_all, each) for each in greedy]:
                done.result()


def test_a_client_that_leaves_with_much_unread_keeps_no_node_busy():
    with Cluster(followers=0) as cluster:
        waits = wire.frame(wire.CHECK, 1, wire.request_body(wire.CHECK, 3600000, "x" * 200, min_index=1 << 40))
        leaver = wire.connect(cluster.leader.address)
        leaver.sendall(GREETING)
        leaver.settimeout(1)
        with contextlib.suppress(TimeoutError):
            leaver.sendall(waits * 8000)
        assert_serves(cluster)
        leaver.close()
        assert_serves(cluster)
        before = cpu_seconds(cluster.leader)
        time.sleep(2)  # the time measured, not a wait
        assert cpu_seconds(cluster.leader) - before < 1


def test_a_node_without_descriptors_says_so_once_and_serves_whom_it_has():
    with Cluster(followers=1) as cluster:
        leader = cluster.leader
        leader.stop()
        leader.preexec = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        leader.start()
        wait_until(leader.is_ready, "it leads again")
        with leader.client("early") as early:
            said, crowd = len(leader.log()), []
            for _ in range(300):
                crowd.append(socket.socket(socket.AF_UNIX))
                crowd[-1].setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    crowd[-1].connect(leader.address)
            before = cpu_seconds(leader)
            for number in range(20):
                assert early.preempt(f"early/{number}").outcome == wire.YES
                time.sleep(0.1)  # the time measured, not a wait
            assert cpu_seconds(leader) - before < 1
            assert leader.log()[said:].count("cannot be accepted") == 1, leader.log()[said:][:2000]
            for each in crowd:
                each.close()

        def serves():
            with contextlib.suppress(wire.Refused, wire.Closed):
                assert_serves(cluster)
                return True
        wait_until(serves, "it has seen that they have left")


def test_random_bytes_after_a_good_hello_never_stop_a_node():
    with Cluster(followers=1) as cluster:
        dice = random.Random(11)
        for _ in range(300):
            with wire.connect(dice.choice(cluster.nodes).address) as connection:
                body = dice.randbytes(dice.randrange(0, 120))
                connection.sendall(GREETING + wire.frame(dice.randrange(256), dice.getrandbits(64), body))
                connection.shutdown(socket.SHUT_WR)
                ends(connection)
        assert_serves(cluster)


def test_a_thousand_idle_strangers_do_not_lock_anybody_out():
    with Cluster(followers=1) as cluster:
        strangers = []
        try:
            for _ in range(400):
                strangers.append(wire.connect(cluster.leader.address))
                strangers.append(wire.connect(cluster.leader.peer))
            assert_serves(cluster)
            cluster.followers[0].kill()
            cluster.followers[0].launch()
            wait_until(cluster.followers[0].is_ready, "a member comes back among strangers", PATIENCE + 10)
        finally:
            for stranger in strangers:
                stranger.close()


def stranger_hello(name, cluster=bytes(16), node=0):
    body = struct.pack("<IHH", 0x506B6C64, 1, 1) + cluster + struct.pack("<Q", node) + os.urandom(16) + struct.pack("<QH", 0, 1)
    return peer_frame(1, body + wire.text8(name) + struct.pack("<H", 0))


def test_a_node_joins_past_strangers_that_wait_to_be_let_in():
    with Cluster(followers=0) as cluster:
        strangers = []
        try:
            for number in range(100):
                strangers.append(wire.connect(cluster.leader.peer))
                strangers[-1].sendall(stranger_hello(f"follower-{number + 100}"))
                assert strangers[-1].recv(5)[4] == 2, "it was not greeted"
            follower = cluster.add(1).start()
            # Nobody waits for so long that they give up: that is after a minute.
            wait_until(follower.is_ready, "it was let in", 45)
        finally:
            for stranger in strangers:
                stranger.close()


def test_strangers_that_come_again_and_again_do_not_fill_the_journal():
    with Cluster(followers=0) as cluster:
        leader = cluster.leader
        said, cluster_id, begin = len(leader.log()), os.urandom(16), time.monotonic()
        for number in range(200):
            name = "follower-9" if number < 100 else f"follower-{number}"
            with wire.connect(leader.peer) as foreign:
                foreign.sendall(stranger_hello(name, cluster_id, 5))
                assert b"foreign cluster" in ends(foreign)
        lines = leader.log()[said:].strip().splitlines()
        assert "refused the node follower-9" in lines[0] and len(lines) <= 12 * (1 + (time.monotonic() - begin) // 60), lines[:20]
