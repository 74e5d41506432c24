"""Which lines of the pure rooms does the simulator not run, and is there a reason for each? coverage.py BUILD LIST

The list (tests/sim/uncovered.txt) has a reason, "# ...", before lines "file function: source text"; the text * stands for a
function that is not run at all. A line that is not run and not on the list fails, and so does a line of the list that is
nowhere in the source, and coverage below MINIMUM.
"""
import collections
import json
import pathlib
import subprocess
import sys

ROOMS = ("lock", "raft", "replica")
MINIMUM = 95.0
# What must never run.
IMPOSSIBLE = ("abort();", "assert(false);")


def counts(build):
    """{(file, function, line): how often it ran}"""
    ran = collections.Counter()
    data = [str(path.resolve()) for room in ROOMS for path in sorted((build / "obj" / room).glob("*.gcda"))]
    out = subprocess.run(["gcov", "--json-format", "--stdout", *data], capture_output=True, text=True, check=True).stdout
    for document in filter(None, out.split("\n")):
        for file in json.loads(document)["files"]:
            if file["file"].startswith(tuple(f"src/{room}/" for room in ROOMS)):
                for line in file["lines"]:
                    ran[file["file"], line.get("function_name", "?"), line["line_number"]] += line["count"]
    return ran


def read_list(path):
    """{what: reason}"""
    reasons, reason = {}, ""
    for line in path.read_text().splitlines():
        if line.startswith("#"):
            reason = line.lstrip("# ")
        elif line.strip():
            reasons[line.strip()] = reason
    return reasons


def main():
    build, listed = pathlib.Path(sys.argv[1]), read_list(pathlib.Path(sys.argv[2]))
    ran, bad, seen, sources = counts(build), [], set(), {}
    idle = {(file, function) for file, function, _ in ran} - {(file, function) for (file, function, _), count in ran.items() if count > 0}
    seen.update(f"{file} {function}: *" for file, function in idle)
    for (file, function, number), count in sorted(ran.items()):
        lines = sources.setdefault(file, pathlib.Path(file).read_text().splitlines())
        what = f"{file} {function}: {' '.join(lines[number - 1].split())}"
        seen.add(what)
        if count == 0 and what not in listed and not lines[number - 1].strip().startswith(IMPOSSIBLE) and not ((file, function) in idle and f"{file} {function}: *" in listed):
            bad.append(what)
    covered = 100 * sum(count > 0 for count in ran.values()) / len(ran)
    for what in bad:
        print(f"coverage: not run, and no reason in {sys.argv[2]}:\n{what}")
    gone = sorted(set(listed) - seen)
    for what in gone:
        print(f"coverage: no such line any more, but in {sys.argv[2]}:\n{what}")
    reasonless = [what for what, reason in listed.items() if not reason]
    for what in reasonless:
        print(f"coverage: no reason given in {sys.argv[2]}:\n{what}")
    for room in ROOMS:
        own = [count > 0 for (file, _, _), count in ran.items() if file.startswith(f"src/{room}/")]
        print(f"coverage: {100 * sum(own) / len(own):.1f} % of {len(own)} lines of {room}/")
    print(f"coverage: {covered:.1f} % of {len(ran)} lines in all")
    failed = len(bad) + len(gone) + len(reasonless) + (covered < MINIMUM)
    print(f"coverage: {0 if failed else 1} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
