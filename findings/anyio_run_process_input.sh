#!/usr/bin/env bash
# A program gets a long input by anyio.run_process(…, input=…), and has seen enough before the end of it, as `head` does.
# A good guess: its output and exit status come back, as from subprocess.run, whose arguments run_process has.
# Seen: an exception group with BrokenResourceError, on both backends and with check=False, too: output and status are lost.
. "$(dirname "$0")/common.sh"
python_with anyio==4.16.0 trio==0.35.0
python_runs <<'EOF'
import subprocess
import sys

import anyio
from finding import as_described, versions

versions("anyio", "trio")
HEAD = [sys.executable, "-c", "import os; print(os.read(0, 5).decode(), flush=True); os.close(0)"]
LONG = b"hello" + bytes(4_000_000)


async def outcome(content):
    try:
        done = await anyio.run_process(HEAD, input=content, check=False)
        return done.returncode, done.stdout.strip()
    except* anyio.BrokenResourceError:
        pass
    return "BrokenResourceError"


done = subprocess.run(HEAD, input=LONG, stdout=subprocess.PIPE)
as_described("subprocess.run", (done.returncode, done.stdout.strip()), (0, b"hello"))
for backend in ("asyncio", "trio"):
    as_described(f"{backend}, an input that is read", anyio.run(outcome, b"hello", backend=backend), (0, b"hello"))
    as_described(f"{backend}, a long one", anyio.run(outcome, LONG, backend=backend), "BrokenResourceError")
EOF
