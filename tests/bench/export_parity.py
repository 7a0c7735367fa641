"""Exported LMs against their checkpoints: largest difference of a score, size of the file.

    python tests/bench/export_parity.py [--width 128] [--layers 4]

Every architecture, dense and pruned to half by each kind of method, in every number format,
through every exporter and form ("refused": what the partner cannot express). The LMs have drawn
weights: what is compared is arithmetic. Differences are those that ``asrprune export`` finds, in
nats; for other formats than float32 against the LM with the same rounded weights. Sizes are shares
of the dense float32 file, beside the share of parameters that is left.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from asrprune.api.pruning import prune_lm
from asrprune.errors import InputError
from asrprune.exchange.exporters.exporter import Request
from asrprune.exchange.exporters.table import EXPORTERS
from asrprune.lm.model.checkpoint import Checkpoint, load_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import count_parameters
from tests.exchange.pruned_shapes import SENTENCES, save_transducer_lm

METHODS = {"dense": None, "structured": "structured", "low rank": "low-rank", "width": "width"}
POSITIONS = 64


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    return parser.parse_args()


def lms(args: argparse.Namespace, folder: Path) -> dict[tuple[str, str], Checkpoint]:
    """(architecture, kind) -> LM."""
    made = {}
    for architecture in ("gpt2", "llama"):
        kv_heads = 2 if architecture == "llama" else None
        shape = ModelShape.uniform(
            1, args.width, args.layers, 4, None, POSITIONS, 0.0,
            architecture=architecture, kv_heads=kv_heads,
        )  # fmt: skip
        (folder / architecture).mkdir()
        dense = load_checkpoint(save_transducer_lm(folder / architecture, shape))
        for kind, method in METHODS.items():
            if method is None:
                made[architecture, kind] = dense
                continue
            (half,) = prune_lm(
                dense, SENTENCES * 8, "magnitude", method, "one-shot", (0.5,), fine_tune_tokens=0
            )
            made[architecture, kind] = half
    return made


def main() -> None:
    args = parse()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = lms(args, folder)
        columns = [(to, form) for to, one in EXPORTERS.items() for form in one.forms]
        heads = [f"{to} {form}" for to, form in columns]
        print(f"| LM | parameters | {' | '.join(heads)} |")
        print(f"|---|---|{'---|' * len(columns)}")
        whole: dict[tuple[str, str, str], int] = {}
        every = dict.fromkeys(name for one in EXPORTERS.values() for name in one.numbers)
        for numbers in every:
            for (architecture, kind), lm in table.items():
                dense = count_parameters(table[architecture, "dense"].model)
                cells = []
                for to, form in columns:
                    if numbers not in EXPORTERS[to].numbers:
                        cells.append("")
                        continue
                    request = Request(
                        lm=folder, model=lm.model, tokenizer=lm.tokenizer(),
                        tokenizer_path=lm.tokenizer_path, lm_digest="", form=form,
                        numbers=numbers, tokens=folder / architecture / "tokens.txt",
                    )  # fmt: skip
                    try:
                        written = EXPORTERS[to].write(request, folder / f"out.{to}")
                    except InputError:
                        cells.append("refused")
                        continue
                    size = whole.setdefault((architecture, to, form), written.size_bytes)
                    cells.append(f"{written.largest:.1e} · {written.size_bytes / size:.2f}")
                share = count_parameters(lm.model) / dense
                print(f"| {architecture} {kind}, {numbers} | {share:.2f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
