"""Measures Chiffon beside what limits it, in one run, and prints ratios. `make bench` builds and starts it.

`make bench` starts the broker and the database that some need. Each figure of ours alternates with its floor, so that both meet the same machine. Differences under 25 % of a second
run are noise on a shared one.
"""

import argparse
import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import b1
import b2
import b3
import b4
import b5
import b6
import b7
import b9
import forge
import questions


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="the repository")
    parser.add_argument("--binary", help="the chiffon to measure (default: target/release/chiffon)")
    parser.add_argument("--only", default="B1,B2,B3,B4,B5,B6,B7,B9,audit,forge", help="ids, with commas")
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    binary = pathlib.Path(options.binary or f"{options.root}/target/release/chiffon").resolve()
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}, {binary}", file=sys.stderr)
    root, quick = options.root, options.quick
    benches = {
        "B1": lambda: b1.run(root, binary, 5 if quick else 25),
        "B2": lambda: b2.run(root, binary, 2 if quick else 9) + b2.run(root, binary, 2 if quick else 9, apart=True),
        "B3": lambda: b3.run(root, binary, 1 if quick else 3) + b3.run(root, binary, 1 if quick else 3, apart=True),
        "B4": lambda: b4.run(root, binary, 1 if quick else 3, 50 if quick else 300, 100 if quick else 2000),
        "B5": lambda: b5.run(binary, 2 if quick else 5, 10_000 if quick else 30_000),
        "B6": lambda: b6.run(binary, 1 if quick else 3, 100_000 if quick else 1_000_000),
        "B7": lambda: b7.run(root, binary, 1 if quick else 5),
        "B9": lambda: b9.run(root, binary, 3 if quick else 10, 10 if quick else 60),
        "forge": lambda: forge.run(root, binary, 3 if quick else 15, 20 if quick else 200, 60 if quick else 180),
        "audit": lambda: questions.run(binary, 5 if quick else 20),
    }
    rows = []
    for bench in options.only.split(","):
        print(f"{bench} …", file=sys.stderr)
        for row in benches[bench]():
            rows.append(row)
            if not options.json:
                print(line(row), flush=True)
    if options.json:
        print(json.dumps(rows, indent=2))


def line(row):
    """One row for people."""
    if "ours" in row:
        return figure(row)
    ratio = row["ours_s"] / row["floor_s"]
    met = "met" if ratio <= row["goal"] else "MISSED"
    more = "".join(
        f", {key.removesuffix('_s')} alone {row[key] * 1000:.0f} ms" for key in ("job_s", "run_s") if key in row
    )
    return (
        f"{row['id']}  {row['what']:<38} {row['ours_s'] * 1000:8.0f} ms, floor {row['floor_s'] * 1000:.0f} ms"
        f" ({row['floor']}{more}): {ratio:.2f}×, goal ≤ {row['goal']}×  {met}"
    )


def figure(row):
    """A row that is not of seconds beside a floor: with a limit of its own, or none, and each figure beside it as a ratio."""
    unit, ours = row["unit"], row["ours"]
    beside = ", ".join(f"{name} {value:.4g} {unit}: {ratio(ours, value)}" for name, value in row.get("beside", []))
    text = f"{row['id']:<5} {row['what']:<44} {ours:10.1f} {unit:<3}" + (f" ({beside})" if beside else "")
    if "most" in row:
        return f"{text} goal ≤ {row['most']} {unit}  {'met' if ours <= row['most'] else 'MISSED'}"
    if "least" in row:
        return f"{text} goal ≥ {row['least']:.4g} {unit}  {'met' if ours >= row['least'] else 'MISSED'}"
    return text


def ratio(ours, other):
    """How many times the other it is."""
    return f"{ours / other:.2f}×" if other else "-"


if __name__ == "__main__":
    main()
