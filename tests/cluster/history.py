"""What clients were told, against what the nodes have in their logs: can all of it be true?

The log is the witness. Every answer names the index that it rests on, and so does every row; so the order in which all
operations happened is not searched for but read, and must then stand every test:

- replayed in that order, each answer is right: a lock is granted when it is free, released by its owner, refused
  where another has it, and read as it was;
- the order agrees with time: what was answered before something else was asked stands before it. Together that is
  linearizability, of each lock and of all of them at once. A plain check may be late, never early;
- a request is in the log once if it was accepted, not at all if it was refused or cancelled, and either if nobody knows;
- what is held in a session, or is a lease, is free from the row on that ends it. Nobody asks for a row of kind expire, and it
  never comes while a client counts on the session: by what it was told, from before it asked for that, and 1 % less;
- who waits stands in the queue of the lock, in the order of the rows. Whatever frees the lock grants it, with the same row, to the first
  of them that may have it; no try is granted before. Who asks how it stands is told just that, and who gave up neither waits nor holds;
- those who hold a lock together have asked for it in the same way, and are no more than they asked for;
- what was lost, and not given back, nobody gets before the delay of its session is over, by the time of the log;
- nobody is waited for who does not renew: its session, and with it whatever it waits for or got, ends in its time and LATE_NS more, counted
  from when a leader may have heard of it, or began.

Three rules use neither log nor index, for the case that both are wrong in the same way: what clients believe to hold
does not overlap, tokens rise, and who came first is served first. Times are nanoseconds of one monotonic clock.
"""
import bisect
import collections
import dataclasses
import itertools

import wire

YES, NO, UNKNOWN, WAITING, REENTERED = "yes", "no", "unknown", "waiting", "reentered"
PREEMPT, RELEASE, CHECK, CANCEL = "preempt", "release", "check", "cancel"
OPEN, CLOSE, RENEW, EXPIRE = "open", "close", "renew", "expire"
WAIT, LEAVE, KEEP, GRANT, BREAK = "wait", "leave", "keep", "grant", "break"
# What changes nothing: how a wait stands, and a retry of what was answered.
AWAIT, AGAIN = "await", "again"
FOREVER = 2**63
# Of a session's locks, by one row.
FREED_AT_ONCE = 32
# Of a lock that whoever says so may hold together, and how many that may be.
SHARED, SHARED_MOST = 65535, 4096
# Beyond the time to live: what a leader with a majority, on bad links, may take to prove that it leads and to end what nobody renewed.
LATE_NS = 5 * 10**9
# A leader that is silent for so long may have stood still, and gives everybody the full time again.
SILENCE_NS = 250 * 10**6
# A renewal that was not answered may wait in a node that stands still, and be heard so much later.
UNHEARD_NS = 6 * 10**9


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
    named: int = 0                  # a release, keep or break: the token of the hold, a release 0 for any; or the waiter, as of an await
    session: int = 0                # a preempt, an await: in which; a close, a renewal: of which
    ttl_ms: int = 0                 # an open, a renewal; a preempt: of the lease
    delay_ms: int = 0               # with it, but of a renewal: for how long nobody gets what is lost
    wait: bool = False              # a preempt: in the queue, if need be
    period_ms: int = 0              # a preempt: once in so long
    slots: int = 0                  # a preempt, an await: together with others, so many in all; 0: alone
    now: bool = False               # a break: at once
    free_in_ms: int = 0             # a no, since it was lost, and is nobody's for so long
    rejected: bool = False          # a no for another reason than who has it
    min_index: int = 0
    consistent: bool = False        # a check that must not be late
    copies: int = 0                 # of a change that may have been sent
    tries: list = dataclasses.field(default_factory=list)

    @property
    def is_change(self):
        return self.kind not in (CHECK, RENEW, AWAIT, AGAIN)

    @property
    def opens(self):
        """It has made a session, of the client and with its token for an id."""
        return self.outcome in (YES, WAITING) and (self.kind == OPEN or (self.kind == PREEMPT and self.ttl_ms > 0))

    @property
    def request(self):
        return self.handle, self.seq

    @property
    def grants(self):
        return self.outcome == YES and self.kind in (PREEMPT, AWAIT)

    @property
    def held_in(self):
        """A grant: in which session, be it that of its own lease."""
        return self.token if self.opens else self.session

    def concerns(self, session):
        return session and (session == self.session or (self.opens and self.token == session))

    def __str__(self):
        end = "      ..." if self.end == FOREVER else f"{self.end / 1e9:9.4f}"
        told = "unknown" if self.outcome == UNKNOWN else f"{self.outcome} at {self.index}"
        if self.owner and self.owner != self.client:
            told += f", {self.owner} has it"
        if self.token:
            told += f", token {self.token}"
        request = f" ({self.handle.hex()[:6]}:{self.seq})" if self.handle else ""
        request += (" in the queue" if self.wait else "") + (f", once in {self.period_ms} ms" if self.period_ms else "") + (f", as one of {self.slots}" if self.slots else "")
        request += (f", of {self.named}" if self.named else "") + (", at once" if self.now else "")
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
    period_ms: int = 0              # a preempt, a wait: wanted once in so long
    waiter: int = 0                 # a cancel: whose wait ends with it
    now: bool = False               # a break: at once
    delay_ms: int = 0               # an open, a preempt or a wait: for how long nobody gets what is lost in it
    slots: int = 0                  # a preempt, a wait: together with others
    further: tuple = ()             # a preempt, a wait: other locks with it, which nobody asks for here

    @property
    def request(self):
        return self.handle, self.seq

    def __str__(self):
        request = f" ({self.handle.hex()[:6]}:{self.seq})" if self.handle else ""
        return f"log {self.index}, term {self.term}: {self.kind} {self.lock} {self.client}{request}" + (f", token {self.token}" if self.token else "") \
            + (f", session {self.session}" if self.session else "") + (f", for {self.ttl_ms} ms" if self.ttl_ms else "") \
            + (f", once in {self.period_ms} ms" if self.period_ms else "") + (f", waiter {self.waiter}" if self.waiter else "") \
            + (f", as one of {self.slots}" if self.slots else "")


