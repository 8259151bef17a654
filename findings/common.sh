# Sourced by each finding: a temporary folder that goes away at the end, and pinned packages inside it.
#
#   python_with NAME==VERSION …   a virtual environment with these packages
#   node_with NAME@VERSION …      a folder with these packages
#   python_runs                   runs the program on standard input there; it can `import finding`
#   node_runs                     runs the module on standard input there
#
# A finding exits with 0: as described, 1: the behaviour has changed, 2: it could not be tried here.

set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1

cannot() {
  echo "could not be tried: $*" >&2
  exit 2
}

python_with() {
  "${PYTHON:-python3}" -m venv "$work/venv" || cannot "python3 -m venv"
  "$work/venv/bin/pip" install -q --disable-pip-version-check "$@" >"$work/pip.log" 2>&1 ||
    cannot "pip install $* ($(tail -n 1 "$work/pip.log"))"
}

node_with() {
  mkdir -p "$work/node"
  command -v node >/dev/null || cannot "there is no node"
  (cd "$work/node" && npm install --silent --no-audit --no-fund "$@" >"$work/npm.log" 2>&1) ||
    cannot "npm install $* ($(tail -n 1 "$work/npm.log"))"
}

python_runs() {
  (cd "$work" && "$work/venv/bin/python" -W ignore - "$@")
}

node_runs() {
  cat >"$work/node/main.mjs"
  (cd "$work/node" && node --no-warnings main.mjs "$@")
}
