"""What is done to references and hypotheses before they are compared, and what is counted."""

from __future__ import annotations

import re
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import IO, Optional

from asrprune.core.composition import APOSTROPHES, nfc
from asrprune.core.letter_case import lower_case
from asrprune.core.spool import SpooledDict
from asrprune.core.units import UNITS, WORD
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.wer.kaldi_text import parse_kaldi_text

Change = Callable[[str], str]
"""A text to a text: words separated by single spaces."""

HYPHENS = ("keep", "split", "join")
NORMALISE = "--normalise"
"""How the name of the step begins that puts words into a normal form."""

_TAGS = re.compile(r"<[^<>\s]*>|\[[^\[\]]*\]|(?<!\S)!(SIL|NULL)(?!\S)")
_HYPHEN = re.compile(r"(.)[-\u2010\u2011](?=\w)", re.DOTALL)
_KEPT = "%&@#"  # punctuation to Unicode, read aloud as words
_OTHERS = ("\u066a\ufe6a\uff05", "\ufe60\uff06", "\ufe6b\uff20", "\ufe5f\uff03")
_PLAIN = APOSTROPHES | {
    ord(letter): plain
    for plain, others in zip(("-", *_KEPT), ("\u2010\u2011", *_OTHERS))
    for letter in others
}
_LOOSE = re.compile(r"['\-.,](?![^\W_])")
_INNER = re.compile(r"(^|.)(['\-.,])(?=([^\W_]))", re.DOTALL)


