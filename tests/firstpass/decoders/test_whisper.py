"""Whisper's beam as n-best lists: a model of random weights against transformers, and the parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrprune.errors import InputError
from asrprune.firstpass.decoders.decoder import SAMPLING_RATE
from asrprune.firstpass.decoders.whisper import (
    WhisperConfig,
    Writing,
    combined,
    merged,
    windows,
)

LETTERS = "abcdefgh"
SPECIAL = ["endoftext", "startoftranscript", "transcribe", "translate", "startoflm"]
SPECIAL += ["startofprev", "nospeech", "notimestamps"]


def test_long_audio_is_cut_where_it_is_quiet_and_nothing_is_lost() -> None:
    samples = np.random.default_rng(0).integers(-900, 900, 70 * SAMPLING_RATE).astype(np.int16)
    for second in (20, 41):
        samples[second * SAMPLING_RATE :][: SAMPLING_RATE // 2] //= 100
    parts = list(windows(samples))
    np.testing.assert_array_equal(np.concatenate(parts), samples)
    lengths = [len(part) / SAMPLING_RATE for part in parts]
    assert lengths[:2] == [pytest.approx(20.25, abs=0.25), pytest.approx(21.0, abs=0.25)]
    assert max(lengths) <= 30
    assert [len(part) for part in windows(samples[:0])] == [0]


def test_windows_are_combined_by_probability_for_each_token() -> None:
    first = [Writing("a", -1.0, 2), Writing("b", -4.0, 2)]
    second = [Writing("c", -1.0, 2), Writing("d", -2.0, 2)]
    best = combined([first, second], 3)
    assert best == [Writing("a c", -2.0, 4), Writing("a d", -3.0, 4), Writing("b c", -5.0, 4)]
    for lists in ([first, [], second], [[], first, second], [first, second, [], []]):
        assert combined(lists, 3) == best
    assert combined([[], first], 3) == first
    assert combined([[], []], 3) == []


def test_writings_of_the_same_words_are_one_hypothesis() -> None:
    hyps = merged(
        [Writing("x", np.log(0.2), 1), Writing("y", -3.0, 1), Writing("x", np.log(0.3), 2)]
    )
    assert [hyp.text for hyp in hyps] == ["x", "y"]
    assert hyps[0].acoustic == pytest.approx(np.log(0.5))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    with pytest.raises(InputError, match=r"model\.bin: no such file; expected a folder with"):
        WhisperConfig(str(tmp_path)).open()
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="expected a Whisper model of CTranslate2"):
        WhisperConfig(str(tmp_path)).open()


@pytest.fixture(scope="module")
def random_whisper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder of CTranslate2's and the same model in transformers. It writes a few letters, digits
    and spaces, then ends."""
    pytest.importorskip("faster_whisper")
    transformers = pytest.importorskip("transformers")
    import torch
    from ctranslate2.converters.transformers import WhisperLoader
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("whisper")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = alphabet + [f"<|{name}|>" for name in SPECIAL]
    vocabulary += [f"<|{0.02 * n:.2f}|>" for n in range(1501)]
    tokenizer = Tokenizer(models.BPE({token: n for n, token in enumerate(vocabulary)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([f"<|{name}|>" for name in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))

    torch.manual_seed(0)
    end = vocabulary.index("<|endoftext|>")
    config = transformers.WhisperConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        decoder_start_token_id=vocabulary.index("<|startoftranscript|>"),
        eos_token_id=end,
        bos_token_id=end,
        pad_token_id=end,
        init_std=0.3,
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    said = [vocabulary.index(letter) for letter in (*LETTERS, "1", "\u0120")] + [end]
    with torch.no_grad():  # one direction of the last norm's output chooses what may be said
        embedding = model.model.decoder.embed_tokens.weight
        embedding[:, 0] = -4.0
        embedding[said, 0] = 0.5
        embedding[end, 0] = 1.0
        model.model.decoder.layer_norm.bias[0] = 4.0
    loader = WhisperLoader()
    spec = loader.get_model_spec(model)
    spec.config.suppress_ids, spec.config.suppress_ids_begin = [], []
    spec.config.lang_ids, spec.config.alignment_heads = [], [(0, 0)]
    spec.register_vocabulary(vocabulary)
    spec.validate()
    spec.save(str(folder))
    return folder, model


@pytest.mark.parametrize("normalise", ["none", "asr"])
def test_scores_are_those_of_transformers(random_whisper: tuple[Path, Any], normalise: str) -> None:
    import torch

    folder, model = random_whisper
    decoder = WhisperConfig(str(folder), nbest=5, normalise=normalise).open()
    samples = np.random.default_rng(1).integers(-9000, 9000, SAMPLING_RATE).astype(np.int16)
    beam = decoder._beam(samples)
    assert 3 <= len(beam) <= 5  # the empty one, which Whisper forbids, may have been in the beam
    assert all(set(writing.text) <= {*LETTERS, "1", " "} for writing in beam)
    features = decoder._model.feature_extractor(samples.astype(np.float32) / 32768.0)
    features = torch.from_numpy(features[:, :3000].astype(np.float32))[None]
    features = torch.nn.functional.pad(features, (0, 3000 - features.shape[-1]))
    ids = decoder._model.hf_tokenizer.token_to_id
    for writing in beam:
        said = [ids("\u0120" if letter == " " else letter) for letter in writing.text]
        tokens = [*decoder._prompt, *said, ids("<|endoftext|>")]
        with torch.no_grad():
            logits = model(features, decoder_input_ids=torch.tensor([tokens[:-1]])).logits[0]
        logits[:, decoder._suppressed] = -torch.inf
        lnp = logits.log_softmax(-1)
        at = range(len(decoder._prompt) - 1, len(tokens) - 1)
        expected = sum(float(lnp[n, tokens[n + 1]]) for n in at)
        assert writing.total == pytest.approx(expected, abs=1e-3)


def test_a_list_is_words_in_the_form_that_is_asked_for(random_whisper: tuple[Path, Any]) -> None:
    folder, _ = random_whisper
    samples = np.random.default_rng(2).integers(-9000, 9000, SAMPLING_RATE).astype(np.int16)
    as_written = WhisperConfig(str(folder), nbest=8, normalise="none").open().decode("u", samples)
    words = WhisperConfig(str(folder), nbest=8, normalise="librispeech").open().decode("u", samples)
    assert "1" in "".join(hyp.text for hyp in as_written.nbest.hyps)
    texts = [hyp.text for hyp in words.nbest.hyps]
    assert set("".join(texts)) <= {*LETTERS.upper(), " "}
    assert len(set(texts)) == len(texts)
    assert words.nbest.audio_s == 1.0
    assert words.lattice is None
    assert WhisperConfig(str(folder), nbest=2).open().decode("u", samples[:0]).nbest.audio_s == 0.0


def test_the_model_is_what_tells_runs_apart(random_whisper: tuple[Path, Any]) -> None:
    folder, _ = random_whisper
    config = WhisperConfig(str(folder))
    assert config == WhisperConfig("elsewhere")
    assert config != WhisperConfig(str(folder), nbest=3)
    settings = config.open().settings
    assert set(settings["model_sha256"]) == {"model.bin", "config.json", "tokenizer.json"}
    assert json.loads(json.dumps(settings)) == settings


def test_language_and_type_of_computation_have_an_effect(random_whisper: tuple[Path, Any]) -> None:
    folder, _ = random_whisper
    plain = WhisperConfig(str(folder), device="cpu").open()
    other = WhisperConfig(str(folder), device="cpu", compute_type="int8", language="tr").open()
    assert plain.settings["device"] == other.settings["device"] == "cpu"
    assert plain.settings["compute_type"] == "float32"
    assert other.settings["compute_type"].startswith("int8")
    assert (plain._words("I"), other._words("I")) == ("i", "\u0131")
