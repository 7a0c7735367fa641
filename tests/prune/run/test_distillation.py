"""The loss of distillation."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch, make_batch
from asrprune.lm.training.loss import next_token_loss
from asrprune.prune.run.distillation import behind_blocks, distilling, hidden_distance
from tests.prune.small_models import SHAPES
from tests.prune.tiny_lm import V, batches, tiny
from tests.small_lm import drawn_model


def test_distillation_from_itself_has_no_divergence_and_chunks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, other = tiny(), tiny(heads=4)
    batch = batches()[0]
    itself = distilling(copy.deepcopy(model), 2.0, 1.0)
    assert itself(model, batch).item() < 1e-3
    plain = next_token_loss(model, batch).item()
    assert distilling(other, 2.0, 0.0)(model, batch).item() == pytest.approx(plain)
    loss = distilling(other, 2.0, 0.5)
    whole = loss(model, batch)
    whole.backward()
    expected = model.embedding.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr("asrprune.lm.training.loss.CACHED_LOGITS", 3 * V)
    monkeypatch.setattr("asrprune.lm.training.loss.FEWEST_ROWS", 1)
    chunked = loss(model, batch)
    chunked.backward()
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-5)
    assert torch.allclose(model.embedding.weight.grad, expected, rtol=1e-3, atol=1e-5)
    for temperature, weight in ((0.0, 0.5), (1.0, 1.5)):
        with pytest.raises(ValueError, match="expected"):
            distilling(other, temperature, weight)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_loss_by_hand(temperature: float, weight: float) -> None:
    """``(1 - w) CE + w t^2 KL(teacher || student)``, both softened by t, over the scored places."""
    student, teacher = tiny(), tiny(heads=4)
    with torch.no_grad():
        teacher.positions.normal_()
    batch = batches()[0]
    expected = 0.0
    for sentence, wanted in zip(batch.tokens, batch.targets):
        with torch.no_grad():
            one, other = (lm.logits(lm(sentence[None])[0])[0].double() for lm in (student, teacher))
        for place in (wanted != IGNORED).nonzero().flatten().tolist():
            loss = -one[place].log_softmax(0)[wanted[place]]
            p = (other[place] / temperature).softmax(0)
            q = (one[place] / temperature).softmax(0)
            divergence = (p * (p.log() - q.log())).sum()
            expected += float((1 - weight) * loss + weight * temperature**2 * divergence)
    found = distilling(teacher, temperature, weight)(student, batch)
    assert found.item() == pytest.approx(expected, rel=1e-4)
    assert not any(parameter.grad is not None for parameter in teacher.parameters())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_gradients_are_those_of_autograd(temperature: float) -> None:
    student, reference, teacher = tiny(), tiny(), tiny(heads=4)
    with torch.no_grad():
        teacher.positions.normal_()
    batch = batches()[0]
    distilling(teacher, temperature, 0.3)(student, batch).backward()
    scored = batch.targets != IGNORED
    with torch.no_grad():
        q = (teacher.logits(teacher(batch.tokens)[0][scored]) / temperature).log_softmax(-1)
    logits = reference.logits(reference(batch.tokens)[0][scored])
    divergence = (q.exp() * (q - (logits / temperature).log_softmax(-1))).sum()
    data_loss = functional.cross_entropy(logits, batch.targets[scored], reduction="sum")
    (0.7 * data_loss + 0.3 * temperature**2 * divergence).backward()
    for ours, theirs in zip(student.parameters(), reference.parameters()):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_the_teacher_computes_in_the_format_of_autocast(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logits too, which are made inside the student's loss."""
    student, teacher = (drawn_model(SHAPES[name]) for _ in range(2))
    forms = []
    logits = teacher.logits

    def seen(hidden: torch.Tensor) -> torch.Tensor:
        made = logits(hidden)
        forms.append(made.dtype)
        return made

    monkeypatch.setattr(teacher, "logits", seen)
    batch = make_batch([np.arange(3, 9), np.arange(4, 7)])
    exact = distilling(teacher, 2.0, 0.5)(student, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = distilling(teacher, 2.0, 0.5)(student, batch)
    rounded.backward()
    assert forms == [torch.float32, torch.bfloat16]
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)


