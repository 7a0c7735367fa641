#!/usr/bin/env bash
# Print the synthesiser that reads the sentences of recipes/mini, flite or hibari; say why on stderr.
#
#   local/mini/find_synthesiser.sh auto|flite|hibari
#
# auto takes flite, which has four voices, and installs it with apt-get where that asks nobody for a
# password (as root, or through sudo -n); elsewhere hibari, a neural voice that came with the Python
# packages. flite and hibari print themselves; flite is installed in the same way.
set -euo pipefail

say() { printf '%s synthesiser: %s\n' "$(date '+%F %T')" "$*" >&2; }

# Install flite; print why not, and return 1, where that cannot be.
install_flite() {
  local as_root=() log status=0
  command -v apt-get >/dev/null || { echo "there is no apt-get here"; return 1; }
  if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
    sudo -n apt-get --version >/dev/null 2>&1 || { echo "apt-get needs root"; return 1; }
  fi
  say "installing flite (apt-get)"
  log=$(mktemp)
  apt_get() {
    ${as_root[@]+"${as_root[@]}"} apt-get -q -y -o DPkg::Lock::Timeout=60 \
      -o Acquire::Retries=1 -o Acquire::http::Timeout=20 "$@" </dev/null >>"$log" 2>&1
  }
  # the package lists of a new machine are empty or old
  apt_get install flite || { apt_get update && apt_get install flite; } || status=1
  if [ "$status" -ne 0 ]; then echo "apt-get: $(tail -n 1 "$log")"; fi
  rm -f "$log"
  return "$status"
}

wanted=${1:-}
case $wanted in
  auto | flite) ;;
  hibari) say "hibari: one neural voice"; echo hibari; exit 0 ;;
  *) say "$wanted; expected auto, flite or hibari"; exit 2 ;;
esac
if command -v flite >/dev/null || reason=$(install_flite) && command -v flite >/dev/null; then
  say "flite: four voices"
  echo flite
elif [ "$wanted" = auto ]; then
  say "hibari, one neural voice, since there is no flite and ${reason:-it is not in PATH}"
  echo hibari
else
  say "no flite, and ${reason:-it is not in PATH}; expected: apt-get install -y flite"
  exit 1
fi
