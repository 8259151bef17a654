#!/usr/bin/env bash
# uvicorn gets a listening TCP socket from its parent, as a service manager that opens sockets does: `uvicorn --fd 3`.
# A good guess: it serves it like one that it opened by itself.
# Seen: its connections come without TCP_NODELAY. uvicorn names the inherited socket AF_UNIX, and asyncio sets the option for
# sockets that are named AF_INET or AF_INET6 only: a small piece of an answer may wait until the piece before it is
# acknowledged. The addresses of both sides are right, so nothing shows.
. "$(dirname "$0")/common.sh"
python_with uvicorn==0.54.0
cat >"$work/served.py" <<'EOF'
import gc
import os
import socket


async def app(scope, receive, send):
    """Answers with the TCP_NODELAY of the connection that asks."""
    if scope["type"] != "http":
        return
    port = scope["client"][1]
    for one in [one for one in gc.get_objects() if isinstance(one, socket.socket)]:
        try:
            if one.getpeername()[1] != port:
                continue
        except (OSError, IndexError):
            continue
        with socket.socket(fileno=os.dup(one.fileno())) as true:
            option = true.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        body = f"{one.family.name} {true.family.name} {bool(option)}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        return
EOF
python_runs <<'EOF'
import contextlib
import http.client
import socket
import subprocess
import sys
import time

from finding import as_described, versions

versions("uvicorn")
COMMAND = [sys.executable, "-m", "uvicorn", "--log-level", "critical", "--loop", "asyncio", "served:app"]


def ask(port):
    """How uvicorn names the connection, which kind it is, and whether TCP_NODELAY is on."""
    for _ in range(600):
        with contextlib.suppress(ConnectionError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        time.sleep(0.1)


with socket.create_server(("127.0.0.1", 0)) as listener:
    server = subprocess.Popen([*COMMAND, "--fd", str(listener.fileno())], pass_fds=[listener.fileno()])
    inherited = ask(listener.getsockname()[1])
    server.kill()
    server.wait()
with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
server = subprocess.Popen([*COMMAND, "--port", str(port)])
own = ask(port)
server.kill()
server.wait()
as_described("--port: called, is, TCP_NODELAY", own, "AF_INET AF_INET True")
as_described("--fd: called, is, TCP_NODELAY", inherited, "AF_UNIX AF_INET False")
EOF
