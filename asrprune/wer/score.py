"""Scoring of references and hypotheses as files hold them: their form, marks and ids."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Optional, TypeVar

from asrprune.core.spool import SpooledDict
from asrprune.core.units import COUNTED, UNITS
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.wer.form import NORMALISE, ScoringForm
from asrprune.wer.hints import hints
from asrprune.wer.marks import COSTS, Deletable, Marked, is_plain, parse_marks, plain_words
from asrprune.wer.texts import Texts, read_texts, texts_of_ctm
from asrprune.wer.wer import Scoring, score_texts

Item = TypeVar("Item")

SAMPLE = 20_000
"""So many utterances tell whether two sides differ in form."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoringRules:
    """How texts are compared. ``alternations``: braces in references are alternatives (as in trn
    and stm always); ``optional``: words whose deletion is no error, beside those marked (word);
    None: none are, marked or not. ``costs`` of COSTS choose among alignments."""

    form: ScoringForm = field(default_factory=ScoringForm)
    alternations: bool = False
    optional: Optional[frozenset[str]] = None
    costs: str = "equal"

    def described(self) -> tuple[str, ...]:
        """The options that differ from Kaldi's scoring, in the order they work."""
        names = [*self.form.described()]
        names += ["--alternations"] if self.alternations else []
        if self.optional is not None:
            names.append(" ".join(["--optional-words", *sorted(self.optional)]))
        return (*names, *([] if self.costs == "equal" else [f"--edit-costs {self.costs}"]))


@dataclass(frozen=True)
class Prepared:
    """References in their form: ``texts`` (units with single spaces; the first reading of those
    with marks), ``marked`` those that have other readings, ``path`` where they are from.
    ``digits_lost``: words that lost digits to it."""

    path: str
    texts: Mapping[str, str]
    marked: Mapping[str, Marked] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    changed: int = 0
    digits_lost: int = 0

    @property
    def alternatives(self) -> bool:
        """Whether a reference may have more or fewer words in one alignment than in another."""
        return bool(self.marked)


def prepare_refs(refs: Texts, rules: ScoringRules) -> Prepared:
    """The references to score. Raises InputError for marks that do not pair, with the line."""
    form = rules.form
    with_marks = rules.alternations or refs.marked or rules.optional is not None
    if form.is_plain and not with_marks:
        return Prepared(refs.path, refs.texts, ignored=refs.ignored)
    wanted = {form.changed(word) for word in rules.optional or ()}

    def units(text: str) -> list[str]:
        found: list[str] = []
        for word in form.changed(text).split() if wanted else [form.changed(text)]:
            cut = UNITS[form.unit](word)
            found += map(Deletable, cut) if word in wanted else cut
        return found

    texts: SpooledDict[str] = SpooledDict()
    marked: SpooledDict[Marked] = SpooledDict()
    changed = digits_lost = 0
    filtered = form.filtered_refs(refs.texts)
    for (utt, text), before in zip(filtered.items(), refs.texts.values()):
        if not with_marks:
            texts.setdefault(utt, form.text(text))
        else:
            try:
                choices = parse_marks(text.split(), units, rules.optional is not None)
            except ValueError as problem:
                found = f"utterance {utt}: {problem}"
                expected = "alternatives as { a / b c / @ }"
                raise InputError(refs.path, refs.lines.get(utt), found, expected) from None
            texts.setdefault(utt, " ".join(plain_words(choices)))
            if not is_plain(choices):
                marked.setdefault(utt, choices)
        changed += form.changed(text) != before
        digits_lost += form.digits_lost(text)
    return Prepared(refs.path, texts, marked, refs.ignored, changed, digits_lost)


def plain_refs(path: PathLike) -> Prepared:
    """The references of a file in the layout that its lines are in, for a verb without the options
    of ``wer``.

    Raises InputError as ``read_texts`` and ``prepare_refs`` do, and for alternatives.
    """
    texts = read_texts(path, has_option=False)
    refs = prepare_refs(texts, ScoringRules())
    for utt in refs.marked:
        found = f"utterance {utt}: alternatives"
        raise InputError(path, texts.lines.get(utt), found, "plain words, one reading")
    return refs


