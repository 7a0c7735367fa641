#!/usr/bin/env bash
# The tests, in the same environment as recipes/mini; makes it if it is not there.
set -euo pipefail

quick=false
with_k2=false
help_message="usage: tests/run.sh [--quick] [--with-k2]

  --quick     leave out the tests that train models or decode audio
  --with-k2   also compare lattices with k2's own (not there yet: comes with the lattice formats)"

. "$(dirname "${BASH_SOURCE[0]}")/../recipes/shared/stages.sh"
parse_options "quick with_k2" "$@"
ensure_venv .venv mini,dev

select=()
if $quick; then select=(-m "not slow"); fi
export OMP_NUM_THREADS=1
status=0
python -m pytest --import-mode=importlib ${select[@]+"${select[@]}"} tests </dev/null || status=$?
if $with_k2; then
  printf '%s\n' '' '*** --with-k2: the k2 tests are NOT run; they come with the lattice formats ***' '' >&2
fi
exit "$status"
