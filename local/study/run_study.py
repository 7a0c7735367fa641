"""One run of a study at a time: prune, measure every size, keep the numbers and drop the weights.

    python local/study/run_study.py list --grid recipes/study/conf/grid.json
    python local/study/run_study.py dense --exp exp/study
    python local/study/run_study.py ngram exp/study/ngram.arpa --exp exp/study
    python local/study/run_study.py scratch recipes/study/conf/train-half.json --exp exp/study
    python local/study/run_study.py run NAME --grid recipes/study/conf/grid.json --exp exp/study
    python local/study/run_study.py collect --name prose --exp exp/study --out results.json

A folder EXP holds ``dense`` (a checkpoint), ``data`` (of asrprune tokenize), ``heldout.txt``,
``lists/NAME.jsonl.gz`` with references, and ``lattices/NAME`` (of lattice_sets.py). ``dense`` tunes
the score weights of each of those with the
dense LM's scores, each half of the utterances for the other, and writes ``cells/dense.json``; every
run is measured under those weights and writes ``cells/NAME.json``, so that a killed study goes on
where it stood. ``scratch`` trains a small LM by a configuration of ``asrprune train`` and measures
it in the same way. ``collect`` adds all cells of EXP to a results file, in the place of those of
the same LM name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import grid as grids
from grid import CONTINUED, Rates, Run, Study, read_study
from lattice_sets import SEARCH, LatticeSet, read_lattice_sets
from measurement import DENSE, TUNING, Engines, Measurement, errors_of
from results_file import NGRAM, PRUNED, SCRATCH, add_entry

from asrprune.api.lms import load_checkpoint, open_lm, save_checkpoint
from asrprune.cli.main import call
from asrprune.core.hypothesis import NBest
from asrprune.core.record import (
    Record,
    a_count,
    a_label,
    a_list,
    a_number,
    an_amount,
    an_object,
    read_record,
)
from asrprune.errors import InputError
from asrprune.files import sha256, write_json
from asrprune.lm.model.checkpoint import CONFIG, WEIGHTS
from asrprune.lm.model.transformer import count_parameters
from asrprune.prune.run.family import ELASTIC, FAMILY
from asrprune.wer.wer import count_errors

log = logging.getLogger(__name__)

DATA = "data/data.json"
COMMON = ("statistics_tokens", "set", "rates")
"""The settings that all runs of a grid share."""


def measure_dense(exp: Path, engines: Engines) -> None:
    """Tune, and write the cell of the dense LM."""
    measured = Measurement(exp, engines)
    measured.tune(exp / DENSE)
    cell: dict[str, Any] = {
        "name": DENSE,
        "kind": DENSE,
        "sparsity": 0.0,
        "bytes": weights_bytes(exp / DENSE),
        "nll": measured.nll(open_lm(exp / DENSE, "torch", threads=1)),
        "errors": measured.errors(exp / DENSE),
    }
    if measured.lists:
        cell["times_padded"] = measured.speed([exp / DENSE])[0]["times_padded"]
    write_json(exp / "cells" / f"{DENSE}.json", {"cells": [cell]})


def measure_ngrams(exp: Path, paths: Sequence[Path]) -> None:
    """Write the cells of n-gram LMs, which stand beside the others, under the dense LM's score
    weights."""
    measured = Measurement(exp, Engines())
    cells = [
        {
            "name": path.name,
            "kind": NGRAM,
            "sparsity": 0.0,
            "bytes": path.stat().st_size,
            "nll": measured.nll(open_lm(path)),
            "errors": measured.errors(path),
        }
        for path in paths
    ]
    write_json(exp / "cells" / "ngram.json", {"cells": cells})


def measure_scratch(exp: Path, config: Path, engines: Engines) -> None:
    """Train a small LM from scratch, measure it, write ``cells/scratch-NAME.json`` and drop the
    weights. Configurations that differ in their seed alone are seeds of one plan."""
    name = f"scratch-{config.stem}"
    done = exp / "cells" / f"{name}.json"
    record = read_record(config)
    settings = {"config": record.values, "study": study_of(exp)} | engines.settings()
    if is_done(done, settings):
        return
    out = exp / "scratch" / f"{name}-{content_sum(settings)}"
    if not out.exists():
        words = ["train", "--data", str(exp / "data"), "--config", str(config)]
        call([*words, "--threads", "1", "--out", str(out)])
    measured, size, tokens = Measurement(exp, engines), weights_bytes(out), trained_tokens(out, exp)
    seed, asked = record.find("seed", a_count), record.find("max_tokens", a_count) or tokens
    cell: dict[str, Any] = {
        "name": name,
        "kind": SCRATCH,
        "method": SCRATCH,  # no criterion: all sizes are of one way of training
        "sparsity": round(1.0 - size / weights_bytes(exp / DENSE), 4),
        # of what was asked: batches of one seed hold a little more than those of another
        "budget": round(asked / trained_tokens(exp / DENSE, exp), 2),
        "tokens": tokens,
        **({} if seed is None else {"seed": seed}),
        "bytes": size,
        "nll": measured.nll(open_lm(out, "torch", threads=1)),
        "errors": measured.errors(out),
    }
    if measured.lists:
        cell |= measured.speed([out])[0]
    write_json(done, {"made_with": settings, "cells": [cell]})
    shutil.rmtree(out)


def is_done(cells: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the file of cells is there, made with these settings; says so."""
    if not cells.exists() or read_record(cells).get("made_with", an_object) != settings:
        return False
    log.info("done before: %s", cells.stem)
    return True


