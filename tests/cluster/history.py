"""What clients were told, against what the nodes have in their logs: can all of it be true?

The log is the witness. Every answer names the index that it rests on, and so does every row; so the order in which all
operations happened is not searched for but read, and must then stand every test:

- replayed in that order, each answer is right: a lock is granted when it is free, released by its owner, refused
  where another has it, and read as it was;
- the order agrees with time: what was answered before something else was asked stands before it. Together that is
  linearizability, of each lock and of all of them at once. A plain check may be late, never early;
- a request is in the log once if it was accepted, not at all if it was refused or cancelled, and either if nobody knows;
- what is held in a session, or is a lease, is free from the row on that ends it. Nobody asks for a row of kind expire, and it
  never comes while a client counts on the session: by what it was told, from before it asked for that, and 1 % less.

Two rules use neither log nor index, for the case that both are wrong in the same way: what clients believe to hold
does not overlap, and tokens rise. Times are nanoseconds of one monotonic clock.
"""
import bisect
import collections
import dataclasses

import wire

YES, NO, UNKNOWN = "yes", "no", "unknown"
PREEMPT, RELEASE, CHECK, CANCEL = "preempt", "release", "check", "cancel"
OPEN, CLOSE, RENEW, EXPIRE = "open", "close", "renew", "expire"
FOREVER = 2**63
# Of a session's locks, by one row.
FREED_AT_ONCE = 64


