"""Training a Transformer LM: from a corpus and a configuration to a checkpoint folder.

A run is a function of (data, configuration, initial checkpoint): it stops after a number of steps
or tokens, never after a time. Killed and started again with the same command it resumes from its
last saved state, and on the same machine ends with the same model.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch

from asrprune.core.config import to_json
from asrprune.core.progress import Progress
from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike, locked
from asrprune.lm.device import without_denormals
from asrprune.lm.model.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    weights_digest,
)
from asrprune.lm.model.transformer import TransformerLM, count_parameters
from asrprune.lm.model.weights_fit import parameters_of
from asrprune.lm.training.batches import BatchStream, usable_sentences
from asrprune.lm.training.config import ModelConfig, TrainingConfig
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.lm.training.loop import Budget, Step, TrainingLoop
from asrprune.lm.training.nll import TOKENS_PER_BATCH, stream_nll
from asrprune.lm.training.sharding import shard, whole_model
from asrprune.lm.training.state import TrainingFolder
from asrprune.provenance import provenance
from asrprune.text.corpus import Corpus

log = logging.getLogger(__name__)

History = tuple[Mapping[str, Any], ...]


class Validation:
    """The validation set, and the best model on it so far (by nats per token)."""

    def __init__(self, data: Corpus, max_positions: int, group: ProcessGroup) -> None:
        self.best_step = 0
        self.best_nats = math.inf
        self._group = group
        self._stream = data.stream("valid")
        kept = usable_sentences(self._stream, max_positions)
        if len(kept) == 0:
            raise InputError(data.path, None, "no valid sentence that fits", "a longer model")
        self._kept = kept
        self._n_tokens = int((self._stream.lengths[kept] + 1).sum(dtype=np.int64))
        whole = len(kept) == self._stream.n_sentences
        counts = data.data["sets"]["valid"]
        words = counts.get("words") if whole else None
        self._n_words = None if words is None else words + counts["sentences"]

    def measure(self, model: TransformerLM, step: int) -> dict[str, Any]:
        """A record for the log; ``best`` tells whether this is the best so far.

        The perplexity per word (``</s>`` counted) is left out if sentences had to be skipped.
        """
        nll = stream_nll(model, self._stream, self._kept, TOKENS_PER_BATCH, self._group)
        total, tokens = float(nll.sum()), self._n_tokens
        if not math.isfinite(total):
            raise ValueError(f"validation loss is {total} in step {step}; lower the learning rate")
        record = {"step": step, "valid_ppl_token": math.exp(total / tokens)}
        if self._n_words is not None:
            record["valid_ppl_word"] = math.exp(total / self._n_words)
        record["best"] = total / tokens < self.best_nats
        if record["best"]:
            self.best_step, self.best_nats = step, total / tokens
        return record


def train(
    data: Corpus,
    config: TrainingConfig,
    out: PathLike,
    init: Optional[Checkpoint] = None,
    group: Optional[ProcessGroup] = None,
    command_line: Sequence[str] = (),
    tensorboard: bool = False,
) -> Path:
    """Train, write the best model on the validation set to ``out``, and return that path.

    Without a validation set the last model is written. ``init`` starts from another model, whose
    shape, pruning history and zeros of masks it keeps. State and log are kept in ``OUT.training``
    (state.py). A finished run is left as it is.

    Raises ValueError when ``out`` or its state belongs to a run with another configuration, when
    the loss stops being finite, or for impossible sizes; InputError for bad data.
    """
    group = ProcessGroup() if group is None else group
    with locked(out) if group.is_first else contextlib.nullcontext():
        return _train(data, config, out, init, group, command_line, tensorboard)


@without_denormals()
def _train(
    data: Corpus,
    config: TrainingConfig,
    out: PathLike,
    init: Optional[Checkpoint],
    group: ProcessGroup,
    command_line: Sequence[str],
    tensorboard: bool,
) -> Path:
    folder = TrainingFolder(out, _identity(data, config, init))
    if group.from_first(folder.is_finished):
        log.info("%s: finished already, nothing to do", out)
        if group.is_first:
            folder.finish()
        return folder.out
    if group.is_first:
        sets = {name: counts["tokens"] for name, counts in data.data["sets"].items()}
        sizes = ", ".join(f"{name} {count:,} tokens" for name, count in sets.items())
        log.info("%s: %s; on %s", data.path, sizes, group.device)
    model = _make_model(data, config, init, group)
    model.checkpoint_activations = config.checkpoint_activations
    history = () if init is None else init.history
    loop = _make_loop(model, data, config, group, _is_masked(history))
    validation = None
    if data.has("valid"):
        validation = Validation(data, model.shape.max_positions, group)
    run = _Run(loop, validation, folder, config, data, group, command_line, tensorboard, history)
    run.resume()
    with run.progress_bar() as bar:
        while not loop.done:
            run.after(loop.step())
            bar(loop)
    return run.finish()


class _Run:
    """What happens around the steps: log, validation, saved state."""

    def __init__(
        self,
        loop: TrainingLoop,
        validation: Optional[Validation],
        folder: TrainingFolder,
        config: TrainingConfig,
        data: Corpus,
        group: ProcessGroup,
        command_line: Sequence[str],
        tensorboard: bool,
        history: History,
    ) -> None:
        self._history = history
        self._loop = loop
        self._validation = validation
        self._folder = folder
        self._config = config
        self._data = data
        self._group = group
        self._command_line = command_line
        self._writer = None
        if tensorboard and group.is_first:
            self._writer = _summary_writer(folder.path / "tensorboard")
        self._started = self._window_started = time.monotonic()
        self._window = [0.0, 0.0]  # summed loss and tokens since the last log line

    def resume(self) -> None:
        """Go on from the saved state, if there is one."""
        keep = self._loop.keeper()
        state = self._group.from_first(self._folder.load, lambda path, one: keep(path[1:], one))
        if state is not None:
            self._loop.load_state(state["loop"])
            self._window = list(state["window"])
            if self._validation is not None:
                self._validation.best_step = state["best_step"]
                self._validation.best_nats = state["best_nats"]
        if not self._group.is_first:
            return
        best_step = 0 if self._validation is None else self._validation.best_step
        self._folder.start(self._loop.steps, best_step)
        log.info(
            "%d parameters, %s; %s step %d; log and state in %s",
            count_parameters(self._loop.model),
            self._loop.precision,
            "starting at" if state is None else "resuming after",
            self._loop.steps,
            self._folder.path,
        )
        if self._group.world > 1:
            log.info("%s", self._memory())

    def _memory(self) -> str:
        """What the weights and what trains them take, and what they would take otherwise."""
        world, bytes_of_all = self._group.world, self._loop.optimizer_bytes
        sizes = {"replicated": bytes_of_all, "sharded": bytes_of_all // world}
        parallel = self._config.parallel
        other = "replicated" if parallel == "sharded" else "sharded"
        return (
            f"{world} processes, {parallel}: weights, gradients and optimiser state take "
            f"{sizes[parallel] / 1e6:,.0f} MB in each, beside activations "
            f"({other}: {sizes[other] / 1e6:,.0f} MB)"
        )

    def after(self, step: Step) -> None:
        """Log, validate and save after one step, each when it is due."""
        config, last = self._config, self._loop.done
        self._window[0] += step.loss * step.tokens
        self._window[1] += step.tokens
        if step.step % config.log_steps == 0 or last:
            self._log_window(step)
        if self._validation is not None and (step.step % config.valid_steps == 0 or last):
            record = self._validation.measure(self._loop.model, step.step)
            self._record(record)
            if record["best"]:
                self._save_model(self._folder.best(step.step))
        if step.step % config.save_steps == 0 or last:
            self._save_state()

    def finish(self) -> Path:
        """Write ``OUT`` and clean up."""
        best_step = self._loop.steps if self._validation is None else self._validation.best_step
        if best_step == self._loop.steps:
            self._save_model(self._folder.out)
        else:
            self._save_model(self._folder.last)
            if self._group.is_first:
                best = load_checkpoint(self._folder.best(best_step)).model
                self._write_model(self._folder.out, best, best_step)
        if self._group.is_first:
            self._folder.finish()
            if self._writer is not None:
                self._writer.close()
            log.info("wrote %s (step %d of %d)", self._folder.out, best_step, self._loop.steps)
        return self._folder.out

    @contextmanager
    def progress_bar(self) -> Iterator[Any]:
        """A function that shows how far the loop is, in the first process."""
        if not self._group.is_first:
            yield lambda loop: None
            return
        with Progress("training", 100.0, "%", 100.0 * self._loop.progress) as bar:

            def show(loop: TrainingLoop) -> None:
                bar.add(min(100.0, 100.0 * loop.progress) - bar.done)

            yield show

    def _log_window(self, step: Step) -> None:
        now = time.monotonic()
        loss, tokens = self._window[0] / self._window[1], self._window[1]
        self._record(
            {
                "step": step.step,
                "tokens": self._loop.tokens,
                "loss": loss,
                "lr_factor": step.lr_factor,
                "gradient_norm": step.gradient_norm,
                "tokens_per_s": tokens / max(now - self._window_started, 1e-9),
                "wall_s": now - self._started,
            }
        )
        self._window, self._window_started = [0.0, 0.0], now

    def _record(self, record: dict[str, Any]) -> None:
        if not self._group.is_first:
            return
        self._folder.append(record)
        shown = {key: f"{value:.5g}" for key, value in record.items() if key != "step"}
        log.info("step %d: %s", record["step"], ", ".join(f"{k} {v}" for k, v in shown.items()))
        if self._writer is not None:
            for key, value in record.items():
                self._writer.add_scalar(key, value, record["step"])

    def _save_state(self) -> None:
        """Write what a resume needs; all processes must come here."""
        validation = self._validation
        state = {
            "loop": self._loop.state(),
            "window": self._window,
            "best_step": 0 if validation is None else validation.best_step,
            "best_nats": math.inf if validation is None else validation.best_nats,
        }
        if self._group.is_first:
            self._folder.save(state)

    def _save_model(self, path: Path) -> None:
        """Write the model as it is now; all processes must come here."""
        model = whole_model(self._loop.model, self._group)
        if model is not None and self._group.is_first:
            self._write_model(path, model, self._loop.steps)

    def _write_model(self, path: Path, model: TransformerLM, step: int) -> None:
        training = {
            "run": dict(self._folder.identity),
            "step": step,
            "steps": self._loop.steps,
            "tokens": self._loop.tokens,
            "skipped_sentences": self._loop.batches.n_skipped,
            "processes": self._group.world,
            "precision": self._loop.precision,
        }
        if self._validation is not None:
            training["valid_ppl_token"] = math.exp(self._validation.best_nats)
        save_checkpoint(
            path,
            model,
            self._data.tokenizer_path,
            provenance(self._command_line, seed=self._config.seed, training=training),
            self._history,
            form=self._data.form,
        )


def _identity(data: Corpus, config: TrainingConfig, init: Optional[Checkpoint]) -> dict[str, Any]:
    """What decides the resulting model: not how processes share the work."""
    stated = to_json(config)
    del stated["parallel"]
    initial = None if init is None or init.path is None else weights_digest(init.path)
    return {"config": stated, "data": data.digest, "init": initial}


def _make_model(
    data: Corpus, config: TrainingConfig, init: Optional[Checkpoint], group: ProcessGroup
) -> TransformerLM:
    model = _whole_model(data, config, init, group)
    if config.parallel == "sharded" and group.world > 1:
        shard(model, group)
    else:
        group.share(model.to(group.device))
    return model


def _whole_model(
    data: Corpus, config: TrainingConfig, init: Optional[Checkpoint], group: ProcessGroup
) -> TransformerLM:
    if init is None:
        shape = config.model.shape(data.vocab_size)
        _check_memory(parameters_of(shape), config.parallel, group)
        torch.manual_seed(config.seed)
        return TransformerLM(shape)
    if config.model != ModelConfig():
        raise ValueError("an initial checkpoint has its own shape; expected no model.* settings")
    if init.tokenizer_sha256 != data.data["tokenizer_sha256"]:
        raise InputError(
            data.tokenizer_path, None, "another tokenizer than the initial model's", "the same"
        )
    if init.elastic is not None:
        log.warning("%s holds LMs of several sizes; the trained one is its largest", init.path)
    return init.model


def _check_memory(parameters: int, parallel: str, group: ProcessGroup) -> None:
    """Raise ValueError for a model that this machine cannot hold with what trains it."""
    needed = 16 * parameters  # weights, gradients and two moments in float32
    if group.device.type == "cpu":  # all processes of the machine share its memory
        here = int(os.environ.get("LOCAL_WORLD_SIZE", group.world))
        if parallel == "sharded":  # each makes it whole first
            needed = needed // group.world + 4 * parameters
        needed *= here
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ValueError(
            f"a model of {parameters:,} parameters takes {needed / 2**30:,.0f} GiB in training; "
            f"expected at most the {there / 2**30:.0f} GiB of this machine"
        )


def _is_masked(history: History) -> bool:
    """Whether single weights were pruned."""
    marks = ("masks", "embedding_sparsity", "positions_sparsity")
    return any(step.get(mark) for step in history for mark in marks)


def _make_loop(
    model: TransformerLM,
    data: Corpus,
    config: TrainingConfig,
    group: ProcessGroup,
    keep_zeros: bool,
) -> TrainingLoop:
    batches = BatchStream(
        data.stream("train"),
        config.tokens_per_batch,
        config.seed,
        model.shape.max_positions,
        group.rank,
        group.world,
    )
    max_tokens = config.max_tokens
    if config.max_steps is None and max_tokens is None:
        max_tokens = batches.epoch_targets
    return TrainingLoop(
        model,
        batches,
        config.optimizer,
        Budget(config.max_steps, max_tokens),
        config.accumulation,
        config.precision,
        config.seed,
        group=group,
        keep_zeros=keep_zeros,
    )


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingPackage("tensorboard", "tensorboard") from None
    return SummaryWriter(str(folder))