def execute(run: Run, study: Study, exp: Path, engines: Engines) -> None:
    """Prune, measure each size, write ``cells/NAME.json`` and drop the weights."""
    done = exp / "cells" / f"{run.name}.json"
    settings = settings_of(run, study, exp, engines)
    if is_done(done, settings):
        return
    made = exp / "families" / f"{run.name}-{content_sum(settings)}"
    tried = {rate: made / f"rates-{number}" for number, rate in enumerate(run.rates or [None])}
    for rate, folder in tried.items():
        if not folder.exists():
            prune(run, study, exp, rate, folder)
    rate, out = min(tried.items(), key=lambda item: valid_loss(item[1]))
    family = read_record(out / FAMILY)
    seconds = max(one.get("wall_s", an_amount) for one in family.parts("members"))
    measured = Measurement(exp, engines)
    with_words = run.words and run.budget > 0.0
    folders = [member_folder(out, one) for one in family.parts("members")]
    cells = []
    for member, folder in zip(family.parts("members"), folders):
        name = run.name
        if len(run.sparsities) > 1:
            name += f"-{run.kind.split()[-1]}-{member.get('asked', a_number):g}"
        cell: dict[str, Any] = {
            "name": name,
            "kind": run.method if run.method in (SCRATCH, CONTINUED) else PRUNED,
            "method": run.method,
            **({"criterion": run.criterion} if run.criterion else {}),
            "schedule": run.kind,
            "sparsity": member.get("asked", a_number),
            "budget": run.budget,
            "tokens": member.get("tokens", a_count),
            "seed": run.seed,
            "bytes": member.get("bytes", a_count),
            "seconds": round(seconds, 1),
            "nll": measured.nll(open_lm(folder, "torch", threads=1)),
        }
        if with_words:
            cell["errors"] = measured.errors(folder)
        if rate is not None:
            cell["rates"] = rate
        if run.settings:
            cell["set"] = list(run.settings)
        if run.statistics_tokens is not None:
            cell["statistics_tokens"] = run.statistics_tokens
        if run.is_elastic:
            cell["file_bytes"] = weights_bytes(out / ELASTIC)
        cells.append(cell)
    if measured.lists and run.criterion == study.timed and with_words:
        for cell, speeds in zip(cells, measured.speed(folders)):
            cell |= speeds
    write_json(done, {"made_with": settings, "cells": cells})
    shutil.rmtree(made)


