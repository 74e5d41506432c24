"""The judge of histories: it lets true ones pass, and catches every kind of wrong one."""
import dataclasses
import random
import struct

import history
from history import (AGAIN, AWAIT, BREAK, CANCEL, CHECK, CLOSE, EXPIRE, FREED_AT_ONCE, GRANT, KEEP, LATE_NS, LEAVE, NO, OPEN, PREEMPT, REENTERED, RELEASE, RENEW,
                     SHARED, UNKNOWN, WAIT, WAITING, YES, Log, Operation, Row, judge)

# Of the clock, where what lives for a time is told about.
S = 10**9


class Made:
    """A history put together by hand: a log, and operations of clients on it. One unit of time is as good as another."""

    def __init__(self):
        self.rows = [Row(1, 1, "noop")]
        self.operations = []
        self.maps = {}
        self.seen, self.realtime = {}, None
        self.serial = 0

    def handle(self):
        self.serial += 1
        return self.serial.to_bytes(16, "big")

    def row(self, kind, lock, client, token=0, handle=b"", term=1, **more):
        index = self.rows[-1].index + 1
        self.rows.append(Row(index, term, kind, lock, client, token or index, index, handle, 1, **more))
        return self.rows[-1]

    def tell(self, client, kind, lock, begin, end, outcome, handle=b"", **more):
        self.operations.append(Operation(client, kind, lock, begin, end, outcome, handle=handle, seq=1, **more))
        return self.operations[-1]

    def accept(self, client, kind, lock, begin, end, token=0, outcome=YES, **more):
        """Logged, and told so."""
        handle = self.handle()
        row = self.row(kind, lock, client, token, handle, **more)
        return self.tell(client, kind, lock, begin, end, outcome, handle, token=row.token, index=row.index, **more)

    def refuse(self, client, kind, lock, begin, end, index, owner="", token=0, **more):
        return self.tell(client, kind, lock, begin, end, NO, self.handle(), index=index, owner=owner, token=token, **more)

    def renew(self, client, session, begin, end, outcome=YES, index=0):
        return self.tell(client, RENEW, "", begin, end, outcome, token=session if outcome == YES else 0, index=index, session=session, ttl_ms=3000)

    def close(self, client, session, begin, end):
        return self.accept(client, CLOSE, "", begin, end, session, session=session)

    def expire(self, client, session, lock="", **more):
        return self.row(EXPIRE, lock, client, session, session=session, **more)

    def check(self, client, lock, begin, end, index, owner="", token=0, **more):
        return self.tell(client, CHECK, lock, begin, end, YES if owner else NO, index=index, owner=owner, token=token, **more)

    def wait(self, client, lock, begin, end, **more):
        """Logged, and told that it waits."""
        more = {"ttl_ms": 3000, **more} if "session" not in more else more
        handle = self.handle()
        row = self.change(self.row(WAIT, lock, client, handle=handle, **more), token=0)
        return self.tell(client, PREEMPT, lock, begin, end, WAITING, handle, token=row.index, index=row.index, wait=True, **more)

    def look(self, wait, begin, end, outcome, index, token=0):
        return self.tell(wait.client, AWAIT, wait.lock, begin, end, outcome, named=wait.token, session=wait.session or wait.token, index=index,
                         token=wait.token if outcome == WAITING else token, owner=wait.client if outcome == YES else "")

    def give_up(self, wait, begin, end):
        handle = self.handle()
        row = self.row(LEAVE, wait.lock, wait.client, wait.token, handle)
        return self.tell(wait.client, RELEASE, wait.lock, begin, end, YES, handle, token=wait.token, index=row.index, named=wait.token)

    def cancel(self, operation, begin, end, waiter=0):
        row = self.change(self.row(CANCEL, operation.lock, operation.client, handle=operation.handle, waiter=waiter), token=0)
        return self.tell(operation.client, CANCEL, operation.lock, begin, end, YES, operation.handle, index=row.index)

    def hold_ends(self, client, kind, lock, begin, end, token, **more):
        """A release, a keep or a break of that hold."""
        operation = self.accept(client, kind, lock, begin, end, token, **more)
        operation.named = token
        return operation

    def change(self, row, **values):
        self.rows[row.index - 1] = dataclasses.replace(row, **values)
        return self.rows[row.index - 1]

    def timed(self):
        """Rows are proposed when they are told of."""
        self.realtime = 0
        for operation in self.operations:
            row = self.rows[operation.index - 1] if operation.index else None
            if row and row.handle == operation.handle:
                self.change(row, wall_ms=int((operation.begin + operation.end) / 2e6))
        return self

    def verdict(self):
        log = Log()
        log.add("leader", self.rows)
        log.seen.update(self.seen)
        log.realtime = self.realtime
        return judge(self.operations, log, self.maps)

    def is_true(self):
        found = self.verdict()
        assert not found, "\n".join(map(str, found))

    def is_caught(self, rule, *words):
        found = [each for each in self.verdict() if each.rule == rule and all(word in each.text for word in words)]
        assert found, f"not caught: {rule}: " + "\n".join(map(str, self.verdict()))
        log = Log()
        log.add("leader", self.rows)
        assert history.relevant(found[0], self.operations, log) or not found[0].operations


def one_life():
    """alice has x, bob is refused, alice gives it back, bob gets it."""
    made = Made()
    grant = made.accept("alice", PREEMPT, "x", 10, 20)
    made.refuse("bob", PREEMPT, "x", 21, 29, grant.index, "alice", grant.token)
    made.check("bob", "x", 30, 31, grant.index, "alice", grant.token, min_index=grant.index)
    made.accept("alice", RELEASE, "x", 40, 50, grant.token)
    second = made.accept("bob", PREEMPT, "x", 60, 70)
    made.maps = {"leader": {"x": [("bob", second.token)]}}
    return made


def test_a_true_history_is_let_pass():
    one_life().is_true()


def test_true_histories_at_random_are_let_pass_and_swapped_answers_are_not():
    for seed in range(50):
        dice, made, now, owner = random.Random(seed), Made(), 0, None
        for _ in range(60):
            now += 10
            client = dice.choice(["a", "b", "c"])
            last = made.rows[-1].index
            if owner is None:
                owner = made.accept(client, PREEMPT, "x", now - dice.randrange(30), now + dice.randrange(5, 9))
            elif client == owner.client:
                made.accept(client, RELEASE, "x", now, now + dice.randrange(30), owner.token)
                owner = None
            else:
                made.refuse(client, dice.choice([PREEMPT, RELEASE]), "x", now, now + 5, last, owner.client, owner.token)
        made.is_true()
        yes = [each for each in made.operations if each.outcome == YES and each.kind == PREEMPT]
        if len(yes) > 1:
            yes[0].index, yes[-1].index = yes[-1].index, yes[0].index
            assert made.verdict()


def test_two_grants_of_one_lock_in_the_log_are_caught():
    made = one_life()
    made.accept("carol", PREEMPT, "x", 80, 90)
    made.is_caught("one owner", "while bob has it")


def test_two_clients_that_believe_to_have_one_lock_are_caught_by_time_alone():
    made = Made()
    made.accept("alice", PREEMPT, "x", 10, 20)
    made.tell("bob", PREEMPT, "x", 30, 40, YES, made.handle(), token=9, index=9)
    made.is_caught("one owner", "alice and bob believe")


