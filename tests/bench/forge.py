"""B10: from a webhook to an open pull request, beside the same git and HTTP calls alone; and how often a forge is asked
while many plans lie there open."""

import hashlib
import hmac
import json
import pathlib
import statistics
import subprocess
import time
import urllib.request

from bed import Bed, free_port
from services import DIRECT

SECRET = "a-secret-of-the-benchmark"
TASK = "    - name: write the settings\n      ansible.builtin.copy: {content: x, dest: /tmp/none}\n"

# How often a forge is looked at where nobody says otherwise.
POLL_SECS = 30

# What a plan may cost at rest: a call in five minutes.
CALLS_PER_PLAN_PER_MINUTE = 1 / 5


class Forge:
    """The test forge in a process of its own."""

    def __init__(self, binary, dialect):
        program = pathlib.Path(binary).parent / "chiffon-test-forge"
        self.dialect = dialect
        self.process = subprocess.Popen([program, dialect], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.at = json.loads(self.process.stdout.readline())

    def ask(self, line):
        """Asks it, and waits for the answer."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def post(self, path, body):
        """A call of its interface, as Chiffon's account."""
        prefix = "/api/v1" if self.dialect == "gitea" else ""
        url = f"{self.at['url']}{prefix}/repos/{self.at['slug']}{path}"
        headers = {"Authorization": f"token {self.at['token']}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        with DIRECT.open(urllib.request.Request(url, data=data, headers=headers), timeout=30) as answer:
            return answer.read()

    def close(self):
        """Ends it."""
        self.process.stdin.close()
        self.process.wait(10)


def home_on(root, binary, forge, poll_secs):
    """A home whose requests live on a forge, and that hears its webhooks."""
    bed = Bed(root, binary, {"journal": TASK})
    bare, home = forge.at["bare"], bed.home
    bed.git(bed.clone, "push", "--quiet", bare, "HEAD:main")
    bed.git(bed.clone, "remote", "set-url", "origin", bare)
    bed.run(["rm", "-r", bed.requests])
    for name, secret in (("forge-token", forge.at["token"]), ("webhook-secret", SECRET)):
        (home / name).write_text(secret)
        (home / name).chmod(0o600)
    bed.address = f"127.0.0.1:{free_port()}"
    kind = "forgejo" if forge.dialect == "gitea" else "github"
    bed._configure(
        f"  poll_secs: {poll_secs}\n  web:\n    listen: {bed.address}\n  forge:\n    kind: {kind}\n"
        f"    url: {forge.at['url']}\n    repository: {forge.at['slug']}\n    git_url: {bare}\n"
        f"    token_file: forge-token\n    webhook_secret_file: webhook-secret\n"
    )
    bed.start()
    return bed


def knock(bed, forge):
    """Says that something happened there, as the forge does."""
    body = json.dumps({"repository": {"full_name": forge.at["slug"]}}).encode()
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    kind = "forgejo" if forge.dialect == "gitea" else "github"
    headers = {"X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{bed.address}/webhooks/{kind}", data=body, headers=headers)
    with DIRECT.open(request, timeout=30) as answer:
        assert answer.status == 202, answer.status


def opened(root, binary, rounds):
    """From a webhook to its pull request."""
    forge = Forge(binary, "gitea")
    bed = home_on(root, binary, forge, 3600)
    try:
        ours, floor = [], []
        for number in range(rounds + 1):
            name = f"request-{number}"
            bed.commit_request(name, "Deploy journal")
            bed.push()
            # A look is at most once a second: this one is not to wait for that.
            time.sleep(1.1)
            begun = time.monotonic()
            knock(bed, forge)
            forge.ask(f"open chiffon/plan/{name}")
            ours.append(time.monotonic() - begun)
            floor.append(alone(bed, forge, number))
        return [{
            "id": "B10", "what": "webhook to pull request", "unit": "ms", "ours": statistics.median(ours[1:]) * 1000,
            "beside": [("the same git and HTTP calls alone", statistics.median(floor[1:]) * 1000)],
        }]
    finally:
        bed.close()
        forge.close()


def alone(bed, forge, number):
    """What is asked of the forge between the two: a fetch, a list, two pushes, and the pull request."""
    copy = bed.folder / "floor.git"
    if not copy.exists():
        bed.git(bed.folder, "init", "--quiet", "--bare", copy)
    bare, branch = forge.at["bare"], f"floor-{number}"
    bed.git(copy, "fetch", "--quiet", bare, "+refs/heads/main:refs/heads/main")
    tree = bed.git(copy, "rev-parse", "main^{tree}")
    commits = [bed.git(copy, "commit-tree", "-p", "main", "-m", f"{what} {number}", tree) for what in ("plan", "audit")]
    begun = time.monotonic()
    bed.git(copy, "fetch", "--quiet", "--prune", bare, "+refs/heads/main:refs/heads/main")
    forge.post("/pulls?state=all&sort=recentupdate&limit=50&page=1", None)
    bed.git(copy, "push", "--quiet", bare, f"{commits[1]}:refs/heads/audit-{branch}")
    bed.git(copy, "push", "--quiet", bare, f"{commits[0]}:refs/heads/{branch}")
    forge.post("/pulls", {"head": branch, "base": "main", "title": branch, "body": "x" * 4000})
    return time.monotonic() - begun


def at_rest(root, binary, plans, seconds):
    """Calls a minute while so many plans lie there open and nothing happens, polled as often as is usual."""
    rows = []
    for dialect in ("gitea", "github"):
        forge = Forge(binary, dialect)
        bed = home_on(root, binary, forge, POLL_SECS)
        try:
            names = [f"request-{number}" for number in range(plans)]
            for name in names:
                bed.commit_request(name, "Deploy journal")
            bed.push()
            knock(bed, forge)
            for name in names:
                forge.ask(f"open chiffon/plan/{name}")
            settled(forge, plans)
            before, begun = int(forge.ask("calls")), time.monotonic()
            time.sleep(seconds)
            calls = (int(forge.ask("calls")) - before) * 60 / (time.monotonic() - begun)
            rows.append({
                "id": "B11", "what": f"{plans} plans open at rest, on {dialect}", "unit": "/min", "ours": calls,
                "most": max(1.0, plans * CALLS_PER_PLAN_PER_MINUTE),
            })
        finally:
            bed.close()
            forge.close()
    return rows


def settled(forge, plans):
    """Waits until all of them look as they are to, and a poll has found nothing new: until the time between two polls costs
    less than a call for every fourth of them."""
    for _ in range(20):
        before = int(forge.ask("calls"))
        time.sleep(POLL_SECS + 5)
        if int(forge.ask("calls")) - before <= max(4, plans // 4):
            return
    raise SystemExit("the forge is never left alone")


def run(root, binary, rounds, plans, seconds):
    """Both."""
    return opened(root, binary, rounds) + at_rest(root, binary, plans, seconds)