def prune(run: Run, study: Study, exp: Path, rates: tuple[float, float] | None, out: Path) -> None:
    """Make all sizes of a run in the folder ``out``, fine-tuned with peak learning ``rates``."""
    tokens = round(run.budget * trained_tokens(exp / DENSE, exp))
    words = ["prune", "--lm", str(exp / DENSE), "--data", str(exp / "data")]
    schedule = "elastic" if run.is_elastic else run.schedule
    if run.method == CONTINUED:  # nothing is pruned, and there is no better LM to learn from
        words += ["--method", "unstructured", "--criterion", "magnitude", "--no-distill"]
    else:
        words += ["--method", grids.on_blocks(run.method), "--criterion", run.criterion]
    words += ["--schedule", schedule]
    words += ["--sparsity", ",".join(f"{one:g}" for one in run.sparsities)]
    words += ["--fine-tune-tokens", str(tokens), "--seed", str(run.seed)]
    words += ["--statistics-tokens", str(study.statistics_of(run.name)), "--threads", "1"]
    settings = study.settings_of(run.name)
    for setting in grids.told(run.method, run.schedule, settings, rates or ()):
        words += ["--set", setting]
    call([*words, "--out", str(out)])


def valid_loss(family: Path) -> float:
    """The mean ln perplexity of a run's sizes on the validation sentences."""
    members = read_record(family / FAMILY).parts("members")
    return fmean(math.log(one.get("perplexity", an_amount)) for one in members)


def member_folder(out: Path, member: Record) -> Path:
    """The checkpoint of a size that a run made; that of an elastic LM is cut out of it."""
    folder, asked = out / member.get("folder", a_label), member.get("asked", a_number)
    if folder.name != ELASTIC:
        return folder
    cut = out / f"cut-{asked:g}"
    return save_checkpoint(cut, load_checkpoint(folder, size=asked))


def settings_of(run: Run, study: Study, exp: Path, engines: Engines) -> dict[str, Any]:
    """All that a run's figures depend on beside its name and the version."""
    own: dict[str, Any] = {
        "sparsities": list(run.sparsities),
        "study": study_of(exp),
        **engines.settings(),
    }
    if not run.words:
        own["words"] = False
    return common_settings(study, run.name, run.rates) | own


def common_settings(study: Study, name: str, rates: Rates) -> dict[str, Any]:
    """What the runs of a grid are made with: that of the run ``name``, with these rates."""
    tried = {"rates": [list(pair) for pair in rates]} if rates else {}
    settings = list(study.settings_of(name))
    return tried | {"statistics_tokens": study.statistics_of(name), "set": settings}


def study_of(exp: Path) -> dict[str, Any]:
    """What all cells of a study share: the dense LM, the score weights, and hashes of the data."""
    files = [exp / "heldout.txt", exp / DATA, *sorted((exp / "lists").glob("*.gz"))]
    for one in read_lattice_sets(exp).values():
        files += one.files()
    return {
        "dense": read_record(exp / DENSE / CONFIG).get("weights_sha256", a_label),
        "weights": read_record(exp / TUNING).values,
        "search": dict(SEARCH),
        "files": {str(path.relative_to(exp)): sha256(path) for path in files},
    }


