"""One run of a study at a time: prune, measure every size, keep the numbers and drop the weights.

    python local/study/run_study.py list --grid recipes/study/conf/grid.json
    python local/study/run_study.py dense --exp exp/study
    python local/study/run_study.py ngram exp/study/ngram.arpa --exp exp/study
    python local/study/run_study.py run NAME --grid recipes/study/conf/grid.json --exp exp/study
    python local/study/run_study.py collect --name prose --exp exp/study --out results.json

A folder EXP holds ``dense`` (a checkpoint), ``data`` (of asrprune tokenize), ``heldout.txt``, and
``lists/NAME.jsonl.gz`` with references. ``dense`` tunes the score weights of each list with the
dense LM's scores, each half of the utterances for the other, and writes ``cells/dense.json``; every
run is measured under those weights and writes ``cells/NAME.json``, so that a killed study goes on
where it stood. ``collect`` adds all cells of EXP to a results file, in the place of those of the
same LM name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from grid import Run, Study, read_study

from asrprune.api.first_pass import read_nbest
from asrprune.api.lms import open_lm
from asrprune.api.rescoring import rescore_nbest, tune_weights
from asrprune.api.scoring import score_nbest
from asrprune.cli.main import call
from asrprune.core.hypothesis import NBest
from asrprune.core.record import (
    Record,
    a,
    a_count,
    a_label,
    a_list,
    a_list_of,
    a_number,
    an_amount,
    an_object,
    an_object_of,
    read_record,
)
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.files import read_lines, sha256, write_json, write_text
from asrprune.lm.model.checkpoint import CONFIG, WEIGHTS, load_checkpoint
from asrprune.lm.model.transformer import count_parameters
from asrprune.lm.open import is_ngram
from asrprune.lm.protocol import LanguageModel
from asrprune.provenance import provenance
from asrprune.prune.run.family import FAMILY
from asrprune.report.documents import compact
from asrprune.rescore.bench.machine import describe_machine
from asrprune.wer.wer import count_errors

log = logging.getLogger(__name__)

BLOCKS = 40
"""Parts of the held-out text; intervals resample them."""
TUNING = "weights.json"
"""The score weights of the dense LM, by list: [of even utterances, of odd ones]."""
DENSE = "dense"
FORMAT, VERSION = "asrprune-study", 1


def heldout_blocks(path: Path) -> list[list[str]]:
    """The sentences of the held-out text in BLOCKS parts of neighbours. Raises InputError for fewer
    sentences."""
    lines = [line for _, line in read_lines(path) if line.strip()]
    if len(lines) < BLOCKS:
        raise InputError(path, None, f"{len(lines)} sentences", f"{BLOCKS} at least")
    edges = np.linspace(0, len(lines), BLOCKS + 1).astype(int)
    return [lines[start:stop] for start, stop in zip(edges, edges[1:])]


def read_lists(exp: Path) -> dict[str, list[NBest]]:
    """Name -> lists. Raises InputError for an utterance without a reference or a hypothesis."""
    found = {}
    for path in sorted((exp / "lists").glob("*.jsonl.gz")):
        lists = read_nbest(path)
        for one in lists:
            if one.ref is None or not one.hyps:
                raise InputError(path, None, f"{one.utt} as it is", "a reference, and hypotheses")
        found[path.name.removesuffix(".jsonl.gz")] = lists
    return found


def errors_of(lists: Iterable[NBest], chosen: Mapping[str, str]) -> list[int]:
    """Word errors of each utterance, in the order of the lists."""
    return [count_errors(str(one.ref), chosen[one.utt]).errors for one in lists]


class Measurement:
    """What every LM of a study is measured on."""

    def __init__(self, exp: Path, engine: str) -> None:
        self.exp = exp
        self.blocks = heldout_blocks(exp / "heldout.txt")
        self.lists = read_lists(exp)
        self._engine = engine

    def nll(self, lm: LanguageModel) -> list[float]:
        """-ln P of each block, in nats."""
        return [round(-float(scores.sum()), 3) for scores in lm.score_lists(self.blocks)]

    def scores(self, path: Path) -> dict[str, dict[str, Any]]:
        """Name -> LM scores of the lists, by an engine that is fast rather than exact."""
        lm = open_lm(path) if is_ngram(path) else open_lm(path, self._engine, threads=1)
        return {name: score_nbest(lm, lists) for name, lists in self.lists.items()}

    def tune(self, path: Path) -> None:
        """Write TUNING for the LM."""
        halves = {}
        for name, scores in self.scores(path).items():
            lists = self.lists[name]
            refs = {one.utt: str(one.ref) for one in lists}
            tuned = [tune_weights(lists[n::2], scores, refs, objective="errors") for n in (0, 1)]
            halves[name] = [asdict(one.weights) for one in tuned]
        write_json(self.exp / TUNING, halves)

    def errors(self, path: Path) -> dict[str, list[int]]:
        """List -> word errors of each utterance, each half under the weights of the other."""
        take = an_object_of(a_list_of(a(ScoreWeights)))
        halves = take(read_record(self.exp / TUNING).values)
        found = {}
        for name, scores in self.scores(path).items():
            lists, (of_even, of_odd) = self.lists[name], halves[name]
            chosen = rescore_nbest(lists[0::2], scores, of_odd)
            chosen |= rescore_nbest(lists[1::2], scores, of_even)
            found[name] = errors_of(lists, chosen)
        return found

    def speed(self, paths: Sequence[Path]) -> list[float]:
        """Times as fast as the dense LM's padded float32 batch, each with its fastest engine."""
        out = self.exp / "speed" / str(paths[0]).replace("/", "-")
        systems = [f"{n}={path}" for n, path in enumerate([self.exp / DENSE, *paths])]
        lists = sorted((self.exp / "lists").glob("*.jsonl.gz"))[0]
        how = ["--nbest", str(lists), "--limit", "8", "--repeats", "3", "--engine", "fastest"]
        how += ["--threads", "1", "--baseline", "padded", "--no-check", "--out", str(out)]
        call(["bench", "--system", *systems, *how])
        found = [read_record(out / str(n) / "bench.json") for n in range(len(systems))]
        shutil.rmtree(out)
        return [_speed_up(one) for one in found[1:]]


