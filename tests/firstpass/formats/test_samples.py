"""A small sample of every format: what it reads as, and that no damage to it is a traceback."""

from __future__ import annotations

import io
import json
import math
import re
import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats.kaldi_fst import WordFst, format_binary
from asrprune.firstpass.formats.table import FORMATS, lattice_nbest, read_items
from asrprune.firstpass.on_bad import OnBad

LN_10 = math.log(10.0)
BYTELOG = 1024.0 * math.log(1.0001)


@dataclass(frozen=True)
class Sample:
    """Files by name, the one to open ("" the folder), options that name files, what is read."""

    files: dict[str, bytes]
    expected: list[NBest]
    open: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def _list(utt: str, *hyps: tuple[Any, ...], **more: Any) -> NBest:
    return NBest(utt, tuple(Hypothesis(*hyp) for hyp in hyps), **more)


def _one(name: str, text: str, *expected: NBest, **options: Any) -> Sample:
    return Sample({name: text.encode()}, list(expected), name, options)


WORDS_TXT = b"<eps> 0\na 1\nb 2\n"
PATHS = _list("u-1", ("a b", -3.0, -1.5), ("b", -2.5, -4.0))
KALDI = """\
u-1 \n0\t1\t1\t1.0,2.0,7_7\n1\t2\t2\t0.5,1.0,\n0\t2\t2\t4.0,2.5,3\n2\n\n"""
PLAIN = """\
u-1 \n0\t1\t7\ta\t1.0,2.0\n1\t2\t0\tb\t0.5,1.0\n0\t2\t0\tb\t4.0,2.5\n2\n\n"""
BINARY = b"u-1 " + format_binary(
    WordFst(
        0,
        3,
        [(0, 1, 1, -1.0, -2.0), (1, 2, 2, -0.5, -1.0), (0, 2, 2, -4.0, -2.5)],
        {2: (0.0, 0.0)},
    ),
    compact=True,
)
SLF = """\
VERSION=1.0
UTTERANCE=u-1
N=3 L=3
I=0 t=0.0
I=1 t=0.5
I=2 t=1.0
J=0 S=0 E=1 W=a a=-2.0 l=-1.0
J=1 S=1 E=2 W=b(2) a=-1.0 l=-0.5
J=2 S=0 E=2 W=b a=-2.5 l=-4.0
"""
POCKETSPHINX_LAT = """\
# getcwd: /x
# -logbase 1.000100e+00
#
Frames 30
#
Nodes 3 (NODEID WORD STARTFRAME FIRST-ENDFRAME LAST-ENDFRAME)
0 </s> 20 29 29 ; 0
1 to(2) 5 19 19 ; 1
2 <s> 0 4 4 ; 2
#
Initial 2
Final 0
#
BestSegAscr 0 (NODEID ENDFRAME ASCORE)
#
Edges (FROM-NODEID TO-NODEID ASCORE)
2 1 -10000
1 0 -30000
End
"""
HEADER = '{"format": "asrprune-nbest", "version": 1, "log_base": "e", "sign": "logprob"}\n'
ESPNET1 = {
    "utts": {
        "u-1": {
            "output": [
                {"name": "target1[2]", "text": "a c", "rec_text": "b<eos>", "score": -2.5},
                {"name": "target1[1]", "text": "a c", "rec_text": "▁a▁b<eos>", "score": -1.0},
            ]
        },
        "u-2": {"output": [{"name": "target1[1]", "rec_text": "<eos>", "score": -3}]},
    }
}
SAMPLES = {
    "jsonl": _one(
        "x.jsonl",
        HEADER + '{"utt": "u", "hyps": [{"text": "a b", "acoustic": -1.5, "lm": null}]}\n',
        _list("u", ("a b", -1.5)),
    ),
    "slf": _one("x.slf", SLF, PATHS),
    "pocketsphinx-lat": _one(
        "u.lat", POCKETSPHINX_LAT, _list("u", ("to", -40000 * math.log(1.0001)))
    ),
    "mlm-json": _one(
        "x.json",
        '{"u": {"ref": "a", "hyp_2": {"score": -2, "text": "b"}, '
        '"hyp_1": {"score": -1.5, "text": "a b"}}}',
        _list("u", ("a b", -1.5), ("b", -2.0), ref="a"),
    ),
    "hyporadise": _one(
        "x.json",
        '[{"input": ["a b", "b", "b"], "output": "a"}]',
        _list("000001", ("a b",), ("b",), ref="a"),
    ),
    "kaldi-nbest": Sample(
        {
            "words": b"s-1-1 1 2\ns-1-2\n",
            "acwt": b"s-1-1 1.5\ns-1-2 2\n",
            "lmwt": b"s-1-1 0.25\ns-1-2 -1\n",
            "words.txt": WORDS_TXT,
        },
        [_list("s-1", ("a b", -1.5, -0.25), ("", -2.0, 1.0))],
    ),
    "kaldi-lat": Sample({"lat.1": KALDI.encode(), "words.txt": WORDS_TXT}, [PATHS]),
    "kaldi-lat-plain": _one("x.ark", PLAIN, PATHS),
    "kaldi-lat-binary": Sample({"lat.1": BINARY, "words.txt": WORDS_TXT}, [PATHS]),
    "srilm-nbest": Sample(
        {
            "u-1": b"NBestList1.0\n(-10) a b\n(-20.5)\n",
            "u-2": b"NBestList2.0\n(-7) a ( st: 0.0 et: 0.1 g: -1 a: -2 ) "
            b"-pau- ( st: 0.1 et: 0.2 g: 0 a: -4 )\n",
            "u-3": b"-100.5 -2 3 <s> a b </s>\n-200 -3.5 0\n",
        },
        [
            _list("u-1", ("a b", -10 * BYTELOG), ("", -20.5 * BYTELOG)),
            _list("u-2", ("a", -6 * BYTELOG, -BYTELOG)),
            _list("u-3", ("a b", -100.5 * LN_10, -2 * LN_10), ("", -200 * LN_10, -3.5 * LN_10)),
        ],
    ),
    "espnet2": Sample(
        {
            "output.1/1best_recog/text": b"u-1 a b\nu-2 \n",
            "output.1/1best_recog/score": b"u-1 -1.5\nu-2 tensor(-2.25)\n",
            "output.1/1best_recog/token_int": b"u-1 4 5\nu-2\n",
            "output.1/2best_recog/text": b"u-1 b\n",
            "output.1/2best_recog/score": b"u-1 tensor(-3.5, device='cuda:0')\n",
        },
        [
            _list("u-1", ("a b", -1.5, None, (4, 5)), ("b", -3.5)),
            _list("u-2", ("", -2.25, None, ())),
        ],
    ),
    "espnet1-json": _one(
        "data.json",
        json.dumps(ESPNET1),
        _list("u-1", ("a b", -1.0), ("b", -2.5), ref="a c"),
        _list("u-2", ("", -3.0)),
    ),
    "nemo-tsv": Sample(
        {
            "x.tsv": b"a b\t-1.5\nnan\t-2\n\t-3\nb\t-4\n",
            "manifest": b'{"audio_filepath": "/d/u-1.wav", "duration": 1.5, "text": "a"}\n'
            b'{"audio_filepath": "u-2.flac", "duration": 2, "text": ""}\n',
        },
        [
            _list("u-1", ("a b", -1.5), ("nan", -2.0), ref="a", audio_s=1.5),
            _list("u-2", ("", -3.0), ("b", -4.0), ref="", audio_s=2.0),
        ],
        "x.tsv",
        {"manifest": "manifest"},
    ),
    "wenet": _one(
        "x.txt",
        "wav u-1\ncandidate -1.5 a b\ncandidate -2 b\nwav u-2\n",
        _list("u-1", ("a b", -1.5), ("b", -2.0)),
        _list("u-2", ("",)),
    ),
    "flashlight": _one(
        "x.txt",
        "u-1 | -9.5 | -5 | -2 | 50 | b\nu-1 | -4.5 | -4 | -1 | 0% | a b\n"
        "u-2 | 1 | 2 | -inf | inf% |\n",
        _list("u-1", ("a b", -4.0, -LN_10), ("b", -5.0, -2 * LN_10)),
        _list("u-2", ("", 2.0, -math.inf)),
        lm_base=10.0,
    ),
    "vosk-json": _one(
        "u-1.json",
        '{"alternatives": [{"text": " a b", "confidence": 219.5}, {"text": "", "confidence": 2}]}',
        _list("u-1", ("a b", 219.5), ("", 2.0)),
    ),
    "sherpa-json": Sample(
        {
            "u-1.json": b'{"text": " a b", "tokens": ["a"], "ys_log_probs": [-0.5, -1]}',
            "u-2.json": b'{"text": "", "ys_probs": []}',
            "u-3.json": b'{"text": "a", "hypotheses": [{"text": "a", "score": -1.5},'
            b' {"text": "b", "tokens": ["b"], "ys_log_probs": [-1.5, -2]}]}',
            "u-4.json": b'{"text": "b", "ys_log_probs": [-2.5], "hypotheses": []}',
        },
        [
            _list("u-1", ("a b", -1.5)),
            _list("u-2", ("",)),
            _list("u-3", ("a", -1.5), ("b", -3.5)),
            _list("u-4", ("b", -2.5)),
        ],
    ),
    "parakeet-json": _one(
        "u-1.json",
        '{"beam_size": 4, "score_norm": true, "frame_sec": 0.08, "hypotheses": [{"text": "A b.",'
        ' "score": -1.5, "normalized_score": -0.5, "tokens": [{"id": 9, "frame": 4, "t": 0.32,'
        ' "duration_frames": 1, "duration": 0.08}, {"id": 2}]}, {"text": "", "score": -3}]}',
        _list("u-1", ("A b.", -1.5, None, (9, 2)), ("", -3.0)),
    ),
    "whisper-json": Sample(
        {
            "u-1.json": b'{"text": " A b.", "segments": [{"id": 0, "seek": 0, "start": 0.0, "end":'
            b' 2.0, "text": " A b.", "tokens": [50364, 32], "temperature": 0.0, "avg_logprob":'
            b' -0.3, "compression_ratio": 0.8, "no_speech_prob": 0.1}], "language": "en",'
            b' "duration": 2.5}',
            "u-2.json": b'[{"id": 1, "start": 0.0, "end": 2.0, "text": " a", "avg_logprob": -0.3},'
            b' {"id": 2, "start": 2.0, "end": 3.0, "text": " b"}]',
            "u-3.json": b'{"systeminfo": "AVX", "result": {"language": "en"}, "transcription": ['
            b'{"timestamps": {"from": "00:00:00,000", "to": "00:00:02,000"}, "offsets": {"from": 0,'
            b' "to": 2000}, "text": " a"}, {"text": "c b"}]}',
            "u-4.json": b'[{"text": "a b", "tokens": [5, 6], "avg_logprob": -0.5},'
            b' {"text": "b", "sum_logprob": -2}]',
            "u-5.json": b'{"nbest": [{"text": "a", "score": -1}, {"text": "b"}]}',
        },
        [
            _list("u-1", ("A b.",), audio_s=2.5),
            _list("u-2", ("a b",)),
            _list("u-3", ("ac b",)),
            _list("u-4", ("a b", -1.5), ("b", -2.0)),
            _list("u-5", ("a", -1.0), ("b",)),
        ],
    ),
    "nim-json": Sample(
        {
            "u-1.json": b'{"results": [{"alternatives": [{"transcript": "a b ", "confidence": 0.5,'
            b' "words": []}, {"transcript": "b", "confidence": 0.25}], "channelTag": 1}]}',
            "u-2.json": b'{"results": [{"alternatives": [{"transcript": "a "}], "isFinal": true},'
            b' {"alternatives": [{"transcript": "b", "confidence": -3.5}]}]}',
            "u-3.json": b'{"text": "a  b"}',
            "u-4.json": b'{"results": [{}, {"alternatives": [{"transcript": "b"}, {}]}]}',
        },
        [
            _list("u-1", ("a b",), ("b",)),
            _list("u-2", ("a b",)),
            _list("u-3", ("a b",)),
            _list("u-4", ("b",), ("",)),
        ],
    ),
    "wenet-json": _one(
        "u-1.json",
        '{"nbest": [{"sentence": " a  b", "word_pieces": [{"word": "a", "start": 0, "end": 9}]},'
        ' {"sentence": ""}], "type": "final_result"}',
        _list("u-1", ("a b",), ("",)),
    ),
    "pocketsphinx-nbest": _one(
        "u-1.hyp",
        "a b(2) -1000\n(null) -2000\n",
        _list("u-1", ("a b", -1000 * math.log(1.0001)), ("", -2000 * math.log(1.0001))),
    ),
}


