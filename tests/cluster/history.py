"""What clients were told, against what the nodes have in their logs: can all of it be true?

The log is the witness. Every answer names the index that it rests on, and so does every row; so the order in which all
operations happened is not searched for but read, and must then stand every test:

- replayed in that order, each answer is right: a lock is granted when it is free, released by its owner, refused
  where another has it, and read as it was;
- the order agrees with time: what was answered before something else was asked stands before it. Together that is
  linearizability, of each lock and of all of them at once. A plain check may be late, never early;
- a request is in the log once if it was accepted, not at all if it was refused or cancelled, and either if nobody knows.

Two rules use neither log nor index, for the case that both are wrong in the same way: what clients believe to hold
does not overlap, and tokens rise. Times are nanoseconds of one monotonic clock.
"""
import bisect
import collections
import dataclasses

import wire

YES, NO, UNKNOWN = "yes", "no", "unknown"
PREEMPT, RELEASE, CHECK, CANCEL = "preempt", "release", "check", "cancel"
FOREVER = 2**63


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
    min_index: int = 0
    consistent: bool = False        # a check that must not be late
    copies: int = 0                 # of a change that may have been sent
    tries: list = dataclasses.field(default_factory=list)

    @property
    def is_change(self):
        return self.kind != CHECK

    def __str__(self):
        end = "      ..." if self.end == FOREVER else f"{self.end / 1e9:9.4f}"
        told = {YES: f"yes at {self.index}", NO: f"no at {self.index}", UNKNOWN: "unknown"}[self.outcome]
        if self.owner and self.owner != self.client:
            told += f", {self.owner} has it"
        if self.token:
            told += f", token {self.token}"
        request = f" ({self.handle.hex()[:6]}:{self.seq})" if self.is_change else ""
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

    @property
    def request(self):
        return self.handle, self.seq

    def __str__(self):
        request = f" ({self.handle.hex()[:6]}:{self.seq})" if self.handle else ""
        return f"log {self.index}, term {self.term}: {self.kind} {self.lock} {self.client}{request}" + (f", token {self.token}" if self.token else "")


SELECT = "SELECT idx, term, kind, lock, client, token, cluster_ms, body FROM log"


def row_of(columns):
    """A row of SELECT; the body of a change is read byte by byte, and must agree with the columns."""
    index, term, kind, lock, client, token, cluster_ms, body = columns
    if kind not in (PREEMPT, RELEASE, CANCEL):
        return Row(index, term, kind, lock or "", client or "", token or 0, cluster_ms, body=body)
    reader = wire.Reader(body)
    assert reader.number("B") == 1, "a body of another format"
    handle, seq = reader.take(16), reader.number("Q")
    in_body = (reader.text(), reader.text(), reader.text())
    if kind == RELEASE:
        assert reader.number("Q") == token, f"row {index}: the token differs from the body's"
    if kind == PREEMPT:
        reader.take(8 + 4 + 8)               # in which session, or for how long; once in which period
        reader.take(reader.number("H"))      # who holds it, for people
    reader.end()
    assert (in_body[0], in_body[2]) == (client, lock), f"row {index}: client or lock differ from the body's"
    return Row(index, term, kind, lock, client, token or 0, cluster_ms, handle, seq, body)


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
        self.violations = []

    def add(self, node, rows):
        """Rows that are committed, in order, as one node has them."""
        before = None
        for row in rows:
            known = self.rows.setdefault(row.index, row)
            self.source.setdefault(row.index, node)
            if known != row:
                self.violations.append(Violation("one log", f"{node} has [{row}] where {self.source[row.index]} has [{known}]", index=row.index))
            if before is not None and row.index != before + 1:
                self.violations.append(Violation("one log", f"{node} has no row between {before} and {row.index}", index=row.index))
            before = row.index

    def in_order(self):
        return [self.rows[index] for index in sorted(self.rows)]