def test_a_belief_ends_when_the_client_begins_to_release_even_if_the_outcome_is_unknown():
    made = Made()
    grant = made.accept("alice", PREEMPT, "x", 10, 20)
    gone = made.accept("alice", RELEASE, "x", 30, 99, grant.token, UNKNOWN)
    assert gone.outcome == UNKNOWN
    made.accept("bob", PREEMPT, "x", 40, 50)
    made.is_true()


def test_an_acknowledged_grant_that_is_in_no_log_is_caught():
    made = one_life()
    made.tell("carol", PREEMPT, "y", 80, 90, YES, made.handle(), token=5, index=5)
    made.is_caught("an answer is final", "in no log")


def test_an_acknowledged_change_at_another_index_is_caught():
    made = one_life()
    made.operations[-1].index -= 1
    made.is_caught("an answer is final", "in the log at")


def test_a_lost_release_is_caught():
    made = Made()
    grant = made.accept("alice", PREEMPT, "x", 10, 20)
    made.tell("alice", RELEASE, "x", 30, 40, YES, made.handle(), token=grant.token, index=3)
    made.refuse("bob", PREEMPT, "x", 50, 60, grant.index, "alice", grant.token)
    made.is_caught("an answer is final", "in no log")


def test_a_request_that_happened_twice_is_caught():
    made = one_life()
    first = made.rows[1]
    made.accept("bob", RELEASE, "x", 80, 90, made.rows[-1].token)
    made.row(PREEMPT, "x", "alice", handle=first.handle)
    made.is_caught("once", "at 2 and at 6")


def test_a_change_that_nobody_asked_for_or_not_so_is_caught():
    made = one_life()
    made.row(PREEMPT, "y", "mallory", handle=made.handle())
    made.is_caught("once", "by nobody")
    made = one_life()
    made.operations[0].lock = "z"
    made.is_caught("once", "not what was asked for")


def test_a_refused_request_that_happens_later_is_caught():
    made = one_life()
    refused = made.operations[1]
    made.accept("bob", RELEASE, "x", 80, 90, made.rows[-1].token)
    made.row(PREEMPT, "x", "bob", handle=refused.handle)
    made.is_caught("an answer is final", "it was told no")


def test_a_cancelled_request_that_happens_or_had_happened_is_caught():
    made = one_life()
    refused = made.operations[1]
    made.row(CANCEL, "x", "bob", handle=refused.handle)
    made.is_true()
    made.accept("bob", RELEASE, "x", 80, 90, 4)
    made.row(PREEMPT, "x", "bob", handle=refused.handle)
    made.is_caught("once", "at 5 and at 7")
    made = one_life()
    made.row(CANCEL, "x", "alice", handle=made.operations[0].handle)
    made.is_caught("once", "at 2 and at 5")


def test_a_release_by_another_than_the_owner_is_caught():
    made = one_life()
    made.accept("carol", RELEASE, "x", 80, 90, made.rows[-1].token)
    made.is_caught("only the owner releases")
    made = one_life()
    made.accept("bob", RELEASE, "x", 80, 90, 2)
    made.is_caught("only the owner releases")


def test_a_release_of_another_hold_than_the_named_one_is_caught():
    made = one_life()
    second = made.rows[-1].token
    late = made.accept("bob", RELEASE, "x", 80, 90, second)
    late.named = second
    made.maps = {}
    made.is_true()
    late.named = 2
    made.is_caught("once", "not what was asked")
    made = one_life()
    no = made.refuse("bob", RELEASE, "x", 80, 90, made.rows[-1].index, "bob", made.rows[-1].token)
    no.named = 2
    made.is_true()
    no.named = made.rows[-1].token
    made.is_caught("a refusal is true")


def test_a_belief_outlives_the_release_of_an_earlier_hold():
    made = Made()
    grant = made.accept("alice", PREEMPT, "x", 10, 20)
    no = made.refuse("alice", RELEASE, "x", 30, 31, grant.index, "alice", grant.token)
    no.named = 1
    made.tell("bob", PREEMPT, "x", 40, 50, YES, made.handle(), token=9, index=9)
    made.is_caught("one owner", "alice and bob believe")


def test_wrong_tokens_are_caught():
    made = one_life()
    made.operations[0].token = 77
    made.is_caught("tokens", "77")
    made = Made()
    made.row(PREEMPT, "x", "alice", token=9)
    made.is_caught("tokens", "has token 9")
    made = Made()
    made.accept("alice", PREEMPT, "x", 10, 20).token = 50
    made.accept("alice", PREEMPT, "y", 30, 40)
    made.is_caught("tokens", "after 50")


def test_a_refusal_that_is_not_true_where_it_rests_is_caught():
    made = one_life()
    made.refuse("carol", PREEMPT, "x", 60, 70, 3)
    made.is_caught("a refusal is true")
    made = one_life()
    made.refuse("carol", PREEMPT, "x", 60, 70, 4, "alice", 2)
    made.is_caught("a refusal is true")
    made = one_life()
    made.refuse("alice", RELEASE, "x", 22, 25, 2, "alice", 2)
    made.is_caught("a refusal is true")


def test_a_refusal_that_rests_on_what_was_over_when_it_was_asked_for_is_caught():
    made = one_life()
    made.refuse("carol", PREEMPT, "x", 80, 90, 2, "alice", 2)
    made.is_caught("in the order of time")


def test_an_answer_from_the_future_is_caught():
    made = one_life()
    made.check("carol", "x", 5, 8, 2, "alice", 2)
    made.is_caught("in the order of time")
    made = one_life()
    made.check("carol", "x", 5, 8, 99)
    made.is_caught("a check is true", "the log ends")


def test_changes_in_another_order_than_that_of_time_are_caught():
    made = Made()
    made.accept("alice", PREEMPT, "x", 30, 40)
    made.accept("bob", PREEMPT, "y", 10, 20)
    made.is_caught("in the order of time")


def test_an_unknown_change_may_be_in_the_log_or_not_but_not_before_it_was_asked_for():
    for logged in (True, False):
        made = Made()
        if logged:
            made.accept("alice", PREEMPT, "x", 10, 20, outcome=UNKNOWN)
        else:
            made.tell("alice", PREEMPT, "x", 10, 20, UNKNOWN, made.handle())
        made.is_true()
    made = Made()
    made.accept("alice", PREEMPT, "x", 90, 99, outcome=UNKNOWN)
    made.accept("bob", PREEMPT, "y", 10, 20)
    made.is_caught("in the order of time")


def test_a_check_may_be_late_but_a_consistent_one_may_not():
    made = one_life()
    late = made.check("carol", "x", 80, 90, 2, "alice", 2)
    made.is_true()
    late.consistent = True
    made.is_caught("in the order of time")


def test_a_check_that_is_not_true_where_it_rests_is_caught():
    for owner, token in (("", 0), ("carol", 2), ("alice", 3)):
        made = one_life()
        made.check("carol", "x", 80, 90, 2, owner, token)
        made.is_caught("a check is true")


def test_a_client_that_goes_back_in_time_is_caught():
    made = one_life()
    made.check("bob", "x", 80, 90, 2, "alice", 2, min_index=4)
    made.is_caught("never back in time", "had seen 4")
    made = one_life()
    made.check("bob", "x", 80, 90, 2, "alice", 2)
    made.is_caught("never back in time", "told of 4")