def _k2_sample() -> bytes:
    torch = pytest.importorskip("torch")
    arcs = [[0, 1, 1, -3.0], [0, 2, 2, -6.5], [1, 2, 2, -1.5], [2, 3, -1, 0.0]]
    record = {
        "arcs": torch.tensor(
            [[*arc[:3], struct.unpack("<i", struct.pack("<f", arc[3]))[0]] for arc in arcs],
            dtype=torch.int32,
        ),
        "aux_labels": torch.tensor([1, 2, 2, -1], dtype=torch.int32),
        "lm_scores": torch.tensor([-1.0, -4.0, -0.5, 0.0]),
        "word_table": ["", "a", "b"],
    }
    stream = io.BytesIO()
    torch.save(record, stream)
    return stream.getvalue()


SAMPLES["k2"] = Sample({"u-1.pt": _k2_sample()}, [PATHS], "u-1.pt")


def _put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _read(name: str, folder: Path) -> list[Any]:
    sample = SAMPLES[name]
    options = {
        key: str(folder / value) if isinstance(value, str) else value
        for key, value in sample.options.items()
    }
    return list(read_items(name, str(folder / sample.open), options))


def _as_nbest(item: Any) -> NBest:
    if not isinstance(item, Lattice):
        assert isinstance(item, NBest)
        return item
    return lattice_nbest(item, 9, ScoreWeights(first_lm=0.0 if item.lm is None else 1.0))


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) == set(FORMATS)


