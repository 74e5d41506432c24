"""The client protocol, written a second time: what src/wire says must hold for strangers too.

One blocking connection per Connection. Only the standard library.
"""
import collections
import os
import socket
import struct

# Sanitizers and shared machines are slow; every wait ends with its event, this is only its bound.
PATIENCE = float(os.environ.get("PATIENCE", "30"))
# For an answer: by its node, and by who has asked.
DEADLINE_MS, ANSWER_S = int(1000 * PATIENCE / 3), PATIENCE / 2

"localhost".encode("idna")  # loads what resolving needs, before a test becomes a user who may not read it

HELLO, PREEMPT, RELEASE, CHECK, LIST, HISTORY, STATUS, CANCEL, MEMBERS, TRANSFER, REMOVE, BACKUP, SHOW, OPEN, CLOSE, RENEW, AWAIT, KEEP, BREAK = range(1, 20)
WELCOME, REFUSAL, RESULT, ROWS, EVENTS, STATE, ROSTER, PIECE = range(65, 73)
WATCH, CHANGES = 20, 74
YES, NO, UNKNOWN, REJECTED, WAITING, REENTERED = range(1, 7)
GRANTED, RELEASED, EXPIRED, CLOSED, BROKEN = range(1, 6)


class Refused(Exception):
    """The node closed the conversation and said why."""


class Closed(Exception):
    """The connection ended."""


def text8(value):
    data = value.encode() if isinstance(value, str) else value
    return bytes([len(data)]) + data


def frame(kind, tag, body):
    return struct.pack("<IBQ", 9 + len(body), kind, tag) + body


def hello(client="", assign=False, cluster=bytes(16), low=1, high=1, pid=0):
    return frame(HELLO, 0, struct.pack("<HH", low, high) + cluster + text8(client) + bytes([assign]) + struct.pack("<I", pid))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        assert self.at + size <= len(self.data), "a frame is shorter than it says"
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self):
        return self.take(self.number("B")).decode()

    def end(self):
        assert self.at == len(self.data), "a frame is longer than its content"


class Result:
    def __init__(self, reader):
        self.outcome = reader.number("B")
        self.token = reader.number("Q")
        self.index = reader.number("Q")
        self.leader_age_ms = reader.number("q")
        self.free_in_ms = reader.number("I")
        self.slots, self.holders = reader.number("H"), reader.number("H")
        self.owner = reader.text()
        self.reason = reader.text()
        reader.end()

    def __repr__(self):
        name = {YES: "yes", NO: "no", UNKNOWN: "unknown", REJECTED: "rejected", WAITING: "waiting", REENTERED: "reentered"}[self.outcome]
        return f"<{name} token={self.token} index={self.index} owner={self.owner!r} {self.reason}>"


Change = collections.namedtuple("Change", "kind index wall_ms lock client token session ttl_ms slots holder")


class Changes:
    """A page of what became of locks."""

    def __init__(self, reader):
        self.outcome = reader.number("B")
        self.index = reader.number("Q")
        self.leader_age_ms = reader.number("q")
        self.next_after, self.floor = reader.number("Q"), reader.number("Q")
        self.more, count, self.reason = bool(reader.number("B")), reader.number("H"), reader.text()
        self.events = [
            Change(reader.number("B"), reader.number("Q"), reader.number("Q"), reader.text(), reader.text(), reader.number("Q"), reader.number("Q"), reader.number("I"),
                   reader.number("H"), reader.take(reader.number("H")))
            for _ in range(count)
        ]
        reader.end()


def watch_body(name="", after=0, exact=False, limit=1000, deadline_ms=DEADLINE_MS):
    return struct.pack("<I", deadline_ms) + text8(name) + bytes([exact]) + struct.pack("<QH", after, limit)


def connect(address, timeout=ANSWER_S):
    """address: a socket path or "host:port"."""
    if address.startswith("/"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(address)
        return connection
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout)


