"""One trial: a cluster, a load, a nemesis, and the judge."""
import random
import sys
import time

import history
import nemesis
from lab import Lab
from load import Load
from nodes import PATIENCE, wait_until

WORKERS = 16
LOCKS = 8
# Small, so that who was away a while gets a snapshot; large enough that the collector sees each row.
SHORT_LOG = "[log]\nkeep_entries = 3000\n"


class Failed(Exception):
    """The message is all that a person needs to see."""


def servers_of(lab, dice):
    """Some clients are on the node's own host, as most are, and some come by the network."""
    return [(node.name, dice.choice([node.address, node.tcp])) for node in lab.nodes]


def goes_on(lab, load, bound=2 * PATIENCE):
    """Faults are over: every node finds a leader, and every client gets something done."""
    load.hurry.set()
    before = {client: len(client.operations) for client in load.clients}
    wait_until(lambda: all(node.is_ready() for node in lab.nodes), lambda: f"every node has a leader again: {lab.describe()}", bound)
    wait_until(lambda: load.raise_errors() or all(len(client.operations) > before[client] + 2 for client in load.clients),
               lambda: f"every client is served again: {lab.describe()}", bound)


def explain(lab, seed, steps, played, violations, operations):
    lines = [f"seed {seed}", "the schedule:", *map(str, steps), "what happened:", *played.said]
    for violation in violations[:5]:
        lines += [f"VIOLATION {violation}", history.relevant(violation, operations, lab.log)]
    if len(violations) > 5:
        lines.append(f"... and {len(violations) - 5} more")
    return "\n".join([*lines, lab.tail()])


def run(seed, mix, count, seconds, settings="", workers=WORKERS):
    """Returns a line that tells what was done. Raises Failed."""
    steps = nemesis.plan(seed, mix, count, seconds)
    with Lab(count, seed=random.Random(seed).randrange(2**32), settings=settings) as lab:
        load = Load(lab.network, servers_of(lab, random.Random(seed)), workers, [f"lock/{number}" for number in range(LOCKS)], seed)
        played = nemesis.Nemesis(lab, steps)
        try:
            played.run(load.raise_errors)
            played.heal()
            begin = time.monotonic()
            goes_on(lab, load)
            healed = time.monotonic() - begin
            operations = load.stop()
            log, maps = lab.final()
        except Exception as error:
            load.until.set()
            raise Failed(f"{error!r}\n{explain(lab, seed, steps, played, [], load.operations())}") from error
        violations = history.judge(operations, log, maps)
        if violations:
            raise Failed(explain(lab, seed, steps, played, violations, operations))
        counts = load.counts()
        term = max(row.term for row in log.rows.values())
        return f"{counts['yes']} yes, {counts['no']} no, {counts['unknown']} unknown, {len(log.rows)} entries, {term} terms, {len(steps)} faults, healed in {healed:.1f} s"


def main():
    """trial.py SEED MIX NODES SECONDS"""
    seed, mix, count, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    try:
        print(run(seed, mix, count, seconds, SHORT_LOG if "short" in sys.argv else ""))
    except Failed as failure:
        print(failure)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
