#!/usr/bin/env bash
# Starts the server on the NVIDIA card with most free memory, and prints the address of its page.
#
#   scripts/start_gpu.sh                run in a container (deploy/compose.gpu.yml, profile one); build the image first
#   scripts/start_gpu.sh --native       run without containers, with the deepseek-ocr-mcp of .venv or of your PATH
#   scripts/start_gpu.sh --watch        also start Prometheus, Grafana and Loki
#   scripts/start_gpu.sh --card UUID    use this card
#
# Run it again at any time: it replaces only containers that have changed. It makes the token once, in deploy/.env.
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

$native && $watch && fail "--watch starts containers that watch the container of the server; --native starts none." \
  "Leave --native out; or let a Prometheus of your own ask the server (docs/observability.md)."

# -- the card

command -v nvidia-smi >/dev/null ||
  fail "There is no nvidia-smi, so no NVIDIA driver, on this machine." \
    "Install the driver (580 or newer). Without a card: deepseek-ocr-mcp serve --transport http, which reads on the CPU."
# Every driver's nvidia-smi knows these options. It prints one line a card: UUID, free MiB, percent busy.
cards=$(nvidia-smi --query-gpu=uuid,memory.free,utilization.gpu --format=csv,noheader,nounits 2>&1) ||
  fail "nvidia-smi cannot speak to the driver: $cards" \
    "Load it (modprobe nvidia), or restart the machine after an update of the driver."
# CUDA counts cards in another order than nvidia-smi. A UUID names the same card everywhere.
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
# This fetches only missing files. It needs no network where all files are there.
echo "Fetching the weights that are missing (6.8 GB in all)."
"${compose[@]}" --profile tools run --rm --build download ||
  fail "The weights could not be fetched." \
    "Run this script again: the download goes on. For a machine without a network, see docs/deployment.md, Air-gapped."
"${compose[@]}" up --detach --build --wait ||
  fail "The server did not become healthy." "docker compose --file deploy/compose.gpu.yml --profile one logs ocr   shows why."
say_where
$watch && echo "Grafana:    http://127.0.0.1:$(port=$(setting GRAFANA_PORT) && echo "${port:-3000}")/ (admin, GRAFANA_PASSWORD or the token)"
exit 0
