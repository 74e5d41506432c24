"""The lab itself: three hosts that boot, talk, lose network and power, and leave nothing behind."""
import os
import pathlib
import subprocess
import sys
import tempfile

import enclosure
import runner
from lab import Failed, wait_until


def reaches(one, two):
    """No answer in time is none: where one is expected it is waited for."""
    return one.ok(["ping", "-q", "-c", "1", "-W", "1", two.name])


def wait_to_reach(one, two):
    wait_until(lambda: reaches(one, two), f"{one.name} to reach {two.name}")


def test_hosts_boot_and_reach_each_other(labs):
    a, b, c = labs.boot("a", "b", "c").hosts
    for one in (a, b, c):
        wait_until(lambda: all(reaches(one, two) for two in (a, b, c)), f"{one.name} to reach all")
    assert [host.out("hostname") for host in (a, b, c)] == ["a", "b", "c"]
    assert len({host.read("/etc/machine-id") for host in (a, b, c)}) == 3


def test_commands_have_status_output_input_user_and_an_end(labs):
    (a,) = labs.boot("a").hosts
    assert a.out("echo out; echo err >&2") == "out"
    assert a.run("exit 7", check=False).returncode == 7
    try:
        a.run("echo why >&2; exit 3")
    except Failed as error:
        assert "status 3" in str(error) and "why" in str(error)
    else:
        raise AssertionError("a failure was not one")
    assert a.run("sleep 60", check=False, bound=1).returncode == 124
    assert a.out("wc -c", stdin=b"\0" * 1000) == "1000"
    assert a.out("id -un; echo $HOME", user="alice") == "alice\n/home/alice"
    assert not a.ok("date -s 2000-01-01")  # it would be everybody's clock


def test_files_go_in_and_out(labs):
    (a,) = labs.boot("a").hosts
    content = os.urandom(100_000)
    with tempfile.TemporaryDirectory() as scratch:
        here, back = pathlib.Path(scratch, "here"), pathlib.Path(scratch, "back")
        here.write_bytes(content)
        a.push(here, "/var/tmp/deep/there")
        a.pull("/var/tmp/deep/there", back)
        assert back.read_bytes() == content


def test_a_cut_stops_frames_and_healing_lets_them_pass(labs):
    lab = labs.boot("a", "b", "c")
    a, b, c = lab.hosts
    wait_until(lambda: reaches(a, b) and reaches(a, c) and reaches(b, c), "the network")
    lab.cut(a, b)
    assert not reaches(a, b) and not reaches(b, a)
    wait_to_reach(a, c)
    wait_to_reach(b, c)
    lab.cut(c)
    assert not reaches(a, c) and not reaches(c, b)
    lab.heal()
    for one, two in ((a, b), (a, c), (b, c)):
        wait_to_reach(one, two)


def test_a_power_cut_loses_what_was_not_synced_and_nothing_else(labs):
    (a,) = labs.boot("a").hosts
    a.run("mkdir /srv/d; echo old >/srv/d/rename; echo kept >/srv/d/synced; sync")
    a.run("echo lost >/srv/d/unsynced; echo new >/srv/d/x; mv /srv/d/x /srv/d/rename")
    a.run("echo kept >/srv/d/later; sync /srv/d/later /srv/d")
    a.run("echo lost >/srv/d/last; echo lost >>/srv/d/synced")
    a.power_cut()
    assert not a.is_up()
    a.boot()
    assert a.read("/srv/d/synced") == "kept\n" and a.read("/srv/d/later") == "kept\n"
    assert not a.ok("grep -q lost /srv/d/last") and not a.ok("grep -q lost /srv/d/unsynced")


def test_a_killed_host_keeps_what_was_written(labs):
    (a,) = labs.boot("a").hosts
    a.run("echo written >/srv/file")
    a.kill()
    a.boot()
    assert a.read("/srv/file") == "written\n"


def test_reboot_and_poweroff_are_in_order(labs):
    (a,) = labs.boot("a").hosts
    a.write("/etc/systemd/system/last.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecStop=touch /srv/stopped\n[Install]\nWantedBy=multi-user.target\n")
    a.run("systemctl daemon-reload; systemctl enable --now last")
    before = a.out("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic")
    a.reboot()
    assert a.out("cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic") != before
    assert a.ok("rm /srv/stopped") and a.is_active("last.service")
    a.poweroff()
    a.boot()
    assert a.ok("test -e /srv/stopped")


def test_the_journal_is_read_by_field_and_limits_are_enforced(labs):
    (a,) = labs.boot("a").hosts
    a.run("logger -t lab-test hello 2>/dev/null || echo hello | systemd-cat -t lab-test")
    assert [entry["MESSAGE"] for entry in a.journal("SYSLOG_IDENTIFIER=lab-test")] == ["hello"]
    hungry = ["systemd-run", "-q", "--pipe", "--wait", "--collect", "-p", "MemoryMax=16M", "-p", "MemorySwapMax=0", "python3", "-c", "b'x' * (64 << 20)"]
    assert not a.ok(hungry)
    assert a.ok([word.replace("=16M", "=256M") for word in hungry])


def test_a_killed_run_leaves_nothing_to_the_next(_labs):
    """Processes, mounts and interfaces are the kernel's to remove, directories and cgroups ours."""
    directory, lock = enclosure.make_run()
    lock.close()
    (directory / "disk.img").write_bytes(b"x")
    cgroups = [top / enclosure.cgroup_name(directory) / "lab-1/a" for top in enclosure.cgroups()]
    for cgroup in cgroups:
        cgroup.mkdir(parents=True)
    mine = pathlib.Path(os.environ[enclosure.INSIDE].split(":")[0])
    directory, lock = enclosure.make_run()
    assert [file.name for file in directory.iterdir()] == ["lock"] and not any(cgroup.parent.parent.exists() for cgroup in cgroups)
    assert mine.exists()
    lock.close()
    enclosure.remove_run(directory)


def test_nothing_of_a_host_stays(labs):
    lab = labs.boot("a", "b")
    directory, cgroups = lab.directory, [top / lab.cgroup for top in enclosure.cgroups()]
    assert directory.exists() and all(cgroup.exists() for cgroup in cgroups)
    labs.end()
    assert not directory.exists() and not any(cgroup.exists() for cgroup in cgroups)
    assert not subprocess.run(["losetup", "-n", "-l", "-O", "BACK-FILE"], capture_output=True, text=True, check=True).stdout.count(str(directory))
    assert "vb-" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    DIRECTORY, GROUND = enclosure.enter()
    TESTS = [(name[5:].replace("_", " "), function) for name, function in list(globals().items()) if name.startswith("test_")]
    sys.exit(runner.run("selftest", [test for test in TESTS if not sys.argv[1:] or any(word in test[0] for word in sys.argv[1:])], DIRECTORY, GROUND))
