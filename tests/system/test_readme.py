"""README.md's section on installing, by the letter."""
import re

from dlock import ALL_SOCKETS, AT, FOLLOWER_1, FOLLOWER_2, LEADER, NODES, ROOT, SOCKETS, install, owner, preempt, release, set_ini, wait_for_voters
from lab import wait_until


def section(title):
    """(text, its indented blocks)."""
    text = re.search(rf"^### {title}\n(.*?)^##", (ROOT / "README.md").read_text(), re.M | re.S)[1]
    return text, [re.sub(r"^    ", "", block, flags=re.M) for block in re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", text, re.M)]


def edit(host, file, block):
    """What the block says goes into the shipped file, as a person would do it."""
    name, values = None, {}
    for line in filter(None, block.splitlines()):
        if line.startswith("["):
            name = line.strip("[]")
        else:
            key, _, value = line.partition(" = ")
            values[f"{name}__{key}"] = value
    set_ini(host, file, **values)


def test_three_nodes_on_one_host(labs):
    (a,) = labs.boot("a").hosts
    install(a)
    _, (commands,) = section("Three nodes on one host")
    said = a.out(f"set -e\n{commands}")
    assert said.splitlines()[-1] == "working", said
    for node in NODES:
        wait_for_voters(a, AT[node], 3)
    a.reboot()
    assert a.is_active(*NODES, *ALL_SOCKETS)
    for node in NODES:
        wait_for_voters(a, AT[node], 3)


def test_three_hosts(labs):
    lab = labs.boot("a", "b", "c")
    hosts = a, b, c = lab.hosts
    lab.each(install)
    text, blocks = section("Three hosts")
    text, (leader_ini, follower_ini) = text.replace("10.0.0.", "10.77.0."), [block.replace("10.0.0.", "10.77.0.") for block in blocks]
    assert [host.address for host in hosts] == ["10.77.0.1", "10.77.0.2", "10.77.0.3"]
    commands = re.findall(r"`(systemctl enable --now [^`]+)`", text)
    assert len(commands) == 2, commands
    edit(a, "leader.ini", leader_ini)
    a.run(commands[0])
    edit(b, "follower.ini", follower_ini)
    b.run(commands[1])
    edit(c, "follower.ini", follower_ini.replace(f"{b.address}:", f"{c.address}:"))
    c.run(commands[1].replace("@1", "@2"))
    nodes = list(zip(hosts, (LEADER, FOLLOWER_1, FOLLOWER_2)))
    for host, node in nodes:
        wait_for_voters(host, AT[node], 3)
    preempt(b, "lock", client="owner")
    assert wait_until(lambda: owner(c, "lock") == "owner", "the other hosts to show it") and owner(a, "lock") == "owner"
    for host, node in nodes:
        host.reboot()
        assert host.is_active(node, *SOCKETS[node])
        wait_for_voters(host, AT[node], 3)
    release(c, "lock", client="owner")
    # A change of addresses, later.
    set_ini(a, "leader.ini", listen__clients="/run/dlock/leader.sock, 127.0.0.1:7501")
    reload, stop, start = re.findall(r"`(systemctl (?:daemon-reload|stop|start)[^`]*)`", text)
    for command in (reload, stop, start):
        a.run(command)
    wait_for_voters(a, "127.0.0.1:7501", 3)
