"""Real decoding: scores restate the decoder, order and processes change nothing."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats.jsonl import read_nbest

SENTENCES = {
    "utt-3": "the cat sat on the mat",
    "utt-1": "we went down to the river to look for a small boat",
    "utt-2": "no",
}

pytestmark = pytest.mark.slow
pytest.importorskip("pocketsphinx")
pytest.importorskip("lhotse")
pytest.importorskip("hibari")
sf = pytest.importorskip("soundfile")

sys.path.insert(0, str(Path(__file__).parents[3] / "local/mini"))
from hibari_voice import Hibari  # noqa: E402


def _cut_line(utt: str, path: Path, n_samples: int, text: str) -> str:
    seconds = n_samples / 16000
    supervision = {"id": utt, "recording_id": utt, "start": 0.0, "duration": seconds, "text": text}
    source = {"type": "file", "channels": [0], "source": str(path)}
    recording = {
        "id": utt,
        "sources": [source],
        "sampling_rate": 16000,
        "num_samples": n_samples,
        "duration": seconds,
        "channel_ids": [0],
    }
    return json.dumps(
        {
            "id": f"cut-{utt}",
            "start": 0.0,
            "duration": seconds,
            "channel": 0,
            "supervisions": [{**supervision, "channel": 0}],
            "recording": recording,
            "type": "MonoCut",
        }
    )


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audio")
    voice = Hibari(())
    lines = []
    for utt, text in SENTENCES.items():
        wav = folder / f"{utt}.wav"
        voice.write(text, "", wav)
        lines.append(_cut_line(utt, wav, sf.info(str(wav)).frames, text))
    sf.write(str(folder / "silence.wav"), np.zeros(480, dtype=np.int16), 16000)
    lines.append(_cut_line("silence", folder / "silence.wav", 480, ""))
    (folder / "cuts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "cuts.jsonl"


@pytest.fixture(scope="module")
def decoded(cuts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from asrprune.firstpass.decoders.decode import decode_cuts
    from asrprune.firstpass.decoders.pocketsphinx import PocketSphinxConfig

    out = tmp_path_factory.mktemp("out") / "nj1"
    decode_cuts(cuts, out, PocketSphinxConfig(nbest=20))
    return out


def _lines(out: Path) -> list[str]:
    return gzip.decompress((out / "nbest.jsonl.gz").read_bytes()).decode().splitlines()[1:]


def test_lists_are_sorted_by_the_stored_weights_and_start_as_the_decoder(decoded: Path) -> None:
    summary = json.loads((decoded / "first_pass.json").read_text())
    weights = ScoreWeights(**summary["weights"])
    lists = {nbest.utt: nbest for nbest in read_nbest(decoded / "nbest.jsonl.gz")}
    assert list(lists) == [*SENTENCES, "silence"]
    for utt, text in SENTENCES.items():
        hyps = lists[utt].hyps
        totals = [weights.total(h.acoustic, h.lm, (), len(h.words)) for h in hyps]
        assert totals == sorted(totals, reverse=True)
        assert len({h.text for h in hyps}) == len(hyps)
        assert lists[utt].ref == text
    assert len(lists["utt-1"].hyps) == 20
    assert "the cat sat on the mat" in [h.text for h in lists["utt-3"].hyps]
    assert summary["decoder_1best_not_listed"] == []
    assert summary["decoder_1best_not_first"] == []
    hyp = [line.split(maxsplit=1) for line in (decoded / "hyp").read_text().splitlines()]
    assert [line[0] for line in hyp] == list(lists)
    assert hyp[0][1] == lists["utt-3"].hyps[0].text


def test_the_decoder_has_the_limits_that_are_asked_for() -> None:
    from asrprune.firstpass.decoders.pocketsphinx import PocketSphinx, PocketSphinxConfig

    own = PocketSphinx(PocketSphinxConfig()).settings
    limited = PocketSphinx(PocketSphinxConfig(max_hmms=321, max_words=7)).settings
    assert (limited["maxhmmpf"], limited["maxwpf"]) == (321, 7)
    changed = {name for name in own if own[name] != limited[name]}
    assert changed == {"maxhmmpf", "maxwpf"}
    for name in ("max_hmms", "max_words"):
        with pytest.raises(ValueError, match=f"{name} is 0"):
            PocketSphinxConfig(**{name: 0})


def test_an_utterance_without_result_lists_the_empty_hypothesis(decoded: Path) -> None:
    summary = json.loads((decoded / "first_pass.json").read_text())
    last = list(read_nbest(decoded / "nbest.jsonl.gz"))[-1]
    assert summary["no_hypothesis"] == ["silence"]
    assert [hyp.text for hyp in last.hyps] == [""]
    assert last.hyps[0].acoustic is None


def test_what_is_found_in_digital_silence_depends_on_nothing_before(cuts: Path) -> None:
    from asrprune.firstpass.decoders.pocketsphinx import PocketSphinx, PocketSphinxConfig

    speech, _ = sf.read(str(cuts.parent / "utt-3.wav"), dtype="int16")
    silence = np.zeros(16000, dtype=np.int16)
    decoder = PocketSphinx(PocketSphinxConfig(nbest=5))
    alone = decoder.decode("silence", silence).nbest
    decoder.decode("speech", speech)
    assert decoder.decode("silence", silence).nbest == alone


def test_the_total_is_the_score_of_the_decoder(decoded: Path, cuts: Path) -> None:
    """Up to its rounding and the final node's acoustic score, which its lattice file lacks."""
    from asrprune.firstpass.decoders.pocketsphinx import PocketSphinx, PocketSphinxConfig

    decoder = PocketSphinx(PocketSphinxConfig(nbest=1))
    samples, _ = sf.read(str(cuts.parent / "utt-1.wav"), dtype="int16")
    top = decoder.decode("u", samples).nbest.hyps[0]
    score = math.log(decoder._decoder.hyp().score) * 1024
    ours = decoder.weights.total(top.acoustic, top.lm, (), len(top.words))
    assert score == pytest.approx(ours, abs=40.0)
    assert abs(ours) > 400.0


