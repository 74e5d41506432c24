"""Runs the tests of tests/system: every function test_* of every test_*.py, or those whose name contains an argument.

SHARDS=n runs n of them at a time, each share of the tests with hosts and a network of its own.
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


def share_out():
    """The exit status of all shares."""
    shares = [subprocess.Popen([sys.executable, "-u", *sys.argv], stdin=subprocess.DEVNULL, env={**os.environ, "SHARDS": "1", "SHARE": f"{number}/{SHARDS}"},
                               preexec_fn=enclosure.die_with_parent) for number in range(SHARDS)]
    return max([share.wait() for share in shares], key=abs)


if __name__ == "__main__":
    if SHARDS > 1:
        sys.exit(abs(share_out()))
    DIRECTORY, GROUND = enclosure.enter()
    dlock.debs()
    NUMBER, OF = map(int, os.environ.get("SHARE", "0/1").split("/"))
    sys.exit(runner.run("system", list(tests(sys.argv[1:]))[NUMBER::OF], DIRECTORY, GROUND))
