"""Runs test functions: a line for each, what failed and what the hosts said then, and the count."""
import sys
import time
import traceback

from lab import Lab


class Labs:
    """What a test gets: it asks for hosts by name, and they end with the test."""

    def __init__(self, directory, ground):
        self.directory, self.ground = directory, ground
        self.count, self.labs = 0, []

    def boot(self, *names):
        """The Lab, with its hosts up."""
        self.count += 1
        lab = Lab(self.directory / f"lab-{self.count}", self.ground, names)
        self.labs.append(lab)
        lab.boot()
        return lab

    def report(self):
        return "\n".join(lab.report() for lab in self.labs)

    def end(self):
        while self.labs:
            self.labs.pop().end()


def run(title, tests, directory, ground, may_be_none=False):
    """tests: (name, function(labs)). The exit status."""
    labs = Labs(directory, ground)
    passed = failed = 0
    begin = time.monotonic()
    for name, function in tests:
        start = time.monotonic()
        try:
            try:
                function(labs)
            except BaseException:
                print(labs.report(), flush=True)
                raise
            finally:
                labs.end()
            passed += 1
            print(f"ok    {name} ({time.monotonic() - start:.1f} s)", flush=True)
        except Exception:  # the next test has hosts of its own
            failed += 1
            print(f"FAIL  {name} ({time.monotonic() - start:.1f} s)\n{traceback.format_exc()}", flush=True)
    print(f"{title} took {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    print(f"{title}: {passed} passed, {failed} failed", flush=True)
    return 1 if failed or not (passed or may_be_none) else 0
