#!/usr/bin/env bash
# One real Apache Kafka broker on loopback, for people, tests and the build server.
#
#   kafka.sh up      [--state DIR] [--port N] [--controller-port N] [--with PID]
#   kafka.sh down    [--state DIR] [--keep]
#   kafka.sh restart [--state DIR]      stop politely, start again: same ports, same data
#   kafka.sh kill    [--state DIR]      SIGKILL; the data stays, `up` continues with it
#   kafka.sh status  [--state DIR]      exit 0 and the address if it answers, else 3
#   kafka.sh fetch                      only bring the jars into the cache
#   kafka.sh tool CLASS ARGS...         one of Kafka's own tools, e.g. `tool TopicCommand --help`
#
# `up` and `restart` return when the broker answers a metadata request; the last line on stdout is its
# address, 127.0.0.1:PORT. Several brokers run side by side, each with a --state folder of its own. `--with`
# takes the broker and its data down when process PID is gone, however it went.
# Jars come from Maven once, into REGRADE_CACHE_DIR (default ~/.cache/regrade-kafka); after that neither
# Maven nor a network is needed. Exit codes: 0 done, 1 failure, 2 a tool is missing, 3 not running, 64 usage.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${REGRADE_CACHE_DIR:-$HOME/.cache/regrade-kafka}"
start_timeout_s="${KAFKA_START_TIMEOUT_S:-90}"
stop_timeout_s="${KAFKA_STOP_TIMEOUT_S:-20}"
fetch_timeout_s="${KAFKA_FETCH_TIMEOUT_S:-600}"
# Short-lived brokers on few cores: a small heap, one collector thread, no optimising compiler.
read -r -a jvm <<<"${KAFKA_JVM_OPTS:--Xms128m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1}"

say() { printf 'kafka.sh: %s\n' "$*" >&2; }
die() {
  local code="$1"
  shift
  say "$*"
  exit "$code"
}
usage() {
  sed -n '2,18p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2
  exit 64
}

main() {
  local command="${1:-}"
  [ -n "$command" ] || usage
  shift
  if [ "$command" = tool ]; then
    run_tool "$@"
    return
  fi
  parse "$@"
  case "$command" in
  up) up ;;
  down) down ;;
  restart)
    [ -f "$state/port" ] || die 3 "nothing to restart in $state: run 'up' first"
    stop TERM
    up
    ;;
  kill) stop KILL ;;
  status) status ;;
  fetch) fetch ;;
  *) usage ;;
  esac
}

