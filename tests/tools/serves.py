"""Whether a broker serves: AMQP at one port, its management at another. Both accept before they do."""

import socket
import sys
import urllib.request

# A proxy of the environment is not for what is on this machine.
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
amqp, management = int(sys.argv[1]), int(sys.argv[2])
try:
    with socket.create_connection(("127.0.0.1", amqp), 1) as line:
        line.settimeout(2)
        line.sendall(b"AMQP\0\0\x09\x01")
        if line.recv(1) != b"\x01":
            sys.exit(1)
    with direct.open(f"http://127.0.0.1:{management}/", timeout=2) as reply:
        sys.exit(0 if reply.status == 200 else 1)
except OSError:
    sys.exit(1)