def test_logs_that_differ_or_have_holes_are_caught():
    made = one_life()
    log = Log()
    log.add("leader", made.rows)
    log.add("follower-1", made.rows[:2] + [Row(3, 1, RELEASE, "x", "mallory", 2, 3)])
    assert any(each.rule == "one log" and "follower-1" in each.text for each in judge(made.operations, log))
    log = Log()
    log.add("leader", made.rows[:2] + made.rows[3:])
    assert any(each.rule == "one log" and "nobody has" in each.text for each in judge([], log))
    log = Log()
    log.add("leader", made.rows[1:])
    assert any("before row 2" in each.text for each in judge([], log))
    log.add("follower-1", made.rows[:2])
    assert not any(each.rule == "one log" for each in judge([], log))


def test_terms_and_cluster_time_that_fall_and_a_term_that_begins_twice_are_caught():
    made = Made()
    made.rows += [Row(2, 3, "noop", cluster_ms=5), Row(3, 2, "noop", cluster_ms=4), Row(4, 2, "noop", cluster_ms=5)]
    made.is_caught("one log", "term falls at 3")
    made.is_caught("cluster time", "falls at 3")
    made.is_caught("one leader per term", "term 2")


def test_a_map_that_is_not_its_log_is_caught():
    for listed in ({}, {"x": [("alice", 2)]}, {"x": [("bob", 4)], "y": [("bob", 4)]}, {"x": [("bob", 4), ("carol", 5)]}):
        made = one_life()
        made.maps["follower-1"] = listed
        made.is_caught("equal maps", "follower-1")


# --- sessions and leases ---

def one_session():
    """alice has x in session 2 of 3 s and renews it once; it expires at 5, and bob gets x as a lease."""
    made = Made()
    made.accept("alice", OPEN, "", 0, 0.1 * S, ttl_ms=3000)
    made.accept("alice", PREEMPT, "x", 0.2 * S, 0.3 * S, session=2)
    made.renew("alice", 2, 1.0 * S, 1.1 * S)
    made.refuse("bob", PREEMPT, "x", 2 * S, 2.1 * S, 3, "alice", 3, ttl_ms=3000)
    made.expire("alice", 2, wall_ms=4000)
    made.accept("bob", PREEMPT, "x", 4.1 * S, 4.2 * S, ttl_ms=3000)
    made.renew("alice", 2, 4.3 * S, 4.4 * S, NO, 5)
    made.accept("bob", RELEASE, "x", 4.5 * S, 4.6 * S, 5).named = 5
    made.realtime = 0
    made.maps = {"leader": {}}
    return made


def test_true_histories_of_sessions_and_leases_are_let_pass():
    one_session().is_true()
    # One that is closed frees all; a lease that expires while its release was on its way has ended once.
    made = Made()
    made.accept("alice", OPEN, "", 0, 0.1 * S, ttl_ms=3000)
    made.accept("alice", PREEMPT, "x", 0.2 * S, 0.3 * S, session=2)
    made.close("alice", 2, 0.4 * S, 0.5 * S)
    lease = made.accept("bob", PREEMPT, "x", 0.45 * S, 0.6 * S, ttl_ms=3000)
    made.accept("bob", RELEASE, "x", 4 * S, 4.1 * S, lease.token).named = lease.token
    made.expire("bob", lease.token, "x")
    made.refuse("alice", CLOSE, "", 5 * S, 5.1 * S, 7, session=2)
    made.maps = {"leader": {}}
    made.is_true()


def test_a_lock_that_is_granted_while_its_session_lives_is_caught():
    made = one_session()
    made.rows = made.rows[:3] + [Row(4, 1, "address"), *made.rows[4:]]
    made.is_caught("one owner", "while alice has it")


def test_a_session_that_ends_while_its_client_counts_on_it_is_caught():
    # Somebody was told of what came after; its row was read; or it was proposed too early.
    made = one_session()
    made.operations[4].begin, made.operations[4].end = 3.8 * S, 3.9 * S
    made.is_caught("nobody is ended who counts on it", "known at 3.9")
    made = one_session()
    made.seen = {4: 3.9 * S}
    made.is_caught("nobody is ended who counts on it", "known at 3.9")
    made = one_session()
    made.rows[3] = Row(4, 1, EXPIRE, "", "alice", 2, 4, b"", 1, session=2, wall_ms=3960)
    made.is_caught("nobody is ended who counts on it", "10.0 ms before")
    made.realtime = None
    made.is_true()
    # Itself it was told that it has ended.
    made = one_session()
    made.operations[5].begin, made.operations[5].end = 3.7 * S, 3.8 * S
    made.is_caught("nobody is ended who counts on it", "known at 3.8")


def test_a_renewal_counts_when_it_is_answered_before_the_deadline():
    for end, caught in ((2.9 * S, True), (3.0 * S, False)):
        made = one_session()
        made.operations[2].begin, made.operations[2].end = 2.5 * S, end
        made.rows[3] = Row(4, 1, EXPIRE, "", "alice", 2, 4, b"", 1, session=2, wall_ms=5000)
        made.seen = {4: 3.1 * S}
        assert caught == any(each.rule == "nobody is ended who counts on it" for each in made.verdict())


def test_a_client_does_not_count_on_what_it_closes_or_releases_or_was_told_too_late():
    for ending in ("close", "release", "late"):
        made = Made()
        if ending == "late":
            made.accept("alice", PREEMPT, "x", 0, 3 * S, ttl_ms=3000)
        else:
            made.accept("alice", PREEMPT, "x", 0, 0.1 * S, ttl_ms=3000)
        if ending == "close":
            made.tell("alice", CLOSE, "", 0.5 * S, 9 * S, UNKNOWN, made.handle(), session=2)
        if ending == "release":
            made.tell("alice", RELEASE, "x", 0.5 * S, 9 * S, UNKNOWN, made.handle(), named=2)
        made.expire("alice", 2, "x")
        made.accept("bob", PREEMPT, "x", 0.6 * S, 0.7 * S)
        made.is_true()


def test_clients_that_believe_to_have_one_lock_in_a_session_or_lease_are_caught_by_time_alone():
    for lease in (True, False):
        for late in (0, S):
            made = Made()
            if lease:
                made.accept("alice", PREEMPT, "x", 0, 0.1 * S, ttl_ms=3000)
            else:
                made.accept("alice", OPEN, "", 0, 0.1 * S, ttl_ms=3000)
                made.accept("alice", PREEMPT, "x", 0.1 * S, 0.2 * S, session=2)
            made.tell("bob", PREEMPT, "x", 2.5 * S + late, 2.6 * S + late, YES, made.handle(), token=9, index=9)
            found = [each for each in made.verdict() if each.rule == "one owner"]
            assert len(found) == (not late), found


def test_a_session_that_a_client_was_told_has_ended_and_that_lives_is_caught():
    for kind in (RENEW, CLOSE, PREEMPT):
        for lives in (True, False):
            made = one_session()
            if kind == RENEW:
                made.renew("alice", 2, 3.2 * S, 3.3 * S, NO, 3 if lives else 4)
            else:
                made.refuse("alice", kind, "y" if kind == PREEMPT else "", 3.2 * S, 3.3 * S, 3 if lives else 4, session=2)
            assert lives == any(each.rule == "sessions" and "lives" in each.text for each in made.verdict())
    made = one_session()
    made.renew("mallory", 2, 3.2 * S, 3.3 * S, NO, 3)
    made.is_true()


def test_a_renewal_of_what_has_ended_or_is_not_ones_own_is_caught():
    made = one_session()
    made.renew("alice", 2, 4.15 * S, 4.3 * S)
    made.is_true()
    made.renew("alice", 2, 4.3 * S, 4.4 * S)
    made.is_caught("sessions", "after it was known")
    made = one_session()
    made.renew("bob", 2, 2.2 * S, 2.3 * S)
    made.is_caught("sessions", "alice's")
    made = one_session()
    made.renew("alice", 77, 2.2 * S, 2.3 * S)
    made.is_caught("sessions", "never was")