@pytest.mark.parametrize("name", list(FORMATS))
def test_samples_read_as_stated(tmp_path: Path, name: str) -> None:
    _put(tmp_path, SAMPLES[name].files)
    found = [_as_nbest(item) for item in _read(name, tmp_path)]
    assert [nbest.utt for nbest in found] == [nbest.utt for nbest in SAMPLES[name].expected]
    for ours, stated in zip(found, SAMPLES[name].expected):
        assert (ours.ref, ours.audio_s) == (stated.ref, stated.audio_s)
        assert [hyp.text for hyp in ours.hyps] == [hyp.text for hyp in stated.hyps]
        assert [hyp.tokens for hyp in ours.hyps] == [hyp.tokens for hyp in stated.hyps]
        for hyp, other in zip(ours.hyps, stated.hyps):
            for score, value in ((hyp.acoustic, other.acoustic), (hyp.lm, other.lm)):
                near = None if value is None else pytest.approx(value, rel=1e-12)
                assert score == near


@pytest.mark.parametrize("name", list(FORMATS))
def test_files_with_crlf_read_the_same(tmp_path: Path, name: str) -> None:
    files = SAMPLES[name].files
    if name == "k2":
        pytest.skip("not a text format")
    if name == "kaldi-lat-binary":
        files = {**files, "words.txt": files["words.txt"].replace(b"\n", b"\r\n")}
    else:
        files = {key: text.replace(b"\n", b"\r\n") for key, text in files.items()}
    _put(tmp_path, files)
    assert [_as_nbest(item).hyps[0].text for item in _read(name, tmp_path)] == [
        nbest.hyps[0].text for nbest in SAMPLES[name].expected
    ]


