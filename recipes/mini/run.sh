#!/usr/bin/env bash
# recipes/mini: prune a Transformer LM and judge it by rescoring a real decoder's n-best lists.
#
# CPU only. Text: five public-domain Bible translations (PyPI). Audio: synthetic speech of sentences
# from held-out books. First pass: pocketsphinx with its own acoustic model and LM.
# Needs: Python 3.10 to 3.13 with venv, 3 GB of disk (5 GB if pip fetches a CUDA build of torch).
set -euo pipefail

# how far, on how many cores, where
stage=0
stop_stage=11
nj=$(nproc)
quick=false
exp=

# what is run; --quick sets smaller values below
dev_utts=240
test_utts=620
train_sentences=
seed=0
synthesiser=auto
vocab_size=2000
train_conf=recipes/mini/conf/train.json
ngram_order=3
nbest=100
sparsities=0.3,0.5,0.7
# method:criterion:schedule, or a plan file such as recipes/mini/conf/plan-combined.json
plans="low-rank:kfac:cubic low-rank:magnitude:cubic structured:kfac:cubic
  unstructured:magnitude:cubic width:kfac:cubic"
# then one of these members, where there is one of that name, down to smaller sizes by structured
# pruning, taught by the dense LM (--narrow none: no)
narrow=width-kfac-cubic/sparsity-0.50
small_sparsities=0.7,0.8,0.9
fine_tune_tokens=300000
statistics_tokens=10000
bench_utts=40
bench_repeats=3

# before the options are read, so that an option still goes over --quick
if [[ " $* " == *" --quick "* && " $* " != *" --quick false "* ]]; then
  dev_utts=16 test_utts=24 train_sentences=20000 vocab_size=500
  train_conf=recipes/mini/conf/train-quick.json
  nbest=20 sparsities=0.5 fine_tune_tokens=20000 bench_repeats=1 bench_utts=10
  plans="low-rank:magnitude:one-shot recipes/mini/conf/plan-combined.json width:kfac:cubic"
  small_sparsities=0.7
fi

help_message="usage: recipes/mini/run.sh [--quick] [--stage N] [--stop-stage N] [--nj N] [--exp DIR]

  0 environment   1 text        2 tokenizer   3 audio     4 first pass
  5 n-gram LM     6 LM          7 prune       8 LM scores and speed
  9 tune on dev, rescore test   10 dense + n-gram   11 report

  --quick          the whole pipeline on a little data, to see that it runs
  --exp DIR        outputs (default: exp/mini, or exp/mini-quick)
  --synthesiser S  what reads the sentences: flite; hibari, a neural voice from PyPI; or auto
                   (default), flite if it is there or apt-get installs it without a password
Any knob at the top of this file is an option too, e.g. --dev-utts 50 --sparsities 0.5.
A finished stage is skipped unless its command, knobs or scripts have changed."

. "$(dirname "${BASH_SOURCE[0]}")/../shared/stages.sh"
parse_options "stage stop_stage nj quick exp dev_utts test_utts train_sentences seed synthesiser
  vocab_size train_conf ngram_order nbest sparsities plans narrow small_sparsities fine_tune_tokens
  statistics_tokens bench_utts bench_repeats" "$@"
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
    --vocab-size "$vocab_size" --out "$data"
}

stage_audio() { # synthetic speech, 16 kHz
  for set in dev test; do
    python local/mini/synthesise.py --utterances "$text/$set/utterances.jsonl" \
      --synthesiser "$synthesiser" --out "$audio/$set" --nj "$nj"
  done
  : local/mini/flite_voice.py local/mini/hibari_voice.py # one of them reads
}

stage_first_pass() {
  fresh "$first/dev" "$first/test"
  for set in dev test; do
    asrprune first-pass --decoder pocketsphinx --cuts "$audio/$set/cuts.jsonl.gz" \
      --nbest "$nbest" --nj "$nj" --out "$first/$set"
    asrprune wer --ref "$text/$set/text" --hyp "$first/$set/hyp"
    asrprune oracle --nbest "$first/$set/nbest.jsonl.gz" --ref "$text/$set/text"
  done
}

stage_ngram() {
  python local/mini/train_ngram.py --text "$text/lm_train.txt" --order "$ngram_order" \
    --out "$exp/lm/ngram.arpa"
}

stage_lm() {
  fresh "$exp/lm/dense" "$exp/lm/dense.training"
  asrprune train --data "$data" --config "$train_conf" --out "$exp/lm/dense"
}

stage_prune() { # one family of sizes a plan, and one of smaller sizes
  local families=("$exp/lm/${narrow%%/*}+structured")
  for plan in $plans; do families+=("$exp/lm/$(name_of "$plan")"); done
  fresh "${families[@]}"
  for plan in $plans; do
    if [ -f "$plan" ]; then
      what=(--plan "$plan")
    else
      IFS=: read -r method criterion schedule <<<"$plan"
      what=(--method "$method" --criterion "$criterion" --schedule "$schedule")
    fi
    asrprune prune --lm "$exp/lm/dense" --data "$data" "${what[@]}" --sparsity "$sparsities" \
      --fine-tune-tokens "$fine_tune_tokens" --statistics-tokens "$statistics_tokens" \
      --out "$exp/lm/$(name_of "$plan")"
  done
  if [ ! -d "$exp/lm/$narrow" ]; then
    log "$exp/lm/$narrow is not there: no smaller sizes are made from it"
  else
    asrprune prune --lm "$exp/lm/$narrow" --teacher "$exp/lm/dense" --data "$data" \
      --method structured --sparsity "$small_sparsities" \
      --fine-tune-tokens "$fine_tune_tokens" --statistics-tokens "$statistics_tokens" \
      --out "$exp/lm/${narrow%%/*}+structured"
  fi
}

