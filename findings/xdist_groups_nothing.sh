#!/usr/bin/env bash
# pytest-xdist keeps the tests of a group in one process: --dist loadgroup with xdist_group marks, as for a shared server.
# A good guess: that holds with the newest pytest, or the run says that it does not.
# Seen: with pytest 9.2 the tests of a group are spread over the processes, and nothing is said; with 9.1 they are not.
. "$(dirname "$0")/common.sh"
python_with pytest==9.1.1 pytest-xdist==3.8.0
mkdir "$work/tests"
cat >"$work/tests/test_grouped.py" <<'EOF'
import os
import time

import pytest


@pytest.mark.xdist_group("server")
@pytest.mark.parametrize("n", range(12))
def test_it(n: int) -> None:
    time.sleep(0.05)
    with open(os.environ["SEEN"], "a") as file:
        file.write(os.environ["PYTEST_XDIST_WORKER"] + "\n")
EOF
export SEEN=$work/seen

processes() {
  : >"$SEEN"
  (cd "$work/tests" && "$work/venv/bin/python" -m pytest -q -n 3 --dist loadgroup -p no:cacheprovider) \
    >"$work/log" 2>&1 || cannot "pytest ($(tail -n 1 "$work/log"))"
  sort -u "$SEEN" | wc -l
}

older=$(processes)
"$work/venv/bin/pip" install -q --disable-pip-version-check pytest==9.2.0 >"$work/pip.log" 2>&1 ||
  cannot "pip install pytest==9.2.0"
newer=$(processes)
spoken=$(grep -ci group "$work/log" || true)
python_runs "$older" "$newer" "$spoken" <<'EOF'
import sys

from finding import as_described, versions

versions("pytest", "pytest-xdist")
as_described("processes that ran the group with pytest 9.1.1", int(sys.argv[1]), 1)
as_described("more than one process with pytest 9.2.0", int(sys.argv[2]) > 1, True)
as_described("lines of that run that speak of groups", int(sys.argv[3]), 0)
EOF
