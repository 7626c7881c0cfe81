"""B3: ten approvals back to back, each to a host of its own, two at a time, beside a shell that does the same."""

import statistics
import subprocess
import time

from b2 import HOOK, TASK, recording
from bed import Bed, wait_for

WORDS = ["beacon", "lighthouse", "foghorn", "torrent", "harbour", "anchor", "compass", "lantern", "rudder", "galley"]

# What the shell does: pushes one after the other, and a job for each that was pushed, two at a time.
BURST = """set -eu
cd {clone}
for pair in {pairs}; do
    git push --quiet {bare} "${{pair#*=}}:refs/heads/main"
    echo "${{pair%%=*}}"
done | xargs -P 2 -n 1 {job}
"""


def run(root, binary, rounds, apart=False):
    """Medians of both, alternating."""
    bed = Bed(root, binary, dict.fromkeys(WORDS, TASK), own=True, apart=apart, parallel=2)
    try:
        bare, job = bed.folder / "floor.git", bed.folder / "job"
        bed.git(bed.folder, "clone", "--quiet", "--bare", bed.requests, bare)
        for hook in (bare / "hooks").glob("*"):
            hook.unlink()
        text = HOOK.format(infra=bed.infra, ansible=bed.ansible, bare=bare, record=recording(bed))
        # The same job, for the playbook that it is called with and with a reference of its own for the result.
        text = text.replace("beacon-deployment", '"$1"-deployment').replace("heads/audit", 'heads/audit/"$1"')
        job.write_text(text)
        job.chmod(0o755)
        bed.start()
        ours, floor = [], []
        for number in range(rounds):
            merges = prepare(bed, number)
            ours.append(burst(bed, number, merges))
            floor.append(by_shell(bed, bare, job, merges))
        ours, floor = statistics.median(ours), statistics.median(floor)
        return [{
            "id": "B3", "what": "ten approvals" + (", all apart" if apart else ", embedded"), "ours_s": ours,
            "floor_s": floor, "floor": f"the shell, {600 / floor:.0f} a minute; ours {600 / ours:.0f}", "goal": 1.0,
        }]
    finally:
        bed.close()


def prepare(bed, number):
    """Ten requests and their plans, merged one after the other and not pushed; the merges by word."""
    for word in WORDS:
        bed.commit_request(f"{word}-{number}", f"Deploy {word}")
        bed.push()
    merges = {}
    for word in WORDS:
        bed.plan(f"{word}-{number}")
        bed.merge(f"{word}-{number}")
        merges[word] = bed.git(bed.clone, "rev-parse", "HEAD")
    return merges


def burst(bed, number, merges):
    """Pushes all merges back to back and waits for the last row; seconds."""
    wanted = ", ".join(f"'{word}-{number}'" for word in WORDS)
    query = f"SELECT kind FROM events WHERE request IN ({wanted}) AND kind LIKE 'run-%' AND audit_commit IS NOT NULL"
    begun = time.monotonic()
    for commit in merges.values():
        bed.git(bed.clone, "push", "--quiet", "origin", f"{commit}:refs/heads/main")
    wait_for(lambda: len(bed.rows(query)) == len(WORDS), "ten results", 0.02)
    took = time.monotonic() - begun
    kinds = {row[0] for row in bed.rows(query)}
    if kinds != {"run-succeeded"}:
        raise SystemExit(f"not all succeeded: {kinds}")
    return took


def by_shell(bed, bare, job, merges):
    """The same by the shell; seconds."""
    pairs = " ".join(f"{word}={commit}" for word, commit in merges.items())
    script = BURST.format(clone=bed.clone, bare=bare, pairs=pairs, job=job)
    begun = time.monotonic()
    subprocess.run(["sh", "-c", script], env=bed.env, check=True)
    return time.monotonic() - begun
