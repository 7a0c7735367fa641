"""Every option of every verb: refused where it has no effect and where its value is senseless,
and read where its verb declares it."""

from __future__ import annotations

import argparse
import importlib
import shlex
from pathlib import Path
from typing import Any, Optional

import pytest

from asrprune.cli import modes
from asrprune.cli.main import COMMANDS, main
from asrprune.firstpass.formats.table import FORMATS
from tests.small_inputs import save_small_inputs

PRUNE = "prune --lm {lm} --data {data} --out {out} --set fine_tuning.batch_tokens=128"
LISTS = "rescore --nbest {nbest} --out {out}"
LATTICES = "rescore --lattice {slf} --format slf --weights {w1} --out {out}"
CALLS = {
    "list": "list criteria",
    "tokenize": "tokenize --text {text} --valid {text} --vocab-size 18 --out {out}",
    "tokenize-taken": "tokenize --text {text} --tokenizer {lm}/tokenizer.model --out {out}",
    "train": "train --data {data} --set model.d_model=8 --set model.n_layers=1 --out {out}"
    " --set model.n_heads=2 --set max_steps=1 --set tokens_per_batch=300",
    "import": "import --from hugging-face {foreign} --out {out}",
    "perplexity": "perplexity --lm {lm} --text {text} --json {out}",
    "perplexity-ngram": "perplexity --lm {arpa} --text {text} --json {out} --accept-unknown",
    "trim": "trim --lm {imported} --text {text} --out {out}",
    "prune": f"{PRUNE} --method unstructured --schedule linear --steps 1 --criterion taylor"
    " --sparsity 0.3 --fine-tune-tokens 40 --statistics-tokens 50 --distill --teacher {lm}"
    " --threads 1 --seed 3",
    "prune-only": f"{PRUNE} --method unstructured --schedule one-shot --criterion magnitude"
    " --fine-tune-tokens 0",
    "prune-scratch": f"{PRUNE} --method scratch --schedule one-shot --set options.min_width=1"
    " --set options.multiple_of=1",
    "prune-apart": f"{PRUNE} --no-distill --fine-tune-tokens 40",
    "recommend": "recommend --lm {lm} --budget 0.9 --table {study} --json {out}",
    "first-pass": "first-pass --cuts {text} --out {out}",
    "first-pass-whisper": "first-pass --decoder whisper --model {lm} --cuts {text} --out {out}",
    "convert": "convert --from slf --to jsonl {slf} --out {out}",
    "convert-lists": "convert --from jsonl --to jsonl {nbest} --out {out}",
    "convert-lattices": "convert --from jsonl --to slf {nbest} --out {out}",
    "convert-without-lm": "convert --from slf --to jsonl {bare} --out {out} --first-lm {arpa}",
    "validate": "validate --format jsonl {nbest} --out {out}",
    "validate-lattices": "validate --format slf {slf} --out {out}",
    "lmscore": "lmscore --lm {lm} --nbest {nbest} --out {out}",
    "lmscore-calibrated": "lmscore --lm {lm} --nbest {nbest} --out {out} --engine onnx-int8"
    " --calibration {text}",
    "lmscore-ngram": "lmscore --lm {arpa} --nbest {nbest} --out {out} --accept-unknown",
    "tune": "tune --nbest {nbest} --scores {scores} --out {out}",
    "tune-nowhere": "tune --nbest {nbest} --scores {scores} --out {out} --resamples 0",
    "tune-exact": "tune --nbest {nbest} --scores {scores} --out {out} --objective errors"
    " --starts 2",
    "tune-systems": "tune --nbest {nbest} --system one={scores} two={scores} --towards one"
    " --out {out} --resamples 2 --nj 1",
    "tune-forms": "tune --nbest {nbest} --lm {imported} --choose-form {out}-lm --out {out}"
    " --resamples 2 --threads 1 --accept-unknown",
    "tune-lattice": "tune --lattice {slf} --format slf --lm {lm} --ref {ref} --out {out}"
    " --resamples 2 --history 2 --threads 1",
    "rescore": f"{LISTS} --scores {{scores}} --weights {{w1}}",
    "rescore-risk": f"{LISTS} --scores {{scores}} --weights {{w1}} --decision mbr"
    " --posterior-scale 1",
    "rescore-early": f"{LISTS} --early-lm {{lm}} --weights {{w1}}",
    "rescore-cascade": f"{LISTS} --early-lm {{lm}} --weights {{w1}} --scores {{scores}}"
    " --cascade-margin 5 --cascade-weights {w1}",
    "rescore-cascade-ngram": f"{LISTS} --early-lm {{arpa}} --weights {{w1}} --scores {{scores}}"
    " --cascade-margin 5 --cascade-weights {w1} --accept-unknown",
    "rescore-nbest": f"{LATTICES} --lm {{lm}} --mode nbest --paths 5 --write-nbest {{out}}.nbest",
    "rescore-cover": f"{LATTICES} --lm {{lm}} --mode cover --beam 9",
    "rescore-beam": f"{LATTICES} --lm {{lm}} --mode beam --beam 9 --history none --parallel 2"
    " --state-hypotheses 4 --frontier 9 --write-lattice {out}.lattices --to slf",
    "rescore-exact": f"{LATTICES} --lm {{lm}} --mode exact --limit 9",
    "rescore-lattice-ngram": f"{LATTICES} --lm {{arpa}} --accept-unknown",
    "merge": "merge {part1} {part2} --out {out}",
    "wer": "wer --ref {ref} --hyp {ref} --json {out}",
    "wer-files": "wer --ref {ref} --hyp {ref} --out {out}",
    "wer-case": "wer --ref {ref} --hyp {ref} --ignore-case --json {out}",
    "oracle": "oracle --nbest {nbest} --json {out}",
    "oracle-ref": "oracle --nbest {nbest} --ref {ref} --json {out}",
    "oracle-case": "oracle --nbest {nbest} --normalise lower --json {out}",
    "oracle-lattice": "oracle --lattice {slf} --format slf --ref {ref} --json {out}",
    "bench": "bench --lm {lm} --nbest {nbest} --json {out} --repeats 1 --warmup 0",
    "bench-padded": "bench --lm {lm} --nbest {nbest} --json {out} --repeats 1 --warmup 0"
    " --baseline padded",
    "bench-alone": "bench --lm {lm} --nbest {nbest} --json {out} --repeats 1 --warmup 0"
    " --baseline padded --no-check",
    "bench-calibrated": "bench --lm {lm} --nbest {nbest} --json {out} --repeats 1 --warmup 0"
    " --engine onnx-int8 --calibration {text}",
    "bench-ngram": "bench --lm {arpa} --nbest {nbest} --json {out} --repeats 1 --warmup 0"
    " --accept-unknown",
    "bench-systems": "bench --system one={lm} two={lm} --nbest {nbest} --out {out} --repeats 1"
    " --warmup 0 --baseline padded",
    "bench-systems-ngram": "bench --system one={arpa} two={lm} --nbest {nbest} --out {out}"
    " --accept-unknown",
    "export": "export --to onnx --lm {lm} --out {out}",
    "export-folder": "export --to hugging-face --lm {lm} --out {out} --no-verify",
    "export-sherpa": "export --to sherpa-onnx --lm {transducer_lm} --tokens {tokens} --out {out}",
    "completion": "completion bash",
    "sweep": "sweep --dev {nbest} --dev-ref {ref} --test {nbest} --test-ref {ref} --out {out}"
    " --system one={arpa} --accept-unknown --bench-utts 0",
    "sweep-timed": "sweep --dev {nbest} --dev-ref {ref} --test {nbest} --test-ref {ref}"
    " --out {out} --system one={lm} --repeats 1 --bench-utts 1 --engine torch",
    "report": "report --runs {run} --ref {ref} --out {out}",
}
"""Calls that succeed, as their names say: with {names} of what ``place`` has."""