def test_a_grant_or_a_close_in_a_session_that_has_ended_or_is_anothers_or_a_lease_is_caught():
    for client, session, word in (("alice", 2, "has ended at 4"), ("carol", 2, "alice's"), ("carol", 99, "never was")):
        made = one_session()
        made.accept(client, PREEMPT, "y", 6 * S, 6.1 * S, session=session)
        made.is_caught("sessions", "is granted", word)
        made = one_session()
        made.close(client, session, 6 * S, 6.1 * S)
        made.is_caught("sessions", "closes", word)
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S, ttl_ms=3000)
    made.accept("alice", PREEMPT, "y", 0.2 * S, 0.3 * S, session=2)
    made.is_caught("sessions", "for a lease")


def test_an_end_of_nothing_or_of_anothers_session_is_caught():
    for client, session, word in (("alice", 99, "never was"), ("bob", 2, "alice's"), ("alice", 2, "has ended at 4")):
        made = one_session()
        made.expire(client, session)
        made.is_caught("sessions", "expires", word)


def test_another_session_or_time_than_was_asked_for_is_caught():
    for at, wrong in ((0, {"ttl_ms": 4000}), (1, {"session": 7}), (4, {"ttl_ms": 0})):
        made = one_session()
        for name, value in wrong.items():
            setattr(made.operations[at], name, value)
        made.is_caught("once", "not what was asked for")


def test_one_that_holds_much_is_freed_in_parts():
    made = Made()
    made.accept("alice", OPEN, "", 0, 0.1 * S, ttl_ms=3000)
    for place in range(FREED_AT_ONCE + 1):
        made.accept("alice", PREEMPT, f"x{place}", (0.2 + place * 0.01) * S, (0.205 + place * 0.01) * S, session=2)
    made.expire("alice", 2)
    last, end = f"x{FREED_AT_ONCE}", made.rows[-1].index
    made.maps = {"leader": {last: [("alice", end - 1)]}}
    made.is_caught("what nobody renews is free", last)
    # About what is soon free nothing is decided.
    made.refuse("bob", PREEMPT, last, 4 * S, 4.1 * S, end, "alice", end - 1)
    made.is_caught("a refusal is true", "is about to be free")
    made.operations.pop()
    made.check("bob", last, 4 * S, 4.1 * S, end, "alice", end - 1)
    made.check("bob", "x0", 4.2 * S, 4.3 * S, end)
    made.expire("alice", 2)
    made.maps = {"leader": {}}
    made.is_true()
    made.expire("alice", 2)
    made.is_caught("sessions", "expires")


def test_what_nobody_renews_and_stays_is_caught():
    for kind, lock in ((OPEN, ""), (PREEMPT, "x")):
        made = Made()
        grant = made.accept("alice", kind, lock, 0, 0.1 * S, ttl_ms=3000)
        made.is_true()
        made.maps = {"leader": {lock: [("alice", grant.token)]} if lock else {}}
        made.is_caught("what nobody renews is free")


# --- who waits ---

def one_queue():
    """alice has x, bob waits and then carol; alice gives it back, and bob has it; he does so, and carol has it and gives it up as who waited."""
    made = Made()
    first = made.accept("alice", PREEMPT, "x", 0, 0.1 * S)
    bob = made.wait("bob", "x", 0.2 * S, 0.3 * S)
    carol = made.wait("carol", "x", 0.4 * S, 0.5 * S)
    made.look(bob, 0.5 * S, 0.6 * S, WAITING, 4)
    made.hold_ends("alice", RELEASE, "x", 0.7 * S, 0.8 * S, first.token)
    made.look(bob, 0.7 * S, 0.9 * S, YES, 5, 5)
    made.look(carol, 0.7 * S, 0.9 * S, WAITING, 5)
    made.refuse("dave", PREEMPT, "x", 0.9 * S, S, 5, "bob", 5)
    made.hold_ends("bob", RELEASE, "x", 1.1 * S, 1.2 * S, 5)
    made.look(carol, 1.3 * S, 1.4 * S, YES, 6, 6)
    made.give_up(carol, 1.5 * S, 1.6 * S)
    made.look(carol, 1.7 * S, 1.8 * S, NO, 7)
    made.maps = {"leader": {}}
    return made


BOB_WAITS, CAROL_WAITS, BOB_GOT, CAROL_STANDS, CAROL_GOT, CAROL_GAVE_UP, CAROL_KNOWS = 1, 2, 5, 6, 9, 10, 11
TOLD = "who waits is told how it stands"


def test_a_true_history_of_a_queue_is_let_pass():
    one_queue().is_true()
    one_queue().timed().is_true()
    # A retry is told that it waits, also when it has got the lock by now; and a node that lags does not know of it yet.
    made = one_queue()
    made.operations[BOB_WAITS].index = 5
    made.operations[CAROL_STANDS].index = 2
    made.is_true()


def test_who_is_told_of_a_grant_and_has_none_is_caught():
    made = one_queue()
    made.operations[CAROL_GOT].token = 5
    made.is_caught(TOLD, "has not got token 5")
    made = one_queue()
    made.operations[CAROL_GOT].index = 5
    made.is_caught(TOLD, "has not got token 6")
    made = one_queue()
    made.operations[CAROL_GOT].index = 7
    made.is_caught(TOLD, "has not got token 6")
    made = one_queue()
    made.operations[BOB_GOT].owner = "alice"
    made.is_caught(TOLD)


def test_who_came_last_and_is_served_first_is_caught():
    made = one_queue()
    carol, bob = made.operations[CAROL_WAITS], made.operations[BOB_WAITS]
    for operation, wait in ((made.operations[BOB_GOT], carol), (made.operations[CAROL_STANDS], bob)):
        operation.client, operation.named, operation.session = wait.client, wait.token, wait.token
        operation.owner = wait.client if operation.outcome == YES else ""
    made.is_caught(TOLD, "has not got token 5")
    made.is_caught(TOLD, "it waits no more")
    # By time and tokens alone.
    for period_ms, late in ((0, 0), (1000, 0), (0, S)):
        made = Made()
        for client, token, begin in (("bob", 9, 0.2 * S), ("carol", 8, 0.4 * S - late)):
            wait = made.tell(client, PREEMPT, "x", begin, begin + 0.1 * S, WAITING, made.handle(), token=token - 5, index=token - 5, wait=True, ttl_ms=3000, period_ms=period_ms)
            made.look(wait, S, 1.1 * S, YES, token, token)
        assert (period_ms == 0 and late == 0) == any(each.rule == "who came first is served first" for each in made.verdict())


def test_a_try_that_comes_before_who_waits_is_caught_by_time_alone():
    made = one_queue()
    made.tell("dave", PREEMPT, "x", 0.6 * S, 1.4 * S, YES, made.handle(), token=5, index=5)
    made.is_caught("who came first is served first", "dave got x before carol")


def test_a_try_that_is_in_the_log_before_who_may_have_it_is_caught():
    made, _ = one_period()
    made.change(made.rows[-1], kind=PREEMPT, client="mallory", token=made.rows[-1].index, handle=made.handle())
    made.is_caught("nobody comes before who waits", "bob waits for it since 4")


