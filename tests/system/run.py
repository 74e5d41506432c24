"""Runs the tests of tests/system: every function test_* of every test_*.py, or those whose name contains an argument."""
import importlib
import pathlib
import sys

import dlock
import enclosure
import runner

HERE = pathlib.Path(__file__).resolve().parent


def tests(words):
    for file in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(file.stem)
        for name, function in list(vars(module).items()):
            if name.startswith("test_") and callable(function) and (not words or any(word in f"{file.stem}.{name}" for word in words)):
                yield f"{file.stem[5:]}: {name[5:].replace('_', ' ')}", function


if __name__ == "__main__":
    DIRECTORY, GROUND = enclosure.enter()
    dlock.debs()
    sys.exit(runner.run("system", tests(sys.argv[1:]), DIRECTORY, GROUND))
