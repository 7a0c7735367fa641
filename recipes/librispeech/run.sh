#!/usr/bin/env bash
# recipes/librispeech: a Transformer LM of the 800-million-word text, pruned along all axes and
# judged by rescoring dev and test sets. Jobs start as cmd.sh says: on this machine or a cluster.
set -euo pipefail

how_called="recipes/librispeech/run.sh $*"

# how far, in how many jobs, where
stage=0
stop_stage=11
nj=$(nproc)
exp=exp/librispeech

# data: LibriSpeech's folder and the LM text, or nothing to fetch them
corpus=
lm_text=
dev_sets="dev_clean dev_other"
test_sets="test_clean test_other"
form=asr # of references and hypotheses: asr (small letters) or librispeech (capitals)

# first pass: pocketsphinx, whisper (with its model), or lists and lattices of your decoder
first_pass=pocketsphinx
whisper_model=
lists=
lists_format=
convert_options=
nbest=100
decode_options=
lattices=auto # rescore lattices too: true, false, or where the first pass makes them

# LMs
train_conf=recipes/librispeech/conf/small-gpt2.json
train_options=
train_seed=1
vocab_size=5000
valid_every=2000 # every so many lines of the text are for validation
ngram=3-gram.pruned.3e-7
gpus=auto # processes of training and pruning on each node, by torchrun where more than one
nodes=1
torchrun_options=
plans=recipes/librispeech/conf/plans.txt
fine_tune_tokens=200000000
statistics_tokens=1000000
prune_options=
engine=auto
device=auto
lm_options= # of all that scores, as --accept-unknown
bench_engine=fastest
bench_utts=50
bench_repeats=3
history=3
beam=60

help_message="usage: recipes/librispeech/run.sh [--corpus DIR] [--lm-text FILE] [--first-pass NAME]
                                  [--stage N] [--stop-stage N] [--nj N] [--exp DIR]

  0 environment   1 corpus, sets    2 LM text        3 tokens      4 n-gram LM      5 LM
  6 prune         7 first pass      8 LM scores      9 speed       10 tune, rescore
  11 report, RESULTS.md

  --corpus DIR         LibriSpeech's folder (default: fetched to EXP/corpus)
  --lm-text FILE       librispeech-lm-norm.txt.gz (default: fetched)
  --first-pass NAME    pocketsphinx; whisper, with --whisper-model DIR; or lists, with
                       --lists PATTERN --lists-format FORMAT: lists or lattices of your decoder,
                       SET in the pattern stands for dev_clean, ... (asrprune list formats)
  --train-conf FILE    recipes/librispeech/conf/{small,large}-{gpt2,llama}.json
  --ngram NAME         3-gram.pruned.3e-7, 3-gram.pruned.1e-7 or 4-gram of openslr.org, an ARPA
                       file, or train: Kneser-Ney trigram of the text (small texts only)
  --nj N               jobs of first pass, scoring and rescoring (their number changes no result)
Any knob at the top of this file is an option too, e.g. --fine-tune-tokens 1000000.
A finished stage is skipped unless its command, knobs or scripts have changed."

. "$(dirname "${BASH_SOURCE[0]}")/../shared/stages.sh"
parse_options "stage stop_stage nj exp corpus lm_text dev_sets test_sets form first_pass
  whisper_model lists lists_format convert_options nbest decode_options lattices train_conf
  train_options train_seed vocab_size valid_every ngram gpus nodes torchrun_options plans
  fine_tune_tokens statistics_tokens prune_options engine device lm_options bench_engine bench_utts
  bench_repeats history beam" "$@"
. recipes/librispeech/path.sh
. recipes/librispeech/cmd.sh
case $first_pass in
  pocketsphinx) ;;
  whisper)
    if [ ! -d "$whisper_model" ]; then
      die "--whisper-model ${whisper_model:-is not given}; expected a folder"
    fi ;;
  lists)
    if [ -z "$lists" ] || [ -z "$lists_format" ]; then
      die "--first-pass lists needs --lists PATTERN and --lists-format FORMAT (--help tells more)"
    fi ;;
  *) die "--first-pass $first_pass; expected pocketsphinx, whisper or lists" ;;
esac
ensure_venv .venv mini,dev
lock_folder "$exp"
if [ "$gpus" = auto ]; then
  gpus=$(nvidia-smi -L 2>/dev/null | grep -c ^GPU || true)
  if [ "$gpus" -eq 0 ]; then gpus=1; fi # a process on the CPU of each node
fi
if [ "$lattices" = auto ]; then
  lattices=false
  if [ "$first_pass" = pocketsphinx ]; then lattices=true; fi
