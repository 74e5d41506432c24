"""Clients that write down what they ask and what they are told. They do as libdlock does: whoever gets no answer, or "unknown",
asks another node the same under the same request id, until the patience ends; then it is unknown for good. A refusal is
told only when no other copy of the request is under way, or when it is cancelled."""
import os
import random
import threading
import time

import wire
from history import CANCEL, CHECK, NO, PREEMPT, RELEASE, UNKNOWN, YES, Operation

KINDS = {PREEMPT: wire.PREEMPT, RELEASE: wire.RELEASE, CANCEL: wire.CANCEL}
# Of most clients, and of the others, who learn what "unknown" is.
PATIENCE_S, LITTLE_PATIENCE_S = 15, 0.3


class Client(threading.Thread):
    """servers: [(name, address)], where the first is asked first."""

    def __init__(self, name, servers, network, dice):
        super().__init__(daemon=True)
        self.name, self.servers, self.network, self.dice = name, servers, network, dice
        self.patience_s = LITTLE_PATIENCE_S if dice.random() < 0.3 else PATIENCE_S
        self.connection, self.server = None, 0
        self.handle, self.seq = os.urandom(16), 0
        self.min_index, self.learned_by = 0, None       # the highest index that it was told of, and the connection by which
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
            operation.copies += kind != CANCEL
            return self.connection.change(KINDS[kind], operation.lock, operation.handle, operation.seq, deadline_ms=deadline_ms, token=operation.named)
        except (OSError, wire.Closed, wire.Refused) as error:
            operation.tries.append(f"{name}: {type(error).__name__}")
            return None

    def attempts(self, kind, operation, deadline):
        """One server after the other: a yes or a no, or None."""
        while time.monotonic() < deadline:
            result = self.attempt(kind, operation, deadline)
            if result and result.outcome in (wire.YES, wire.NO):
                return result
            assert not result or result.outcome == wire.UNKNOWN, f"{self.name} asks to {kind} {operation.lock}: {result}"
            if result:
                operation.tries.append(f"{self.servers[self.server][0]}: unknown, {result.reason}")
            self.leave()
            if len(operation.tries) % len(self.servers) == 0:
                time.sleep(0.025)
        return None

    def ask(self, kind, lock, token=0, consistent=False):
        """token: of the hold that a release gives up."""
        operation = Operation(self.name, kind, lock, time.monotonic_ns(), min_index=self.min_index, named=token)
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
            if result.outcome == wire.NO and operation.copies > 1:
                result, end = self.cancel(operation, deadline, result, end)
            if result:
                self.take(operation, result, end)
        # Nodes know a handle by its last accepted request.
        if kind != CHECK and operation.outcome != YES:
            self.handle, self.seq = os.urandom(16), 0
        return operation

    def cancel(self, operation, deadline, refusal, end):
        """What is true of a refused request that was sent more than once, and since when; (None, None): nobody knows."""
        result = self.attempts(CANCEL, operation, deadline)
        operation.tries.append(f"refused at {refusal.index}, cancel: {result}")
        if not result:
            return None, None
        assert result.outcome == wire.YES, result
        return (result, time.monotonic_ns()) if result.token else (refusal, end)

    def take(self, operation, result, end):
        operation.token, operation.index, operation.owner = result.token, result.index, result.owner
        operation.outcome, operation.end = YES if result.outcome == wire.YES else NO, end
        if result.index >= self.min_index:
            self.min_index, self.learned_by = result.index, self.connection

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


class Load:
    """workers of them through these servers, each begins with another."""

    def __init__(self, network, servers, workers, locks, seed):
        self.until = threading.Event()
        self.clients = [
            Worker(number, servers[number % len(servers) :] + servers[: number % len(servers)], network, random.Random(f"{seed}/{number}"), locks, self.until)
            for number in range(workers)
        ]
        for client in self.clients:
            client.start()

    def operations(self):
        return [operation for client in self.clients for operation in list(client.operations)]

    def counts(self):
        counts = {YES: 0, NO: 0, UNKNOWN: 0}
        for operation in self.operations():
            counts[operation.outcome] += 1
        return counts

    def accepted(self):
        return self.counts()[YES]

    def raise_errors(self):
        for client in self.clients:
            if client.error:
                raise client.error

    def stop(self):
        self.until.set()
        for client in self.clients:
            client.join(3 * PATIENCE_S)
            assert not client.is_alive(), f"{client.name} hangs"
        self.raise_errors()
        return self.operations()
