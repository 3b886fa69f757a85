#!/usr/bin/env bash
# Checks what lies in deploy/ with tools that need no running service: Prometheus' promtool, the loader of
# Docker Compose, the schemas of Kubernetes, shellcheck. Nothing is started. Tools are fetched once into
# REGRADE_TOOLS_DIR (default ~/.cache/regrade-tools); what cannot be had is named as skipped at the end, and
# with REGRADE_REQUIRE_SERVICES=1 a skip is a failure. Exit codes: 0 all is well, 1 something is wrong.
set -euo pipefail
cd "$(dirname "$0")"

tools="${REGRADE_TOOLS_DIR:-$HOME/.cache/regrade-tools}"
mkdir -p "$tools"
compose_go_version=v2.16.2
kubernetes_validate_version=1.34.1
kubernetes_version=1.34

sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
skipped=()
failed=()
updated=""

# check NAME COMMAND...: runs it and goes on; its output is shown if it fails.
check() {
  local name="$1" output
  shift
  if output="$(timeout 120 "$@" 2>&1)"; then
    printf 'ok       %s\n' "$name"
  else
    printf 'FAILED   %s\n%s\n' "$name" "$output"
    failed+=("$name")
  fi
}
skip() {
  printf 'skipped  %s: %s\n' "$1" "$2"
  skipped+=("$1")
}

# Package lists are brought up to date once, and only when something is missing.
apt_update() {
  command -v apt-get >/dev/null || return 1
  [ -z "$updated" ] || return 0
  $sudo apt-get update -qq >&2
  updated=1
}

# promtool, taken out of Debian's package: installing that would start a server.
promtool="$(command -v promtool || echo "$tools/prometheus/usr/bin/promtool")"
have_promtool() {
  [ ! -x "$promtool" ] || return 0
  apt_update || return 1
  local partial
  partial="$(mktemp -d "$tools/partial.XXXXXX")"
  chmod 755 "$partial"
  (cd "$partial" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb) >&2 &&
    rm -rf "$tools/prometheus" && mv "$partial" "$tools/prometheus"
}

# A Python with PyYAML and the schemas of Kubernetes.
python="$tools/kubernetes-validate-$kubernetes_validate_version/bin/python"
have_python() {
  [ ! -e "${python%/bin/python}/complete" ] || return 0
  command -v python3 >/dev/null || return 1
  python3 -m venv --clear "${python%/bin/python}" >&2 &&
    "$python" -m pip install -q --disable-pip-version-check "kubernetes-validate==$kubernetes_validate_version" >&2 &&
    touch "${python%/bin/python}/complete"
}

# The loader that Docker Compose itself uses.
compose="$tools/compose-go-$compose_go_version/cmd"
have_compose_loader() {
  [ ! -x "$compose" ] || return 0
  command -v go >/dev/null || return 1
  GOBIN="${compose%/cmd}" GOFLAGS=-buildvcs=false \
    go install "github.com/compose-spec/compose-go/v2/cmd@$compose_go_version" >&2
}

have_shellcheck() {
  command -v shellcheck >/dev/null && return
  apt_update && $sudo apt-get install -y -qq --no-install-recommends shellcheck >&2
}

# ---- Prometheus -------------------------------------------------------------------------------------------
if have_promtool; then
  check "prometheus.yml and alerts.yml" "$promtool" check config prometheus/prometheus.yml
  check "alerts fire when they should" "$promtool" test rules prometheus/alerts_test.yml
else
  skip "Prometheus rules" "no promtool and no apt-get"
fi

# ---- Compose ----------------------------------------------------------------------------------------------
# What only the caller can give is put in place of `${NAME:?reason}`.
filled="$(mktemp --suffix=.yaml)"
dashboard_rules="$(mktemp --suffix=.yml)"
trap 'rm -f "$filled" "$dashboard_rules"' EXIT
sed -E 's/\$\{[A-Z_]+:\?[^}]*\}/given/g' compose.yaml >"$filled"
if docker compose version >/dev/null 2>&1; then
  check "compose.yaml by docker compose" env MINIO_ROOT_USER=given MINIO_ROOT_PASSWORD=given \
    docker compose -f compose.yaml config --quiet
elif have_compose_loader; then
  check "compose.yaml by the loader of docker compose" "$compose" "$filled"
else
  skip "compose.yaml against its schema" "neither docker compose nor go"
fi

# ---- Kubernetes and what refers to what -------------------------------------------------------------------
if have_python; then
  plain=(kubernetes/config.yaml kubernetes/serve.yaml kubernetes/judge.yaml kubernetes/learn.yaml kubernetes/network.yaml)
  check "kubernetes/ against the schemas of $kubernetes_version" \
    "${python%/python}/kubernetes-validate" --strict --quiet -k "$kubernetes_version" "${plain[@]}"
  check "references within Dockerfile, compose.yaml and kubernetes/" "$python" references.py "$filled" kubernetes/*.yaml
  "$python" - grafana/dashboards/regrade.json >"$dashboard_rules" <<'PY'
import json, sys
board = json.load(open(sys.argv[1]))
asked = [t["expr"] for p in board["panels"] for t in p.get("targets", [])]
asked += [a["expr"] for a in board["annotations"]["list"]]
asked = [e.replace("$__rate_interval", "5m").replace("$job", ".*") for e in asked]
rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(asked)]
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
PY
  if have_promtool; then
    check "every question of the dashboard is PromQL" "$promtool" check rules "$dashboard_rules"
  fi
else
  skip "kubernetes/ and references" "no python3 with venv"
fi

# ---- scripts ----------------------------------------------------------------------------------------------
if have_shellcheck; then
  check "scripts" shellcheck validate.sh kafka-local/kafka.sh ../.ci/run
else
  skip "scripts" "no shellcheck and no apt-get"
fi

if ((${#skipped[@]})) && [ "${REGRADE_REQUIRE_SERVICES:-}" = 1 ]; then
  printf 'nothing may be skipped (REGRADE_REQUIRE_SERVICES=1): %s\n' "${skipped[*]}" >&2
  exit 1
fi
if ((${#failed[@]})); then
  printf '%s failed\n' "${#failed[@]}" >&2
  exit 1
fi
