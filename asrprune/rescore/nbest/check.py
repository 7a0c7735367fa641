"""What ``tune`` and ``report`` would refuse of lists and references, hours before they would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional

from asrprune.core.hypothesis import NBest
from asrprune.core.spool import SpooledDict
from asrprune.core.units import WORD, in_units
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.wer.hints import least_errors
from asrprune.wer.score import warn_of_form

HOPELESS = 0.9
"""With a difference of form, more words than this share that must be wrong mean nothing else."""


def check_lists(
    path: PathLike,
    lists: Iterable[NBest],
    ref: PathLike,
    references: Mapping[str, str],
    unit: str = WORD,
    every: bool = True,
) -> list[str]:
    """The utterances of ``lists`` (of the file ``path``), in their order.

    ``references`` (of the file ``ref``) may be of more utterances unless ``every``. Where they and
    the first hypotheses differ in form, that is logged. Raises InputError for a list without a
    reference or a hypothesis, for acoustic or LM scores of only some hypotheses, for a reference
    without a list, and for forms so different that nearly no word can be right.
    """
    first: SpooledDict[str] = SpooledDict()
    holes = _Holes()
    for nbest in lists:
        if not nbest.hyps:
            raise InputError(path, None, f"{nbest.utt}: no hypothesis", "one at least")
        if nbest.utt not in references:
            raise InputError(ref, None, f"no reference of {nbest.utt}", f"one for each of {path}")
        holes.add(nbest)
        first.setdefault(nbest.utt, in_units(nbest.hyps[0].text, unit))
    if holes.found is not None:
        raise InputError(path, None, holes.found, "one for each hypothesis, or for none")
    others = sorted(utt for utt in references if utt not in first) if every else []
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        found = f"no list of {others[0]}{more}"
        raise InputError(path, None, found, f"one for each reference of {ref}")
    said = SpooledDict((utt, in_units(references[utt], unit)) for utt in first)
    told = warn_of_form(said, first, unit, str(path), scorer=False)
    words = sum(len(text.split()) for text in said.values())
    if told and least_errors((said[utt], text) for utt, text in first.items()) > HOPELESS * words:
        raise InputError(path, None, told[0], f"the form of {ref}")
    return list(first)


class _Holes:
    """Whether the lists have each score of all hypotheses, or of none: ``found`` names the first
    that is missing. A list of one needs none."""

    def __init__(self) -> None:
        self._known = {"acoustic": False, "LM": False}
        self._missing: dict[str, str] = {}

    def add(self, nbest: NBest) -> None:
        """Look at one more list."""
        if len(nbest.hyps) < 2:
            return
        for rank, hyp in enumerate(nbest.hyps, start=1):
            for name, score in (("acoustic", hyp.acoustic), ("LM", hyp.lm)):
                if score is not None:
                    self._known[name] = True
                elif name not in self._missing:
                    place = f"utterance {nbest.utt}: no {name} score of hypothesis {rank}"
                    self._missing[name] = place

    @property
    def found(self) -> Optional[str]:
        """The first score that is missing although others of its kind are there."""
        both = (place for name, place in self._missing.items() if self._known[name])
        return next(both, None)
