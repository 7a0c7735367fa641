"""METHODS: what shape of thing is removed. One file each."""

from __future__ import annotations

from asrprune.prune.methods.combined import (
    low_rank_attention_structured_ffn,
    width_and_structured,
)
from asrprune.prune.methods.depth import depth
from asrprune.prune.methods.elastic import elastic_low_rank, elastic_low_rank_structured
from asrprune.prune.methods.low_rank import low_rank
from asrprune.prune.methods.method import Method, Options, Scorer
from asrprune.prune.methods.n_of_m import four_of_eight, two_of_four
from asrprune.prune.methods.scratch import scratch
from asrprune.prune.methods.structured import structured
from asrprune.prune.methods.unstructured import block_4x1, block_16x1, unstructured
from asrprune.prune.methods.width import width

METHODS: dict[str, Method] = {
    "unstructured": Method(unstructured, "single weights", masks=True),
    "2:4": Method(two_of_four, "2 weights of every 4 along the input", masks=True),
    "4:8": Method(four_of_eight, "4 weights of every 8 along the input", masks=True),
    "block-4x1": Method(block_4x1, "4 weights along the output", masks=True),
    "block-16x1": Method(block_16x1, "16 weights along the output", masks=True),
    "structured": Method(structured, "FFN neurons and attention heads", masks=False, fits=True),
    "depth": Method(depth, "attention or FFN of a block, or whole blocks", masks=False),
    "width": Method(
        width, "d_model: PCA of the residual stream, as SliceGPT", masks=False, narrows=True
    ),
    "width+structured": Method(
        width_and_structured,
        "d_model, then FFN neurons and attention heads",
        masks=False,
        narrows=True,
    ),
    "low-rank": Method(
        low_rank,
        "rank-one components of every matrix",
        masks=False,
        elastic=elastic_low_rank,
        fits=True,
    ),
    "low-rank+structured": Method(
        low_rank_attention_structured_ffn,
        "rank-one components of attention and FFN neurons",
        masks=False,
        elastic=elastic_low_rank_structured,
        fits=True,
    ),
    "scratch": Method(
        scratch, "baseline: a dense model of that size with fresh weights", masks=False, fresh=True
    ),
}
"""Name -> method, in reading order: from the finest units to the coarsest."""

__all__ = ["METHODS", "Method", "Options", "Scorer"]
