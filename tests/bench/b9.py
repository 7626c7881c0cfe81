"""B9: everything started and nothing to do: memory, processor time, and how soon it is ready."""

import os
import pathlib
import statistics
import time

from bed import Bed

TASK = "    - name: say it\n      ansible.builtin.debug: {msg: hello}\n"


def run(root, binary, rounds, seconds):
    """Memory and processor time at rest, and the median of `rounds` starts; in one process, and apart."""
    return together(root, binary, rounds, seconds) + apart(root, binary, rounds, seconds)


def together(root, binary, rounds, seconds):
    """Everything in one process."""
    bed = Bed(root, binary, {"beacon": TASK})
    try:
        took = starts(bed, rounds)
        (used,) = at_rest([bed.up.pid], seconds)
        return [
            row("start to ready", took, "ms", 200),
            row("memory at rest (PSS)", pss_mb(bed.up.pid), "MB", 55),
            row(f"processor time a minute ({seconds} s)", used, "s", 0.1),
        ]
    finally:
        bed.close()


def apart(root, binary, rounds, seconds):
    """A reconciler and an agent in processes of their own, over a broker and a database, which are not counted."""
    bed = Bed(root, binary, {"beacon": TASK}, apart=True)
    try:
        took = starts(bed, rounds)
        reconciler, agent = at_rest([bed.up.pid, bed.agent.pid], seconds)
        return [
            row("apart: start to /readyz", took, "ms", None),
            row("apart: chiffon at rest (PSS)", pss_mb(bed.up.pid), "MB", 40),
            row("apart: chiffon-agent at rest (PSS)", pss_mb(bed.agent.pid), "MB", 15),
            row("apart: chiffon's processor time a minute", reconciler, "s", 0.1),
            row("apart: chiffon-agent's processor time a minute", agent, "s", 0.1),
        ]
    finally:
        bed.close()


def row(what, ours, unit, most):
    """One figure."""
    limit = {} if most is None else {"most": most}
    return {"id": "B9", "what": what, "ours": ours, "unit": unit} | limit


def starts(bed, rounds):
    """The median of some starts in ms; afterwards it runs."""
    took = []
    for _ in range(rounds):
        took.append(bed.start())
        bed.stop()
    bed.start()
    return statistics.median(took) * 1000


def at_rest(pids, seconds):
    """Processor seconds a minute of each process while nothing happens."""
    time.sleep(2)
    before = [cpu_seconds(pid) for pid in pids]
    time.sleep(seconds)
    return [(cpu_seconds(pid) - used) * 60 / seconds for pid, used in zip(pids, before)]


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