def test_lattices_hold_the_n_best_with_the_same_scores(decoded: Path) -> None:
    from asrprune.core.lattice.paths import k_best
    from asrprune.firstpass.formats.slf import read_slf

    nbest = next(n for n in read_nbest(decoded / "nbest.jsonl.gz") if n.utt == "utt-1")
    lattice = read_slf(decoded / "lattices" / "utt-1.slf.gz")
    assert lattice.weights is not None
    for ours, stored in zip(k_best(lattice, 5, lattice.weights), nbest.hyps):
        assert ours.text == stored.text
        assert (ours.acoustic, ours.lm) == pytest.approx((stored.acoustic, stored.lm))


def test_order_and_processes_change_nothing(cuts: Path, decoded: Path, tmp_path: Path) -> None:
    from asrprune.firstpass.decoders.decode import decode_cuts
    from asrprune.firstpass.decoders.pocketsphinx import PocketSphinxConfig

    backwards = tmp_path / "backwards.jsonl"
    backwards.write_text("\n".join(reversed(cuts.read_text().splitlines())) + "\n")
    decode_cuts(backwards, tmp_path / "nj2", PocketSphinxConfig(nbest=20), nj=2)
    assert sorted(_lines(tmp_path / "nj2")) == sorted(_lines(decoded))


def test_an_interrupted_run_goes_on_and_changed_settings_are_refused(
    cuts: Path, decoded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from asrprune.firstpass.decoders.decode import decode_cuts
    from asrprune.firstpass.decoders.pocketsphinx import PocketSphinxConfig

    caplog.set_level("INFO")
    broken, out = tmp_path / "cuts.jsonl", tmp_path / "out"
    shutil.copy(cuts, broken)
    hidden = cuts.parent / "hidden.wav"
    (cuts.parent / "utt-2.wav").rename(hidden)
    try:
        with pytest.raises(InputError, match=r"cuts\.jsonl:3: utterance utt-2: audio"):
            decode_cuts(broken, out, PocketSphinxConfig(nbest=20))
    finally:
        hidden.rename(cuts.parent / "utt-2.wav")
    assert not out.exists()
    with open(tmp_path / "out.decoding" / "done.txt", "a", encoding="utf-8") as stream:
        stream.write('0123456789abcdef {"utt": "utt-2", "li')  # killed while it wrote
    summary = decode_cuts(broken, out, PocketSphinxConfig(nbest=20))
    assert summary["run"]["utterances"] == 2
    assert _lines(out) == _lines(decoded)
    before = (out / "nbest.jsonl.gz").read_bytes()
    decode_cuts(broken, out, PocketSphinxConfig(nbest=20))
    assert "finished already, nothing to do" in caplog.text
    assert (out / "nbest.jsonl.gz").read_bytes() == before
    with pytest.raises(InputError, match=r"out belongs to another run: config.nbest is 20 there"):
        decode_cuts(broken, out, PocketSphinxConfig(nbest=2))
    summary = decode_cuts(broken, tmp_path / "other", PocketSphinxConfig(nbest=2))
    assert summary["run"]["utterances"] == 4
    assert max(len(nbest.hyps) for nbest in read_nbest(tmp_path / "other/nbest.jsonl.gz")) == 2
