"""The judge of histories: it lets true ones pass, and catches every kind of wrong one."""
import random
import struct

import history
from history import CANCEL, CHECK, CLOSE, EXPIRE, FREED_AT_ONCE, NO, OPEN, PREEMPT, RELEASE, RENEW, UNKNOWN, YES, Log, Operation, Row, judge

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
    made.maps = {"leader": {"x": ("bob", second.token)}}
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
    for listed in ({}, {"x": ("alice", 2)}, {"x": ("bob", 4), "y": ("bob", 4)}):
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
    made.maps = {"leader": {last: ("alice", end - 1)}}
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
        made.maps = {"leader": {lock: ("alice", grant.token)} if lock else {}}
        made.is_caught("what nobody renews is free")


def test_rows_are_read_from_their_bodies():
    def text(value):
        return bytes([len(value)]) + value.encode()
    body = b"\1" + bytes(range(16)) + struct.pack("<Q", 7) + text("alice") + text("uid:0") + text("x") + struct.pack("<Q", 3)
    row = history.row_of((4, 2, RELEASE, "x", "alice", 3, 99, 1000, body))
    assert (row.handle, row.seq, row.token) == (bytes(range(16)), 7, 3)
    # A preempt ends with who holds the lock, and its token is its index.
    granted = history.row_of((3, 2, PREEMPT, "x", "alice", 3, 98, 1000, body[:-8] + struct.pack("<QIQH", 0, 5000, 0, 2) + b"ab"))
    assert (granted.kind, granted.lock, granted.token, granted.session, granted.ttl_ms, granted.wall_ms) == (PREEMPT, "x", 3, 0, 5000, 1000)
    nobody = b"\1" + bytes(24) + text("alice") + text("uid:0") + struct.pack("<Q", 3)
    ended = history.row_of((4, 2, EXPIRE, "x", "alice", 3, 99, 1000, nobody + text("x")))
    assert (ended.lock, ended.client, ended.session, ended.handle) == ("x", "alice", 3, b"")
    opened = history.row_of((4, 2, OPEN, None, "alice", 4, 99, 1000, body[:-10] + struct.pack("<IH", 5000, 2) + b"ab"))
    assert (opened.session, opened.ttl_ms) == (0, 5000)
    closed = history.row_of((4, 2, CLOSE, None, "alice", 3, 99, 1000, body[:-10] + struct.pack("<Q", 3)))
    assert (closed.session, closed.handle) == (3, bytes(range(16)))
    for wrong in ((4, 2, RELEASE, "y", "alice", 3, 99, 1000, body), (4, 2, RELEASE, "x", "bob", 3, 99, 1000, body), (4, 2, RELEASE, "x", "alice", 2, 99, 1000, body),
                  (4, 2, EXPIRE, "x", "alice", 4, 99, 1000, nobody + text("x")), (4, 2, EXPIRE, None, "alice", 3, 99, 1000, nobody + text("x")),
                  (4, 2, CLOSE, None, "alice", 3, 99, 1000, nobody)):
        try:
            history.row_of(wrong)
        except AssertionError:
            continue
        raise AssertionError("columns that differ from the body were believed")