NONE = "{away}/none"
CASES: dict[str, dict[str, tuple[Optional[str], str]]] = {
    "list": {"AXIS": (None, "list criterion")},
    "tokenize": {
        "--text": (None, f"tokenize --text {NONE}"),
        "--valid": (None, f"tokenize --valid {NONE}"),
        "--vocab-size": ("tokenize-taken --vocab-size 30", "tokenize --vocab-size 3"),
        "--normalise": (None, "tokenize --normalise nothing"),
        "--language": (None, "tokenize --language ''"),
        "--unit": (None, "tokenize --unit line"),
        "--character-coverage": (
            "tokenize-taken --character-coverage 1",
            "tokenize --character-coverage 0.5",
        ),
        "--tokenizer": (None, f"tokenize-taken --tokenizer {NONE}"),
        "--model-type": ("tokenize-taken --model-type bpe", "tokenize --model-type word2vec"),
        "--sample-sentences": (
            "tokenize-taken --sample-sentences 9",
            "tokenize --sample-sentences -1",
        ),
        "--seed": ("tokenize-taken --seed 9", "tokenize --seed -9"),
        "--out": (None, "tokenize --out {text}"),
        "--force": (None, "tokenize --force=often"),
    },
    "train": {
        "--data": (None, f"train --data {NONE}"),
        "--config": (None, f"train --config {NONE}"),
        "--set": (None, "train --set max_step=3"),
        "--init": (None, f"train --init {NONE}"),
        "--tokens": (None, "train --tokens {text}"),
        "--out": (None, "train --out {text}/x"),
        "--force": (None, "train --force=often"),
        "--threads": (None, "train --threads 0"),
        "--device": (None, "train --device mars"),
        "--tensorboard": (None, "train --tensorboard=often"),
    },
    "import": {
        "--from": (None, "import --from paper"),
        "PATH": (None, f"import {NONE}"),
        "--out": (None, "import --out {text}"),
        "--force": (None, "import --force=often"),
        "--begin": (None, "import --begin nosuchtoken"),
        "--end": (None, "import --end nosuchtoken"),
        "--prompt": (None, "import --prompt 'the '"),
        "--sentence-form": (None, "import --sentence-form question"),
        "--case": (None, "import --case title"),
        "--normalise": (None, "import --normalise nothing"),
        "--language": (None, "import --language ''"),
        "--positions": (None, "import --positions 1"),
        "--dtype": (None, "import --dtype int3"),
    },
    "perplexity": {
        "--lm": (None, f"perplexity --lm {NONE}"),
        "--text": (None, f"perplexity --text {NONE}"),
        "--normalise": (None, "perplexity --normalise nothing"),
        "--language": (None, "perplexity --language ''"),
        "--special": (None, "perplexity --special [noise]=loud"),
        "--accept-unknown": (None, "perplexity --accept-unknown=often"),
        "--device": ("perplexity-ngram --device cpu", "perplexity --device foo"),
        "--size": ("perplexity-ngram --size 0.5", "perplexity --size 12GB"),
        "--over-long": ("perplexity-ngram --over-long window", "perplexity --over-long minus-inf"),
        "--json": (None, "perplexity --json {away}"),
    },
    "trim": {
        "--lm": (None, f"trim --lm {NONE}"),
        "--text": (None, f"trim --text {NONE}"),
        "--min-count": (None, "trim --min-count 0"),
        "--normalise": (None, "trim --normalise nothing"),
        "--language": (None, "trim --language ''"),
        "--special": (None, "trim --special [noise]=loud"),
        "--out": (None, "trim --out {text}"),
        "--force": (None, "trim --force=often"),
    },
    "prune": {
        "--lm": (None, f"prune --lm {NONE}"),
        "--data": (None, f"prune --data {NONE}"),
        "--out": (None, "prune --out {text}"),
        "--plan": (None, f"prune --plan {NONE}"),
        "--criterion": ("prune-scratch --criterion taylor", "prune --criterion tailor"),
        "--method": (None, "prune --method scissors"),
        "--schedule": (None, "prune --schedule never"),
        "--sparsity": (None, "prune --sparsity nan"),
        "--steps": ("prune-only --steps 5", "prune --steps 0"),
        "--fine-tune-tokens": (None, "prune --fine-tune-tokens -1"),
        "--statistics-tokens": (None, "prune --statistics-tokens 0"),
        "--distill": ("prune-only --distill", "prune --distill=often"),
        "--teacher": ("prune-apart --teacher {lm}", f"prune --teacher {NONE}"),
        "--set": (None, "prune --set growth=-1"),
        "--seed": (None, "prune --seed 99999999999"),
        "--threads": (None, "prune --threads 0"),
        "--device": (None, "prune --device meta"),
    },
    "recommend": {
        "--lm": (None, f"recommend --lm {NONE}"),
        "--budget": (None, "recommend --budget 12GB"),
        "--table": (None, f"recommend --table {NONE}"),
        "--json": (None, "recommend --json {away}"),
    },
    "first-pass": {
        "--decoder": (None, "first-pass --decoder nobody"),
        "--cuts": (None, f"first-pass --cuts {NONE}"),
        "--out": (None, "first-pass --out {text}"),
        "--nbest": (None, "first-pass --nbest 0"),
        "--max-hmms": ("first-pass-whisper --max-hmms 9", "first-pass --max-hmms 0"),
        "--max-words": ("first-pass-whisper --max-words 9", "first-pass --max-words few"),
        "--lattice-beam": ("first-pass-whisper --lattice-beam 9", "first-pass --lattice-beam inf"),
        "--model": ("first-pass --model {lm}", "first-pass-whisper --model="),
        "--normalise": ("first-pass --normalise asr", "first-pass-whisper --normalise no"),
        "--language": ("first-pass --language en", "first-pass-whisper --language="),
        "--device": ("first-pass --device cpu", "first-pass-whisper --device tape"),
        "--compute-type": ("first-pass --compute-type int8", "first-pass-whisper --compute-type="),
        "--nj": (None, "first-pass --nj 0"),
        "--allow-commands": (None, "first-pass --allow-commands=often"),
        "--shard": (None, "first-pass --shard 3/2"),
    },
    "convert": {
        "--on-bad": (None, "convert --on-bad sometimes"),
        "--from": (None, "convert --from paper"),
        "--to": (None, "convert --to hyporadise"),
        "IN": (None, f"convert-lists {NONE}"),
        "--out": (None, "convert --out {text}/x"),
        "--force": (None, "convert --force=often"),
        "--like": ("convert --like {slf}", "convert --like ''"),
        "--lm-base": ("convert --lm-base e", "convert --lm-base zero"),
        "--manifest": ("convert --manifest {text}", "convert --manifest ''"),
        "--manifest-id": ("convert --manifest-id id", "convert --manifest-id ''"),
        "--beam-size": ("convert --beam-size 4", "convert --beam-size 0"),
        "--utts": ("convert --utts {text}", "convert --utts ''"),
        "--words": ("convert --words {text}", "convert --words ''"),
        "--first-lm": ("convert-lists --first-lm {arpa}", f"convert --first-lm {NONE}.arpa"),
        "--references": (
            "convert-lattices --references {ref} --references-format kaldi",
            f"convert --references-format kaldi --references {NONE}",
        ),
        "--references-format": (
            "convert-lattices --references-format kaldi",
            "convert --references {ref} --references-format paper",
        ),
        "--nbest": ("convert-lists --nbest 100", "convert --nbest -1"),
        "--acoustic-scale": ("convert-lists --acoustic-scale 1", "convert --acoustic-scale nan"),
        "--lm-scale": ("convert-lattices --lm-scale 2", "convert --lm-scale inf"),
        "--word-bonus": ("convert-lists --word-bonus 0", "convert --word-bonus x"),
        "--shard": (None, "convert --shard 3/2"),
    },
    "validate": {
        "--on-bad": (None, "validate --on-bad sometimes"),
        "--format": (None, "validate --format paper"),
        "IN": (None, f"validate {NONE}"),
        "--accept-unscored": (
            "validate-lattices --accept-unscored",
            "validate --accept-unscored=often",
        ),
        "--lm-base": ("validate --lm-base 10", "validate --lm-base zero"),
        "--manifest": ("validate --manifest {text}", "validate --manifest ''"),
        "--manifest-id": ("validate --manifest-id id", "validate --manifest-id ''"),
        "--beam-size": ("validate --beam-size 4", "validate --beam-size 0"),
        "--utts": ("validate --utts {text}", "validate --utts ''"),
        "--words": ("validate --words {text}", "validate --words ''"),
        "--out": (None, "validate --out {away}"),
    },
    "lmscore": {
        "--on-bad": (None, "lmscore --on-bad sometimes"),
        "--lm": (None, f"lmscore --lm {NONE}"),
        "--normalise": (None, "lmscore --normalise nothing"),
        "--language": (None, "lmscore --language ''"),
        "--special": (None, "lmscore --special [noise]=loud"),
        "--accept-unknown": (None, "lmscore --accept-unknown=often"),
        "--nbest": (None, f"lmscore --nbest {NONE}"),
        "--out": (None, "lmscore --out {away}"),
        "--timing": (None, "lmscore --timing {away}"),
        "--over-long": ("lmscore-ngram --over-long error", "lmscore --over-long shorten"),
        "--engine": ("lmscore-ngram --engine int8", "lmscore --engine nonsense"),
        "--calibration": (
            "lmscore --calibration {text}",
            f"lmscore-calibrated --calibration {NONE}",
        ),
        "--threads": ("lmscore-ngram --threads 1", "lmscore --threads -3"),
        "--device": ("lmscore-ngram --device cpu", "lmscore --device mars"),
        "--token-budget": ("lmscore-ngram --token-budget 99", "lmscore --token-budget 0"),
        "--size": ("lmscore-ngram --size 0.5", "lmscore --size 1.5"),
        "--shard": (None, "lmscore --shard 3/2"),
    },
    "tune": {
        "--on-bad": (None, "tune --on-bad sometimes"),
        "--nbest": (None, f"tune --nbest {NONE}"),
        "--normalise": ("tune --normalise lower", "tune-lattice --normalise nothing"),
        "--language": ("tune --language tr", "tune-lattice --language ''"),
        "--special": ("tune --special [x]=drop", "tune-lattice --special [noise]=loud"),
        "--accept-unknown": ("tune --accept-unknown", "tune-lattice --accept-unknown=often"),
        "--scores": ("tune-lattice --scores {scores}", f"tune --scores {NONE}"),
        "--system": (None, "tune-systems --system two"),
        "--ref": (None, f"tune --ref {NONE}"),
        "--choose-form": ("tune-lattice --choose-form {out}-lm", "tune-forms --choose-form {text}"),
        "--first-pass": (None, f"tune --first-pass {NONE}"),
        "--out": (None, "tune --out {away}"),
        "--objective": (None, "tune --objective fame"),
        "--towards": ("tune-exact --towards {w1}", f"tune --towards {NONE}"),
        "--resamples": ("tune-exact --resamples 100", "tune --resamples -1"),
        "--fallback": ("tune-exact --fallback", "tune --fallback=often"),
        "--seed": ("tune-nowhere --seed 1", "tune --seed -1"),
        "--starts": ("tune --starts 20", "tune-exact --starts -1"),
        "--nj": ("tune --nj 1", "tune-systems --nj 0"),
        "--lattice": (None, f"tune-lattice --lattice {NONE}"),
        "--format": ("tune --format slf", "tune-lattice --format paper"),
        "--lm": ("tune --lm {lm}", f"tune-lattice --lm {NONE}"),
        "--size": ("tune --size 0.5", "tune-lattice --size 12GB"),
        "--list-size": ("tune --list-size 50", "tune-lattice --list-size 0"),
        "--rounds": ("tune --rounds 5", "tune-lattice --rounds 0"),
        "--tolerance": ("tune --tolerance 0.02", "tune-lattice --tolerance nan"),
        "--history": ("tune --history 5", "tune-lattice --history -1"),
        "--beam": ("tune --beam 40", "tune-lattice --beam nan"),
        "--state-hypotheses": ("tune --state-hypotheses 8", "tune-lattice --state-hypotheses 0"),
        "--frontier": ("tune --frontier 256", "tune-lattice --frontier x"),
        "--parallel": ("tune --parallel 8", "tune-lattice --parallel none"),
        "--engine": ("tune --engine nonsense", "tune-lattice --engine nonsense"),
        "--threads": ("tune --threads 1", "tune-lattice --threads -3"),
        "--device": ("tune --device cpu", "tune-lattice --device mars"),
        "--utts": ("tune-lattice --utts {text}", "tune-lattice --utts ''"),
        "--words": ("tune-lattice --words {text}", "tune-lattice --words ''"),
        "--negative-lm": (None, "tune --negative-lm=often"),
        "--mbr": (None, "tune --mbr=often"),
        "--unit": (None, "tune --unit syllable"),
        "--allow-test": (None, "tune --allow-test=often"),
    },
    "rescore": {
        "--normalise": ("rescore --normalise lower", "rescore-early --normalise nothing"),
        "--language": ("rescore --language tr", "rescore-early --language ''"),
        "--special": ("rescore --special [x]=drop", "rescore-early --special [noise]=loud"),
        "--accept-unknown": ("rescore --accept-unknown", "rescore-early --accept-unknown=often"),
        "--on-bad": (None, "rescore --on-bad sometimes"),
        "--nbest": (None, f"rescore --nbest {NONE}"),
        "--scores": ("rescore-beam --scores {scores}", f"rescore --scores {NONE}"),
        "--weights": (None, f"rescore --weights {NONE}"),
        "--out": (None, "rescore --out {away}"),
        "--write-nbest": (None, "rescore --write-nbest {away}"),
        "--list-size": ("rescore --list-size 100", "rescore-nbest --list-size -4"),
        "--json": (None, "rescore --json {text}/x"),
        "--decision": (None, "rescore --decision toss"),
        "--unit": (None, "rescore --unit char"),
        "--shard": (None, "rescore --shard 3/2"),
        "--posterior-scale": ("rescore --posterior-scale 1", "rescore-risk --posterior-scale nan"),
        "--early-lm": ("rescore-beam --early-lm {lm}", f"rescore-early --early-lm {NONE}"),
        "--early-engine": ("rescore --early-engine torch", "rescore-early --early-engine nothing"),
        "--early-threads": (
            "rescore-cascade-ngram --early-threads 1",
            "rescore-early --early-threads 0",
        ),
        "--cascade-margin": ("rescore --cascade-margin 1", "rescore-cascade --cascade-margin nan"),
        "--cascade-weights": (
            "rescore --cascade-weights {w1}",
            f"rescore-cascade --cascade-weights {NONE}",
        ),
        "--lattice": (None, f"rescore-beam --lattice {NONE}"),
        "--format": ("rescore --format slf", "rescore-beam --format paper"),
        "--lm": ("rescore --lm {lm}", "rescore-beam --lm ''"),
        "--size": ("rescore-lattice-ngram --size 0.5", "rescore-beam --size half"),
        "--mode": ("rescore --mode beam", "rescore-beam --mode nonsense"),
        "--first-pass": ("rescore-exact --first-pass {w0}", f"rescore-beam --first-pass {NONE}"),
        "--write-lattice": (
            "rescore --write-lattice {out}",
            "rescore-beam --write-lattice {text}/x",
        ),
        "--to": ("rescore-exact --to slf", "rescore-beam --to paper"),
        "--paths": ("rescore-beam --paths 100", "rescore-nbest --paths 0"),
        "--beam": ("rescore-nbest --beam none", "rescore-beam --beam nan"),
        "--history": ("rescore-cover --history 5", "rescore-beam --history -1"),
        "--state-hypotheses": (
            "rescore-exact --state-hypotheses 8",
            "rescore-beam --state-hypotheses 0",
        ),
        "--frontier": ("rescore-nbest --frontier 256", "rescore-beam --frontier x"),
        "--parallel": ("rescore --parallel 8", "rescore-beam --parallel none"),
        "--limit": ("rescore-beam --limit 2000", "rescore-exact --limit 0"),
        "--engine": ("rescore --engine nonsense", "rescore-beam --engine nonsense"),
        "--over-long": (
            "rescore-lattice-ngram --over-long error",
            "rescore-beam --over-long window",
        ),
        "--threads": ("rescore --threads -3", "rescore-beam --threads -3"),
        "--device": ("rescore-lattice-ngram --device cpu", "rescore-beam --device mars"),
        "--like": ("rescore-beam --like {slf}", "rescore-beam --like ''"),
        "--utts": ("rescore-beam --utts {text}", "rescore-beam --utts ''"),
        "--words": ("rescore-beam --words {text}", "rescore-beam --words ''"),
    },
    "merge": {
        "SHARD": (None, f"merge {NONE}"),
        "--out": (None, "merge --out {text}/x"),
        "--write-nbest": (None, "merge --write-nbest {away}"),
        "--write-lattice": (None, "merge --write-lattice {text}/x"),
        "--json": (None, "merge --json {away}"),
        "--force": (None, "merge --force=often"),
    },
    "wer": {
        "--ref": (None, f"wer --ref {NONE}"),
        "--hyp": (None, f"wer --hyp {NONE}"),
        "--compare": (None, f"wer --compare {NONE}"),
        "--utt2spk": (None, f"wer --utt2spk {NONE}"),
        "--mode": (None, "wer --mode lenient"),
        "--out": (None, "wer-files --out {text}"),
        "--json": (None, "wer --json {away}"),
        "--set-name": ("wer --set-name test", "wer-files --set-name a/b"),
        "--settings": ("wer --settings hyp", "wer-files --settings a/b"),
        "--replications": (None, "wer --replications 1"),
        "--seed": (None, "wer --seed 0.5"),
        "--ref-format": (None, "wer --ref-format docx"),
        "--hyp-format": (None, "wer --hyp-format ''"),
        "--unit": (None, "wer --unit syllable"),
        "--normalise": (None, "wer --normalise nothing"),
        "--ignore-case": (None, "wer --ignore-case=often"),
        "--language": ("wer --language tr", "wer-case --language ''"),
        "--remove-tags": (None, "wer --remove-tags=often"),
        "--hyphens": (None, "wer --hyphens move"),
        "--ignore-punctuation": (None, "wer --ignore-punctuation=often"),
        "--equivalents": (None, f"wer --equivalents {NONE}"),
        "--remove-words": (None, "wer --remove-words ''"),
        "--filter": (None, "wer --filter ''"),
        "--hyp-filter": (None, "wer --hyp-filter 'exit 3'"),
        "--alternations": (None, "wer --alternations=often"),
        "--optional-words": (None, "wer --optional-words ''"),
        "--edit-costs": (None, "wer --edit-costs free"),
    },
    "oracle": {
        "--on-bad": (None, "oracle --on-bad sometimes"),
        "--nbest": (None, f"oracle --nbest {NONE}"),
        "--lattice": (None, f"oracle-lattice --lattice {NONE}"),
        "--format": ("oracle --format slf", "oracle-lattice --format paper"),
        "--utts": ("oracle-lattice --utts {text}", "oracle-lattice --utts ''"),
        "--words": ("oracle --words {text}", "oracle-lattice --words ''"),
        "--ref": (None, f"oracle --ref {NONE}"),
        "--mode": ("oracle --mode strict", "oracle-ref --mode lenient"),
        "--json": (None, "oracle --json {away}"),
        "--replications": (None, "oracle --replications 0"),
        "--seed": (None, "oracle --seed -1"),
        "--ref-format": ("oracle --ref-format trn", "oracle-ref --ref-format docx"),
        "--unit": (None, "oracle --unit syllable"),
        "--normalise": (None, "oracle --normalise nothing"),
        "--ignore-case": (None, "oracle --ignore-case=often"),
        "--language": ("oracle --language tr", "oracle-case --language ''"),
        "--remove-tags": (None, "oracle --remove-tags=often"),
        "--hyphens": (None, "oracle --hyphens move"),
        "--ignore-punctuation": (None, "oracle --ignore-punctuation=often"),
        "--equivalents": ("oracle-lattice --equivalents {ref}", f"oracle --equivalents {NONE}"),
        "--remove-words": (None, "oracle --remove-words ''"),
        "--filter": ("oracle-lattice --filter cat", "oracle --filter 'exit 4'"),
        "--hyp-filter": ("oracle-lattice --hyp-filter cat", "oracle --hyp-filter 'exit 3'"),
        "--alternations": ("oracle-lattice --alternations", "oracle --alternations=often"),
        "--optional-words": ("oracle-lattice --optional-words a", "oracle --optional-words ''"),
    },
    "bench": {
        "--normalise": (None, "bench --normalise nothing"),
        "--language": (None, "bench --language ''"),
        "--special": (None, "bench --special [noise]=loud"),
        "--accept-unknown": (None, "bench --accept-unknown=often"),
        "--on-bad": (None, "bench --on-bad sometimes"),
        "--lm": ("bench-systems --lm {lm}", f"bench --lm {NONE}"),
        "--system": (None, "bench-systems --system two"),
        "--nbest": (None, f"bench --nbest {NONE}"),
        "--limit": (None, "bench --limit 0"),
        "--repeats": (None, "bench --repeats 0"),
        "--warmup": (None, "bench --warmup -1"),
        "--json": ("bench-systems --json {out}", "bench --json {away}"),
        "--out": ("bench --out {out}", "bench-systems --out {text}"),
        "--baseline": ("bench-systems-ngram --baseline padded", "bench --baseline nothing"),
        "--engines": ("bench-systems --engines all", "bench --engines none"),
        "--check": ("bench --check", "bench-padded --check=often"),
        "--weights": ("bench-alone --weights {w1}", f"bench-padded --weights {NONE}"),
        "--engine": ("bench-ngram --engine torch", "bench --engine nonsense"),
        "--calibration": (
            "bench --calibration {text}",
            "bench --engine onnx-int8 --calibration ''",
        ),
        "--threads": ("bench-ngram --threads 1", "bench --threads 1.5"),
        "--device": ("bench-ngram --device auto", "bench --device cuda:77"),
        "--token-budget": ("bench-ngram --token-budget 9", "bench --token-budget x"),
        "--over-long": ("bench-ngram --over-long window", "bench --over-long minus-inf"),
        "--size": ("bench-systems --size 0.5", "bench --size -1"),
    },
    "export": {
        "--to": (None, "export --to paper"),
        "--lm": (None, f"export --lm {NONE}"),
        "--size": (None, "export --size 12GB"),
        "--out": (None, "export --out {away}"),
        "--force": ("export --force", "export-folder --force=often"),
        "--form": (None, "export --form paper"),
        "--dtype": (None, "export --dtype int4"),
        "--tokens": ("export --tokens {tokens}", f"export-sherpa --tokens {NONE}"),
        "--verify": (None, "export --verify=often"),
    },
    "sweep": {
        "--dev": (None, f"sweep --dev {NONE}"),
        "--dev-ref": (None, f"sweep --dev-ref {NONE}"),
        "--test": (None, f"sweep --test {NONE}"),
        "--test-ref": (None, f"sweep --test-ref {NONE}"),
        "--system": (None, "sweep --system one=other"),
        "--first-pass": (None, f"sweep --first-pass {NONE}"),
        "--baseline": (None, "sweep --baseline nobody"),
        "--engine": (None, "sweep --engine none"),
        "--over-long": (None, "sweep --over-long minus-inf"),
        "--threads": (None, "sweep --threads 0"),
        "--nj": (None, "sweep --nj 0"),
        "--bench-utts": (None, "sweep --bench-utts -1"),
        "--repeats": ("sweep --repeats 2", "sweep --bench-utts 1 --repeats 0"),
        "--title": (None, "sweep --title ''"),
        "--utt2spk": (None, f"sweep --utt2spk {NONE}"),
        "--unit": (None, "sweep --unit line"),
        "--normalise": (None, "sweep --normalise nothing"),
        "--language": (None, "sweep --language ''"),
        "--special": (None, "sweep --special [noise]=loud"),
        "--accept-unknown": (None, "sweep --accept-unknown=often"),
        "--out": (None, "sweep --out {text}"),
    },
    "report": {
        "--runs": (None, f"report --runs {NONE}"),
        "--ref": (None, f"report --ref {NONE}"),
        "--baseline": (None, "report --baseline nobody"),
        "--first-pass": (None, f"report --first-pass {NONE}"),
        "--front": (None, "report --front nobody"),
        "--lm": (None, "report --lm nobody={lm}"),
        "--utt2spk": (None, f"report --utt2spk {NONE}"),
        "--unit": (None, "report --unit line"),
        "--title": (None, "report --title ''"),
        "--fact": (None, "report --fact nothing"),
        "--seed": (None, "report --seed x"),
        "--out": (None, "report --out {text}"),
    },
    "completion": {"SHELL": (None, "completion fish")},
}
"""verb -> option -> (a call in which it has no effect, None for an option that always has one; a
call in which its value is senseless). The first word is a name in CALLS."""

