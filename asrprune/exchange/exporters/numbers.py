"""How the weights of an exported LM are stored: as they are, or in 8 bits.

int8: every matrix has values -127..127 with one scale for each of its outputs, the embedding one
for each token; biases, norms and positions stay as they are, and all is computed in float32. So the
file is about a quarter, and a score depends on the sentence alone, as in float32.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.engines.onnx_runtime.writer import Floats, to_numpy
from asrprune.lm.model.transformer import TransformerLM

FLOAT32, INT8 = "float32", "int8"


def quantise(matrix: Floats, axis: int) -> tuple[NDArray[np.int8], Floats]:
    """Values -127..127 and a scale for each index of ``axis``: matrix ~ values * scale.

    The largest absolute value along the other axis becomes 127; zeros stay zero. All-zero ones get
    the scale 1.
    """
    scales = np.abs(matrix).max(axis=1 - axis, initial=0.0) / 127  # [size of axis]
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    wide = scales[:, None] if axis == 0 else scales
    return np.rint(matrix / wide).astype(np.int8), scales


def rounded(model: TransformerLM) -> TransformerLM:
    """A copy of ``model`` in float32 whose matrices hold what their 8 bits stand for."""
    made = copy.deepcopy(model).float().eval()
    with torch.no_grad():
        for _, linear in made.linears():
            for part in linear.parts.values():
                _round(part)
        embedding = made.embedding
        for table in (embedding.weight, embedding.output, embedding.projection):
            if table is not None:
                _round(table)
    return made


def _round(weight: torch.nn.Parameter) -> None:
    codes, scales = quantise(to_numpy(weight), axis=0)
    weight.copy_(torch.from_numpy(codes * scales[:, None]))
