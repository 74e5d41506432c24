"""What the tests do with dlock on the hosts: install it, edit its settings, ask its tool, look at its units."""
import contextlib
import json
import os
import pathlib
import re
import time

from lab import wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
PACKAGES = ("dlock-server", "dlockctl", "libdlock0", "libdlock-dev")
YES, NO, REFUSED, UNKNOWN, UNREACHABLE = range(5)
LEADER, FOLLOWER_1, FOLLOWER_2 = "dlock-leader.service", "dlock-follower@1.service", "dlock-follower@2.service"
NODES = (LEADER, FOLLOWER_1, FOLLOWER_2)
SOCKETS = {
    LEADER: ("dlock-leader.socket", "dlock-leader-peer.socket"),
    FOLLOWER_1: ("dlock-follower@1.socket", "dlock-follower-peer@1.socket"),
    FOLLOWER_2: ("dlock-follower@2.socket", "dlock-follower-peer@2.socket"),
}
ALL_SOCKETS = tuple(socket for sockets in SOCKETS.values() for socket in sockets)
AT = {LEADER: "/run/dlock/leader.sock", FOLLOWER_1: "/run/dlock/follower-1.sock", FOLLOWER_2: "/run/dlock/follower-2.sock"}
# Longer than any of a node's own patience, so that it tries again while a test waits.
PATIENCE = 120


def debs():
    found = {file.name.split("_")[0]: file for file in sorted((BUILD / "deb").glob("*.deb"))}
    missing = [name for name in PACKAGES if name not in found]
    assert not missing, f"no package {', '.join(missing)} in {BUILD / 'deb'}: make deb"
    return [found[name] for name in PACKAGES]


def install(host, options=""):
    host.install_debs(debs(), options)


def set_ini(host, file, **values):
    """section__key="value": edits the shipped file in place, as a person would."""
    text = host.read(f"/etc/dlock/{file}")
    for name, value in values.items():
        section, key = name.split("__")
        head, found, tail = text.partition(f"[{section}]\n")
        edited, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", tail, count=1, flags=re.M)
        assert found and count == 1, f"{file} has no {key} in [{section}]"
        text = head + found + edited
    host.write(f"/etc/dlock/{file}", text)


# --- the tool ----------------------------------------------------------------------


def ask(host, *words, user=None, server=None, client=None, timeout="30s"):
    """(exit status, its JSON)."""
    options = ["--json", "--timeout", timeout]
    if server:
        options += ["--server", server]
    if client:
        options += ["--client", client]
    done = host.run(["dlockctl", *options, *words], check=False, user=user)
    lines = done.stdout.strip().splitlines()
    return done.returncode, json.loads(lines[0]) if lines else {"error": done.stderr.strip()}


def preempt(host, lock, **options):
    """The token."""
    status, answer = ask(host, "preempt", lock, **options)
    assert status == YES and answer["granted"] and answer["token"] > 0, (status, answer)
    return answer["token"]


def release(host, lock, **options):
    status, answer = ask(host, "release", lock, **options)
    assert status == YES, (status, answer)


def owner(host, lock, **options):
    """None: nobody."""
    status, answer = ask(host, "check", lock, **options)
    assert status in (YES, NO) and (answer["owner"] is None) == (status == NO), (status, answer)
    return answer["owner"]


def is_led(host, server=None):
    """By whichever node: leadership goes back to dlock-leader in its own time."""
    status, answer = ask(host, "status", server=server, timeout="2s")
    return answer if status == YES and answer["leader"] else None


def knows_leader(host, server=None):
    """dlock-leader leads."""
    answer = is_led(host, server)
    return answer if answer and answer["leader"] == "leader" else None


def all_vote(host, server, count):
    answer = is_led(host, server)
    return answer and answer["voters"] == count


def wait_for_voters(host, server, count):
    wait_until(lambda: all_vote(host, server, count), f"{count} voters, seen at {host.name} {server}", PATIENCE)


# --- clusters ------------------------------------------------------------------------


