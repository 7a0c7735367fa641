"""One small input of every kind that the verbs read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.firstpass.formats.slf import write_slf_files
from asrprune.rescore.scores_file import UtteranceScores, make_header, write_scores
from tests.exchange.foreign_folders import save_small_foreign
from tests.exchange.pruned_shapes import save_transducer_lm
from tests.small_lm import SENTENCES, save_small_lm
from tests.small_study import save_study

ARPA = (
    "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-0.5\t<unk>\n-0.5\t<s>\t-0.1\n-0.5\t</s>\n"
    "-0.5\ta\t-0.1\n\n\\2-grams:\n-0.2\t<s> a\n\n\\end\\\n"
)


def save_small_inputs(folder: Path) -> dict[str, Path]:
    """Name -> path of the inputs in ``folder``; ``away`` is an empty folder."""
    names = ("text", "ref", "nbest", "scores", "w0", "w1", "slf", "bare", "run", "data", "away")
    files = {name: folder / name for name in names}
    files |= {"lm": save_small_lm(folder), "arpa": folder / "tiny.arpa"}
    files["arpa"].write_text(ARPA)
    files["text"].write_text("".join(f"{text}\n" for text in SENTENCES[:-1]) + "on a mat sits\n")
    files["ref"].write_text("u1 the cat sat\nu2 a cat\n")
    hyps = tuple(Hypothesis(text, -1.0 - n, -2.0) for n, text in enumerate(SENTENCES[:3]))
    lists = [NBest(utt, hyps, 2.0, ref) for utt, ref in (("u1", "the cat sat"), ("u2", "a cat"))]
    write_nbest(files["nbest"], lists)
    scored = [UtteranceScores(one.utt, one.digest, -np.arange(3.0)) for one in lists]
    write_scores(files["scores"], make_header("lm"), scored)
    weights = {"acoustic": 1.0, "first_lm": 0.5, "word_bonus": 0.0}
    files["w0"].write_text(json.dumps({"weights": weights}))
    head = {"format": "asrprune-weights", "version": 1, "lms": ["lm"]}
    files["w1"].write_text(json.dumps({**head, "weights": {**weights, "lm": [1.0]}}))
    arcs = [(0, 1, "the", -1.0, -1.0), (0, 1, "a", -2.0, -1.0), (1, 2, "cat", -1.0, -1.0)]
    lattices = [from_arcs(u, 3, 0, 2, arcs, weights=ScoreWeights(1.0, 0.5)) for u in ("u1", "u2")]
    write_slf_files(files["slf"], lattices)
    write_slf_files(files["bare"], [replace(one, lm=None) for one in lattices])
    files["run"].mkdir()
    (files["run"] / "hyp").write_text(files["ref"].read_text())
    files["away"].mkdir()
    files["study"] = save_study(folder / "study")
    (folder / "transducer").mkdir()
    files["transducer_lm"] = save_transducer_lm(folder / "transducer")
    files["tokens"] = folder / "transducer" / "tokens.txt"
    files["foreign"] = save_small_foreign(folder / "foreign")
    taken = ["--tokenizer", str(files["lm"] / "tokenizer.model"), "--out", str(files["data"])]
    assert main(["tokenize", "--text", str(files["text"]), *taken]) == 0
    for number in (1, 2):
        files[f"part{number}"] = folder / f"part{number}.jsonl"
        taken = ["jsonl", str(files["nbest"]), "--out", str(files[f"part{number}"])]
        assert main(["convert", "--from", "jsonl", "--to", *taken, "--shard", f"{number}/2"]) == 0
    files["imported"] = folder / "imported"
    taken = ["--from", "hugging-face", str(files["foreign"]), "--out", str(files["imported"])]
    assert main(["import", *taken]) == 0
    return files


def save_small_elastic(folder: Path) -> dict[str, Path]:
    """The same, and under "elastic" an elastic LM of the sparsities 0.3 to 0.6."""
    files = save_small_inputs(folder)
    flags = "--method low-rank --schedule elastic --sparsity 0.3,0.6 --fine-tune-tokens 200"
    flags += " --set options.multiple_of=1 --set options.min_rank=1 --device cpu --threads 1"
    flags += " --set fine_tuning.batch_tokens=128"
    where = ["--lm", str(files["lm"]), "--data", str(files["data"]), "--out", str(folder / "out")]
    assert main(["prune", *where, *flags.split()]) == 0
    return {**files, "elastic": folder / "out" / "elastic"}