def _speed_up(record: Record) -> float:
    return round(record.part("times_padded").get("median", a_number), 3)


def measure_dense(exp: Path, engine: str) -> None:
    """Tune, and write the cell of the dense LM."""
    measured = Measurement(exp, engine)
    measured.tune(exp / DENSE)
    cell: dict[str, Any] = {
        "name": DENSE,
        "kind": DENSE,
        "sparsity": 0.0,
        "bytes": (exp / DENSE / WEIGHTS).stat().st_size,
        "nll": measured.nll(open_lm(exp / DENSE, "torch", threads=1)),
        "errors": measured.errors(exp / DENSE),
    }
    if measured.lists:
        cell["times_padded"] = measured.speed([exp / DENSE])[0]
    write_json(exp / "cells" / f"{DENSE}.json", {"cells": [cell]})


def measure_ngram(exp: Path, path: Path, engine: str) -> None:
    """Write the cell of an n-gram LM, which stands beside the others, under the dense LM's score
    weights."""
    measured = Measurement(exp, engine)
    cell = {
        "name": path.name,
        "kind": "ngram",
        "sparsity": 0.0,
        "bytes": path.stat().st_size,
        "nll": measured.nll(open_lm(path)),
        "errors": measured.errors(path),
    }
    write_json(exp / "cells" / "ngram.json", {"cells": [cell]})


