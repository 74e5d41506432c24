"""Booted Debian hosts on one machine, joined by a bridge.

Each host is a systemd in a container with a disk image of its own above the common base: its disk can lose what was
not synced, its power and its network can be taken away.
"""
import concurrent.futures
import ctypes
import fcntl
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import time
import uuid

import enclosure

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# nsenter gives all of root's powers; these would reach the machine that the tests run on.
POWERS_LEFT_OUT = "-sys_time,-sys_module,-sys_rawio,-sys_boot,-syslog"
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2

# A mount namespace per host: a disk mounted where another host starts would stay busy after its own host's death.
# noauto_da_alloc and the long commit interval: ext4 must not sync what the program forgot to.
BOOT = """
for cgroup in $CGROUPS; do echo 0 >$cgroup/cgroup.procs; done
exec unshare --mount sh -ec '
        mount -o loop,commit=600,noauto_da_alloc disk.img disk
        mkdir -p disk/up disk/wk
        mount -t overlay overlay -o lowerdir=$GROUND,upperdir=disk/up,workdir=disk/wk root
        [ ! -d seed ] || { cp -a seed/. root/; sync -f disk; rm -r seed; }
        exec systemd-nspawn -q -D $PWD/root -M $NAME --hostname=$NAME --register=no --keep-unit --kill-signal=SIGRTMIN+3 \\
                --network-bridge=br0 --link-journal=no --resolv-conf=off --timezone=off --console=pipe /usr/lib/lab-init
'
"""


class Failed(AssertionError):
    """A command did not do what the test relies on."""


def wait_until(event, what, bound=120.0):
    """Returns event()'s first true value; waiting longer than the bound, which is for a machine that does much else, is a failure.

    To ask a host costs a handful of processes, so the longer it takes, the less often that is done.
    """
    begin = time.monotonic()
    while True:
        value = event()
        if value:
            return value
        waited = time.monotonic() - begin
        assert waited < bound, f"waited {bound:.0f} s in vain for: {what}"
        time.sleep(min(0.25, 0.05 + waited / 20))


