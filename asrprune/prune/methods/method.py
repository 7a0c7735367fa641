"""What a method is: it takes parameters out of a model until so many are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, Protocol

from torch import Tensor

from asrprune.lm.model.architecture import ALL_MATRICES
from asrprune.lm.model.elastic import Elastic
from asrprune.lm.model.matrices import LowRankLinear, Matrix
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.groups import Group
from asrprune.prune.masks import Masks
from asrprune.prune.paired import PairedMoments
from asrprune.prune.statistics import MatrixStatistics


class Scorer(Protocol):
    """What a method may ask about the model that it prunes."""

    def scores(self, model: TransformerLM, groups: Sequence[Group]) -> list[Tensor]:
        """The criterion's scores [tile rows, tile columns] of every group; higher = keep."""

    def statistics(
        self, model: TransformerLM, groups: Sequence[Group], needs: frozenset[str]
    ) -> list[MatrixStatistics]:
        """Statistics of every group over the plan's statistics tokens."""

    def paired(
        self, model: TransformerLM, other: TransformerLM, places: Sequence[Place]
    ) -> dict[Place, PairedMoments]:
        """Moments of the inputs of ``places`` in two models over the same tokens."""


@dataclass(frozen=True)
class Options:
    """What methods let the user choose.

    ``matrices`` are pruned (names of ALL_MATRICES), those of them that the LM has. ``scope`` of the
    mask methods: ``global`` ranks all weights together, ``matrix`` gives every matrix the same
    sparsity, ``row`` every output of every matrix. ``multiple_of`` is what FFN widths and ranks are
    rounded to. What is never removed unless set to 0: ``min_heads`` heads and ``min_width`` neurons
    of each block, rank ``min_rank`` of each matrix, and below sparsity 1 the share ``min_share`` of
    each masked matrix. ``head_unit``: query heads that share a key and value head leave as a
    ``group``, which ``min_heads`` then counts, or as single ``query`` heads. ``depth_unit``: method
    depth removes each ``sublayer`` by itself, or attention and FFN of a ``block`` together.

    ``factorisation`` makes the components of a matrix; with ``refactor`` those of an already
    factored one are made again from its product at every step; method width takes ``svd`` for its
    components of the weights alone. ``width_share``: what method width+structured leaves to the
    width, as the exponent of the factor by which the weights shrink. ``form``: what low rank
    stores, two ``factors`` or the ``interpolative`` decomposition (see InterpolativeLinear).
    ``embedding_rank`` factors the tied embedding before the first step (0: it stays as it is;
    surgery/embedding.py); ``embedding_sparsity`` is the share of the tied embedding's weights that
    become zero at each step, after the method, and ``positions_sparsity`` that of the learned
    positions (surgery/positions.py). None is a part of the sparsity. ``compensation`` (weight
    compensation) says how the kept weights make up for the removed ones: ``obs`` of the
    mask methods, ``anchored`` of structured and low rank.
    """

    matrices: tuple[str, ...] = ALL_MATRICES
    scope: str = "global"
    multiple_of: int = 8
    min_heads: int = 1
    min_width: int = 8
    min_rank: int = 8
    min_share: float = 0.01
    factorisation: str = "two-sided"
    refactor: bool = True
    form: str = "factors"
    embedding_rank: int = 0
    embedding_sparsity: float = 0.0
    positions_sparsity: float = 0.0
    compensation: str = "none"
    depth_unit: str = "sublayer"
    head_unit: str = "group"
    width_share: float = 0.35

    def __post_init__(self) -> None:
        for name in self.matrices:
            if name not in ALL_MATRICES:
                raise ValueError(f"matrix {name!r}; known: {', '.join(ALL_MATRICES)}")
        if self.scope not in SCOPES:
            raise ValueError(f"scope {self.scope!r}; known: {', '.join(SCOPES)}")
        if self.depth_unit not in DEPTH_UNITS:
            raise ValueError(f"depth_unit {self.depth_unit!r}; known: {', '.join(DEPTH_UNITS)}")
        if self.head_unit not in HEAD_UNITS:
            raise ValueError(f"head_unit {self.head_unit!r}; known: {', '.join(HEAD_UNITS)}")
        if self.form not in FORMS:
            raise ValueError(f"form {self.form!r}; known: {', '.join(FORMS)}")
        if self.form == "interpolative" and not self.refactor:
            raise ValueError("refactor is False; expected True, as that form is one product")
        if self.multiple_of < 1:
            raise ValueError(f"multiple_of is {self.multiple_of}; expected >= 1")
        for field in ("min_heads", "min_width", "min_rank", "embedding_rank"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is {getattr(self, field)}; expected >= 0")
        for field in ("min_share", "width_share"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ValueError(f"{field} is {getattr(self, field)}; expected 0..1")
        for field in ("embedding_sparsity", "positions_sparsity"):
            found = getattr(self, field)
            if not 0.0 <= found < 1.0:
                raise ValueError(f"{field} is {found}; expected >= 0 and less than 1")
        if self.embedding_rank and self.embedding_sparsity:
            raise ValueError(
                f"embedding_rank is {self.embedding_rank}; expected 0 with embedding_sparsity"
            )


SCOPES = ("global", "matrix", "row")
FORMS = ("factors", "interpolative")
DEPTH_UNITS = ("sublayer", "block")
HEAD_UNITS = ("group", "query")


def whole_statistics(
    model: TransformerLM, linears: Mapping[Place, Matrix], scorer: Scorer, needs: frozenset[str]
) -> dict[Place, MatrixStatistics]:
    """Input and output statistics of whole matrices, whichever way they are stored."""
    groups = []
    for place, linear in linears.items():
        groups.append(Group(place, linear, linear.entry, 1, 1, cost=1))
        if isinstance(linear, LowRankLinear):
            groups.append(Group(place, linear, "A", 1, 1, cost=1))
    found = iter(scorer.statistics(model, groups, needs))
    known = {}
    for place, linear in linears.items():
        known[place] = next(found)
        if isinstance(linear, LowRankLinear):
            known[place].output_gram = next(found).output_gram
    return known


Apply = Callable[[TransformerLM, int, Scorer, Options, Masks], None]
"""``apply(model, keep, scorer, options, masks)`` changes ``model`` and ``masks`` in place so that
``keep`` prunable parameters are left, as nearly as the units allow. What was removed before stays
removed. Raises ValueError when the units do not allow so few."""


MakeElastic = Callable[[TransformerLM, Sequence[float], int, Scorer, Options], Elastic]
"""``make(model, sizes, total, scorer, options)`` brings ``model`` to the largest of ``sizes``
(sparsities, counted of ``total`` weights) and says in which order the rest leaves."""


@dataclass(frozen=True)
class Method:
    """How to prune, and what is removed. ``masks``: weights become zeros in matrices of the old
    shape, which makes the file smaller but no ordinary kernel faster. ``fresh``: a baseline whose
    weights start at random, so it takes the one-shot schedule only. ``elastic``: what makes an
    elastic LM, for the schedule of that name; None: it has no nested sizes. ``fits``: what it left
    can be fitted by ``compensation`` anchored. ``narrows``: hidden states become narrower than the
    parent's."""

    apply: Apply
    description: str
    masks: bool
    fresh: bool = False
    elastic: Optional[MakeElastic] = None
    fits: bool = False
    narrows: bool = False


def prunable_parameters(model: TransformerLM, matrices: Sequence[str]) -> dict[Place, int]:
    """Stored parameters of every matrix that a plan may prune, zeros counted."""
    return {place: linear.weights for place, linear in model.linears() if place.name in matrices}


def kept_parameters(
    model: TransformerLM, matrices: Sequence[str], masks: Masks
) -> dict[Place, int]:
    """The same without what is masked."""
    counts = prunable_parameters(model, matrices)
    return {
        place: int(masks[place].sum()) if place in masks else count
        for place, count in counts.items()
    }


class UnreachableError(ValueError):
    """A size that no run of the plan can come to."""


def unreachable(keep: int, least: int) -> UnreachableError:
    """The error for asking to keep fewer parameters than the units allow."""
    return UnreachableError(
        f"cannot go down to {keep} prunable parameters: the least that this method can keep is "
        f"{least} under its min_* options"
    )
