"""The sections on LMs: what was removed from them, and how they learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from asrprune.report.lines import Curve, curves_figure
from asrprune.report.lm_files import LmReading, StepReading
from asrprune.report.maps import rank_map, removed_map, scale, unit_map
from asrprune.report.page import Section, small

SHOWN = 6
"""So many maps are shown at once; the others are folded."""
MOST_CURVES = 24


def lm_sections(lms: Mapping[str, LmReading]) -> list[Section]:
    """Maps and learning curves of the LMs (name -> reading), as far as their files have them."""
    return [*removed_section(lms), *curves_section(lms)]


def removed_section(lms: Mapping[str, LmReading]) -> list[Section]:
    """The maps; none without a member of a family."""
    removed, ranks, units = [], [], []
    for name, lm in lms.items():
        if lm.member is None or lm.shape is None:
            continue
        removed.append(removed_map(name, lm.member.matrices))
        ranks.append(rank_map(name, lm.shape, lm.member.matrices))
        parent = lm.family.parent_shape if lm.family is not None else None
        units.append(unit_map(name, lm.shape, parent) if parent is not None else "")
    if not removed:
        return []
    body = small(
        "Percentage of each matrix's parameters that is gone, against the dense LM that pruning "
        "began with: blocks from the input (0) down, matrices across."
    )
    body += scale() + _folding(removed)
    if any(ranks):
        body += "<h3>Ranks</h3>" + small(
            "Rank of each factored matrix; the darker, the farther below its smaller side. A "
            "matrix that would not shrink stays full."
        )
        body += _folding(ranks)
    if any(units):
        body += "<h3>Heads and neurons</h3>" + small("Left in each block, of those of the parent.")
        body += _folding(units)
    return [Section("removed", "What was removed", body)]


def _folding(maps: Sequence[str]) -> str:
    there = [one for one in maps if one]
    text = f'<div class="maps">{"".join(there[:SHOWN])}</div>'
    rest = there[SHOWN:]
    if rest:
        folded = f'<div class="maps">{"".join(rest)}</div>'
        text += f"<details><summary>{len(rest)} more</summary>{folded}</details>"
    return text


def curves_section(lms: Mapping[str, LmReading]) -> list[Section]:
    """Training of each LM whose log is there, and fine-tuning of the pruned ones; none without."""
    logs = {name: lm.training for name, lm in lms.items() if lm.training is not None}
    losses = [Curve(name, log.losses) for name, log in logs.items() if len(log.losses) > 1]
    valid = [Curve(name, log.valid) for name, log in logs.items() if len(log.valid) > 1]
    tuned = fine_tuning_curves(lms)
    parts = []
    if losses:
        figure = curves_figure(losses[:MOST_CURVES], "tokens", "training loss, nats per token")
        parts.append(("Training loss", figure))
    if valid:
        figure = curves_figure(valid[:MOST_CURVES], "tokens", "perplexity per token, valid set")
        parts.append(("Validation", figure))
    if tuned:
        figure = curves_figure(tuned[:MOST_CURVES], "tokens of fine-tuning", "loss, nats per token")
        parts.append(("Fine-tuning while pruning", figure))
    if not parts:
        return []
    body = '<div class="plots">'
    body += "".join(f"<div><h3>{heading}</h3>{figure}</div>" for heading, figure in parts)
    body += "</div>"
    if tuned:
        body += small(
            "A mark below a curve is a pruning step, after which the loss jumps. With distillation "
            "the loss is a mixture of that of the text and the distance to the teacher."
        )
    if max(len(one) for one in (losses, valid, tuned)) > MOST_CURVES:
        body += small(f"The first {MOST_CURVES} curves are drawn.")
    return [Section("curves", "Learning curves", body)]


def fine_tuning_curves(lms: Mapping[str, LmReading]) -> list[Curve]:
    """One curve an LM, but none for one whose steps are the first ones of another's: the larger
    members of a family."""
    steps = {name: lm.steps for name, lm in lms.items() if any(one.losses for one in lm.steps)}
    found = []
    for name, own in steps.items():
        if any(len(other) > len(own) and other[: len(own)] == own for other in steps.values()):
            continue
        curve = _fine_tuning(name, own)
        found += [] if curve is None else [curve]
    return found


def _fine_tuning(name: str, steps: Sequence[StepReading]) -> Optional[Curve]:
    points: list[tuple[float, float]] = []
    breaks, done = [], 0
    for step in steps:
        if step.losses:
            breaks.append(float(done))
        points += [(done + tokens, loss) for tokens, loss in step.losses]
        done += step.tokens
    return Curve(name, points, breaks) if len(points) > 1 else None
