"""The work of ``tune --choose-form``: dev scored in every form that an imported LM can have."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asrprune.cli.text_flags import check_known, words_of_lists
from asrprune.cli.tune_systems import Dev, Settings, System, read_dev, tune_systems
from asrprune.core.counts import ErrorCounts
from asrprune.core.progress import tracked
from asrprune.core.units import RATES, in_units
from asrprune.errors import InputError
from asrprune.files import passing_folder
from asrprune.rescore.nbest.rescore import RescoringSummary, rescore
from asrprune.rescore.nbest.scored_list import scored_lists
from asrprune.rescore.scores_file import Scores, UtteranceScores, make_header, write_scores
from asrprune.rescore.tuning.tune import tune
from asrprune.text.sentence_choices import SentenceChoice, sentence_choices
from asrprune.wer.bootstrap import PairedComparison, bootstrap_wer, compare_paired
from asrprune.wer.wer import count_errors

if TYPE_CHECKING:
    from asrprune.lm.model.checkpoint import Checkpoint

log = logging.getLogger(__name__)

_LISTS_AT_ONCE = 50


@dataclass(frozen=True)
class _Tried:
    """A form with its scores of dev, and the errors of every utterance at weights of its own."""

    choice: SentenceChoice
    scores: Scores
    errors: Mapping[str, ErrorCounts]

    @property
    def total(self) -> int:
        """Errors of all utterances."""
        return sum(one.errors for one in self.errors.values())


def tune_forms(lm: str, chosen_lm: str, out: str, settings: Settings) -> None:
    """Write the LM ``lm`` in the form with the fewest word errors on dev as the checkpoint
    ``chosen_lm``, and the weights tuned for it as ``out``.

    The form that it has is kept unless the 95 % interval of another one's difference (paired, over
    utterances, each form at weights tuned for it) lies below 0. Raises InputError for an LM that is
    not an imported one, for a folder ``chosen_lm`` that holds anything but a checkpoint, and as
    ``tune`` does.
    """
    from asrprune.lm.model.checkpoint import is_checkpoint, load_checkpoint, save_checkpoint
    from asrprune.lm.open import lm_digest, short_name
    from asrprune.provenance import provenance
    from asrprune.text.marked import MarkedTokenizer

    if os.path.isdir(chosen_lm) and os.listdir(chosen_lm) and not is_checkpoint(chosen_lm):
        expected = "a new folder, or a checkpoint, which is replaced"
        raise InputError(chosen_lm, None, "a folder that is not empty", expected)
    dev = read_dev(settings)
    checkpoint = load_checkpoint(lm)
    tokenizer = checkpoint.tokenizer(settings.text)
    if not isinstance(tokenizer.model, MarkedTokenizer):
        expected = "that of an imported LM, which alone can end sentences in several ways"
        raise InputError(checkpoint.tokenizer_path, None, "a SentencePiece model", expected)
    words = sorted(words_of_lists(dev.lists))
    choices = sentence_choices(tokenizer.model, tokenizer.form, words)
    tried = [
        _try(choice, checkpoint, dev, settings, number == 0)
        for number, choice in enumerate(tracked(choices, "tried", "forms", len(choices)))
    ]
    against = {one.choice: compare_paired(tried[0].errors, one.errors) for one in tried[1:]}
    best = _best(tried, against)
    rows = _table(tried, against, settings.unit)
    for line in rows:
        log.info("%s", line)
    log.info("%s: %s", "chosen" if best is not tried[0] else "kept", best.choice.name)
    origin = provenance(
        settings.command_line, parent=lm, parent_digest=lm_digest(lm), forms_on_dev=rows
    )
    save_checkpoint(
        chosen_lm,
        checkpoint.model,
        best.choice.text.encode(),
        origin,
        checkpoint.history,
        best.choice.form,
        checkpoint.stored,
        checkpoint.elastic,
    )
    with passing_folder() as folder:
        path = f"{folder}/scores"
        write_scores(path, make_header(short_name(chosen_lm)), best.scores.utterances.values())
        tune_systems([System("", (path,), out)], settings)


def _try(
    choice: SentenceChoice, checkpoint: Checkpoint, dev: Dev, settings: Settings, first: bool
) -> _Tried:
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.open import open_model
    from asrprune.rescore.lmscore import score_lists
    from asrprune.text.marked import MarkedTokenizer
    from asrprune.text.tokenizer import Tokenizer

    pieces = MarkedTokenizer(checkpoint.tokenizer_path, choice.text)
    lm = open_model(
        checkpoint.model,
        Tokenizer(pieces, choice.form, settings.text),
        engine_options=EngineOptions(settings.threads, settings.device),
        name=choice.name,
    )
    if first:
        words = words_of_lists(dev.lists)
        check_known(lm, words, settings.dev, settings.accept_unknown, settings.dev)
    scored: dict[str, UtteranceScores] = {}
    lists = list(dev.lists)
    for start in range(0, len(lists), _LISTS_AT_ONCE):
        some = lists[start : start + _LISTS_AT_ONCE]
        for nbest, values in zip(some, score_lists(settings.dev, some, lm)):
            scored[nbest.utt] = UtteranceScores(nbest.utt, nbest.digest, values)
    scores = Scores(settings.dev, make_header(choice.name), scored)
    joined = list(scored_lists(lists, [scores], settings.unit))
    found = tune(joined, dev.refs, dev.start, settings.options, settings.dev)
    weights = replace(found.weights, unit=settings.unit)
    errors = {
        one.nbest.utt: count_errors(dev.refs[one.nbest.utt], in_units(one.best, settings.unit))
        for one in rescore(joined, weights, RescoringSummary(), settings.dev)
    }
    return _Tried(choice, scores, errors)


def _best(tried: Sequence[_Tried], against: Mapping[SentenceChoice, PairedComparison]) -> _Tried:
    """The first one, or of those that are surely better the one with the fewest errors."""
    better = [one for one in tried[1:] if against[one.choice].interval.high < 0.0]
    return min(better, key=lambda one: one.total, default=tried[0])


def _table(
    tried: Sequence[_Tried], against: Mapping[SentenceChoice, PairedComparison], unit: str
) -> list[str]:
    """A line a form: its WER (of ``unit``) with the interval, and the difference to that of now."""
    lines = [f"sentence form and case on dev, {len(tried[0].errors)} utterances, tuned for each:"]
    for one in tried:
        wer = bootstrap_wer(list(one.errors.values()))
        low, high = wer.percentile
        line = f"{one.choice.sentence:<13} {one.choice.case:<9} "
        line += f"{RATES[unit]} {wer.wer_percent:6.2f} [{low:.2f}, {high:.2f}]"
        if one.choice in against:
            found = against[one.choice]
            low, high = found.interval
            line += f"  against now {found.difference_percent:+.2f} [{low:+.2f}, {high:+.2f}]"
        else:
            line += "  (now)"
        lines.append(line)
    return lines