def content_sum(settings: Mapping[str, Any]) -> str:
    """Some digits that tell settings apart."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def trained_tokens(lm: Path, exp: Path) -> int:
    """Tokens that the LM was trained on; those of the study's text where it was trained elsewhere
    and does not tell."""
    made = read_record(lm / CONFIG).part("provenance")
    if "training" in made.values:
        return made.part("training").get("tokens", a_count)
    return read_record(exp / DATA).part("sets").part("train").get("tokens", a_count)


def weights_bytes(lm: Path) -> int:
    """Of the file of weights."""
    return (lm / WEIGHTS).stat().st_size


def collect(
    name: str, exp: Path, facts: Mapping[str, str], study: Study | None = None
) -> dict[str, Any]:
    """The entry of the LM in a results file. With a ``study`` runs that were made with other
    settings than its are left out, until they are made again."""
    measured = Measurement(exp, Engines())
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
        found = record.get("cells", a_list)
        if study is not None and made_with is not None and "set" in made_with:
            run = Path(record.path).stem
            rates = study.rates_of(run) if found[0]["budget"] else ()
            wanted = common_settings(study, run, rates)
            if {key: made_with.get(key) for key in COMMON} != {
                key: wanted.get(key) for key in COMMON
            }:
                log.info("left out, made with other settings: %s", record.path)
                continue
        cells += found
    model = load_checkpoint(exp / DENSE).model
    shape = model.shape
    blocks = [sum(len(line.split()) + 1 for line in block) for block in measured.blocks]
    made = (
        {"set": list(study.settings), "statistics_tokens": study.statistics_tokens} if study else {}
    )
    return {
        "name": name,
        "facts": dict(facts),
        **made,
        "shape": {
            "d_model": shape.d_model,
            "n_layers": len(shape.blocks),
            "vocab_size": shape.vocab_size,
            "parameters": count_parameters(model),
        },
        "training_tokens": trained_tokens(exp / DENSE, exp),
        "lists": [
            *(lattice_entry(*item) for item in measured.lattices.items()),
            *(list_entry(*item) for item in measured.lists.items()),
        ],
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


def lattice_entry(name: str, lattices: LatticeSet) -> dict[str, Any]:
    """The same of lattices."""
    return {
        "name": name,
        "utts": len(lattices.refs),
        "words": [len(ref.split()) for ref in lattices.refs.values()],
        "first_pass_errors": lattices.first_pass_errors(),
        "oracle_errors": lattices.oracle_errors(),
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name in ("list", "dense", "ngram", "scratch", "run", "collect"):
        verb = verbs.add_parser(name)
        if name in ("list", "run"):
            verb.add_argument("--grid", type=Path, required=True, help="grid file")
        if name != "list":
            verb.add_argument("--exp", type=Path, required=True, help="folder of the study")
        if name in ("dense", "scratch", "run"):
            verb.add_argument("--engine", default="torch", help="that scores the lists")
            verb.add_argument(
                "--lattice-engine",
                choices=("torch", "torch-bf16"),
                default="torch",
                help="that scores the paths of lattices (default: %(default)s)",
            )
    verbs.choices["run"].add_argument("run", metavar="NAME", help="of a line of list")
    verbs.choices["scratch"].add_argument("config", type=Path, help="as asrprune train takes it")
    verbs.choices["ngram"].add_argument("lm", type=Path, nargs="+", help="ARPA or KenLM file")
    verbs.choices["collect"].add_argument("--name", required=True, help="of the LM")
    verbs.choices["collect"].add_argument(
        "--grid", type=Path, help="leave out runs that were made with other settings than its"
    )
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
        if args.verb in ("dense", "scratch", "run"):
            engines = Engines(args.engine, args.lattice_engine)
        if args.verb in ("list", "run"):
            study = read_study(args.grid)
        if args.verb == "list":
            for run in study.runs:
                print(run.name, ",".join(f"{one:g}" for one in run.sparsities))
        elif args.verb == "dense":
            measure_dense(args.exp, engines)
        elif args.verb == "ngram":
            measure_ngrams(args.exp, args.lm)
        elif args.verb == "scratch":
            measure_scratch(args.exp, args.config, engines)
        elif args.verb == "run":
            named = {run.name: run for run in study.runs}
            if args.run not in named:
                raise InputError(args.grid, None, f"no run {args.run}", "a name that list prints")
            execute(named[args.run], study, args.exp, engines)
        else:
            facts = dict(one.split("=", 1) for one in args.fact)
            grid = None if args.grid is None else read_study(args.grid)
            add_entry(args.out, collect(args.name, args.exp, facts, grid), " ".join(sys.argv))
    except (InputError, ValueError) as problem:
        print(f"run_study: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
