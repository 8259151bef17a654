#!/usr/bin/env bash
# A supervisor holds a listening socket and starts nginx for the first time; its configuration names the same address.
# A good guess: "Address already in use"; NGINX=… is how a running nginx tells its successor about sockets.
# Seen: NGINX="3;" works at a first start, too. nginx answers a request that was sent before it was there. And it stays in
# the foreground although it says "daemon on", because it takes itself for such a successor.
. "$(dirname "$0")/common.sh"
command -v nginx >/dev/null || cannot "there is no nginx"
case $(nginx -v 2>&1) in *nginx/1.22.1*) ;; *) cannot "it was seen with nginx 1.22.1, this is $(nginx -v 2>&1)" ;; esac
python_with
python_runs <<'EOF'
import os
import pathlib
import socket
import subprocess

from finding import as_described

print("nginx 1.22.1")
here = pathlib.Path.cwd()
supervisor = socket.create_server(("127.0.0.1", 0))
host, port = supervisor.getsockname()
folders = "".join(f"{name}_temp_path {here}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
(here / "nginx.conf").write_text(
    f"daemon on; pid {here}/pid; error_log {here}/log; events {{}} "
    f"http {{ access_log off; {folders} server {{ listen {host}:{port}; return 200 hello; }} }}"
)
command = ["nginx", "-p", str(here), "-c", "nginx.conf"]

client = socket.create_connection((host, port), timeout=20)
client.sendall(b"GET / HTTP/1.0\r\n\r\n")
plain = subprocess.run(command, capture_output=True, text=True, timeout=60)
as_described("without the variable", (plain.returncode, "Address already in use" in plain.stderr), (1, True))

number = supervisor.fileno()
started = subprocess.Popen(
    command, env={**os.environ, "NGINX": f"{number};"}, pass_fds=[number], stderr=subprocess.DEVNULL
)
try:
    as_described("with it, the earlier request", client.recv(4096).endswith(b"hello"), True)
    as_described("the process that was started has ended", started.poll(), None)
    as_described("it is the one of the pid file", int((here / "pid").read_text()) == started.pid, True)
finally:
    started.terminate()
    started.wait(20)
EOF
