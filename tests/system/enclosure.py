"""The namespaces that a lab lives in, and their end.

A program that calls enter() is run again as the first process of pid, mount, network, uts and ipc namespaces of its own. Whatever
it starts, mounts or plugs in there is gone, by the kernel's hand, as soon as it ends, however it ends. Two things
outlive that, cgroup directories and the run's own directory: the process outside removes them, or the next run does.
"""
import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import base
from base import HOME, Unable

INSIDE = "DLOCK_LAB"
# No run is meant to take half of this, but for a soak.
SECONDS_MAX = 1800 + int(os.environ.get("TIMERS_SECONDS", "0"))

TOOLS = {
    "debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "ip": "iproute2", "nft": "nftables",
    "mkfs.ext4": "e2fsprogs", "nsenter": "util-linux", "unshare": "util-linux", "setpriv": "util-linux",
    "mount": "mount", "losetup": "mount", "dpkg-deb": "dpkg",
}

# Each is tried in namespaces that end with it; the first word of bad news is what is printed.
ABILITIES = """
say() { echo "$1"; exit 1; }
cd "$1" || say "a directory below /var/tmp"
mount --make-rprivate / 2>/dev/null || say "the right to mount (CAP_SYS_ADMIN)"
ip link add lab0 type bridge 2>/dev/null || say "a kernel with bridges"
ip link add lab1 type veth peer name lab2 2>/dev/null || say "a kernel with veth"
nft 'add table bridge lab; add chain bridge lab pairs { type filter hook forward priority 0; }' 2>/dev/null || say "a kernel with nftables for bridges"
truncate -s 64M disk && mkfs.ext4 -q -F disk || say "room for a disk image below /var/tmp"
mkdir -p low mnt all && mount -o loop disk mnt 2>/dev/null || say "loop devices and ext4 (/dev/loop-control)"
mkdir mnt/up mnt/wk && mount -t overlay overlay -o lowerdir=low,upperdir=mnt/up,workdir=mnt/wk all 2>/dev/null || say "a kernel with overlayfs"
"""


def unshare(*command):
    return ["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc", *command]


def die_with_parent():
    """Runs in a child: it gets SIGKILL when its parent is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)


def cgroups():
    """This process's own directory in every hierarchy that is mounted."""
    paths = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        root, point = left.split()[3:5]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            path = paths.get("")
        elif kind == "cgroup":
            words = options.split(",")
            path = next((path for controllers, path in paths.items() if controllers and set(controllers.split(",")) <= set(words)), None)
        else:
            continue
        if path is not None:
            below = path[len(root):] if root != "/" and (path + "/").startswith(root + "/") else path
            found.append(pathlib.Path(point) / below.strip("/"))
    return [directory for directory in found if directory.is_dir()]


def preflight():
    """Raises Unable for the first thing that is missing."""
    if os.geteuid() != 0:
        raise Unable("root: run them as root")
    for tool, package in TOOLS.items():
        if not shutil.which(tool):
            raise Unable(f"the program {tool}: apt-get install {package}")
    if not pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        raise Unable("Debian's keys: apt-get install debian-archive-keyring")
    base.make_home()
    if shutil.disk_usage(HOME).free < 3 << 30:
        raise Unable(f"3 GiB of room in {HOME}")
    if not cgroups():
        raise Unable("a cgroup hierarchy mounted below /sys/fs/cgroup")
    for directory in cgroups():
        try:
            (directory / f"dlock-lab-{os.getpid()}").mkdir()
            (directory / f"dlock-lab-{os.getpid()}").rmdir()
        except OSError as error:
            raise Unable(f"the right to make cgroups: {error}") from None
    scratch = HOME / "preflight"
    with one_at_a_time():
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        tried = subprocess.run(unshare("sh", "-c", ABILITIES, "-", str(scratch)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        shutil.rmtree(scratch)
    if tried.returncode:
        raise Unable((tried.stdout.strip() or tried.stderr.strip() or "namespaces").splitlines()[-1])


def cgroup_name(run):
    """Of a run, below this process's own directory in each hierarchy."""
    return f"dlock-lab-{run.name}"


def remove_cgroups(name):
    """False: some are still in use. Their last processes may take a moment to be gone."""
    end = time.monotonic() + 5
    tops = [directory / name for directory in cgroups()]
    while tops and time.monotonic() < end:
        for top in tops:
            for directory, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass
        tops = [top for top in tops if top.exists()]
        if tops:
            time.sleep(0.05)
    return not tops


def remove_run(directory):
    if remove_cgroups(cgroup_name(directory)):
        shutil.rmtree(directory, ignore_errors=True)


def sweep():
    """What killed runs left: their lock is free although they have a directory."""
    for directory in HOME.glob("run-*"):
        try:
            with open(directory / "lock", "a", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_run(directory)
        except OSError:
            continue


def one_at_a_time():
    """A context that one process is in."""
    lock = open(HOME / "lock", "w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def make_run():
    """(directory, its lock), for as long as this process lives."""
    directory = HOME / f"run-{os.getpid()}"
    with one_at_a_time():
        sweep()
        directory.mkdir()
        lock = open(directory / "lock", "w", encoding="utf-8")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return directory, lock


def make_network():
    script = """
    mount -t tmpfs -o mode=755 tmpfs /run/systemd
    ip link set lo up
    ip link add br0 type bridge forward_delay 0 mcast_snooping 0
    ip link set br0 up
    nft -f - <<X
    table bridge lab {
            set cuts { type ifname . ifname; }
            chain pairs {
                    type filter hook forward priority 0;
                    ether type arp accept
                    iifname . oifname @cuts counter drop
            }
    }
X
    """
    pathlib.Path("/run/systemd").mkdir(exist_ok=True)
    subprocess.run(["sh", "-ec", script], check=True, stdin=subprocess.DEVNULL)


def enter():
    """Returns, inside the namespaces, (directory of this run, base). Outside it does not return."""
    if INSIDE in os.environ:
        directory, ground = os.environ[INSIDE].split(":")
        make_network()
        return pathlib.Path(directory), pathlib.Path(ground)
    try:
        preflight()
        ground, ground_lock = base.get()
    except Unable as error:
        print(f"system: these tests need {error}", flush=True)
        sys.exit(1)
    directory, lock = make_run()
    process = None

    def give_up(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, give_up)
    try:
        process = subprocess.Popen(
            unshare(sys.executable, "-u", *sys.argv), stdin=subprocess.DEVNULL, preexec_fn=die_with_parent,
            env={**os.environ, INSIDE: f"{directory}:{ground}", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        status = process.wait(SECONDS_MAX)
    except subprocess.TimeoutExpired:
        print(f"system: stopped after {SECONDS_MAX} s", flush=True)
        status = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if process is not None:
            process.kill()
            process.wait()
        remove_run(directory)
    lock.close()
    ground_lock.close()
    sys.exit(status if status >= 0 else 128 - status)