def test_who_is_told_that_it_waits_and_does_not_or_the_other_way_round_is_caught():
    made = one_queue()
    made.operations[CAROL_STANDS].index = 6
    made.is_caught(TOLD, "it waits no more")
    made = one_queue()
    made.operations[CAROL_STANDS].outcome, made.operations[CAROL_STANDS].token = NO, 0
    made.is_caught(TOLD, "as of 5 it waits")
    for index in (6, 5):
        made = one_queue()
        made.operations[CAROL_KNOWS].index = index
        made.is_caught(TOLD, "got token 6")
    made = one_queue()
    made.operations[CAROL_STANDS].named = 77
    made.is_caught(TOLD, "nobody has ever waited so")
    # At once, and told that it waits.
    made = Made()
    made.wait("bob", "x", 0.2 * S, 0.3 * S)
    made.is_caught(TOLD, "got token 2")
    made.operations[0].outcome = YES
    made.is_true()
    # As another, and as of an index that has to do with nothing.
    for name, value in (("token", 4), ("index", 4), ("outcome", YES)):
        made = one_queue()
        setattr(made.operations[BOB_WAITS], name, value)
        made.is_caught(TOLD, "it waits since 3")


def test_a_ghost_of_who_gave_up_is_caught():
    # Told that it still has it; shown to others; told no by mistake; in the log as somebody else's.
    made = one_queue()
    made.look(made.operations[CAROL_WAITS], 2 * S, 2.1 * S, YES, 7, 6)
    made.is_caught(TOLD, "has not got")
    made = one_queue()
    made.check("dave", "x", 2 * S, 2.1 * S, 7, "carol", 6)
    made.is_caught("a check is true")
    made = one_queue()
    made.maps = {"leader": {"x": [("carol", 6)]}}
    made.is_caught("equal maps")
    for index, owner, token in ((4, "alice", 2), (6, "carol", 6)):
        made = one_queue()
        made.refuse("carol", RELEASE, "x", 0.5 * S, 1.45 * S, index, owner, token, named=4)
        made.is_caught("a refusal is true")
    made = one_queue()
    made.refuse("carol", RELEASE, "x", 2 * S, 2.1 * S, 7, named=4)
    made.is_true()
    made = one_queue()
    made.change(made.rows[6], client="dave")
    made.is_caught("who gives up is who waits")
    # Gone from the queue it is passed over.
    made = one_queue()
    made.change(made.rows[4], kind=LEAVE, client="bob", token=3)
    made.is_caught("only the owner releases", "where alice has it")
    # What was not asked for is not given up.
    made = one_queue()
    made.operations[CAROL_GAVE_UP].named = 3
    made.is_caught("once", "not what was asked for")


def test_a_retry_that_is_answered_otherwise_is_caught():
    for outcome, token, right in ((WAITING, 3, True), (WAITING, 4, False), (YES, 5, False), (NO, 0, False), (REENTERED, 5, False)):
        made = one_queue()
        bob = made.operations[BOB_WAITS]
        made.tell("bob", AGAIN, "x", 0.9 * S, S, outcome, bob.handle, index=5, token=token)
        if right:
            made.is_true()
        else:
            made.is_caught("a retry is answered alike")


def test_a_wait_that_is_cancelled_and_stays_or_was_none_is_caught():
    def cancelled(waiter, period_ms=0):
        made = Made()
        made.accept("alice", PREEMPT, "x", 0, 0.1 * S, period_ms=period_ms)
        bob = made.wait("bob", "x", 0.2 * S, 0.3 * S, period_ms=period_ms)
        carol = made.wait("carol", "x", 0.4 * S, 0.5 * S)
        made.cancel(bob, 0.6 * S, 0.7 * S, waiter)
        made.hold_ends("alice", RELEASE, "x", 0.8 * S, 0.9 * S, 2)
        made.look(carol, S, 1.1 * S, YES, 6, 6)
        return made, bob
    made, bob = cancelled(3)
    made.is_true()
    # Nobody was told of the wait: a refusal, and nothing at all.
    bob.outcome = UNKNOWN
    made.is_true()
    made, bob = cancelled(3, period_ms=1000)
    bob.outcome, bob.token, bob.index = NO, 2, 2
    made.is_true()
    for waiter in (0, 4):
        made, bob = cancelled(waiter)
        made.is_caught("once", "at 3 and at 5")
    made, bob = cancelled(3)
    made.rows[4] = Row(5, 1, "address", cluster_ms=5)
    made.is_caught("an answer is final", "the log does not say so")
    made.is_caught(TOLD, "has not got token 6")
    # Too late, when it has got the lock.
    made, bob = cancelled(3)
    made.rows[4] = Row(5, 1, "address", cluster_ms=5)
    made.operations.pop()
    made.operations[3].outcome, made.operations[3].token, made.operations[3].index = WAITING, 3, 6
    made.operations[3].end = 2 * S
    made.is_true()
    made.operations[3].index = 5
    made.is_caught(TOLD, "too late to cancel")
    made.operations[3].outcome, made.operations[3].token = YES, 9
    made.is_caught("an answer is final", "had happened")


def test_who_waits_and_is_ended_while_it_counts_on_its_lease_is_caught():
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S)
    bob = made.wait("bob", "x", 0.2 * S, 0.3 * S)
    made.renew("bob", 3, S, 1.1 * S)
    made.expire("bob", 3, "x")
    made.look(bob, 4.1 * S, 4.2 * S, NO, 4)
    made.is_true()
    made.seen = {4: 3.9 * S}
    made.is_caught("nobody is ended who counts on it", "known at 3.9")
    # But for what it gave up itself, whatever became of that.
    gone = made.tell("bob", RELEASE, "x", 3.5 * S, 9 * S, UNKNOWN, made.handle(), named=3)
    made.is_true()
    gone.kind = CANCEL
    gone.handle = bob.handle
    made.is_true()
    # So it is by the token, which it was not told as who waits; and an operator may take it away at once.
    for kind, client in ((RELEASE, "bob"), (BREAK, "root")):
        made = Made()
        made.accept("alice", PREEMPT, "x", 0, 0.1 * S)
        made.wait("bob", "x", 0.2 * S, 0.3 * S)
        made.hold_ends("alice", RELEASE, "x", 0.7 * S, 0.8 * S, 2)
        ended = made.hold_ends(client, kind, "x", S, 1.1 * S, 4, now=kind == BREAK)
        made.is_true()
        if kind == BREAK:
            ended.now = False
            made.is_caught("nobody is ended who counts on it", "known at 1.1")


def test_beliefs_in_what_came_of_a_queue_that_overlap_are_caught_by_time_alone():
    for begin, caught in ((2.5 * S, True), (3.3 * S, False)):
        made = Made()
        made.accept("alice", PREEMPT, "x", 0, 0.1 * S)
        bob = made.wait("bob", "x", 0.2 * S, 0.3 * S)
        made.hold_ends("alice", RELEASE, "x", 0.7 * S, 0.8 * S, 2)
        made.look(bob, 0.8 * S, 0.9 * S, YES, 4, 4)
        made.tell("dave", PREEMPT, "x", begin, begin + 0.1 * S, YES, made.handle(), token=9, index=9)
        assert caught == any(each.rule == "one owner" for each in made.verdict())
        # What it has kept lasts, and what it gave up by the waiter's name does not.
        kept = made.hold_ends("bob", KEEP, "x", 1.5 * S, 1.6 * S, 4)
        made.is_caught("one owner", "bob and dave believe")
        kept.outcome = UNKNOWN
        assert caught == any(each.rule == "one owner" for each in made.verdict())
        made.tell("bob", RELEASE, "x", 1.7 * S, 1.8 * S, UNKNOWN, made.handle(), named=3)
        assert not any(each.rule == "one owner" for each in made.verdict())