name_of() { # of a plan: its three axes, or its file's name
  local name=${1//:/-}
  basename "$name" .json
}

# "NAME PATH" of every LM: the dense one, the n-gram, each member of each family
list_lms() {
  echo "dense $exp/lm/dense"
  echo "ngram $exp/lm/ngram.arpa"
  {
    for plan in $plans; do name_of "$plan"; done
    if [ -d "$exp/lm/$narrow" ]; then echo "${narrow%%/*}+structured"; fi
  } | while read -r family; do
    for folder in "$exp/lm/$family"/sparsity-*; do
      echo "$family-${folder##*-} $folder"
    done
  done
}

stage_score() { # the slow part: one LM score a hypothesis, and the speed of it
  list_lms | while read -r name lm; do
    for set in dev test; do
      asrprune lmscore --lm "$lm" --nbest "$first/$set/nbest.jsonl.gz" \
        --out "$runs/$name/$set.scores.gz"
    done
    asrprune perplexity --lm "$lm" --text "$text/test/sentences.txt" \
      --json "$runs/$name/perplexity.json"
    threads=(--threads "$nj")
    if [ "$name" = ngram ]; then threads=(); fi # KenLM has one
    asrprune bench --lm "$lm" --nbest "$first/test/nbest.jsonl.gz" \
      --limit "$bench_utts" --repeats "$bench_repeats" ${threads[@]+"${threads[@]}"} \
      --json "$runs/$name/bench.json"
  done
}

stage_rescore() { # weights from dev, used on test; hyp-fixed: the same LM at the dense LM's weights
  list_lms | while read -r name lm; do
    run=$runs/$name
    asrprune tune --nbest "$first/dev/nbest.jsonl.gz" --scores "$run/dev.scores.gz" \
      --ref "$text/dev/text" --first-pass "$first/dev/first_pass.json" --out "$run/weights.json"
    asrprune rescore --nbest "$first/test/nbest.jsonl.gz" --scores "$run/test.scores.gz" \
      --weights "$run/weights.json" --json "$run/rescore.json" --out "$run/hyp"
    if [ "$name" != dense ]; then
      asrprune rescore --nbest "$first/test/nbest.jsonl.gz" --scores "$run/test.scores.gz" \
        --weights "$runs/dense/weights.json" --out "$run/hyp-fixed"
    fi
    asrprune wer --ref "$text/test/text" --hyp "$run/hyp" --json "$run/wer.json"
  done
}

stage_combine() { # log-linear combination of the dense LM and the n-gram, tuned together
  run=$runs/dense+ngram
  asrprune tune --nbest "$first/dev/nbest.jsonl.gz" --ref "$text/dev/text" \
    --scores "$runs"/{dense,ngram}/dev.scores.gz \
    --first-pass "$first/dev/first_pass.json" --out "$run/weights.json"
  asrprune rescore --nbest "$first/test/nbest.jsonl.gz" \
    --scores "$runs"/{dense,ngram}/test.scores.gz \
    --weights "$run/weights.json" --json "$run/rescore.json" --out "$run/hyp"
  for lm in dense ngram; do cp "$runs/$lm/bench.json" "$run/bench-$lm.json"; done
}

stage_report() {
  mkdir -p "$runs/first-pass" "$runs/oracle"
  cp "$first/test/hyp" "$runs/first-pass/hyp"
  asrprune oracle --nbest "$first/test/nbest.jsonl.gz" --ref "$text/test/text" \
    --json "$runs/oracle/oracle.json"
  asrprune report --runs "$runs"/{first-pass,oracle,ngram,dense,dense+ngram} \
    $(list_lms | tail -n +3 | sed "s#^\([^ ]*\) .*#$runs/\1#") \
    --ref "$text/test/text" --baseline dense --first-pass "$first/test/first_pass.json" \
    --title "recipes/mini (synthetic speech)" --out "$exp/report"
}

{ # read whole before it runs: this file may be edited meanwhile
  run_stage 0 environment stage_environment
  run_stage 1 text stage_text
  run_stage 2 tokenizer stage_tokenizer
  run_stage 3 audio stage_audio
  run_stage 4 "first pass" stage_first_pass
  run_stage 5 "n-gram LM" stage_ngram
  run_stage 6 LM stage_lm
  run_stage 7 prune stage_prune
  run_stage 8 "LM scores" stage_score
  run_stage 9 rescore stage_rescore
  run_stage 10 combine stage_combine
  run_stage 11 report stage_report
  log "done: $exp"
  exit
}
