#!/usr/bin/env bash
# A server dies in the middle of an answer of unknown length that it streams (kill -9), with nginx in front.
# A good guess: the client sees that the answer is cut, as it does without nginx.
# Seen: nginx asks in HTTP/1.0 unless told otherwise, where the end of the connection is the end of the answer. It adds the
# end of a chunked body, and the client has a whole answer with status 200. With `proxy_http_version 1.1` it is cut.
. "$(dirname "$0")/common.sh"
command -v nginx >/dev/null || cannot "there is no nginx"
[ "$(nginx -v 2>&1)" = "nginx version: nginx/1.22.1" ] || cannot "another nginx than 1.22.1"
python_with uvicorn==0.54.0
cat >"$work/served.py" <<'EOF'
import asyncio
import os
import signal


async def app(scope, receive, send):
    """Sends a line, and then the process dies."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"application/x-ndjson")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"page": 1}\n', "more_body": True})
        await asyncio.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
EOF
python_runs <<'EOF'
import contextlib
import http.client
import pathlib
import socket
import subprocess
import sys
import time

from finding import as_described, versions

versions("uvicorn")
FOLDERS = "".join(f"{kind}_temp_path {kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))


def free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def reachable(port):
    for _ in range(600):
        with contextlib.suppress(ConnectionError):
            return socket.create_connection(("127.0.0.1", port)).close()
        time.sleep(0.1)


def asked(port):
    server = subprocess.Popen([sys.executable, "-m", "uvicorn", "--log-level", "critical", "--port", str(behind), "served:app"])
    reachable(behind)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/")
    response = connection.getresponse()
    try:
        return response.status, "whole", response.read()
    except http.client.IncompleteRead as error:
        return response.status, "cut", error.partial
    finally:
        server.wait()


behind, by_default, by_1_1 = free(), free(), free()
place = f"location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_buffering off; "
pathlib.Path("nginx.conf").write_text(
    f"daemon off; pid nginx.pid; error_log error.log; events {{}} http {{ access_log off; {FOLDERS}"
    f"server {{ listen 127.0.0.1:{by_default}; {place} }} }} "
    f"server {{ listen 127.0.0.1:{by_1_1}; {place} proxy_http_version 1.1; }} }} }}"
)
nginx = subprocess.Popen(["nginx", "-p", str(pathlib.Path.cwd()), "-c", "nginx.conf", "-e", "error.log"])
try:
    reachable(by_default)
    line = b'{"page": 1}\n'
    as_described("without nginx", asked(behind), (200, "cut", line))
    as_described("nginx as it comes", asked(by_default), (200, "whole", line))
    as_described("nginx with proxy_http_version 1.1", asked(by_1_1), (200, "cut", line))
finally:
    nginx.terminate()
    nginx.wait()
EOF
