"""B1: from `git push` of one sentence to a plan branch that can be read, beside the same git operations alone."""

import statistics
import time

from bed import Bed, read_ref

WORDS = """jellyfin gitea grafana vaultwarden homepage pihole caddy prometheus ollama restic navidrome nextcloud
paperless immich sonarr radarr lidarr bazarr prowlarr transmission syncthing mosquitto zigbee frigate authelia keycloak
traefik minecraft factorio wireguard tailscale unbound netdata loki tempo miniflux freshrss wallabag kavita
audiobookshelf""".split()
TASK = "    - name: write the settings\n      ansible.builtin.copy: {content: x, dest: /tmp/none}\n"


def run(root, binary, rounds):
    """Medians of both, alternating."""
    bed = Bed(root, binary, {word: TASK for word in WORDS})
    try:
        bare = bed.folder / "floor.git"
        bed.git(bed.folder, "clone", "--quiet", "--bare", bed.requests, bare)
        for hook in (bare / "hooks").glob("*"):
            hook.unlink()
        person = bed.folder / "floor"
        bed.git(bed.folder, "clone", "--quiet", bare, person)
        bed.start()
        ours, floor = [], []
        for number in range(rounds + 1):
            name, word = f"request-{number}", WORDS[number % len(WORDS)]
            bed.commit_request(name, f"Deploy {word}")
            begun = time.monotonic()
            bed.push()
            bed.plan(name)
            ours.append(time.monotonic() - begun)
            floor.append(by_git(bed, bare, person, name))
        # The first round of both finds cold caches.
        return [{
            "id": "B1", "what": f"push to plan, {len(WORDS)} playbooks", "ours_s": statistics.median(ours[1:]),
            "floor_s": statistics.median(floor[1:]), "floor": "the same git operations by the git program", "goal": 3.0,
        }]
    finally:
        bed.close()


def by_git(bed, bare, person, name):
    """A push of one file, and a commit of another on a branch by plumbing."""
    (person / f"requests/{name}.yaml").parent.mkdir(exist_ok=True)
    (person / f"requests/{name}.yaml").write_text(f"spec: {name}\n")
    bed.git(person, "add", "--all")
    bed.git(person, "commit", "--quiet", "--message", name)
    begun = time.monotonic()
    bed.git(person, "push", "--quiet", "origin", "HEAD:main")
    env = dict(bed.env, GIT_INDEX_FILE=str(bed.folder / "floor.index"), GIT_DIR=str(bare))
    git = lambda *arguments, **options: bed_git(bed, env, *arguments, **options)
    blob = git("hash-object", "-w", "--stdin", input=f"plan: {name}\n")
    git("read-tree", "main")
    git("update-index", "--add", "--cacheinfo", f"100644,{blob},plans/{name}.yaml")
    tree = git("write-tree")
    commit = git("commit-tree", "-p", "main", "-m", "plan", tree)
    git("update-ref", f"refs/heads/chiffon/plan/{name}", commit)
    assert read_ref(bare, f"refs/heads/chiffon/plan/{name}") == commit
    return time.monotonic() - begun


def bed_git(bed, env, *arguments, **options):
    """Runs git in another environment than the bed's."""
    before, bed.env = bed.env, env
    try:
        return bed.git(bed.folder, *arguments, **options)
    finally:
        bed.env = before
