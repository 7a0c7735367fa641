"""What tuning found, in lines for a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from asrprune.core.units import COUNTED, RATES, WORD
from asrprune.rescore.tuning.parts import WITH_LM, Part
from asrprune.rescore.tuning.tune import Tuned


def described(found: Tuned, lms: Sequence[str], unit: str = WORD) -> list[str]:
    """What each part brings, the WER on dev and on its held-out halves (CER or MER where errors
    were counted in another ``unit``), and each weight with its interval."""
    lines = _parts(found.parts, unit)
    lines += [
        f"dev {RATES[unit]} {found.wer_percent:.2f}, {found.start_wer_percent:.2f} without LM "
        f"({found.utterances} utterances, {found.words} {COUNTED[unit]})"
    ]
    if found.held_out_errors:
        chosen = "the centre" if found.strength is None else f"a pull of {found.strength:g}"
        percent = {
            name: f"{name} {100.0 * errors / found.words:.2f}"
            for name, errors in found.held_out_errors.items()
        }
        shown = ", ".join(percent.values())
        lines.append(f"held-out halves of dev, {RATES[unit]}: {shown}; taken: {chosen}")
    weights = found.weights
    rows = [("acoustic", weights.acoustic), ("first-pass LM", weights.first_lm)]
    rows += list(zip(lms, weights.lm))
    rows.append(("word bonus", weights.word_bonus))
    if found.intervals is None:
        return [*lines, "weights: " + ", ".join(f"{name} {value:.4g}" for name, value in rows)]
    low, high = found.intervals.low, found.intervals.high
    lows = [low.acoustic, low.first_lm, *low.lm, low.word_bonus]
    highs = [high.acoustic, high.first_lm, *high.lm, high.word_bonus]
    texts = [
        f"{name} {value:.4g}" if first == last else f"{name} {value:.4g} [{first:.4g}, {last:.4g}]"
        for (name, value), first, last in zip(rows, lows, highs)
    ]
    return [*lines, "weights [95 %]: " + ", ".join(texts)]


def _errors(unit: str) -> str:
    """What errors in the unit are called.

    >>> _errors("char")
    'character errors'
    """
    return f"{COUNTED[unit][:-1]} errors"


def _parts(parts: Sequence[Part], unit: str) -> list[str]:
    """A line a part: errors on dev and held-out ones, and what it removes of the latter."""
    lines = []
    for part in parts:
        text = f"{part.name}: {part.errors} {_errors(unit)} on dev, {part.held_out:.1f} held out"
        if part is not parts[0]:
            change, by = ("removes", part.gain) if part.gain >= 0 else ("adds", -part.gain)
            text += f", {change} {by:.1f} +- {part.doubt:.1f}"
        lines.append(text)
    return lines


def warning(found: Tuned, unit: str = WORD) -> Optional[str]:
    """What is to be said of an LM that held-out halves of dev do not speak for; None of one that
    they do, or where they were not asked."""
    if not found.parts or found.parts[-1].helps:
        return None
    share = found.parts[-1]
    if share.gain > 0:
        text = (
            f"the LM removes {share.gain:.1f} expected {_errors(unit)} on held-out halves of dev, "
            f"where {share.doubt:.1f} may be chance"
        )
    else:
        text = "the LM removes no errors on held-out halves of dev"
    if found.taken == WITH_LM:
        return f"{text}: do not expect it to on test"
    kept = "those of the start" if found.taken == found.parts[0].name else "tuned without it"
    return f"{text}: it gets weight 0, the other weights are {kept} (--no-fallback: keep it)"