def test_what_is_broken_is_believed_in_until_its_lease_is_over_unless_it_is_broken_at_once():
    for lease, now, kept in ((True, False, False), (True, True, False), (True, False, True), (False, False, False)):
        made = Made()
        made.accept("alice", PREEMPT, "x", 0, 0.1 * S, **({"ttl_ms": 3000} if lease else {}))
        if kept:
            made.hold_ends("alice", KEEP, "x", 0.5 * S, 0.6 * S, 2)
        broken = made.hold_ends("root", BREAK, "x", S, 1.1 * S, 2, now=now)
        made.tell("dave", PREEMPT, "x", 2 * S, 2.1 * S, YES, made.handle(), token=9, index=9)
        at_once = now or kept or not lease
        assert at_once != any(each.rule == "one owner" for each in made.verdict())
        broken.outcome = NO
        made.is_caught("one owner", "alice and dave")


def test_a_lease_that_is_broken_is_renewed_no_more():
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S, ttl_ms=3000)
    no = made.renew("alice", 2, 1.2 * S, 1.3 * S, NO, 3)
    made.hold_ends("root", BREAK, "x", S, 1.1 * S, 2)
    made.is_true()
    no.index = 2
    made.is_caught("sessions", "lives")
    made.operations.remove(no)
    # Nor is it kept.
    no = made.refuse("alice", KEEP, "x", 1.2 * S, 1.3 * S, 3, named=2)
    made.is_true()
    no.index = 2
    made.is_caught("a refusal is true")
    made.operations.remove(no)
    made.renew("alice", 2, 1.2 * S, 1.3 * S)
    made.is_caught("sessions", "was renewed after it was known")


def test_refusals_to_keep_or_to_break_or_to_enter_again_that_are_not_true_are_caught():
    for kind, client, named, right in ((KEEP, "dave", 2, True), (KEEP, "alice", 9, True), (KEEP, "alice", 2, False), (BREAK, "dave", 9, True), (BREAK, "dave", 2, False)):
        made = Made()
        made.accept("alice", PREEMPT, "x", 0, 0.1 * S)
        made.refuse(client, kind, "x", 0.2 * S, 0.3 * S, 2, "alice", 2, named=named)
        if right:
            made.is_true()
        else:
            made.is_caught("a refusal is true")
    # What is held in a session with others can only be broken at once; and who has it there enters it once.
    made = one_session()
    no = made.refuse("root", BREAK, "x", 0.4 * S, 0.5 * S, 3, "alice", 3, named=3, rejected=True)
    again = made.tell("alice", PREEMPT, "x", 0.4 * S, 0.5 * S, REENTERED, made.handle(), token=3, index=3, owner="alice", session=2, wait=True)
    made.is_true()
    no.now = True
    made.is_caught("a refusal is true")
    no.now, again.session = False, 7
    made.is_caught("a refusal is true")


def test_a_hold_that_another_keeps_or_that_is_broken_under_another_token_is_caught():
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S, ttl_ms=3000)
    made.hold_ends("dave", KEEP, "x", 0.2 * S, 0.3 * S, 2)
    made.is_caught("only the owner keeps")
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S)
    made.hold_ends("root", BREAK, "x", 0.2 * S, 0.3 * S, 9)
    made.is_caught("a break is of the hold that was meant")


def test_two_locks_that_one_entry_hands_on_are_of_one_token_and_go_their_own_ways():
    made = Made()
    session = made.accept("alice", OPEN, "", 0, 0.1 * S, ttl_ms=3000).token
    waits = []
    for lock, client in (("x", "bob"), ("y", "carol")):
        made.accept("alice", PREEMPT, lock, 0.1 * S, 0.2 * S, session=session)
        waits.append(made.wait(client, lock, 0.2 * S, 0.3 * S))
    token = made.close("alice", session, 0.4 * S, 0.5 * S).index
    made.look(waits[0], 0.5 * S, 0.6 * S, YES, token, token)
    last = made.hold_ends("bob", RELEASE, "x", 0.7 * S, 0.8 * S, token).index
    made.look(waits[1], 0.8 * S, 0.9 * S, YES, last, token)
    gone = made.look(waits[0], 0.8 * S, 0.9 * S, NO, last)
    made.is_true()
    gone.index -= 1
    made.is_caught(TOLD, "got token")


def test_who_died_and_is_waited_for_is_caught():
    def died(late, *rows):
        """bob waits first and renews once; alice gives it back; so long after his time was over he is ended, and carol has it."""
        made = Made()
        made.accept("alice", PREEMPT, "x", 0, 0.1 * S)
        made.wait("bob", "x", 0.2 * S, 0.3 * S)
        carol = made.wait("carol", "x", 0.4 * S, 0.5 * S)
        made.renew("bob", 3, S, 1.1 * S)
        made.hold_ends("alice", RELEASE, "x", 1.2 * S, 1.3 * S, 2)
        end = 4.1 * S + late
        # The leader is not silent meanwhile, and carol renews.
        for time in range(int(1.3 * S), int(end), int(0.1 * S)):
            if (time - int(1.3 * S)) % S == 0:
                made.renew("carol", 4, time, time + 0.1 * S)
            if "noop" in rows and time > 3 * S:
                break                   # nobody leads
            if "silent" not in rows or time < 1.7 * S or time > 3 * S:
                made.accept("dave", PREEMPT, f"y{time}", time, time + 0.1 * S)
        if "noop" in rows:
            made.rows.append(Row(made.rows[-1].index + 1, 2, "noop", cluster_ms=made.rows[-1].index, wall_ms=int((end - 3.5 * S) / 1e6)))
        index = made.expire("bob", 3, "x", wall_ms=int(end / 1e6), **({"term": 2} if "noop" in rows else {})).index
        made.look(carol, end, end + 0.1 * S, YES, index, index)
        made.timed()
        return made
    died(S).is_true()
    died(LATE_NS + S).is_caught("nobody is waited for who does not renew", "session 3 of bob")
    # A new leader counts anew, and so does one that stood still.
    died(LATE_NS + S, "silent").is_true()
    made = died(2 * LATE_NS, "noop")
    made.is_true()
    made.renew("bob", 3, 3.2 * S, 3.3 * S)
    made.is_true()
    made = died(LATE_NS + 0.5 * S)
    made.tell("bob", RENEW, "", 1.2 * S, 0, UNKNOWN, session=3, ttl_ms=3000)
    made.is_true()
    made = died(LATE_NS + S)
    made.realtime = None
    made.is_true()


def one_period():
    """alice has had x once in 1000 ms, from 1000 on; bob waits for it so and is granted it at 2000, by an entry of the leader's."""
    made = Made()
    made.row(PREEMPT, "x", "alice", period_ms=1000)
    made.row(RELEASE, "x", "alice", 2)
    bob = made.wait("bob", "x", 0.2 * S, 0.3 * S, period_ms=1000)
    made.row(GRANT, "x", "bob")
    for index, cluster_ms in ((2, 1000), (3, 1100), (4, 1200), (5, 2000)):
        made.change(made.rows[index - 1], cluster_ms=cluster_ms)
    return made, bob


