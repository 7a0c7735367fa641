# Shell library of the recipes: options, log lines, stages with marks, the Python environment.
# A recipe sets its knobs, then sources this file (from any folder; it changes to the repository's
# root) and calls parse_options, ensure_venv and, for each stage, run_stage. Variables of functions
# that read knobs or call a recipe's functions begin with _: they would hide a knob of that name.

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

log() { printf '%s %s\n' "$(date '+%F %T')" "$*" >&2; }

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# parse_options "KNOB ..." "$@": Kaldi's convention. --foo-bar VALUE sets the shell variable
# foo_bar, which must be among the named knobs; a knob that holds true or false may stand without
# a value (--quick); one that holds a number takes only a number; --help prints $help_message.
parse_options() {
  local _option _name
  read -r -a knobs <<<"${1//$'\n'/ }" # read takes one line, and the names may stand on several
  shift
  while [ $# -gt 0 ]; do
    _option=$1
    case $_option in
      --help | -h) printf '%s\n' "${help_message:-no help}"; exit 0 ;;
      --*=*) _usage "$_option; expected ${_option%%=*} ${_option#*=}" ;;
      --*) _name=${_option#--} _name=${_name//-/_} ;;
      *) _usage "unexpected argument $_option" ;;
    esac
    [[ " ${knobs[*]} " == *" $_name "* && $_name != *" "* ]] || _usage "unknown option $_option"
    if [[ ${!_name} =~ ^(true|false)$ && ! ${2:-} =~ ^(true|false)$ ]]; then
      printf -v "$_name" true
      shift
      continue
    fi
    [ $# -ge 2 ] || _usage "$_option without a value"
    if [[ ${!_name} =~ ^-?[0-9]+$ && ! $2 =~ ^-?[0-9]+$ ]]; then
      _usage "$_option $2; expected a whole number"
    fi
    printf -v "$_name" %s "$2"
    shift 2
  done
  # lists of NAME=PATH stand in one word
  if [[ ${exp:-} =~ [[:space:]] ]]; then _usage "--exp '$exp'; expected a path without blanks"; fi
  # --stop-stage -1 asks for none, and what comes before them
  if [[ " ${knobs[*]} " == *" stop_stage "* ]] && [ "$stop_stage" -ge 0 ] \
    && [ "$stage" -gt "$stop_stage" ]; then
    _usage "--stage $stage --stop-stage $stop_stage run nothing; expected the first stage, then the last"
  fi
}

_usage() {
  printf '%s: %s (--help tells the options)\n' "$(basename "$0")" "$1" >&2
  exit 2
}

# run_stage N NAME FUNCTION [PERCENT]: run one stage in a subshell that stops at the first failing
# command, unless $exp/.done/N holds the same command already. The mark is begun.N until the stage
# has ended well. It holds the text of the function and of those it calls, the value of each knob
# that the text names, and the hash of each file that such a knob names, alone or between blanks,
# colons, equals signs and commas, and of each file of local/ and recipes/ that the text names. A
# stage that runs makes its marks of other commands and all marks of later stages old.N, for fresh.
# The log says what share of the recipe's time the stage usually takes; $exp/times.tsv gets a line of
# its number, name and seconds.
run_stage() {
  local _number=$1 _name=$2 _body=$3 _marks=$exp/.done _command _status=0 _mark
  if [ "$_number" -lt "$stage" ] || [ "$_number" -gt "$stop_stage" ]; then return 0; fi
  _command=$(_stage_command "$_body")
  if _holds "$_marks/$_number" "$_command"; then
    log "stage $_number ($_name): done before (to run it again: rm $_marks/$_number)"
    return 0
  fi
  mkdir -p "$_marks"
  for _mark in "$_marks"/*; do
    [[ $_mark =~ /(begun\.)?([0-9]+)$ && ${BASH_REMATCH[2]} -ge $_number ]] || continue
    if [[ $_mark != */begun."$_number" ]] || ! _holds "$_mark" "$_command"; then
      mv "$_mark" "$_marks/old.${BASH_REMATCH[2]}"
    fi
  done
  printf '%s\n' "$_command" >"$_marks/begun.$_number"
  log "stage $_number ($_name)${4:+, usually $4 % of the time}"
  local _start=$SECONDS
  set +e
  (set -euo pipefail; "$_body") </dev/null
  _status=$?
  set -e
  if [ "$_status" -ne 0 ]; then
    log "stage $_number ($_name): failed with status $_status after $((SECONDS - _start)) s"
    exit "$_status"
  fi
  mv "$_marks/begun.$_number" "$_marks/$_number"
  _note_time "$_number" "$_name" "$((SECONDS - _start))"
  log "stage $_number ($_name): $((SECONDS - _start)) s"
}

