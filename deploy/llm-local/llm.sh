#!/usr/bin/env bash
# An OpenAI-compatible chat server on loopback with a tiny random model: for tests and for trying out.
#
#   llm.sh install   the server in a virtual environment of its own (minutes: it is compiled)
#   llm.sh up        starts it, waits until it answers, prints its base URL
#   llm.sh status    prints the base URL while it runs, fails otherwise
#   llm.sh down      stops it
#
# REGRADE_LLM_HOME   where the virtual environment lies (default ~/.cache/regrade-py-llm)
# REGRADE_LLM_STATE  where model, process id and log lie (default $REGRADE_LLM_HOME/run)
# REGRADE_LLM_PORT   port to listen on (default: a free one)
# REGRADE_LLM_INSTALL=no   `up` fails instead of installing
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
home="${REGRADE_LLM_HOME:-$HOME/.cache/regrade-py-llm}"
state="${REGRADE_LLM_STATE:-$home/run}"
python="$home/venv/bin/python"

installed() { [ -x "$python" ] && cmp -s "$here/requirements.txt" "$home/installed.txt"; }

install() {
  installed && return
  mkdir -p "$home"
  python3 -m venv "$home/venv"
  # Not for this very processor: what is compiled may be kept and used on another.
  CMAKE_ARGS="${CMAKE_ARGS:--DGGML_NATIVE=OFF}" \
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
  cp "$here/requirements.txt" "$home/installed.txt"
}

# The number alone would not do: it may have passed to another process since.
running() {
  [ -f "$state/pid" ] && ps -p "$(cat "$state/pid")" -o args= 2>/dev/null | grep -q llama_cpp.server
}

answers() {
  "$python" - "$1/models" <<'PY' 2>/dev/null
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=2).read()
PY
}

up() {
  if running && answers "$(cat "$state/url")"; then cat "$state/url"; return; fi
  if ! installed; then
    if [ "${REGRADE_LLM_INSTALL:-yes}" = no ]; then
      echo "not installed in $home: run $0 install" >&2
      exit 3
    fi
    install
  fi
  mkdir -p "$state"
  "$python" "$here/model.py" "$state/model.gguf" >/dev/null
  local port="${REGRADE_LLM_PORT:-}"
  [ -n "$port" ] || port="$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
  nohup "$python" -m llama_cpp.server --model "$state/model.gguf" --model_alias babble \
    --host 127.0.0.1 --port "$port" --n_ctx 8192 --n_threads 1 --n_threads_batch 1 \
    --verbose false >"$state/log" 2>&1 &
  echo $! >"$state/pid"
  echo "http://127.0.0.1:$port/v1" >"$state/url"
  for _ in $(seq 120); do
    if answers "$(cat "$state/url")"; then cat "$state/url"; return; fi
    running || break
    sleep 0.5
  done
  echo "the server did not answer; its last words:" >&2
  tail -n 20 "$state/log" >&2
  down
  exit 1
}

down() {
  if running; then
    local pid; pid="$(cat "$state/pid")"
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$state/pid" "$state/url"
}

case "${1:-}" in
  install) install ;;
  up) up ;;
  status) running && cat "$state/url" ;;
  down) down ;;
  *) sed -n '2,14p' "$0" >&2; exit 64 ;;
esac
