#!/usr/bin/env bash
# ray.data.read_binary_files of a folder, with and without file_extensions.
# A good guess: all files of the folder, or all but hidden ones; with an extension those that have it.
# Seen: "_a.txt" is left out without a word, as ".b.txt" is, and all that a folder "_c" or ".d" holds. One level deeper, all
# such names are read. With file_extensions=["txt"], "e?.txt" is left out, too. A file named by its own path is always read.
. "$(dirname "$0")/common.sh"
python_with "ray[data]==2.60.0" pyarrow==26.0.1
python_runs <<'EOF'
import logging
import pathlib
import tempfile

import ray
from finding import as_described, versions

versions("ray", "pyarrow")
NAMES = ("a.txt", "_a.txt", ".b.txt", "_c/a.txt", ".d/a.txt", "sub/_c/a.txt", "sub/.d/a.txt", "sub/_a.txt", "e?.txt")
folder = pathlib.Path("files").absolute()
for name in NAMES:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(name)


def read(where, **settings):
    rows = ray.data.read_binary_files(str(where), **settings).take_all()
    return {row["bytes"].decode() for row in rows}


def left_out(**settings):
    return sorted(set(NAMES) - read(folder, **settings))


with tempfile.TemporaryDirectory(dir="/tmp") as short:  # Ray's sockets need a short path
    ray.init(num_cpus=1, include_dashboard=False, logging_level="error", log_to_driver=False, _temp_dir=short)
    logging.disable(logging.INFO)
    ray.data.DataContext.get_current().enable_progress_bars = False
    hidden = [".b.txt", ".d/a.txt", "_a.txt", "_c/a.txt"]
    as_described("left out", left_out(), hidden)
    as_described("left out with an extension", left_out(file_extensions=["txt"]), sorted([*hidden, "e?.txt"]))
    as_described("read by their own paths", all(read(folder / name) == {name} for name in NAMES), True)
    ray.shutdown()
EOF
