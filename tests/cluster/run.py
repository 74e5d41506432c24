"""Runs the tests of tests/cluster: every function test_* of every test_*.py, or those whose name contains an argument."""
import importlib
import pathlib
import signal
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))


def tests(words):
    for file in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(file.stem)
        for name, function in list(vars(module).items()):
            if name.startswith("test_") and callable(function) and (not words or any(word in f"{file.stem}.{name}" for word in words)):
                yield f"{file.stem[5:]}: {name[5:].replace('_', ' ')}", function


def run_all(title, functions):
    """Each (name, function), and a line on each. The exit status."""
    passed = failed = 0
    for name, function in functions:
        begin = time.monotonic()
        try:
            function()
            passed += 1
            print(f"ok    {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAIL  {name}\n{traceback.format_exc()}", flush=True)
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
