"""What goes wrong, when, and to whom: a schedule that a seed makes, and its execution.

Every fault has a begin and an end. A step names its target by number, or "leader", who is looked for when it begins; a
step whose target is down already does nothing. The schedule is the same for the same seed; what it meets is not."""
import contextlib
import dataclasses
import errno
import itertools
import random
import signal
import time

import wire
from disk import POWER_CUTS
from network import CLIENTS, CUT
from nodes import PATIENCE, wait_until


@dataclasses.dataclass
class Step:
    at: float
    fault: str
    target: object
    seconds: float
    seed: int

    def __str__(self):
        target = f" of {self.target if self.target == 'leader' else f'node {self.target}'}" if self.target else ""
        return f"{self.at:7.2f} s  {self.fault}{target} for {self.seconds:.2f} s"


# fault: (whom it is for: one node or the network; the shortest and longest time)
FAULTS = {
    "kill": ("node", 0.0, 2.5),
    "power cut": ("node", 0.0, 2.5),
    "pause": ("node", 0.1, 4.0),
    "clean restart": ("node", 0.0, 1.0),
    "transfer": ("node", 0.0, 0.1),
    "isolation": ("node", 0.3, 4.0),
    "deafness": ("node", 0.3, 4.0),
    "muteness": ("node", 0.3, 4.0),
    "disk stall": ("node", 0.2, 3.0),
    "slow disk": ("node", 0.5, 4.0),
    "failing sync": ("node", 0.3, 1.5),
    "death in a write": ("node", 0.3, 1.5),
    "death while starting": ("node", 0.3, 1.5),
    "split": ("network", 0.5, 4.0),
    "cut pair": ("network", 0.5, 4.0),
    "lossy links": ("network", 0.5, 4.0),
    "slow links": ("network", 0.5, 4.0),
    "kill of all": ("network", 0.0, 0.5),
    "power cut of all": ("network", 0.0, 0.5),
}

MIXES = {
    "processes": ["kill", "kill", "pause", "clean restart", "transfer", "transfer", "kill of all"],
    "links": ["isolation", "isolation", "deafness", "muteness", "split", "cut pair", "lossy links", "slow links"],
    "disks": ["power cut", "power cut", "disk stall", "slow disk", "failing sync", "death in a write", "death in a write", "death while starting",
              "power cut of all"],
    "everything": list(FAULTS),
}


def plan(seed, mix, count, seconds):
    """The schedule: faults overlap, but not without end."""
    dice = random.Random(f"{seed}/{mix}/{count}")
    steps, at = [], 0.5
    while at < seconds:
        fault = dice.choice(MIXES[mix])
        whom, shortest, longest = FAULTS[fault]
        target = (dice.choice(["leader", *range(1, count + 1)]) if dice.random() < 0.7 else "leader") if whom == "node" else None
        steps.append(Step(at, fault, target, min(dice.uniform(shortest, longest), seconds - at + 0.5), dice.randrange(2**32)))
        at += dice.uniform(0.2, 2.5)
    return steps