SELECT = "SELECT idx, term, kind, lock, client, token, cluster_ms, wall_ms, body FROM log"


def row_of(columns):
    """A row of SELECT; the body of a change is read byte by byte, and must agree with the columns."""
    index, term, kind, lock, client, token, cluster_ms, wall_ms, body = columns
    if kind not in (PREEMPT, RELEASE, CANCEL, OPEN, CLOSE, EXPIRE, WAIT, LEAVE, KEEP, GRANT, BREAK):
        return Row(index, term, kind, lock or "", client or "", token or 0, cluster_ms, body=body, wall_ms=wall_ms)
    reader = wire.Reader(body)
    assert reader.number("B") == 1, "a body of another format"
    handle, seq, name, _ = reader.take(16), reader.number("Q"), reader.text(), reader.text()
    lock_name = reader.text() if kind in (PREEMPT, RELEASE, CANCEL, WAIT, LEAVE, KEEP, GRANT, BREAK) else ""
    if kind in (RELEASE, LEAVE, KEEP, BREAK):
        assert reader.number("Q") == token, f"row {index}: the token differs from the body's"
    waiter = reader.number("Q") if kind == CANCEL else 0
    now = bool(reader.number("B")) if kind == BREAK else False
    session = reader.number("Q") if kind in (PREEMPT, CLOSE, EXPIRE, WAIT) else 0
    ttl_ms = reader.number("I") if kind in (PREEMPT, OPEN, WAIT) else 0
    delay_ms = reader.number("I") if kind in (PREEMPT, OPEN, WAIT) else 0
    period_ms = reader.number("Q") if kind in (PREEMPT, WAIT) else 0
    slots = reader.number("H") if kind in (PREEMPT, WAIT) else 0
    further = tuple(reader.text() for _ in range(reader.number("B"))) if kind in (PREEMPT, WAIT) else ()
    if kind in (PREEMPT, OPEN, WAIT, BREAK):
        reader.take(reader.number("H"))      # who holds it, for people
    if kind == EXPIRE:
        lock_name = reader.text()
    reader.end()
    assert (name, lock_name) == (client, lock or ""), f"row {index}: client or lock differ from the body's"
    assert kind not in (CLOSE, EXPIRE) or session == token, f"row {index}: the session differs from the body's"
    assert (kind in (EXPIRE, GRANT)) == (handle == bytes(16)), f"row {index}: only what nobody asks for has no handle"
    return Row(index, term, kind, lock_name, client, token or 0, cluster_ms, b"" if kind in (EXPIRE, GRANT) else handle, seq, body, session, ttl_ms, wall_ms, period_ms, waiter, now, delay_ms,
               slots, further)


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
    delay_ms: int = 0
    closed: bool = False            # by its client
    end: int = FOREVER              # the row that ended it
    broken: int = FOREVER           # the row from which on it is renewed no more
    locks: list = dataclasses.field(default_factory=list)       # (lock, token), in the order of grants
    waits: list = dataclasses.field(default_factory=list)       # the rows of its waiters, in their order


@dataclasses.dataclass
class Wait:
    row: Row
    session: int
    left: int = FOREVER             # the row from which on it does not stand in the queue
    over: int = FOREVER             # the row from which on it neither waits nor holds
    token: int = 0                  # of what it got


@dataclasses.dataclass(frozen=True)
class Hold:
    owner: str
    token: int
    session: int
    slots: int


def has_room(holds, slots):
    """One more may have the lock so."""
    most = {0: 1, SHARED: SHARED_MOST}.get(slots, slots)
    return not holds or (slots != 0 and all(hold.slots == slots for hold in holds) and len(holds) < most)


def owners(holds):
    return ", ".join(hold.owner for hold in holds) or "nobody"


