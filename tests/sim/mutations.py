"""Does the simulator find every bug of src/base/mutation.h? mutations.py SIM SCENARIO-FILE...

Each bug is looked for in the scenarios, and in random runs from seed 1 on, up to its budget. One that neither finds
fails, and so does one that only scenarios find, unless it is listed below with the reason.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
import time

SEEDS = 8000
SECONDS = 1200                  # of one search, on a machine that does other things, too

# Needs a course of events that chance does not take within the budget.
SCENARIO_ONLY = {
    "DEPOSE": "it costs availability only, and no rule says how often leaders may change while faults last",
    "EXPIRE_UNPROVED": "whom the leader does not hear cannot count on its session either: it costs the session, and no promise to anybody else",
    "LATE_WRITE": "a node speaks in a term when that is on disk, so all that was queued before is, too, before a new leader cuts it off",
    "OLD_FORWARD": "a message waits on one link while leadership goes and comes back",
    "REFUSAL_KEPT": "three leaderships for one copy of a request, whose answers are lost twice; who sent more than one copy cancels, and learns the truth",
    "READ_UNPROVED": "a leader that does not know that it was deposed, and a read of what another has committed since, in the moment before it steps down: one seed in some 8,000",
    "REFUSAL_FORGOTTEN": "the network doubles a forwarded request, and the second copy comes after the lock was freed, while the same leader leads",
    "RENEW_UNPROVED": "a leader that hears no majority steps down (E5) about when another may be elected: chance hardly finds a moment between the two",
    "STALE_ROUND": "a change comes between the proof of leadership and the question, and makes the refusal untrue: one seed in some 7,000",
    "STALL_EXPIRES": "as EXPIRE_UNPROVED: what was renewed meanwhile was not answered",
    "REMOVED_LEADS": "an operator's wish never removes the leader: it hands over first",
}


def run(arguments):
    """(found, what was said last)"""
    try:
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False, f"nothing within {SECONDS} s"
    lines = [line for line in done.stderr.splitlines() if line.startswith("sim: ") and not line.startswith("sim: make ")]
    if done.returncode == 0:
        return False, "not found"
    if not lines:
        return done.returncode == 1, f"status {done.returncode}: " + " ".join(done.stderr.splitlines()[-1:])
    return True, lines[-1].removeprefix("sim: ")


def look_for(sim, name, scenarios):
    begin = time.monotonic()
    by_scenario = run([sim, "--mutation", name, "--scenario", *scenarios])
    by_seed = run([sim, "--mutation", name, "--seeds", str(SEEDS if name not in SCENARIO_ONLY else SEEDS // 80)])
    return by_scenario, by_seed, time.monotonic() - begin


def tell(name, what, by_scenario, by_seed, seconds):
    """The lines about one mutation; True: it was found as it must be."""
    seed = re.match(r"seed (\d+) at (\d+) ms: (.*)", by_seed[1])
    scenario = re.match(r'(\S+):(\d+), scenario "(.*)", at \d+ ms: (.*)', by_scenario[1])
    good = by_seed[0] or (by_scenario[0] and name in SCENARIO_ONLY)
    print(f"{'found' if good else 'MISSED'}: {name}: {what} ({seconds:.0f} s)")
    if scenario:
        print(f"    scenario: {scenario[3]}: {scenario[4]}")
    elif by_scenario[0]:
        print(f"    scenario: {by_scenario[1]}")
    if seed:
        print(f"    seeds: after {seed[1]}: {seed[3]}")
    elif name in SCENARIO_ONLY:
        print(f"    seeds: {by_seed[1]}: {SCENARIO_ONLY[name]}")
    else:
        print(f"    seeds: {by_seed[1]}")
    sys.stdout.flush()
    return good


def main():
    sim, scenarios = sys.argv[1], sys.argv[2:]
    listed = subprocess.run([sim, "--mutations"], capture_output=True, text=True, check=True).stdout
    mutations = [line.split("\t") for line in listed.splitlines() if not os.environ.get("MUTATION") or line.split("\t")[0] == os.environ["MUTATION"]]
    found = missed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for (name, what), result in zip(mutations, pool.map(lambda each: look_for(sim, each[0], scenarios), mutations)):
            if tell(name, what, *result):
                found += 1
            else:
                missed += 1
    print(f"mutations: {found} passed, {missed} failed")
    return 1 if missed or not found else 0


if __name__ == "__main__":
    sys.exit(main())
