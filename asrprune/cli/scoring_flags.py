"""Flags that say how texts are compared: what they are put into first, and what is counted."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from asrprune.cli.modes import Mode
from asrprune.core.units import UNITS, WORD
from asrprune.wer.form import HYPHENS
from asrprune.wer.texts import TEXT_FORMATS

if TYPE_CHECKING:
    from asrprune.wer.form import Change, ScoringForm
    from asrprune.wer.score import ScoringRules

WORDS = (
    "normalise",
    "ignore_case",
    "remove_tags",
    "hyphens",
    "ignore_punctuation",
    "remove_words",
)
PHRASES = ("equivalents",)
FORM = ("unit", *WORDS, *PHRASES)
FILTERS = ("filter", "hyp_filter")
LANGUAGE = Mode(
    ("language",),
    lambda args: args.ignore_case or args.normalise not in (None, "none"),
    "has a use only with --ignore-case, or a --normalise that changes letters",
)
MARKS = ("alternations", "optional_words")


def add_form_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declare the flags of FORM; each changes references and hypotheses alike."""
    from asrprune.text.normalise import NORMALISERS

    group = parser.add_argument_group(
        "what is compared (references and hypotheses alike, in this order)"
    )
    group.add_argument(
        "--remove-tags", action="store_true", help="words like <unk>, [noise], !SIL are none"
    )
    group.add_argument(
        "--normalise",
        choices=list(NORMALISERS),
        help="as tokenize --normalise does to text; asr and librispeech drop digits, so that wrong "
        "numbers are no errors: write them as words first",
    )
    group.add_argument("--ignore-case", action="store_true", help="compare without regard to case")
    group.add_argument(
        "--language",
        metavar="CODE",
        help="of the texts, to --normalise and --ignore-case (tr, az: I and i without and with a "
        "dot)",
    )
    group.add_argument(
        "--hyphens",
        choices=HYPHENS,
        default=HYPHENS[0],
        help="between letters: keep, make two words, make one",
    )
    group.add_argument(
        "--ignore-punctuation",
        action="store_true",
        help="but apostrophes and hyphens in words, points and commas in numbers",
    )
    group.add_argument(
        "--equivalents", metavar="FILE", help="lines 'a b => c': both sides count as the right one"
    )
    group.add_argument(
        "--remove-words",
        nargs="+",
        action="extend",
        default=[],
        metavar="WORD",
        help="words that are none, as fillers",
    )
    group.add_argument(
        "--cer", action="store_const", const="char", default=WORD, dest="unit", help="--unit char"
    )
    group.add_argument(
        "--unit",
        choices=list(UNITS),
        default=WORD,
        help="count words (WER), characters without spaces (CER), or Han and kana by character and"
        " the rest by word (MER)",
    )
    return group


def add_filter_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the flags of FILTERS."""
    group.add_argument(
        "--filter",
        metavar="CMD",
        help="before all else, a shell command that turns lines 'utt word ...' into such lines",
    )
    group.add_argument("--hyp-filter", metavar="CMD", help="the same, of the hypotheses alone")


def add_mark_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the flags of MARKS."""
    group.add_argument(
        "--alternations",
        action="store_true",
        help="{ a / b c / @ } in references are alternatives, @ is none, as in trn and stm always",
    )
    group.add_argument(
        "--optional-words",
        nargs="*",
        metavar="WORD",
        help="these, and words marked (word) in references, may be left out",
    )


def scoring_form(args: argparse.Namespace) -> ScoringForm:
    """What the flags say. Raises InputError for a bad file of equivalents."""
    from asrprune.text.normalise import normaliser
    from asrprune.wer import form

    of_language = "" if args.language is None else f" --language {args.language}"
    steps: list[tuple[str, Change]] = []

    def so_far(text: str) -> str:
        for _, step in steps:
            text = step(text)
        return text

    if args.remove_tags:
        steps.append(("--remove-tags", form.drop_tags))
    if args.normalise is not None:
        name = f"{form.NORMALISE} {args.normalise}{of_language}"
        steps.append((name, normaliser(args.normalise, args.language)))
    if args.ignore_case:
        fold = partial(form.fold_case, language=args.language)
        steps.append((f"--ignore-case{of_language}", fold))
    if args.hyphens != HYPHENS[0]:
        change = form.split_hyphens if args.hyphens == "split" else form.join_hyphens
        steps.append((f"--hyphens {args.hyphens}", change))
    if args.ignore_punctuation:
        steps.append(("--ignore-punctuation", form.drop_punctuation))
    if args.equivalents is not None:
        table = form.read_equivalents(args.equivalents, so_far)
        steps.append((f"--equivalents {args.equivalents}", form.replace_phrases(table)))
    if args.remove_words:
        words = {*args.remove_words, *(so_far(word) for word in args.remove_words)}
        name = f"--remove-words {' '.join(args.remove_words)}"
        steps.append((name, form.drop_words(words)))
    return form.ScoringForm(
        args.unit, tuple(steps), getattr(args, "filter", None), getattr(args, "hyp_filter", None)
    )


def scoring_rules(args: argparse.Namespace) -> ScoringRules:
    """The form with the marks of the references. Raises as ``scoring_form`` does."""
    from asrprune.wer.score import ScoringRules

    return ScoringRules(
        scoring_form(args),
        args.alternations,
        None if args.optional_words is None else frozenset(args.optional_words),
        getattr(args, "edit_costs", "equal"),
    )


def add_format_argument(parser: argparse.ArgumentParser, side: str) -> None:
    """Declare --ref-format or --hyp-format."""
    parser.add_argument(
        f"--{side}-format",
        choices=list(TEXT_FORMATS),
        help=f"of --{side} (default: told from its lines)",
    )