class Model:
    """What rows do to locks and sessions, one after the other."""

    def __init__(self):
        self.locks = collections.defaultdict(dict)      # lock: {token: Hold}
        self.sessions = {}
        self.states = collections.defaultdict(list)     # lock: [(from index on, Holds)]
        self.queues = collections.defaultdict(list)     # lock: the rows of those who wait, in their order
        # By (lock, token): one entry may free locks for several, whose tokens are the same.
        self.waiter = {}                                # of a hold: the Wait that it came of
        self.periods = {}                               # lock: (cluster time of its last grant of once in a period, and until when it is remembered)
        self.waits = {}                                 # index of its row: Wait
        self.once = {}                                  # of a grant of once in a period: (cluster time, period)
        self.session_of = {}                            # of a grant: the session in which it was made
        self.free_since = {}                            # lock: cluster time
        self.delays = {}                                # lock: cluster time before which nobody gets it, since it was lost
        self.lost = {}                                  # of a hold that was lost: that time
        self.wrong = []                                 # (rule, text, index)

    def accuse(self, rule, text, row):
        self.wrong.append((rule, text, row.index))

    def apply(self, row):
        if row.kind in (PREEMPT, RELEASE, OPEN, CLOSE, EXPIRE, WAIT, LEAVE, KEEP, GRANT, CANCEL, BREAK):
            getattr(self, "break_" if row.kind == BREAK else row.kind)(row)

    def free(self, lock, token, row, lost=False):
        hold = self.locks[lock].get(token)
        session = self.sessions.get(hold.session) if hold else None
        if lost and session and session.delay_ms:
            self.delays[lock] = max(self.delayed_until(lock), row.cluster_ms + session.delay_ms)
            self.lost[lock, token] = self.delays[lock]
        self.take_away(lock, token, row)
        self.grant_next(lock, row)

    def delayed_until(self, lock):
        return self.delays.get(lock, 0)

    def may_have_it_at(self, wait):
        """The cluster time from which on who wants a lock once in a period does not come too soon."""
        since, until = self.periods.get(wait.row.lock, (0, 0))
        return max(min(since + wait.row.period_ms, until) if wait.row.period_ms else 0, self.delayed_until(wait.row.lock))

    def holds(self, lock):
        return list(self.locks[lock].values())

    def next_in_queue(self, lock, row):
        """Whoever waited longest, but for who comes too soon; None: nobody. When there is no room for it, those behind it wait, too."""
        return next((wait for wait in self.queues[lock] if self.sessions[wait.session].end > row.index and row.cluster_ms >= self.may_have_it_at(wait)), None)

    def grant_next(self, lock, row):
        wait = self.next_in_queue(lock, row)
        # Who comes lets nobody in before it: the leader does, by an entry; and one entry lets in one.
        if not wait or (row.kind == WAIT and wait.row is not row) or row.index in self.locks[lock] or not has_room(self.holds(lock), wait.row.slots):
            return
        self.stop_waiting(wait, row)
        wait.token, wait.over = row.index, FOREVER
        self.waiter[lock, row.index] = wait
        self.hold(wait.row, row, wait.session)

    def send_away(self, wait, row):
        """Those behind it may be next."""
        self.stop_waiting(wait, row)
        self.grant_next(wait.row.lock, row)

    def set(self, lock, hold, row):
        self.locks[lock][hold.token] = hold
        self.states[lock].append((row.index, self.holds(lock)))

    def hold(self, asked, row, session):
        """asked: the row by which it was asked for."""
        self.set(asked.lock, Hold(asked.client, row.index, session, asked.slots), row)
        if session:
            self.sessions[session].locks.append((asked.lock, row.index))
        self.session_of[asked.lock, row.index] = session
        if asked.period_ms:
            self.periods[asked.lock] = (row.cluster_ms, row.cluster_ms + asked.period_ms)
            self.once[asked.lock, row.index] = (row.cluster_ms, asked.period_ms)

    def stop_waiting(self, wait, row):
        lock = wait.row.lock
        if not self.locks[lock]:
            idle = row.cluster_ms - max(self.free_since.get(lock, 0), wait.row.cluster_ms, self.may_have_it_at(wait))
            if idle * 10**6 > LATE_NS:
                self.accuse("nothing is free that somebody waits for", f"{lock} was free for {idle} ms until {row.index}, when {wait.row.client} might have had it", row)
        self.queues[lock].remove(wait)
        self.sessions[wait.session].waits.remove(wait)
        wait.left = wait.over = row.index

    def wait(self, row):
        if row.ttl_ms:
            self.sessions[row.index] = Session(row.index, row.client, row.ttl_ms, True, row.delay_ms)
        session = self.sessions.get(row.index if row.ttl_ms else row.session)
        if not session or session.client != row.client or session.end < row.index or (row.session and session.lease):
            self.accuse("sessions", f"{row.client} waits for {row.lock} at {row.index} in session {row.session}, which {self.describe(session)}", row)
            return
        wait = self.waits[row.index] = Wait(row, session.id)
        self.queues[row.lock].append(wait)
        session.waits.append(wait)
        self.grant_next(row.lock, row)

    def give_up(self, lock, waiter, row):
        wait = self.waits.get(waiter)
        if not wait or wait.row.lock != lock or wait.row.client != row.client:
            self.accuse("who gives up is who waits", f"{row.client} gives up at {row.index} what is not its: waiter {waiter} of {lock}", row)
        elif wait.left == FOREVER:
            if wait.row.ttl_ms:
                self.sessions[waiter].end = row.index
            self.send_away(wait, row)
        elif wait.over == FOREVER:
            self.free(lock, wait.token, row)

    def leave(self, row):
        self.give_up(row.lock, row.token, row)

    def cancel(self, row):
        if row.waiter:
            self.give_up(row.lock, row.waiter, row)

    def keep(self, row):
        hold = self.locks[row.lock].get(row.token)
        if not hold or hold.owner != row.client:
            self.accuse("only the owner keeps", f"{row.client} keeps {row.lock} with token {row.token} at {row.index}, where {owners(self.holds(row.lock))} has it", row)
            return
        self.leave_session(row.lock, hold, row)
        self.set(row.lock, dataclasses.replace(hold, session=0), row)

    def break_(self, row):
        hold = self.locks[row.lock].get(row.token)
        if not hold:
            self.accuse("a break is of the hold that was meant", f"{row.lock} is taken away at {row.index} under token {row.token}, where it is held under {list(self.locks[row.lock])}", row)
        elif row.now or not hold.session:
            self.free(row.lock, row.token, row, lost=True)
        else:
            self.sessions[hold.session].broken = min(self.sessions[hold.session].broken, row.index)

    def grant(self, row):
        self.grant_next(row.lock, row)

    def leave_session(self, lock, hold, row):
        session = self.sessions.get(hold.session)
        if session:
            session.locks.remove((lock, hold.token))
            if session.lease:
                session.end = min(session.end, row.index)

    def take_away(self, lock, token, row):
        hold = self.locks[lock].pop(token, None)
        if not hold:
            return
        self.free_since[lock] = row.cluster_ms
        if (lock, token) in self.waiter:
            self.waiter.pop((lock, token)).over = row.index
        self.states[lock].append((row.index, self.holds(lock)))
        self.leave_session(lock, hold, row)

    def preempt(self, row):
        holds = self.holds(row.lock)
        if not has_room(holds, row.slots):
            self.accuse("one owner", f"{row.lock} is granted to {row.client} at {row.index} while {owners(holds)} has it", row)
            for hold in holds:
                self.take_away(row.lock, hold.token, row)
        elif row.cluster_ms < self.delayed_until(row.lock):
            self.accuse("what was lost is left alone", f"{row.lock} is granted to {row.client} at {row.index}, {self.delayed_until(row.lock) - row.cluster_ms} ms before its lock-delay is over", row)
        elif wait := self.next_in_queue(row.lock, row):
            self.accuse("nobody comes before who waits", f"{row.lock} is granted to {row.client} at {row.index}, and {wait.row.client} waits for it since {wait.row.index}", row)
        if row.token != row.index:
            self.accuse("tokens", f"the grant at {row.index} has token {row.token}", row)
        if row.ttl_ms:
            self.sessions[row.index] = Session(row.index, row.client, row.ttl_ms, True, row.delay_ms)
        session = self.sessions.get(row.index if row.ttl_ms else row.session)
        if row.session and (not session or session.lease or session.client != row.client or session.end < row.index):
            self.accuse("sessions", f"{row.lock} is granted to {row.client} at {row.index} in session {row.session}, which {self.describe(session)}", row)
        self.hold(row, row, session.id if session else 0)

    def describe(self, session):
        if not session:
            return "never was"
        return f"is {session.client}'s{', for a lease' if session.lease else ''}" + ("" if session.end == FOREVER else f", and has ended at {session.end}")

    def release(self, row):
        hold = self.locks[row.lock].get(row.token)
        if not hold or hold.owner != row.client:
            self.accuse("only the owner releases", f"{row.client} releases {row.lock} with token {row.token} at {row.index}, where {owners(self.holds(row.lock))} has it", row)
        self.free(row.lock, row.token, row)

    def open(self, row):
        if row.token != row.index:
            self.accuse("tokens", f"the session opened at {row.index} has token {row.token}", row)
        self.sessions[row.index] = Session(row.index, row.client, row.ttl_ms, False, row.delay_ms)

    def close(self, row):
        session = self.sessions.get(row.session)
        # A lease may have been released while the close was on its way; and what has ended has nothing left, or goes on being freed.
        if not session or session.client != row.client or (session.end < row.index and not session.lease):
            self.accuse("sessions", f"{row.client} closes session {row.session} at {row.index}, which {self.describe(session)}", row)
        if session:
            session.closed = True
            self.end(session, row)

    def expire(self, row):
        session = self.sessions.get(row.session)
        if not session or session.client != row.client or (session.end < row.index and not session.lease and not session.locks and not session.waits):
            self.accuse("sessions", f"session {row.session} expires at {row.index}, which {self.describe(session)}", row)
        if session:
            self.end(session, row)

    def end(self, session, row):
        session.end = min(session.end, row.index)
        freed = 0
        while freed < FREED_AT_ONCE and (session.waits or session.locks):
            if session.waits:
                self.send_away(session.waits[0], row)
            else:
                self.free(*session.locks[0], row, lost=not session.closed)
            freed += 1


