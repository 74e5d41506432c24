"""Runs the tests of tests/system: every function test_* of every test_*.py, or those whose name contains an argument.

SHARDS=n runs n of them at a time: so many processes, each with hosts and a network of its own, take the next test whenever they are free, whatever
takes long first.
"""
import contextlib
import importlib
import os
import pathlib
import subprocess
import sys
import tempfile

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


def longest_first(found):
    return sorted(found, key=lambda each: not getattr(each[1], "takes_long", False))


def unclaimed(found, claims):
    """Each of them that no other process has taken: who makes the file of its number has."""
    for number, test in enumerate(found):
        with contextlib.suppress(FileExistsError):
            (claims / str(number)).touch(exist_ok=False)
            yield test


def share_out():
    """The exit status of all processes."""
    at_a_time = min(SHARDS, len(list(tests(sys.argv[1:]))))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as claims:
        shares = [subprocess.Popen([sys.executable, "-u", *sys.argv], stdin=subprocess.DEVNULL, env={**os.environ, "SHARDS": "1", "CLAIMS": claims},
                                   preexec_fn=enclosure.die_with_parent) for _ in range(at_a_time)]
        return max([share.wait() for share in shares], key=abs, default=1)


def main():
    if SHARDS > 1:
        return abs(share_out())
    directory, ground = enclosure.enter()
    dlock.debs()
    found, claims = longest_first(tests(sys.argv[1:])), os.environ.get("CLAIMS")
    if not claims:
        return runner.run("system", found, directory, ground)
    # Those that were quicker may have taken them all.
    return runner.run("system", unclaimed(found, pathlib.Path(claims)), directory, ground, may_be_none=True)


if __name__ == "__main__":
    sys.exit(main())
