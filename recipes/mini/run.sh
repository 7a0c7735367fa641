#!/usr/bin/env bash
# recipes/mini: prune a Transformer LM and judge it by rescoring a real decoder's lattices.
#
# CPU only. Text: five public-domain Bible translations (PyPI). Audio: synthetic speech of sentences
# from held-out books. First pass: pocketsphinx with its own acoustic model and LM.
# Needs: Python 3.10 to 3.13 with venv, 3 GB of disk (5 GB if pip fetches a CUDA build of torch).
set -euo pipefail

# how far, on how many cores, where
stage=0
stop_stage=10
nj=$(nproc)
quick=false
full=false
exp=

# what is run; --quick and --full set other values below
dev_utts=220
test_utts=540
train_sentences=
seed=0
synthesiser=auto
vocab_size=2000
train_conf=recipes/mini/conf/train.json
train_seed=1
ngram_order=3
nbest=100
# the decoder's: fewer HMMs and word ends cost no WER here, a narrower lattice a little oracle WER
max_hmms=3000
max_words=20
lattice_beam=70
# method:criterion:schedule, or a plan file; then :sparsities, else those of $sparsities; then :tokens
# of fine-tuning (one-shot: of each size), else $fine_tune_tokens. Half of the LM's file is 0.625 of
# the blocks, 0.5 of the width, 0.565 of both; 0.823 of both is a quarter, 0.95 a tenth. The longest
# stands first
sparsities=0.3,0.625
plans="recipes/mini/conf/width+structured-kfac-one-shot.json:0.565,0.823,0.95:1500000
  low-rank:kfac:cubic structured:kfac:cubic width:kfac:cubic:0.5"
fine_tune_tokens=300000
statistics_tokens=10000
engine=onnx
history=3
# 40 loses the dense LM 1.6 points against 60 on dev, the trigram 0.6; 80 brings little more
beam=60
bench_engine=fastest
bench_utts=20
bench_repeats=3
# the table's first rows, beside first pass, oracle, n-gram, dense and dense+ngram
front="low-rank-kfac-cubic-0.625 structured-kfac-cubic-0.625 width-kfac-cubic-0.50
  width+structured-kfac-one-shot-0.565 width+structured-kfac-one-shot-0.823
  width+structured-kfac-one-shot-0.95"

# before the options are read, so that an option still goes over --quick and --full
if [[ " $* " == *" --quick "* && " $* " != *" --quick false "* ]]; then
  dev_utts=16 test_utts=24 train_sentences=20000 vocab_size=500
  train_conf=recipes/mini/conf/train-quick.json
  nbest=20 sparsities=0.5 fine_tune_tokens=20000 bench_repeats=1 bench_utts=10
  plans="recipes/mini/conf/width+structured-kfac-one-shot.json:0.5,0.8
    low-rank:magnitude:one-shot recipes/mini/conf/plan-combined.json"
  front="low-rank-magnitude-one-shot-0.50 plan-combined-0.50 width+structured-kfac-one-shot-0.80"
fi
if [[ " $* " == *" --full "* && " $* " != *" --full false "* ]]; then # criteria and schedules too
  plans+=" low-rank:magnitude:cubic low-rank:kfac:one-shot structured:magnitude:cubic
    structured:kfac:one-shot unstructured:magnitude:cubic recipes/mini/conf/plan-combined.json"
fi

help_message="usage: recipes/mini/run.sh [--quick | --full] [--stage N] [--stop-stage N] [--nj N]
                           [--exp DIR]

  0 environment   1 text        2 tokenizer   3 audio     4 first pass
  5 n-gram LM     6 LM          7 prune       8 LM scores and speed
  9 tune on dev, rescore test   10 report

  --quick          the whole pipeline on a little data, to see that it runs
  --full           more plans: magnitude against data, one-shot against incremental
  --exp DIR        outputs (default: exp/mini, or exp/mini-quick)
  --synthesiser S  what reads the sentences: flite; hibari, a neural voice from PyPI; or auto
                   (default), flite if it is there or apt-get installs it without a password
Any knob at the top of this file is an option too, e.g. --dev-utts 50 --train-seed 2.
A finished stage is skipped unless its command, knobs or scripts have changed."

. "$(dirname "${BASH_SOURCE[0]}")/../shared/stages.sh"
parse_options "stage stop_stage nj quick full exp dev_utts test_utts train_sentences seed synthesiser
  vocab_size train_conf train_seed ngram_order nbest max_hmms max_words lattice_beam sparsities plans
  fine_tune_tokens statistics_tokens engine history beam
  bench_engine bench_utts bench_repeats front" "$@"
if [ -z "$exp" ]; then
  if $quick; then exp=exp/mini-quick; else exp=exp/mini; fi
