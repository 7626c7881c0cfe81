"""B9: everything started and nothing to do: memory, processor time, and how soon it is ready."""

import os
import pathlib
import statistics
import time

from bed import Bed

TASK = "    - name: say it\n      ansible.builtin.debug: {msg: hello}\n"


def run(root, binary, rounds, seconds):
    """Memory and processor time at rest, and the median of `rounds` starts."""
    bed = Bed(root, binary, {"beacon": TASK})
    try:
        starts = []
        for _ in range(rounds):
            starts.append(bed.start())
            bed.stop()
        bed.start()
        time.sleep(2)
        before = cpu_seconds(bed.up.pid)
        time.sleep(seconds)
        used = (cpu_seconds(bed.up.pid) - before) * 60 / seconds
        return [
            {"id": "B9", "what": "start to ready", "ours": statistics.median(starts) * 1000, "unit": "ms", "most": 200},
            {"id": "B9", "what": "memory at rest (PSS)", "ours": pss_mb(bed.up.pid), "unit": "MB", "most": 55},
            {"id": "B9", "what": f"processor time a minute ({seconds} s)", "ours": used, "unit": "s", "most": 0.1},
        ]
    finally:
        bed.close()


def tree(pid):
    """A process and everything below it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found.extend(tree(int(child)))
    return found


def pss_mb(pid):
    """Proportional set size of a process and everything below it, in MB."""
    total = 0
    for one in tree(pid):
        for line in pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def cpu_seconds(pid):
    """User and system time of a process and everything below it."""
    ticks = 0
    for one in tree(pid):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rsplit(") ", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
