"""Prints a port of the loopback interface that is free now, below the range from which the system gives out its own."""

import random
import socket

for port in random.sample(range(20000, 32000), 200):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
else:
    raise SystemExit("no free port between 20000 and 32000")
