#!/usr/bin/env bash
# recipes/study: which criterion, method and schedule, at which size, for one LM of yours or ours.
#
# CPU only by default. Prunes one dense LM by every run of a grid, measures each size on held-out
# text, on n-best lists and in speed, and says which of the study's claims the numbers bear out.
# Needs: Python 3.10 to 3.13 with venv, 4 GB of disk.
set -euo pipefail

# how far, on how many cores, where
stage=0
stop_stage=7
nj=$(nproc)
exp=exp/study

# what is yours: text to train and prune on, held-out text, lists and first passes with lattices,
# both with references
text=
heldout=
lists=
lattices=

# the dense LM: trained here by this configuration, or a checkpoint with its own tokeniser
lm_name=prose
lm=
train_conf=recipes/study/conf/train-prose.json
vocab_size=4000
# to compare with: an n-gram LM of the same text (order 0: none), whole and pruned to these fractions
# of the dense LM's bytes, and small LMs trained from scratch by these configurations (default: two
# for the LM of $train_conf, none for another)
ngram_order=3
ngram_sizes="1 0.5 0.25"
small_confs=default

# what is run
grid=recipes/study/conf/grid.json
valid_sentences=500
heldout_sentences=2000
engine=bf16
lattice_engine=torch
results=

help_message="usage: recipes/study/run.sh --text FILE --heldout FILE [--lists \"NAME=FILE[,DIR] ...\"]
                             [--lattices \"NAME=FOLDER,TEXT ...\"] [--lm-name NAME] [--lm DIR]
                             [--grid FILE] [--stage N] [--stop-stage N] [--nj N] [--exp DIR]

  0 environment   1 tokens   2 dense LM   3 lists, lattices   4 dense LM and n-grams measured
  5 grid          6 small LMs trained and measured            7 results

  --text FILE      a sentence a line (.gz, .xz): the dense LM is trained and pruned on it
  --heldout FILE   other sentences: the first $valid_sentences for validation, the next
                   $heldout_sentences for the perplexities of the study
  --lists LIST     NAME=FILE of n-best lists (jsonl) with references in them, or NAME=FILE,DIR with
                   those of a Kaldi data folder (its file text)
  --lattices LIST  NAME=FOLDER,TEXT of first passes (asrprune first-pass) with references (Kaldi text)
  --lm-name NAME   what the results call the LM (default: $lm_name)
  --lm DIR         a checkpoint to prune, in the place of one trained by --train-conf
  --grid FILE      the runs (default: $grid; local/study/grid.py says its form)
  --small-confs LIST  configurations of small LMs to train and measure beside (default: near
                   half and a quarter of the default dense LM's bytes; none for another dense LM)
  --results FILE   results file that gets this LM's entry (default: EXP/results.json); the page of
                   verdicts, results.md, and results-table.json for asrprune recommend go beside it
  --lattice-engine E  what scores the paths of lattices, torch or torch-bf16 (default: $lattice_engine)
Any knob at the top of this file is an option too, e.g. --engine int8.
Stage 5 keeps what each run measured and drops its weights: stopped at any time it goes on at the
next run, and --grid with more runs adds to what is there."

. "$(dirname "${BASH_SOURCE[0]}")/../shared/stages.sh"
parse_options "stage stop_stage nj exp text heldout lists lattices lm_name lm train_conf vocab_size ngram_order
  ngram_sizes small_confs grid valid_sentences heldout_sentences engine lattice_engine results" "$@"
for knob in text heldout; do
  if [ ! -f "${!knob}" ]; then
    die "--$knob ${!knob:-is not given}; expected a file (--help tells the options)"
  fi
done
if [ "$small_confs" = default ]; then
  small_confs=
  if [ -z "$lm" ] && [ "$train_conf" = recipes/study/conf/train-prose.json ]; then
    small_confs="recipes/study/conf/train-half.json recipes/study/conf/train-quarter.json"
  fi
fi
ensure_venv .venv mini,dev
lock_folder "$exp"
results=${results:-$exp/results.json}
export OMP_NUM_THREADS=$nj PYTHONUNBUFFERED=1 PYTHONHASHSEED=0
export OMP_WAIT_POLICY=PASSIVE
# the C library keeps what training frees (tests/bench/RESULTS.md, training_step.py)
export MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=8589934592

stage_environment() {
  asrprune --version
  python --version
}

stage_tokens() { # validation and held-out sentences; the tokeniser is that of --lm, or trained
  local tokeniser=(--vocab-size "$vocab_size")
  if [ -n "$lm" ]; then tokeniser=(--tokenizer "$(ls "$lm"/tokenizer.*)"); fi
  python local/study/split_heldout.py --text "$heldout" --out "$exp" \
    --valid-sentences "$valid_sentences" --heldout-sentences "$heldout_sentences"
  asrprune tokenize --text "$text" --valid "$exp/valid.txt" "${tokeniser[@]}" --force \
    --out "$exp/data"
}

stage_lm() {
  fresh "$exp/dense" "$exp/dense.training"
  if [ -n "$lm" ]; then
    rm -rf "$exp/dense"
    cp -r "$lm" "$exp/dense"
  else
    asrprune train --data "$exp/data" --config "$train_conf" --out "$exp/dense"
  fi
}

stage_lists() {
  local item place references
  rm -rf "$exp/lists" "$exp/lattices"
  mkdir -p "$exp/lists"
  for item in $lists; do
    place=${item#*=} references=()
    if [[ $place == *,* ]]; then
      references=(--references "${place##*,}" --references-format kaldi)
    fi
    asrprune convert --from jsonl --to jsonl "${place%,*}" ${references[@]+"${references[@]}"} \
      --out "$exp/lists/${item%%=*}.jsonl.gz"
  done
  for item in $lattices; do
    place=${item#*=}
    python local/study/lattice_sets.py --first-pass "${place%,*}" --ref "${place##*,}" \
      --out "$exp/lattices/${item%%=*}"
  done
}

engines() { # what scores lists, and what lattices
  echo "--engine $engine --lattice-engine $lattice_engine"
}

logged() { # NAME COMMAND ...: its output goes to EXP/log/NAME.log; its last lines are shown on failure
  local file=$exp/log/$1.log
  mkdir -p "$exp/log"
  if ! "${@:2}" >"$file" 2>&1; then
    tail -n 3 "$file" >&2
    return 1
  fi
  log "$1"
}

stage_baselines() { # score weights of the lists, tuned on halves for the dense LM; its own figures
  OMP_NUM_THREADS=1 python local/study/run_study.py dense --exp "$exp" $(engines)
  if [ "$ngram_order" -gt 0 ]; then
    case $text in
      *.xz) xz -dc "$text" ;;
      *.gz) gzip -dc "$text" ;;
      *) cat "$text" ;;
    esac >"$exp/ngram.txt"
    python local/mini/train_ngram.py --text "$exp/ngram.txt" --order "$ngram_order" \
      --out "$exp/kn$ngram_order.arpa"
    rm "$exp/ngram.txt"
    local pruned
    rm -rf "$exp/ngrams"
    mkdir -p "$exp/ngrams"
    if [ -n "$ngram_sizes" ]; then
      python local/mini/prune_ngram.py --lm "$exp/kn$ngram_order.arpa" \
        --beside "$exp/dense/model.safetensors" --fractions $ngram_sizes --out "$exp/ngrams"
    fi
    mapfile -t pruned < <(find "$exp/ngrams" -name '*.arpa' | sort)
    python local/study/run_study.py ngram "$exp/kn$ngram_order.arpa" ${pruned[@]+"${pruned[@]}"} --exp "$exp"
  fi
}

list_runs() {
  python local/study/run_study.py list --grid "$grid"
}

run_one() { # one that cannot be made does not stop the others
  logged "$1" \
    python local/study/run_study.py run "$1" --grid "$grid" --exp "$exp" $(engines) ||
    echo "$1" >>"$exp/failed-runs"
}

stage_grid() {
  rm -f "$exp/failed-runs"
  each run_one list_runs
  if [ -s "$exp/failed-runs" ]; then
    log "failed, the others are done (EXP/log tells why): $(paste -sd ' ' "$exp/failed-runs")"
    return 1
  fi
}

list_small() {
  if [ -n "$small_confs" ]; then printf '%s\n' $small_confs; fi
}

train_small() {
  logged "scratch-$(basename "$1" .json)" \
    python local/study/run_study.py scratch "$1" --exp "$exp" $(engines)
}

stage_small() {
  each train_small list_small
}

stage_results() { # the page and table of the repository where its own results are written
  local made=(--results "$results" --page "${results%.json}.md" --table "${results%.json}-table.json")
  if [ "$results" = recipes/study/results.json ]; then made=(); fi
  local dense=$train_conf
  if [ -n "$lm" ]; then dense="a checkpoint (--lm)"; fi
  python local/study/run_study.py collect --name "$lm_name" --exp "$exp" --out "$results" --grid "$grid" \
    --fact "grid=$grid" "dense LM=$dense"
  python local/study/write_results.py ${made[@]+"${made[@]}"}
}

{ # read whole before it runs: this file may be edited meanwhile
  run_stage 0 environment stage_environment
  run_stage 1 tokens stage_tokens
  run_stage 2 LM stage_lm
  run_stage 3 lists stage_lists
  run_stage 4 baselines stage_baselines
  run_stage 5 grid stage_grid
  run_stage 6 small stage_small
  run_stage 7 results stage_results
  finish 7 "$results"
  exit
}
