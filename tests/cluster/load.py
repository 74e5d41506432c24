"""Clients that write down what they ask and what they are told. They do as libdlock does: whoever gets no answer, or "unknown",
asks another node the same under the same request id, until the patience ends; then it is unknown for good. A refusal is
told only when no other copy of the request is under way, or when it is cancelled. What lives for a time is renewed after a third of
it, through whichever node answers; its deadline counts from before the request was sent, and is 1 % less. Who waits in a queue asks one node
after the other how it stands, and who waits no longer gives up its waiter, whatever has become of that."""
import copy
import os
import random
import threading
import time

import wire
from history import AGAIN, AWAIT, BREAK, CANCEL, CHECK, CLOSE, KEEP, NO, OPEN, PREEMPT, REENTERED, RELEASE, RENEW, SHARED, UNKNOWN, WAITING, YES, Operation, life_ns

KINDS = {PREEMPT: wire.PREEMPT, RELEASE: wire.RELEASE, CANCEL: wire.CANCEL, OPEN: wire.OPEN, CLOSE: wire.CLOSE, KEEP: wire.KEEP, BREAK: wire.BREAK, AGAIN: wire.PREEMPT}
OUTCOMES = {wire.YES: YES, wire.WAITING: WAITING, wire.REENTERED: REENTERED, wire.NO: NO, wire.REJECTED: NO}
# Of most clients, and of the others, who learn what "unknown" is.
PATIENCE_S, LITTLE_PATIENCE_S = 15, 0.3
# Of sessions and leases: a failover fits in.
TTLS_MS = [2500, 3000]
# For which nobody gets what is lost.
DELAYS_MS = [0, 0, 400, 1500]
# More than a row frees, twice.
HOARD = 150
# Of those who want a lock once in so long.
PERIODS_MS = [1000, 1500]
# Of locks that are mostly held together, and now and then by one alone: by how many.
TOGETHER = {"readers": SHARED, "pool": 3}