ALL = [(verb, option) for verb in CASES for option in CASES[verb]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> path of the inputs of CALLS; ``away`` is an empty folder."""
    return save_small_inputs(tmp_path_factory.mktemp("flags"))


def _argv(call: str, place: dict[str, Path], out: Path) -> list[str]:
    name, *more = shlex.split(call)
    return [word.format(**place, out=out / "out") for word in [*shlex.split(CALLS[name]), *more]]


def _parser(verb: str) -> tuple[Any, argparse.ArgumentParser]:
    module = importlib.import_module(COMMANDS[verb][0])
    parser = argparse.ArgumentParser(allow_abbrev=False)
    module.add_arguments(parser)
    return module, parser


def _everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_the_table_has_every_option_of_every_verb() -> None:
    assert set(CASES) == set(COMMANDS)
    for verb in COMMANDS:
        assert set(CASES[verb]) == set(modes.options(_parser(verb)[1]).values()), verb


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_option_is_declared_and_those_of_some_calls_have_a_foreign_one(verb: str) -> None:
    module, parser = _parser(verb)
    names = modes.options(parser)
    assert {name for mode in module.MODES for name in mode.reads} == set(names)
    for name, flag in names.items():
        readers = [mode for mode in module.MODES if name in mode.reads]
        always = any(mode.unconditional for mode in readers)
        assert (CASES[verb][flag][0] is None) == always, flag


@pytest.mark.parametrize(
    ("verb", "option"), [(verb, option) for verb, option in ALL if CASES[verb][option][0]]
)
def test_an_option_without_effect_is_refused(
    verb: str,
    option: str,
    place: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    foreign = CASES[verb][option][0] or ""
    argv = _argv(foreign, place, tmp_path)
    assert argv[0] == verb
    before = _everything(place["away"].parent)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"asrprune {verb}: {option}"), error
    assert error.count("\n") == 1
    assert _everything(place["away"].parent) == before
    assert not _everything(tmp_path)
    (action,) = (one for one in _parser(verb)[1]._actions if option in one.option_strings)
    if action.default not in (None, argparse.SUPPRESS, []):  # no more so with this value
        stated = [option] if isinstance(action.default, bool) else [option, str(action.default)]
        assert main([*_argv(foreign.split()[0], place, tmp_path), *stated]) == 2
        assert capsys.readouterr().err.startswith(f"asrprune {verb}: {option} ha")


@pytest.mark.parametrize(("verb", "option"), ALL)
def test_a_senseless_value_is_refused(
    verb: str,
    option: str,
    place: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = _argv(CASES[verb][option][1], place, tmp_path)
    assert argv[0] == verb
    before = _everything(place["away"].parent)
    assert main(argv) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"asrprune {verb}: ")
    assert captured.err.count("\n") == 1
    value = argv[-1].partition("=")[0]
    assert option in captured.err or (value and value in captured.err), captured.err
    assert _everything(place["away"].parent) == before
    assert not _everything(tmp_path)


class Recorder(argparse.Namespace):
    """Knows which options were read."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(**vars(args), read=set())

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name != "read":
            self.read.add(name)
        return super().__getattribute__(name)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """The parsed arguments of every call of ``main``."""
    found: list[Recorder] = []

    def parse(*arguments: Any) -> Recorder:
        found.append(Recorder(modes.parse(*arguments)))
        return found[-1]

    monkeypatch.setattr("asrprune.cli.main.parse", parse)
    monkeypatch.setattr("asrprune.cli.first_pass.decode_cuts", lambda *arguments: {})
    return found


@pytest.mark.parametrize("name", CALLS)
def test_what_is_declared_is_read(
    name: str, place: dict[str, Path], tmp_path: Path, recorded: list[Recorder]
) -> None:
    if "{arpa}" in CALLS[name]:
        pytest.importorskip("kenlm")
    if "onnx" in CALLS[name]:
        pytest.importorskip("onnxruntime")
    argv = _argv(name, place, tmp_path)
    assert main(argv) == 0
    args, *within = recorded
    assert not within or argv[0] == "sweep"  # which calls other verbs
    read = set(args.read)
    module = importlib.import_module(COMMANDS[argv[0]][0])
    declared = {option for mode in module.MODES if mode.holds(args) for option in mode.reads}
    assert declared & set(vars(args)) <= read


def test_the_calls_are_in_every_mode(place: dict[str, Path], tmp_path: Path) -> None:
    met: dict[str, set[str]] = {verb: set() for verb in COMMANDS}
    for name in CALLS:
        verb, *argv = _argv(name, place, tmp_path)
        module, parser = _parser(verb)
        args = modes.parse(parser, argv)
        met[verb] |= {one for mode in module.MODES if mode.holds(args) for one in mode.reads}
    for verb in COMMANDS:
        left = set(modes.options(_parser(verb)[1])) - met[verb]
        assert left <= _taken_by_formats(_parser(verb)[1]), verb


def _taken_by_formats(parser: argparse.ArgumentParser) -> set[str]:
    """The options of the formats that can be chosen."""
    found: set[str] = set()
    for action in parser._actions:
        if action.dest in ("format", "source"):
            found |= {one for name in action.choices or () for one in FORMATS[name].read_options}
        if action.dest in ("to", "target"):
            found |= {
                one
                for name in action.choices or ()
                if name in FORMATS
                for one in FORMATS[name].write_options
            }
    return found


@pytest.mark.parametrize("verb", COMMANDS)
def test_the_example_of_the_help_is_a_call_that_is_taken(verb: str) -> None:
    module, _ = _parser(verb)
    lines = module.EXAMPLE.replace("\\\n", " ").splitlines()
    examples = [line for line in lines if f"asrprune {verb} " in line]
    assert examples
    for line in examples:
        parser = _parser(verb)[1]
        argv = shlex.split(line.partition(f"asrprune {verb} ")[2])
        modes.check_options(module.MODES, parser, modes.parse(parser, argv))
