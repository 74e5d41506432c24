"""The steps of CI: the tests that README.md names, on Debian 12 all of them and on Debian 13 what may differ there, and the ones that need
booted hosts.

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


# What builds, and what is measured, one after the other with the machine to itself.
FIRST = [
    ("build", ["make", JOBS, "all", "build/tests/sim", "build/tests/network", "build/tests/disk.so", "build/tests/last_call.so"]),
    ("bench", ["make", "bench", "BENCH_SECONDS=3"]),
    ("failover", ["make", "failover"]),
]
# The cluster tests of what depends on a Debian's C library, systemd and SQLite: the programs as people and scripts use them, backups, upgrades,
# and nodes under all faults. On Debian 13 these, after all that needs no real processes.
ON_DEBIAN_13 = "test_tool. test_run. test_settings. test_service. test_upgrade. backup restore under_all_faults"
# Then these, AT_A_TIME of them, whatever takes long first: when one ends, the next begins. The steps of one share a build directory, and are run in order.
# What only computes is nice to what waits for timeouts.
AT_A_TIME = 3
CHAINS = [
    [("hosts", ["env", "SHARDS=3", "make", "system"])],
    # README's two command lines, its tests among them, on a fresh minimal Debian.
    [("newcomer", ["env", "SHARDS=2", "PATIENCE=60", "NEMESIS_SECONDS=150", "make", "newcomer"])],
    [
        ("sanitizers, units", ["make", JOBS, "sanitize-unit"]),
        ("sanitizers, processes", ["env", "SHARDS=2", "make", "sanitize-cluster"]),
    ],
    [("mutations", ["nice", "make", "mutations"])],
    [("Debian 13", ["env", "SUITE=trixie", "SHARDS=2", "PATIENCE=60", "NEMESIS_SECONDS=20", f"WORDS={ON_DEBIAN_13}", "make", "newcomer"])],
    [
        ("clang", ["make", "BUILD=build/clang", "CC=clang", "all"]),
        ("clang tests", ["make", "BUILD=build/clang", "CC=clang", "check"]),
    ],
    [("simulator", ["nice", "make", "sim", "SEEDS=10000"])],
    [("simulator's coverage", ["nice", "make", "sim-coverage"])],
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
        # With what it and all that it waited for computed.
        _, status, usage = os.wait4(process.pid, 0)
        status = process.returncode = os.waitstatus_to_exitcode(status)
    if status != 0 and failed == 0:
        failed = 1
    if status == 0 and passed == 0:
        passed = 1
    result = f"=== {name}: {passed} good, {failed} bad, status {status}, {time.monotonic() - begin:.0f} s, {usage.ru_utime + usage.ru_stime:.0f} s of computing"
    tell(name, [*lines, result])
    return passed, failed, [result] + (again if failed else [])


def run_all(steps):
    return [run(*step) for step in steps]


def main():
    passed, failed, summary = 0, 0, []
    results = run_all(FIRST)
    with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as lanes:
        for some in lanes.map(run_all, CHAINS):
            results += some
    for good, bad, told in results:
        passed, failed, summary = passed + good, failed + bad, summary + told
    print("=== all steps", *summary, sep="\n")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