def request_body(kind, deadline_ms, name, handle=b"", seq=0, client="", min_index=0, consistent=False, token=0, session=0, ttl_ms=0, delay_ms=0, period_ms=0, slots=0, further=(), wait=False,
                 now=False, bound=False):
    body = struct.pack("<I", deadline_ms)
    if kind == AWAIT:
        return body + text8(name) + struct.pack("<QB", token, bound)
    if kind in (PREEMPT, RELEASE, CANCEL, KEEP, BREAK):
        body += handle + struct.pack("<Q", seq) + text8(client) + text8(name)
        if kind in (RELEASE, KEEP):
            return body + struct.pack("<Q", token)
        if kind == BREAK:
            return body + struct.pack("<QBH", token, now, 0)
        if kind == PREEMPT:
            body += struct.pack("<QIIQHB", session, ttl_ms, delay_ms, period_ms, slots, len(further)) + b"".join(map(text8, further)) + struct.pack("<BH", wait, 0)
        return body
    if kind in (OPEN, CLOSE, RENEW):
        body += (b"" if kind == RENEW else handle + struct.pack("<Q", seq)) + text8(client)
        if kind == RENEW:
            return body + struct.pack("<QI", session, ttl_ms)
        return body + (struct.pack("<IIH", ttl_ms, delay_ms, 0) if kind == OPEN else struct.pack("<Q", session))
    if kind == CHECK:
        return body + struct.pack("<Q", min_index) + bytes([consistent]) + text8(name) + text8(client) + struct.pack("<Q", token)
    return body


