"""What happens to utterances of which the first pass left nothing: no hypothesis, no path."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Optional, Union

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.lattice.union import union_of_nbest
from asrprune.errors import InputError
from asrprune.files import PathLike

ON_BAD = ("error", "skip", "first-pass")
"""Refuse; leave the utterance out; take what the first pass says, the empty hypothesis."""

_log = logging.getLogger(__name__)


class NothingFoundError(InputError):
    """An utterance without a hypothesis or path; ``instead`` is what the first pass says of it."""

    def __init__(
        self, path: PathLike, line: Optional[int], instead: Union[NBest, Lattice], found: str
    ) -> None:
        self.instead = instead
        lattice = isinstance(instead, Lattice)
        expected = "a lattice with a path" if lattice else "at least one hypothesis"
        super().__init__(path, line, f"utterance {instead.utt}: {found}", expected)

    def __reduce__(self) -> tuple[type, tuple[str, Optional[int], str, str]]:
        return InputError, (self.path, self.line, self.found, self.expected)


class NoHypothesisError(ValueError):
    """A list holds no hypothesis; what reads it knows the utterance."""


class OnBad:
    """A policy, one of ON_BAD, and the utterances that it met: ``met``, id -> what was found.

    A reader calls it with the error of an utterance and goes on with what it yields.
    """

    def __init__(self, policy: str = "error") -> None:
        if policy not in ON_BAD:
            raise ValueError(f"on_bad is {policy!r}; expected {', '.join(ON_BAD)}")
        self.policy = policy
        self.met: dict[str, str] = {}

    def __call__(self, problem: NothingFoundError) -> Iterator[Any]:
        """What is read in the place of the utterance. Raises InputError under the policy "error",
        and for an utterance that was met before."""
        if self.policy == "error":
            expected = f"{problem.expected}, or --on-bad skip or first-pass"
            raise InputError(problem.path, problem.line, problem.found, expected)
        utt = problem.instead.utt
        if utt in self.met:
            raise InputError(problem.path, problem.line, f"utterance {utt} again", "each once")
        self.met[utt] = str(problem)
        if self.policy == "first-pass":
            yield problem.instead

    def warn(self, path: PathLike) -> None:
        """Log how many utterances of ``path`` were met, and which."""
        if self.met:
            done = "left out" if self.policy == "skip" else "read as empty hypotheses"
            names = " ".join(self.met)
            _log.warning("%s: %s (--on-bad): %d utterances: %s", path, done, len(self.met), names)


REFUSE = OnBad()


def empty_list(utt: str, audio_s: Optional[float] = None, ref: Optional[str] = None) -> NBest:
    """The list of an utterance in which the first pass heard nothing."""
    return NBest(utt, (Hypothesis(""),), audio_s, ref)


def empty_lattice(utt: str) -> Lattice:
    """The lattice of such an utterance: one path without words, its scores 0."""
    return union_of_nbest(empty_list(utt))
