"""The page of a family of ``prune``: size against perplexity, what was removed, how it learnt."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from asrprune.files import PathLike, write_text
from asrprune.report.budgets import SIZES
from asrprune.report.front import TOLERANCE
from asrprune.report.lm_files import FamilyReading, read_family, read_lm
from asrprune.report.lm_sections import lm_sections
from asrprune.report.page import Section, facts_list, scrolling, small, whole_page
from asrprune.report.pareto import pareto_figure
from asrprune.report.rows import SystemRow
from asrprune.report.tables import megabytes, plain_table

PAGE = "index.html"
PARENT = "parent"


def write_family_page(folder: PathLike) -> None:
    """Write the page of the family in ``folder`` beside its family.json. The same family gives the
    same page."""
    family = read_family(folder)
    names = [f"{family.method} {member.asked:g}" for member in family.members]
    places = [member.folder for member in family.members]  # all the same of an elastic LM
    firsts = dict(reversed(list(zip(places, names))))
    lms = {firsts[place]: read_lm(Path(folder) / place) for place in dict.fromkeys(places)}
    rows = _rows(family, names)
    parts = [Section("systems", "Sizes", _table(rows, family))]
    figure = pareto_figure(rows, "token-ppl-size", PARENT)
    if figure is not None:
        parts.insert(0, Section("plots", "Cost", f'<div class="plots">{figure}</div>'))
    parts += lm_sections(lms)
    parts.append(Section("made", "How this was made", facts_list(family.made)))
    title = f"{family.method}, {family.criterion}, {family.schedule}"
    with write_text(Path(folder) / PAGE) as stream:
        stream.write(whole_page(title, _first_screen(family), parts))


def _rows(family: FamilyReading, names: Sequence[str]) -> list[SystemRow]:
    """The parent and the members as rows of a plot, their perplexity that of tokens."""
    parent = SystemRow(
        PARENT,
        "dense",
        nonzero=family.parent_nonzero,
        size_bytes=family.parent_bytes,
        ppl_word=family.parent_perplexity,
    )
    axes = family.criterion, family.method, family.schedule
    members = [
        SystemRow(
            name,
            "pruned",
            *axes,
            member.measured,
            nonzero=member.nonzero,
            size_bytes=member.size_bytes,
            ppl_word=member.perplexity,
        )
        for name, member in zip(names, family.members)
    ]
    return [parent, *members]


def _first_screen(family: FamilyReading) -> str:
    """What was asked, and what each size costs."""
    sizes = len(family.members)
    parent = family.made.get("parent", "the parent")
    tokens = family.fine_tune_tokens
    asked = (
        f"{sizes} size{'s' * (sizes != 1)} of {parent} ({megabytes(family.parent_bytes)} MB), "
        + ("not fine-tuned." if not tokens else f"{tokens:,} tokens of fine-tuning a run.")
    )
    parts = [f'<p class="asked">{html.escape(asked)}</p>']
    said = _verdict(family)
    if said:
        parts.append(f'<p class="verdict">{html.escape(said)}</p>')
    parts.append(
        small("Perplexity is not WER: asrprune sweep and asrprune report judge by rescoring.")
    )
    return "\n".join(parts)


def _verdict(family: FamilyReading) -> str:
    """The lowest perplexity at half, a quarter and a tenth of the size; "" where it is unknown."""
    before = family.parent_perplexity
    known = [(one, one.perplexity) for one in family.members if one.perplexity is not None]
    if not before or not known:
        return ""
    found: dict[str, str] = {}
    for name, part in SIZES:
        limit = part * (1 + TOLERANCE) * family.parent_bytes
        fitting = [(value, one.asked) for one, value in known if one.size_bytes <= limit]
        if fitting:
            value, asked = min(fitting)
            change = f"{100 * (value / before - 1):+.1f} %"
            found.setdefault(f"{asked:g}", f"at {name} {value:.1f} ({change}, sparsity {asked:g})")
    if not found:
        one, value = known[-1]
        part = one.size_bytes / family.parent_bytes
        found["smallest"] = f"at {part:.0%} of the size {value:.1f}"
    return f"Perplexity per token {before:.1f}: {'; '.join(found.values())}."


def _table(rows: Sequence[SystemRow], family: FamilyReading) -> str:
    heading = ["system", "asked", "measured", "params (M)", "non-zero (M)", "MB"]
    heading += ["ppl before fine-tuning", "ppl", "tokens", "note"]
    parent = [PARENT, "", "", f"{family.parent_parameters / 1e6:.3f}", _millions(rows[0].nonzero)]
    parent += [megabytes(family.parent_bytes), "", _rounded(family.parent_perplexity), "", ""]
    lines = [parent]
    for row, one in zip(rows[1:], family.members):
        note = "smaller matrices" if one.faster else "sparse, not faster"
        lines.append(
            [
                row.name,
                f"{one.asked:g}",
                f"{one.measured:.3f}",
                _millions(one.parameters),
                _millions(one.nonzero),
                megabytes(one.size_bytes),
                _rounded(one.perplexity_pruned),
                _rounded(one.perplexity),
                f"{one.tokens:,}",
                note if one.tokens else f"{note}; not fine-tuned",
            ]
        )
    marks = [f'id="row-{number}"' for number in range(len(lines))]
    marks[0] += ' class="base"'
    text = scrolling(plain_table(heading, lines, marks))
    return text + small(
        "Sparsity is the fraction of prunable parameters removed, measured in the saved file; MB "
        "is that file. Perplexity is per token of the valid set; tokens were spent on fine-tuning "
        "from the parent to this size."
    )


def _millions(count: Optional[int]) -> str:
    return "" if count is None else f"{count / 1e6:.3f}"


def _rounded(value: Optional[float]) -> str:
    return "" if value is None else f"{value:.2f}"