def life_ns(ttl_ms):
    """For how long from before it asks a client counts on what it is told."""
    return (ttl_ms - (ttl_ms + 99) // 100) * 10**6


@dataclasses.dataclass
class Operation:
    client: str
    kind: str
    lock: str
    begin: int
    end: int = FOREVER
    outcome: str = UNKNOWN
    token: int = 0
    index: int = 0
    owner: str = ""
    handle: bytes = b""
    seq: int = 0
    named: int = 0                  # a release: the token of the hold to give up; 0: any
    session: int = 0                # a preempt: in which; a close, a renewal: of which
    ttl_ms: int = 0                 # an open, a renewal; a preempt: of the lease
    min_index: int = 0
    consistent: bool = False        # a check that must not be late
    copies: int = 0                 # of a change that may have been sent
    tries: list = dataclasses.field(default_factory=list)

    @property
    def is_change(self):
        return self.kind not in (CHECK, RENEW)

    @property
    def opens(self):
        """A yes to it is a session, of the client and with its token for an id."""
        return self.kind == OPEN or (self.kind == PREEMPT and self.ttl_ms > 0)

    def concerns(self, session):
        return session and (session == self.session or (self.outcome == YES and self.opens and self.token == session))

    def __str__(self):
        end = "      ..." if self.end == FOREVER else f"{self.end / 1e9:9.4f}"
        told = {YES: f"yes at {self.index}", NO: f"no at {self.index}", UNKNOWN: "unknown"}[self.outcome]
        if self.owner and self.owner != self.client:
            told += f", {self.owner} has it"
        if self.token:
            told += f", token {self.token}"
        request = f" ({self.handle.hex()[:6]}:{self.seq})" if self.is_change else ""
        request += (f" in {self.session}" if self.session else "") + (f" for {self.ttl_ms} ms" if self.ttl_ms else "")
        return f"{self.begin / 1e9:9.4f} to {end}  {self.client:10} {self.kind:8}{self.lock}{request}: {told}" + "".join(f"; {each}" for each in self.tries[:3]) \
            + (f"; and {len(self.tries) - 3} more" if len(self.tries) > 3 else "")


@dataclasses.dataclass(frozen=True)
class Row:
    index: int
    term: int
    kind: str
    lock: str = ""
    client: str = ""
    token: int = 0
    cluster_ms: int = 0
    handle: bytes = b""
    seq: int = 0
    body: bytes = b""
    session: int = 0
    ttl_ms: int = 0
    wall_ms: int = 0                # when a leader proposed it

    @property
    def request(self):
        return self.handle, self.seq

    def __str__(self):
        request = f" ({self.handle.hex()[:6]}:{self.seq})" if self.handle else ""
        return f"log {self.index}, term {self.term}: {self.kind} {self.lock} {self.client}{request}" + (f", token {self.token}" if self.token else "") \
            + (f", session {self.session}" if self.session else "") + (f", for {self.ttl_ms} ms" if self.ttl_ms else "")


SELECT = "SELECT idx, term, kind, lock, client, token, cluster_ms, wall_ms, body FROM log"


def row_of(columns):
    """A row of SELECT; the body of a change is read byte by byte, and must agree with the columns."""
    index, term, kind, lock, client, token, cluster_ms, wall_ms, body = columns
    if kind not in (PREEMPT, RELEASE, CANCEL, OPEN, CLOSE, EXPIRE):
        return Row(index, term, kind, lock or "", client or "", token or 0, cluster_ms, body=body, wall_ms=wall_ms)
    reader = wire.Reader(body)
    assert reader.number("B") == 1, "a body of another format"
    handle, seq, name, _ = reader.take(16), reader.number("Q"), reader.text(), reader.text()
    lock_name = reader.text() if kind in (PREEMPT, RELEASE, CANCEL) else ""
    if kind == RELEASE:
        assert reader.number("Q") == token, f"row {index}: the token differs from the body's"
    session = reader.number("Q") if kind in (PREEMPT, CLOSE, EXPIRE) else 0
    ttl_ms = reader.number("I") if kind in (PREEMPT, OPEN) else 0
    if kind == PREEMPT:
        reader.take(8)                       # once in which period
    if kind in (PREEMPT, OPEN):
        reader.take(reader.number("H"))      # who holds it, for people
    if kind == EXPIRE:
        lock_name = reader.text()
    reader.end()
    assert (name, lock_name) == (client, lock or ""), f"row {index}: client or lock differ from the body's"
    assert kind not in (CLOSE, EXPIRE) or session == token, f"row {index}: the session differs from the body's"
    assert (kind == EXPIRE) == (handle == bytes(16)), f"row {index}: only what nobody asks for has no handle"
    return Row(index, term, kind, lock_name, client, token or 0, cluster_ms, b"" if kind == EXPIRE else handle, seq, body, session, ttl_ms, wall_ms)


@dataclasses.dataclass
class Violation:
    rule: str
    text: str
    operations: list = dataclasses.field(default_factory=list)
    index: int = 0

    def __str__(self):
        return f"{self.rule}: {self.text}"


class Log:
    """The committed rows of all nodes, as one."""

    def __init__(self):
        self.rows = {}
        self.source = {}
        self.seen = {}                  # index: when it was read at the latest, so that it was committed
        self.realtime = None            # of the hosts' real time, what it is ahead of the clock of operations; None: not known
        self.violations = []

    def add(self, node, rows, now=FOREVER):
        """Rows that are committed, in order, as one node has them by now."""
        before = None
        for row in rows:
            known = self.rows.setdefault(row.index, row)
            self.seen.setdefault(row.index, now)
            self.source.setdefault(row.index, node)
            if known != row:
                self.violations.append(Violation("one log", f"{node} has [{row}] where {self.source[row.index]} has [{known}]", index=row.index))
            if before is not None and row.index != before + 1:
                self.violations.append(Violation("one log", f"{node} has no row between {before} and {row.index}", index=row.index))
            before = row.index

    def in_order(self):
        return [self.rows[index] for index in sorted(self.rows)]


@dataclasses.dataclass
class Session:
    id: int
    client: str
    ttl_ms: int
    lease: bool
    end: int = FOREVER              # the row that ended it
    locks: list = dataclasses.field(default_factory=list)       # in the order of grants


class Model:
    """What rows do to locks and sessions, one after the other."""

    def __init__(self):
        self.locks = {}                                 # lock: (owner, token, session)
        self.sessions = {}
        self.states = collections.defaultdict(list)     # lock: [(from index on, owner, token, session)]
        self.wrong = []                                 # (rule, text, index)

    def accuse(self, rule, text, row):
        self.wrong.append((rule, text, row.index))

    def apply(self, row):
        if row.kind in (PREEMPT, RELEASE, OPEN, CLOSE, EXPIRE):
            getattr(self, row.kind)(row)

    def free(self, lock, row):
        session = self.sessions.get(self.locks.pop(lock, (None, 0, 0))[2])
        self.states[lock].append((row.index, "", 0, 0))
        if session:
            session.locks.remove(lock)
            if session.lease:
                session.end = min(session.end, row.index)

    def preempt(self, row):
        owner, _, _ = self.locks.get(row.lock, ("", 0, 0))
        if owner:
            self.accuse("one owner", f"{row.lock} is granted to {row.client} at {row.index} while {owner} has it", row)
            self.free(row.lock, row)
        if row.token != row.index:
            self.accuse("tokens", f"the grant at {row.index} has token {row.token}", row)
        if row.ttl_ms:
            self.sessions[row.index] = Session(row.index, row.client, row.ttl_ms, True)
        session = self.sessions.get(row.index if row.ttl_ms else row.session)
        if row.session and (not session or session.lease or session.client != row.client or session.end < row.index):
            self.accuse("sessions", f"{row.lock} is granted to {row.client} at {row.index} in session {row.session}, which {self.describe(session)}", row)
        self.locks[row.lock] = (row.client, row.token, session.id if session else 0)
        self.states[row.lock].append((row.index, *self.locks[row.lock]))
        if session:
            session.locks.append(row.lock)

    def describe(self, session):
        if not session:
            return "never was"
        return f"is {session.client}'s{', for a lease' if session.lease else ''}" + ("" if session.end == FOREVER else f", and has ended at {session.end}")

    def release(self, row):
        owner, token, _ = self.locks.get(row.lock, ("", 0, 0))
        if (owner, token) != (row.client, row.token):
            self.accuse("only the owner releases", f"{row.client} releases {row.lock} with token {row.token} at {row.index}, where {owner or 'nobody'} has it", row)
        self.free(row.lock, row)

    def open(self, row):
        if row.token != row.index:
            self.accuse("tokens", f"the session opened at {row.index} has token {row.token}", row)
        self.sessions[row.index] = Session(row.index, row.client, row.ttl_ms, False)

    def close(self, row):
        session = self.sessions.get(row.session)
        # A lease may have been released while the close was on its way; and what has ended has nothing left, or goes on being freed.
        if not session or session.client != row.client or (session.end < row.index and not session.lease):
            self.accuse("sessions", f"{row.client} closes session {row.session} at {row.index}, which {self.describe(session)}", row)
        if session:
            self.end(session, row)

    def expire(self, row):
        session = self.sessions.get(row.session)
        if not session or session.client != row.client or (session.end < row.index and not session.lease and not session.locks):
            self.accuse("sessions", f"session {row.session} expires at {row.index}, which {self.describe(session)}", row)
        if session:
            self.end(session, row)

    def end(self, session, row):
        session.end = min(session.end, row.index)
        for lock in session.locks[:FREED_AT_ONCE]:
            self.free(lock, row)


def living(log):
    """The sessions that have not ended, or have something left, by the log."""
    model = Model()
    for row in log.in_order():
        model.apply(row)
    return [session for session in model.sessions.values() if session.end == FOREVER or session.locks]


class Judge:
    """operations of recorded clients, a Log, and what each node lists at the end: {node: {lock: (owner, token)}}."""

    def __init__(self, operations, log, maps=None):
        self.operations = operations
        self.log = log
        self.maps = maps or {}
        self.rows = log.in_order()
        self.violations = list(log.violations)
        self.by_request = {}
        self.model = Model()
        self.told = self.times_told()

    def accuse(self, rule, text, *operations, index=0):
        self.violations.append(Violation(rule, text, list(operations), index or max((each.index for each in operations), default=0)))

    def verdict(self):
        """Every violation, the rules about logs first."""
        self.log_is_whole()
        self.replay()
        self.requests_happen_once()
        for operation in self.operations:
            if operation.outcome != UNKNOWN:
                {CHECK: self.check_is_true, RENEW: self.renewal_is_true}.get(operation.kind, self.change_is_true)(operation)
        self.order_agrees_with_time()
        self.clients_go_forward()
        self.beliefs_do_not_overlap()
        self.nobody_counts_on_what_has_ended()
        self.tokens_rise()
        self.maps_are_the_log()
        self.what_nobody_renews_is_free()
        return self.violations

    # --- the log by itself ---

    def log_is_whole(self):
        terms_begun = set()
        if self.rows and self.rows[0].index != 1:
            self.accuse("one log", f"nobody has what was before row {self.rows[0].index}")
        for before, row in zip(self.rows, self.rows[1:]):
            if row.index != before.index + 1:
                self.accuse("one log", f"nobody has what was between rows {before.index} and {row.index}", index=row.index)
            if row.term < before.term:
                self.accuse("one log", f"the term falls at {row.index}", index=row.index)
            if row.cluster_ms < before.cluster_ms:
                self.accuse("cluster time", f"it falls at {row.index}", index=row.index)
        for row in self.rows:
            if row.kind == "noop":
                if row.term in terms_begun:
                    self.accuse("one leader per term", f"term {row.term} begins a second time at {row.index}", index=row.index)
                terms_begun.add(row.term)

    def replay(self):
        for row in self.rows:
            self.model.apply(row)
        for rule, text, index in self.model.wrong:
            self.accuse(rule, text, index=index)

    def hold(self, lock, index):
        """(owner, token, session) as of an index."""
        states = self.model.states.get(lock, [])
        at = bisect.bisect_right(states, index, key=lambda state: state[0])
        return states[at - 1][1:] if at else ("", 0, 0)

    def state(self, lock, index):
        """(owner, token) as of an index."""
        return self.hold(lock, index)[:2]

    def times_told(self):
        """([index], [since when it is known that it was committed]), both rising."""
        told = [(each.index, each.end) for each in self.operations if each.outcome != UNKNOWN and each.index] + list(self.log.seen.items())
        indexes, times, first = [], [], FOREVER
        for index, time in sorted(told, reverse=True):
            if time < first:
                first = time
                indexes.append(index)
                times.append(time)
        return indexes[::-1], times[::-1]

    def known_since(self, index):
        """When somebody knew at the latest that a row was committed; FOREVER: not known."""
        at = bisect.bisect_left(self.told[0], index)
        return self.told[1][at] if at < len(self.told[0]) else FOREVER

    def requests_happen_once(self):
        asked = {(operation.handle, operation.seq): operation for operation in self.operations if operation.is_change}
        cancelled = {}
        for row in self.rows:
            if not row.handle:
                continue
            operation = asked.get(row.request)
            first = cancelled.get(row.request) or (cancelled if row.kind == CANCEL else self.by_request).setdefault(row.request, row)
            if row.kind == CANCEL and row.request in self.by_request:
                first = self.by_request[row.request]
            if first is not row:
                self.accuse("once", f"one request is at {first.index} and at {row.index}", *filter(None, [operation]), index=row.index)
            if not operation:
                self.accuse("once", f"[{row}] was asked for by nobody", index=row.index)
            elif (operation.client, operation.lock) != (row.client, row.lock) or row.kind not in (operation.kind, CANCEL) \
                    or (row.kind == RELEASE and operation.named not in (0, row.token)) \
                    or (row.kind != CANCEL and (operation.session, operation.ttl_ms) != (row.session, row.ttl_ms)):
                self.accuse("once", f"[{row}] is not what was asked for", operation, index=row.index)

    # --- what clients were told ---

    def change_is_true(self, operation):
        row = self.by_request.get((operation.handle, operation.seq))
        if operation.outcome == YES:
            if not row:
                self.accuse("an answer is final", "it was told yes, and is in no log", operation)
            elif row.index != operation.index:
                self.accuse("an answer is final", f"it was told yes at {operation.index}, and is in the log at {row.index}", operation)
            elif row.token != operation.token:
                self.accuse("tokens", f"it was told token {operation.token}, and the log has {row.token}", operation)
            return
        if row:
            self.accuse("an answer is final", f"it was told no, and is in the log at {row.index}", operation, index=row.index)
        if operation.kind == CLOSE or (operation.kind == PREEMPT and operation.session and not operation.owner):
            self.session_is_over(operation)
            return
        owner, token, session = self.hold(operation.lock, operation.index)
        if session and self.model.sessions[session].end <= operation.index:
            self.accuse("a refusal is true", f"as of {operation.index} session {session} has ended, and {operation.lock} is about to be free", operation)
        right = owner != "" if operation.kind == PREEMPT else owner != operation.client or operation.named not in (0, token)
        if not right or operation.owner != owner or operation.token != token:
            self.accuse("a refusal is true", f"as of {operation.index} {owner or 'nobody'} has it, token {token}", operation)

    def session_is_over(self, operation):
        """As of the index that a refusal rests on; or it never was this client's, or is none to hold locks in."""
        session = self.model.sessions.get(operation.session)
        lives = session and session.client == operation.client and session.id <= operation.index < session.end
        if lives and not (operation.kind == PREEMPT and session.lease):
            self.accuse("sessions", f"as of {operation.index} session {operation.session} lives, and {operation.client} was told that it has ended", operation)

    def renewal_is_true(self, operation):
        if operation.outcome == NO:
            self.session_is_over(operation)
            return
        session = self.model.sessions.get(operation.session)
        if operation.token != operation.session or not session or session.client != operation.client:
            self.accuse("sessions", f"{operation.client} renewed session {operation.session}, which {self.model.describe(session)}", operation)
        elif self.known_since(session.end) < operation.begin:
            self.accuse("sessions", f"session {session.id} was renewed after it was known that it has ended at {session.end}", operation, index=session.end)

    def check_is_true(self, operation):
        owner, token = self.state(operation.lock, operation.index)
        told = (operation.owner, operation.token) if operation.outcome == YES else ("", 0)
        if told != (owner, token):
            self.accuse("a check is true", f"as of {operation.index} {owner or 'nobody'} has it, token {token}", operation)
        if operation.index < operation.min_index:
            self.accuse("never back in time", f"it had seen {operation.min_index}", operation)
        if self.rows and operation.index > self.rows[-1].index:
            self.accuse("a check is true", f"the log ends at {self.rows[-1].index}", operation)

    def place(self, operation):
        """Where it stands in the order of all; None: nowhere."""
        if operation.kind == RENEW and operation.outcome == YES:
            return None                 # it rests on no index
        if operation.outcome != UNKNOWN:
            # A refusal and a check come after the row that they rest on.
            return operation.index, operation.outcome == NO or not operation.is_change
        row = self.by_request.get((operation.handle, operation.seq)) if operation.is_change else None
        return (row.index, False) if row else None

    def order_agrees_with_time(self):
        placed = collections.defaultdict(list)
        for operation in self.operations:
            place = self.place(operation)
            if place:
                placed[place].append(operation)
        latest = None                   # of all that stands before: the one that was asked last
        for place in sorted(placed):
            for operation in placed[place]:
                end = operation.end if operation.outcome != UNKNOWN else FOREVER
                if latest and end < latest.begin:
                    self.accuse("in the order of time", f"{operation.client} was answered before {latest.client} asked, and stands after it", latest, operation)
            for operation in placed[place]:
                # A plain check may be late, so that nothing need come after it.
                if (operation.is_change or operation.consistent) and (not latest or operation.begin > latest.begin):
                    latest = operation

    def clients_go_forward(self):
        seen = {}
        for operation in sorted(self.operations, key=lambda each: each.begin):
            if operation.outcome == UNKNOWN or (operation.kind == RENEW and operation.outcome == YES):
                continue
            before = seen.get(operation.client)
            if before and before.end < operation.begin and operation.index < before.index:
                self.accuse("never back in time", f"it had been told of {before.index}", before, operation)
            if not before or operation.index > before.index:
                seen[operation.client] = operation

    def sessions_counted_on(self):
        """{session: (since when a client counts on it, until when)}, by what that client asked and was told alone."""
        counted = {}
        for operation in sorted((each for each in self.operations if each.outcome == YES), key=lambda each: each.end):
            if operation.opens:
                counted[operation.client, operation.token] = [operation.end, operation.begin + life_ns(operation.ttl_ms)]
            interval = counted.get((operation.client, operation.session))
            # A renewal counts when its answer comes before the deadline.
            if operation.kind == RENEW and interval and operation.end < interval[1]:
                interval[1] = max(interval[1], operation.begin + life_ns(operation.ttl_ms))
        for operation in self.operations:
            id = {CLOSE: operation.session, RELEASE: operation.named}.get(operation.kind)
            interval = counted.get((operation.client, id))
            # What else has this token is no lease.
            if id and interval and operation.begin >= interval[0]:
                interval[1] = min(interval[1], operation.begin)
        return {session: tuple(interval) for (_, session), interval in counted.items() if interval[0] < interval[1]}

    def beliefs_do_not_overlap(self):
        beliefs = collections.defaultdict(list)
        open_beliefs = {}
        counted = self.sessions_counted_on()

        def believe(grant, until):
            session = grant.token if grant.ttl_ms else grant.session
            if session:
                until = min(until, counted.get(session, (0, 0))[1])
            if grant.end < until:
                beliefs[grant.lock].append((grant.end, until, grant))

        for operation in sorted((each for each in self.operations if each.kind in (PREEMPT, RELEASE)), key=lambda each: each.begin):
            key = (operation.client, operation.lock)
            if operation.kind == RELEASE and key in open_beliefs and operation.named in (0, open_beliefs[key].token):
                believe(open_beliefs.pop(key), operation.begin)
            if operation.kind == PREEMPT and operation.outcome == YES:
                if key in open_beliefs and (open_beliefs[key].session or open_beliefs[key].ttl_ms):
                    believe(open_beliefs[key], FOREVER)         # it was not given up: its time must be over
                open_beliefs[key] = operation
        for grant in open_beliefs.values():
            believe(grant, FOREVER)
        for lock, intervals in beliefs.items():
            intervals.sort(key=lambda each: each[:2])
            for (_, until, one), (since, _, other) in zip(intervals, intervals[1:]):
                if since < until:
                    self.accuse("one owner", f"{one.client} and {other.client} believe to have {lock} at the same time", one, other)

    def nobody_counts_on_what_has_ended(self):
        for id, (_, until) in self.sessions_counted_on().items():
            session = self.model.sessions.get(id)
            row = self.log.rows.get(session.end) if session else None
            if not row:
                continue
            known = self.known_since(row.index)
            if known < until:
                self.accuse_end(row, session, f"which was known at {known / 1e9:.4f}, and it lives until {until / 1e9:.4f}")
            # That of a leader, when it proposed the row.
            if row.kind == EXPIRE and self.log.realtime is not None and row.wall_ms * 10**6 - self.log.realtime < until:
                self.accuse_end(row, session, f"and that was proposed {(until + self.log.realtime) / 1e6 - row.wall_ms:.1f} ms before its time was over")

    def accuse_end(self, row, session, text):
        about = [each for each in self.operations if each.outcome == YES and each.concerns(session.id) and (each.opens or each.kind == RENEW)]
        self.accuse("nobody is ended who counts on it", f"session {session.id} of {session.client} has ended at {row.index}, {text}", *about[-2:], index=row.index)

    def tokens_rise(self):
        grants = [each for each in self.operations if each.kind == PREEMPT and each.outcome == YES]
        ended, at, highest = sorted(grants, key=lambda each: each.end), 0, None
        for grant in sorted(grants, key=lambda each: each.begin):
            while at < len(ended) and ended[at].end < grant.begin:
                if not highest or ended[at].token > highest.token:
                    highest = ended[at]
                at += 1
            if highest and grant.token <= highest.token:
                self.accuse("tokens", f"token {grant.token} was granted after {highest.token}", highest, grant)

    # --- the end ---

    def maps_are_the_log(self):
        held = {lock: hold[:2] for lock, hold in self.model.locks.items()}
        for node, listed in self.maps.items():
            for lock in sorted(held.keys() | listed.keys()):
                if held.get(lock) != listed.get(lock):
                    self.accuse("equal maps", f"at the end {node} has {lock} with {listed.get(lock)}, and its log with {held.get(lock)}")

    def what_nobody_renews_is_free(self):
        """Long after the last renewal: maps are of then."""
        for session in self.model.sessions.values() if self.maps else ():
            if session.end == FOREVER or session.locks:
                self.accuse("what nobody renews is free", f"at the end session {session.id} of {session.client} lives, or has something left: {session.locks}", index=session.id)


def judge(operations, log, maps=None):
    return Judge(operations, log, maps).verdict()


def until(operation):
    """Its end, for people: what is unknown may happen for ever, but hardly so."""
    return min(operation.end, operation.begin + 5 * 10**9)


def relevant(violation, operations, log, lines=24):
    """The lines of the history that a person needs to see: the accused, and what the same lock went through around them."""
    accused = violation.operations
    index = violation.index
    row = log.rows.get(index)
    lock = accused[0].lock if accused else getattr(row, "lock", "")
    session = next((each.session or each.token for each in accused if each.session or each.opens), 0) or getattr(row, "session", 0)
    begin = min((each.begin for each in accused), default=0)
    end = max((until(each) for each in accused), default=FOREVER)
    near = [each for each in operations if ((lock and each.lock == lock) or each.concerns(session)) and each not in accused
            and until(each) >= begin and each.begin <= end]
    near.sort(key=lambda each: (abs(each.index - index), each.begin))
    shown = sorted(accused + near[: max(0, lines - len(accused))], key=lambda each: each.begin)
    about = [row for row in log.rows.values() if (lock and row.lock == lock) or (session and session in (row.session, row.index)) or row.kind in ("noop", "configuration")]
    rows = sorted(about, key=lambda row: abs(row.index - index))[:8]
    mark = {id(each): "> " for each in accused}
    return "\n".join([*(mark.get(id(each), "  ") + str(each) for each in shown), *(f"  {row}" for row in sorted(rows, key=lambda row: row.index))])
