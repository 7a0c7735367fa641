"""One file from the net, resumed where an earlier try stopped, and checked.

    python local/librispeech/fetch.py --url URL --md5 HEX --out corpus/librispeech-lm-norm.txt.gz

A file that is there already is checked and kept. What is not whole stays beside it as ``OUT.part``.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import Optional

from asrprune.errors import InputError, MissingPackage


def fetch(url: str, md5: Optional[str], out: Path) -> None:
    """Fetch ``url`` into ``out``. Raises InputError for what cannot be had, and for another file
    than that of the checksum."""
    if not out.is_file():
        try:
            from lhotse.utils import resumable_download
        except ImportError:
            raise MissingPackage("lhotse", "mini") from None
        part = out.with_name(out.name + ".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            resumable_download(url, part)
        except OSError as problem:  # urllib's errors among them
            found = f"{problem}"
            raise InputError(url, None, found, f"the file, or a copy of it as {out}") from None
        _check(part, md5, f"remove {part} to fetch it again")
        os.replace(part, out)
    else:
        _check(out, md5, f"remove {out} to fetch it again")


def _check(path: Path, md5: Optional[str], advice: str) -> None:
    if md5 is None:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    if digest.hexdigest() != md5:
        raise InputError(path, None, f"MD5 {digest.hexdigest()}", f"{md5}; {advice}")


def main() -> int:
    """Fetch. Returns the exit status: 0 done, 1 bad data, 2 a package that is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--md5", metavar="HEX", help="checksum (default: not checked)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    try:
        fetch(args.url, args.md5, args.out)
    except InputError as problem:
        print(f"fetch: {problem}", file=sys.stderr)
        return 1
    except MissingPackage as problem:
        print(f"fetch: {problem}", file=sys.stderr)
        return 2
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