# finish N WHAT: say that WHAT is there if stage N, the last of the recipe, is done; else how far it is.
finish() {
  if [ -f "$exp/.done/$1" ]; then
    log "done: $2"
  else
    log "stopped after stage $stop_stage of $1"
  fi
}

_holds() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }

# _note_time NUMBER NAME SECONDS: the line of this stage in times.tsv, in the place of an older one.
_note_time() {
  local times=$exp/times.tsv
  {
    printf 'stage\tname\tseconds\n'
    if [ -f "$times" ]; then tail -n +2 "$times" | awk -F '\t' -v n="$1" '$1 != n'; fi
    printf '%s\t%s\t%s\n' "$1" "$2" "$3"
  } >"$times.tmp"
  mv "$times.tmp" "$times"
}

# each FUNCTION LIST: call FUNCTION NAME WHAT for every line "NAME WHAT" that LIST prints, $nj of them
# at once, a thread each. The first that fails stops the others, and its status is the result.
each() {
  local _running=0 _line _lines _status
  mapfile -t _lines < <("$2")
  for _line in "${_lines[@]}" ""; do
    while [ "$_running" -ge "$nj" ] || [ -z "$_line" -a "$_running" -gt 0 ]; do
      _status=0
      wait -n || _status=$?
      _running=$((_running - 1))
      if [ "$_status" -ne 0 ]; then
        _stop $(jobs -pr)
        wait
        return "$_status"
      fi
    done
    if [ -n "$_line" ]; then
      OMP_NUM_THREADS=1 "$1" "${_line%% *}" "${_line#* }" &
      _running=$((_running + 1))
    fi
  done
}

# _stop PID ...: end these processes and all that they have started, and wait until they are gone, for
# ten seconds at most: what lives on would hold the folder's lock.
_stop() {
  local all=("$@") place=0 tries=0 pid
  while [ "$place" -lt "${#all[@]}" ]; do
    pid=${all[place]} place=$((place + 1))
    kill -STOP "$pid" 2>/dev/null || continue # so that it starts nothing more
    mapfile -t -O "${#all[@]}" all < <(
      grep -lx "PPid:[[:space:]]*$pid" /proc/[0-9]*/status 2>/dev/null | cut -d / -f 3
    )
  done
  for pid in ${all[@]+"${all[@]}"}; do
    kill -TERM "$pid" 2>/dev/null && kill -CONT "$pid" 2>/dev/null || true
  done
  for pid in ${all[@]+"${all[@]}"}; do
    while [ "$tries" -lt 100 ] && grep -q '^State:[[:space:]]*[^Z]' "/proc/$pid/status" 2>/dev/null; do
      sleep 0.1
      tries=$((tries + 1))
    done
  done
}

# fresh PATH ...: to be called once by a stage: drop what the stage made by an earlier command, or from
# what an earlier stage has made anew, whole or in part. What a killed run of this command made stays.
fresh() {
  if [ -f "$_marks/old.$_number" ]; then
    log "stage $_number: dropping what an earlier command made: $*"
    rm -rf -- "$@"
    rm -f "$_marks/old.$_number"
  fi
}

_stage_command() {
  local _knob _apart _word _text _before= _found=" $1 "
  _text=$(declare -f "$1")
  while [ "$_text" != "$_before" ]; do # the functions that it calls, and those that they call
    _before=$_text
    for _word in $(compgen -A function); do
      if [[ $_found != *" $_word "* ]] && grep -qwF -- "$_word" <<<"$_text"; then
        _found+="$_word "
        _text+=$'\n'$(declare -f "$_word")
      fi
    done
  done
  printf '%s\n' "$_text"
  for _knob in "${knobs[@]}"; do
    # how far to run and on how many cores changes no result
    [[ $_knob =~ ^(stage|stop_stage|nj)$ ]] && continue
    if grep -qE "[$]([{]$_knob\\b|$_knob\\b)" <<<"$_text"; then
      printf '%s=%s\n' "$_knob" "${!_knob}"
      for _apart in '\n' ' :' ' :=,'; do tr "$_apart" '\n' <<<"${!_knob}"; done | sort -u |
        while read -r _word; do
          if [ -f "$_word" ]; then sha256sum "$_word"; fi
        done
    fi
  done
  for _word in $(grep -oE '\b(local|recipes)/[A-Za-z0-9_./-]+' <<<"$_text" | sort -u); do
    if [ -f "$_word" ]; then sha256sum "$_word"; fi
  done
}

# lock_folder DIR: stop if another run works in DIR; held until this shell and its jobs end.
lock_folder() {
  mkdir -p "$1"
  command -v flock >/dev/null || return 0
  exec 9>"$1/.lock"
  flock -n 9 || die "another run is at work in $1"
}

