"""From one version to the next, host by host, under clients; and back."""
import contextlib
import sqlite3
import tempfile

from dlock import AT, FOLLOWER_1, FOLLOWER_2, LEADER, NODES, PATIENCE, ask, debs, preempt, release, three_hosts, wait_for_voters
from lab import wait_until
from next_debs import SUFFIX, next_debs
from pace import paced
from test_failover import RETURN_S, is_led



def uses_what_is_new(host, node):
    """The log has an entry of the kind that only the next version knows."""
    host.run(["dlockctl", "--server", AT[node], "backup", "--force", "/var/tmp/look.db"])
    with tempfile.NamedTemporaryFile() as file:
        host.pull("/var/tmp/look.db", file.name)
        with contextlib.closing(sqlite3.connect(file.name)) as database:
            return database.execute("SELECT count(*) FROM log WHERE kind = 'next'").fetchone()[0] > 0


def version(host):
    return host.out("dpkg-query -W -f '${Version}' dlock-server")


def test_hosts_are_upgraded_one_after_the_other_and_nobody_notices_and_who_is_put_back_says_so(labs):
    new = next_debs()
    _, (a, b, c) = three_hosts(labs)
    held = preempt(b, "held", client="holder")
    with paced(a, AT[LEADER], what="upgrade, a client of the leader") as one, paced(c, AT[FOLLOWER_2], what="upgrade, a client of a follower") as two:
        for host, node in ((c, FOLLOWER_2), (a, LEADER), (b, FOLLOWER_1)):
            assert not uses_what_is_new(host, node)
            host.install_debs(new)
            assert version(host).endswith(SUFFIX)
            wait_until(lambda: is_led(host, node), f"{node} to be back", PATIENCE)
        for host, node in zip((a, b, c), NODES):
            wait_until(lambda: uses_what_is_new(host, node), f"{node} to have what is new", PATIENCE)
    assert one.longest < PATIENCE and two.longest < PATIENCE
    wait_for_voters(a, AT[LEADER], 3)
    assert ask(c, "check", "held", server=AT[FOLLOWER_2])[1]["token"] == held

    c.install_debs(debs(), "--allow-downgrades")
    said = wait_until(lambda: [text for text in c.messages(FOLLOWER_2) if "upgrade dlock-server on this host" in text], "the node to say what to do", PATIENCE)
    assert "/var/lib/dlock/follower-2/dlock.db is of a cluster" in said[0]
    before = len(c.messages(FOLLOWER_2))
    c.run(["sleep", "5"])
    assert len([text for text in c.messages(FOLLOWER_2) if "is of a cluster" in text]) == 1 and len(c.messages(FOLLOWER_2)) <= before + 3, "it floods the journal"
    assert not c.is_active(FOLLOWER_2)
    preempt(b, "meanwhile", client="other", server=AT[FOLLOWER_1])
    c.install_debs(new)
    wait_until(lambda: is_led(c, FOLLOWER_2), "it to be back with the right version", RETURN_S)
    release(c, "meanwhile", client="other", server=AT[FOLLOWER_2])
    release(b, "held", client="holder", server=AT[FOLLOWER_1])


test_hosts_are_upgraded_one_after_the_other_and_nobody_notices_and_who_is_put_back_says_so.takes_long = True
