#!/usr/bin/env bash
# From lattices of a Kaldi decoder to the table: what each LM makes of them in WER, size and speed.
set -euo pipefail

lms=
lm_scale=10
nbest=100
nj=$(nproc)
threads=1
bench_utts=20
engine=auto
out=

help_message="usage: local/score.sh --lms \"NAME=PATH ...\" [options] \\
         DATA_DEV DECODE_DEV DATA_TEST DECODE_TEST LANG

  e.g. local/score.sh --lms \"dense=exp/lm/dense small=exp/lm/small/sparsity-0.50\" data/dev_clean \\
         exp/chain/decode_dev_clean data/test_clean exp/chain/decode_test_clean data/lang

  DATA_*     Kaldi data folders: text, and utt2spk if speakers are to be drawn
  DECODE_*   folders with lat.*.gz; score weights are tuned on the first, the second is reported
  LANG       folder with words.txt, or the file
  --lms L    checkpoints and n-gram LMs; the first is the baseline
  --lm-scale S   by which paths are ranked for the lists (Kaldi's LMWT, default: $lm_scale)
  --nbest N      hypotheses of each lattice (default: $nbest)
  --out DIR      (default: DECODE_TEST/asrprune)
  also: --nj N, --threads N, --bench-utts N, --engine NAME (asrprune sweep --help)"

here=$PWD
. "$(dirname "${BASH_SOURCE[0]}")/../recipes/shared/stages.sh" # goes to the repository's folder
options=()
while [[ ${1:-} == -* ]]; do
  options+=("$1")
  shift
  if [[ ${options[-1]} != --help && ${options[-1]} != -h && $# -gt 0 ]]; then
    options+=("$1")
    shift
  fi
done
parse_options "lms lm_scale nbest nj threads bench_utts engine out" ${options[@]+"${options[@]}"}
if [ $# -ne 5 ]; then _usage "$# arguments; expected 5"; fi
if [ -z "$lms" ]; then _usage "--lms is not given; expected NAME=PATH ..."; fi
case ${ASRPRUNE_VENV:-} in "") ;; /*) ;; *) ASRPRUNE_VENV=$here/$ASRPRUNE_VENV ;; esac
ensure_venv .venv mini,dev
cd "$here"
data_dev=$1 decode_dev=$2 data_test=$3 decode_test=$4 words=$5
if [ -d "$words" ]; then words=$words/words.txt; fi
out=${out:-$decode_test/asrprune}
for file in "$words" "$data_dev/text" "$data_test/text"; do
  if [ ! -f "$file" ]; then die "$file is not there; expected a file of Kaldi's"; fi
done
export OMP_NUM_THREADS=$threads

for set in dev test; do # lists with graph and acoustic scores apart
  decode=decode_$set data=data_$set
  command=(asrprune convert --from kaldi-lat --to jsonl --words "$words" --nbest "$nbest"
    --lm-scale "$lm_scale" --references "${!data}" --references-format kaldi
    "${!decode}" --out "$out/$set.jsonl.gz")
  made=$(
    printf '%s\n' "${command[*]}"
    for file in "$words" "${!data}"/{text,utt2dur,segments} "${!decode}"/lat.*; do
      if [ -f "$file" ]; then sha256sum "$file"; fi
    done
  )
  mark=$out/.$set.done # the command and hashes of what it reads
  if [ -s "$out/$set.jsonl.gz" ] && [ -f "$mark" ] && [ "$(cat "$mark")" = "$made" ]; then
    log "$out/$set.jsonl.gz: done before"
    continue
  fi
  rm -f "$mark"
  "${command[@]}"
  printf '%s\n' "$made" >"$mark.tmp"
  mv "$mark.tmp" "$mark"
done
asrprune sweep --system $lms --dev "$out/dev.jsonl.gz" --dev-ref "$data_dev/text" \
  --test "$out/test.jsonl.gz" --test-ref "$data_test/text" --engine "$engine" \
  --threads "$threads" --nj "$nj" --bench-utts "$bench_utts" --title "$decode_test" --out "$out"