class Judge:
    """operations of recorded clients, a Log, and what each node lists at the end: {node: {lock: (owner, token)}}."""

    def __init__(self, operations, log, maps=None):
        self.operations = operations
        self.log = log
        self.maps = maps or {}
        self.rows = log.in_order()
        self.violations = list(log.violations)
        self.by_request = {}
        self.states = collections.defaultdict(list)     # lock -> [(from index on, owner, token)]

    def accuse(self, rule, text, *operations, index=0):
        self.violations.append(Violation(rule, text, list(operations), index or max((each.index for each in operations), default=0)))

    def verdict(self):
        """Every violation, the rules about logs first."""
        self.log_is_whole()
        self.replay()
        self.requests_happen_once()
        for operation in self.operations:
            if operation.outcome != UNKNOWN:
                (self.change_is_true if operation.is_change else self.check_is_true)(operation)
        self.order_agrees_with_time()
        self.clients_go_forward()
        self.beliefs_do_not_overlap()
        self.tokens_rise()
        self.maps_are_the_log()
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
            if row.kind not in (PREEMPT, RELEASE):
                continue
            owner, token = self.state(row.lock, row.index)
            if row.kind == PREEMPT:
                if owner:
                    self.accuse("one owner", f"{row.lock} is granted to {row.client} at {row.index} while {owner} has it", index=row.index)
                if row.token != row.index:
                    self.accuse("tokens", f"the grant at {row.index} has token {row.token}", index=row.index)
                self.states[row.lock].append((row.index, row.client, row.token))
            else:
                if (owner, token) != (row.client, row.token):
                    self.accuse("only the owner releases", f"{row.client} releases {row.lock} with token {row.token} at {row.index}, where {owner or 'nobody'} has it",
                                index=row.index)
                self.states[row.lock].append((row.index, "", 0))

    def state(self, lock, index):
        """(owner, token) as of an index."""
        states = self.states.get(lock, [])
        at = bisect.bisect_right(states, index, key=lambda state: state[0])
        return states[at - 1][1:] if at else ("", 0)

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
                    or (row.kind == RELEASE and operation.named not in (0, row.token)):
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
        owner, token = self.state(operation.lock, operation.index)
        right = owner != "" if operation.kind == PREEMPT else owner != operation.client or operation.named not in (0, token)
        if not right or operation.owner != owner or operation.token != token:
            self.accuse("a refusal is true", f"as of {operation.index} {owner or 'nobody'} has it, token {token}", operation)

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
            if operation.outcome == UNKNOWN:
                continue
            before = seen.get(operation.client)
            if before and before.end < operation.begin and operation.index < before.index:
                self.accuse("never back in time", f"it had been told of {before.index}", before, operation)
            if not before or operation.index > before.index:
                seen[operation.client] = operation

    def beliefs_do_not_overlap(self):
        beliefs = collections.defaultdict(list)
        open_beliefs = {}
        for operation in sorted((each for each in self.operations if each.is_change), key=lambda each: each.begin):
            key = (operation.client, operation.lock)
            if operation.kind == RELEASE and key in open_beliefs and operation.named in (0, open_beliefs[key].token):
                grant = open_beliefs.pop(key)
                beliefs[operation.lock].append((grant.end, operation.begin, grant))
            if operation.kind == PREEMPT and operation.outcome == YES:
                open_beliefs[key] = operation
        for (_, lock), grant in open_beliefs.items():
            beliefs[lock].append((grant.end, FOREVER, grant))
        for lock, intervals in beliefs.items():
            intervals.sort(key=lambda each: each[:2])
            for (_, until, one), (since, _, other) in zip(intervals, intervals[1:]):
                if since < until:
                    self.accuse("one owner", f"{one.client} and {other.client} believe to have {lock} at the same time", one, other)

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
        held = {lock: states[-1][1:] for lock, states in self.states.items() if states[-1][1]}
        for node, listed in self.maps.items():
            for lock in sorted(held.keys() | listed.keys()):
                if held.get(lock) != listed.get(lock):
                    self.accuse("equal maps", f"at the end {node} has {lock} with {listed.get(lock)}, and its log with {held.get(lock)}")


def judge(operations, log, maps=None):
    return Judge(operations, log, maps).verdict()


def until(operation):
    """Its end, for people: what is unknown may happen for ever, but hardly so."""
    return min(operation.end, operation.begin + 5 * 10**9)


def relevant(violation, operations, log, lines=24):
    """The lines of the history that a person needs to see: the accused, and what the same lock went through around them."""
    accused = violation.operations
    index = violation.index
    lock = accused[0].lock if accused else getattr(log.rows.get(index), "lock", "")
    begin = min((each.begin for each in accused), default=0)
    end = max((until(each) for each in accused), default=FOREVER)
    near = [each for each in operations if each.lock == lock and each not in accused and until(each) >= begin and each.begin <= end]
    near.sort(key=lambda each: (abs(each.index - index), each.begin))
    shown = sorted(accused + near[: max(0, lines - len(accused))], key=lambda each: each.begin)
    rows = sorted((row for row in log.rows.values() if row.lock == lock or row.kind in ("noop", "configuration")), key=lambda row: abs(row.index - index))[:8]
    mark = {id(each): "> " for each in accused}
    return "\n".join([*(mark.get(id(each), "  ") + str(each) for each in shown), *(f"  {row}" for row in sorted(rows, key=lambda row: row.index))])
