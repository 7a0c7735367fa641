#!/usr/bin/env bash
# The tests, in the same environment as recipes/mini; makes it if it is not there.
set -euo pipefail

quick=false
with_k2=false
help_message="usage: tests/run.sh [--quick] [--with-k2]

  --quick     leave out the tests that train models or decode audio
  --with-k2   also compare lattices with k2's own, in an environment .venv-k2 with Python 3.9
              (3.5 GB, made once; left out with a warning where there is no Python 3.9)"

. "$(dirname "${BASH_SOURCE[0]}")/../recipes/shared/stages.sh"
parse_options "quick with_k2" "$@"

# The command of a Python 3.9 with venv, also one of pyenv's that is not switched on.
find_python39() {
  local python
  for python in python3.9 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.9.*/bin/python3.9; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 9))' \
      </dev/null >/dev/null 2>&1; then
      echo "$python"
      return 0
    fi
  done
  return 1
}

# Make .venv-k2 from tests/k2/constraints.txt unless it is there and whole. Status 1: no Python 3.9
# here, or a machine for which k2 1.23.4 has no package; 2: the installation failed.
ensure_venv_k2() {
  local venv=.venv-k2 python stamp
  stamp=$(sha256sum <tests/k2/constraints.txt)
  if [ -f "$venv/.asrprune-stamp" ] && [ "$(cat "$venv/.asrprune-stamp")" = "$stamp" ] &&
    "$venv/bin/python" -c 'import k2' </dev/null >/dev/null 2>&1; then
    return 0
  fi
  if ! python=$(find_python39); then
    k2_missing="no Python 3.9 with venv is found"
    return 1
  fi
  if [ "$(uname -sm)" != "Linux x86_64" ]; then
    k2_missing="k2 1.23.4 is packaged for Linux x86_64 and this is $(uname -sm)"
    return 1
  fi
  if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
    die "$venv is not a Python environment; expected one of ours, or nothing there"
  fi
  log "making $venv with $python (a few minutes and 3.5 GB, once)"
  rm -rf "$venv"
  "$python" -m venv "$venv" </dev/null >&2 &&
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
      --no-deps --no-cache-dir -r tests/k2/constraints.txt </dev/null >&2 &&
    "$venv/bin/python" -c 'import k2' </dev/null >&2 || return 2
  printf '%s\n' "$stamp" >"$venv/.asrprune-stamp"
}

run_k2_tests() {
  local found=0
  ensure_venv_k2 || found=$?
  if [ "$found" -eq 1 ]; then
    printf '%s\n' '' "*** --with-k2: the k2 tests are NOT run: $k2_missing ***" '' >&2
    return 0
  fi
  if [ "$found" -ne 0 ]; then
    printf '%s\n' '' '*** --with-k2: .venv-k2 cannot be made ***' '' >&2
    return "$found"
  fi
  log "the k2 tests, with Python 3.9 and k2 1.23.4"
  PYTHONPATH=$PWD .venv-k2/bin/python -m pytest --import-mode=importlib \
    -p no:cacheprovider tests/k2 </dev/null
}

ensure_venv .venv mini,dev
select=()
if $quick; then select=(-m "not slow"); fi
export OMP_NUM_THREADS=1
status=0
python -m pytest --import-mode=importlib ${select[@]+"${select[@]}"} tests </dev/null || status=$?
if $with_k2; then run_k2_tests || status=$?; fi
exit "$status"
