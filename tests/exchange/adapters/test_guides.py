"""The Python of the adapters' guides is run, with a small LM and drawn logits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from asrprune.exchange.adapters.incremental import open_incremental
from tests.exchange.adapters.small_ctc import drawn_logits
from tests.exchange.pruned_shapes import save_transducer_lm

GUIDE = Path(__file__).parents[3] / "asrprune/exchange/README.md"
PINNED = Path(__file__).parents[2] / "partners/constraints.txt"
MODULES = {
    "flashlight-text and torchaudio": "flashlight",
    "pyctcdecode": "pyctcdecode",
    "ESPnet": "espnet",
    "SpeechBrain": "speechbrain",
    "icefall": "torch",
}
"""Start of a guide's title -> what must be installed to run it."""


def _sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {title.partition(":")[0]: text for title, text in zip(parts[::2], parts[1::2])}
    return {title: text for title, text in found.items() if "```python" in text}


def test_all_guides_with_python_are_known():
    assert set(_sections()) == set(MODULES)


@pytest.mark.parametrize(
    "title",
    [pytest.param(one, marks=pytest.mark.slow if "Brain" in one else ()) for one in MODULES],
)
def test_the_python_of_a_guide_runs(title, tmp_path, monkeypatch, capsys):
    why = f"{title} is not installed here; tests/run.sh --with-partners installs it"
    pytest.importorskip(MODULES[title], reason=why)
    monkeypatch.chdir(tmp_path)
    save_transducer_lm(tmp_path)
    (tmp_path / "exp").mkdir()
    (tmp_path / "lm").rename(tmp_path / "exp/lm")
    np.save("logits.npy", drawn_logits(6, open_incremental("exp/lm", "cpu").vocab_size, 0))
    np.save("letters.npy", drawn_logits(6, 29, 0))
    np.save("encoded.npy", np.random.default_rng(0).normal(size=(9, 16)).astype(np.float32))
    code = "\n".join(re.findall(r"```python\n(.*?)```", _sections()[title], re.DOTALL))
    exec(compile(code, str(GUIDE), "exec"), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("title", [one for one in MODULES if one != "icefall"])
def test_a_guide_installs_what_the_tests_run(title):
    wanted = re.findall(
        r"[\w.-]+==[\w.]+", "".join(re.findall(r"```sh\n(.*?)```", _sections()[title], re.DOTALL))
    )
    pinned = PINNED.read_text(encoding="utf-8").split()
    assert wanted
    assert set(wanted) <= set(pinned)
