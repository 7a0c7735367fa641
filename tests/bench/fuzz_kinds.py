"""What the fuzz reads: every kind of file that a verb takes, with calls that read it.

``KINDS`` has a row for each: how small files of it are made (by our own writers, or the samples of
the formats), which of them are damaged, and the calls. In a call {here} is the folder of the kind's
own files, {shared} that of whole ones, and {out} a path where nothing is.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import re
import shlex
import shutil
import wave
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import asrprune.firstpass.decoders.decode as decode_module
from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.files import content_hash, sha256
from asrprune.firstpass.decoders.decoder import Decoded
from asrprune.firstpass.decoders.pocketsphinx import PocketSphinxConfig
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.firstpass.formats.slf import write_slf_files
from asrprune.firstpass.formats.table import FORMATS
from asrprune.rescore.scores_file import UtteranceScores, make_header, write_scores
from tests.exchange.foreign_folders import save_small_foreign
from tests.exchange.foreign_gguf import write_gguf
from tests.exchange.pruned_shapes import save_transducer_lm
from tests.firstpass.formats.test_samples import HEADER, SAMPLES
from tests.kenlm_files import kenlm_binaries
from tests.report.whole_run import write_lm_files
from tests.small_lm import ARPA, SENTENCES, save_small_lm
from tests.small_study import save_study


@dataclass(frozen=True)
class Kind:
    """``files``: name -> content of MUTATIONS, those that are damaged. ``make`` writes them into
    ``here``. ``seal`` mends what tells of any damage before the file is read (hashes). ``usage``:
    bad content may end as bad usage does, with status 2. ``forked``: a process of its own for each,
    since a library may end it. ``patches``: what stands in for a decoder. ``trains``: the file may
    ask for any number of training steps, so that finishing one after the other is as good an end
    as status 0."""

    files: Mapping[str, str]
    make: Callable[[Path, Path], None]
    calls: tuple[str, ...]
    seal: Callable[[Path], None] = lambda here: None
    usage: bool = False
    forked: bool = False
    patches: Callable[[ExitStack], None] = lambda stack: None
    trains: bool = False


KINDS: dict[str, Kind] = {}
"""Name -> kind."""

LIST_TEXTS = ("the cat sat", "a cat sat", "the hat", "")


def run(call: str, **names: Any) -> None:
    """A call of the command that must succeed."""
    status = main([word.format(**names) for word in shlex.split(call)])
    if status != 0:
        raise RuntimeError(f"status {status}: {call}")


def make_shared(folder: Path) -> None:
    """Whole files of every kind, small."""
    save_small_lm(folder)
    (folder / "tiny.arpa").write_text(ARPA)
    (folder / "text").write_text("".join(f"{one}\n" for one in SENTENCES[:-1]) + "on a mat sits\n")
    (folder / "ref").write_text("u1 the cat sat\nu2 a cat\nu3 the hat\n")
    (folder / "words.txt").write_text("<eps> 0\nthe 1\ncat 2\nsat 3\na 4\nhat 5\n")
    hyps = tuple(Hypothesis(text, -10.0 - n, -2.0) for n, text in enumerate(LIST_TEXTS))
    refs = (("u1", "the cat sat"), ("u2", "a cat"), ("u3", "the hat"))
    lists = [NBest(utt, hyps, 2.0, ref) for utt, ref in refs]
    write_nbest(folder / "nbest.jsonl", lists)
    scored = [UtteranceScores(one.utt, one.digest, -np.arange(4.0)) for one in lists]
    write_scores(folder / "scores.jsonl", make_header("lm"), scored)
    weights = {"acoustic": 1.0, "first_lm": 0.5, "word_bonus": 0.0}
    (folder / "w0.json").write_text(json.dumps({"weights": weights}))
    head = {"format": "asrprune-weights", "version": 1, "lms": ["lm"]}
    (folder / "w1.json").write_text(json.dumps({**head, "weights": {**weights, "lm": [1.0]}}))
    arcs = [(0, 1, "the", -1.0, -1.0), (0, 1, "a", -2.0, -1.0), (1, 2, "cat", -1.0, -1.0)]
    lattices = [
        from_arcs(utt, 3, 0, 2, arcs, weights=ScoreWeights(1.0, 0.5)) for utt in ("u1", "u2")
    ]
    write_slf_files(folder / "slf", lattices)
    write_slf_files(folder / "bare", [replace(one, lm=None) for one in lattices])
    run(
        "tokenize --text {shared}/text --valid {shared}/text --out {shared}/data"
        " --tokenizer {shared}/lm/tokenizer.model",
        shared=folder,
    )


def _copied(*names: str) -> Callable[[Path, Path], None]:
    """Of the shared files, under the same names."""

    def make(here: Path, shared: Path) -> None:
        for name in names:
            if (shared / name).is_dir():
                shutil.copytree(shared / name, here / name)
            else:
                shutil.copyfile(shared / name, here / name)

    return make


def _written(files: Mapping[str, bytes | str]) -> Callable[[Path, Path], None]:
    def make(here: Path, shared: Path) -> None:
        for name, content in files.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            raw = content.encode() if isinstance(content, str) else content
            (here / name).write_bytes(raw)

    return make


def _add_formats() -> None:
    """Every format of n-best lists and lattices, with what its readers need beside it."""
    contents = {"jsonl": "jsonl", "k2": "archive", "kaldi-lat-binary": "bytes"}
    for name, entry in FORMATS.items():
        sample = SAMPLES[name]
        content = contents.get(name, "json" if name.endswith("json") else "text")
        kinds = {
            key: "text" if key in ("words.txt", "manifest") else content for key in sample.files
        }
        if name == "hyporadise":
            kinds = dict.fromkeys(kinds, "json")
        given = " ".join(
            f"--{key.replace('_', '-')} "
            + (f"{{here}}/{value}" if isinstance(value, str) else f"{value:g}")
            for key, value in sample.options.items()
        )
        path = f"{{here}}/{sample.open}".rstrip("/")
        unscored = (
            " --accept-unscored" if entry.kind == "nbest" and "acoustic" in entry.holds else ""
        )
        more = " --on-bad first-pass" if entry.empties else ""
        more += {"pocketsphinx-lat": " --lm-scale 0"}.get(name, "")
        to = {"flashlight": "kaldi-nbest"}.get(name, "jsonl")  # which holds -inf
        KINDS[f"format {name}"] = Kind(
            kinds,
            _written(sample.files),
            (
                f"validate --format {name} {path} {given}{unscored}",
                f"convert --from {name} --to {to} {path} --out {{out}} {given}{more}",
            ),
        )
    for name in ("slf", "jsonl"):
        raw = next(iter(SAMPLES[name].files.values()))
        KINDS[f"format {name}.gz"] = Kind(
            {f"x.{name}.gz": "text"},
            _written({f"x.{name}.gz": gzip.compress(raw, mtime=0)}),
            (f"validate --format {name} {{here}}/x.{name}.gz",),
        )
    KINDS["lists of the verbs"] = Kind(
        {"nbest.jsonl": "jsonl"},
        _copied("nbest.jsonl"),
        (
            "oracle --nbest {here}/nbest.jsonl",
            "rescore --nbest {here}/nbest.jsonl --scores {shared}/scores.jsonl"
            " --weights {shared}/w1.json --out {out}",
            "tune --nbest {here}/nbest.jsonl --scores {shared}/scores.jsonl --out {out}"
            " --resamples 0",
            "lmscore --lm {shared}/lm --nbest {here}/nbest.jsonl --out {out}",
            "convert --from jsonl --to kaldi-nbest {here}/nbest.jsonl --out {out}",
            "bench --lm {shared}/lm --nbest {here}/nbest.jsonl --repeats 1 --warmup 0 --json {out}",
            "rescore --nbest {here}/nbest.jsonl --early-lm {shared}/lm --weights {shared}/w1.json"
            " --out {out}",
        ),
    )
    KINDS["lattices of the verbs"] = Kind(
        {"x.slf": "text"},
        _written({"x.slf": SAMPLES["slf"].files["x.slf"]}),
        (
            "oracle --lattice {here}/x.slf --format slf --ref {here}/ref",
            "rescore --lattice {here}/x.slf --format slf --lm {shared}/lm --out {out}"
            " --weights {shared}/w1.json",
            "rescore --lattice {here}/x.slf --format slf --lm {shared}/lm --out {out}"
            " --weights {shared}/w1.json --mode exact",
            "rescore --lattice {here}/x.slf --format slf --lm {shared}/lm --out {out}"
            " --weights {shared}/w1.json --mode cover",
            "convert --from slf --to k2 {here}/x.slf --out {out}",
            "convert --from slf --to kaldi-lat {here}/x.slf --out {out}",
        ),
    )
    lattice = KINDS["lattices of the verbs"]

    def with_reference(here: Path, shared: Path) -> None:
        lattice.make(here, shared)
        (here / "ref").write_text("u-1 a b\n")

    KINDS["lattices of the verbs"] = replace(lattice, make=with_reference)


LISTS = HEADER + '{"utt": "u1", "hyps": [{"text": "a b", "acoustic": -1.5, "lm": null}]}\n'
REFERENCES = {
    "kaldi": {
        "data/text": "u1 the cat sat\nu2 a cat\nu3\n",
        "data/utt2dur": "u1 1.5\nu2 2\nu3 1\n",
    },
    "lhotse": {
        "data": "".join(
            json.dumps(
                {
                    "id": f"c-{utt}",
                    "duration": 2.0,
                    "supervisions": [{"id": utt, "text": "the cat", "duration": 1.5}],
                }
            )
            + "\n"
            for utt in ("u1", "u2", "u3")
        )
    },
    "nemo": {
        "data": "".join(
            json.dumps({"audio_filepath": f"/d/{utt}.wav", "duration": 1.5, "text": "a"}) + "\n"
            for utt in ("u1", "u2", "u3")
        )
    },
    "stm": {"data": ";; x\nu1 1 s 0.00 1.50 <o,f0> the cat sat\nu2 1 s 0 2 a (2) {NOISE} cat\n"},
    "trn": {"data": "the cat sat (u1)\na cat (u2)\n(u3)\n"},
    "ctm": {"data": ";; x\nu1 1 0.00 0.50 the 0.9\nu1 1 0.5 0.5 cat\nu2 A 0.1 1 a\nu3 1 0 1 b\n"},
    "recogs": {
        "data": "u1:\tref=['the', 'cat']\nu1:\thyp=['a', \"cat's\"]\nu2:\tref=['a']\nu2:\thyp=[]\n"
        "u3:\tref=['b']\nu3:\thyp=['b']\n"
    },
}
"""Name in REFERENCES of asrprune/firstpass/references.py -> files, with ``data`` to be opened."""
TEXTS = {
    "kaldi": "u1 the cat sat\nu2 a cat {noise}\nu3\n",
    "trn": "so { um / @ } yes (spk-001)\nthe (cat) sat (spk-002)\n",
    "stm": REFERENCES["stm"]["data"],
    "ctm": REFERENCES["ctm"]["data"],
    "recogs": REFERENCES["recogs"]["data"],
    "per-utt": "u1 ref a *** b\nu1 hyp a c b\nu1 op C I C\nu1 #csid 2 0 1 0\n",
}
"""Name in TEXT_FORMATS -> a file of it."""


def _add_references() -> None:
    for name, files in REFERENCES.items():
        content = "jsonl" if name in ("lhotse", "nemo") else "text"
        KINDS[f"references {name}"] = Kind(
            dict.fromkeys(files, content),
            _written({**files, "lists": LISTS.replace("u1", "u1_1_0000000_0000150")})
            if name == "stm"
            else _written({**files, "lists": LISTS}),
            (
                "convert --from jsonl --to jsonl {here}/lists --out {out}"
                f" --references {{here}}/data --references-format {name}",
            ),
        )
    for name, text in TEXTS.items():
        hyp = text.replace("{ um / @ }", "um")
        KINDS[f"text {name}"] = Kind(
            {"ref": "text", "hyp": "text"},
            _written({"ref": text, "hyp": hyp}),
            (
                f"wer --ref {{here}}/ref --hyp {{here}}/hyp --ref-format {name} --hyp-format {name}"
                " --json {out} --replications 2 --mode present",
                "wer --ref {here}/ref --hyp {here}/hyp --out {out} --replications 2 --mode all"
                " --normalise asr --ignore-case --hyphens split --ignore-punctuation --cer"
                " --remove-tags",
                "wer --ref {here}/ref --hyp {here}/hyp --compare {here}/hyp --replications 2"
                " --optional-words a --alternations --remove-tags --hyphens join --unit mixed",
            ),
        )
    rules = ";; x\n# y\na b => c\n[want to] => wanna / [ ] __ [ ]\nthe =>\n"
    KINDS["equivalents"] = Kind(
        {"rules": "text"},
        _written({"rules": rules, "ref": TEXTS["kaldi"]}),
        ("wer --ref {here}/ref --hyp {here}/ref --equivalents {here}/rules --replications 2",),
    )


def _cuts(here: Path, shared: Path) -> None:
    lines = []
    for number, utt in enumerate(("u1", "u2")):
        with wave.open(str(here / f"{utt}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(16000)
            sound.writeframes(np.zeros(160 * (number + 1), np.int16).tobytes())
        recording = {
            "id": utt,
            "sources": [{"type": "file", "channels": [0], "source": f"{here}/{utt}.wav"}],
            "sampling_rate": 16000,
            "num_samples": 160 * (number + 1),
            "duration": 0.01 * (number + 1),
            "channel_ids": [0],
        }
        supervision = {
            "id": f"s-{utt}",
            "recording_id": utt,
            "start": 0.0,
            "duration": 0.01,
            "channel": 0,
            "text": "the cat",
        }
        cut = {
            "id": utt,
            "start": 0.0,
            "duration": 0.01,
            "channel": 0,
            "supervisions": [supervision],
            "recording": recording,
            "type": "MonoCut",
        }
        lines.append(json.dumps(cut) + "\n")
    (here / "cuts.jsonl").write_text("".join(lines))


class Decoder:
    """Hears nothing but silence, at once; ``dies_at`` is an utterance at which it is killed."""

    settings: dict[str, Any] = {}  # noqa: RUF012
    weights = ScoreWeights(1.0, 2.0)
    dies_at = ""

    def __init__(self, config: Any, temporary: Any = None) -> None:
        self.config = config

    def decode(self, utt: str, samples: Any, ref: Any) -> Decoded:
        if utt == Decoder.dies_at:
            raise KeyboardInterrupt
        lattice = from_arcs(utt, 2, 0, 1, [(0, 1, "a", -1.0, -2.0)])
        return Decoded(NBest(utt, (Hypothesis("a", -1.0, -2.0),), 1.0, ref), lattice, "a", 0.1, 0.1)


def _no_decoder(stack: ExitStack) -> None:
    stack.enter_context(mock.patch.object(PocketSphinxConfig, "open", lambda *a: Decoder(*a)))
    stack.enter_context(mock.patch.object(decode_module, "version", return_value="1"))


def _no_audio(stack: ExitStack) -> None:
    _no_decoder(stack)
    stack.enter_context(mock.patch.object(decode_module, "load_audio", return_value=None))


def _first_pass(here: Path, dies_at: str) -> None:
    (here / "cuts.jsonl").write_text('{"id": "u1"}\n{"id": "u2"}\n{"id": "u3"}\n')
    with ExitStack() as stack:
        _no_audio(stack)
        stack.enter_context(mock.patch.object(Decoder, "dies_at", dies_at))
        status = main(["first-pass", "--cuts", f"{here}/cuts.jsonl", "--out", f"{here}/done"])
    assert status == (130 if dies_at else 0)


def _seal_records(here: Path) -> None:
    """State the hash of every record of a first pass as it is now."""
    path = here / "done.decoding/done.txt"
    lines = []
    for line in path.read_bytes().split(b"\n"):
        _, space, text = line.partition(b" ")
        digest = hashlib.sha256(text).hexdigest()[:16].encode()
        lines.append(digest + space + text if space else line)
    path.write_bytes(b"\n".join(lines))


def _add_first_pass() -> None:
    KINDS["cuts"] = Kind(
        {"cuts.jsonl": "jsonl"},
        _cuts,
        ("first-pass --cuts {here}/cuts.jsonl --out {out}",),
        patches=_no_decoder,
    )
    KINDS["unfinished first pass"] = Kind(
        {"done.decoding/done.txt": "jsonl", "done.decoding/identity.json": "json"},
        lambda here, shared: _first_pass(here, "u3"),
        ("first-pass --cuts {here}/cuts.jsonl --out {here}/done",),
        seal=_seal_records,
        patches=_no_audio,
    )
    KINDS["first_pass.json"] = Kind(
        {"done/first_pass.json": "json"},
        lambda here, shared: _first_pass(here, ""),
        (
            "first-pass --cuts {here}/cuts.jsonl --out {here}/done",
            "rescore --nbest {shared}/nbest.jsonl --weights {here}/done/first_pass.json",
            "tune --nbest {shared}/nbest.jsonl --scores {shared}/scores.jsonl --out {out}"
            " --resamples 0 --first-pass {here}/done/first_pass.json",
        ),
        patches=_no_audio,
    )


def _add_lms() -> None:
    KINDS["arpa"] = Kind(
        {"lm.arpa": "text"},
        _written({"lm.arpa": ARPA}),
        (
            "perplexity --lm {here}/lm.arpa --text {shared}/text --accept-unknown",
            "lmscore --lm {here}/lm.arpa --nbest {shared}/nbest.jsonl --out {out} --accept-unknown",
            "convert --from slf --to jsonl {shared}/bare --out {out} --first-lm {here}/lm.arpa",
        ),
        forked=True,
    )
    for layout, raw in kenlm_binaries().items():
        KINDS[f"kenlm {layout}"] = Kind(
            {"lm.bin": "bytes"},
            _written({"lm.bin": raw}),
            ("perplexity --lm {here}/lm.bin --text {shared}/text --accept-unknown",),
            forked=True,
        )
    KINDS["arpa.gz"] = Kind(
        {"lm.arpa.gz": "text"},
        _written({"lm.arpa.gz": gzip.compress(ARPA.encode(), mtime=0)}),
        ("perplexity --lm {here}/lm.arpa.gz --text {shared}/text --accept-unknown",),
        forked=True,
    )


def loosen(here: Path) -> None:
    """Take the checksums out of our own files, as they were before there were any: what is damaged
    is then read to its end."""
    for path in (one for one in here.rglob("*") if one.is_file()):
        raw = path.read_bytes()
        if raw.startswith(b"asrprune-state "):
            path.write_bytes(raw.partition(b"\n")[2])
        elif path.suffix in (".json", ".jsonl", ".partial", ".shard"):
            text = re.sub(r',\s*"crc32": "[0-9a-f]{8}"(?=\s*\})', "", raw.decode())
            text = re.sub(r'\s*"weights_sha256": "[0-9a-f]*",', "", text)
            if path.name == "data.json" and '"asrprune-data"' in text:
                value = json.loads(text)
                for counts in value["sets"].values():
                    counts.pop("crc32", None)
                text = json.dumps(value)
            path.write_text(text)


def _seal_tokenizer(name: str) -> Callable[[Path], None]:
    """State the hash of the tokeniser as it is now in ``config.json`` or ``data.json``."""

    def seal(folder: Path) -> None:
        path = folder / name
        try:
            value = json.loads(path.read_bytes())
            stated = value["tokenizer_sha256"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if isinstance(stated, str):
            pieces = next(path.parent.glob("tokenizer.*"))
            value["tokenizer_sha256"] = sha256(pieces)
            path.write_text(json.dumps(value))

    return seal


def _sparse_lm(here: Path, shared: Path) -> None:
    run(
        "prune --lm {shared}/lm --data {shared}/data --out {here}/family --method unstructured"
        " --schedule one-shot --criterion magnitude --fine-tune-tokens 0 --sparsity 0.9",
        here=here,
        shared=shared,
    )
    shutil.move(here / "family/sparsity-0.90", here / "lm")
    shutil.rmtree(here / "family")


def _add_checkpoints() -> None:
    score = "lmscore --lm {here}/lm --nbest {shared}/nbest.jsonl --out {out}"
    KINDS["config.json"] = Kind(
        {"lm/config.json": "json"},
        _sparse_lm,
        (
            score,
            "perplexity --lm {here}/lm --text {shared}/text",
            "train --data {shared}/data --init {here}/lm --out {out} --set max_steps=1",
            "rescore --nbest {shared}/nbest.jsonl --early-lm {here}/lm --weights {shared}/w1.json"
            " --out {out}",
            "prune --lm {shared}/lm --data {shared}/data --teacher {here}/lm --out {out} --method"
            " unstructured --schedule one-shot --criterion magnitude --fine-tune-tokens 30"
            " --set fine_tuning.batch_tokens=64",
            "bench --lm {here}/lm --nbest {shared}/nbest.jsonl --repeats 1 --warmup 0 --json {out}",
        ),
    )
    KINDS["model.safetensors"] = Kind({"lm/model.safetensors": "tensors"}, _copied("lm"), (score,))
    KINDS["sparse model.safetensors"] = Kind(
        {"lm/model.safetensors": "tensors"}, _sparse_lm, (score,)
    )
    KINDS["tokenizer.model"] = Kind(
        {"lm/tokenizer.model": "bytes"},
        _copied("lm"),
        (
            "tokenize --text {shared}/text --out {out} --tokenizer {here}/lm/tokenizer.model",
            "perplexity --lm {here}/lm --text {shared}/text --accept-unknown",
        ),
        seal=_seal_tokenizer("lm/config.json"),
        forked=True,
    )


def _add_text() -> None:
    text = "The cat, sat.\nthe cat sits\na cat sat on the mat\ncats <unk> [noise]\n\n"
    packed = {
        "": text.encode(),
        ".gz": gzip.compress(text.encode()),
        ".xz": lzma.compress(text.encode()),
    }
    for end, raw in packed.items():
        KINDS[f"text{end}"] = Kind(
            {f"text{end}": "text"},
            _written({f"text{end}": raw}),
            (
                f"tokenize --text {{here}}/text{end} --vocab-size 19 --out {{out}}"
                " --normalise asr --unit mixed",
                f"tokenize --text {{shared}}/text --valid {{here}}/text{end} --out {{out}}"
                " --tokenizer {shared}/lm/tokenizer.model --normalise lower",
                f"perplexity --lm {{shared}}/lm --text {{here}}/text{end} --accept-unknown",
                f"perplexity --lm {{shared}}/tiny.arpa --text {{here}}/text{end} --accept-unknown",
            ),
            usage=True,  # a vocabulary size that the text cannot fill
        )
    KINDS["calibration"] = Kind(
        {"text": "text"},
        _written({"text": text}),
        (
            "lmscore --lm {shared}/lm --nbest {shared}/nbest.jsonl --out {out}"
            " --engine onnx-int8 --calibration {here}/text",
        ),
        usage=True,
    )


TRAIN = (
    "train --data {data} --out {out} --set model.d_model=8 --set model.n_layers=1"
    " --set model.n_heads=2 --set max_steps=2 --set tokens_per_batch=100 --set save_steps=1"
)
PRUNE = (
    "prune --lm {lm} --data {data} --out {out} --method unstructured --schedule linear --steps 2"
    " --criterion magnitude --sparsity 0.3,0.5 --fine-tune-tokens 60"
    " --set fine_tuning.batch_tokens=64"
)


def _stream(here: Path, shared: Path) -> None:
    shutil.copytree(shared / "data", here / "data")


def _killed_training(here: Path, shared: Path) -> None:
    with mock.patch("asrprune.lm.training.train._Run.finish", side_effect=KeyboardInterrupt):
        argv = shlex.split(TRAIN.format(data=shared / "data", out=here / "run"))
        assert main(argv) == 130


def _killed_pruning(here: Path, shared: Path) -> None:
    with mock.patch("asrprune.prune.run.loop.FamilyFolder.finish", side_effect=KeyboardInterrupt):
        argv = PRUNE.format(data=shared / "data", lm=shared / "lm", out=here / "run")
        assert main(shlex.split(argv)) == 130


def _killed_scoring(here: Path, shared: Path) -> None:
    with mock.patch("asrprune.rescore.lmscore.write_scores", side_effect=KeyboardInterrupt):
        argv = f"lmscore --lm {shared}/lm --nbest {shared}/nbest.jsonl --out {here}/scores"
        assert main(shlex.split(argv)) == 130


def _add_training() -> None:
    train = TRAIN.format(data="{here}/data", out="{out}")
    prune = PRUNE.format(data="{here}/data", lm="{shared}/lm", out="{out}")
    KINDS["data.json"] = Kind({"data/data.json": "json"}, _stream, (train, prune))
    KINDS["token stream"] = Kind(
        {
            "data/train.tokens.bin": "bytes",
            "data/train.offsets.bin": "bytes",
            "data/valid.tokens.bin": "bytes",
            "data/valid.offsets.bin": "bytes",
        },
        _stream,
        (train, prune),
    )
    config = {
        "model": {"d_model": 8, "n_layers": 1, "n_heads": 2, "details": {}},
        "optimizer": {"lr": 0.001, "optimizer": "adamw"},
        "max_steps": 1,
        "tokens_per_batch": 100,
    }
    KINDS["training config"] = Kind(
        {"config.json": "json"},
        _written({"config.json": json.dumps(config)}),
        ("train --data {shared}/data --config {here}/config.json --out {out}",),
        usage=True,
        trains=True,
    )
    plan = {
        "method": "structured",
        "criterion": "taylor",
        "schedule": "one-shot",
        "sparsities": [0.3],
        "fine_tune_tokens": 0,
        "options": {"min_width": 1, "multiple_of": 1},
        "fine_tuning": {"batch_tokens": 64, "optimizer": {"lr": 0.001}},
    }
    KINDS["plan"] = Kind(
        {"plan.json": "json"},
        _written({"plan.json": json.dumps(plan)}),
        ("prune --lm {shared}/lm --data {shared}/data --plan {here}/plan.json --out {out}",),
        usage=True,
        trains=True,
    )
    KINDS["unfinished training"] = Kind(
        {
            "run.training/run.json": "json",
            "run.training/state.pt": "archive",
            "run.training/train.jsonl": "jsonl",
            "run.training/best-2/config.json": "json",
            "run.training/best-2/model.safetensors": "tensors",
        },
        _killed_training,
        (TRAIN.format(data="{shared}/data", out="{here}/run"),),
        usage=True,
    )
    KINDS["finished training"] = Kind(
        {"run/config.json": "json"},
        lambda here, shared: run(TRAIN.format(data=shared / "data", out=here / "run")),
        (TRAIN.format(data="{shared}/data", out="{here}/run"),),
        usage=True,
    )
    again = PRUNE.format(data="{shared}/data", lm="{shared}/lm", out="{here}/run")
    KINDS["unfinished pruning"] = Kind(
        {
            "run.pruning/plan.json": "json",
            "run.pruning/family.json": "json",
            "run.pruning/state.pt": "archive",
            "run.pruning/sparsity-0.30/config.json": "json",
        },
        _killed_pruning,
        (again,),
    )
    KINDS["family"] = Kind(
        {"run/plan.json": "json", "run/family.json": "json"},
        lambda here, shared: run(
            PRUNE.format(data=shared / "data", lm=shared / "lm", out=here / "run")
        ),
        (again,),
    )


def _tuned(here: Path, shared: Path) -> None:
    run(
        "tune --nbest {shared}/nbest.jsonl --scores {shared}/scores.jsonl --mbr"
        " --out {here}/weights.json --resamples 2",
        here=here,
        shared=shared,
    )


def _add_scores() -> None:
    lists = "--nbest {shared}/nbest.jsonl"
    KINDS["scores"] = Kind(
        {"scores.jsonl": "jsonl"},
        _copied("scores.jsonl"),
        (
            f"rescore {lists} --scores {{here}}/scores.jsonl --weights {{shared}}/w1.json"
            " --out {out} --json {out}.json",
            f"tune {lists} --scores {{here}}/scores.jsonl --out {{out}} --resamples 0",
            f"tune {lists} --system one={{here}}/scores.jsonl --out {{out}} --resamples 0",
            f"rescore {lists} --early-lm {{shared}}/lm --scores {{here}}/scores.jsonl"
            " --weights {shared}/w1.json --cascade-margin 5 --cascade-weights {shared}/w1.json"
            " --out {out}",
        ),
    )
    KINDS["weights"] = Kind(
        {"weights.json": "json"},
        _tuned,
        (
            f"rescore {lists} --scores {{shared}}/scores.jsonl --weights {{here}}/weights.json"
            " --out {out}",
            f"rescore {lists} --scores {{shared}}/scores.jsonl --weights {{here}}/weights.json"
            " --out {out} --decision mbr",
            f"tune {lists} --scores {{shared}}/scores.jsonl --towards {{here}}/weights.json"
            " --out {out} --resamples 0",
            "rescore --lattice {shared}/slf --format slf --lm {shared}/lm --out {out}"
            " --weights {here}/weights.json",
            f"rescore {lists} --early-lm {{shared}}/lm --scores {{shared}}/scores.jsonl"
            " --weights {here}/weights.json --cascade-margin 5"
            " --cascade-weights {here}/weights.json --out {out}",
            f"bench --lm {{shared}}/lm {lists} --repeats 1 --warmup 0 --json {{out}}"
            " --baseline padded --weights {here}/weights.json",
        ),
        usage=True,  # --decision mbr without a posterior scale
    )
    KINDS["partial scores"] = Kind(
        {"scores.partial": "jsonl"},
        _killed_scoring,
        (f"lmscore --lm {{shared}}/lm {lists} --out {{here}}/scores",),
    )


def _shards(here: Path, shared: Path) -> None:
    for call in (
        "lmscore --lm {shared}/lm --nbest {shared}/nbest.jsonl --out {here}/s{n}.jsonl",
        "rescore --nbest {shared}/nbest.jsonl --scores {shared}/scores.jsonl"
        " --weights {shared}/w1.json --out {here}/h{n} --json {here}/h{n}.json",
    ):
        for number in (1, 2):
            run(f"{call} --shard {number}/2", here=here, shared=shared, n=number)


def _seal_shards(here: Path) -> None:
    """State the hashes of the outputs as they are now in their records."""
    for path in here.glob("*.shard"):
        first, _, rest = path.read_bytes().partition(b"\n")
        try:
            value = json.loads(first)
            value["outputs"] = {
                flag: [name, content_hash(name)] for flag, (name, _) in value["outputs"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        path.write_bytes(json.dumps(value).encode() + b"\n" + rest)


def _add_shards() -> None:
    names = ("s1.jsonl", "h1.json", "s1.jsonl.timing.json", "s1.jsonl.shard", "h1.shard", "h1")
    kinds = ("jsonl", "json", "json", "jsonl", "jsonl", "text")
    KINDS["shards"] = Kind(
        dict(zip(names, kinds)),
        _shards,
        (
            "merge {here}/s1.jsonl {here}/s2.jsonl --out {out}",
            "merge {here}/h1 {here}/h2 --out {out} --json {out}.json",
        ),
        _seal_shards,
        usage=True,  # no --json where the record names none
    )


def _runs(here: Path, shared: Path) -> None:
    dense = here / "runs/dense"
    dense.mkdir(parents=True)
    (here / "runs/oracle").mkdir()
    shutil.copyfile(shared / "ref", dense / "hyp")
    shutil.copyfile(shared / "ref", dense / "hyp-fixed")
    shutil.copyfile(shared / "ref", dense / "hyp-lists")
    names = {"here": here, "shared": shared, "dense": dense}
    lists = "--nbest {shared}/nbest.jsonl"
    for call in (
        f"bench --lm {{shared}}/lm {lists} --repeats 1 --warmup 0 --baseline padded"
        " --json {dense}/bench.json",
        "perplexity --lm {shared}/lm --text {shared}/text --json {dense}/perplexity.json",
        f"rescore {lists} --scores {{shared}}/scores.jsonl --weights {{shared}}/w1.json"
        " --out {here}/hyp --json {dense}/rescore.json",
        f"tune {lists} --scores {{shared}}/scores.jsonl --out {{dense}}/weights.json --resamples 2",
        f"oracle {lists} --json {{here}}/runs/oracle/oracle.json --replications 2",
    ):
        run(call, **names)
    shutil.copyfile(here / "runs/oracle/oracle.json", here / "runs/oracle/oracle-lists.json")
    _first_pass(here, "")
    bench = json.loads((dense / "bench.json").read_text())
    bench["history"] = [
        {"criterion": "taylor", "method": "depth", "schedule": "cubic", "measured": 0.5}
    ]
    (dense / "bench.json").write_text(json.dumps(bench))


def _add_report() -> None:
    dense, oracle = "runs/dense/", "runs/oracle/"
    KINDS["run folder"] = Kind(
        {
            **dict.fromkeys((f"{dense}hyp", f"{dense}hyp-fixed", f"{dense}hyp-lists"), "text"),
            **dict.fromkeys(
                (
                    f"{dense}bench.json",
                    f"{dense}bench.json",
                    f"{dense}perplexity.json",
                    f"{dense}rescore.json",
                    f"{dense}weights.json",
                    f"{oracle}oracle.json",
                    f"{oracle}oracle-lists.json",
                    "done/first_pass.json",
                ),
                "json",
            ),
        },
        _runs,
        (
            "report --runs {here}/runs/dense {here}/runs/oracle --ref {shared}/ref --out {out}"
            " --first-pass {here}/done/first_pass.json --baseline dense",
            "report --runs {here}/runs/dense {here}/runs/oracle --ref {shared}/ref --out {out}"
            " --baseline dense --front dense oracle",
        ),
    )
    KINDS["LMs and speakers of the report"] = Kind(
        {
            "exp/family/family.json": "json",
            "exp/family/sparsity-0.50/config.json": "json",
            "exp/dense/config.json": "json",
            "exp/dense.training/train.jsonl": "jsonl",
            "utt2spk": "text",
        },
        lambda here, shared: write_lm_files(here, shared / "ref"),
        (
            "report --runs {shared}/run --ref {shared}/ref --out {out} --utt2spk {here}/utt2spk"
            " --lm run={here}/exp/family/sparsity-0.50",
            "report --runs {shared}/run --ref {shared}/ref --out {out} --lm run={here}/exp/dense",
        ),
    )
    KINDS["reference of the report"] = Kind(
        {"ref": "text"},
        _copied("ref"),
        ("report --runs {shared}/run --ref {here}/ref --out {out}",),
    )


def _add_sweep() -> None:
    files = {"nbest.jsonl": "jsonl", "ref": "text", "tiny.arpa": "text"}
    call = (
        "sweep --dev {here}/nbest.jsonl --dev-ref {here}/ref --test {here}/nbest.jsonl"
        " --test-ref {here}/ref --system lm={here}/tiny.arpa --accept-unknown"
        " --bench-utts 0 --out "
    )
    KINDS["inputs of a sweep"] = Kind(files, _copied(*files), (f"{call}{{out}}",))

    def begun(here: Path, shared: Path) -> None:
        _copied(*files)(here, shared)
        run(f"{call}{{here}}/out", here=here)

    KINDS["steps of a sweep"] = Kind({"out/steps.json": "json"}, begun, (f"{call}{{here}}/out",))


def _study(here: Path, shared: Path) -> None:
    save_study(here / "study")


def _add_tables() -> None:
    KINDS["table of a study"] = Kind(
        {"study": "json"},
        _study,
        ("recommend --lm {shared}/lm --budget 0.9 --table {here}/study --json {out}",),
    )
    sample = SAMPLES["kaldi-lat-binary"]
    KINDS["words.txt"] = Kind(
        {"words.txt": "text"},
        _written(sample.files),
        (
            "validate --format kaldi-lat {here}/lat.1 --words {here}/words.txt",
            "convert --from kaldi-lat --to kaldi-lat-binary {here}/lat.1 --out {out}"
            " --words {here}/words.txt",
        ),
    )
    ids = {"ids": "u-1\n", "u-1.pt": SAMPLES["k2"].files["u-1.pt"]}
    KINDS["utterance ids"] = Kind(
        {"ids": "text"},
        _written(ids),
        ("validate --format k2 {here}/u-1.pt --utts {here}/ids",),
    )
    KINDS["folder of jobs"] = Kind(
        {"like/lat.1": "text", "like/num_jobs": "text"},
        lambda here, shared: (
            _written({"like/num_jobs": "1\n"})(here, shared),
            run(
                "convert --from slf --to kaldi-lat {shared}/slf --out {here}/lats",
                shared=shared,
                here=here,
            ),
            (here / "like/lat.1").write_bytes(
                gzip.decompress((here / "lats/lat.1.gz").read_bytes())
            ),
            shutil.rmtree(here / "lats"),
        ),
        ("convert --from slf --to kaldi-lat {shared}/slf --out {out} --like {here}/like",),
        usage=True,
    )
    KINDS["scp"] = Kind(
        {"lat.scp": "text"},
        lambda here, shared: _written({**sample.files, "lat.scp": f"u-1 {here}/lat.1:4\n"})(
            here, shared
        ),
        ("validate --format kaldi-lat {here}/lat.scp --words {here}/words.txt",),
    )


def _foreign(here: Path, shared: Path) -> None:
    save_small_foreign(here / "foreign")


def _gguf(here: Path, shared: Path) -> None:
    write_gguf(here / "lm.gguf")


def _tokens(here: Path, shared: Path) -> None:
    save_transducer_lm(here)


def _imported(here: Path, shared: Path) -> None:
    save_small_foreign(here / "foreign")
    run("import --from hugging-face {here}/foreign --out {here}/lm", here=here)
    shutil.rmtree(here / "foreign")


def _add_partners() -> None:
    KINDS["hugging-face folder"] = Kind(
        {
            "foreign/config.json": "json",
            "foreign/model.safetensors": "tensors",
            "foreign/tokenizer.json": "json",
            "foreign/tokenizer_config.json": "json",
        },
        _foreign,
        ("import --from hugging-face {here}/foreign --out {out}",),
    )
    KINDS["gguf"] = Kind(
        {"lm.gguf": "bytes"},
        _gguf,
        ("import --from gguf {here}/lm.gguf --out {out}",),
    )
    KINDS["imported tokeniser"] = Kind(
        {"lm/config.json": "json", "lm/tokenizer.json": "json"},
        _imported,
        (
            "trim --lm {here}/lm --text {shared}/text --out {out}",
            "perplexity --lm {here}/lm --text {shared}/text --accept-unknown",
        ),
        seal=_seal_tokenizer("lm/config.json"),
    )
    KINDS["tokens.txt"] = Kind(
        {"tokens.txt": "text"},
        _tokens,
        (
            "export --to sherpa-onnx --lm {here}/lm --tokens {here}/tokens.txt --out {out}"
            " --no-verify",
        ),
    )


_add_formats()
_add_references()
_add_first_pass()
_add_lms()
_add_checkpoints()
_add_text()
_add_training()
_add_scores()
_add_shards()
_add_report()
_add_sweep()
_add_tables()
_add_partners()
