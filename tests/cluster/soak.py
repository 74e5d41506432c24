"""Trial after trial for SOAK_SECONDS, each with a seed of its own: SEED.0, SEED.1 and so on."""
import os
import sys
import time

import nemesis
import trial

TRIAL_S = 75


def trials():
    """(mix, nodes, settings), all of them again and again."""
    while True:
        for settings in ("", trial.SHORT_LOG):
            for count in (3, 5):
                for mix in nemesis.MIXES:
                    yield mix, count, settings


def main():
    seed = os.environ.get("SEED") or str(int.from_bytes(os.urandom(4), "big"))
    seconds = float(os.environ.get("SOAK_SECONDS", "3600"))
    begin, passed, failed = time.monotonic(), 0, 0
    print(f"soak: {seconds:.0f} s, seed {seed}", flush=True)
    for number, (mix, count, settings) in enumerate(trials()):
        left = seconds - (time.monotonic() - begin)
        if left < 10:
            break
        name = f"{time.monotonic() - begin:6.0f} s  seed {seed}.{number}, {mix}, {count} nodes{', short log' if settings else ''}"
        try:
            told = trial.run(f"{seed}.{number}", mix, count, min(TRIAL_S, left - 5), settings)
            passed += 1
            print(f"ok    {name}: {told}", flush=True)
        except trial.Failed as failure:
            failed += 1
            print(f"FAIL  {name}\n{failure}\n      again: python3 tests/cluster/trial.py {seed}.{number} {mix} {count} {TRIAL_S}{' short' if settings else ''}", flush=True)
    print(f"soak: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
