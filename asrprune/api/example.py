"""A tiny LM and lists that it can rescore: for the examples of the docstrings, and for a first try.

>>> nbest = tiny_lists()[0]
>>> [hyp.text for hyp in nbest.hyps], nbest.ref
(['the cat sad on the mat', 'the cat sat on the mat'], 'the cat sat on the mat')
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import torch

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.files import sha256
from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import BatchStream
from asrprune.lm.training.loss import next_token_loss
from asrprune.text.corpus import TokenStream
from asrprune.text.sentencepiece import TokenizerConfig, train_tokenizer

SENTENCES = (
    "the cat sat on the mat",
    "the dog sat on the log",
    "a cat saw the dog",
    "a dog saw the cat",
    "the cat saw a dog on the mat",
    "a dog sat on a mat",
    "the dog is sad",
    "the cat is sad",
)
"""All the text that the tiny LM has seen."""


def tiny_lists() -> list[NBest]:
    """Two utterances of two hypotheses; the first pass puts the right one first in the second."""
    return [
        NBest(
            "utt1",
            (
                Hypothesis("the cat sad on the mat", acoustic=-10.0, lm=-6.0),
                Hypothesis("the cat sat on the mat", acoustic=-10.5, lm=-6.5),
            ),
            audio_s=1.5,
            ref="the cat sat on the mat",
        ),
        NBest(
            "utt2",
            (
                Hypothesis("a dog saw the cat", acoustic=-8.0, lm=-5.0),
                Hypothesis("a dog sat the cat", acoustic=-8.5, lm=-5.5),
            ),
            audio_s=1.2,
            ref="a dog saw the cat",
        ),
    ]


@functools.cache
def tiny_lm() -> Checkpoint:
    """An LM of 28,000 parameters, trained on SENTENCES in a second; one for all calls.

    Its tokeniser lies in a temporary folder, which goes when Python ends.

    >>> tiny_lm().model.shape.vocab_size
    24
    """
    folder = Path(tempfile.mkdtemp(prefix="asrprune-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    pieces = folder / "tokenizer.model"
    pieces.write_bytes(train_tokenizer(SENTENCES, TokenizerConfig(vocab_size=24)))
    shape = ModelShape.uniform(24, d_model=32, n_layers=2, n_heads=2, max_positions=64)
    with torch.random.fork_rng(devices=[]):  # the caller's draws stay what they were
        torch.manual_seed(1)
        made = Checkpoint(TransformerLM(shape), pieces, sha256(pieces), {"text": "SENTENCES"})
    sentences = TokenStream.from_sentences(made.tokenizer().encode_batch(SENTENCES))
    batch = BatchStream(sentences, tokens_per_batch=256, seed=1, max_positions=64).next_batch()
    for rate in torch.linspace(0.02, 0.001, 50):  # torch.optim would take seconds to import
        made.model.zero_grad()
        next_token_loss(made.model, batch).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in made.model.parameters():
                assert parameter.grad is not None
                parameter.sub_(rate * parameter.grad.sign())
    made.model.zero_grad()
    made.model.eval()
    return made
