"""Hosts of their own for nodes and clients, on a network that can be cut (network.c)."""
import ctypes
import itertools
import os
import subprocess

CLIENTS = 100
CUT = 1000


def address(number):
    return f"10.77.0.{number}"


class Network:
    """The hosts with these numbers; and CLIENTS, where clients are."""

    def __init__(self, program, numbers, seed=0):
        self.numbers = [*numbers, CLIENTS]
        self.process = subprocess.Popen(
            [program, str(seed), *map(str, self.numbers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )
        self.entrances = {}
        for line in self.process.stdout:
            if line == "ready\n":
                break
            number, descriptor = map(int, line.split())
            self.entrances[number] = f"/proc/{self.process.pid}/fd/{descriptor}"
        assert len(self.entrances) == len(self.numbers), "no network: it needs root, network namespaces and TUN devices"
        self.faults = {}

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def prefix(self, number):
        """Before a command that is to run on that host. It ends with the thread that starts it."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self.entrances[number]}"]

    def enter(self, number=CLIENTS):
        """Moves the calling thread to that host: what it opens from now on, it opens there."""
        library = ctypes.CDLL(None, use_errno=True)
        descriptor = os.open(self.entrances[number], os.O_RDONLY)
        failed = library.setns(descriptor, 0x40000000)
        os.close(descriptor)
        assert not failed, os.strerror(ctypes.get_errno())

    def set_links(self, pairs, loss=0, delay_us=0, jitter_us=0, twice=0):
        """From one to the other of each pair. Returns when it holds."""
        pairs = list(pairs)
        for start in range(0, len(pairs), 50):
            some = pairs[start : start + 50]
            self.process.stdin.write("".join(f"{a} {b} {loss} {delay_us} {jitter_us} {twice}\n" for a, b in some))
            self.process.stdin.flush()
            for _ in some:
                assert self.process.stdout.readline() == "ok\n"

    def between(self, some, others):
        """Both directions of every pair of one of some and one of others."""
        return [pair for a, b in itertools.product(some, others) if a != b for pair in ((a, b), (b, a))]

    def around(self, number):
        """All links of a host."""
        return self.between([number], self.numbers)

    def everywhere(self):
        return list(itertools.permutations(self.numbers, 2))

    def begin(self, key, pairs, **how):
        """A fault that lasts until end(key). Where several meet, the worst of each counts."""
        self.faults[key] = (set(pairs), how)
        self.renew(self.faults[key][0])

    def end(self, key):
        pairs, _ = self.faults.pop(key)
        self.renew(pairs)

    def renew(self, pairs):
        alike = {}
        for pair in sorted(pairs):
            how = {}
            for others, fault in self.faults.values():
                if pair in others:
                    how = {word: max(how.get(word, 0), fault.get(word, 0)) for word in (*how, *fault)}
            alike.setdefault(tuple(sorted(how.items())), []).append(pair)
        for how, some in alike.items():
            self.set_links(some, **dict(how))

    def heal(self):
        self.faults.clear()
        self.set_links(self.everywhere())
