#!/usr/bin/env bash
# Checks a running server: health, a page, offload, another page, release. Prints the result of each step.
#
#   scripts/test_gpu_management.sh [http://127.0.0.1:8001]
#
# Where the server has a token, set OCR_AUTH_TOKEN. The script works with every engine, on a card and on the CPU, and needs
# curl. Let nobody else use the server meanwhile. The exit code is the number of failed checks.
set -uo pipefail

server=${1:-http://127.0.0.1:8001}
page=$(dirname "$0")/../examples/pages/receipt.png
patience=600 # seconds, for a first load
failed=0
curl=(curl --silent --show-error --max-time "$patience" --header "Expect:")
[ -n "${OCR_AUTH_TOKEN:-}" ] && curl+=(--header "Authorization: Bearer $OCR_AUTH_TOKEN")
[ -n "${OCR_CA_FILE:-}" ] && curl+=(--cacert "$OCR_CA_FILE")

command -v curl >/dev/null || { echo "test_gpu_management.sh: install curl first." >&2; exit 127; }

# Prints the first value of a key, from JSON that our server wrote on one line.
value() { printf '%s' "$1" | grep -o "\"$2\": *[^,}]*" | head -n 1 | sed 's/^[^:]*: *//; s/^"//; s/"$//'; }

check() { # what; whether
  if [ "$2" = 0 ]; then
    echo "ok    $1"
  else
    echo "FAIL  $1"
    failed=$((failed + 1))
  fi
}

is() { # what; found; wanted, as a pattern of `case`
  # shellcheck disable=SC2254 # it is a pattern
  case $2 in
    $3) check "$1: $2" 0 ;;
    *) check "$1: $2 (expected $3)" 1 ;;
  esac
}

state() { value "$("${curl[@]}" "$server/gpu/status")" state; }

read_page() {
  local answer text
  # Decoders ignore bytes after the end of a picture. The bytes make it a file that the server has not read before.
  answer=$({ cat "$page" && date +%s%N; } | "${curl[@]}" --form "file=@-;filename=page.png" --form mode=free "$server/ocr")
  text=$(value "$answer" success)
  is "$1" "${text:-$answer}" true
}

health=$("${curl[@]}" "$server/health") || {
  echo "test_gpu_management.sh: no server answers at $server. Start a server, or give another address." >&2
  exit 127
}
is "health" "$(value "$health" status)" ok
status=$("${curl[@]}" "$server/gpu/status")
case $(value "$status" code) in unauthorized)
  echo "test_gpu_management.sh: the server needs its token. Set OCR_AUTH_TOKEN." >&2
  exit 127
  ;;
esac
echo "      engine $(value "$status" engine), state $(value "$status" state), device $(value "$status" device)"

read_page "a first page is read"
now=$(state)
# With GPU_OFFLOAD_AFTER=0 the weights may be leaving the card already.
case $now in gpu | offloading | host) loaded=0 ;; *) loaded=1 ;; esac
check "the model is loaded: $now" "$loaded"

moved=$("${curl[@]}" --request POST "$server/gpu/offload")
is "offload" "$(value "$moved" success)" true
echo "      $(value "$moved" message)"
is "afterwards no weights are on a card" "$(state)" "host"

read_page "a page is read after the offload"

released=$("${curl[@]}" --request POST "$server/gpu/release")
is "release" "$(value "$released" success)" true
echo "      $(value "$released" message)"
is "afterwards nothing is held" "$(state)" "unloaded"
status=$("${curl[@]}" "$server/gpu/status")
is "there is no worker" "$(value "$status" worker_pid)" ""
lacking=$(value "$status" unreturned_mb)
is "MiB that a card lacks" "${lacking:-0}" 0

read_page "a page is read after the release"
health=$("${curl[@]}" "$server/health?ready")
is "it is ready for more" "$(value "$health" ready)" true
"${curl[@]}" --output /dev/null --request POST "$server/gpu/release"

if [ "$failed" = 0 ]; then echo "All well."; else echo "$failed checks failed."; fi
exit "$failed"