class Nemesis:
    def __init__(self, lab, steps):
        self.lab, self.steps = lab, steps
        self.ends, self.serial = [], itertools.count()
        self.said = []

    def say(self, text):
        self.said.append(f"{time.monotonic() - self.begin:7.2f} s  {text}")

    def run(self, watch):
        """Carries the schedule out; calls watch() again and again, which may raise."""
        self.begin = time.monotonic()
        steps = list(self.steps)
        while steps or self.ends:
            now = time.monotonic() - self.begin
            self.ends.sort(key=lambda end: end[:2])
            while self.ends and self.ends[0][0] <= now:
                self.ends.pop(0)[2]()
            if steps and steps[0].at <= now:
                self.start(steps.pop(0))
            self.look_for_the_dead()
            watch()
            time.sleep(0.02)

    def heal(self):
        """Ends whatever still lasts."""
        for _, _, end in sorted(self.ends, key=lambda end: end[:2]):
            end()
        self.ends.clear()
        self.lab.network.heal()

    def look_for_the_dead(self):
        for node in self.lab.nodes:
            if not node.down and not node.is_running() and node.disk_ended_it():
                self.relaunch(node)()
            assert node.down or node.is_running(), f"{node.name} ended by itself, with {node.process.returncode}:\n{node.log()[-3000:]}"

    def start(self, step):
        dice = random.Random(step.seed)
        node = None
        if step.target:
            number = step.target if step.target != "leader" else self.lab.leader() or dice.randrange(len(self.lab.nodes)) + 1
            node = self.lab.node(number)
            if node.down:
                self.say(f"no {step.fault}: {node.name} is down")
                return
        end = getattr(self, step.fault.replace(" ", "_"))(*[node] if node else [], step, dice)
        # Its begin may have taken a while, as that of a clean restart does.
        self.ends.append((time.monotonic() - self.begin + step.seconds, next(self.serial), end))
        self.say(f"{step.fault}{f' of {node.name}' if node else ''} for {step.seconds:.2f} s")

    def relaunch(self, node):
        def end():
            if not node.is_running():
                node.launch()
                self.say(f"{node.name} is started")
        return end

    # --- processes ---

    def kill(self, node, step, dice):
        node.kill()
        return self.relaunch(node)

    def kill_of_all(self, step, dice):
        """Those too that are down; and the faults of their disks end, so that they come back together."""
        ends = [self.kill(node, step, dice) for node in self.lab.nodes]
        for node in self.lab.nodes:
            node.disk.heal()
        return lambda: [end() for end in ends]

    def clean_restart(self, node, step, dice):
        # One that has only just been started does not know yet what SIGTERM means.
        wait_until(node.answers, f"{node.name} answers")
        node.down = True
        node.stop()
        return self.relaunch(node)

    def transfer(self, node, step, dice):
        """Leadership to it, asked of any node. It need not come to that."""
        result = None
        with contextlib.suppress(OSError, wire.Closed, wire.Refused):
            with wire.Connection(dice.choice([each for each in self.lab.nodes if not each.down]).address, "operator", timeout=3) as connection:
                result = connection.transfer(node.name, deadline_ms=2000)
        self.say(f"transfer to {node.name}: {result}")
        return lambda: None

    def pause(self, node, step, dice):
        process = node.process
        process.send_signal(signal.SIGSTOP)
        node.down = True

        def end():
            if node.process is process and node.is_running():
                process.send_signal(signal.SIGCONT)
                node.down = False
        return end

    # --- links ---

    def network_fault(self, pairs, **how):
        key = object()
        self.lab.network.begin(key, pairs, **how)

        def end():
            if key in self.lab.network.faults:
                self.lab.network.end(key)
        return end

    def peers_of(self, node):
        return [other.number for other in self.lab.nodes if other is not node]

    def isolation(self, node, step, dice):
        # From everybody, or from the nodes while its clients still reach it.
        others = self.peers_of(node) + ([CLIENTS] if dice.random() < 0.5 else [])
        return self.network_fault(self.lab.network.between([node.number], others), loss=CUT)

    def deafness(self, node, step, dice):
        return self.network_fault([(other, node.number) for other in self.peers_of(node)], loss=CUT)

    def muteness(self, node, step, dice):
        return self.network_fault([(node.number, other) for other in self.peers_of(node)], loss=CUT)

    def split(self, step, dice):
        numbers = [node.number for node in self.lab.nodes]
        some = dice.sample(numbers, dice.randrange(1, len(numbers)))
        return self.network_fault(self.lab.network.between(some, set(numbers) - set(some)), loss=CUT)

    def cut_pair(self, step, dice):
        pairs = self.lab.network.between(*([number] for number in dice.sample([node.number for node in self.lab.nodes], 2)))
        return self.network_fault(pairs if dice.random() < 0.5 else pairs[:1], loss=CUT)

    def lossy_links(self, step, dice):
        return self.network_fault(self.lab.network.everywhere(), loss=dice.randrange(10, 250), twice=dice.randrange(100))

    def slow_links(self, step, dice):
        return self.network_fault(self.lab.network.everywhere(), delay_us=dice.randrange(500, 40000), jitter_us=dice.randrange(20000))

    # --- disks ---

    def power_cut(self, node, step, dice):
        how = dice.choice(POWER_CUTS)
        node.lose_power(dice, how)
        self.say(f"{node.name}: {how}")
        return self.relaunch(node)

    def power_cut_of_all(self, step, dice):
        self.kill_of_all(step, dice)
        ends = [self.power_cut(node, step, dice) for node in self.lab.nodes]
        return lambda: [end() for end in ends]

    def disk_stall(self, node, step, dice):
        node.disk.stall(step.seconds)
        return lambda: None

    def slow_disk(self, node, step, dice):
        node.disk.set("sync_ns", dice.randrange(5, 300) * 1000000)
        return lambda: node.disk.set("sync_ns", 0)

    def failing_sync(self, node, step, dice):
        """The node must end: what it could not write it may not serve (promise 7)."""
        process = node.process
        node.disk.set("sync_errno", dice.choice([errno.EIO, errno.ENOSPC]))
        return self.ends_by_itself(node, process, dice)

    def death_in_a_write(self, node, step, dice):
        process = node.process
        node.disk.set("dies_in", dice.randrange(1, 60))
        return self.ends_by_itself(node, process, dice)

    def death_while_starting(self, node, step, dice):
        """What it found in its files and has not synced is on no disk yet."""
        node.kill()
        node.disk.set("dies_in", dice.randrange(1, 12))
        node.launch()
        return self.ends_by_itself(node, node.process, dice)

    def ends_by_itself(self, node, process, dice):
        """And comes back, perhaps after a power cut. It need not end if it has not written anything."""
        node.down = True

        def end():
            # Somebody may have killed it and started it again: then its own writes are not this fault's any more.
            if node.process is process and node.disk_ended_it():
                wait_until(lambda: process.poll() is not None, lambda: f"{node.name} ends because its disk fails\n{node.log()[-1000:]}", PATIENCE)
            node.disk.heal()
            if node.is_running():
                node.down = False
                return
            self.say(f"{node.name} has ended with {node.process.returncode}")
            if dice.random() < 0.5:
                self.power_cut(node, None, dice)
            node.launch()
        return end