class Client(threading.Thread):
    """servers: [(name, address)], where the first is asked first."""

    def __init__(self, name, servers, network, dice):
        super().__init__(daemon=True)
        self.name, self.servers, self.network, self.dice = name, servers, network, dice
        self.patience_s = LITTLE_PATIENCE_S if dice.random() < 0.3 else PATIENCE_S
        self.connection, self.server = None, 0
        self.handle, self.seq = os.urandom(16), 0
        self.min_index, self.learned_by = 0, None       # the highest index that it was told of, and the connection by which
        self.lock = threading.Lock()                    # of these two
        self.operations = []
        self.error = None

    # --- the conversation ---

    def leave(self):
        """For the next server."""
        if self.connection:
            self.connection.close()
            self.connection = None
        self.server = (self.server + 1) % len(self.servers)

    def attempt(self, kind, operation, deadline):
        """One question to one server: its answer, or None."""
        name, address = self.servers[self.server]
        patience = min(self.dice.uniform(1, 3), max(0.05, deadline - time.monotonic()))
        deadline_ms = int(patience * 1000)
        try:
            if not self.connection:
                self.connection = wire.Connection(address, self.name, timeout=1)
            self.connection.socket.settimeout(patience + 0.5)
            if kind == CHECK:
                # Where it learned of its own change, it may read that without asking for so much.
                min_index = 0 if self.connection is self.learned_by and self.dice.random() < 0.5 else operation.min_index
                return self.connection.check(operation.lock, min_index, deadline_ms, operation.consistent)
            if kind == AWAIT:
                return self.connection.await_grant(operation.lock, operation.named, deadline_ms)
            operation.copies += kind != CANCEL
            return self.connection.change(KINDS[kind], operation.lock, operation.handle, operation.seq, deadline_ms=deadline_ms, token=operation.named,
                                          session=operation.session, ttl_ms=operation.ttl_ms, delay_ms=operation.delay_ms, period_ms=operation.period_ms, slots=operation.slots,
                                          wait=operation.wait, now=operation.now)
        except (OSError, wire.Closed, wire.Refused) as error:
            operation.tries.append(f"{name}: {type(error).__name__}")
            return None

    def attempts(self, kind, operation, deadline):
        """One server after the other: an answer that stands, or None."""
        while time.monotonic() < deadline:
            result = self.attempt(kind, operation, deadline)
            # In a session that has ended nothing is granted, and what is held with others is only broken at once.
            may_be_rejected = operation.session or kind == BREAK
            if result and (result.outcome in (wire.YES, wire.NO, wire.WAITING, wire.REENTERED) or (result.outcome == wire.REJECTED and may_be_rejected)):
                return result
            assert not result or result.outcome == wire.UNKNOWN, f"{self.name} asks to {kind} {operation.lock}: {result}"
            if result:
                operation.tries.append(f"{self.servers[self.server][0]}: unknown, {result.reason}")
            self.leave()
            if len(operation.tries) % len(self.servers) == 0:
                time.sleep(0.025)
        return None

    def ask(self, kind, lock="", token=0, consistent=False, **more):
        """token: of the hold that a release gives up, or the waiter."""
        operation = Operation(self.name, kind, lock, time.monotonic_ns(), min_index=self.min_index, named=token, **more)
        if kind == CHECK:
            operation.consistent = consistent or self.dice.random() < 0.2
        else:
            self.seq += 1
            operation.handle, operation.seq = self.handle, self.seq
        self.operations.append(operation)
        deadline = time.monotonic() + self.patience_s
        result = self.attempts(kind, operation, deadline)
        if result:
            end = time.monotonic_ns()
            # A late copy of a close does no harm.
            if result.outcome not in (wire.YES, wire.WAITING) and operation.copies > 1 and kind in (PREEMPT, RELEASE, KEEP, BREAK):
                result, end = self.cancel(operation, deadline, result, end)
            if result:
                self.take(operation, result, end)
        # Nodes know a handle by its last accepted request.
        if kind != CHECK and operation.outcome not in (YES, WAITING):
            self.handle, self.seq = os.urandom(16), 0
        return operation

    def cancel(self, operation, deadline, refusal, end):
        """What is true of a refused request that was sent more than once, and since when; (None, None): nobody knows."""
        result = self.attempts(CANCEL, operation, deadline)
        operation.tries.append(f"refused at {refusal.index}, cancel: {result}")
        if not result:
            return None, None
        assert result.outcome in (wire.YES, wire.WAITING), result
        return (result, time.monotonic_ns()) if result.token else (refusal, end)

    def take(self, operation, result, end):
        operation.token, operation.index, operation.owner = result.token, result.index, result.owner
        operation.outcome, operation.end = OUTCOMES[result.outcome], end
        operation.rejected, operation.free_in_ms = result.outcome == wire.REJECTED, result.free_in_ms
        self.learn(result.index, self.connection)

    def learn(self, index, connection):
        with self.lock:
            if index >= self.min_index:
                self.min_index, self.learned_by = index, connection

    # --- the life ---

    def run(self):
        try:
            self.network.enter()
            self.live()
        except Exception as error:
            self.error = error
        finally:
            if self.connection:
                self.connection.close()

    def live(self):
        raise NotImplementedError


class Worker(Client):
    """Wants a few locks that others want too, keeps them for a moment, looks, and lets go."""

    def __init__(self, number, servers, network, dice, locks, until):
        super().__init__(f"client-{number}", servers, network, dice)
        self.locks, self.until = locks, until
        self.former = {}                                # lock: the token of its last hold

    def live(self):
        while not self.until.is_set():
            if self.dice.random() < 0.03:
                self.leave()
            self.cycle(self.dice.choice(self.locks))
            self.until.wait(self.dice.uniform(0, 0.02))

    def cycle(self, lock):
        got = self.ask(PREEMPT, lock)
        if got.outcome == UNKNOWN:
            # It may have been granted: under which token only a check can tell.
            got = self.ask(CHECK, lock, consistent=True)
            if got.outcome == YES and got.owner == self.name:
                self.ask(RELEASE, lock, got.token)
            return
        if got.outcome == NO:
            # Its own, by a request that was unknown: it lets go. Or one of others, which may refuse it too.
            if got.owner == self.name or self.dice.random() < 0.05:
                self.ask(RELEASE, lock, got.token)
            else:
                self.ask(CHECK, lock)
            return
        # At once, where it was granted; later, perhaps elsewhere.
        if self.dice.random() < 0.2:
            self.ask(CHECK, lock)
        self.until.wait(self.dice.uniform(0, 0.02))
        if self.dice.random() < 0.2:
            if self.dice.random() < 0.3:
                self.leave()
            self.ask(CHECK, lock)
        # What is over already: it must not take what came after.
        if lock in self.former and self.dice.random() < 0.1:
            self.ask(RELEASE, lock, self.former[lock])
        self.former[lock] = got.token
        self.ask(RELEASE, lock, got.token)


