#!/usr/bin/env bash
# Starts the server on the emptiest NVIDIA card of this machine, and says where its page is.
#
#   scripts/start_gpu.sh                in a container (deploy/compose.gpu.yml, profile one), built where it is not yet
#   scripts/start_gpu.sh --native       without containers, as the deepseek-ocr-mcp of .venv or of your PATH
#   scripts/start_gpu.sh --watch        with Prometheus, Grafana and Loki beside it
#   scripts/start_gpu.sh --card UUID    on this card
#
# Run it again at any time: what runs is left, what has changed is replaced. The token is made once, in deploy/.env.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { # what happened; what to do
  printf 'start_gpu.sh: %s\n  %s\n' "$1" "$2" >&2
  exit 1
}

native=false watch=false card=
while [ $# -gt 0 ]; do
  case $1 in
    --native) native=true ;;
    --watch) watch=true ;;
    --card)
      [ $# -gt 1 ] || fail "--card needs a UUID." "nvidia-smi -L shows them."
      card=$2
      shift
      ;;
    -h | --help)
      sed -n '2,10s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *) fail "$1 is not known." "scripts/start_gpu.sh --help shows what is." ;;
  esac
  shift
done

# -- the card

command -v nvidia-smi >/dev/null ||
  fail "There is no nvidia-smi, so no NVIDIA driver, on this machine." \
    "Install the driver (580 or newer). Without a card: deepseek-ocr-mcp serve --transport http, which reads on the CPU."
# The command line of nvidia-smi is the same from driver to driver; one line a card: UUID, free MiB, percent busy.
cards=$(nvidia-smi --query-gpu=uuid,memory.free,utilization.gpu --format=csv,noheader,nounits 2>&1) ||
  fail "nvidia-smi cannot speak to the driver: $cards" \
    "Load it (modprobe nvidia), or restart the machine after an update of the driver."
# An index counts otherwise in CUDA than in nvidia-smi; a UUID names one card everywhere.
line=$(printf '%s\n' "$cards" | tr -d ' ' | if [ -n "$card" ]; then grep -F "$card," || true; else
  sort --field-separator=, --key=2,2nr --key=3,3n | head -n 1
fi)
[ -n "$line" ] || fail "There is no card $card here." "These are: $(printf '%s' "$cards" | cut -d, -f1 | paste -sd' ')."
IFS=, read -r uuid free busy <<<"$line"
case $uuid in GPU-*) ;; *) fail "nvidia-smi lists no card." "lspci | grep -i nvidia tells whether the machine has one." ;; esac
echo "Card $uuid: $free MiB free, $busy % busy."

# -- the token

settings=deploy/.env
if ! grep -qs '^OCR_AUTH_TOKEN=.' "$settings"; then
  command -v openssl >/dev/null || fail "openssl is missing, which makes the token." "Install it, or write OCR_AUTH_TOKEN=… into $settings."
  (umask 077 && printf 'OCR_AUTH_TOKEN=%s\n' "$(openssl rand -hex 32)" >>"$settings")
  echo "A token was made: $settings."
fi
setting() { sed -n "s/^$1=//p" "$settings" | tail -n 1; }
port=$(setting OCR_PORT)
port=${port:-8001}
bind=$(setting OCR_BIND)
bind=${bind:-127.0.0.1}

say_where() {
  cat <<WHERE

The page:   http://$bind:$port/        (it asks for the token, once)
For agents: http://$bind:$port/mcp     (Authorization: Bearer <token>)
The token:  OCR_AUTH_TOKEN in $settings
Try it:     OCR_AUTH_TOKEN=\$(sed -n 's/^OCR_AUTH_TOKEN=//p' $settings) scripts/test_gpu_management.sh http://$bind:$port
WHERE
}

# -- without containers

if $native; then
  program=.venv/bin/deepseek-ocr-mcp
  [ -x "$program" ] || program=$(command -v deepseek-ocr-mcp) ||
    fail "deepseek-ocr-mcp is not installed." "python3 -m venv .venv && .venv/bin/pip install '.[gpu]' && .venv/bin/deepseek-ocr-mcp download"
  say_where
  set -a
  # shellcheck source=/dev/null
  . "$settings"
  set +a
  [ -n "${OCR_GPUS:-}" ] || export OCR_GPU=$uuid
  exec "$program" serve --transport http --host "$bind" --port "$port"
fi

# -- in a container

command -v docker >/dev/null ||
  fail "There is no docker on this machine." \
    "Install Docker Engine with its compose plugin and the NVIDIA Container Toolkit, or run scripts/start_gpu.sh --native."
docker compose version >/dev/null 2>&1 ||
  fail "This docker has no compose." "Install its plugin (package docker-compose-plugin), or run scripts/start_gpu.sh --native."
runtimes=$(docker info --format '{{json .Runtimes}} {{json .CDISpecDirs}}' 2>&1) ||
  fail "Docker does not answer: $runtimes" \
    "Start it (systemctl start docker); if it runs, put yourself into its group (usermod -aG docker \$USER) and log in again."
case $runtimes in
  *nvidia* | *cdi*) ;;
  *) fail "Docker cannot hand cards to containers." \
    "Install the NVIDIA Container Toolkit, then: nvidia-ctk runtime configure --runtime=docker && systemctl restart docker" ;;
esac

export OCR_CARD=$uuid
compose=(docker compose --file deploy/compose.gpu.yml --profile one)
$watch && compose+=(--profile watch)
# What is there already is not fetched again, and where all of it is there, no network is needed.
echo "The weights, where they are not here yet: 6.7 GB."
"${compose[@]}" --profile tools run --rm --build download ||
  fail "The weights could not be fetched." \
    "Run this again: it goes on where it stopped. Without a way out: docs/deployment.md, air-gapped."
"${compose[@]}" up --detach --build --wait ||
  fail "It did not become healthy." "docker compose --file deploy/compose.gpu.yml --profile one logs ocr   says why."
say_where
$watch && echo "Grafana:    http://127.0.0.1:$(port=$(setting GRAFANA_PORT) && echo "${port:-3000}")/ (admin, GRAFANA_PASSWORD or the token)"
exit 0