def execute(run: Run, study: Study, exp: Path, engine: str) -> None:
    """Prune, measure each size, write ``cells/NAME.json`` and drop the weights."""
    done = exp / "cells" / f"{run.name}.json"
    settings = settings_of(run, study, exp, engine)
    if done.exists() and read_record(done).get("made_with", an_object) == settings:
        log.info("done before: %s", run.name)
        return
    tokens = trained_tokens(exp)
    out = exp / "families" / f"{run.name}-{content_sum(settings)}"
    if not out.exists():
        words = ["prune", "--lm", str(exp / DENSE), "--data", str(exp / "data")]
        words += ["--method", run.method, "--criterion", run.criterion, "--schedule", run.schedule]
        words += ["--sparsity", ",".join(f"{one:g}" for one in run.sparsities)]
        words += ["--fine-tune-tokens", str(round(run.budget * tokens)), "--seed", str(run.seed)]
        words += ["--statistics-tokens", str(study.statistics_tokens), "--threads", "1"]
        for setting in study.settings:
            words += ["--set", setting]
        call([*words, "--out", str(out)])
    family = read_record(out / FAMILY)
    seconds = max(one.get("wall_s", an_amount) for one in family.parts("members"))
    measured = Measurement(exp, engine)
    folders = [out / one.get("folder", a_label) for one in family.parts("members")]
    cells = []
    for member, folder in zip(family.parts("members"), folders):
        name = run.name
        if len(run.sparsities) > 1:
            name += f"-{run.kind.split()[-1]}-{member.get('asked', a_number):g}"
        cell: dict[str, Any] = {
            "name": name,
            "kind": "scratch" if run.method == "scratch" else "pruned",
            "method": run.method,
            "criterion": run.criterion,
            "schedule": run.kind,
            "sparsity": member.get("asked", a_number),
            "budget": run.budget,
            "tokens": member.get("tokens", a_count),
            "seed": run.seed,
            "bytes": member.get("bytes", a_count),
            "seconds": round(seconds, 1),
            "nll": measured.nll(open_lm(folder, "torch", threads=1)),
        }
        if run.budget > 0.0:
            cell["errors"] = measured.errors(folder)
        cells.append(cell)
    if measured.lists and run.criterion == study.timed and run.budget > 0.0:
        for cell, value in zip(cells, measured.speed(folders)):
            cell["times_padded"] = value
    write_json(done, {"made_with": settings, "cells": cells})
    shutil.rmtree(out)


def settings_of(run: Run, study: Study, exp: Path, engine: str) -> dict[str, Any]:
    """All that a run's figures depend on beside its name and the version."""
    return {
        "sparsities": list(run.sparsities),
        "statistics_tokens": study.statistics_tokens,
        "set": list(study.settings),
        "engine": engine,
        "study": study_of(exp),
    }


def study_of(exp: Path) -> dict[str, Any]:
    """What all cells of a study share: the dense LM, the score weights, and hashes of the data."""
    files = [exp / "heldout.txt", exp / "data/data.json", *sorted((exp / "lists").glob("*.gz"))]
    return {
        "dense": read_record(exp / DENSE / CONFIG).get("weights_sha256", a_label),
        "weights": read_record(exp / TUNING).values,
        "files": {str(path.relative_to(exp)): sha256(path) for path in files},
    }


