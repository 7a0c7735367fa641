"""The form that an LM wants: from a list's words to the LM's words."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asrprune.text.form import Speller, TextForm, TextOptions, case_shown
from asrprune.text.normalise import NORMALISERS, normaliser
from asrprune.text.sentencepiece import MODEL_TYPES, TokenizerConfig, train_tokenizer
from asrprune.text.tokenizer import Tokenizer

TEXT = ["the mill grinds slowly", "a heron stood by the mill", "grinds the heron slowly"]
INDIC = "किताब मेज़ पर रखी हुई थी"


@pytest.mark.parametrize("name", NORMALISERS)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_line_reads_as_its_words_do(name: str, text: str) -> None:
    form = normaliser(name)
    assert form(text) == " ".join(filter(None, map(form, text.split())))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INDIC, INDIC),
        ("தமிழ், மொழி!", "தமிழ் மொழி"),
        ("كَتَبَ الوَلَدُ.", "كَتَبَ الوَلَدُ"),
        ("می\u200cروم،", "می\u200cروم"),
        ("\u200d ক্\u200cষ", "ক্\u200cষ"),
        ("ไม่เป็นไร", "ไม่เป็นไร"),
        ("İzmir'e IŞIK", "izmir'e işik"),
        ("☀\ufe0f sun", "sun"),
        ("so <PERIOD> [cough] it goes <unk>", "so it goes"),
        (unicodedata.normalize("NFD", "Ελένη é"), "ελένη é"),
    ],
)
def test_letters_of_any_script_keep_their_marks(text: str, expected: str) -> None:
    assert NORMALISERS["asr"](text) == expected


def test_turkish_and_azerbaijani_have_an_i_without_a_dot() -> None:
    assert normaliser("asr", "tr")("IŞIK İZMİR") == "\u0131ş\u0131k izmir"
    assert normaliser("librispeech", "az")("\u0131l\u0131q iki") == "ILIQ İKİ"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<unk>", (None,)),
        ("[UNK]", (None,)),
        ("\u2047", (None,)),
        ("<eps>", ()),
        ("</s>", ()),
        ("!SIL", ()),
        ("[noise]", ()),
        ("<laughter>", ()),
        ("T-shirt", ("t", "shirt")),
        ("--", ()),
    ],
)
def test_special_words(word: str, expected: tuple[str, ...]) -> None:
    assert Speller(TextForm("asr"))(word) == expected


def test_special_words_as_the_call_says() -> None:
    own = {"[noise]": "unknown", "<laughter>": "keep", "uh": "drop"}
    speller = Speller(TextForm(), own)
    assert [speller(word) for word in own] == [(None,), ("<laughter>",), ()]
    assert Speller(TextForm(), {}, known=lambda word: True)("[noise]") == ("[noise]",)


def test_a_given_normaliser_goes_before_the_stated_form() -> None:
    stated = TextForm("asr", "lower", "tr")
    assert TextOptions().form(stated) == stated
    assert TextOptions("upper").form(stated) == TextForm("upper", "mixed", "tr")


def test_a_given_language_goes_before_the_stated_one() -> None:
    assert TextOptions(language="az").form(TextForm(case="lower")).words("ISI") == (
        "\u0131s\u0131",
    )
    assert TextOptions("upper", language="tr").form(TextForm("asr")).words("is\u0131") == ("İSI",)
    assert TextOptions(language="en").form(TextForm("asr", "lower", "tr")).language == "en"
    with pytest.raises(ValueError, match="language tr: the LM's text keeps its letters; expected"):
        TextOptions("none", language="tr").form(TextForm("asr"))


@pytest.mark.parametrize(
    "value", [{"normaliser": "loud"}, {"case": "camel"}, {"unit": "line"}, {"colour": "red"}]
)
def test_a_bad_form_is_refused(value: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"unknown|expected"):
        TextForm.from_dict(value)


def test_case_of_a_vocabulary() -> None:
    assert [case_shown(one) for one in ("abc", "ABC", "aB", "中 ")] == [
        "lower",
        "upper",
        "mixed",
        "mixed",
    ]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("form") / "t.model"
    path.write_bytes(train_tokenizer(TEXT * 20, TokenizerConfig(24)))
    return Tokenizer(path)


def test_upper_case_lists_suit_a_lower_case_model(tokenizer: Tokenizer) -> None:
    assert tokenizer.form == TextForm(case="lower")
    assert tokenizer.encode("THE MILL") == tokenizer.encode("the mill")


def test_what_cannot_be_spelled_is_one_unknown_word(tokenizer: Tokenizer) -> None:
    unknown = [tokenizer.encode(f"the {word} mill") for word in ("<unk>", "<UNK>", "ßß", "mißt")]
    assert all(ids == unknown[0] for ids in unknown)
    assert unknown[0].count(tokenizer.unknown) == 1
    assert tokenizer.encode("the [noise] mill <s>") == tokenizer.encode("the mill")


@given(st.lists(st.sampled_from(["the", "mill", "<unk>", "!SIL", "ß", "A", "by,"]), max_size=8))
def test_a_sentence_is_its_words_laid_end_to_end(tokenizer: Tokenizer, words: list[str]) -> None:
    parts = tokenizer.encode_words(words)
    assert [token for ids in parts for token in ids] == tokenizer.encode(" ".join(words))
    assert parts == [tokenizer.encode_word(word, first=True) for word in words]


HAN = ["今天下雨了", "他在家看书", "我用mobile看天气"]


@pytest.mark.parametrize("unit", ["char", "mixed"])
def test_text_with_and_without_spaces_has_the_same_tokens(unit: str, tmp_path: Path) -> None:
    form = TextForm(unit=unit)
    lines = [Speller(form).line(line) for line in HAN * 5]
    (tmp_path / "t.model").write_bytes(train_tokenizer(lines, TokenizerConfig(unit=unit)))
    tokenizer = Tokenizer(tmp_path / "t.model", form)
    whole = tokenizer.encode("今天看mobile天气")
    assert tokenizer.encode("今天 看 mobile 天 气") == whole
    assert tokenizer.unknown not in whole
    assert len(tokenizer.encode("今天看天气")) == 5  # one token a character
    assert tokenizer.encode("龘") == [tokenizer.unknown]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("coverage", [1.0, 0.98])
def test_characters_alone_make_a_vocabulary(
    coverage: float, model_type: str, tmp_path: Path
) -> None:
    lines = [Speller(TextForm(unit="char")).line(line) for line in [*HAN[:2] * 40, "龘"]]
    config = TokenizerConfig(unit="char", model_type=model_type, character_coverage=coverage)
    (tmp_path / "t.model").write_bytes(train_tokenizer(lines, config))
    tokenizer = Tokenizer(tmp_path / "t.model", TextForm(unit="char"))
    assert tokenizer.count_unknown("今天 他 看书") == 0
    tokens = {one: tokenizer.encode(one) for one in set("".join(lines)) - {" "}}
    assert {len(ids) for ids in tokens.values()} == {1}  # the rarest too
    assert (tokens["龘"] == [tokenizer.unknown]) == (coverage < 1.0)
    assert len({ids[0] for ids in tokens.values()}) == len(tokens)


@pytest.mark.parametrize("lines", [[], [""], [" ", ""]])
def test_text_without_words_makes_no_vocabulary(lines: list[str]) -> None:
    with pytest.raises(ValueError, match="no sentence"):
        train_tokenizer(lines, TokenizerConfig())


def test_rare_characters_are_left_out(tmp_path: Path) -> None:
    lines = ["a b c d"] * 500 + ["ŧ"]
    config = TokenizerConfig(character_coverage=0.999)
    (tmp_path / "t.model").write_bytes(train_tokenizer(lines, config))
    assert Tokenizer(tmp_path / "t.model").encode("ŧ") == [0]
    with pytest.raises(ValueError, match="character_coverage"):
        TokenizerConfig(character_coverage=0.5)