PIECES = [b"", b"\n", b"\n\n", b"\t", b" ", b"\0", b"\xff", b"nan", b"-inf", b"1e999", b"-1"]
PIECES += [b"9" * 30, b"{", b"[", b'"', b"}", b"null", b"true", b"<eps>", b"0", b"u-1", b"\xc2\xa0"]
PIECES += [b"\xff\xff\xff\x7f", b"\xe2\x80\xa8", b"1_0", b"(", b"\\ud800", b"\xd9\xa3", b"\x1c"]
NUMBERS = [b"nan", b"inf", b"-inf", b"1e400", b"-1", b"0", b"1", b"2", b"1.5", b"2147483648"]
NUMBERS += [b"9223372036854775808", b"", b"0x1", b"true"]


def _damaged(content: bytes, data: st.DataObject) -> bytes:
    """The file with a few bytes replaced, a number or a bit changed, lines moved, or twice."""
    start = data.draw(st.integers(0, len(content)))
    kind = data.draw(st.sampled_from(["piece", "piece", "number", "bit", "lines", "twice"]))
    numbers = list(re.finditer(rb"-?[0-9]+(\.[0-9]+)?", content))
    if kind == "number" and numbers:
        found = data.draw(st.sampled_from(numbers))
        return (
            content[: found.start()] + data.draw(st.sampled_from(NUMBERS)) + content[found.end() :]
        )
    if kind == "bit" and start < len(content):
        bit = 1 << data.draw(st.integers(0, 7))
        return content[:start] + bytes([content[start] ^ bit]) + content[start + 1 :]
    if kind == "lines":
        lines = content.splitlines(keepends=True)
        order = data.draw(st.lists(st.integers(0, max(0, len(lines) - 1)), max_size=3))
        return b"".join(lines[: len(lines) // 2] + [lines[at] for at in order if lines])
    if kind == "twice":
        return content + content
    end = data.draw(st.integers(start, min(len(content), start + 12)))
    return content[:start] + data.draw(st.sampled_from(PIECES)) + content[end:]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMATS))
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_damaged_samples_raise_input_errors_or_read_whole(name: str, data: st.DataObject) -> None:
    files = dict(SAMPLES[name].files)
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(files)))
        files[key] = _damaged(files[key], data)
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        _put(folder, files)
        try:
            items = _read(name, folder)
        except InputError:
            return
    assert items or name == "jsonl"  # a file without utterance is an error, not an empty result
    assert len({item.utt for item in items}) == len(items)
    for item in items:
        assert isinstance(item, Lattice) or item.hyps


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FORMATS))
def test_cut_samples_lose_no_utterance_silently(tmp_path: Path, name: str) -> None:
    """Whatever byte a file ends at: an error, or a last line that was whole or longer before."""
    sample = SAMPLES[name]
    key = sample.open or max(sample.files, key=lambda file: len(sample.files[file]))
    size = len(sample.files[key])
    for end in range(0, size, 1 + size // 400):
        _put(tmp_path, {**sample.files, key: sample.files[key][:end]})
        try:
            items = _read(name, tmp_path)
        except InputError:
            continue
        assert items or name == "jsonl"  # its header alone is a list of no utterances
        if FORMATS[name].kind == "lattice":
            # at most digits of the last score may be missing, which nothing can notice
            texts = {hyp.text for item in items for hyp in _as_nbest(item).hyps}
            assert texts == {hyp.text for nbest in sample.expected for hyp in nbest.hyps}


@pytest.mark.parametrize(
    "text",
    [
        '{"nbest": [{"sentence": "a"}], "type": "partial_result"}',
        '{"nbest": [{"sentence": "a"}]}',
        '{"nbest": [], "type": "final_result"}',
        '{"nbest": [{"word": "a"}], "type": "final_result"}',
    ],
)
def test_a_wenet_result_that_is_not_final_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "u-1.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="utterance u-1"):
        list(read_items("wenet-json", str(tmp_path / "u-1.json"), {}))


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("parakeet-json", '{"text": "a b"}', "one transcript without alternatives"),
        ("parakeet-json", '{"hypotheses": [{"text": "a"}]}', "score 'None'"),
        ("parakeet-json", '{"hypotheses": [{"text": "a", "score": 1, "tokens": [1]}]}', "a token"),
        ("whisper-json", '{"segments": {}}', "neither 'text' nor a list"),
        ("whisper-json", '{"nbest": [], "hypotheses": []}', "both hypotheses and nbest"),
        ("whisper-json", '{"text": "a", "duration": -1}', "duration -1"),
        ("nim-json", '{"results": [{"alternatives": [], "isFinal": false}]}', "a partial result"),
        (
            "nim-json",
            '{"results": [{"alternatives": [{"transcript": "a"}, {"transcript": "b"}]},'
            ' {"alternatives": [{"transcript": "c"}]}]}',
            "2 results with several alternatives",
        ),
        ("nim-json", '{"results": [{"alternatives": []}, {}]}', "no alternative in 'results'"),
        ("nim-json", '{"transcript": "a"}', "neither a list 'results' nor 'text'"),
        ("sherpa-json", '{"text": "a", "hypotheses": {"a": 1}}', "no list 'hypotheses'"),
    ],
)
def test_other_results_are_refused_by_utterance(
    tmp_path: Path, name: str, text: str, found: str
) -> None:
    (tmp_path / "u-1.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="utterance u-1: ") as caught:
        list(read_items(name, str(tmp_path), {}))
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ((" How are you?", "Fine thanks."), "How are you? Fine thanks."),
        (("Hello there", "general", " Kenobi"), "Hello there general Kenobi"),
        (("你好", "世界"), "你好世界"),
        (("你好。", "", "第2", "「章」"), "你好。第2「章」"),
        (("สวัสดี", "ครับ"), "สวัสดีครับ"),
        (("안녕", "하세요"), "안녕 하세요"),
        (("我的 iPhone", "坏了1", "2"), "我的 iPhone 坏了1 2"),
        (("1", "2"), "1 2"),
    ],
)
def test_segments_are_apart_as_their_script_has_it(
    tmp_path: Path, segments: tuple[str, ...], text: str
) -> None:
    timed = [{"start": 0, "end": 1, "text": segment} for segment in segments]
    for value in (timed, {"segments": timed}):
        (tmp_path / "u-1.json").write_text(json.dumps(value), encoding="utf-8")
        (nbest,) = read_items("whisper-json", str(tmp_path), {})
        assert [hyp.text for hyp in nbest.hyps] == [text]