fi
launch=asrprune
if [ "$gpus" -gt 1 ] || [ "$nodes" -gt 1 ]; then
  launch="torchrun --nnodes $nodes --nproc-per-node $gpus $torchrun_options -m asrprune"
fi
data=$exp/data text=$exp/text tokens=$exp/tokens lms=$exp/lm first=$exp/first-pass runs=$exp/runs
openslr=https://www.openslr.org/resources/11

# need STAGE FILE ...: stop unless what an earlier stage makes is there
need() {
  local made_by=$1 file
  shift
  for file in "$@"; do
    [ -e "$file" ] || die "$file is not there; stage $made_by makes it (--stage $made_by)"
  done
}

# sharded CMD OUT VERB ...: asrprune VERB --out OUT in $nj jobs through CMD; those that are done are
# not run again. The jobs' own outputs stand in OUT.of$nj/ until all are there.
sharded() {
  local cmd=$1 out=$2 name=${2##*/} log=$exp/log/${2#"$exp"/} parts=() part job
  shift 2
  if [ ! -e "$out" ] && [ "$nj" -eq 1 ]; then
    $cmd "$log.log" asrprune "$@" --out "$out"
  elif [ ! -e "$out" ]; then
    part=$out.of$nj/JOB
    if [[ $name == *.* ]]; then part+=.${name#*.}; fi
    for job in $(seq "$nj"); do parts+=("${part/JOB/$job}"); done
    mkdir -p "$out.of$nj"
    $cmd "JOB=1:$nj" "$log.JOB.log" asrprune "$@" --shard "JOB/$nj" --out "$part"
    asrprune merge "${parts[@]}" --out "$out"
  fi
  rm -rf "$out".{of*,partial,decoding} # left by runs with another number of jobs, too
}

stage_environment() {
  asrprune --version
  python --version
}

stage_corpus() {
  local from=(--corpus "$corpus")
  if [ -z "$corpus" ]; then from=(--corpus "$exp/corpus/LibriSpeech" --download); fi
  python local/librispeech/prepare_sets.py "${from[@]}" --sets $dev_sets $test_sets \
    --normalise "$form" --nj "$nj" --out "$data"
}

stage_text() { # lines for validation are taken out; fails if references leak into training
  local from=$lm_text set refs=()
  if [ -z "$from" ]; then
    from=$exp/corpus/librispeech-lm-norm.txt.gz
    python local/librispeech/fetch.py --url "$openslr/librispeech-lm-norm.txt.gz" \
      --md5 c83c64c726a1aedfe65f80aa311de402 --out "$from"
  fi
  for set in $dev_sets $test_sets; do
    need 1 "$data/$set/text"
    refs+=("$data/$set/text")
  done
  python local/librispeech/split_text.py --text "$from" --valid-every "$valid_every" \
    --normalise "$form" --out "$text"
  python local/mini/leakage.py --train "$text/train.txt" --ref "${refs[@]}"
}

stage_tokens() {
  need 2 "$text"/{train,valid}.txt
  asrprune tokenize --text "$text/train.txt" --valid "$text/valid.txt" --normalise "$form" \
    --vocab-size "$vocab_size" --force --out "$tokens"
}

stage_ngram() {
  mkdir -p "$lms"
  if [ "$ngram" = train ]; then
    need 2 "$text/train.txt"
    python local/mini/train_ngram.py --text "$text/train.txt" --order 3 --out "$lms/ngram.arpa"
  elif [ -f "$ngram" ]; then
    ln -sfn "$(realpath "$ngram")" "$lms/ngram.arpa"
  else
    python local/librispeech/fetch.py --url "$openslr/$ngram.arpa.gz" \
      --out "$exp/corpus/$ngram.arpa.gz"
    gzip -cd "$exp/corpus/$ngram.arpa.gz" >"$lms/ngram.arpa.tmp"
    mv "$lms/ngram.arpa.tmp" "$lms/ngram.arpa"
  fi
}

stage_lm() {
  need 3 "$tokens/data.json"
  fresh "$lms/dense" "$lms/dense.training"
  $train_cmd "$exp/log/train.log" $launch train --data "$tokens" \
    --config "$train_conf" --set "seed=$train_seed" $train_options --out "$lms/dense"
}

list_plans() { # "NAME PLAN" of every family
  local plan method criterion schedule sizes
  while read -r plan; do
    if [ -f "$plan" ]; then
      echo "$(basename "$plan" .json) $plan"
    else
      IFS=: read -r method criterion schedule sizes <<<"$plan"
      echo "$method-$criterion-$schedule $plan"
    fi
  done < <(grep -vE '^[[:space:]]*(#|$)' "$plans")
}

stage_prune() { # a family after the other, each in its own job; those that are done are passed over
  local name plan what method criterion schedule sizes
  need 5 "$lms/dense/config.json"
  fresh $(list_plans | sed "s#^\([^ ]*\) .*#$lms/\1 $lms/\1.pruning#")
  while read -r name plan; do
    what=(--plan "$plan")
    if [ ! -f "$plan" ]; then
      IFS=: read -r method criterion schedule sizes <<<"$plan"
      what=(--method "$method" --criterion "$criterion" --schedule "$schedule" --sparsity "$sizes")
    fi
    $train_cmd "$exp/log/prune.$name.log" $launch prune --lm "$lms/dense" \
      --data "$tokens" "${what[@]}" --seed "$train_seed" --fine-tune-tokens "$fine_tune_tokens" \
      --statistics-tokens "$statistics_tokens" $prune_options --out "$lms/$name"
  done < <(list_plans)
}

stage_first_pass() { # FIRST/SET/{nbest.jsonl.gz,hyp}, with lattices where the decoder makes them
  local set how=(--nbest "$nbest")
  for set in $dev_sets $test_sets; do need 1 "$data/$set/cuts.jsonl.gz"; done
  fresh "$first"
  for set in $dev_sets $test_sets; do
    if [ "$first_pass" = lists ]; then
      sharded "$decode_cmd" "$first/$set/nbest.jsonl.gz" convert --from "$lists_format" \
        --to jsonl "${lists//SET/$set}" $convert_options
      if $lattices; then
        sharded "$decode_cmd" "$first/$set/lattices" convert --from "$lists_format" --to slf \
          "${lists//SET/$set}" $convert_options
      fi
      python local/librispeech/first_hyps.py --nbest "$first/$set/nbest.jsonl.gz" \
        --out "$first/$set/hyp"
    else
      if [ "$first_pass" = whisper ]; then
        how=(--nbest "$nbest" --model "$whisper_model" --normalise "$form")
      fi
      sharded "$decode_cmd" "$first/$set" first-pass --decoder "$first_pass" \
        --cuts "$data/$set/cuts.jsonl.gz" "${how[@]}" $decode_options
    fi
    asrprune wer --ref "$data/$set/text" --hyp "$first/$set/hyp" --utt2spk "$data/$set/utt2spk"
  done
  python local/librispeech/join_sets.py --first-pass "$first" --data "$data" --sets $dev_sets
  python local/librispeech/join_sets.py --first-pass "$first" --data "$data" \
    --sets $dev_sets $test_sets --name all
}

list_lms() { # "NAME PATH" of every LM: the dense one, the n-gram, each member of each family
  local name plan folder
  echo "dense $lms/dense"
  echo "ngram $lms/ngram.arpa"
  while read -r name plan; do
    for folder in "$lms/$name"/sparsity-*; do
      if [ -d "$folder" ]; then echo "$name-${folder##*-} $folder"; fi
    done
  done < <(list_plans)
}

list_systems() { # the same, and the dense LM with the n-gram, tuned together
  list_lms
  echo "dense+ngram $lms/dense,$lms/ngram.arpa"
}

stage_score() { # an LM score for every hypothesis of all sets, perplexity of the references
  local set name path how
  need 7 "$first/all/nbest.jsonl.gz"
  need 5 "$lms/dense/config.json"
  need 4 "$lms/ngram.arpa"
  fresh "$runs/scores"
  for set in $test_sets; do
    cut -d ' ' -f 2- "$data/$set/text" >"$data/$set/sentences.txt"
  done
  while read -r name path; do
    how=(--engine "$engine" --device "$device")
    if [ "$name" = ngram ]; then how=(); fi
    sharded "$score_cmd" "$runs/scores/$name.gz" lmscore --lm "$path" \
      --nbest "$first/all/nbest.jsonl.gz" ${how[@]+"${how[@]}"} $lm_options
    for set in $test_sets; do
      asrprune perplexity --lm "$path" --text "$data/$set/sentences.txt" $lm_options \
        --json "$runs/$set/$name/perplexity.json"
    done
  done < <(list_lms)
}

stage_speed() { # all LMs in turns, against padded batches of the dense one
  local set
  for set in $test_sets; do
    asrprune bench --system $(list_lms | tr ' ' '=') --nbest "$first/$set/nbest.jsonl.gz" \
      --limit "$bench_utts" --repeats "$bench_repeats" --engine "$bench_engine" --threads 1 \
      --baseline padded --no-check $lm_options --out "$runs/$set"
    mkdir -p "$runs/$set/dense+ngram"
    cp "$runs/$set/dense/bench.json" "$runs/$set/dense+ngram/bench-dense.json"
    cp "$runs/$set/ngram/bench.json" "$runs/$set/dense+ngram/bench-ngram.json"
  done
}

scores_of() { # SYSTEM: the scores of its LMs
  local name
  for name in ${1//+/ }; do echo "$runs/scores/$name.gz"; done
}

stage_rescore() { # weights from dev, drawn to the dense LM's, used on test
  local set name path tune
  need 8 $(scores_of dense)
  fresh "$runs/tuned" "$runs"/*/*/hyp{,-lists,.of*}
  tune=(asrprune tune --ref "$data/dev/text" --towards dense --nj "$nj")
  if [ -f "$first/dev/first_pass.json" ]; then tune+=(--first-pass "$first/dev/first_pass.json"); fi
  "${tune[@]}" --nbest "$first/dev/nbest.jsonl.gz" --out "$runs/tuned/lists" --system \
    $(list_systems | while read -r name path; do
      echo "$name=$(scores_of "$name" | paste -s -d,)"
    done)
  if $lattices; then
    "${tune[@]}" --lattice "$first/dev/lattices" --format slf --history "$history" --beam "$beam" \
      --parallel 32 $lm_options --system $(list_systems | tr ' ' '=') --out "$runs/tuned/lattices"
  fi
  while read -r name path; do
    for set in $test_sets; do
      mkdir -p "$runs/$set/$name"
      local lists_hyp=$runs/$set/$name/hyp
      if $lattices; then
        lists_hyp=$runs/$set/$name/hyp-lists
        cp "$runs/tuned/lattices/$name/weights.json" "$runs/$set/$name/"
        sharded "$score_cmd" "$runs/$set/$name/hyp" rescore --lattice "$first/$set/lattices" \
          --format slf --mode beam --history "$history" --beam "$beam" --parallel 32 \
          --lm ${path//,/ } $lm_options --weights "$runs/tuned/lattices/$name/weights.json"
      else
        cp "$runs/tuned/lists/$name/weights.json" "$runs/$set/$name/"
      fi
      asrprune rescore --nbest "$first/$set/nbest.jsonl.gz" --scores $(scores_of "$name") \
        --weights "$runs/tuned/lists/$name/weights.json" --out "$lists_hyp"
    done
  done < <(list_systems)
}

stage_report() { # a page for each test set, and RESULTS.md
  local set given
  for set in $test_sets; do
    need 10 "$runs/$set/dense/hyp"
    mkdir -p "$runs/$set"/{first-pass,oracle}
    cp "$first/$set/hyp" "$runs/$set/first-pass/hyp"
    asrprune oracle --nbest "$first/$set/nbest.jsonl.gz" --ref "$data/$set/text" \
      --json "$runs/$set/oracle/$(if $lattices; then echo oracle-lists; else echo oracle; fi).json"
    if $lattices; then
      asrprune oracle --lattice "$first/$set/lattices" --format slf --ref "$data/$set/text" \
        --json "$runs/$set/oracle/oracle.json"
    fi
    given=()
    if [ -f "$first/$set/first_pass.json" ]; then
      given=(--first-pass "$first/$set/first_pass.json")
    fi
    asrprune report --runs "$runs/$set"/{first-pass,oracle} \
      $(list_systems | sed "s#^\([^ ]*\) .*#$runs/$set/\1#") --ref "$data/$set/text" \
      --lm $(list_lms | tr ' ' '=') \
      --utt2spk "$data/$set/utt2spk" --baseline dense ${given[@]+"${given[@]}"} \
      --fact "set=$set" --fact "first pass=$first_pass" \
      --title "recipes/librispeech: $set" --out "$exp/report/$set"
  done
  python local/librispeech/write_results.py $(for set in $test_sets; do
    echo "$exp/report/$set/table.json"
  done) --times "$exp/times.tsv" --command "$how_called" --out "$exp/RESULTS.md"
}

{ # read whole before it runs: this file may be edited meanwhile
  run_stage 0 environment stage_environment
  run_stage 1 "corpus, sets" stage_corpus
  run_stage 2 "LM text" stage_text
  run_stage 3 tokens stage_tokens
  run_stage 4 "n-gram LM" stage_ngram
  run_stage 5 LM stage_lm
  run_stage 6 prune stage_prune
  run_stage 7 "first pass" stage_first_pass
  run_stage 8 "LM scores" stage_score
  run_stage 9 speed stage_speed
  run_stage 10 "tune, rescore" stage_rescore
  run_stage 11 report stage_report
  finish 11 "$exp/RESULTS.md, $exp/report/"
  exit
}
