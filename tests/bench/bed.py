"""A home, an infra repository and a person with a clone, in a temporary folder, for benchmarks."""

import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

HOSTS = """all:
  vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  children:
"""
WAIT = 120.0


class Bed:
    """One home with `chiffon up` in the background."""

    def __init__(self, root, binary, playbooks, hosts=1):
        self.root, self.binary = pathlib.Path(root).resolve(), str(binary)
        self.ansible = self.root / ".venv/ansible-2.19/bin/ansible-playbook"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chiffon-bench."))
        self.up = None
        self.home = self.folder / "home"
        self.requests = self.home / "requests.git"
        self.clone = self.folder / "clone"
        self.infra = self.folder / "infra"
        self.env = clean_environment(self.folder)
        self._make_infra(playbooks, hosts)
        self.run([self.binary, "init", self.home, "--infra", self.infra, "--ansible-playbook", self.ansible])
        self.git(self.folder, "clone", "--quiet", self.requests, self.clone)

    def _make_infra(self, playbooks, hosts):
        (self.infra / "playbooks").mkdir(parents=True)
        (self.infra / "inventory").mkdir()
        names = ", ".join(f"host{number:02}: {{}}" for number in range(1, hosts + 1))
        groups = "".join(f"    {name}: {{hosts: {{{names}}}}}\n" for name in playbooks)
        (self.infra / "inventory/hosts.yml").write_text(HOSTS + groups)
        for name, tasks in playbooks.items():
            text = f"- name: Deploy {name}\n  hosts: {name}\n  gather_facts: false\n  tasks:\n{tasks}"
            (self.infra / f"playbooks/{name}-deployment.yml").write_text(text)
        self.git(self.infra, "init", "--quiet", "--initial-branch=main")
        self.git(self.infra, "add", "--all")
        self.git(self.infra, "commit", "--quiet", "--message", "start")

    def run(self, command, **options):
        """Runs a program to its end; its stdout."""
        command = [str(part) for part in command]
        done = subprocess.run(command, env=self.env, check=True, capture_output=True, text=True, **options)
        return done.stdout.strip()

    def git(self, folder, *arguments, **options):
        """Runs git in a folder."""
        return self.run(["git", *arguments], cwd=folder, **options)

    def start(self):
        """Starts `chiffon up`; seconds until it says that it is ready."""
        begun = time.monotonic()
        command = [self.binary, "--dir", str(self.home), "up"]
        self.up = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.up.stderr:
            if line.startswith("ready"):
                return time.monotonic() - begun
        raise SystemExit("chiffon up ended before it was ready")

    def stop(self):
        """Stops `chiffon up`."""
        if self.up is not None:
            self.up.send_signal(signal.SIGTERM)
            self.up.wait(60)
            self.up.stderr.close()
            self.up = None

    def close(self):
        """Stops everything and removes the folder."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        if self.up is not None:
            self.up.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def commit_request(self, name, text):
        """Commits a request in the clone, without pushing it."""
        self.git(self.clone, "pull", "--quiet", "--ff-only")
        (self.clone / "requests").mkdir(exist_ok=True)
        request = f"apiVersion: chiffon/v1\nkind: Request\nspec: {{text: {text}}}\n"
        (self.clone / f"requests/{name}.yaml").write_text(request)
        self.git(self.clone, "add", "--all")
        self.git(self.clone, "commit", "--quiet", "--message", name)

    def push(self):
        """Pushes the clone's branch to `main`."""
        self.git(self.clone, "push", "--quiet", "origin", "HEAD:main")

    def plan(self, name):
        """Waits for a plan branch."""
        wait_for(lambda: self.ref(f"refs/heads/chiffon/plan/{name}"), f"the plan of {name}", 0.001)

    def merge(self, name):
        """Merges a plan in the clone, without pushing it."""
        self.git(self.clone, "fetch", "--quiet")
        self.git(self.clone, "merge", "--quiet", "--no-ff", "--no-edit", f"origin/chiffon/plan/{name}")

    def ref(self, name):
        """What a ref of the requests repository points at, read from its file; None where there is none."""
        return read_ref(self.requests, name)

    def recorded(self, name):
        """Whether a request's result is a final row, and the audit branch holds its commit."""
        query = "SELECT kind, audit_commit FROM events WHERE request = ? AND kind LIKE 'run-%' AND audit_commit IS NOT NULL"
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/state/chiffon.db?mode=ro", uri=True)) as database:
            row = database.execute(query, (name,)).fetchone()
        if row is None or self.ref("refs/heads/chiffon/audit") is None:
            return None
        if row[0] != "run-succeeded":
            raise SystemExit(f"{name}: {row[0]}")
        return row

    def approve_and_wait(self, name):
        """Pushes a merge that is ready and waits for the record; seconds in all, and of the push alone."""
        looked = None

        def done():
            nonlocal looked
            # The branch's file is cheap to look at; the database is asked only when it moved, and again until the row
            # follows, so that looking takes no processor time from what is measured.
            tip = self.ref("refs/heads/chiffon/audit")
            if tip == looked:
                return None
            waiting = self.unmarked()
            row = self.recorded(name)
            looked = tip if row is None and waiting == 0 else looked
            return row

        begun = time.monotonic()
        self.push()
        pushed = time.monotonic() - begun
        wait_for(done, f"the result of {name}")
        return time.monotonic() - begun, pushed

    def unmarked(self):
        """Events whose audit commit is not a row yet."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/state/chiffon.db?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM events WHERE audit_commit IS NULL").fetchone()[0]


def clean_environment(home):
    """The same environment for everything: nobody's configuration."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Bench",
        "GIT_AUTHOR_EMAIL": "bench@localhost",
        "GIT_COMMITTER_NAME": "Bench",
        "GIT_COMMITTER_EMAIL": "bench@localhost",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }


def read_ref(repository, name):
    """What a ref points at, without starting a program."""
    with contextlib.suppress(FileNotFoundError):
        return (repository / name).read_text().strip() or None
    with contextlib.suppress(FileNotFoundError):
        for line in (repository / "packed-refs").read_text().splitlines():
            if line.endswith(f" {name}"):
                return line.split(" ")[0]
    return None


def wait_for(holds, what, every=0.004):
    """Waits until something holds. Looking more often would take processor time from what is measured."""
    end = time.monotonic() + WAIT
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(every)