class Host:
    """One machine. Made by Lab.boot()."""

    def __init__(self, lab, number, name):
        self.lab, self.name = lab, name
        self.address, self.port = f"10.77.0.{number}", f"vb-{name}"
        self.directory = lab.directory / name
        self.nspawn = None
        self.leader = 0
        for part in ("disk", "root", "seed"):
            (self.directory / part).mkdir(parents=True)
        with open(self.directory / "disk.img", "wb") as image:
            image.truncate(4 << 30)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", "disk.img"], cwd=self.directory, check=True)
        # Without a machine id systemd takes it for a first boot, and enables every unit there is.
        self._seed("etc/machine-id", uuid.uuid4().hex + "\n")
        self._seed("etc/hostname", name + "\n")
        self._seed("etc/systemd/network/10-host0.network", f"[Match]\nName=host0\n[Network]\nAddress={self.address}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n")
        hosts = "".join(f"{address} {each}\n" for each, address in lab.addresses.items())
        self._seed("etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{hosts}")

    def _seed(self, path, text):
        file = self.directory / "seed" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    # --- power -----------------------------------------------------------------------

    def launch(self):
        cgroups = []
        for top in enclosure.cgroups():
            cgroup = top / self.lab.cgroup / self.name
            cgroup.mkdir(parents=True, exist_ok=True)
            if (top / "cpuset.cpus").exists() and (top / "tasks").exists():
                for each in (cgroup.parent.parent, cgroup.parent, cgroup):
                    for file in ("cpuset.cpus", "cpuset.mems"):
                        (each / file).write_text((each.parent / file).read_text())
            cgroups.append(str(cgroup))
        with open(self.directory / "console.log", "ab") as console:
            self.nspawn = subprocess.Popen(
                ["sh", "-ec", BOOT], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                env={**os.environ, "CGROUPS": " ".join(cgroups), "GROUND": str(self.lab.ground), "NAME": self.name},
            )

    def console(self):
        return (self.directory / "console.log").read_text(errors="replace")

    def _find_leader(self):
        assert self.nspawn.poll() is None, f"{self.name} did not boot:\n{self.console()[-2000:]}"
        pid = self.nspawn.pid
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            try:
                if pathlib.Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
            except OSError:
                pass
        return 0

    def wait_booted(self, bound=180.0, may_be_degraded=False):
        self.leader = wait_until(self._find_leader, f"{self.name}'s first process", bound)
        state = wait_until(
            lambda: next((word for word in ("running", "degraded") if self.run("systemctl is-system-running", check=False).stdout.strip() == word), None),
            f"{self.name} to be up", bound,
        )
        assert state == "running" or may_be_degraded, f"{self.name} is {state}:\n{self.run('systemctl --failed --no-legend', check=False).stdout}"

    def boot(self):
        self.launch()
        self.wait_booted()

    def _wait_off(self, bound=180.0):
        self.nspawn.wait(bound)
        self.leader = 0
        image = str(self.directory / "disk.img")
        wait_until(lambda: not subprocess.run(["losetup", "-j", image], capture_output=True, check=True).stdout, f"{self.name}'s disk to be free", bound)

    def is_up(self):
        return self.leader != 0

    def power_cut(self):
        """As if the plug were pulled: what was not synced to the disk is not there at the next boot."""
        disk = os.open(f"/proc/{self.nspawn.pid}/root{self.directory}/disk", os.O_RDONLY)
        fcntl.ioctl(disk, EXT4_IOC_SHUTDOWN, ctypes.c_uint32(NO_LOG_FLUSH))
        os.close(disk)
        self.kill()

    def kill(self):
        """Every process of the host ends at once; the disk keeps what was written."""
        os.kill(self.leader, signal.SIGKILL)
        self._wait_off()

    def poweroff(self):
        os.kill(self.leader, signal.SIGRTMIN + 4)
        self._wait_off()

    def reboot(self):
        """In order, as an administrator does it."""
        self.run("systemctl reboot", check=False)
        self._wait_off()
        self.boot()

    # --- commands --------------------------------------------------------------------

    def _command(self, command, user, bound):
        command = ["sh", "-c", command] if isinstance(command, str) else [str(word) for word in command]
        if user:
            command = ["runuser", "-u", user, "--", "env", f"HOME=/home/{user}", *command]
        return [
            "nsenter", "-t", str(self.leader), "-a", "--", "setpriv", f"--bounding-set={POWERS_LEFT_OUT}", "env", "-i", PATH,
            "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "timeout", "-k", "5", str(bound), *command,
        ]

    def run(self, command, check=True, user=None, stdin=None, bound=60):
        """A shell line or a list of words, run in the host by root or a user. stdin: bytes or text."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(self._command(command, user, bound), input=data if data is not None else b"", capture_output=True, timeout=bound + 15, check=False)
        done.stdout, done.stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode != 0:
            words = command if isinstance(command, str) else shlex.join(map(str, command))
            raise Failed(f"{self.name}: {words}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def start(self, command, user=None, bound=120):
        """The same in the background: a Popen with pipes."""
        return subprocess.Popen(self._command(command, user, bound), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def out(self, command, **options):
        return self.run(command, **options).stdout.strip()

    def ok(self, command, **options):
        return self.run(command, check=False, **options).returncode == 0

    # --- files -----------------------------------------------------------------------

    def write(self, path, content, mode=None):
        self.run(["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "-", path], stdin=content)
        if mode is not None:
            self.run(["chmod", oct(mode)[2:], path])

    def push(self, source, path):
        self.write(path, pathlib.Path(source).read_bytes())

    def read(self, path):
        return self.run(["cat", path]).stdout

    def pull(self, path, destination):
        done = subprocess.run(self._command(["cat", path], None, 60), stdin=subprocess.DEVNULL, capture_output=True, timeout=75, check=True)
        pathlib.Path(destination).write_bytes(done.stdout)

    def install_debs(self, debs, options=""):
        """With apt, offline: what they depend on is in packages.txt."""
        places = [f"/var/tmp/{pathlib.Path(deb).name}" for deb in debs]  # /tmp would not outlive a boot
        for deb, place in zip(debs, places):
            self.push(deb, place)
        self.run(f"apt-get -q -y --no-install-recommends {options} install {shlex.join(places)}", bound=300)
        self.run("sync")  # dpkg is told not to: a host that is installed half must not be what a power cut leaves

    # --- what systemd says -------------------------------------------------------------

    def journal(self, *matches, options=""):
        """The entries of this boot as dicts, oldest first."""
        text = self.run(f"journalctl --sync; journalctl -q -b --no-pager -o json {options} {shlex.join(matches)}").stdout
        return [json.loads(line) for line in text.splitlines()]

    def messages(self, unit):
        return [str(entry.get("MESSAGE", "")) for entry in self.journal(f"_SYSTEMD_UNIT={unit}")]

    def unit(self, name, prop):
        return self.out(["systemctl", "show", "--value", "-p", prop, name])

    def is_active(self, *units):
        """Each of them."""
        return all(self.unit(unit, "ActiveState") == "active" for unit in units)


class Lab:
    """The hosts of one test; a context manager that ends them."""

    def __init__(self, directory, ground, names):
        self.directory, self.ground = directory, ground
        self.cgroup = f"{enclosure.cgroup_name(directory.parent)}/{directory.name}"
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        self.hosts = []
        directory.mkdir()
        for number, name in enumerate(names, 1):
            self.hosts.append(Host(self, number, name))

    def boot(self):
        for host in self.hosts:
            host.launch()
        self.each(Host.wait_booted)

    def each(self, action):
        """action(host) of all hosts at once."""
        with concurrent.futures.ThreadPoolExecutor(len(self.hosts)) as pool:
            return list(pool.map(action, self.hosts))

    def __enter__(self):
        try:
            self.boot()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        for host in self.hosts:
            if host.nspawn is not None and host.nspawn.poll() is None:
                if host.leader:
                    os.kill(host.leader, signal.SIGKILL)
                else:
                    host.nspawn.kill()
                host.nspawn.wait()
        self.heal()
        enclosure.remove_cgroups(self.cgroup)
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- network -----------------------------------------------------------------------

    def cut(self, host, *others):
        """No frame between host and the others (all, when none is named) in either direction; what is connected stalls."""
        pairs = [(host, other) for other in others or self.hosts if other is not host]
        elements = ", ".join(f'"{one.port}" . "{two.port}", "{two.port}" . "{one.port}"' for one, two in pairs)
        subprocess.run(["nft", f"add element bridge lab cuts {{ {elements} }}"], check=True, stdin=subprocess.DEVNULL)

    def heal(self):
        subprocess.run(["nft", "flush", "set", "bridge", "lab", "cuts"], check=True, stdin=subprocess.DEVNULL)

    def report(self):
        """For a failed test: the end of what each host has said."""
        lines = []
        for host in self.hosts:
            try:
                text = host.run("journalctl -b --no-pager -o short-precise -n 60 -u 'dlock*'", check=False, bound=10).stdout if host.is_up() else "(off)"
            except (subprocess.SubprocessError, OSError) as error:
                text = str(error)
            lines.append(f"--- {host.name}\n{text}")
        return "\n".join(lines)
