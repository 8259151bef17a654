# Sourced by each finding: a temporary folder that goes away at the end, and pinned packages inside it.
#
#   python_with NAME==VERSION …   a virtual environment with these packages, or with none
#   python_with_store NAME==…     the same, with what `finding.object_store` needs
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
  [ $# -eq 0 ] || "$work/venv/bin/pip" install -q --disable-pip-version-check "$@" >"$work/pip.log" 2>&1 ||
    cannot "pip install $* ($(tail -n 1 "$work/pip.log"))"
}

python_with_store() {
  python_with moto==5.2.5 flask==3.1.3 flask-cors==6.0.2 boto3==1.43.117 "$@"
  export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
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
