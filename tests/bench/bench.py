"""Measures Chiffon beside what limits it, in one run, and prints ratios. `make bench` builds and starts it.

Each figure of ours alternates with its floor, so that both meet the same machine. Differences under 25 % of a second
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
import b7
import b9


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="the repository")
    parser.add_argument("--binary", help="the chiffon to measure (default: target/release/chiffon)")
    parser.add_argument("--only", default="B1,B2,B7,B9", help="ids, with commas")
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    binary = pathlib.Path(options.binary or f"{options.root}/target/release/chiffon").resolve()
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load}, {binary}", file=sys.stderr)
    quick = options.quick
    benches = {
        "B1": lambda: b1.run(options.root, binary, 5 if quick else 25),
        "B2": lambda: b2.run(options.root, binary, 2 if quick else 9),
        "B7": lambda: b7.run(options.root, binary, 1 if quick else 5),
        "B9": lambda: b9.run(options.root, binary, 3 if quick else 10, 10 if quick else 60),
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
    if "most" in row:
        met = "met" if row["ours"] <= row["most"] else "MISSED"
        return f"{row['id']}  {row['what']:<38} {row['ours']:8.1f} {row['unit']:<3} goal ≤ {row['most']} {row['unit']}  {met}"
    ratio = row["ours_s"] / row["floor_s"]
    met = "met" if ratio <= row["goal"] else "MISSED"
    more = "".join(
        f", {key.removesuffix('_s')} alone {row[key] * 1000:.0f} ms" for key in ("job_s", "run_s") if key in row
    )
    return (
        f"{row['id']}  {row['what']:<38} {row['ours_s'] * 1000:8.0f} ms, floor {row['floor_s'] * 1000:.0f} ms"
        f" ({row['floor']}{more}): {ratio:.2f}×, goal ≤ {row['goal']}×  {met}"
    )


if __name__ == "__main__":
    main()