fi
ensure_venv .venv mini,dev
lock_folder "$exp"
if [ "$stage" -le 3 ]; then # auto becomes flite or hibari: what the folder began with, or the best
  if [ "$synthesiser" = auto ] && [ -s "$exp/synthesiser" ]; then
    synthesiser=$(<"$exp/synthesiser")
  fi
  synthesiser=$(local/mini/find_synthesiser.sh "$synthesiser")
  echo "$synthesiser" >"$exp/synthesiser"
fi
text=$exp/text data=$exp/data audio=$exp/audio first=$exp/first-pass runs=$exp/runs
lists=$exp/lists # what is done with n-best lists, beside the lattices of $runs
export OMP_NUM_THREADS=$nj PYTHONUNBUFFERED=1 PYTHONHASHSEED=0
export OMP_WAIT_POLICY=PASSIVE # threads that spin cost a shared machine most of its speed

stage_environment() {
  asrprune --version
  python --version
}

stage_text() { # five translations, held-out books; fails if the references leak into training
  python local/mini/prepare_text.py --out "$text" --seed "$seed" \
    --dev-utts "$dev_utts" --test-utts "$test_utts" \
    ${train_sentences:+--train-sentences "$train_sentences"}
  python local/mini/leakage.py --train "$text/lm_train.txt" --ref "$text"/{dev,test}/text
  : local/mini/bible_text.py # read by both
}

stage_tokenizer() {
  asrprune tokenize --text "$text/lm_train.txt" --valid "$text/lm_valid.txt" \
    --vocab-size "$vocab_size" --force --out "$data"
}

stage_audio() { # synthetic speech, 16 kHz
  for set in dev test; do
    python local/mini/synthesise.py --utterances "$text/$set/utterances.jsonl" \
      --synthesiser "$synthesiser" --out "$audio/$set" --nj "$nj"
  done
  : local/mini/flite_voice.py local/mini/hibari_voice.py # one of them reads
}

stage_first_pass() {
  fresh "$first"/{dev,test}{,.decoding}
  for set in dev test; do
    asrprune first-pass --decoder pocketsphinx --cuts "$audio/$set/cuts.jsonl.gz" \
      --nbest "$nbest" --max-hmms "$max_hmms" --max-words "$max_words" \
      --lattice-beam "$lattice_beam" --nj "$nj" --out "$first/$set"
    asrprune wer --ref "$text/$set/text" --hyp "$first/$set/hyp"
  done
}

stage_ngram() {
  python local/mini/train_ngram.py --text "$text/lm_train.txt" --order "$ngram_order" \
    --out "$exp/lm/ngram.arpa"
}

stage_lm() {
  fresh "$exp/lm/dense" "$exp/lm/dense.training"
  # two processes of a thread each on any machine: the same batches, and faster than two threads
  OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m asrprune train --data "$data" \
    --config "$train_conf" --set "seed=$train_seed" --out "$exp/lm/dense"
}

list_plans() { # "NAME PLAN" of every family
  local plan
  for plan in $plans; do echo "$(name_of "$plan") $plan"; done
}

prune_one() { # a family of sizes from the dense LM
  local what sizes tokens method criterion schedule
  if [ -f "${2%%:*}" ]; then
    IFS=: read -r method sizes tokens <<<"$2"
    what=(--plan "$method")
  else
    IFS=: read -r method criterion schedule sizes tokens <<<"$2"
    what=(--method "$method" --criterion "$criterion" --schedule "$schedule")
  fi
  asrprune prune --lm "$exp/lm/dense" --data "$data" "${what[@]}" \
    --sparsity "${sizes:-$sparsities}" --fine-tune-tokens "${tokens:-$fine_tune_tokens}" \
    --statistics-tokens "$statistics_tokens" --seed "$train_seed" --out "$exp/lm/$1"
}

stage_prune() {
  local families=() plan
  for plan in $plans; do families+=("$exp/lm/$(name_of "$plan")"{,.pruning}); done
  fresh "${families[@]}"
  each prune_one list_plans
}

name_of() { # of a plan: its three axes, or its file's name
  local method criterion schedule rest
  if [ -f "${1%%:*}" ]; then
    basename "${1%%:*}" .json
  else
    IFS=: read -r method criterion schedule rest <<<"$1"
    echo "$method-$criterion-$schedule"
  fi
}

# "NAME PATH" of every LM: the dense one, the n-gram, each member of each family
list_lms() {
  local item family folder
  echo "dense $exp/lm/dense"
  echo "ngram $exp/lm/ngram.arpa"
  for family in $(for item in $plans; do name_of "$item"; done); do
    for folder in "$exp/lm/$family"/sparsity-*; do
      if [ -d "$folder" ]; then echo "$family-${folder##*-} $folder"; fi
    done
  done
}

list_systems() { # the same, and the dense LM with the n-gram, tuned together
  list_lms
  echo "dense+ngram $exp/lm/dense,$exp/lm/ngram.arpa"
}

