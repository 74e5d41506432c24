"""The judge of histories: it lets true ones pass, and catches every kind of wrong one."""
import random
import struct

import history
from history import CANCEL, CHECK, NO, PREEMPT, RELEASE, UNKNOWN, YES, Log, Operation, Row, judge


class Made:
    """A history put together by hand: a log, and operations of clients on it. One unit of time is as good as another."""

    def __init__(self):
        self.rows = [Row(1, 1, "noop")]
        self.operations = []
        self.maps = {}
        self.serial = 0

    def handle(self):
        self.serial += 1
        return self.serial.to_bytes(16, "big")

    def row(self, kind, lock, client, token=0, handle=b"", term=1):
        index = self.rows[-1].index + 1
        self.rows.append(Row(index, term, kind, lock, client, token or index, index, handle, 1))
        return self.rows[-1]

    def tell(self, client, kind, lock, begin, end, outcome, handle=b"", **more):
        self.operations.append(Operation(client, kind, lock, begin, end, outcome, handle=handle, seq=1, **more))
        return self.operations[-1]

    def accept(self, client, kind, lock, begin, end, token=0, outcome=YES):
        """Logged, and told so."""
        handle = self.handle()
        row = self.row(kind, lock, client, token, handle)
        return self.tell(client, kind, lock, begin, end, outcome, handle, token=row.token, index=row.index)

    def refuse(self, client, kind, lock, begin, end, index, owner="", token=0):
        return self.tell(client, kind, lock, begin, end, NO, self.handle(), index=index, owner=owner, token=token)

    def check(self, client, lock, begin, end, index, owner="", token=0, **more):
        return self.tell(client, CHECK, lock, begin, end, YES if owner else NO, index=index, owner=owner, token=token, **more)

    def verdict(self):
        log = Log()
        log.add("leader", self.rows)
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


def test_rows_are_read_from_their_bodies():
    def text(value):
        return bytes([len(value)]) + value.encode()
    body = b"\1" + bytes(range(16)) + struct.pack("<Q", 7) + text("alice") + text("uid:0") + text("x") + struct.pack("<Q", 3)
    row = history.row_of((4, 2, RELEASE, "x", "alice", 3, 99, body))
    assert (row.handle, row.seq, row.token) == (bytes(range(16)), 7, 3)
    # A preempt ends with who holds the lock, and its token is its index.
    granted = history.row_of((3, 2, PREEMPT, "x", "alice", 3, 98, body[:-8] + struct.pack("<QIQH", 0, 5000, 0, 2) + b"ab"))
    assert (granted.kind, granted.lock, granted.token) == (PREEMPT, "x", 3)
    for wrong in ((4, 2, RELEASE, "y", "alice", 3, 99, body), (4, 2, RELEASE, "x", "bob", 3, 99, body), (4, 2, RELEASE, "x", "alice", 2, 99, body)):
        try:
            history.row_of(wrong)
        except AssertionError:
            continue
        raise AssertionError("columns that differ from the body were believed")
