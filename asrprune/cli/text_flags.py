"""Flags of the verbs in which a text meets an LM: its form, special words, and unknown ones."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asrprune.core.special_words import TREATMENTS
from asrprune.files import PathLike
from asrprune.text.coverage import REFUSE_ABOVE, WARN_ABOVE
from asrprune.text.normalise import NORMALISERS

if TYPE_CHECKING:
    from asrprune.core.hypothesis import NBest
    from asrprune.core.lattice.lattice import Lattice
    from asrprune.text.coverage import Coverage
    from asrprune.text.form import TextOptions

TEXT = ("normalise", "language", "special", "accept_unknown")
"""The options, as a verb's modes name them."""

_LATTICES_BEFORE_CHECK = 16  # lattices are streamed, and refused before long


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    group = parser.add_argument_group("text that the LM sees (what is written keeps its words)")
    group.add_argument(
        "--normalise",
        choices=NORMALISERS,
        help="put words into this form for the LM (default: the form that the LM states, or shows "
        "by its vocabulary)",
    )
    group.add_argument(
        "--language",
        metavar="CODE",
        help="of the words, where their letters change for the LM (tr, az: I and i without and "
        "with a dot; default: that which the LM states)",
    )
    group.add_argument(
        "--special",
        nargs="+",
        action="extend",
        type=special_word,
        default=[],
        metavar="WORD=WHAT",
        help="make a word unknown to the LM, drop or keep it (default: `asrprune list "
        "special-words`)",
    )
    group.add_argument(
        "--accept-unknown",
        action=argparse.BooleanOptionalAction,
        default=False,
        help=f"go on where the LM does not know more than {100 * REFUSE_ABOVE:.0f} %% of the words "
        f"(above {100 * WARN_ABOVE:.0f} %% is a warning)",
    )


def special_word(text: str) -> tuple[str, str]:
    """A word and what an LM makes of it.

    >>> special_word("[noise]=keep")
    ('[noise]', 'keep')
    """
    word, _, what = text.rpartition("=")
    if not word or what not in TREATMENTS:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected WORD=WHAT, WHAT one of {', '.join(TREATMENTS)}"
        )
    return word, what


def text_options(args: argparse.Namespace) -> TextOptions:
    """What the flags say of the LM's text."""
    from asrprune.text.form import TextOptions

    return TextOptions(args.normalise, dict(args.special), args.language)


def check_known(
    lm: Any, words: Mapping[str, int], path: PathLike, accept_unknown: bool, name: str = ""
) -> dict[str, Any]:
    """Log how many of the words (word -> how often) of ``path`` the LM knows; the counts for JSON.

    Raises InputError where it knows too few.
    """
    from asrprune.text.coverage import check_coverage

    coverage: Coverage = lm.spelling.coverage(words)
    check_coverage(coverage, path, name or lm.name, lm.spelling, accept_unknown)
    return {**coverage.to_json(), "form": lm.spelling.form.to_dict()}


def words_of_lists(lists: Iterable[NBest]) -> Counter[str]:
    """The words of all hypotheses -> how often."""
    words: Counter[str] = Counter()
    for nbest in lists:
        for hyp in nbest.hyps:
            words.update(hyp.text.split())
    return words


def watched(
    lattices: Iterable[Lattice],
    lms: Iterable[Any],
    path: PathLike,
    accept_unknown: bool,
    found: dict[str, Any],
) -> Iterator[Lattice]:
    """The lattices; what the LMs know of the words on their arcs goes to the log and, by the LM's
    distinct name, to ``found`` when all have passed.

    Raises InputError after the first few where an LM knows too few of their words.
    """
    words: Counter[str] = Counter()
    lms = list(lms)
    waiting: list[Lattice] = []
    checked = False
    for lattice in lattices:
        words.update(word for word in lattice.words if word)
        if checked:
            yield lattice
            continue
        waiting.append(lattice)
        if len(waiting) == _LATTICES_BEFORE_CHECK:
            _refuse_unknown(lms, words, path, accept_unknown)
            yield from waiting
            checked, waiting = True, []
    if waiting:
        _refuse_unknown(lms, words, path, accept_unknown)
        yield from waiting
    known = [check_known(lm, words, path, True) for lm in lms]
    found.update(zip(distinct_names(lms), known))


def distinct_names(lms: Sequence[Any]) -> list[str]:
    """What the LMs are called: those after the first of one name have a number, as in "lm #2"."""
    names = [lm.name for lm in lms]
    counts = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [name if count == 1 else f"{name} #{count}" for name, count in zip(names, counts)]


def _refuse_unknown(
    lms: Iterable[Any], words: Mapping[str, int], path: PathLike, accept_unknown: bool
) -> None:
    for lm in lms:
        coverage: Coverage = lm.spelling.coverage(words)
        if coverage.share > REFUSE_ABOVE and not accept_unknown:
            check_known(lm, words, path, accept_unknown)
