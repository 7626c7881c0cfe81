"""Prints a port of the loopback interface that is free now, below the range from which the system gives out its own.

Whoever asks for one listens a while later. Until then it is kept from others who ask, by a file of its name."""

import os
import pathlib
import random
import socket
import tempfile
import time

# Longer than anything takes to start; a service that was stopped comes back to its port within this time as well.
KEPT_SECS = 3600

FOLDER = pathlib.Path(tempfile.gettempdir()) / f"chiffon-ports.{os.getuid()}"


def take(port):
    """Whether nobody else was given this port lately."""
    path = FOLDER / str(port)
    try:
        if time.time() - path.stat().st_mtime > KEPT_SECS:
            path.unlink()
    except FileNotFoundError:
        pass
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


FOLDER.mkdir(mode=0o700, exist_ok=True)
for port in random.sample(range(20000, 32000), 400):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    if take(port):
        print(port)
        break
else:
    raise SystemExit("no free port between 20000 and 32000")
