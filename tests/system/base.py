"""The root that every host starts from: a minimal Debian 12, made once by debootstrap and kept."""
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import stat
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
SUITE = "bookworm"
# Below here is all that these tests ever leave on a disk: the bases, and a directory per run while it lasts.
HOME = pathlib.Path("/var/tmp/dlock-lab")

FILES = {
    # PID 1's wrapper: with cgroup v1, nspawn mounts the controllers read-only and limits would be ignored in silence.
    "usr/lib/lab-init": (0o755, """#!/bin/sh
for directory in /sys/fs/cgroup/*/; do
        [ -w "$directory" ] || mount -o remount,bind,rw,nosuid,nodev,noexec "$directory"
done
exec /lib/systemd/systemd "$@"
"""),
    # A host that loses its power keeps its log up to the last second; no message is dropped for there being many.
    "etc/systemd/journald.conf.d/lab.conf": (0o644, "[Journal]\nStorage=persistent\nSyncIntervalSec=1s\nRateLimitIntervalSec=0\n"),
    "etc/dpkg/dpkg.cfg.d/unsafe-io": (0o644, "force-unsafe-io\n"),
}
COMMANDS = (
    "systemctl -q enable systemd-networkd",
    "systemctl -q mask console-getty.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer "
    "e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer",
    "useradd -m alice && useradd -m bob",
    # Without the archive's lists, which no host asks: apt would read all of them each time.
    "apt-get clean && rm -rf /var/lib/apt/lists/*",
    "rm -f /etc/machine-id /var/lib/dbus/machine-id /etc/hostname /var/log/bootstrap.log",
)


class Unable(Exception):
    """This machine lacks something; one line says what."""


def packages():
    lines = (HERE / "packages.txt").read_text().splitlines()
    return [word for line in lines for word in line.split("#")[0].split()]


def make_home():
    HOME.mkdir(mode=0o700, exist_ok=True)
    status = HOME.lstat()
    if status.st_uid != 0 or not stat.S_ISDIR(status.st_mode):
        raise Unable(f"{HOME} is not a directory of root's: remove it")


def apt_entries():
    """(address, suites) of every source of packages that this machine is configured with."""
    directory = pathlib.Path("/etc/apt")
    for file in [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*.list"))]:
        for line in file.read_text().splitlines() if file.exists() else ():
            match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line.strip())
            if match:
                yield match[1], [match[2]]
    for file in sorted((directory / "sources.list.d").glob("*.sources")):
        text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
        for paragraph in re.split(r"\n\s*\n", text):
            keys = dict(re.findall(r"^(\S+):[ \t]*(.*(?:\n[ \t]+.*)*)", paragraph, re.M))
            if "deb" in keys.get("Types", "").split() and keys.get("Enabled", "yes") == "yes":
                for address in keys.get("URIs", "").split():
                    yield address, keys.get("Suites", "").split()


def mirror():
    """The archive that this machine's own apt uses; one that names our suite before one that does not."""
    entries = list(apt_entries())
    for wanted in (SUITE, "trixie", "stable", "testing", "sid"):
        for address, suites in entries:
            if wanted in suites:
                return address
    raise Unable("no Debian archive in /etc/apt/sources.list or /etc/apt/sources.list.d to debootstrap from")


def environment():
    """apt's proxy is debootstrap's too."""
    result = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    asked = subprocess.run(["apt-config", "dump", "--format=%v", "Acquire::http::Proxy"], capture_output=True, text=True, check=False)
    if asked.stdout.strip():
        result.setdefault("http_proxy", asked.stdout.strip())
    return result


def checked(command, log):
    if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), check=False).returncode:
        log.flush()
        lines = pathlib.Path(log.name).read_text(errors="replace").strip().splitlines()
        raise Unable(f"{command[0]} failed: {lines[-1] if lines else 'it says nothing'} (all of it: {log.name})")


def build(directory):
    log_path = HOME / "debootstrap.log"
    with open(log_path, "w", encoding="utf-8") as log:
        checked(["debootstrap", "--variant=minbase", f"--include={','.join(packages())}", SUITE, str(directory), mirror()], log)
        for name, (mode, content) in FILES.items():
            file = directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            file.chmod(mode)
        for command in COMMANDS:
            checked(["chroot", str(directory), "sh", "-c", command], log)


def get():
    """(directory, lock): the base, made if need be. While the lock is open nobody removes it."""
    key = hashlib.sha256(repr((SUITE, packages(), FILES, COMMANDS)).encode()).hexdigest()[:16]
    directory = HOME / f"base-{key}"
    lock = open(HOME / f"base-{key}.lock", "w", encoding="utf-8")
    fcntl.flock(lock, fcntl.LOCK_SH)
    if not directory.exists():
        fcntl.flock(lock, fcntl.LOCK_EX)
    if not directory.exists():
        remove_unused()
        print(f"system: making a Debian 12 ({SUITE}) for the hosts, once; a minute or so", flush=True)
        unfinished = HOME / f"base-{key}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        build(unfinished)
        unfinished.rename(directory)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return directory, lock


def remove_unused():
    """Bases of other keys that no lab stands on."""
    for name in HOME.glob("base-*.lock"):
        with open(name, "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            shutil.rmtree(name.with_suffix(""), ignore_errors=True)
            shutil.rmtree(name.with_suffix(".new"), ignore_errors=True)
            name.unlink()