class Hold:
    """A session or lease as its client sees it."""

    def __init__(self, opened):
        self.session, self.ttl_ms = opened.token, opened.ttl_ms
        self.deadline = opened.begin + life_ns(self.ttl_ms)
        self.renew_at = opened.begin + self.ttl_ms * 10**6 // 3
        self.lost = False

    def lives(self):
        return not self.lost and time.monotonic_ns() < self.deadline


class Keeper(Client):
    """Renews what a client holds, beside it."""

    def __init__(self, client, dice, until):
        super().__init__(client.name, list(client.servers), client.network, dice)
        self.client, self.until = client, until
        self.server = dice.randrange(len(self.servers))
        self.holds, self.ghosts = [], []                # replaced, not changed; ghosts are renewed once

    def keep(self, opened):
        hold = Hold(opened)
        with self.lock:
            self.holds = [*self.holds, hold]
        return hold

    def drop(self, hold):
        with self.lock:
            self.holds = [each for each in self.holds if each is not hold]

    def haunt(self, hold):
        with self.lock:
            self.ghosts = [*self.ghosts, hold]

    def live(self):
        while not self.until.wait(0.02):
            for hold in self.holds:
                if hold.lost or time.monotonic_ns() >= hold.deadline:
                    hold.lost = True
                    self.drop(hold)
                elif time.monotonic_ns() >= hold.renew_at and not self.until.is_set():
                    self.renew(hold)
            with self.lock:
                ghosts, self.ghosts = self.ghosts, []
            for ghost in ghosts:
                self.renew(ghost)

    def renew(self, hold):
        """Through one node; if that does not answer in a tenth of the time, the next is asked in the next turn."""
        if self.dice.random() < 0.1:
            self.leave()
        patience_ms = hold.ttl_ms // 10
        name, address = self.servers[self.server]
        try:
            if not self.connection:
                self.connection = wire.Connection(address, self.name, timeout=2 * patience_ms / 1000)
        except (OSError, wire.Closed, wire.Refused):
            self.leave()
            return
        operation = Operation(self.name, RENEW, "", time.monotonic_ns(), session=hold.session, ttl_ms=hold.ttl_ms)
        self.operations.append(operation)
        try:
            self.connection.socket.settimeout(2 * patience_ms / 1000)
            result = self.connection.renew(hold.session, deadline_ms=patience_ms)
        except (OSError, wire.Closed, wire.Refused) as error:
            operation.tries.append(f"{name}: {type(error).__name__}")
            self.leave()
            return
        assert result.outcome != wire.REJECTED, result
        if result.outcome == wire.UNKNOWN:
            operation.tries.append(f"{name}: unknown, {result.reason}")
            self.leave()
            return
        # Before it is told: what the client asks from then on may not go back behind it.
        self.client.learn(result.index, None)
        operation.token, operation.index, operation.owner = result.token, result.index, result.owner
        operation.outcome, operation.end = YES if result.outcome == wire.YES else NO, time.monotonic_ns()
        hold.lost = hold.lost or operation.outcome == NO or operation.end >= hold.deadline
        if operation.outcome == YES and not hold.lost:
            hold.deadline = max(hold.deadline, operation.begin + life_ns(hold.ttl_ms))
            hold.renew_at = operation.begin + hold.ttl_ms * 10**6 // 3