RESULTS = [name for name, sample in SAMPLES.items() if "u-1.json" in sample.files]


@pytest.mark.parametrize("name", RESULTS)
def test_the_name_of_the_audio_is_the_id_of_its_result(tmp_path: Path, name: str) -> None:
    content = SAMPLES[name].files["u-1.json"]
    _put(tmp_path, {"b.2.wav.json": content, "a.FLAC.json": content, "c.ctm.json": content})
    utts = [item.utt for item in read_items(name, str(tmp_path), {})]
    assert utts == ["a", "b.2", "c.ctm"]
    _put(tmp_path, {"a.json": content})
    with pytest.raises(InputError, match=r"a\.json: utterance a again \(a\.FLAC\.json\)"):
        list(read_items(name, str(tmp_path), {}))


@pytest.mark.parametrize("name", ["whisper-json", "nim-json"])
def test_results_without_alternatives_are_called_so(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for utt in ("u-1", "u-2"):
        (tmp_path / f"{utt}.json").write_text('{"text": "a b"}', encoding="utf-8")
    assert [len(item.hyps) for item in read_items(name, str(tmp_path), {})] == [1, 1]
    assert "2 results hold one transcript and no alternatives" in caplog.text


EMPTY = {
    "jsonl": {"x.jsonl": HEADER.encode() + b'{"utt": "u-1", "ref": "a", "hyps": []}\n'},
    "slf": {"u-1.slf": b""},
    "pocketsphinx-lat": {"u-1.lat": b""},
    "mlm-json": {"x.json": b'{"u-1": {"ref": "a"}}'},
    "hyporadise": {"x.json": b'[{"input": [], "output": "a"}]'},
    "kaldi-lat": {"x.ark": b"u-1 \n\n"},
    "srilm-nbest": {"u-1": b""},
    "vosk-json": {"u-1.json": b'{"alternatives": []}'},
    "sherpa-json": {},
    "parakeet-json": {"u-1.json": b'{"hypotheses": []}'},
    "whisper-json": {"u-1.json": b'{"nbest": []}'},
    "nim-json": {"u-1.json": b'{"results": []}'},
    "wenet-json": {"u-1.json": b'{"nbest": [], "type": "final_result"}'},
    "pocketsphinx-nbest": {"u-1": b""},
    "k2": {},
}
"""Format -> files of an utterance of which nothing was found."""


@pytest.mark.parametrize("name", [name for name, files in EMPTY.items() if files])
def test_an_utterance_without_hypotheses_meets_the_policy(tmp_path: Path, name: str) -> None:
    utt = "000001" if name == "hyporadise" else "u-1"
    _put(tmp_path, EMPTY[name])
    path = str(tmp_path / next(iter(EMPTY[name])))
    with pytest.raises(InputError, match=rf"utterance {utt}: .*--on-bad skip or first-pass"):
        list(read_items(name, path, {}))
    skipping = OnBad("skip")
    assert list(read_items(name, path, {}, skipping)) == []
    assert list(skipping.met) == [utt]
    (item,) = read_items(name, path, {}, OnBad("first-pass"))
    nbest = _as_nbest(item)
    assert (nbest.utt, [hyp.text for hyp in nbest.hyps]) == (utt, [""])
    assert nbest.ref == ("a" if name in ("jsonl", "mlm-json", "hyporadise") else None)


def test_what_was_left_out_is_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="on_bad is 'never'"):
        OnBad("never")
    line = '{"utt": "%s", "hyps": [%s]}\n'
    text = HEADER + line % ("u-1", "") + line % ("u-2", '{"text": "a"}') + line % ("u-3", "")
    (tmp_path / "x.jsonl").write_text(text, encoding="utf-8")
    bad = OnBad("skip")
    assert [item.utt for item in read_items("jsonl", str(tmp_path / "x.jsonl"), {}, bad)] == ["u-2"]
    bad.warn("x.jsonl")
    assert "x.jsonl: left out (--on-bad): 2 utterances: u-1 u-3" in caplog.text
    (tmp_path / "x.jsonl").write_text(text + line % ("u-1", ""), encoding="utf-8")
    with pytest.raises(InputError, match="utterance u-1 again"):
        list(read_items("jsonl", str(tmp_path / "x.jsonl"), {}, OnBad("skip")))