class Connection:
    """One client. With a client id, or "" and assign; pid: the process that it says to be."""

    def __init__(self, address, client="", assign=False, cluster=bytes(16), timeout=ANSWER_S, pid=0):
        self.socket = connect(address, timeout)
        self.buffer = b""
        self.tag = 0
        self.handle, self.seq = os.urandom(16), 0
        self.socket.sendall(hello(client, assign, cluster, pid=pid))
        kind, _, body = self.receive()
        reader = Reader(body)
        if kind == REFUSAL:
            code = reader.number("B")
            reader.take(16)
            raise Refused(code, reader.text())
        assert kind == WELCOME, kind
        assert reader.number("H") == 1
        self.cluster, self.client, self.node = reader.take(16), reader.text(), reader.text()
        reader.end()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def receive(self):
        """The next frame as (kind, tag, body)."""
        while len(self.buffer) < 4 or len(self.buffer) < 4 + struct.unpack_from("<I", self.buffer)[0]:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionError as error:
                raise Closed from error
            if not data:
                raise Closed
            self.buffer += data
        size = 4 + struct.unpack_from("<I", self.buffer)[0]
        kind, tag = struct.unpack_from("<BQ", self.buffer, 4)
        body, self.buffer = self.buffer[13:size], self.buffer[size:]
        return kind, tag, body

    def send(self, kind, body):
        self.tag += 1
        try:
            self.socket.sendall(frame(kind, self.tag, body))
        except ConnectionError as error:
            raise Closed from error
        return self.tag

    def ask(self, kind, body, answer):
        tag = self.send(kind, body)
        got, got_tag, data = self.receive()
        if got == REFUSAL:
            raise Closed
        assert (got, got_tag) == (answer, tag), (got, got_tag)
        return Reader(data)

    def change(self, kind, name, handle=None, seq=None, client="", deadline_ms=DEADLINE_MS, token=None, **more):
        """A handle that nothing was accepted of is not known to the cluster: after a refusal, take another.
        token: of the hold that a release gives up; None: of whichever there is when it is asked."""
        if kind == RELEASE and token is None:
            held = self.check(name, deadline_ms=deadline_ms, consistent=True)
            if held.outcome == UNKNOWN:
                return held
            token = held.token or 1
        if handle is not None:
            return Result(self.ask(kind, request_body(kind, deadline_ms, name, handle, seq, client, token=token, **more), RESULT))
        self.seq += 1
        result = Result(self.ask(kind, request_body(kind, deadline_ms, name, self.handle, self.seq, client, token=token, **more), RESULT))
        if result.outcome != YES:
            self.handle, self.seq = os.urandom(16), 0
        return result

    def preempt(self, name, **more):
        return self.change(PREEMPT, name, **more)

    def release(self, name, **more):
        return self.change(RELEASE, name, **more)

    def open_session(self, ttl_ms, **more):
        """A yes has the session's id as its token."""
        return self.change(OPEN, "", ttl_ms=ttl_ms, **more)

    def close_session(self, session, **more):
        return self.change(CLOSE, "", session=session, **more)

    def renew(self, session, client="", deadline_ms=DEADLINE_MS, ttl_ms=0):
        return Result(self.ask(RENEW, request_body(RENEW, deadline_ms, "", client=client, session=session, ttl_ms=ttl_ms), RESULT))

    def cancel(self, name, **more):
        return self.change(CANCEL, name, **more)

    def await_grant(self, name, waiter, deadline_ms=DEADLINE_MS):
        return Result(self.ask(AWAIT, request_body(AWAIT, deadline_ms, name, token=waiter), RESULT))

    def transfer(self, node, deadline_ms=DEADLINE_MS):
        return Result(self.ask(TRANSFER, struct.pack("<I", deadline_ms) + text8(node), RESULT))

    def remove(self, node, deadline_ms=DEADLINE_MS):
        return Result(self.ask(REMOVE, struct.pack("<I", deadline_ms) + text8(node), RESULT))

    def check(self, name, min_index=0, deadline_ms=DEADLINE_MS, consistent=False, client="", token=0):
        return Result(self.ask(CHECK, request_body(CHECK, deadline_ms, name, min_index=min_index, consistent=consistent, client=client, token=token), RESULT))

    def list_page(self, prefix="", after="", limit=1000, min_index=0, after_token=2**64 - 1):
        """([(lock, owner, token)], more, index)"""
        body = struct.pack("<IQ", DEADLINE_MS, min_index) + text8(prefix) + text8(after) + struct.pack("<QH", after_token if after else 0, limit)
        reader = self.ask(LIST, body, ROWS)
        outcome, index, _, _ = reader.number("B"), reader.number("Q"), reader.number("q"), reader.number("I")
        more, count, reason = reader.number("B"), reader.number("H"), reader.text()
        assert outcome == YES, reason
        rows = []
        for _ in range(count):
            rows.append((reader.text(), reader.text(), reader.number("Q")))
            reader.take(16 + 8 + 4 + 4 + 8 + 1 + 4 + 4)  # since when, in which session or lease for how long, with which delay, how many wait, and with whom it is held
            reader.text()
            reader.take(reader.number("H"))
        reader.end()
        return rows, bool(more), index

    def show_page(self, name, after_token=0, min_index=0, consistent=False):
        """([(owner, token, slots, holders)], more)"""
        reader = self.ask(SHOW, struct.pack("<IQB", DEADLINE_MS, min_index, consistent) + text8(name) + struct.pack("<Q", after_token), ROWS)
        outcome, _, _, _ = reader.number("B"), reader.number("Q"), reader.number("q"), reader.number("I")
        more, count, reason = reader.number("B"), reader.number("H"), reader.text()
        assert outcome == YES, reason
        rows = []
        for _ in range(count):
            assert reader.text() == name
            owner, token = reader.text(), reader.number("Q")
            reader.take(8 + 8 + 8 + 4 + 4 + 8 + 1 + 4)  # since when, in which session or lease for how long, and how many wait
            rows.append((owner, token, reader.number("H"), reader.number("H")))
            reader.text()
            reader.take(reader.number("H"))
        reader.end()
        return rows, bool(more)

    def list(self, prefix=""):
        rows, more = [], True
        while more:
            page, more, _ = self.list_page(prefix, *((rows[-1][0], 1000, 0, rows[-1][2]) if rows else ()))
            rows += page
        return rows

    def history(self, name=""):
        """[(index, kind, lock, client, token)]"""
        events, after, more = [], 0, True
        while more:
            body = struct.pack("<I", DEADLINE_MS) + text8(name) + struct.pack("<QH", after, 1000)
            reader = self.ask(HISTORY, body, EVENTS)
            outcome = reader.number("B")
            reader.take(16)
            after, _, more, count, reason = reader.number("Q"), reader.number("Q"), reader.number("B"), reader.number("H"), reader.text()
            assert outcome == YES, reason
            for _ in range(count):
                index, _, token = reader.number("Q"), reader.number("Q"), reader.number("Q")
                reader.take(16)
                events.append((index, reader.text(), reader.text(), reader.text(), token))
                reader.text()                # what a configuration or an address is about
            reader.end()
        return events

    def watch(self, name="", after=0, **more):
        return Changes(self.ask(WATCH, watch_body(name, after, **more), CHANGES))

    def status(self):
        reader = self.ask(STATUS, struct.pack("<I", DEADLINE_MS), STATE)
        state = {key: reader.text() for key in ("node", "role", "leader", "version")}
        state["cluster"] = reader.take(16)
        for key in ("term", "commit", "applied", "log_first", "log_last", "locks", "voters", "members"):
            state[key] = reader.number("Q")
        state["leader_age_ms"] = reader.number("q")
        reader.end()
        return state