score_one() { # an LM score for every hypothesis of the lists
  local how=(--engine "$engine")
  if [ "$1" = ngram ]; then how=(); fi
  for set in dev test; do
    asrprune lmscore --lm "$2" --nbest "$first/$set/nbest.jsonl.gz" ${how[@]+"${how[@]}"} \
      --out "$lists/$1/$set.scores.gz"
  done
  asrprune perplexity --lm "$2" --text "$text/test/sentences.txt" --json "$runs/$1/perplexity.json"
}

stage_score() { # then the speed of it: all LMs in turns, against padded batches of the dense one
  each score_one list_lms
  asrprune bench --system $(list_lms | tr ' ' '=') --nbest "$first/test/nbest.jsonl.gz" \
    --limit "$bench_utts" --repeats "$bench_repeats" --engine "$bench_engine" --threads 1 \
    --baseline padded --no-check --out "$runs"
  for lm in dense ngram; do # what both together cost
    mkdir -p "$runs/dense+ngram"
    cp "$runs/$lm/bench.json" "$runs/dense+ngram/bench-$lm.json"
  done
}

same_weights() {
  python -c '
import json, sys
a, b = (json.load(open(path))["weights"] for path in sys.argv[1:])
sys.exit(a != b)' "$@"
}

rescore_one() { # hyp from lattices, hyp-fixed at the dense LM's weights, hyp-lists from lists
  local run=$runs/$1 scores=()
  local lattices=(asrprune rescore --lattice "$first/test/lattices" --format slf --mode beam
    --history "$history" --beam "$beam" --parallel 32 --lm ${2//,/ })
  "${lattices[@]}" --weights "$run/weights.json" --json "$run/rescore.json" --out "$run/hyp"
  if [ "$1" = dense+ngram ]; then
    scores=("$lists"/{dense,ngram}/test.scores.gz)
  else
    scores=("$lists/$1/test.scores.gz")
    if [ "$1" != dense ]; then
      if same_weights "$run/weights.json" "$runs/dense/weights.json"; then
        cp "$run/hyp" "$run/hyp-fixed"
      else
        "${lattices[@]}" --weights "$runs/dense/weights.json" --out "$run/hyp-fixed"
      fi
    fi
  fi
  asrprune rescore --nbest "$first/test/nbest.jsonl.gz" --scores "${scores[@]}" \
    --weights "$lists/$1/weights.json" --out "$run/hyp-lists"
}

stage_rescore() { # weights from dev, drawn to the dense LM's, used on test
  local tune=(asrprune tune --ref "$text/dev/text" --first-pass "$first/dev/first_pass.json"
    --towards dense --nj "$nj")
  OMP_NUM_THREADS=1 "${tune[@]}" --lattice "$first/dev/lattices" --format slf \
    --history "$history" --beam "$beam" --parallel 32 \
    --system $(list_systems | tr ' ' '=') --out "$runs"
  OMP_NUM_THREADS=1 "${tune[@]}" --nbest "$first/dev/nbest.jsonl.gz" --out "$lists" \
    --system $(list_lms | sed "s#^\([^ ]*\) .*#\1=$lists/\1/dev.scores.gz#") \
    "dense+ngram=$lists/dense/dev.scores.gz,$lists/ngram/dev.scores.gz"
  each rescore_one list_systems
}

stage_report() {
  mkdir -p "$runs/first-pass" "$runs/oracle"
  cp "$first/test/hyp" "$runs/first-pass/hyp"
  asrprune oracle --lattice "$first/test/lattices" --format slf --ref "$text/test/text" \
    --json "$runs/oracle/oracle.json"
  asrprune oracle --nbest "$first/test/nbest.jsonl.gz" --ref "$text/test/text" \
    --json "$runs/oracle/oracle-lists.json"
  asrprune report --runs "$runs"/{first-pass,oracle,ngram,dense,dense+ngram} \
    $(list_lms | tail -n +3 | sed "s#^\([^ ]*\) .*#$runs/\1#") \
    --front first-pass oracle ngram dense dense+ngram $front --lm $(list_lms | tr ' ' '=') \
    --ref "$text/test/text" --baseline dense --first-pass "$first/test/first_pass.json" \
    --fact "run=seed $train_seed" --fact "command=recipes/mini/run.sh --train-seed $train_seed" \
    --title "recipes/mini (synthetic speech)" --out "$exp/report"
}

{ # read whole before it runs: this file may be edited meanwhile
  run_stage 0 environment stage_environment
  run_stage 1 text stage_text 1
  run_stage 2 tokenizer stage_tokenizer 1
  run_stage 3 audio stage_audio 2
  run_stage 4 "first pass" stage_first_pass 17
  run_stage 5 "n-gram LM" stage_ngram 1
  run_stage 6 LM stage_lm 31
  run_stage 7 prune stage_prune 23
  run_stage 8 "LM scores" stage_score 10
  run_stage 9 rescore stage_rescore 16
  run_stage 10 report stage_report
  finish 10 "$exp"
  exit
}
