"""Models with drawn weights, a checkpoint with sentences that it can score, and a bigram."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asrprune.lm.model.checkpoint import save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.text.sentencepiece import TokenizerConfig, train_tokenizer

ARPA = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.25
-0.75\t</s>
-0.5\ta\t-0.125
-0.625\tb\t-0.0625

\\2-grams:
-0.25\t<s> a
-0.375\ta b
-0.3125\tb </s>
-0.875\ta </s>

\\end\\
"""
SENTENCES = ("the cat sat", "the cat sits", "a cat sat", "the hat sat on the mat", "cats", "")


def drawn_model(shape: ModelShape, seed: int = 0) -> TransformerLM:
    """A model whose parameters are drawn, biases too."""
    torch.manual_seed(seed)
    model = TransformerLM(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def encode_numbers(texts: Sequence[str]) -> list[list[int]]:
    """Sentences of token ids."""
    return [[int(word) for word in text.split()] for text in texts]


@dataclass(frozen=True)
class DrawnTokenizer:
    """A Tokenizer of a function: by default of sentences that are token ids already."""

    encode: Callable[[Sequence[str]], list[list[int]]] = encode_numbers
    begin: int = 1
    end: int = 2
    unknown: int = 0
    vocab_size: int = 1 << 16
    prompt: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self.encode(texts)

    def learn(self, words: Iterable[str]) -> None: ...

    def encode_word(self, word: str, first: bool) -> tuple[int, ...]:
        return tuple(self.encode([word])[0])

    def encode_words(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        return list(map(tuple, self.encode(words)))

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def count_unknown(self, text: str) -> int:
        return 0


def save_small_lm(folder: Path) -> Path:
    """The checkpoint's folder, in ``folder``."""
    text = [*SENTENCES[:-1], "on a mat sits a hat"]
    (folder / "sp.model").write_bytes(train_tokenizer(text, TokenizerConfig(vocab_size=18)))
    torch.manual_seed(0)
    model = TransformerLM(ModelShape.uniform(18, 16, 1, 2, max_positions=40))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)
    return Path(save_checkpoint(folder / "lm", model, folder / "sp.model", {"command": "none"}))


def save_small_ngram(folder: Path) -> Path:
    """A bigram in ``folder``; "a b" is likelier than "b a"."""
    path = folder / "lm.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return path