parse() {
  state="${TMPDIR:-/tmp}/regrade-kafka-$(id -u)"
  port="" controller_port="" keep="" with=""
  while (($#)); do
    case "$1" in
    --keep)
      keep=1
      shift
      continue
      ;;
    --state | --port | --controller-port | --with) (($# >= 2)) || die 64 "$1 needs a value" ;;
    *) die 64 "unknown option '$1' (run without arguments for help)" ;;
    esac
    case "$1" in
    --state) state="$2" ;;
    --port) port="$(number "$1" "$2")" ;;
    --controller-port) controller_port="$(number "$1" "$2")" ;;
    --with) with="$(number "$1" "$2")" ;;
    esac
    shift 2
  done
  [[ "$state" == /* ]] || state="$PWD/$state"
}

number() {
  [[ "$2" =~ ^[1-9][0-9]{0,9}$ ]] || die 64 "$1 takes a number, not '$2'"
  echo "$2"
}

# ---- jars ---------------------------------------------------------------------------------------------------

need_java() {
  command -v java >/dev/null || die 2 "java is not installed: Kafka needs Java 17 or newer (Debian: openjdk-17-jre-headless)"
  local version
  version="$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)"
  [ "${version:-0}" -ge 17 ] || die 2 "java is version ${version:-unknown}, but Kafka needs 17 or newer"
}

# The folder's name holds a checksum of pom.xml: a changed pin is a new folder, never a mixture.
libs_folder() { echo "$cache/libs-$(cksum <"$here/pom.xml" | cut -d ' ' -f 1)"; }

fetch() {
  libs="$(libs_folder)"
  [ ! -d "$libs" ] || return 0
  command -v mvn >/dev/null || die 2 "mvn is not installed and the jars are not in $libs: install Maven (Debian: maven) or copy the folder there"
  mkdir -p "$cache"
  local partial
  partial="$(mktemp -d "$cache/partial.XXXXXX")"
  say "fetching the jars named in $here/pom.xml into $libs"
  if ! timeout "$fetch_timeout_s" mvn -B -q -f "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$partial" >"$partial.log" 2>&1; then
    tail -n 20 "$partial.log" >&2
    rm -rf "$partial" "$partial.log"
    die 1 "Maven could not fetch the jars within ${fetch_timeout_s}s: the lines above say why"
  fi
  rm -f "$partial.log"
  # Two first calls at once fetch twice; whoever renames second finds the folder there and drops its copy.
  mv -T "$partial" "$libs" 2>/dev/null || rm -rf "$partial"
  [ -d "$libs" ] || die 1 "could not put the jars in $libs: is the folder writable?"
}

run_tool() {
  (($#)) || usage
  local class="$1"
  shift
  [[ "$class" == kafka.* || "$class" == org.* ]] || class="org.apache.kafka.tools.$class"
  need_java
  fetch
  exec java "${jvm[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$libs/*" "$class" "$@"
}

# ---- up -----------------------------------------------------------------------------------------------------

up() {
  need_java
  fetch
  mkdir -p "$state"
  if running; then
    await_ready || die 1 "a broker runs in $state but does not answer; see $state/broker.log"
    echo "127.0.0.1:$(cat "$state/port")"
    return
  fi
  rm -f "$state/pid"
  local chosen=""
  if [ -f "$state/port" ]; then
    # Clients of a broker that comes back expect it at the same address.
    [ -z "$port" ] || [ "$port" = "$(cat "$state/port")" ] ||
      die 64 "$state has the data of a broker on port $(cat "$state/port"): leave --port out, or 'down' first"
    port="$(cat "$state/port")"
    controller_port="$(cat "$state/controller-port")"
  elif [ -z "$port" ] || [ -z "$controller_port" ]; then
    chosen=1
  fi
  local attempt
  for attempt in 1 2 3 4 5; do
    try_up "${chosen:+$attempt}" && return
  done
  die 1 "no free pair of ports found in 5 attempts"
}

# Starts the broker once. Returns 1 only if ports of our own choice were taken by another in between.
try_up() {
  local ours="$1" p="$port" c="$controller_port"
  [ -n "$p" ] || p="$(free_port)"
  [ -n "$c" ] || c="$(free_port "$p")"
  answers "$p" && die 1 "port $p is taken: choose another with --port, or leave it out"
  answers "$c" && die 1 "controller port $c is taken: choose another with --controller-port, or leave it out"
  format "$p" "$c"
  echo "$p" >"$state/port"
  echo "$c" >"$state/controller-port"
  # setsid: a Ctrl-C in the caller's terminal, or the end of a test run, is not a signal to the broker.
  setsid java "${jvm[@]}" -Dorg.slf4j.simpleLogger.showDateTime=true \
    -Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS \
    -cp "$libs/*" kafka.Kafka "$state/server.properties" >"$state/broker.log" 2>&1 </dev/null &
  echo "$!" >"$state/pid"
  if await_ready; then
    [ -z "$with" ] || watch_over
    echo "127.0.0.1:$p"
    return 0
  fi
  if grep -q 'BindException\|Address already in use' "$state/broker.log"; then
    stop KILL
    [ -n "$ours" ] || die 1 "port $p or $c was taken while the broker started"
    rm -rf "$state/data" "$state/port" "$state/controller-port"
    return 1
  fi
  tail -n 20 "$state/broker.log" >&2
  running && stop KILL && die 1 "the broker did not answer within ${start_timeout_s}s; its last lines are above"
  die 1 "the broker ended while starting; its last lines are above"
}

# Lays out the storage folder unless it is there from an earlier life.
format() {
  sed -e "s|@PORT@|$1|g" -e "s|@CONTROLLER_PORT@|$2|g" -e "s|@DATA@|$state/data|g" \
    "$here/server.properties" >"$state/server.properties"
  [ ! -f "$state/data/meta.properties" ] || return 0
  local id
  # A cluster id is 16 random bytes in URL-safe base64; "A" in front keeps it from looking like an option.
  id="A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)"
  java "${jvm[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$libs/*" kafka.tools.StorageTool \
    format --standalone -t "$id" -c "$state/server.properties" >"$state/format.log" 2>&1 ||
    { tail -n 20 "$state/format.log" >&2 && die 1 "could not format $state/data; the lines above say why"; }
}

# Ends the broker and removes its folder when process $with is gone; one watcher for a folder, through every
# restart of its broker.
watch_over() {
  [ ! -f "$state/with" ] || return 0
  echo "$with" >"$state/with"
  (
    trap '' HUP INT
    while kill -0 "$with" 2>/dev/null && [ -f "$state/with" ]; do sleep 1; done
    [ -f "$state/with" ] || exit 0
    stop KILL || true
    rm -rf "$state"
  ) </dev/null >/dev/null 2>&1 &
}

await_ready() {
  local deadline=$((SECONDS + start_timeout_s))
  while ((SECONDS < deadline)); do
    running || return 1
    ready "$(cat "$state/port")" && return 0
    sleep 0.2
  done
  return 1
}

# ---- what is there ------------------------------------------------------------------------------------------

# The pid is ours only while that process was started with our properties file: numbers are used again.
running() {
  local pid
  pid="$(cat "$state/pid" 2>/dev/null)" || return 1
  ps -ww -o args= -p "$pid" 2>/dev/null | grep -qF -- "$state/server.properties"
}

answers() { timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$1" 2>/dev/null; }

# Sends Metadata v1 for no topic and reads the number of brokers in the answer: it is 1 once the broker has
# caught up with its controller and takes requests, which an open port alone does not say.
ready() {
  local answer
  answer="$(timeout 2 bash -c "
    exec 3<>/dev/tcp/127.0.0.1/$1
    printf '\\0\\0\\0\\x10\\0\\x03\\0\\x01\\0\\0\\0\\x01\\0\\x02up\\0\\0\\0\\0' >&3
    head -c 12 <&3 | od -An -tx1 -v | tr -d ' \\n'" 2>/dev/null)" || return 1
  [ "${answer:16:8}" = 00000001 ]
}

# A port below the range from which outgoing connections take theirs.
free_port() {
  local candidate
  for _ in {1..50}; do
    candidate=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    [ "$candidate" = "${1:-}" ] || answers "$candidate" || { echo "$candidate" && return; }
  done
  die 1 "no free port found between 20000 and 31999"
}

status() {
  running || die 3 "no broker runs in $state"
  ready "$(cat "$state/port")" || die 3 "a broker runs in $state but does not answer yet; see $state/broker.log"
  echo "127.0.0.1:$(cat "$state/port")"
}

# ---- down ---------------------------------------------------------------------------------------------------

stop() {
  local signal="$1" pid deadline=$((SECONDS + stop_timeout_s))
  if running; then
    pid="$(cat "$state/pid")"
    kill "-$signal" "$pid"
    while running; do
      if ((SECONDS >= deadline)); then
        say "the broker did not end within ${stop_timeout_s}s: killing it"
        kill -KILL "$pid" || true
        deadline=$((SECONDS + 10))
      fi
      sleep 0.1
    done
  fi
  rm -f "$state/pid"
}

down() {
  stop TERM
  # Only a folder that `up` made is removed.
  [ -n "$keep" ] || [ ! -f "$state/server.properties" ] || rm -rf "$state"
}

main "$@"
