"""An LM of another toolkit as it was read: its shape, its tensors by our names, its tokeniser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Optional, Protocol

from torch import Tensor

from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.lm.model.shapes import ModelShape

Load = Callable[[], Tensor]
"""Reads one tensor."""


@dataclass(frozen=True)
class ForeignLM:
    """``tensors``: name in our model's state -> what reads it, in the partner's number format.
    ``pieces``: the text of a tokenizer.json. ``begin``, ``end`` and ``unknown`` are the ids that
    the partner's files state, None where they do not."""

    shape: ModelShape
    tensors: Mapping[str, Load]
    pieces: str
    begin: Optional[int] = None
    end: Optional[int] = None
    unknown: Optional[int] = None


class TensorFile(Protocol):
    """Tensors by the partner's names; nothing is read before it is asked for."""

    path: PathLike

    @property
    def sizes(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape, as torch counts dimensions."""

    def load(self, name: str) -> Tensor:
        """The tensor with this name."""


class Taking:
    """Takes tensors out of a file by name and shape, each once, and refuses what is left.

    ``found`` collects our name -> what reads the tensor.
    """

    def __init__(self, file: TensorFile) -> None:
        self._file = file
        self._left = dict(file.sizes)
        self.found: dict[str, Load] = {}

    def take(
        self,
        ours: str,
        theirs: str,
        size: tuple[int, ...],
        change: Optional[Callable[[Tensor], Tensor]] = None,
    ) -> None:
        """Our tensor ``ours`` is ``change`` of theirs, which has the shape ``size``.

        Raises InputError where theirs is missing or of another shape.
        """
        self.check(theirs, size)
        self.found[ours] = lambda: _changed(self._file.load(theirs), change)

    def check(self, theirs: str, size: tuple[int, ...]) -> None:
        """Mark a tensor as used. Raises InputError as ``take`` does."""
        known = self._file.sizes
        if theirs not in known:
            raise self._refusal(f"no tensor {theirs}", f"one of shape {list(size)}")
        if known[theirs] != size:
            found = f"{theirs} of shape {list(known[theirs])}"
            raise self._refusal(found, f"{list(size)}, by the sizes that the model states")
        self._left.pop(theirs, None)

    def has(self, theirs: str) -> bool:
        """Whether the file holds the tensor."""
        return theirs in self._file.sizes

    def finish(self, ignored: Callable[[str], bool] = lambda name: False) -> Mapping[str, Load]:
        """All that was taken. Raises InputError for a tensor that nothing asked for, unless
        ``ignored`` says that it is no weight."""
        left = [name for name in sorted(self._left) if not ignored(name)]
        if left:
            more = f" and {len(left) - 1} more" if len(left) > 1 else ""
            expected = "the tensors of its architecture only"
            raise self._refusal(f"the unexpected tensor {left[0]}{more}", expected)
        return self.found

    def _refusal(self, found: str, expected: str) -> InputError:
        return InputError(self._file.path, None, found, expected)


def _changed(tensor: Tensor, change: Optional[Callable[[Tensor], Tensor]]) -> Tensor:
    return tensor if change is None else change(tensor).contiguous()
