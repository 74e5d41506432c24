"""Runs the tests of tests/cluster: every function test_* of every test_*.py, or those whose name contains an argument.

SHARDS=n runs n of them at a time, whatever takes long first: most of them wait most of the time. Then the lines are in the order in which tests end.
"""
import concurrent.futures
import ctypes
import importlib
import multiprocessing
import os
import pathlib
import signal
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
SHARDS = int(os.environ.get("SHARDS", "1"))
sys.path.insert(0, str(HERE))


def tests(words):
    for file in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(file.stem)
        for name, function in list(vars(module).items()):
            if name.startswith("test_") and callable(function) and (not words or any(word in f"{file.stem}.{name}" for word in words)):
                yield f"{file.stem[5:]}: {name[5:].replace('_', ' ')}", function


def attempt(name, function):
    """(it passed, what to say about it)"""
    begin = time.monotonic()
    try:
        function()
        return True, f"ok    {name} ({time.monotonic() - begin:.1f} s)"
    except Exception:
        return False, f"FAIL  {name} ({time.monotonic() - begin:.1f} s)\n{traceback.format_exc()}"


def begin_worker():
    """It ends with its parent. It is a process group of its own: to one that is orphaned the kernel sends SIGHUP when
    something in it is stopped, as nodes are by tests, and something else ends."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
    os.setpgid(0, 0)


def attempts(functions):
    """Of each (name, function), as they end."""
    if SHARDS == 1:
        yield from (attempt(*each) for each in functions)
        return
    longest_first = sorted(functions, key=lambda each: not getattr(each[1], "takes_long", False))
    with concurrent.futures.ProcessPoolExecutor(SHARDS, initializer=begin_worker) as workers:
        try:
            for done in concurrent.futures.as_completed([workers.submit(attempt, *each) for each in longest_first]):
                yield done.result()
        except KeyboardInterrupt:
            workers.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGINT)
            raise


def run_all(title, functions):
    """Each (name, function), and a line on each. The exit status."""
    passed = failed = 0
    for good, line in attempts(functions):
        passed, failed = passed + good, failed + (not good)
        print(line, flush=True)
    print(f"{title}: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def hear_signals():
    """Whoever starts this in the background of a script hands SIGINT and SIGQUIT on as ignored, and what is ignored stays so in every child."""
    for number in range(1, signal.NSIG):
        # The two that Python ignores for itself are its children's again.
        if number not in (signal.SIGPIPE, signal.SIGXFSZ) and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def main():
    hear_signals()
    return run_all("cluster", tests(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
