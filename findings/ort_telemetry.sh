#!/usr/bin/env bash
# A program imports onnxruntime on Linux and calls disable_telemetry_events() as its first act.
# A good guess: then nothing is collected.
# Seen: the import alone has written an identifier of the device and a database of events below the home folder, and
# a thread looks up a host to send them to, before and after the call (seen with strace). Only the variable
# ORT_DISABLE_TELEMETRY=1, set before the import, prevents the files.
. "$(dirname "$0")/common.sh"
python_with onnxruntime==1.32.0
python_runs <<'EOF'
import os
import pathlib
import subprocess
import sys

from finding import as_described, versions

versions("onnxruntime")


def written(code, **variables):
    home = pathlib.Path(f"home-{len(os.listdir('.'))}").absolute()
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    env = {**kept, "HOME": str(home), "TMPDIR": str(home), **variables}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
    return sorted(file.name for file in home.rglob("*") if file.name in ("deviceid", "onnxruntime.db"))


off = "import onnxruntime; onnxruntime.disable_telemetry_events()"
as_described("imported", written("import onnxruntime"), ["deviceid", "onnxruntime.db"])
as_described("and switched off", written(off), ["deviceid", "onnxruntime.db"])
as_described("with the variable", written("import onnxruntime", ORT_DISABLE_TELEMETRY="1"), [])
EOF
