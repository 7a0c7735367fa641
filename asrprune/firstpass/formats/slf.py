"""HTK standard lattice format (SLF): one lattice a file, words on nodes or on links."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from asrprune.core.lattice.lattice import (
    Lattice,
    NoPathError,
    check_paths,
    check_size,
    from_arcs,
    topological_order,
)
from asrprune.core.spool import SpooledSet
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines, write_text
from asrprune.firstpass.formats.slf_scores import SCALES, LogConverter, link_scores
from asrprune.firstpass.on_bad import REFUSE, NothingFoundError, OnBad, empty_lattice
from asrprune.firstpass.reading.folders import output_folder
from asrprune.firstpass.reading.htk_strings import unescaped, unquoted
from asrprune.firstpass.reading.numbers import whole
from asrprune.firstpass.reading.utterance_ids import id_of_path
from asrprune.firstpass.reading.words import plain_word

_FIELD = re.compile(
    r"\s*([^\s=]+)\s*=\s*"
    r"""("[^"\\]*(?:\\.[^"\\]*)*"(?!\S)|'[^'\\]*(?:\\.[^'\\]*)*'(?!\S)"""
    r"""|[^\s\\]*(?:\\.[^\s\\]*)*\\?)"""
)
_STRINGS = {"W", "U"}
"""The fields that hold HTK's strings: in others a backslash is itself (paths of Windows)."""
_DRIVE = re.compile(r"[A-Za-z]:\\|\\\\")
_LONG_NAMES = {
    "NODES": "N",
    "LINKS": "L",
    "UTTERANCE": "U",
    "VERSION": "V",
    "SUBLAT": "S",
    "START": "S",
    "END": "E",
    "WORD": "W",
    "acoustic": "a",
    "language": "l",
    "ngram": "n",
}
_HEADER = {
    *("V", "U", "S", "N", "L", "base", "start", "end", "lmname"),
    *("tscale", "nxscale", "vocab", "hmms", "ngname", *SCALES),
    *("lmin", "lmout", "lminscale", "lmoutscale", "dict", "feature", "amscale"),
}
"""Header fields of HTK and SRILM; others are named in a warning."""
_SUFFIXES = (".slf", ".lat", ".htk")

_Fields = dict[str, str]
_log = logging.getLogger(__name__)


@dataclass
class _File:
    """What the lines of one file say, before states and arcs are made of it."""

    path: PathLike
    header: _Fields = field(default_factory=dict)
    nodes: dict[int, tuple[int, _Fields]] = field(default_factory=dict)
    links: dict[int, tuple[int, _Fields]] = field(default_factory=dict)
    line: int = 0
    stated_on: dict[str, int] = field(default_factory=dict)
    """Header field -> line."""

    def error(self, found: str, expected: str, line: Optional[int] = None) -> InputError:
        name = self.header.get("U")
        return InputError(
            self.path, line, f"utterance {name}: {found}" if name else found, expected
        )

    def utt(self) -> str:
        """The utterance id: ``UTTERANCE=``, or the file's name."""
        name = Path(self.path).name
        utt = id_of_path(self.header.get("U") or _stem(name) or name)
        if not utt:
            found = f"UTTERANCE={self.header.get('U')}"
            raise self.error(found, "an id, or a path with a name", self.stated_on.get("U"))
        return utt

    def nothing(self, found: str) -> NothingFoundError:
        return NothingFoundError(self.path, None, empty_lattice(self.utt()), found)

    def number(self, fields: _Fields, key: str, line: int) -> float:
        text = fields[key]
        try:
            if not text.isascii() or "_" in text:  # which float would take
                raise ValueError(text)
            value = float(text)
        except ValueError:
            raise self.error(f"{key}={text}", "a number", line) from None
        if math.isnan(value) or value == math.inf:
            raise self.error(f"{key}={fields[key]}", "a finite number or -inf", line)
        return value

    def index(self, fields: _Fields, key: str, line: int) -> int:
        if key not in fields:
            raise self.error(f"no {key}= in this line", f"{key}=number", line)
        try:
            return whole(fields[key], key)
        except ValueError:
            expected = "a whole number in ASCII digits"
            raise self.error(f"{key}={fields[key]}", expected, line) from None


def read_slf(path: PathLike) -> Lattice:
    """The lattice of one SLF file (``.gz`` and ``-`` accepted).

    A word on a node belongs to the links that enter it; fillers, ``!NULL``, ``<s>`` and ``</s>``
    become epsilon, ``was(2)`` becomes ``was``. ``a=`` and ``l=`` are converted to natural logs
    by ``base=``. Other scores of a link are added to these two, scaled so that the path total is
    HTK's and SRILM's: those of pronunciation ``r=``, of duration ``ds=`` and SRILM's extra
    ``x1=`` to ``x9=`` to the acoustic score, that of an n-gram ``n=`` to the LM score, which it is
    where there is no ``l=``. ``weights`` of the lattice hold the file's acscale, lmscale (or
    ngscale) and wdpenalty when it states any of them. The utterance id is ``UTTERANCE=``, or the
    file name; of a path (HVite writes that of the feature file) it is the name, as ``id_of_path``
    says. Words and ids may be quoted and escaped, ``caf\\303\\251`` is café; header fields that
    are not known are named in a warning.

    Raises InputError with the line for sub-lattices, wrong counts, links to unknown nodes, words
    without ``a=``, ``l=`` or ``n=`` on some words only, several starts or ends, and cycles; its
    kind NothingFoundError for a lattice without a path.
    Source: HTKBook, sections on SLF files and on strings and names; SRILM, ``HTKLattice.cc``.
    """
    return _to_lattice(_parse(path))


def read_slf_files(path: PathLike, bad: OnBad = REFUSE) -> Iterator[Lattice]:
    """The lattices of one SLF file, or of all SLF files of a folder in order of their names.

    ``bad`` decides what becomes of a lattice without a path, an empty file among them. Raises
    InputError as ``read_slf`` does, for a folder without SLF files (``.slf``, ``.lat``,
    ``.htk``, also ``.gz``), and for an utterance that comes twice.
    """
    known = set(_HEADER)

    def read(file: PathLike) -> Iterator[Lattice]:
        try:
            parsed = _parse(file)
            for name in parsed.header.keys() - known:
                known.add(name)  # once is enough
                shown = f"{name}={parsed.header[name]}"
                _log.warning("%s: header field %s is not known, and not read", file, shown)
            yield _to_lattice(parsed)
        except NothingFoundError as problem:
            yield from bad(problem)

    if not Path(path).is_dir():
        yield from read(path)
        return
    files = sorted(entry for entry in Path(path).iterdir() if _stem(entry.name) is not None)
    if not files:
        raise InputError(path, None, "no SLF file in this folder", "*.slf, *.lat, *.htk or *.gz")
    seen: dict[str, Path] = {}
    for file in files:
        for lattice in read(file):
            if lattice.utt in seen:
                found = f"utterance {lattice.utt} again (first in {seen[lattice.utt].name})"
                raise InputError(file, None, found, "each utterance once")
            seen[lattice.utt] = file
            yield lattice


def write_slf(path: PathLike, lattice: Lattice) -> None:
    """Write one lattice with words on links, natural logs and scores at full precision.

    An id that looks like a file's name (``u1.wav``) gets ``.mfc`` behind it, which reading takes
    off again. Raises ValueError for a word that a reader would not take as itself (``[NOISE]``,
    ``a(2)``), an id with a slash, and on a cycle.
    """
    for word in lattice.words[1:]:
        if plain_word(word) != word:
            raise ValueError(f"lattice {lattice.utt}: {word!r} cannot be a word in SLF")
    topological_order(lattice)
    name = lattice.utt if id_of_path(lattice.utt) == lattice.utt else f"{lattice.utt}.mfc"
    if id_of_path(name) != lattice.utt:
        raise ValueError(f"utterance id {lattice.utt!r} would be read as {id_of_path(name)!r}")
    with write_text(path) as stream:
        stream.write(f"VERSION=1.1\nUTTERANCE={_quoted(name)}\n")
        if lattice.weights is not None:
            stream.write(
                f"acscale={lattice.weights.acoustic!r}\tlmscale={lattice.weights.first_lm!r}\t"
                f"wdpenalty={lattice.weights.word_bonus!r}\n"
            )
        stream.write(f"start={lattice.start}\tend={lattice.final}\n")
        stream.write(f"N={lattice.n_states}\tL={lattice.n_arcs}\n")
        for state in range(lattice.n_states):
            time = "" if lattice.times is None else f"\tt={float(lattice.times[state]):.6g}"
            stream.write(f"I={state}{time}\n")
        labels = [_quoted(word) if word else "!NULL" for word in lattice.words]
        sources, targets = lattice.src.tolist(), lattice.dst.tolist()
        acoustic, word_ids = lattice.acoustic.tolist(), lattice.word.tolist()
        lm = None if lattice.lm is None else lattice.lm.tolist()
        for arc in range(lattice.n_arcs):
            tail = "" if lm is None else f"\tl={lm[arc]!r}"
            stream.write(
                f"J={arc}\tS={sources[arc]}\tE={targets[arc]}\tW={labels[word_ids[arc]]}"
                f"\tv=0\ta={acoustic[arc]!r}{tail}\n"
            )


def write_slf_files(path: PathLike, lattices: Iterable[Lattice]) -> None:
    """Write a folder with ``<utt>.slf.gz`` for every lattice.

    Raises ValueError for an utterance id that cannot be a file name or comes twice, and for a
    folder that holds something else already.
    """
    seen = SpooledSet()
    with output_folder(path, r".*\.slf\.gz") as folder:
        for lattice in lattices:
            if "/" in lattice.utt or lattice.utt in seen:
                raise ValueError(f"utterance id {lattice.utt!r} comes twice or holds a slash")
            seen.add(lattice.utt)
            write_slf(folder / f"{lattice.utt}.slf.gz", lattice)


def _parse(path: PathLike) -> _File:
    file = _File(path)
    for number, line in read_lines(path):
        file.line = number
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        fields = _fields(file, number, text)
        kind = next(iter(fields))
        if kind == "I":
            _add(file, file.nodes, "I", number, fields)
        elif kind == "J":
            _add(file, file.links, "J", number, fields)
        elif file.nodes or file.links:
            raise file.error(f"header field {kind}= after the nodes", "I= or J=", number)
        else:
            file.header.update(fields)
            file.stated_on.update(dict.fromkeys(fields, number))
    if not file.header and not file.nodes:
        if file.line == 0:
            raise file.nothing("an empty file")
        raise InputError(path, None, "no lattice", "an HTK SLF file")
    if "S" in file.header:
        raise file.error("a sub-lattice (SUBLAT=)", "a file with one whole lattice")
    for number, fields in file.nodes.values():
        if "L" in fields:
            found = f"a node that stands for the sub-lattice {fields['L']}"
            raise file.error(found, "a file with one whole lattice", number)
    for key, entries, what in (("N", file.nodes, "nodes"), ("L", file.links, "links")):
        stated = file.index(file.header, key, file.stated_on[key]) if key in file.header else None
        if stated != len(entries):
            said = "without a count" if stated is None else f"of {stated} stated by {key}="
            raise file.error(f"{len(entries)} {what} {said}", "a whole file", file.line)
    return file


def _fields(file: _File, number: int, text: str) -> _Fields:
    """The fields of a line: fast where none is quoted, escaped, empty or apart from its ``=``."""
    if "\\" in text:
        return _any_fields(file, number, text)
    fields: _Fields = {}
    for part in text.split():
        name, _, value = part.partition("=")
        if not name or not value or value[0] in "\"'":
            return _any_fields(file, number, text)
        fields[_LONG_NAMES.get(name, name)] = value
    return fields


def _any_fields(file: _File, number: int, text: str) -> _Fields:
    fields: _Fields = {}
    at = 0
    while at < len(text):
        match = _FIELD.match(text, at)
        if match is None:
            raise file.error(f"{text[at:].strip()[:40]!r}", "name=value fields", number)
        name, value = _LONG_NAMES.get(match.group(1), match.group(1)), unquoted(match.group(2))
        if name in _STRINGS and not (name == "U" and _DRIVE.match(value)):
            try:
                value = unescaped(value)
            except ValueError as problem:
                found = f"{match.group(0).strip()[:60]} ({problem})"
                raise file.error(found, "strings as HTK writes them, in UTF-8", number) from None
        fields[name] = value
        at = match.end()
    return fields


def _add(
    file: _File, table: dict[int, tuple[int, _Fields]], key: str, number: int, fields: _Fields
) -> None:
    index = file.index(fields, key, number)
    if index in table:
        raise file.error(f"{key}={index} again", "each number once", number)
    table[index] = (number, fields)
    try:
        check_size(len(table))
    except ValueError as problem:
        raise file.error(str(problem), "a smaller lattice", number) from None


def _to_lattice(file: _File) -> Lattice:
    utt = file.utt()
    labels = {node: plain_word(fields.get("W", "")) for node, (_, fields) in file.nodes.items()}
    lone_word = len(labels) == 1 and any(labels.values())  # which gets an arc below
    if not file.links and not lone_word:
        raise file.nothing(f"a lattice without {'links' if labels else 'nodes'}")
    states = {node: state for state, node in enumerate(sorted(file.nodes))}
    to_ln = _log_converter(file)
    scores = link_scores(_scales(file), _link_fields(file), to_ln)
    arcs: list[tuple[int, int, str, float, Optional[float]]] = []
    on_links = any("W" in fields for _, fields in file.links.values())
    for number, fields in file.links.values():
        ends = [file.index(fields, key, number) for key in "SE"]
        for node in ends:
            if node not in states:
                raise file.error(f"a link to node {node}", f"one of {len(states)} nodes", number)
        if on_links and "W" not in fields and "W" not in file.nodes[ends[1]][1]:
            raise file.error("a link without W=, which other links have", "W=", number)
        if fields.get("W") == "":
            raise file.error("W= without a word", "a word or !NULL", number)
        word = plain_word(fields["W"]) if "W" in fields else labels[ends[1]]
        if word and word.split() != [word]:
            raise file.error(f"word {word!r}", "a word without white space", number)
        if "a" not in fields and word:
            raise file.error(f"word {word!r} without a=", "an acoustic score", number)
        for key in scores.lm:
            if key not in fields and word:
                expected = f"{key}= on all words or on none"
                raise file.error(f"word {word!r} without {key}=", expected, number)
        acoustic = _score(file, number, fields, scores.acoustic, to_ln)
        lm = _score(file, number, fields, scores.lm, to_ln) if scores.lm else None
        arcs.append((states[ends[0]], states[ends[1]], word, acoustic, lm))
    first, last = _ends(file, arcs, states)
    times = _times(file)
    n_states = len(states)
    if labels[sorted(file.nodes)[first]] and all("W" not in f for _, f in file.links.values()):
        # a word on the start node is entered by no link: it gets an arc of its own
        lm = 0.0 if scores.lm else None
        arcs.append((n_states, first, labels[sorted(file.nodes)[first]], 0.0, lm))
        times = None if times is None else [*times, times[first]]
        first, n_states = n_states, n_states + 1
    try:
        lattice = from_arcs(utt, n_states, first, last, arcs, times=times, weights=scores.weights)
        check_paths(lattice)
    except NoPathError:
        raise file.nothing("no path from start to end") from None
    except ValueError as problem:
        raise file.error(str(problem), "an acyclic lattice") from None
    return lattice


def _score(
    file: _File, number: int, fields: _Fields, factors: dict[str, float], to_ln: LogConverter
) -> float:
    score = 0.0
    for key, factor in factors.items():
        if key in fields:
            score += factor * to_ln(file.number(fields, key, number))
    return score


def _scales(file: _File) -> dict[str, float]:
    """The scales that the header states."""
    stated = {}
    for key in SCALES:
        if key in file.header:
            stated[key] = file.number(file.header, key, file.stated_on[key])
            if math.isinf(stated[key]):
                found = f"{key}={file.header[key]}"
                raise file.error(found, "a finite number", file.stated_on[key])
    return stated


def _link_fields(file: _File) -> set[str]:
    """The fields that some link has."""
    return set().union(*(fields for _, fields in file.links.values()))


def _log_converter(file: _File) -> LogConverter:
    base = (
        file.number(file.header, "base", file.stated_on["base"])
        if "base" in file.header
        else math.e
    )
    if base < 0.0 or base == 1.0:
        raise file.error(f"base={base}", "0 or a positive number other than 1")
    return LogConverter(base)


def _ends(
    file: _File,
    arcs: list[tuple[int, int, str, float, Optional[float]]],
    states: dict[int, int],
) -> tuple[int, int]:
    """The start and the final state: as the header says, else those without links in or out."""
    found = []
    for key, side in (("start", 1), ("end", 0)):
        if key in file.header:
            node = file.index(file.header, key, file.stated_on[key])
            if node not in states:
                raise file.error(f"{key}={node}", f"one of {len(states)} nodes")
            found.append(states[node])
            continue
        linked = {arc[side] for arc in arcs}
        free = [node for node, state in states.items() if state not in linked]
        if len(free) != 1:
            raise file.error(f"{len(free)} nodes that could be the {key}", f"one, or {key}=")
        found.append(states[free[0]])
    return found[0], found[1]


def _times(file: _File) -> Optional[list[float]]:
    entries = [file.nodes[node] for node in sorted(file.nodes)]
    if not all("t" in fields for _, fields in entries):
        return None
    return [file.number(fields, "t", number) for number, fields in entries]


def _stem(name: str) -> Optional[str]:
    """The file name without an SLF suffix and ``.gz``; None when it has no SLF suffix."""
    plain = name[: -len(".gz")] if name.endswith(".gz") else name
    for suffix in _SUFFIXES:
        if plain.endswith(suffix) and len(plain) > len(suffix):
            return plain[: -len(suffix)]
    return None


def _quoted(value: str) -> str:
    if value[0] in "\"'" or "\\" in value:
        return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
    return value
