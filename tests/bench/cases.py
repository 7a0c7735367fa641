"""Runs small cases, folders with ``run.sh`` and ``expected.txt``, and shows both beside each other.

    python tests/bench/cases.py FOLDER [CASE ...]

FOLDER holds a folder for each case; CASE is the start of a name (default: all). Each runs in a
copy, ``asrprune`` on its PATH. Where its scripts name ``lm`` or ``lm.NAME``, a tiny LM is trained
there first: on ``text.txt`` if the case has one, else on invented sentences in lower case;
``make.py`` makes what the case needs before (tokenisers), and ``NAME.model`` is the tokeniser of
``lm.NAME``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SENTENCES = """the baker painted seven lanterns in the rain
a sailor lost his umbrella at the station
the old clock lost seven lanterns
the gardener carried ripe plums over the bridge
a wooden boat found the river before breakfast
seven sailors repaired the station clock"""
SETTINGS = {
    "model.d_model": 32,
    "model.n_layers": 1,
    "model.n_heads": 2,
    "max_steps": 60,
    "tokens_per_batch": 2000,
}


def main() -> None:
    """Run the cases that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("case", nargs="*", default=[""])
    args = parser.parse_args()
    wanted = tuple(args.case)
    cases = [one for one in sorted(args.folder.iterdir()) if (one / "run.sh").is_file()]
    chosen = [one for one in cases if one.name.startswith(wanted)]
    if not chosen:
        sys.exit(f"{args.folder}: no case {' or '.join(wanted)}; expected folders with run.sh")
    with tempfile.TemporaryDirectory() as place:
        environment = _environment(Path(place))
        for case in chosen:
            work = Path(place) / case.name
            shutil.copytree(case, work)
            print(f"{'=' * 20} {case.name}", flush=True)
            _train_lms(work, environment)
            _run(["sh", "run.sh"], work, environment, show=True)
            print(f"{'-' * 20} expected\n{(case / 'expected.txt').read_text(encoding='utf-8')}")


def _environment(place: Path) -> dict[str, str]:
    """PATH with the ``asrprune`` of this interpreter."""
    command = place / "bin" / "asrprune"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m asrprune "$@"\n')
    command.chmod(0o755)
    folders = [str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
    root = Path(__file__).resolve().parents[2]
    return {**os.environ, "PATH": os.pathsep.join(folders), "PYTHONPATH": str(root)}


def _train_lms(work: Path, environment: dict[str, str]) -> None:
    scripts = "".join(
        path.read_text(encoding="utf-8")
        for path in sorted(work.iterdir())
        if path.suffix in (".sh", ".py")
    )
    names = set(re.findall(r"--lm (lm(?:\.\w+)?)\b(?!\.?\$)", scripts))
    names |= {f"lm.{one}" for one in _loop_names(scripts)} if "--lm lm.$" in scripts else set()
    if not names:
        return
    if (work / "make.py").exists():
        _run([sys.executable, "make.py"], work, environment)
    if (work / "mk.py").exists():
        _run([sys.executable, "mk.py"], work, environment)
    text = work / "text.txt"
    if not text.exists():
        text = work / "sentences"
        text.write_text(SENTENCES + "\n")
    for name in sorted(names):
        pieces = work / f"{name.removeprefix('lm.')}.model"
        how = ["--tokenizer", str(pieces)] if pieces.exists() else []
        data = str(work / f"data-of-{name}")
        _run(["asrprune", "tokenize", "--text", str(text), *how, "--out", data], work, environment)
        train = ["asrprune", "train", "--data", data, "--out", name]
        train += [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
        _run(train, work, environment)


def _loop_names(scripts: str) -> list[str]:
    """NAMEs of ``for m in NAME ...; do`` before a line that uses ``--lm lm.$m``."""
    before = scripts[: scripts.index("--lm lm.$")]
    return re.findall(r"for \w+ in ([^;\n]+)", before)[-1].split()


def _run(command: list[str], work: Path, environment: dict[str, str], show: bool = False) -> None:
    done = subprocess.run(
        command, cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    if show:
        print(done.stdout + done.stderr)
    elif done.returncode:
        print(f"{' '.join(command)}: status {done.returncode}\n{done.stderr}")


if __name__ == "__main__":
    main()