def prepare_hyps(hyps: Texts, refs: Texts, rules: ScoringRules) -> Prepared:
    """The hypotheses in their form, without those of segments that are not scored.

    Raises InputError for alternatives in a trn or stm of hypotheses.
    """
    texts = texts_of_ctm(hyps, refs) if hyps.format == "ctm" else hyps.texts
    for utt, text in texts.items() if hyps.marked else ():
        if "{" in text.split():
            found = f"utterance {utt}: alternatives in a hypothesis"
            raise InputError(hyps.path, hyps.lines.get(utt), found, "plain words")
    if refs.ignored:
        kept = SpooledDict(pair for pair in texts.items() if pair[0] not in refs.ignored)
        if ignored := len(texts) - len(kept):
            log.info("%s: left out %d utterances that are not scored", hyps.path, ignored)
        texts = kept
    form = rules.form
    if form.is_plain:
        return Prepared(hyps.path, texts)
    formed: SpooledDict[str] = SpooledDict()
    changed = digits_lost = 0
    for (utt, text), before in zip(form.filtered_hyps(texts).items(), texts.values()):
        formed.setdefault(utt, form.text(text))
        changed += form.changed(text) != before
        digits_lost += form.digits_lost(text)
    return Prepared(hyps.path, formed, changed=changed, digits_lost=digits_lost)


def score_prepared(refs: Prepared, hyps: Prepared, rules: ScoringRules, mode: str) -> Scoring:
    """The errors of prepared texts, its utterances on disk; what looks like a difference of form
    is logged as a warning.

    Raises as ``score_texts`` does.
    """
    scoring = score_texts(
        refs.texts,
        hyps.texts,
        mode,
        ref_name=refs.path,
        hyp_name=hyps.path,
        marked=refs.marked,
        costs=COSTS[rules.costs],
        unit=rules.form.unit,
        on_disk=True,
    )
    scored = {one.utt: one.ref for one in sample(scoring.utterances)}
    warn_of_form(scored, hyps.texts, rules.form.unit, hyps.path)
    return scoring


def sample(items: Collection[Item]) -> Iterable[Item]:
    """At most SAMPLE of the items, evenly drawn."""
    return islice(items, 0, None, -(-len(items) // SAMPLE) or 1)


def warn_of_form(
    refs: Mapping[str, str], hyps: Mapping[str, str], unit: str, name: str, scorer: bool = True
) -> tuple[str, ...]:
    """Log the ``hints`` of references and hypotheses (of the file ``name``), and give them back;
    ``scorer`` says whether the verb has the options of ``wer``.

    Of many references a ``sample`` is looked at.
    """
    found = hints({utt: refs[utt] for utt in sample(refs)}, hyps, unit, scorer)
    for hint in found:
        log.warning("%s: %s", name, hint)
    return tuple(found)


def warn_of_digits(form: ScoringForm, refs: int, hyps: int, name: str) -> None:
    """Log that words of references and hypotheses (of the file ``name``) lost digits to the normal
    form, so that wrong numbers are no errors; nothing where none did."""
    if refs or hyps:
        step = next(one for one, _ in form.steps if one.startswith(NORMALISE))
        log.warning(
            "%s: %s drops digits, of %d words of references and %d of hypotheses: wrong numbers are"
            " no errors; write numbers as words first (--filter CMD), or take another --normalise",
            name,
            step,
            refs,
            hyps,
        )


def header(rules: ScoringRules, refs: Prepared, hyps: Collection[Prepared]) -> str:
    """One line that says what was compared and how many texts it changed, with its line end; ""
    for words as they stand."""
    names = rules.described()
    if not names and not refs.marked:
        return ""
    counts = [
        f"{refs.changed} of {len(refs.texts)} references",
        *(f"{one.changed} of {len(one.texts)} hypotheses" for one in hyps),
    ]
    parts = [f"scored {COUNTED[rules.form.unit]}", *names]
    if refs.marked:
        parts.append(f"{len(refs.marked)} references with alternatives or optional words")
    return f"# {'; '.join(parts)}; changed {', '.join(counts)}\n"


def described(rules: ScoringRules, refs: Prepared) -> dict[str, Any]:
    """The same for JSON files."""
    return {
        "unit": rules.form.unit,
        "options": list(rules.described()),
        "edit_costs": rules.costs,
        "marked_references": len(refs.marked),
        "changed_references": refs.changed,
    }
