"""That the faults which the other tests rely on are the faults they are meant to be: a network, and a disk."""
import random
import socket
import threading
import time

import disk
from network import CUT, Network, address
from nodes import NETWORK


def on(network, number, function):
    """What function returns on that host."""
    box = []

    def run():
        network.enter(number)
        box.append(function())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    return box[0]


def conversation(network):
    """Two ends of one connection from host 1 to host 2."""
    server = on(network, 2, lambda: socket.create_server((address(2), 7000)))
    client = on(network, 1, lambda: socket.create_connection((address(2), 7000), 5))
    accepted, _ = server.accept()
    server.close()
    for end in (client, accepted):
        end.settimeout(0.3)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client, accepted


def hears(end, bound=0.3):
    end.settimeout(bound)
    try:
        return end.recv(100)
    except TimeoutError:
        return None


def test_a_cut_silences_an_established_connection_in_its_direction_only_and_heals():
    network = Network(NETWORK, [1, 2, 3])
    try:
        client, server = conversation(network)
        client.sendall(b"a")
        assert hears(server) == b"a"
        network.set_links([(1, 2)], loss=CUT)
        client.sendall(b"b")
        assert hears(server) is None
        server.sendall(b"c")
        assert hears(client) == b"c"
        other = on(network, 3, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        listener = on(network, 2, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        listener.bind((address(2), 7001))
        other.sendto(b"x", (address(2), 7001))
        assert hears(listener) == b"x", "a cut of one link cuts another"
        network.set_links([(2, 1)], loss=CUT)
        server.sendall(b"d")
        assert hears(client) is None
        network.heal()
        assert hears(server, 10) == b"b" and hears(client, 10) == b"d"
        for each in (client, server, other, listener):
            each.close()
    finally:
        network.close()


def test_a_link_is_slow_lossy_and_says_things_twice_as_told():
    network = Network(NETWORK, [1, 2], seed=1)
    try:
        sender = on(network, 1, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        listener = on(network, 2, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        listener.bind((address(2), 7001))
        sender.connect((address(2), 7001))
        network.set_links([(1, 2)], delay_us=200000)
        begin = time.monotonic()
        sender.send(b"x")
        assert hears(listener, 5) == b"x" and time.monotonic() - begin >= 0.2
        network.set_links([(1, 2)], loss=500, twice=500, delay_us=1000, jitter_us=3000)
        for number in range(200):
            sender.send(bytes([number]))
        heard = []
        while (data := hears(listener)) is not None:
            heard.append(data[0])
        assert 40 < len(set(heard)) < 160 and len(heard) > len(set(heard)) + 20 and heard != sorted(heard), heard
        sender.close()
        listener.close()
    finally:
        network.close()


def written(image, records, offset, data):
    """A write as disk.c remembers it."""
    records.append((offset, len(image), len(data), bytes(image[offset : offset + len(data)])))
    image[len(image) :] = bytes(max(0, offset + len(data) - len(image)))
    image[offset : offset + len(data)] = data


def test_a_power_cut_keeps_what_was_synced_and_of_the_rest_any_part():
    dice = random.Random(3)
    synced = bytes([1]) * 4096
    seen = set()
    for turn in range(400):
        image, records = bytearray(synced), []
        written(image, records, 2048, bytes([2]) * 4096)
        written(image, records, 6144, bytes([3]) * 1000)
        how = disk.POWER_CUTS[turn % 4]
        left = bytes(disk.cut(bytearray(image), records, dice, how))
        assert left[:2048] == synced[:2048]
        for at, byte in enumerate(left[2048:], 2048):
            assert byte in ({1, 2} if at < 4096 else {0, 2} if at < 6144 else {0, 3}), (at, byte, how)
        if how == "all is lost":
            assert left == synced
        if how == "all is kept":
            assert left == bytes(image)
        seen.add(left)
    assert len(seen) > 100


def test_a_power_cut_may_take_back_a_truncation():
    image, records = bytearray(b"abcdef"), []
    records.append((2, len(image), disk.TRUNCATION, bytes(image[2:])))
    del image[2:]
    written(image, records, 0, b"x")
    found = {bytes(disk.cut(bytearray(image), records, random.Random(seed), "cut at a byte")) for seed in range(50)}
    assert {b"abcdef", b"xb"} <= found and found <= {b"abcdef", b"ab", b"xb"}, found