class Lessee(Worker):
    """What it holds lives for a time. It renews that, and sometimes it dies: it renews no more, and says nothing."""

    def __init__(self, number, servers, network, dice, locks, until, hurry):
        super().__init__(number, servers, network, dice, locks, until)
        self.hurry = hurry
        # Of their own too, so that who holds for long is not in everybody's way.
        self.locks = locks + [*TOGETHER] * (len(locks) // 4) + [f"lease/{place}" for place in range(2 * len(locks))]
        self.keeper = Keeper(self, random.Random(dice.random()), until)
        self.past = []                                  # sessions that it has not closed, and does not renew

    def run(self):
        self.keeper.start()
        super().run()
        self.keeper.join()

    def cycle(self, lock):
        if self.past and self.dice.random() < 0.05:
            self.haunt()
        if self.dice.random() < 0.1:
            super().cycle(lock)
        elif self.dice.random() < 0.5:
            self.lease(lock)
        else:
            self.session()

    def stay(self, hold):
        """For a moment, or so long that it must be renewed; and no longer than it lives."""
        longest = 0.05 if self.dice.random() < 0.8 else 1.5 * hold.ttl_ms / 1000
        end = time.monotonic() + self.dice.uniform(0, longest)
        while hold.lives() and time.monotonic() < end and not self.hurry.is_set() and not self.until.wait(0.02):
            pass

    def dies(self):
        return self.dice.random() < 0.25 and not self.hurry.is_set()

    def slots(self, lock):
        return TOGETHER.get(lock, 0) if self.dice.random() < 0.8 else 0

    def lease(self, lock):
        got = self.ask(PREEMPT, lock, slots=self.slots(lock), ttl_ms=self.dice.choice(TTLS_MS), delay_ms=self.dice.choice(DELAYS_MS))
        if got.outcome != YES:
            if got.outcome == NO and got.owner == self.name and self.dice.random() < 0.5:
                self.ask(RELEASE, lock, got.token)
            return
        hold = self.keeper.keep(got)
        self.stay(hold)
        self.keeper.drop(hold)
        if self.dies():
            self.past.append(hold)
        else:
            self.ask(RELEASE, lock, got.token)

    def session(self):
        opened = self.ask(OPEN, ttl_ms=self.dice.choice(TTLS_MS), delay_ms=self.dice.choice(DELAYS_MS))
        if opened.outcome != YES:
            return
        hold = self.keeper.keep(opened)
        for lock in self.dice.sample(self.locks, self.dice.randrange(4)):
            got = self.ask(PREEMPT, lock, slots=self.slots(lock), session=hold.session)
            if got.outcome == YES:
                self.stay(hold)
                if self.dice.random() < 0.3:
                    self.ask(RELEASE, lock, got.token)
        if self.dice.random() < 0.1:
            self.hoard(hold)
        self.keeper.drop(hold)
        if self.dies():
            self.past.append(hold)
        else:
            self.ask(CLOSE, session=hold.session)

    def hoard(self, hold):
        """More than a row frees."""
        for place in range(HOARD):
            if not hold.lives() or self.hurry.is_set() or self.ask(PREEMPT, f"hoard/{self.name}/{place}", session=hold.session).outcome != YES:
                return

    def haunt(self):
        """It comes back to what it left, which has ended or will soon; or takes what may be another's for its own."""
        hold = copy.copy(self.past.pop(self.dice.randrange(len(self.past))))
        if self.dice.random() < 0.2:
            hold.session += self.dice.choice([-1, 1])
            hold.lost = True
        kind = self.dice.choice([PREEMPT, RENEW, CLOSE])
        if kind == RENEW:
            self.keeper.haunt(hold)
        else:
            self.ask(kind, self.dice.choice(self.locks) if kind == PREEMPT else "", session=hold.session)


class Queuer(Lessee):
    """Waits for locks: in a lease, or for some at once in a session. It may run out of patience, call it off, or die at any moment; it may keep what it
    got beyond its lease, and break what others have."""

    def __init__(self, number, servers, network, dice, locks, until, hurry):
        super().__init__(number, servers, network, dice, locks, until, hurry)
        # Every second time one of two, so that these have long queues, for which others try in vain.
        self.locks = locks + [*locks[:2], *TOGETHER] * (len(locks) // 2)

    def cycle(self, lock):
        if self.past and self.dice.random() < 0.05:
            self.haunt()
        what = self.dice.random()
        if what < 0.1:
            Worker.cycle(self, lock)
        elif what < 0.3:
            self.meddle(lock)
        elif what < 0.8:
            self.queue(lock)
        else:
            self.queue_in_session()

    def patience(self):
        return self.dice.uniform(0, 0.3 if self.hurry.is_set() or self.dice.random() < 0.6 else 3)

    def stay(self, hold):
        """Mostly shorter than the others, who wait for it."""
        if self.dice.random() < 0.3:
            super().stay(hold)

    # --- as a lease ---

    def queue(self, lock):
        period_ms = self.dice.choice(PERIODS_MS) if self.dice.random() < 0.15 else 0
        wait = self.ask(PREEMPT, lock, slots=self.slots(lock), ttl_ms=self.dice.choice(TTLS_MS), delay_ms=self.dice.choice(DELAYS_MS), wait=True, period_ms=period_ms)
        if wait.outcome == UNKNOWN:
            # Either it has never happened or it is cancelled; or somebody waits or holds for its time to live whom nobody knows.
            if self.dice.random() < 0.5:
                self.call_off(wait)
            return
        if wait.outcome == NO:
            return
        hold = self.keeper.keep(wait)
        token = wait.token if wait.outcome == YES else self.stand(wait, hold)
        if token:
            self.use(wait, token, hold)
        self.keeper.drop(hold)

    def use(self, wait, token, hold):
        self.stay(hold)
        if self.dice.random() < 0.1:
            # It lasts from now on; or, if nobody knows, perhaps.
            if self.ask(KEEP, wait.lock, token).outcome == YES:
                self.keeper.drop(hold)
                self.until.wait(self.dice.uniform(0, 0.1))
        elif self.dies():
            self.past.append(hold)
            return
        self.ask(RELEASE, wait.lock, token if self.dice.random() < 0.5 else wait.token)

    # --- in a session ---

    def queue_in_session(self):
        opened = self.ask(OPEN, ttl_ms=self.dice.choice(TTLS_MS), delay_ms=self.dice.choice(DELAYS_MS))
        if opened.outcome != YES:
            return
        hold = self.keeper.keep(opened)
        waits = []
        for lock in {self.dice.choice(self.locks): None for _ in range(self.dice.randrange(1, 4))}:
            got = self.ask(PREEMPT, lock, slots=self.slots(lock), session=hold.session, wait=True)
            if got.outcome in (YES, WAITING):
                waits.append(got)
            if got.outcome == YES and self.dice.random() < 0.3:
                self.ask(PREEMPT, lock, slots=self.slots(lock), session=hold.session, wait=True)
        for wait in waits:
            token = wait.token if wait.outcome == YES else self.stand(wait, hold)
            if token:
                self.stay(hold)
                if self.dice.random() < 0.5:
                    self.ask(RELEASE, wait.lock, token)
        self.keeper.drop(hold)
        if self.dies():
            self.past.append(hold)
        else:
            self.ask(CLOSE, session=hold.session)

    # --- waiting ---

    def stand(self, wait, hold):
        """The token that it got; 0: it waits no more, or has died."""
        end = time.monotonic() + self.patience()
        while hold.lives() and time.monotonic() < end and not self.until.is_set():
            if self.dice.random() < 0.1:
                self.ask_again(wait)
            told = self.look(wait, hold)
            if told.outcome == YES:
                return told.token
            if told.outcome == NO and not told.token:
                return 0
            # In vain, or it cannot be asked: for a while.
            if told.outcome != WAITING:
                self.until.wait(0.05)
            if self.dice.random() < 0.02 and not self.hurry.is_set():
                break
            if self.hurry.is_set():
                end = min(end, time.monotonic() + 0.3)
        if self.dies():
            self.past.append(hold)
        else:
            self.give_up(wait)
        return 0

    def look(self, wait, hold):
        """How it stands, as one node knows."""
        operation = Operation(self.name, AWAIT, wait.lock, time.monotonic_ns(), named=wait.token, session=hold.session, slots=wait.slots)
        self.operations.append(operation)
        result = self.attempt(AWAIT, operation, time.monotonic() + self.dice.uniform(0.05, 1))
        if result and result.outcome != wire.UNKNOWN:
            assert result.outcome != wire.REJECTED, result
            self.take(operation, result, time.monotonic_ns())
        if not result or result.outcome == wire.UNKNOWN or self.dice.random() < 0.1:
            self.leave()
        return operation

    def ask_again(self, wait):
        """The same, of another node, if nothing was asked under this handle since."""
        if wait.request != (self.handle, self.seq):
            return
        self.leave()
        operation = Operation(self.name, AGAIN, wait.lock, time.monotonic_ns(), handle=wait.handle, seq=wait.seq, session=wait.session, ttl_ms=wait.ttl_ms, delay_ms=wait.delay_ms,
                              wait=True, period_ms=wait.period_ms, slots=wait.slots)
        self.operations.append(operation)
        result = self.attempt(AGAIN, operation, time.monotonic() + self.dice.uniform(0.1, 1))
        if result and result.outcome != wire.UNKNOWN:
            self.take(operation, result, time.monotonic_ns())

    def give_up(self, wait):
        if self.dice.random() < 0.3 and wait.request == (self.handle, self.seq):
            self.call_off(wait)
        else:
            self.ask(RELEASE, wait.lock, wait.token)
        if self.dice.random() < 0.1:
            self.ask(CHECK, wait.lock, consistent=True)

    def call_off(self, wait):
        """By its request, as who was never answered must; when that is too late, by what it is told then."""
        operation = Operation(self.name, CANCEL, wait.lock, time.monotonic_ns(), handle=wait.handle, seq=wait.seq)
        self.operations.append(operation)
        result = self.attempts(CANCEL, operation, time.monotonic() + self.patience_s)
        self.handle, self.seq = os.urandom(16), 0
        if result:
            self.take(operation, result, time.monotonic_ns())
            if result.token:
                self.ask(RELEASE, wait.lock, result.token)

    def meddle(self, lock):
        """It takes from others what they have. Its own, of a request that was unknown, it gives back."""
        seen = self.ask(CHECK, lock, consistent=self.dice.random() < 0.5)
        if seen.outcome == YES and seen.owner == self.name:
            self.ask(RELEASE, lock, seen.token)
        elif seen.outcome == YES and self.dice.random() < 0.7:
            self.ask(BREAK, lock, seen.token, now=self.dice.random() < 0.3)


class Load:
    """workers of them through these servers, each begins with another. leases: a third of them have some, and a third wait for locks."""

    def __init__(self, network, servers, workers, locks, seed, leases=True):
        self.until, self.hurry = threading.Event(), threading.Event()
        self.clients = []
        for number in range(workers):
            common = (number, servers[number % len(servers) :] + servers[: number % len(servers)], network, random.Random(f"{seed}/{number}"), locks, self.until)
            kind = (Lessee, Queuer, Worker)[number % 3] if leases else Worker
            self.clients.append(Worker(*common) if kind is Worker else kind(*common, self.hurry))
        for client in self.clients:
            client.start()

    def threads(self):
        return [*self.clients, *(client.keeper for client in self.clients if isinstance(client, Lessee))]

    def operations(self):
        return [operation for client in self.threads() for operation in list(client.operations)]

    def counts(self):
        counts = {YES: 0, NO: 0, UNKNOWN: 0, WAITING: 0, REENTERED: 0}
        for operation in self.operations():
            counts[operation.outcome] += 1
        return counts

    def accepted(self):
        return self.counts()[YES]

    def raise_errors(self):
        for client in self.threads():
            if client.error:
                raise client.error

    def stop(self):
        self.hurry.set()
        self.until.set()
        for client in self.clients:
            client.join(8 * PATIENCE_S)
            assert not client.is_alive(), f"{client.name} hangs"
        self.raise_errors()
        return self.operations()
