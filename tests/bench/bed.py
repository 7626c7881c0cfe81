"""A home, an infra repository and a person with a clone, in a temporary folder, for benchmarks. The records are in SQLite
and the agent is in the process, or all of it is apart: a database, a broker, and an agent in a process of its own."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.error

from services import DIRECT, Place, Session

HOSTS = """all:
  vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
  children:
"""
WAIT = 120.0


class Bed:
    """One home with `chiffon up` in the background. With `own` each playbook has a host of its own; with `apart` everything
    is a process of its own. `parallel` is how many playbooks run at once."""

    def __init__(self, root, binary, playbooks, hosts=1, own=False, apart=False, parallel=None):
        self.root, self.binary = pathlib.Path(root).resolve(), str(binary)
        self.agent, self.place, self.session = None, None, None
        self.ansible = self.root / ".venv/ansible-2.19/bin/ansible-playbook"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="chiffon-bench."))
        self.up = None
        self.home = self.folder / "home"
        self.requests = self.home / "requests.git"
        self.clone = self.folder / "clone"
        self.infra = self.folder / "infra"
        self.env = clean_environment(self.folder)
        self._make_infra(playbooks, hosts, own)
        self.run([self.binary, "init", self.home, "--infra", self.infra, "--ansible-playbook", self.ansible])
        self.git(self.folder, "clone", "--quiet", self.requests, self.clone)
        if apart:
            self._take_apart(parallel)
        elif parallel:
            self._configure(f"  agent:\n    parallel: {parallel}\n")

    def _make_infra(self, playbooks, hosts, own):
        (self.infra / "playbooks").mkdir(parents=True)
        (self.infra / "inventory").mkdir()
        names = ", ".join(f"host{number:02}: {{}}" for number in range(1, hosts + 1))
        hosts_of = lambda name: f"{name}-host: {{}}" if own else names
        groups = "".join(f"    {name}: {{hosts: {{{hosts_of(name)}}}}}\n" for name in playbooks)
        (self.infra / "inventory/hosts.yml").write_text(HOSTS + groups)
        for name, tasks in playbooks.items():
            text = f"- name: Deploy {name}\n  hosts: {name}\n  gather_facts: false\n  tasks:\n{tasks}"
            (self.infra / f"playbooks/{name}-deployment.yml").write_text(text)
        self.git(self.infra, "init", "--quiet", "--initial-branch=main")
        self.git(self.infra, "add", "--all")
        self.git(self.infra, "commit", "--quiet", "--message", "start")

    def _configure(self, text):
        with open(self.home / "chiffon.yaml", "a", encoding="utf-8") as config:
            config.write(text)

    def _take_apart(self, parallel):
        """A database, a virtual host and an enrolled agent, as docs/agents.md has them."""
        self.place = Place()
        self.session = Session(self.place.postgres)
        secret = self.home / "management-password"
        secret.write_text(self.place.password)
        secret.chmod(0o600)
        name, user = self.place.name, self.place.user
        self.address = f"127.0.0.1:{free_port()}"
        self._configure(
            f"  store:\n    postgres:\n      url: {self.place.postgres}\n"
            f"  bus:\n    amqp:\n      url: amqp://{name}.chiffon@{self.place.host}/{name}\n"
            f"      password_file: broker-password\n    management:\n      url: http://{user}@{self.place.management}\n"
            f"      password_file: management-password\n  web:\n    listen: {self.address}\n"
        )
        self.chiffon("broker", "setup")
        self.start()
        invited = json.loads(self.chiffon("agent", "invite", "nas01", "--json"))
        self.run([
            self._agent(), "--dir", self.folder / "agent", "enrol", invited["url"], invited["token"],
            "--ansible-playbook", self.ansible, "--requests", self.requests, "--infra", self.infra,
        ])
        if parallel:
            config = self.folder / "agent/agent.yaml"
            config.write_text(re.sub("parallel: .*", f"parallel: {parallel}", config.read_text()))
        self.stop()

    def _agent(self):
        return pathlib.Path(self.binary).parent / "chiffon-agent"

    def chiffon(self, *arguments):
        """Runs a command on the home."""
        return self.run([self.binary, "--dir", self.home, *arguments])

    def run(self, command, **options):
        """Runs a program to its end; its stdout."""
        command = [str(part) for part in command]
        done = subprocess.run(command, env=self.env, check=True, capture_output=True, text=True, **options)
        return done.stdout.strip()

    def git(self, folder, *arguments, **options):
        """Runs git in a folder."""
        return self.run(["git", *arguments], cwd=folder, **options)

    def start(self):
        """Starts `chiffon up`; seconds until it is ready: until `/readyz` says so where it answers, else its own word. An
        agent that is enrolled is started after it."""
        begun = time.monotonic()
        command = [self.binary, "--dir", str(self.home), "up"]
        self.up = subprocess.Popen(command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if self.place is not None:
            wait_for(self.is_ready, "chiffon up to be ready", 0.002)
            took = time.monotonic() - begun
        else:
            wait_for_line(self.up.stderr, "ready")
            took = time.monotonic() - begun
        if (self.folder / "agent/agent.yaml").exists():
            command = [self._agent(), "--dir", self.folder / "agent", "up"]
            self.agent = subprocess.Popen(command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            wait_for_line(self.agent.stdout, "ready")
        return took

    def is_ready(self):
        """What `/readyz` says."""
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            return DIRECT.open(f"http://{self.address}/readyz", timeout=10).status == 200
        return False

    def stop(self):
        """Stops the agent and `chiffon up`."""
        for started in (self.agent, self.up):
            if started is not None:
                started.send_signal(signal.SIGTERM)
                started.wait(60)
                (started.stderr or started.stdout).close()
        self.agent, self.up = None, None

    def close(self):
        """Stops everything and removes the folder."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.stop()
        for started in (self.agent, self.up):
            if started is not None:
                started.kill()
        if self.session is not None:
            self.session.close()
        if self.place is not None:
            self.place.close()
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

    def rows(self, query):
        """The rows of a query on the records, from outside."""
        if self.session is not None:
            return self.session.rows(query)
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/state/chiffon.db?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def recorded(self, name):
        """Whether a request's result is a final row, and the audit branch holds its commit."""
        query = f"SELECT kind FROM events WHERE request = '{name}' AND kind LIKE 'run-%' AND audit_commit IS NOT NULL"
        rows = self.rows(query)
        if not rows or self.ref("refs/heads/chiffon/audit") is None:
            return None
        if rows[0][0] != "run-succeeded":
            raise SystemExit(f"{name}: {rows[0][0]}")
        return rows[0]

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
        return int(self.rows("SELECT count(*) FROM events WHERE audit_commit IS NULL")[0][0])


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


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for_line(lines, start):
    """Reads until a line begins so."""
    said = []
    for line in lines:
        if line.startswith(start):
            return
        said.append(line)
    raise SystemExit(f"it ended before it said `{start}`: {''.join(said)}")


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
