"""Clients that go on while hosts and networks fail, and tell how long they had to wait."""
import contextlib
import time

# Takes and gives back locks of its own through dlockctl; its last line is the longest time between two answers that were
# yes, and how often each exit status came.
PACE = r"""
import os, subprocess, sys, time
stop, servers, client = sys.argv[1:]
counts, longest, n = [0] * 5, 0.0, 0
last = time.monotonic()
print("begun", flush=True)
while not os.path.exists(stop):
    n += 1
    for verb in "preempt", "release":
        status = subprocess.run(["dlockctl", "--timeout", "30s", "--server", servers, "--client", client, verb, f"{client}/{n}"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        counts[status] += 1
        now = time.monotonic()
        if status == 0:
            longest, last = max(longest, now - last), now
print(longest, *counts, flush=True)
"""


class Pace:
    """What a client was told, once it has ended."""

    longest, counts = 0.0, ()


@contextlib.contextmanager
def paced(host, *servers, what, may_be_unknown=False):
    """While inside, a client on host works with the servers; every answer must have been yes. Prints the longest pause."""
    stop, pace = f"/var/tmp/stop-{time.monotonic_ns()}", Pace()
    process = host.start(["python3", "-c", PACE, stop, ",".join(servers), f"paced-{time.monotonic_ns()}"], bound=900)
    assert process.stdout.readline() == "begun\n", process.stderr.read()
    try:
        yield pace
    finally:
        host.run(["touch", stop])
        said = process.communicate(timeout=120)[0].split()
    pace.longest, pace.counts = float(said[0]), tuple(map(int, said[1:]))
    print(f"      {what}: {pace.counts[0]} times yes, longest pause {pace.longest:.2f} s", flush=True)
    allowed = (0, 3) if may_be_unknown else (0,)
    assert pace.counts[0] > 10 and not any(count for status, count in enumerate(pace.counts) if status not in allowed), f"answers by exit status 0 to 4: {pace.counts}"
