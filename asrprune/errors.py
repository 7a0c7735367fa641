"""The one error that bad input raises."""

from __future__ import annotations

import os
from typing import Optional, Union

LONGEST_MESSAGE = 1000
"""Characters of one part of a message: a damaged file may hold a word of any length."""


def shortened(text: str, most: int = LONGEST_MESSAGE) -> str:
    """``text`` in one line, with at most about ``most`` characters: its begin and its end.

    >>> shortened("a  b\\nc"), shortened("x" * 99 + "end", 20)
    ('a b c', 'xxxxxxxxxx...xxxxxxxend')
    """
    if len(text) > most:
        text = f"{text[: most // 2]}...{text[-(most // 2) :]}"
    return " ".join(text.split())


class InputError(Exception):
    """Bad input: prints as ``path:line: found; expected``, without a traceback.

    ``path`` names the file (or ``-`` for standard input), ``line`` counts from 1 and is left
    out when the problem is not tied to a line. ``found`` states what was met (with the utterance
    id where there is one) and ``expected`` what would have been right; of either, what is longer
    than LONGEST_MESSAGE is cut.
    """

    def __init__(
        self,
        path: Union[str, os.PathLike[str]],
        line: Optional[int],
        found: str,
        expected: str,
    ) -> None:
        self.path = os.fspath(path)
        self.line = line
        self.found = found
        self.expected = expected
        super().__init__(str(self))

    def __reduce__(self) -> tuple[type, tuple[str, Optional[int], str, str]]:
        return InputError, (self.path, self.line, self.found, self.expected)

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{shortened(place)}: {shortened(self.found)}; expected {shortened(self.expected)}"


class MissingPackage(Exception):
    """An optional package is not installed; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(
            f"the Python package {package} is needed here: pip install 'asrprune[{extra}]'"
        )

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return MissingPackage, (self.package, self.extra)