def living(log):
    """The sessions that have not ended, or have something left, by the log."""
    model = Model()
    for row in log.in_order():
        model.apply(row)
    return [session for session in model.sessions.values() if session.end == FOREVER or session.locks or session.waits]


class Judge:
    """operations of recorded clients, a Log, and what each node lists at the end: {node: {lock: [(owner, token)]}}."""

    def __init__(self, operations, log, maps=None):
        self.operations = operations
        self.log = log
        self.maps = maps or {}
        self.rows = log.in_order()
        self.violations = list(log.violations)
        self.by_request = {}
        self.cancelled = {}
        self.model = Model()
        self.told = self.times_told()
        self.latest_ns = 0              # by so much more than its time to live something lived that nobody renewed
        self.first_answer = {each.request: each for each in operations if each.handle and each.kind == PREEMPT and each.outcome in (YES, WAITING)}

    def accuse(self, rule, text, *operations, index=0):
        self.violations.append(Violation(rule, text, list(operations), index or max((each.index for each in operations), default=0)))

    def verdict(self):
        """Every violation, the rules about logs first."""
        self.log_is_whole()
        self.replay()
        self.requests_happen_once()
        for operation in self.operations:
            if operation.outcome != UNKNOWN:
                {CHECK: self.check_is_true, RENEW: self.renewal_is_true, AWAIT: self.await_is_true, AGAIN: self.again_is_true,
                 CANCEL: self.cancel_is_true}.get(operation.kind, self.change_is_true)(operation)
        self.order_agrees_with_time()
        self.clients_go_forward()
        self.beliefs_do_not_overlap()
        self.nobody_counts_on_what_has_ended()
        self.tokens_rise()
        self.who_came_first_is_served_first()
        self.what_nobody_renews_ends_in_time()
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

    def holds(self, lock, index):
        """Those of it as of an index."""
        states = self.model.states.get(lock, [])
        at = bisect.bisect_right(states, index, key=lambda state: state[0])
        return states[at - 1][1] if at else []

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
        asked = {operation.request: operation for operation in self.operations if operation.is_change and operation.kind != CANCEL}
        for row in self.rows:
            if not row.handle:
                continue
            operation = asked.get(row.request)
            first = self.cancelled.get(row.request) or (self.cancelled if row.kind == CANCEL else self.by_request).setdefault(row.request, row)
            if row.kind == CANCEL and row.request in self.by_request and not self.ends_wait(self.by_request[row.request], row):
                first = self.by_request[row.request]
            if first is not row:
                self.accuse("once", f"one request is at {first.index} and at {row.index}", *filter(None, [operation]), index=row.index)
            if not operation:
                self.accuse("once", f"[{row}] was asked for by nobody", index=row.index)
            elif not self.is_what_was_asked(row, operation):
                self.accuse("once", f"[{row}] is not what was asked for", operation, index=row.index)

    def ends_wait(self, row, cancel):
        """A request to wait may be cancelled after it has happened; the cancel names the waiter, unless that is gone by itself."""
        wait = self.model.waits.get(row.index)
        return row.kind == WAIT and wait and wait.over <= cancel.index and cancel.waiter in ((row.index, 0) if wait.over < cancel.index else (row.index,))

    def is_what_was_asked(self, row, operation):
        if (operation.client, operation.lock) != (row.client, row.lock):
            return False
        if row.kind == CANCEL:
            return True
        if row.kind not in (operation.kind, {PREEMPT: operation.wait and WAIT, RELEASE: LEAVE}.get(operation.kind)):
            return False
        if row.kind in (RELEASE, LEAVE, KEEP, BREAK) and operation.named not in (0, row.token):
            return False
        return not row.further and all(getattr(operation, name) == getattr(row, name) for name in ("session", "ttl_ms", "delay_ms", "period_ms", "slots", "now"))

    # --- what clients were told ---

    def change_is_true(self, operation):
        row = self.by_request.get(operation.request)
        if operation.outcome in (YES, WAITING):
            if not row:
                self.accuse("an answer is final", f"it was told {operation.outcome}, and is in no log", operation)
            elif row.kind == WAIT:
                self.wait_is_true(operation, row)
            elif operation.outcome == WAITING or row.index != operation.index:
                self.accuse("an answer is final", f"it was told {operation.outcome} at {operation.index}, and is in the log at {row.index}", operation)
            elif row.token != operation.token:
                self.accuse("tokens", f"it was told token {operation.token}, and the log has {row.token}", operation)
            return
        if row and not (row.kind == WAIT and row.request in self.cancelled):
            self.accuse("an answer is final", f"it was told {operation.outcome}, and is in the log at {row.index}", operation, index=row.index)
        if operation.rejected and not operation.index:
            return                      # by the node, before anybody decided
        if operation.free_in_ms:
            self.it_was_lost(operation)
        elif operation.kind == PREEMPT and operation.period_ms and operation.token and not operation.owner:
            self.it_comes_too_soon(operation, operation.period_ms)
        elif operation.kind == CLOSE or (operation.kind == PREEMPT and operation.session and not operation.owner and operation.outcome == NO):
            self.session_is_over(operation)
        else:
            self.refusal_is_true(operation)

    def refusal_is_true(self, operation):
        holds = self.holds(operation.lock, operation.index)
        told = next((hold for hold in holds if (hold.owner, hold.token) == (operation.owner, operation.token)), None)
        if told and told.session and self.model.sessions[told.session].end <= operation.index:
            self.accuse("a refusal is true", f"as of {operation.index} session {told.session} has ended, and {operation.lock} is about to be free", operation)
        meant = next((hold for hold in holds if hold.token == operation.named), None)
        if operation.kind == KEEP and not told and not operation.owner and meant and meant.session and self.model.sessions[meant.session].broken <= operation.index:
            return                      # what an operator broke is nobody's to keep
        wait = self.model.waits.get(operation.named)
        is_own = meant.owner == operation.client if meant else operation.named == 0 and any(hold.owner == operation.client for hold in holds)
        if operation.kind == PREEMPT:
            in_session = told and told.session == operation.session != 0
            if operation.outcome == REENTERED:
                right = in_session and told.slots == operation.slots
            elif operation.wait:
                right = in_session and told.slots != operation.slots
            else:
                right = told and (not has_room(holds, operation.slots) or self.is_waited_for(operation.lock, operation.index))
        elif operation.kind == BREAK:
            right = not meant or (operation.rejected and not operation.now and meant.session and not self.model.sessions[meant.session].lease)
        else:
            # By the id of a waiter it gives up whatever has become of that.
            waits = operation.kind == RELEASE and wait and wait.row.client == operation.client and wait.row.index <= operation.index < wait.over
            right = not is_own and not waits
        if not right or (not told and (holds or operation.owner or operation.token)):
            self.accuse("a refusal is true", f"as of {operation.index} {owners(holds)} has it, token {[hold.token for hold in holds]}", operation)

    def is_waited_for(self, lock, index):
        return any(wait.row.lock == lock and wait.row.index <= index < wait.left for wait in self.model.waits.values())

    def it_was_lost(self, operation):
        until = self.model.lost.get((operation.lock, operation.token), 0)
        row = self.log.rows.get(operation.index)
        if operation.wait or not row or row.cluster_ms >= until or not has_room(self.holds(operation.lock, operation.index), operation.slots):
            self.accuse("a refusal is true", f"as of {operation.index} {operation.lock} is not in a lock-delay after {operation.token}", operation)

    def it_comes_too_soon(self, operation, period_ms):
        since, remembered = self.model.once.get((operation.lock, operation.token), (0, 0))
        row = self.log.rows.get(operation.index)
        if not row or operation.token > operation.index or row.cluster_ms - since >= min(period_ms, remembered):
            self.accuse("a refusal is true", f"as of {operation.index} it does not come too soon after {operation.token}", operation)

    # --- who waits ---

    def wait_is_true(self, operation, row):
        """At once, or as the waiter that is named by its row. A retry is told so too, as of when that has got the lock."""
        token = self.model.waits[row.index].token if row.index in self.model.waits else 0
        at_once = token == row.index
        if operation.token != row.index or at_once != (operation.outcome == YES) or operation.index not in (row.index, token):
            self.accuse("who waits is told how it stands", f"it waits since {row.index}, and " + (f"got token {token}" if token else "got nothing"), operation)

    def await_is_true(self, operation):
        wait = self.model.waits.get(operation.named)
        if not wait or (wait.row.client, wait.row.lock) != (operation.client, operation.lock):
            self.accuse("who waits is told how it stands", "nobody has ever waited so", operation)
        elif operation.outcome == YES:
            if wait.token != operation.token or not wait.token <= operation.index < wait.over or operation.owner != operation.client:
                self.accuse("who waits is told how it stands", f"as of {operation.index} it has not got token {operation.token}", operation)
        elif operation.outcome == WAITING or operation.token:
            # A node that lags may not have heard of it.
            if operation.index >= wait.left or (operation.outcome == NO and operation.index < wait.row.index):
                self.accuse("who waits is told how it stands", f"as of {operation.index} it waits no more", operation)
            if operation.outcome == NO:
                self.it_comes_too_soon(operation, wait.row.period_ms)
        elif operation.index < wait.over:
            self.accuse("who waits is told how it stands", f"as of {operation.index} it waits, or has got token {wait.token}", operation)

    def again_is_true(self, operation):
        """What was answered is answered like that through every node."""
        first = self.first_answer.get(operation.request)
        if not first or (operation.outcome, operation.token) != (first.outcome, first.token):
            self.accuse("a retry is answered alike", f"it was told {operation.outcome}, token {operation.token}", *filter(None, [first]), operation)

    def cancel_is_true(self, operation):
        row, cancel = self.by_request.get(operation.request), self.cancelled.get(operation.request)
        wait = self.model.waits.get(row.index) if row else None
        if operation.outcome == YES and operation.token == 0:
            if not cancel or cancel.index != operation.index:
                self.accuse("an answer is final", "it was told that it is cancelled, and the log does not say so", operation)
        elif operation.outcome == WAITING:
            if not wait or operation.token != row.index or not wait.row.index < wait.token <= operation.index:
                self.accuse("who waits is told how it stands", "it was told that it is too late to cancel it, and it is not", operation)
        elif not row or operation.token != (row.token or (wait.token if wait else 0)):
            self.accuse("an answer is final", "it was told that what it cancels had happened, and it had not", operation)

    def session_is_over(self, operation):
        """As of the index that a refusal rests on; or it never was this client's, or is none to hold locks in."""
        session = self.model.sessions.get(operation.session)
        lives = session and session.client == operation.client and session.id <= operation.index < session.end
        if lives and not (operation.kind == PREEMPT and session.lease) and not (operation.kind == RENEW and session.broken <= operation.index):
            self.accuse("sessions", f"as of {operation.index} session {operation.session} lives, and {operation.client} was told that it has ended", operation)

    def renewal_is_true(self, operation):
        if operation.outcome == NO:
            self.session_is_over(operation)
            return
        session = self.model.sessions.get(operation.session)
        if operation.token != operation.session or not session or session.client != operation.client:
            self.accuse("sessions", f"{operation.client} renewed session {operation.session}, which {self.model.describe(session)}", operation)
        elif self.known_since(min(session.end, session.broken)) < operation.begin:
            self.accuse("sessions", f"session {session.id} was renewed after it was known that it has ended at {min(session.end, session.broken)}", operation,
                        index=min(session.end, session.broken))

    def check_is_true(self, operation):
        holds = self.holds(operation.lock, operation.index)
        # One of several, whichever it is.
        if not (any((hold.owner, hold.token) == (operation.owner, operation.token) for hold in holds) if operation.outcome == YES else not holds):
            self.accuse("a check is true", f"as of {operation.index} {owners(holds)} has it, token {[hold.token for hold in holds]}", operation)
        if operation.index < operation.min_index:
            self.accuse("never back in time", f"it had seen {operation.min_index}", operation)
        if self.rows and operation.index > self.rows[-1].index:
            self.accuse("a check is true", f"the log ends at {self.rows[-1].index}", operation)

    def place(self, operation):
        """Where it stands in the order of all; None: nowhere."""
        if (operation.kind == RENEW and operation.outcome == YES) or operation.kind == AGAIN or (operation.kind == CANCEL and operation.token) or (operation.rejected and not operation.index):
            return None                 # it rests on no index, or on that of an answer before
        if operation.outcome == WAITING and operation.kind == PREEMPT:
            return operation.token, False
        if operation.outcome != UNKNOWN:
            # A refusal and a check come after the row that they rest on.
            return operation.index, operation.outcome in (NO, REENTERED) or not operation.is_change
        row = self.by_request.get(operation.request) if operation.is_change and operation.kind != CANCEL else None
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
            if operation.outcome == UNKNOWN or not operation.index:
                continue
            before = seen.get(operation.client)
            # How a wait stands it is told as soon as a node knows, which may be one that lags; and again it is told of what was.
            if before and before.end < operation.begin and operation.index < before.index and operation.kind not in (AWAIT, AGAIN, CANCEL):
                self.accuse("never back in time", f"it had been told of {before.index}", before, operation)
            if not before or operation.index > before.index:
                seen[operation.client] = operation

    def sessions_counted_on(self, hold=False):
        """{session: (since when a client counts on it, until when)}, by what that client asked and was told alone. hold: what is held in it, which
        may have been kept meanwhile; else the session itself. Only what an operator breaks at once is taken from whoever counts on it."""
        counted, lease_of, client_of = {}, {}, {}
        for operation in sorted((each for each in self.operations if each.outcome in (YES, WAITING)), key=lambda each: each.end):
            if operation.opens:
                counted[operation.client, operation.token] = [operation.end, operation.begin + life_ns(operation.ttl_ms)]
                client_of[operation.token] = operation.client
                lease_of[operation.request] = operation.token
            if operation.kind == AWAIT and operation.session == operation.named and operation.outcome == YES:
                lease_of[operation.client, operation.lock, operation.token] = operation.named
            interval = counted.get((operation.client, operation.session))
            # A renewal counts when its answer comes before the deadline.
            if operation.kind == RENEW and interval and operation.end < interval[1]:
                interval[1] = max(interval[1], operation.begin + life_ns(operation.ttl_ms))
        for operation in self.operations:
            client, id = operation.client, 0
            if operation.kind == CLOSE:
                id = operation.session
            elif operation.kind == CANCEL:
                id = lease_of.get(operation.request)
            elif operation.kind == RELEASE or (operation.kind == KEEP and not hold):
                # By its token also who was never told that it waits no more gives up the lease.
                id = lease_of.get((client, operation.lock, operation.named)) or self.model.session_of.get((operation.lock, operation.named)) or operation.named
                id = id if id not in self.model.sessions or self.model.sessions[id].lease else 0
            elif operation.kind == BREAK and operation.now and operation.outcome != NO:
                id = self.model.session_of.get((operation.lock, operation.named))
                client = client_of.get(id)
                id = id if id and self.model.sessions[id].lease else 0
            interval = counted.get((client, id))
            # What else has this token is no lease.
            if id and interval and (operation.begin >= interval[0] or operation.kind == BREAK):
                interval[1] = min(interval[1], operation.begin)
        return {session: tuple(interval) for (_, session), interval in counted.items() if interval[0] < interval[1]}

    def beliefs_do_not_overlap(self):
        beliefs = collections.defaultdict(list)
        open_beliefs, kept = collections.defaultdict(list), {}
        counted = self.sessions_counted_on(hold=True)
        breaks = collections.defaultdict(list)
        for operation in self.operations:
            if operation.kind == BREAK and operation.outcome != NO:
                breaks[operation.lock, operation.named].append(operation)

        def believe(grant, until):
            keep = kept.pop((grant.client, grant.lock, grant.token), None)
            for broken in breaks[grant.lock, grant.token]:
                # Who holds a lease counts on it to its end, unless it has made of it what lasts.
                if broken.now or not grant.held_in or keep:
                    until = min(until, broken.begin if broken.now or not keep else max(broken.begin, keep.begin))
            lease_until = min(until, counted.get(grant.held_in, (0, 0))[1]) if grant.held_in else until
            if grant.end < lease_until:
                beliefs[grant.lock].append((grant.end, lease_until, grant))
            if keep and keep.outcome == YES and max(keep.end, lease_until) < until:
                beliefs[grant.lock].append((max(keep.end, lease_until), until, grant))

        for operation in sorted((each for each in self.operations if each.kind in (PREEMPT, AWAIT, KEEP, RELEASE)), key=lambda each: each.begin):
            # Who shares a lock may have it more than once: the newest hold is the last.
            holds = open_beliefs[operation.client, operation.lock]
            held = next((each for each in reversed(holds) if operation.named in (0, each.token, each.named)), None)
            if operation.kind == RELEASE and held:
                holds.remove(held)
                believe(held, operation.begin)
            elif operation.kind == KEEP and held and operation.named == held.token:
                kept[held.client, held.lock, held.token] = operation
            elif operation.grants and not any(each.token == operation.token for each in holds):
                # What was not given up: its time must be over, or somebody broke it.
                holds[:] = [each for each in holds if each.held_in or (each.client, each.lock, each.token) in kept or breaks[each.lock, each.token]]
                holds.append(operation)
        for grant in itertools.chain(*open_beliefs.values()):
            believe(grant, FOREVER)
        for lock, intervals in beliefs.items():
            believers = []
            for since, until, grant in sorted(intervals, key=lambda each: each[:2]):
                believers = [each for each in believers if each[0] > since]
                if not has_room([other for _, other in believers], grant.slots):
                    others = [other for _, other in believers]
                    self.accuse("one owner", f"{' and '.join([*(other.client for other in others), grant.client])} believe to have {lock} at the same time", *others, grant)
                believers.append((until, grant))

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
        waits = self.told_to_wait()
        grants = []                     # (since when it was asked for, until when it was told, the grant)
        for operation in self.operations:
            if operation.grants:
                asked = waits.get((operation.client, operation.named), operation) if operation.kind == AWAIT else operation
                grants.append((asked.begin, operation.end, operation))
        ended, at, highest = sorted(grants, key=lambda each: each[1]), 0, None
        for begin, _, grant in sorted(grants, key=lambda each: each[0]):
            while at < len(ended) and ended[at][1] < begin:
                if not highest or ended[at][2].token > highest.token:
                    highest = ended[at][2]
                at += 1
            if highest and grant.token <= highest.token:
                self.accuse("tokens", f"token {grant.token} was granted after {highest.token}", highest, grant)

    def told_to_wait(self):
        return {(each.client, each.token): each for each in self.operations if each.kind == PREEMPT and each.outcome == WAITING}

    def who_came_first_is_served_first(self):
        """Whoever was told that it waits has a lower token than who asked after that: a try, or one that waits too. But for who wants it once in a period."""
        waits = self.told_to_wait()
        asked, served = collections.defaultdict(list), collections.defaultdict(list)
        for operation in self.operations:
            if not operation.grants:
                continue
            wait = waits.get((operation.client, operation.named)) if operation.kind == AWAIT else None
            if operation.kind == PREEMPT or wait:
                asked[operation.lock].append(((wait or operation).begin, operation))
            if wait and not wait.period_ms:
                served[operation.lock].append((wait.end, operation))
        for lock, grants in asked.items():
            first, at, last = sorted(served[lock], key=lambda each: each[0]), 0, None
            for begin, grant in sorted(grants, key=lambda each: each[0]):
                while at < len(first) and first[at][0] < begin:
                    if not last or first[at][1].token > last.token:
                        last = first[at][1]
                    at += 1
                if last and grant.token < last.token:
                    self.accuse("who came first is served first", f"{grant.client} got {lock} before {last.client}, who waited when it asked", last, grant)

    # --- who died ---

    def what_nobody_renews_ends_in_time(self):
        """By the time at which leaders proposed rows. It counts anew when one begins or may have stood still, and from what may have renewed it."""
        if self.log.realtime is None:
            return
        time = {row.index: row.wall_ms * 10**6 - self.log.realtime for row in self.rows if row.wall_ms}
        pauses = []                     # (the last that a leader did, and from when on one counts anew)
        for before, row in zip(self.rows, self.rows[1:]):
            if row.index in time and before.index in time:
                silence = time[row.index] - time[before.index]
                if row.term != before.term or silence > SILENCE_NS:
                    pauses.append((time[before.index], time[row.index] + (silence if row.term == before.term else 0)))
        heard = collections.defaultdict(list)
        for operation in self.operations:
            if operation.kind == RENEW:
                heard[operation.session].append(operation.begin + UNHEARD_NS if operation.outcome == UNKNOWN else operation.end)
        last = max(time, default=0)
        for session in self.model.sessions.values():
            end = time.get(session.end, time.get(last) if session.end == FOREVER else None)
            if end is None or session.id not in time:
                continue
            known = self.known_since(session.id)
            begin = max(time[session.id], known if known != FOREVER else 0)
            events = [(at, "heard") for at in heard[session.id]] + [(end, "stop")]
            for stop, start in pauses:
                events += [(stop, "stop"), (start, "start")]
            since = begin               # None: nobody counts
            for at, event in sorted(each for each in events if begin < each[0] <= end):
                if since is not None:
                    self.latest_ns = max(self.latest_ns, at - since - session.ttl_ms * 10**6)
                    if at - since > session.ttl_ms * 10**6 + LATE_NS:
                        self.accuse("nobody is waited for who does not renew",
                                    f"session {session.id} of {session.client} lived for {(at - since) / 1e9:.1f} s that nobody asked for, and its time to live is {session.ttl_ms} ms",
                                    index=session.id)
                        break
                if event != "heard" or since is not None:
                    since = None if event == "stop" else at

    # --- the end ---

    def maps_are_the_log(self):
        held = {lock: [(hold.owner, hold.token) for hold in sorted(holds.values(), key=lambda hold: hold.token)] for lock, holds in self.model.locks.items() if holds}
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
