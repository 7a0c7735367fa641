#!/usr/bin/env bash
# The tests and doctests, on the wheel of this checkout, in the environment of recipes/mini (made if
# it is not there).
set -euo pipefail

quick=false
with_k2=false
with_partners=false
nj=$(nproc)
if [ "$nj" -gt 4 ]; then nj=4; fi # each process takes about 1 GB
help_message="usage: tests/run.sh [--quick] [--with-k2] [--with-partners] [--nj N]

  --quick     leave out the tests that are marked slow
  --nj N      in N processes (default: one a core, up to 4)
  --with-k2   also compare lattices with k2's own, in an environment .venv-k2 with Python 3.9
              (3.5 GB, made once; left out with a warning where there is no Python 3.9)
  --with-partners
              also run the adapters in the decoders of other toolkits, which are installed into
              .venv-partners beside the environment (tests/partners/constraints.txt)

One file of tests, on the checkout as it stands: .venv/bin/python -m pytest tests/lm/test_trie.py"

. "$(dirname "${BASH_SOURCE[0]}")/../recipes/shared/stages.sh"
parse_options "quick with_k2 with_partners nj" "$@"

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

# Make .venv-partners from tests/partners/constraints.txt unless it is there and whole: packages
# without what they say they need, for the Python, the torch and the numpy of the environment.
ensure_partners() {
  local partners=.venv-partners stamp
  stamp=$(python -V; sha256sum <tests/partners/constraints.txt)
  if [ -f "$partners/asrprune-stamp" ] && [ "$(cat "$partners/asrprune-stamp")" = "$stamp" ]; then
    return 0
  fi
  if [ -e "$partners" ] && [ ! -e "$partners/asrprune-begun" ]; then
    die "$partners is no folder of packages; expected one of ours, or nothing there"
  fi
  log "making $partners (once)"
  rm -rf "$partners"
  mkdir "$partners"
  : >"$partners/asrprune-begun"
  python -m pip install --quiet --no-input --disable-pip-version-check --no-deps --no-cache-dir \
    --target "$partners" -r tests/partners/constraints.txt </dev/null >&2 || return 2
  rm -f "$partners"/torchaudio/lib/*.so # of CUDA: without them it imports beside torch for CPUs
  printf '%s\n' "$stamp" >"$partners/asrprune-stamp"
}

# Install the wheel of this checkout into $site. It is built from a copy, so that nothing of an
# earlier build gets into it and nothing of this one stays in the checkout.
install_wheel() {
  local copy=build/test-wheel/copy wheels=build/test-wheel/wheels
  local pip=(python -m pip --quiet --no-input --disable-pip-version-check)
  rm -rf build/test-wheel "$site"
  mkdir -p "$copy"
  cp -R setup.py pyproject.toml README.md LICENSE asrprune "$copy"
  python -c 'import setuptools.command.bdist_wheel' </dev/null 2>/dev/null ||
    die "no setuptools that makes wheels in $(command -v python); expected: pip install 'setuptools>=70.1'"
  # setuptools of the environment, so that a test run fetches nothing
  "${pip[@]}" wheel --no-index --no-deps --no-build-isolation --wheel-dir "$wheels" "$copy" \
    </dev/null >&2
  "${pip[@]}" install --no-index --no-deps --target "$site" "$wheels"/asrprune-*.whl </dev/null >&2
  rm -rf build/test-wheel
}

# run_pytest PYTHON ARGUMENTS: from build, where no asrprune stands that python -m could find first;
# the wheel goes before an asrprune that is installed in the environment.
run_pytest() {
  (cd build && PYTHONPATH=$site${beside:+:$beside} PATH=$site/bin:$PATH ASRPRUNE_TEST_SITE=$site \
    "$1" -m pytest --config-file=../pyproject.toml "${@:2}" </dev/null)
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
  run_pytest "$PWD/.venv-k2/bin/python" -p no:cacheprovider ../tests/k2
}

run_partner_tests() {
  local found=0
  ensure_partners || found=$?
  if [ "$found" -ne 0 ]; then
    printf '%s\n' '' '*** --with-partners: .venv-partners cannot be made ***' '' >&2
    return "$found"
  fi
  log "the adapters, in the decoders of other toolkits"
  beside=$PWD/.venv-partners run_pytest python ../tests/exchange/adapters
}

ensure_venv .venv mini,dev
case $PATH in /*) ;; *) PATH=$PWD/$PATH ;; esac # a relative $ASRPRUNE_VENV
site=$PWD/build/test-site
lock_folder build
install_wheel
options=(--numprocesses "$nj" --dist worksteal)
if $quick; then options+=(-m "not slow"); fi
export OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE # so that pytest rewrites the asserts of a file once, not in every run
status=0
run_pytest python "${options[@]}" ../tests "$site/asrprune" || status=$?
if $with_k2; then run_k2_tests || status=$?; fi
if $with_partners; then run_partner_tests || status=$?; fi
exit "$status"
