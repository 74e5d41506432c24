"""The steps of CI: the tests that README.md names, on two Debians, and the ones that need booted hosts.

Every step counts: tests that it counts itself, or the step as one. Nothing is skipped.
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
os.chdir(ROOT)
JOBS = f"-j{os.cpu_count()}"

# What a failed test looks like: told again at the end, where somebody who sees only a part of the output finds it.
FAILURE = re.compile(r"^(FAIL|not ok|error:|make(\[\d+\])?: \*\*\*)|^\S+:\d+:[FE]:|Error \d+$|AddressSanitizer|ThreadSanitizer|runtime error:|Traceback|^AssertionError|^E: ")
TOLD_AGAIN_MAX = 40

# check's summary of one program, and the last line of our own runners.
COUNTS = (
    (re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)$"), lambda n: (n[0] - n[1] - n[2], n[1] + n[2])),
    (re.compile(r"^\w+: (\d+) passed, (\d+) failed$"), lambda n: (n[0], n[1])),
)


# What builds, and what is measured, one after the other with the machine to itself; then the lanes, side by side: most of them
# waits for its own timeouts most of the time.
FIRST = [
    ("build", ["make", JOBS, "all", "build/tests/sim", "build/tests/network", "build/tests/disk.so", "build/tests/last_call.so"]),
    ("bench", ["make", "bench", "BENCH_SECONDS=3"]),
    ("failover", ["make", "failover"]),
]
LANES = [
    [
        # README's two command lines, its tests among them, on a fresh minimal Debian.
        ("newcomer", ["env", "NEMESIS_SECONDS=150", "make", "newcomer"]),
        ("clang", ["make", "BUILD=build/clang", "CC=clang", "all"]),
        ("clang tests", ["make", "BUILD=build/clang", "CC=clang", "check"]),
    ],
    [
        ("hosts", ["env", "SHARDS=2", "make", "system"]),
        ("Debian 13", ["env", "SUITE=trixie", "NEMESIS_SECONDS=20", "make", "newcomer"]),
    ],
    [
        ("simulator", ["make", "sim", "SEEDS=10000"]),
        ("mutations", ["make", "mutations"]),
        ("simulator's coverage", ["make", "sim-coverage"]),
        ("sanitizers, units", ["make", "sanitize-unit"]),
        ("sanitizers, processes", ["make", "sanitize-cluster"]),
    ],
]
telling = threading.Lock()


def tell(name, lines):
    """The output of a step as one piece, whatever else runs."""
    with telling:
        print(f"=== {name}", *lines, sep="\n", flush=True)


def run(name, command):
    """(passed, failed, what to tell again) of one step; its output goes through when it is done."""
    print(f"=== {name} begins: {' '.join(command)}", flush=True)
    begin, passed, failed, lines, again = time.monotonic(), 0, 0, [], []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if FAILURE.search(line) and len(again) < TOLD_AGAIN_MAX:
                again.append(line.rstrip())
            for pattern, count in COUNTS:
                match = pattern.match(line.strip())
                if match:
                    good, bad = count([int(group) for group in match.groups()])
                    passed, failed = passed + good, failed + bad
        status = process.wait()
    if status != 0 and failed == 0:
        failed = 1
    if status == 0 and passed == 0:
        passed = 1
    result = f"=== {name}: {passed} good, {failed} bad, status {status}, {time.monotonic() - begin:.0f} s"
    tell(name, [*lines, result])
    return passed, failed, [result] + (again if failed else [])


def run_all(steps):
    return [run(*step) for step in steps]


def main():
    passed, failed, summary = 0, 0, []
    results = run_all(FIRST)
    with concurrent.futures.ThreadPoolExecutor(len(LANES)) as lanes:
        for lane in [lanes.submit(run_all, steps) for steps in LANES]:
            results += lane.result()
    for good, bad, told in results:
        passed, failed, summary = passed + good, failed + bad, summary + told
    print("=== all steps", *summary, sep="\n")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
