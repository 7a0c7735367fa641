"""Low rank: which ranks are offered."""

from __future__ import annotations

import pytest

from asrprune.prune.methods import Options
from asrprune.prune.methods.low_rank import rank_choices
from asrprune.prune.methods.method import FORMS
from asrprune.prune.run.plan import Plan
from asrprune.prune.run.scorer import DataScorer, PruningData
from asrprune.text.corpus import TokenStream
from tests.prune.tiny_lm import tiny


@pytest.mark.parametrize("form", FORMS)
def test_a_matrix_is_factored_at_any_rank_that_saves_and_at_no_other(form: str) -> None:
    model = tiny()  # 16 x 16 and 64 x 16
    options = Options(form=form, multiple_of=1, min_rank=0, factorisation="svd")
    plan = Plan(criterion="magnitude", method="low-rank", options=options)
    unread = PruningData(TokenStream.from_sentences([]))
    for choice in rank_choices(model, DataScorer(plan, unread, 0), options):
        outer = 64 if "ffn" in choice.chain.name else 16
        stored = [r * (outer + 16 - (r if form == "interpolative" else 0)) for r in range(17)]
        saved = [16 * outer - size for size in stored if size < 16 * outer]
        assert list(choice.chain.saved) == [0, *sorted(saved)]
