"""The broker and the database that tests/tools/services.sh started: a virtual host and a database for each use."""

import base64
import contextlib
import glob
import itertools
import json
import os
import pathlib
import subprocess
import tempfile
import urllib.request

NUMBERS = itertools.count()

# A proxy of the environment is not for what is on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Place:
    """A virtual host with everything on it, and a database; the virtual host goes with `close`."""

    def __init__(self):
        self.name = f"bench_{os.getpid()}_{next(NUMBERS)}"
        self.server = variable("CHIFFON_TEST_POSTGRES_URL")
        self.postgres = f"{self.server.rsplit('/', 1)[0]}/{self.name}"
        subprocess.run([psql(), "-qX", self.server, "-c", f"CREATE DATABASE {self.name}"], check=True)
        scheme, user, self.password, self.management = parts(variable("CHIFFON_TEST_AMQP_MANAGEMENT_URL"))
        self.api = (f"{scheme}://{self.management}/api", user)
        self.user, self.host = user, parts(variable("CHIFFON_TEST_AMQP_URL"))[3]
        self._ask("PUT", f"/vhosts/{self.name}")
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._ask("PUT", f"/permissions/{self.name}/{user}", everything)

    @property
    def broker(self):
        """As chiffon-bench takes it."""
        return {"url": f"amqp://{self.user}@{self.host}/{self.name}", "password": self.password}

    @property
    def amqp(self):
        """With the password in it, as other programs take it."""
        return f"amqp://{self.user}:{self.password}@{self.host}/{self.name}"

    def _ask(self, method, path, body=None):
        base, user = self.api
        request = urllib.request.Request(base + path, method=method, data=json.dumps(body or {}).encode())
        secret = base64.b64encode(f"{user}:{self.password}".encode()).decode()
        request.add_header("Authorization", f"Basic {secret}")
        request.add_header("Content-Type", "application/json")
        with DIRECT.open(request, timeout=60):
            pass

    def close(self):
        """Takes the virtual host away; the database goes with its server."""
        with contextlib.suppress(OSError):
            self._ask("DELETE", f"/vhosts/{self.name}")


class Session:
    """A connection to a database that stays open, so that looking costs no process."""

    def __init__(self, url):
        command = [psql(), "-qAtX", "-F", "|", url]
        self.psql = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def rows(self, query):
        """The rows of a query, each a list of texts."""
        self.psql.stdin.write(f"{query};\n\\echo .\n")
        self.psql.stdin.flush()
        found = []
        for line in self.psql.stdout:
            if line == ".\n":
                return found
            found.append(line.rstrip("\n").split("|"))
        raise SystemExit("the database did not answer")

    def close(self):
        """Hangs up."""
        self.psql.stdin.close()
        self.psql.wait(60)
        self.psql.stdout.close()


def measure(binary, what, place=None, **options):
    """One measurement of chiffon-bench."""
    with tempfile.TemporaryDirectory(prefix="chiffon-bench.") as folder:
        if place is not None:
            options |= {"broker": place.broker, "postgres": place.server, "folder": folder}
        command = [str(pathlib.Path(binary).parent / "chiffon-bench"), what, json.dumps(options)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout)


def variable(name):
    """Where a service is."""
    if name not in os.environ:
        raise SystemExit(f"{name} is not set: run `make bench`, or tests/tools/services.sh COMMAND")
    return os.environ[name]


def parts(url):
    """Scheme, user, password and the rest of an address."""
    scheme, rest = url.split("://")
    user, place = rest.rsplit("@", 1)
    return [scheme, *user.split(":"), place]


def psql():
    """The database's own client."""
    return sorted(glob.glob("/usr/lib/postgresql/*/bin/psql"))[-1]