def content_sum(settings: Mapping[str, Any]) -> str:
    """Some digits that tell settings apart."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def trained_tokens(exp: Path) -> int:
    """Tokens that the dense LM was trained on."""
    made = read_record(exp / DENSE / CONFIG).part("provenance")
    return made.part("training").get("tokens", a_count)


def collect(name: str, exp: Path, facts: Mapping[str, str]) -> dict[str, Any]:
    """The entry of the LM in a results file."""
    measured = Measurement(exp, "torch")
    first = {DENSE: 0, "ngram": 1}
    files = sorted(
        (exp / "cells").glob("*.json"), key=lambda path: (first.get(path.stem, 2), path.stem)
    )
    now, cells = study_of(exp), []
    for record in map(read_record, files):
        made_with = record.find("made_with", an_object)
        if made_with is not None and made_with.get("study") != now:
            log.info("left out, of another dense LM, text or lists: %s", record.path)
            continue
        cells += record.get("cells", a_list)
    model = load_checkpoint(exp / DENSE).model
    shape = model.shape
    blocks = [sum(len(line.split()) + 1 for line in block) for block in measured.blocks]
    return {
        "name": name,
        "facts": dict(facts),
        "shape": {
            "d_model": shape.d_model,
            "n_layers": len(shape.blocks),
            "vocab_size": shape.vocab_size,
            "parameters": count_parameters(model),
        },
        "training_tokens": trained_tokens(exp),
        "lists": [list_entry(*item) for item in measured.lists.items()],
        "text": {"name": "held-out", "words": blocks},
        "cells": cells,
    }


def list_entry(name: str, lists: Sequence[NBest]) -> dict[str, Any]:
    """What a list holds without an LM."""
    first = {one.utt: one.hyps[0].text for one in lists}
    oracle = [min(count_errors(str(o.ref), h.text).errors for h in o.hyps) for o in lists]
    return {
        "name": name,
        "utts": len(lists),
        "words": [len(str(one.ref).split()) for one in lists],
        "first_pass_errors": errors_of(lists, first),
        "oracle_errors": oracle,
    }


def add_entry(out: Path, entry: dict[str, Any], command: str) -> None:
    """Put the entry of an LM in a results file, in the place of its former one."""
    others = []
    if out.exists():
        old = read_record(out).check_format(FORMAT, VERSION, "results of a study")
        others = [one for one in old.get("lms", a_list) if one["name"] != entry["name"]]
    made, machine = provenance([command]), describe_machine()
    told = [machine["processor"], *machine["flags"], f"{machine['cores']} cores"]
    facts = {
        "machine": ", ".join(told),
        "commit": made["commit"],
        "versions": f"python {made['python']}, torch {made['torch']}, numpy {made['numpy']}",
        "date": made["time_utc"][:10],
    }
    entry["facts"] |= facts
    lms = sorted([*others, entry], key=lambda one: str(one["name"]))
    with write_text(out) as stream:
        stream.write(compact({"format": FORMAT, "version": VERSION, "lms": lms}) + "\n")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("list", "dense", "ngram", "run", "collect"):
        verb = verbs.add_parser(name)
        if name in ("list", "run"):
            verb.add_argument("--grid", type=Path, required=True, help="grid file")
        if name != "list":
            verb.add_argument("--exp", type=Path, required=True, help="folder of the study")
        if name in ("dense", "ngram", "run"):
            verb.add_argument("--engine", default="torch", help="that scores the lists")
    verbs.choices["run"].add_argument("run", metavar="NAME", help="of a line of list")
    verbs.choices["ngram"].add_argument("lm", type=Path, help="ARPA or KenLM file")
    verbs.choices["collect"].add_argument("--name", required=True, help="of the LM")
    verbs.choices["collect"].add_argument("--out", type=Path, required=True, help="results file")
    verbs.choices["collect"].add_argument(
        "--fact", nargs="+", default=[], metavar="LABEL=TEXT", help="stated for the page"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Do one step. Returns the exit status: 0 done, 1 bad data."""
    args = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        if args.verb in ("list", "run"):
            study = read_study(args.grid)
        if args.verb == "list":
            for run in study.runs:
                print(run.name, ",".join(f"{one:g}" for one in run.sparsities))
        elif args.verb == "dense":
            measure_dense(args.exp, args.engine)
        elif args.verb == "ngram":
            measure_ngram(args.exp, args.lm, args.engine)
        elif args.verb == "run":
            named = {run.name: run for run in study.runs}
            if args.run not in named:
                raise InputError(args.grid, None, f"no run {args.run}", "a name that list prints")
            execute(named[args.run], study, args.exp, args.engine)
        else:
            facts = dict(one.split("=", 1) for one in args.fact)
            add_entry(args.out, collect(args.name, args.exp, facts), " ".join(sys.argv))
    except (InputError, ValueError) as problem:
        print(f"run_study: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
