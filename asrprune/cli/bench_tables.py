"""What ``asrprune bench`` prints of its figures: one LM with its comparison, or one line an LM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def one_table(figures: Mapping[str, Any]) -> str:
    """The systems of one LM's figures, and how its scores agree with the reference's."""
    facts = [f"{key} {figures[key]}" for key in ("engine", "device", "threads")]
    if figures["note"]:
        facts.append(figures["note"])
    if "parameters" in figures:
        facts.append(f"{figures['parameters'] / 1e6:.2f} M parameters")
    facts.append(f"{figures['size_bytes'] / 1e6:.2f} MB")
    facts.append(f"peak memory {figures['peak_rss_bytes'] / 1e6:.0f} MB")
    lines = [", ".join(facts)]
    lines.append(
        f"{'system':<20} {'wall s':>8} {'LM RTF':>9} {'tokens/s':>9} {'unique':>7} {'x':>6}"
    )
    for row in figures["systems"]:
        unique = "-" if row["unique_ratio"] is None else f"{row['unique_ratio']:.3f}"
        lines.append(
            f"{row['name']:<20} {row['wall_s']:>8.3f} {_rtf(row):>9} {_speed(row):>9} "
            f"{unique:>7} {row['speed_up']:>6.2f}"
        )
    lines.append(_repeats(figures))
    if "agreement" in figures:
        lines += _agreement_lines(figures["agreement"])
    return "\n".join(lines) + "\n"


def many_table(every: Mapping[str, Mapping[str, Any]]) -> str:
    """One line a system, from name -> figures, and one on the agreement of all scores."""
    width = max(map(len, ("system", *every)))
    first = next(iter(every.values()))
    heads = f"{'engine':<13} {'MB':>9} {'wall s':>9} {'LM RTF':>9} {'tokens/s':>9}"
    padded = first.get("times_padded")
    lines = [f"{'system':<{width}} {heads}{'' if padded is None else '  x padded [min, max]'}"]
    for name, figures in every.items():
        row = figures["systems"][0]
        engine, size = figures["engine"] or "kenlm", figures["size_bytes"] / 1e6
        line = (
            f"{name:<{width}} {engine:<13} {size:>9.2f} {row['wall_s']:>9.3f} "
            f"{_rtf(row):>9} {_speed(row):>9}"
        )
        if padded is not None:
            times = figures["times_padded"]
            line += f"  {times['median']:>8.2f} [{times['min']:.2f}, {times['max']:.2f}]"
        lines.append(line)
    lines.append(f"{_repeats(first)}, {len(first['turns'])} systems in turns")
    if padded is not None:
        wall_s = first["systems"][1]["wall_s"]
        lines.append(
            f"x padded: times as fast as the padded fp32 batch of {padded['lm']} "
            f"({wall_s:.3f} s), within the same turn"
        )
    checked = {name: one["agreement"] for name, one in every.items() if "agreement" in one}
    if checked:
        worst = max(checked, key=lambda name: checked[name]["max_difference"])
        lines.append(
            f"scores of {len(checked)} systems against the same LM in fp32 torch: |difference| of "
            f"ln P at most {checked[worst]['max_difference']:.2g} ({worst}); another best "
            f"hypothesis in {sum(one['changed_best'] for one in checked.values())} of "
            f"{sum(one['lists'] for one in checked.values())} lists"
        )
    return "\n".join(lines) + "\n"


def engines_table(figures: Mapping[str, Any]) -> str:
    """One line an engine, and what could not be opened."""
    rows = figures["engines"]
    checked = [row for row in rows if "agreement" in row]
    head = f"{'engine':<14} {'accuracy':<8} {'tokens/s':>9}  x padded [min, max]"
    if checked:
        head += f"  {'ln P off':>8} {'at most':>8} {'other best':>10}"
    with_wer = bool(checked) and checked[0]["agreement"]["wer"] is not None
    head += "  WER change [95 %]    " if with_wer else ""
    lines = [f"{head} {'peak MB':>8} {'opened s':>8}"]
    for row in rows:
        times = row["times_padded"]
        span = f"[{times['min']:.2f}, {times['max']:.2f}]"
        line = f"{row['name']:<14} {row['accuracy']:<8} {_speed(row):>9}  "
        line += f"{times['median']:>5.2f} {span:<15}"
        if checked:
            found = row["agreement"]
            share = f"{found['changed_best']}/{found['lists']}"
            line += f" {found['mean_difference']:>8.2g} {found['max_difference']:>8.2g}"
            line += f" {share:>10}"
        if with_wer:
            low, high = row["agreement"]["wer"]["interval"]
            change = row["agreement"]["wer"]["difference_percent"]
            line += f"  {change:+.2f} [{low:+.2f}, {high:+.2f}]".ljust(23)
        lines.append(f"{line} {row['peak_rss_bytes'] / 1e6:>8.0f} {row['opening_s']:>8.2f}")
    for row in rows:
        if row["note"]:
            lines.append(f"{row['name']}: {row['note']}")
    for name, reason in figures["unavailable"].items():
        lines.append(f"{name}: not available: {reason}")
    runs = len(figures["padded"]["runs_s"])
    lines.append(
        f"{figures['lm']}, {figures['device']}, {figures['threads']} threads; median of {runs} "
        f"runs in turns after {figures['warmup']} for warm-up; padded: batches in fp32 torch, "
        f"{_speed(figures['padded'])} tokens/s; ln P off: mean |difference| from them; memory and "
        "opening: of a process of its own"
    )
    return "\n".join(lines) + "\n"


def _rtf(row: Mapping[str, Any]) -> str:
    return "unknown" if row["rtf"] is None else f"{row['rtf']:.5f}"


def _speed(row: Mapping[str, Any]) -> str:
    return "-" if not row["tokens"] else f"{row['tokens_per_s']:.0f}"


def _repeats(figures: Mapping[str, Any]) -> str:
    runs = len(figures["systems"][0]["runs_s"])
    return f"median of {runs} runs after {figures['warmup']} for warm-up"


def _agreement_lines(found: dict[str, Any]) -> list[str]:
    ranked = "LM score" if found["wer"] is None else "total"
    lines = [
        f"against {found['reference']} in fp32: |difference| of ln P at most "
        f"{found['max_difference']:.2g}, {found['mean_difference']:.2g} on average "
        f"(bias {found['bias']:+.2g}) over {found['hypotheses']} hypotheses",
        f"by {ranked}: another best hypothesis in {found['changed_best']} of {found['lists']} "
        f"lists, another rank for {found['moved']} hypotheses",
    ]
    if found["wer"] is not None:
        first, second, interval = (found["wer"][key] for key in ("first", "second", "interval"))
        lines.append(
            f"WER {first['wer_percent']:.2f} -> {second['wer_percent']:.2f}, difference "
            f"{found['wer']['difference_percent']:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]"
        )
    return lines
