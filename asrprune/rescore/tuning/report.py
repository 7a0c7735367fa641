"""What tuning found, in lines for a log."""

from __future__ import annotations

from collections.abc import Sequence

from asrprune.rescore.tuning.tune import Tuned


def described(found: Tuned, lms: Sequence[str]) -> list[str]:
    """The WER on dev and on its held-out halves, and each weight with its interval."""
    lines = [
        f"dev WER {found.wer_percent:.2f}, {found.start_wer_percent:.2f} without LM "
        f"({found.utterances} utterances, {found.words} words)"
    ]
    if found.held_out_errors:
        chosen = "the centre" if found.strength is None else f"a pull of {found.strength:g}"
        percent = {
            name: f"{name} {100.0 * errors / found.words:.2f}"
            for name, errors in found.held_out_errors.items()
        }
        lines.append(f"held-out halves of dev, WER: {', '.join(percent.values())}; taken: {chosen}")
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