def one_host(labs):
    """A leader and two followers on one host, with the settings as shipped; all of them vote."""
    (host,) = labs.boot("a").hosts
    install(host)
    host.run(["systemctl", "start", *NODES])
    for node in NODES:
        wait_for_voters(host, AT[node], 3)
    return host


def three_hosts(labs, *more):
    """(lab, hosts): a leader on a, followers on b and c, enabled; all of them vote. more: names of hosts where dlock is installed only."""
    lab = labs.boot("a", "b", "c", *more)
    a, b, c = lab.hosts[:3]
    lab.each(install)
    for host, node in zip((a, b, c), NODES):
        role = "leader" if node == LEADER else "follower"
        settings = {"listen__peers": f"{host.address}:7402", "listen__allow_insecure": "yes"}
        settings["listen__clients"] = f"{AT[node] if node == LEADER else '/run/dlock/follower-%i.sock'}, {host.address}:7401"
        if node != LEADER:
            settings["cluster__join"] = f"{a.address}:7402"
        set_ini(host, f"{role}.ini", **settings)
        host.run(["systemctl", "daemon-reload"])
        host.run(["systemctl", "enable", "-q", *SOCKETS[node], node])
        host.run(["sync"])  # what was installed and edited survives a power cut; what dlock writes from now on is its own affair
    for host, node in zip((a, b, c), NODES):
        host.run(["systemctl", "start", *SOCKETS[node], node])
    for host, node in zip((a, b, c), NODES):
        wait_for_voters(host, AT[node], 3)
    return lab, (a, b, c)


# --- clients that go on while something happens --------------------------------------

# Connects over and over; its last line is how often, and each distinct complaint.
CONNECT = r"""
import errno, os, socket, sys, time
count, bad = 0, {}
print("begun", flush=True)
while not os.path.exists(sys.argv[1]):
    for address in sys.argv[2:]:
        host, colon, port = address.rpartition(":")
        try:
            with socket.socket(socket.AF_INET if colon else socket.AF_UNIX) as s:
                s.settimeout(20)
                s.connect((host, int(port)) if colon else address)
                count += 1
        except OSError as e:
            bad[address + " " + str(e)] = bad.get(address + " " + str(e), 0) + 1
    time.sleep(0.005)
print(count, bad or "")
"""

# Takes and gives back a lock of its own over and over, through dlockctl; counts each exit status.
WORK = r"""
declare() { eval "$1=\$((\${$1:-0} + 1))"; }
echo begun
n=0
until [ -e "$1" ]; do
        n=$((n + 1))
        dlockctl --timeout 20s --server "$2" --client "$3" preempt "$3/$n" >/dev/null 2>&1; declare s$?
        dlockctl --timeout 20s --server "$2" --client "$3" release "$3/$n" >/dev/null 2>&1; declare s$?
done
echo "${s0:-0} ${s1:-0} ${s2:-0} ${s3:-0} ${s4:-0}"
"""


@contextlib.contextmanager
def busy_clients(host, servers, tcp):
    """While inside, clients connect to and work with the servers; at the end none was refused or left without its answer."""
    stop = f"/var/tmp/stop-{time.monotonic_ns()}"
    connector = host.start(["python3", "-c", CONNECT, stop, *servers, *tcp], bound=900)
    workers = [host.start(["sh", "-c", WORK, "-", stop, server, f"worker-{number}"], bound=900) for number, server in enumerate(servers)]
    try:
        for process in (connector, *workers):
            assert process.stdout.readline() == "begun\n", process.stderr.read()
        yield
    finally:
        host.run(["touch", stop])
        said = [process.communicate(timeout=120)[0].strip() for process in (connector, *workers)]
    assert said[0].isdigit() and int(said[0]) > 10, f"connections: {said[0]}"
    for counts in said[1:]:
        yes, *others = map(int, counts.split())
        assert yes > 0 and not any(others), f"a worker's answers, by exit status 0 to 4: {counts}"