# ensure_venv DIR EXTRAS: put a Python environment with asrprune[EXTRAS] first in PATH. It is made
# once, pinned by constraints.txt, and made anew when it is damaged or when setup.py,
# pyproject.toml, constraints.txt or EXTRAS change. pip's own output goes to DIR/pip.log.
# $ASRPRUNE_VENV names an environment of your own that is used as it is.
ensure_venv() {
  local venv=$1 extras=$2 python stamp start=$SECONDS
  if [ -n "${ASRPRUNE_VENV:-}" ]; then
    [ -x "$ASRPRUNE_VENV/bin/python" ] || die "ASRPRUNE_VENV=$ASRPRUNE_VENV has no bin/python"
    export PATH="$ASRPRUNE_VENV/bin:$PATH"
    return 0
  fi
  stamp=$( (echo "$extras"; cat setup.py pyproject.toml constraints.txt) | sha256sum)
  if ! _venv_is_whole "$venv" "$stamp"; then
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
      die "$venv is not a Python environment; expected one of ours, or nothing there"
    fi
    python=$(_find_python) || die "no Python 3.10 or later with venv; expected: apt-get install -y python3 python3-venv"
    log "$venv: making it with $python (a few minutes, once)"
    rm -rf "$venv"
    "$python" -m venv "$venv" </dev/null >&2
    log "$venv: fetching what asrprune[$extras] needs"
    # Python compiles the modules that are used; pip would compile all of them, which takes longer
    # than everything else that it does
    if ! (set -o pipefail; "$venv/bin/python" -m pip install --no-compile --no-input --no-color \
      --disable-pip-version-check --progress-bar off -c constraints.txt -e ".[$extras]" \
      </dev/null 2>&1 | _pip_progress "$venv"); then
      tail -n 15 "$venv/pip.log" >&2
      die "$venv: pip failed, see above; all that it said is in $venv/pip.log"
    fi
    printf '%s\n' "$stamp" >"$venv/.asrprune-stamp"
    _venv_is_whole "$venv" "$stamp" || die "$venv: installed, but asrprune does not start from it"
    log "$venv: done in $((SECONDS - start)) s"
  fi
  PATH="$(cd "$venv" && pwd)/bin:$PATH"
  export PATH
}

pip_progress_s=20

# Copy pip's output to DIR/pip.log; of it, log a short line every $pip_progress_s seconds while
# packages are fetched, then how many are installed, and every fourth time that they still are.
_pip_progress() {
  local venv=$1 line file name version found=0 doing=fetching every=$pip_progress_s shown=$SECONDS
  while true; do
    if IFS= read -r -t "$pip_progress_s" line; then
      printf '%s\n' "$line" >>"$venv/pip.log"
      case $line in
        "Collecting "* | "Processing "*)
          found=$((found + 1))
          doing="fetching package $found"
          ;;
        *"Downloading "*".whl ("*)
          file=${line#*Downloading } file=${file##*/}
          IFS=- read -r name version _ <<<"$file"
          doing="fetching package $found, $name $version (${file##*\(}"
          ;;
        "Installing collected packages: "*)
          line=${line//[^,]/}
          doing="installing $((${#line} + 1)) packages"
          log "$venv: $doing"
          doing="still $doing" every=$((4 * pip_progress_s)) shown=$SECONDS
          ;;
      esac
    elif [ $? -le 128 ]; then # no more output; a status above that: none in that time
      return 0
    fi
    if [ $((SECONDS - shown)) -ge "$every" ]; then
      log "$venv: $doing"
      shown=$SECONDS
    fi
  done
}

# The first Python that the pinned packages are made for, else any later one.
_find_python() {
  local python
  for python in python3.11 python3.12 python3.13 python3.10 python3; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' \
      </dev/null >/dev/null 2>&1; then
      echo "$python"
      return 0
    fi
  done
  return 1
}

_venv_is_whole() {
  [ -f "$1/.asrprune-stamp" ] && [ "$(cat "$1/.asrprune-stamp")" = "$2" ] || return 1
  "$1/bin/python" - "$PWD" <<'PYTHON' >/dev/null 2>&1
import importlib.util
import os
import sys

needed = ("asrprune", "torch", "numpy", "sentencepiece", "jiwer", "safetensors", "tqdm")
specs = {name: importlib.util.find_spec(name) for name in needed}
if None in specs.values():
    sys.exit(1)
home = os.path.dirname(os.path.dirname(os.path.realpath(specs["asrprune"].origin)))
sys.exit(home != os.path.realpath(sys.argv[1]))
PYTHON
}