def other(model: TransformerLM) -> TransformerLM:
    """The same with everything a little different, in and before every block."""
    torch.manual_seed(5)
    made = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def by_hand(model: TransformerLM, batch: Batch) -> list[torch.Tensor]:
    """What stands behind each block, of the architecture without rotation."""
    x = model.embedding(batch.tokens) + model.positions[: batch.tokens.shape[1]]
    states = []
    for block in model.blocks:
        x = block(x, None, None, None, None)[0]
        states.append(x)
    return states


def test_hidden_states_by_hand() -> None:
    """``h`` times the mean over blocks of ``|s - t|^2 / |t|^2``, over the scored places, and the
    gradients of that."""
    student = tiny()
    teacher, reference, batch = other(student), copy.deepcopy(student), batches()[0]
    plain = distilling(teacher, 1.0, 0.3)
    found = distilling(teacher, 1.0, 0.3, 0.7)(student, batch)
    expected = plain(reference, batch)
    for state, goal in zip(by_hand(reference, batch), by_hand(teacher, batch)):
        for s, t, wanted in zip(state, goal, batch.targets):
            for place in (wanted != IGNORED).nonzero().flatten().tolist():
                ratio = (s[place] - t[place].detach()).norm() / t[place].detach().norm()
                expected = expected + 0.7 / 2 * ratio**2
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert found.item() > plain(student, batch).item() + 0.1
    student.zero_grad()
    found.backward()
    expected.backward()
    for ours, theirs in zip(student.parameters(), reference.parameters()):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    assert not any(parameter.grad is not None for parameter in teacher.parameters())


@pytest.mark.parametrize("name", SHAPES)
def test_hidden_states_of_any_architecture(name: str) -> None:
    """0 from itself; the same gradients where activations are made again; all blocks are free of
    hooks behind it."""
    student = drawn_model(SHAPES[name])
    teacher, batch = other(student), make_batch([np.arange(3, 9), np.arange(4, 7)])
    scored = batch.targets != IGNORED
    with torch.no_grad(), behind_blocks(student) as states:
        student(batch.tokens)
    assert [one.shape for one in states] == [(*batch.tokens.shape, 16)] * 2
    assert hidden_distance(states, states, scored).item() == 0.0
    gradients = []
    for again in (False, True):
        student.checkpoint_activations = again
        student.zero_grad()
        distilling(teacher, 1.0, 0.5, 2.0)(student, batch).backward()
        gradients.append([parameter.grad.clone() for parameter in student.parameters()])
    assert all(torch.allclose(one, two, rtol=1e-4, atol=1e-6) for one, two in zip(*gradients))
    assert not any(block._forward_hooks for lm in (student, teacher) for block in lm.blocks)


def test_hidden_states_of_a_batch_are_the_sum_of_those_of_its_sentences() -> None:
    """So that processes may share a batch out."""
    student = tiny()
    teacher = other(student)
    sentences = [np.arange(3, 9), np.arange(4, 7), np.arange(5, 16)]
    loss = distilling(teacher, 1.0, 0.5, 3.0)
    parts = [loss(student, make_batch([one])).item() for one in sentences]
    assert loss(student, make_batch(sentences)).item() == pytest.approx(sum(parts), rel=1e-5)


def test_hidden_states_of_other_blocks_are_refused() -> None:
    batch = batches()[0]
    states = [torch.zeros(*batch.tokens.shape, 16)] * 2
    for some in (states[:1], [one[..., :8] for one in states]):
        with pytest.raises(ValueError, match=r"expected the teacher's, \[16, 16\]"):
            hidden_distance(some, states, batch.targets != IGNORED)
    with pytest.raises(ValueError, match="weight of hidden states is -1"):
        distilling(tiny(), 1.0, 0.5, -1.0)
