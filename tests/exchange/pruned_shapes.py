"""Models of every pruned kind, and a checkpoint whose pieces are a transducer's tokens."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import sentencepiece

from asrprune.lm.model.checkpoint import save_checkpoint
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from tests.small_lm import drawn_model

V, POSITIONS = 26, 12
GPT2 = ModelShape.uniform(V, 16, 2, 4, 16, POSITIONS)
LLAMA = ModelShape.uniform(
    V, 16, 2, 4, 16, POSITIONS, architecture="llama", kv_heads=2, head_dim=8, tied=False
)
ALIKE = {
    "gpt2": GPT2,
    "gpt2 untied, narrow FFN": replace(GPT2, tied=False, blocks=(BlockShape(4, 5),) * 3),
    "llama": LLAMA,
    "llama pruned alike": replace(
        LLAMA, d_model=10, blocks=(BlockShape(2, 7, groups=(2,)),) * 2, details={"norm_eps": 1e-3}
    ),
    "llama tied, all heads of their own": replace(LLAMA, tied=True, blocks=(BlockShape(2, 8),)),
}
"""Shapes whose blocks are dense and all alike, as the standard formats have them."""
GONE = {
    "gpt2": replace(
        GPT2, blocks=(BlockShape(0, 0), BlockShape(4, 5)) * 2 + (BlockShape(0, 0),) * 2
    ),
    "llama": replace(LLAMA, blocks=(*LLAMA.blocks, BlockShape(0, 0, groups=()), *LLAMA.blocks)),
}
"""Shapes of which whole blocks were removed, the others are alike."""
SHAPES = {
    "gpt2": GPT2,
    "gpt2-structured": replace(
        GPT2, blocks=(BlockShape(1, 8), BlockShape(0, 0), BlockShape(3, 5), BlockShape(2, 0))
    ),
    "gpt2-low-rank": replace(
        GPT2,
        blocks=(
            BlockShape(
                4,
                16,
                {
                    "attn.q": LinearShape("low_rank", 3),
                    "attn.o": LinearShape("pivoted", 5),
                    "ffn.up": LinearShape("pivoted", 2),
                    "ffn.down": LinearShape("low_rank", 0),
                },
            ),
        ),
        embedding_rank=6,
    ),
    "gpt2-width": replace(GPT2, d_model=12),
    "llama": LLAMA,
    "llama-structured": replace(
        LLAMA, blocks=(BlockShape(3, 8, groups=(2, 1)), BlockShape(1, 0, groups=(1,)))
    ),
    "llama-low-rank": replace(
        LLAMA,
        blocks=(
            BlockShape(
                4,
                16,
                {"attn.k": LinearShape("low_rank", 2), "ffn.gate": LinearShape("pivoted", 3)},
                groups=(2, 2),
            ),
        ),
        tied=True,
        embedding_rank=5,
    ),
    "llama-width": replace(LLAMA, d_model=10, details={"qkv_bias": True}),
}

SENTENCES = ("the cat sat on the mat", "a hat", "the rat sits", "a cat sat", "rats sit on hats")


def save_transducer_lm(folder: Path, shape: ModelShape = GPT2, seed: int = 0) -> Path:
    """A checkpoint with icefall's marks (``<blk>`` 0, ``<sos/eos>`` 1, ``<unk>`` 2), and the file
    ``tokens.txt`` beside it."""
    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=proto,
        vocab_size=V,
        model_type="unigram",
        user_defined_symbols=["<blk>", "<sos/eos>"],
        unk_id=2,
        bos_id=-1,
        eos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "bpe.model").write_bytes(proto.getvalue())
    pieces = sentencepiece.SentencePieceProcessor()
    pieces.load_from_serialized_proto(proto.getvalue())
    names = [pieces.id_to_piece(index) for index in range(pieces.get_piece_size())]
    lines = [f"{name} {index}\n" for index, name in enumerate(names)]
    (folder / "tokens.txt").write_text("".join(lines), encoding="utf-8")
    model = drawn_model(replace(shape, vocab_size=len(names)), seed)
    return Path(save_checkpoint(folder / "lm", model, folder / "bpe.model", {"command": "none"}))