def test_who_wants_it_once_and_is_told_otherwise_than_it_is_is_caught():
    made, bob = one_period()
    early = made.look(bob, 0.4 * S, 0.5 * S, NO, 4, 2)
    made.look(bob, 0.6 * S, 0.7 * S, YES, 5, 5)
    no = made.refuse("carol", PREEMPT, "x", 0.1 * S, 0.2 * S, 3, token=2, period_ms=500, ttl_ms=3000, wait=True)
    made.is_true()
    no.token = 3
    made.is_caught("a refusal is true", "does not come too soon after 3")
    no.token, no.period_ms = 2, 100
    made.is_caught("a refusal is true", "does not come too soon after 2")
    no.period_ms, early.index = 500, 5
    made.is_caught(TOLD, "it waits no more")
    # It comes too soon itself.
    made, bob = one_period()
    made.change(made.rows[4], cluster_ms=1999)
    made.look(bob, 0.6 * S, 0.7 * S, YES, 5, 5)
    made.is_caught(TOLD, "has not got")


def test_who_leaves_lets_those_behind_in():
    for ends in (RELEASE, EXPIRE):
        made, bob = one_period()
        made.rows.pop()
        carol = made.wait("carol", "x", 0.4 * S, 0.5 * S)
        # Both may have it: bob by an entry of the leader's, which he does not wait for.
        made.change(made.rows[4], cluster_ms=2100)
        index = made.give_up(bob, 0.6 * S, 0.7 * S).index if ends == RELEASE else made.expire("bob", bob.token, "x").index
        made.change(made.rows[-1], cluster_ms=2200)
        made.look(carol, 0.8 * S, 0.9 * S, YES, index, index)
        if ends == RELEASE:
            made.is_true()
        else:
            made.is_caught("nobody is ended who counts on it")
            assert len(made.verdict()) == 1, made.verdict()


def test_a_lock_that_is_free_while_somebody_may_have_it_is_caught():
    made, bob = one_period()
    made.change(made.rows[4], cluster_ms=2000 + LATE_NS // 10**6)
    made.is_true()
    made.change(made.rows[4], cluster_ms=2001 + LATE_NS // 10**6)
    made.is_caught("nothing is free that somebody waits for")


def test_the_place_of_who_waits_twice_or_ends_with_its_session_is_kept_true():
    """Two waits and a hold in one session, which is closed: all of it is gone with that row, and the next one is served."""
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S)
    session = made.accept("bob", OPEN, "", 0.1 * S, 0.2 * S, ttl_ms=3000).token
    x = made.wait("bob", "x", 0.2 * S, 0.3 * S, session=session)
    made.accept("bob", PREEMPT, "y", 0.3 * S, 0.4 * S, session=session)
    carol = made.wait("carol", "y", 0.4 * S, 0.5 * S)
    closed = made.close("bob", session, 0.6 * S, 0.7 * S).index
    got = made.look(carol, 0.8 * S, 0.9 * S, YES, closed, closed)
    gone = made.look(x, 0.8 * S, 0.9 * S, NO, closed)
    made.is_true()
    gone.index = closed - 1
    made.is_caught(TOLD, "it waits")
    gone.index, got.outcome, got.token = closed, WAITING, carol.token
    made.is_caught(TOLD, "waits no more")
    made.row(WAIT, "z", "bob", session=session, handle=made.handle())
    made.is_caught("sessions", "waits for z")


def delayed(**more):
    """A lease of alice's of x, with a delay of 4 entries, which expires. Cluster time is the index."""
    made = Made()
    grant = made.accept("alice", PREEMPT, "x", 0, 0.1 * S, ttl_ms=3000, delay_ms=4, **more)
    made.expire("alice", grant.token, "x")
    return made, grant


def test_a_delay_keeps_all_from_what_was_lost_until_it_is_over():
    made, _ = delayed()
    for _ in range(3):
        made.row("address", "", "")
    made.accept("bob", PREEMPT, "x", 5 * S, 5.1 * S)
    made.is_true()
    made, _ = delayed()
    made.accept("bob", PREEMPT, "x", 5 * S, 5.1 * S)
    made.is_caught("what was lost is left alone", "before its lock-delay is over")


def test_what_was_given_back_is_delayed_by_nothing():
    made = Made()
    grant = made.accept("alice", PREEMPT, "x", 0, 0.1 * S, ttl_ms=3000, delay_ms=4)
    made.hold_ends("alice", RELEASE, "x", 0.2 * S, 0.3 * S, grant.token)
    made.accept("bob", PREEMPT, "x", 1 * S, 1.1 * S)
    made.is_true()
    made = Made()
    opened = made.accept("alice", OPEN, "", 0, 0.1 * S, ttl_ms=3000, delay_ms=4)
    made.accept("alice", PREEMPT, "x", 0.2 * S, 0.3 * S, session=opened.token)
    made.close("alice", opened.token, 0.4 * S, 0.5 * S)
    made.accept("bob", PREEMPT, "x", 1 * S, 1.1 * S)
    made.is_true()


def test_who_waits_in_a_delay_is_let_in_by_an_entry_of_the_leaders():
    made, _ = delayed()
    wait = made.wait("bob", "x", 5 * S, 5.1 * S)
    made.row("address", "", "")
    made.row("address", "", "")
    granted = made.row(GRANT, "x", "bob")
    made.look(wait, 5.2 * S, 5.3 * S, YES, granted.index, granted.index)
    made.is_true()
    # The leader says so too early, and it gets nothing.
    made, _ = delayed()
    wait = made.wait("bob", "x", 5 * S, 5.1 * S)
    granted = made.row(GRANT, "x", "bob")
    made.look(wait, 5.2 * S, 5.3 * S, YES, granted.index, granted.index)
    made.is_caught("who waits is told how it stands", "has not got")


def test_a_refusal_for_a_delay_must_be_true():
    made, grant = delayed()
    made.refuse("bob", PREEMPT, "x", 5 * S, 5.1 * S, made.rows[-1].index, token=grant.token, free_in_ms=3)
    made.is_true()
    for _ in range(4):
        made.row("address", "", "")
    made.refuse("bob", PREEMPT, "x", 6 * S, 6.1 * S, made.rows[-1].index, token=grant.token, free_in_ms=1)
    made.is_caught("a refusal is true", "not in a lock-delay")
    made, grant = delayed()
    made.refuse("bob", PREEMPT, "x", 5 * S, 5.1 * S, made.rows[-1].index, token=grant.token + 1, free_in_ms=3)
    made.is_caught("a refusal is true", "not in a lock-delay")


# --- who holds a lock together with others ---

def one_pool(slots=2):
    """alice and bob have x as two of so many; carol waits for it so, and dave alone; alice gives hers back, and then bob."""
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S, slots=slots)
    made.accept("bob", PREEMPT, "x", 0.2 * S, 0.3 * S, slots=slots)
    made.check("erin", "x", 0.2 * S, 0.3 * S, 3, "bob", 3)
    dave = made.wait("dave", "x", 0.3 * S, 0.4 * S)
    carol = made.wait("carol", "x", 0.4 * S, 0.5 * S, slots=slots)
    made.hold_ends("alice", RELEASE, "x", 0.7 * S, 0.8 * S, 2)
    made.refuse("erin", PREEMPT, "x", 0.9 * S, S, 6, "bob", 3, slots=slots)
    made.hold_ends("bob", RELEASE, "x", S, 1.1 * S, 3)
    made.look(dave, 1.2 * S, 1.3 * S, YES, 7, 7)
    made.look(carol, 1.2 * S, 1.3 * S, WAITING, 7)
    return made


