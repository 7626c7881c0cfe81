"""B2: from `git push` of a merged plan to its result on the audit branch, beside a shell hook that does just that."""

import statistics
import time

from bed import Bed, read_ref
from services import psql

TASK = "    - name: say it\n      ansible.builtin.debug: {msg: hello}\n"

HOOK = """#!/bin/sh
set -eu
work=$(mktemp -d)
git --git-dir={infra}/.git archive main | tar -x -C "$work"
unset GIT_DIR GIT_QUARANTINE_PATH
cd "$work"
{ansible} -i inventory/hosts.yml playbooks/beacon-deployment.yml > "$work/log" 2>&1
{record}
export GIT_DIR={bare} GIT_INDEX_FILE="$work/index"
blob=$(git hash-object -w "$work/log")
git update-index --add --cacheinfo "100644,$blob,results/result-1.yaml"
tree=$(git write-tree)
commit=$(git commit-tree -m result "$tree")
git update-ref refs/heads/audit "$commit"
rm -rf "$work"
"""


# How the hook records, in the kind of database that ours is in.
SQLITE = """python3 -I -S -c '
import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=60) as database:
    database.execute("create table if not exists floor (id integer primary key, state text, log text)")
    database.execute("insert into floor (state, log) values (?, ?)", ("succeeded", open(sys.argv[2]).read()))
' {folder}/floor.db "$work/log" """
POSTGRES = """printf '%s' "insert into floor (state, log) values ('succeeded', :'log')" |
{psql} -qX {url} -v log="$(cat "$work/log")" """


def recording(bed):
    """The hook's line that records."""
    if bed.session is None:
        return SQLITE.format(folder=bed.folder)
    bed.session.rows("create table floor (id bigint generated always as identity primary key, state text, log text)")
    return POSTGRES.format(psql=psql(), url=bed.place.postgres)


def run(root, binary, rounds, apart=False):
    """Medians of both, alternating."""
    bed = Bed(root, binary, {"beacon": TASK}, apart=apart)
    try:
        bare, person = bed.folder / "floor.git", bed.folder / "floor"
        bed.git(bed.folder, "clone", "--quiet", "--bare", bed.requests, bare)
        hook = bare / "hooks/post-receive"
        for old in (bare / "hooks").glob("*"):
            old.unlink()
        hook.write_text(HOOK.format(infra=bed.infra, ansible=bed.ansible, bare=bare, record=recording(bed)))
        hook.chmod(0o755)
        bed.git(bed.folder, "clone", "--quiet", bare, person)
        bed.start()
        ours, floor, job = [], [], []
        for number in range(rounds + 1):
            name = f"request-{number}"
            bed.commit_request(name, "Deploy beacon")
            bed.push()
            bed.plan(name)
            bed.merge(name)
            ours.append(bed.approve_and_wait(name)[0])
            floor.append(by_hook(bed, person, name))
            job.append(alone(bed))
        return [{
            "id": "B2", "what": "approval to result" + (", all apart" if apart else ", embedded"), "ours_s": statistics.median(ours[1:]),
            "floor_s": statistics.median(floor[1:]), "floor": "a post-receive hook doing exactly that", "goal": 1.05,
            "job_s": statistics.median(job[1:]),
        }]
    finally:
        bed.close()


def by_hook(bed, person, name):
    """A push whose hook runs the job and records it before the push ends."""
    (person / "approved").write_text(name)
    bed.git(person, "add", "--all")
    bed.git(person, "commit", "--quiet", "--message", name)
    before = read_ref(bed.folder / "floor.git", "refs/heads/audit")
    begun = time.monotonic()
    bed.git(person, "push", "--quiet", "origin", "HEAD:main")
    took = time.monotonic() - begun
    if read_ref(bed.folder / "floor.git", "refs/heads/audit") == before:
        raise SystemExit("the hook of the floor did not do its work")
    return took


def alone(bed):
    """The job by itself."""
    begun = time.monotonic()
    bed.run([bed.ansible, "-i", "inventory/hosts.yml", "playbooks/beacon-deployment.yml"], cwd=bed.infra)
    return time.monotonic() - begun
