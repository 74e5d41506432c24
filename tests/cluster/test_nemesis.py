"""Real daemons under every fault, and the judge. NEMESIS_SECONDS of it in all; SEED for another schedule."""
import os
import random

import history
import trial
from lab import Lab
from load import Load
from nodes import wait_until

SEED = os.environ.get("SEED", "1")
TRIALS = 7
# What starting, healing, the end of what nobody renews, and judging take.
OVERHEAD_S = 7
SECONDS = max(4.0, float(os.environ.get("NEMESIS_SECONDS", "240")) / TRIALS - OVERHEAD_S)


def attempt(mix, count, settings=""):
    print(f"      {mix}, {count} nodes, seed {SEED}: {trial.run(SEED, mix, count, SECONDS, settings)}", flush=True)


def test_three_nodes_keep_their_promises_when_processes_die_stop_and_restart():
    attempt("processes", 3)


def test_five_nodes_keep_their_promises_when_processes_die_stop_and_restart():
    attempt("processes", 5)


def test_three_nodes_keep_their_promises_when_links_are_cut_slow_and_lossy():
    attempt("links", 3)


def test_five_nodes_keep_their_promises_when_links_are_cut_slow_and_lossy():
    attempt("links", 5)


def test_three_nodes_keep_their_promises_when_disks_stall_fail_and_lose_power():
    attempt("disks", 3)


def test_three_nodes_keep_their_promises_under_all_faults():
    attempt("everything", 3, trial.SHORT_LOG)


def test_five_nodes_keep_their_promises_under_all_faults():
    attempt("everything", 5)


for nemesis in [function for name, function in list(vars().items()) if name.startswith("test_")]:
    nemesis.takes_long = True


def test_disks_that_lie_about_their_syncs_lose_what_was_acknowledged_and_the_judge_says_so():
    """The faults bite and the judge sees: with the one fault that no node can survive."""
    with Lab(3) as lab:
        # Nobody reads along: what is lost is in no log then, and contradicts none.
        lab.done.set()
        lab.collector.join()
        for node in lab.nodes:
            node.disk.set("lies", 1)
        load = Load(lab.network, [(node.name, node.address) for node in lab.nodes], 4, ["x", "y"], SEED, leases=False)
        wait_until(lambda: load.accepted() > 200, "some changes are acknowledged")
        operations = load.stop()
        for node in lab.nodes:
            node.kill()
        for node in lab.nodes:
            node.lose_power(random.Random(1), "all is lost")
            node.disk.heal()
            node.launch()
        log, maps = lab.final()
        rules = {violation.rule for violation in history.judge(operations, log, maps)}
        assert "an answer is final" in rules, rules