def test_a_true_history_of_a_lock_that_is_held_together_is_let_pass():
    for slots in (2, SHARED):
        one_pool(slots).is_true()
    made = one_pool()
    made.operations[-2].token = 6
    made.is_caught(TOLD, "has not got")
    # At the end there are two.
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S, slots=2)
    made.accept("bob", PREEMPT, "x", 0.2 * S, 0.3 * S, slots=2)
    made.maps = {"leader": {"x": [("alice", 2), ("bob", 3)]}}
    made.is_true()
    made.maps["leader"]["x"].pop()
    made.is_caught("equal maps")


def test_more_than_may_have_it_together_and_others_beside_them_are_caught():
    for slots, caught in ((2, True), (3, False), (SHARED, False)):
        for other in (slots, 0, 4):
            made = Made()
            for number, client in enumerate(("alice", "bob", "carol")):
                made.accept(client, PREEMPT, "x", number * S, (number + 0.5) * S, slots=other if client == "carol" else slots)
            found = {each.text.split()[3] for each in made.verdict() if each.rule == "one owner"}
            # By the log, and by what they believe alone.
            assert len(found) == 2 * (caught or other != slots), (slots, other, made.verdict())
    made = one_pool()
    made.operations[1].slots = 3
    made.is_caught("once", "not what was asked for")
    # What it gave back, or has no more, is not in the way of anybody.
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S, slots=2, ttl_ms=3000)
    made.accept("bob", PREEMPT, "x", 0.2 * S, 0.3 * S, slots=2)
    made.expire("alice", 2, "x")
    made.accept("carol", PREEMPT, "x", 4 * S, 4.1 * S, slots=2)
    made.is_true()


def test_who_has_a_lock_twice_and_gives_back_the_first_hold_believes_in_the_second_only():
    for first_goes in (True, False):
        made = Made()
        for number in range(2):
            made.accept("alice", OPEN, "", number * S, (number + 0.1) * S, ttl_ms=10000)
            made.accept("alice", PREEMPT, "x", (number + 0.2) * S, (number + 0.3) * S, session=2 * number + 2, slots=2)
        if first_goes:
            made.hold_ends("alice", RELEASE, "x", 2 * S, 2.1 * S, 3)
        made.tell("bob", PREEMPT, "x", 3 * S, 3.1 * S, YES, made.handle(), token=99, index=99, slots=2)
        assert first_goes != any("believe" in each.text for each in made.verdict()), made.verdict()


def test_who_shares_and_passes_one_that_waits_alone_is_caught():
    made = one_pool()
    made.rows[6:] = []
    made.operations[6:] = []
    made.accept("erin", PREEMPT, "x", 2 * S, 2.1 * S, slots=2)
    made.is_caught("nobody comes before who waits", "dave waits for it since 4")
    # With nobody in the way it is let in, and a refusal is not true.
    made = Made()
    made.accept("alice", PREEMPT, "x", 0, 0.1 * S, slots=2)
    no = made.refuse("bob", PREEMPT, "x", 0.2 * S, 0.3 * S, 2, "alice", 2, slots=2)
    made.is_caught("a refusal is true")
    no.slots = 3
    made.is_true()
    no.owner = "carol"
    made.is_caught("a refusal is true")


def test_a_check_of_a_lock_that_is_held_together_names_one_of_them():
    for owner, token, right in (("alice", 2, True), ("bob", 3, True), ("bob", 2, False), ("", 0, False)):
        made = Made()
        made.accept("alice", PREEMPT, "x", 0, 0.1 * S, slots=SHARED)
        made.accept("bob", PREEMPT, "x", 0.2 * S, 0.3 * S, slots=SHARED)
        made.check("carol", "x", 0.4 * S, 0.5 * S, 3, owner, token)
        if right:
            made.is_true()
        else:
            made.is_caught("a check is true")


def test_rows_are_read_from_their_bodies():
    def text(value):
        return bytes([len(value)]) + value.encode()
    body = b"\1" + bytes(range(16)) + struct.pack("<Q", 7) + text("alice") + text("uid:0") + text("x") + struct.pack("<Q", 3)
    row = history.row_of((4, 2, RELEASE, "x", "alice", 3, 99, 1000, body))
    assert (row.handle, row.seq, row.token) == (bytes(range(16)), 7, 3)
    # A preempt ends with who holds the lock, and its token is its index.
    granted = history.row_of((3, 2, PREEMPT, "x", "alice", 3, 98, 1000, body[:-8] + struct.pack("<QIIQHBH", 0, 5000, 700, 0, 0, 0, 2) + b"ab"))
    assert (granted.kind, granted.lock, granted.token, granted.session, granted.ttl_ms, granted.wall_ms) == (PREEMPT, "x", 3, 0, 5000, 1000)
    nobody = b"\1" + bytes(24) + text("alice") + text("uid:0") + struct.pack("<Q", 3)
    ended = history.row_of((4, 2, EXPIRE, "x", "alice", 3, 99, 1000, nobody + text("x")))
    assert (ended.lock, ended.client, ended.session, ended.handle) == ("x", "alice", 3, b"")
    opened = history.row_of((4, 2, OPEN, None, "alice", 4, 99, 1000, body[:-10] + struct.pack("<IIH", 5000, 700, 2) + b"ab"))
    assert (opened.session, opened.ttl_ms) == (0, 5000)
    closed = history.row_of((4, 2, CLOSE, None, "alice", 3, 99, 1000, body[:-10] + struct.pack("<Q", 3)))
    assert (closed.session, closed.handle) == (3, bytes(range(16)))
    start, nobody = body[:-8], b"\1" + bytes(24) + text("alice") + text("uid:0")
    waits = history.row_of((4, 2, WAIT, "x", "alice", 0, 99, 1000, start + struct.pack("<QIIQHB", 0, 5000, 700, 7000, 4, 1) + text("y") + struct.pack("<H", 0)))
    assert (waits.kind, waits.token, waits.ttl_ms, waits.period_ms, waits.delay_ms, waits.slots, waits.further, waits.handle) == (WAIT, 0, 5000, 7000, 700, 4, ("y",), bytes(range(16)))
    for kind in (LEAVE, KEEP):
        assert history.row_of((4, 2, kind, "x", "alice", 3, 99, 1000, body)).token == 3
    cancelled = history.row_of((4, 2, CANCEL, "x", "alice", None, 99, 1000, body))
    assert (cancelled.token, cancelled.waiter) == (0, 3)
    broken = history.row_of((4, 2, BREAK, "x", "alice", 3, 99, 1000, body + b"\1" + struct.pack("<H", 0)))
    assert (broken.token, broken.now) == (3, True)
    assert history.row_of((4, 2, GRANT, "x", "alice", None, 99, 1000, nobody + text("x"))).handle == b""
    nobody += struct.pack("<Q", 3)
    for wrong in ((4, 2, RELEASE, "y", "alice", 3, 99, 1000, body), (4, 2, RELEASE, "x", "bob", 3, 99, 1000, body), (4, 2, RELEASE, "x", "alice", 2, 99, 1000, body),
                  (4, 2, EXPIRE, "x", "alice", 4, 99, 1000, nobody + text("x")), (4, 2, EXPIRE, None, "alice", 3, 99, 1000, nobody + text("x")),
                  (4, 2, CLOSE, None, "alice", 3, 99, 1000, nobody)):
        try:
            history.row_of(wrong)
        except AssertionError:
            continue
        raise AssertionError("columns that differ from the body were believed")
