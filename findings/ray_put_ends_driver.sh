#!/usr/bin/env bash
# The raylet of a machine is killed (by the system, for want of memory) while a Ray driver runs there.
# A good guess: the driver's next call raises an error of ray.exceptions, which it can catch.
# Seen: ray.get() of a new task does so, some ten seconds later. ray.put() ends the whole driver with exit status 1: no
# except, no finally, no atexit.
. "$(dirname "$0")/common.sh"
python_with ray==2.60.0
cat >"$work/driver.py" <<'EOF'
import atexit
import os
import signal
import sys

import ray
from ray._private import worker

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error", _temp_dir=sys.argv[2])
atexit.register(print, "atexit", flush=True)


@ray.remote
def work():
    return 1


ray.get(work.remote())
os.kill(worker._global_node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
try:
    if sys.argv[1] == "put":
        ray.put(b"x" * 2_000_000)
    else:
        ray.get(work.remote(), timeout=90)
except BaseException as error:
    print("raised", type(error).__name__, flush=True)
finally:
    print("finally", flush=True)
EOF
python_runs <<'EOF'
import subprocess
import sys
import tempfile

from finding import as_described, versions

versions("ray")


def outcome(call):
    """The driver's exit status and the words that it printed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # Ray's sockets need a short path
        driver = subprocess.run(
            [sys.executable, "driver.py", call, short], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=200
        )
    words = ("raised LocalRayletDiedError", "finally", "atexit")
    lines = driver.stdout.decode().splitlines()
    return driver.returncode, [word for word in words if word in lines]


as_described("get() of a new task", outcome("get"), (0, ["raised LocalRayletDiedError", "finally", "atexit"]))
as_described("put()", outcome("put"), (1, []))
EOF
