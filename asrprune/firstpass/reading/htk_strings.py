"""HTK's names and words: quoted, with backslash escapes, bytes beyond ASCII in octal."""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"\\(?:([0-3][0-7]{2})|[0-7].{0,2}|(.)|$)", re.DOTALL)


def unquoted(text: str) -> str:
    """``text`` without the pair of quotes around it, ``'`` or ``"``; unchanged without such a pair.

    >>> unquoted("'a b'"), unquoted('"it\\'s"'), unquoted("'tis")
    ('a b', "it's", "'tis")
    """
    quoted = len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]
    return text[1:-1] if quoted else text


def unescaped(text: str) -> str:
    r"""``text`` with its escapes resolved: ``\ooo`` is a byte of UTF-8, ``\c`` the character c.

    Raises ValueError for a backslash before fewer than three octal digits or at the end, a byte
    above 255, and bytes that are not UTF-8.
    Source: HTKBook, "Strings and Names": every byte that cannot be printed is written as ``\ooo``.

    >>> unescaped(r"caf\303\251"), unescaped(r"\'tis"), unescaped(r"back\\slash")
    ('café', "'tis", 'back\\slash')
    """
    if "\\" not in text:
        return text

    def byte(match: re.Match[bytes]) -> bytes:
        octal, character = match.groups()
        if octal is not None:
            return bytes([int(octal, 8)])
        if character is None:
            found = match.group().decode("utf-8", "replace")
            raise ValueError(f"the escape {found} is no \\ooo of three octal digits up to \\377")
        return bytes(character)

    raw = _ESCAPE.sub(byte, text.encode("utf-8"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        found = "".join(f"\\{value:03o}" for value in raw[problem.start : problem.end])
        raise ValueError(f"the bytes {found} are not UTF-8 (another encoding?)") from None
