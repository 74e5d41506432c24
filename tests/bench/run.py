"""make bench: three nodes on loopback, everything durable; what closed-loop clients get, and what the nodes weigh.

Printed, not asserted: machines differ. The cost of one sync of the same disk in the same run gives the scale.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/cluster"))
from nodes import DLOCKCTL, Cluster  # noqa: E402


def sync_us(directory, count=300):
    """Median and 99th percentile of writing 4 KiB and fdatasync."""
    times = []
    with tempfile.TemporaryFile(dir=directory) as file:
        for _ in range(count):
            begin = time.monotonic()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - begin) * 1e6)
    times.sort()
    return times[count // 2], times[count * 99 // 100]


def resident_kib(node):
    for line in pathlib.Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def bench(cluster, servers, seconds):
    environment = {**os.environ, "XDG_STATE_HOME": str(cluster.directory / "state")}
    subprocess.run([DLOCKCTL, "--server", ",".join(servers), "--client", "bench", "bench", "--clients", "1,16,64,256", "--seconds", seconds, "--spread"],
                   check=True, env=environment)


def main():
    seconds = sys.argv[1] if len(sys.argv) > 1 else "5"
    with Cluster() as cluster:
        print(f"{os.cpu_count()} CPUs, shared by three nodes and the load; write 4 KiB + fdatasync here: "
              "p50 {:.0f} us, p99 {:.0f} us".format(*sync_us(cluster.directory)))
        print("idle nodes, resident: " + ", ".join(f"{node.name} {resident_kib(node)} KiB" for node in cluster.nodes), flush=True)
        print("\nthrough the leader", flush=True)
        bench(cluster, [cluster.leader.address], seconds)
        print("\nthrough two followers", flush=True)
        bench(cluster, [node.address for node in cluster.followers], seconds)
        print("\nafter it, resident: " + ", ".join(f"{node.name} {resident_kib(node)} KiB" for node in cluster.nodes))


if __name__ == "__main__":
    main()