class _Spaces(dict[int, str]):
    """For str.translate: punctuation becomes a space, but for what ``_inner`` left and _KEPT.
    Filled as characters are met."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        kept = letter in _KEPT + "'-.," or unicodedata.category(letter)[0] != "P"
        self[code] = letter if kept else " "
        return self[code]


_PUNCTUATION = _Spaces()


@dataclass(frozen=True)
class ScoringForm:
    """``steps`` in order, as (what the command line calls it, what it does), then the text is cut
    into units. ``filter`` is a shell command that rewrites all texts before that (``run_filter``),
    ``hyp_filter`` one for the hypotheses alone."""

    unit: str = WORD
    steps: tuple[tuple[str, Change], ...] = ()
    filter: Optional[str] = None
    hyp_filter: Optional[str] = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit is {self.unit!r}; expected one of {', '.join(UNITS)}")

    @property
    def is_plain(self) -> bool:
        """Whether texts stay as they are."""
        return self.unit == WORD and not (self.steps or self.filter or self.hyp_filter)

    def units(self, text: str) -> list[str]:
        """The units of a text after all steps.

        >>> ScoringForm("char", (("--ignore-case", fold_case),)).units("Ab c")
        ['a', 'b', 'c']
        """
        return UNITS[self.unit](self.changed(text))

    def text(self, text: str) -> str:
        """The same with single spaces between the units."""
        return " ".join(self.units(text))

    def changed(self, text: str) -> str:
        """The text after the steps, not cut into units."""
        for _, step in self.steps:
            text = step(text)
        return text

    def digits_lost(self, text: str) -> int:
        """How many words lose digits to the normal form; tags are no words.

        >>> ScoringForm(steps=(("--normalise asr", lambda word: word.strip("12")),)).digits_lost(
        ...     "room 12 is no 3rd [spk1]"
        ... )
        1
        """
        if not _digits(text) or not any(name.startswith(NORMALISE) for name, _ in self.steps):
            return 0
        for name, step in self.steps:
            if name.startswith(NORMALISE):
                break
            text = step(text)
        return sum(_digits(step(word)) < _digits(word) for word in drop_tags(text).split())

    def described(self) -> tuple[str, ...]:
        """The options that differ from plain words as they stand, in the order they work."""
        filters = [f"--filter {self.filter!r}"] if self.filter else []
        filters += [f"--hyp-filter {self.hyp_filter!r}"] if self.hyp_filter else []
        names = [name for name, _ in self.steps]
        return (*filters, *names, *([] if self.unit == WORD else [f"--unit {self.unit}"]))

    def filtered_refs(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """References (utterance id -> text) after the filter. Raises as ``run_filter``."""
        return run_filter(self.filter, texts, "references") if self.filter else texts

    def filtered_hyps(self, texts: Mapping[str, str]) -> Mapping[str, str]:
        """Hypotheses (id -> text) after the filters. Raises as ``run_filter``."""
        for command in (self.filter, self.hyp_filter):
            if command:
                texts = run_filter(command, texts, "hypotheses")
        return texts


def fold_case(text: str, language: Optional[str] = None) -> str:
    """The text without regard to case (Unicode's case folding: also ß as ss), in NFC; \u0130 is i,
    and I is \u0131 where ``language`` is ``tr`` or ``az``."""
    return nfc(lower_case(nfc(text), language).casefold())


def drop_tags(text: str) -> str:
    """The text without words like <unk>, [noise], [background noise], !SIL.

    >>> drop_tags("yes [loud noise] no<sil> !SIL")
    'yes no'
    """
    return _collapsed(_TAGS.sub(" ", text))


def split_hyphens(text: str) -> str:
    """Words at hyphens become several: t-shirt is t shirt."""
    return _at_hyphens(text, " ")


def join_hyphens(text: str) -> str:
    """Words lose their hyphens: t-shirt is tshirt."""
    return _at_hyphens(text, "")


def count_hyphens(text: str) -> int:
    """How many hyphens stand inside words."""
    return sum(_in_word(match.group(1)) for match in _HYPHEN.finditer(text))


def _at_hyphens(text: str, instead: str) -> str:
    def change(match: re.Match[str]) -> str:
        before = match.group(1)
        return before + instead if _in_word(before) else match.group()

    return _HYPHEN.sub(change, text)


def drop_punctuation(text: str) -> str:
    """The text without punctuation (Unicode's categories P*), which ends words.

    Kept are apostrophes and hyphens between letters, points and commas between digits, what is
    read aloud (% & @ #) and tags like <unk>; other characters for these become those of ASCII.

    >>> drop_punctuation("“Mr. O’Brien's T-shirt,” 3.50 <unk> -- 50%!")
    "Mr O'Brien's T-shirt 3.50 <unk> 50%"
    """
    text = text.translate(_PLAIN)
    tags = [match.group() for match in _TAGS.finditer(text)]
    mark = next(one for one in map(chr, range(0xE000, 0x110000)) if one not in text)
    text = _TAGS.sub(mark, text) if tags else text
    text = _INNER.sub(_inner, _LOOSE.sub(" ", text)).translate(_PUNCTUATION)
    whole = iter(tags)
    return _collapsed(re.sub(mark, lambda _: next(whole), text) if tags else text)


def _inner(match: re.Match[str]) -> str:
    """Punctuation before a letter or digit: itself inside a word or number, else a space."""
    before, letter, after = match.group(1, 2, 3)
    if letter in ".,":
        return f"{before}{letter if before.isdigit() and after.isdigit() else ' '}"
    return f"{before}{letter if before != '_' and _in_word(before) else ' '}"


def drop_words(words: Collection[str]) -> Change:
    """The text without these words."""
    dropped = frozenset(words)
    return lambda text: " ".join(word for word in text.split() if word not in dropped)


def replace_phrases(table: Mapping[tuple[str, ...], tuple[str, ...]]) -> Change:
    """The text with phrases of ``table`` replaced, from the left, longest first, each once.

    >>> replace_phrases({("going", "to"): ("gonna",)})("i am going to go")
    'i am gonna go'
    """
    longest = max(map(len, table), default=0)

    def change(text: str) -> str:
        words, done, place = text.split(), list[str](), 0
        while place < len(words):
            for size in range(min(longest, len(words) - place), 0, -1):
                found = table.get(tuple(words[place : place + size]))
                if found is not None:
                    done.extend(found)
                    place += size
                    break
            else:
                done.append(words[place])
                place += 1
        return " ".join(done)

    return change


def read_equivalents(path: PathLike, before: Change) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The phrases of lines ``a b => c``, as ``replace_phrases`` takes them.

    A subset of NIST's glm files: comments of ``;;`` or ``#``, headers of ``*``, phrases in [...]
    and the context ``/ [ ] __ [ ]`` are understood. An empty right side deletes. ``before``: what
    is done to a text earlier. Raises InputError with the line for anything else, and for a phrase
    that comes twice with different right sides.
    """
    table: dict[tuple[str, ...], tuple[str, ...]] = {}
    for number, line in read_lines(path):
        rule = line.partition(";;")[0].strip()
        if not rule or rule[0] in "#*":
            continue
        left, arrow, right = rule.partition("=>")
        right = _without_context(right)
        phrases = [re.sub(r"^\[(.*)\]$", r"\1", side.strip()) for side in (left, right)]
        source, target = (tuple(before(phrase).split()) for phrase in phrases)
        if not arrow or not source or "=>" in right or re.search(r"[{}]|(^|\s)/(\s|$)", right):
            raise InputError(path, number, f"{line[:60]!r}", "'a b => c', no alternatives")
        if table.get(source, target) != target:
            raise InputError(path, number, f"{' '.join(source)!r} again", "each phrase once")
        table[source] = target
    if not table:
        raise InputError(path, None, "no equivalents", "lines of 'a b => c'")
    return table


def _without_context(right: str) -> str:
    """The right side of a rule without the context ``/ [ ] __ [ ]``, which is any."""
    target, slash, context = f" {right}".rpartition("/")
    if slash and target[-1].isspace() and "".join(context.split()) == "[]__[]":
        right = target
    return right.strip()


def run_filter(command: str, texts: Mapping[str, str], name: str) -> SpooledDict[str]:
    """The texts after a shell command that gets lines ``utt words`` and gives such lines back, as
    Kaldi's ``local/wer_output_filter``.

    ``name`` says in messages whose texts these are; what goes in and comes out lies in temporary
    files. Raises InputError when the command fails, and unless it gives the same utterances back.
    """
    where = f"filter {command!r} of {name}"
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as made:
        for utt, text in texts.items():
            given.write((f"{utt} {text}\n" if text else f"{utt}\n").encode())
        given.seek(0)
        done = subprocess.run(
            command, shell=True, stdin=given, stdout=made, stderr=subprocess.PIPE, check=False
        )
        if done.returncode:
            problem = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            found = f"status {done.returncode} {' '.join(problem)}"
            raise InputError(where, None, found, "status 0 and lines of 'utt word word ...'")
        made.seek(0)
        changed = parse_kaldi_text(where, _made_lines(where, made))
    new = (utt for utt in changed if utt not in texts)
    missing = (utt for utt in texts if utt not in changed)
    odd: Optional[str] = min(chain(new, missing), default=None)
    if odd is not None:
        what = "is missing" if odd in texts else "is new"
        raise InputError(where, None, f"utterance {odd} {what}", "the utterances it was given")
    return SpooledDict((utt, changed[utt][0]) for utt in texts)


def _made_lines(where: str, made: IO[bytes]) -> Iterator[tuple[int, str]]:
    """The lines of a filter's output, empty ones at the end left out unless there is no other."""
    empty = 0
    for number, raw in enumerate(made, start=1):
        if raw == b"\n":
            empty += 1
            continue
        yield from ((number - left, "") for left in range(empty, 0, -1))
        empty = 0
        try:
            yield number, raw.decode().rstrip("\n")
        except UnicodeDecodeError:
            raise InputError(where, None, "bytes that are not UTF-8", "UTF-8 text") from None
    if made.tell() == empty:
        yield 1, ""


def _digits(text: str) -> int:
    return sum(map(str.isnumeric, text))


def _in_word(letter: str) -> bool:
    """Whether what follows may go on with a word: a letter, a digit, _, a mark or a joiner."""
    if letter.isalnum():
        return True
    return bool(letter) and (letter in "_\u200c\u200d" or unicodedata.category(letter)[0] == "M")


def _collapsed(text: str) -> str:
    return " ".join(text.split())
