"""Runs the tests of tests/system: every function test_* of every test_*.py, or those whose name contains an argument.

SHARDS=n runs n of them at a time, each share of the tests with hosts and a network of its own; those that mostly wait are a share of
their own beside the others.
"""
import importlib
import os
import pathlib
import subprocess
import sys

import dlock
import enclosure
import runner

HERE = pathlib.Path(__file__).resolve().parent
SHARDS = int(os.environ.get("SHARDS", "1"))


def tests(words):
    for file in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(file.stem)
        for name, function in list(vars(module).items()):
            if name.startswith("test_") and callable(function) and (not words or any(word in f"{file.stem}.{name}" for word in words)):
                yield f"{file.stem[5:]}: {name[5:].replace('_', ' ')}", function


def names_of_shares():
    """One that has no test would be a failure."""
    waiting = [getattr(function, "mostly_waits", False) for _, function in tests(sys.argv[1:])]
    return [f"{number}/{SHARDS}" for number in range(min(SHARDS, waiting.count(False)))] + ["waiting"] * any(waiting)


def tests_of(share):
    """None: all."""
    found = list(tests(sys.argv[1:]))
    if share is None:
        return found
    kept = [(name, function) for name, function in found if getattr(function, "mostly_waits", False) == (share == "waiting")]
    number, of = (0, 1) if share == "waiting" else map(int, share.split("/"))
    return kept[number::of]


def share_out():
    """The exit status of all shares."""
    shares = [subprocess.Popen([sys.executable, "-u", *sys.argv], stdin=subprocess.DEVNULL, env={**os.environ, "SHARDS": "1", "SHARE": name},
                               preexec_fn=enclosure.die_with_parent) for name in names_of_shares()]
    return max([share.wait() for share in shares], key=abs, default=1)


if __name__ == "__main__":
    if SHARDS > 1:
        sys.exit(abs(share_out()))
    DIRECTORY, GROUND = enclosure.enter()
    dlock.debs()
    sys.exit(runner.run("system", tests_of(os.environ.get("SHARE")), DIRECTORY, GROUND))
