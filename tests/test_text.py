"""Text rules: normalising, comparing, counting scripts, isolating for display, hashing."""

import hashlib
import unicodedata

import pytest

from bimedix_utils.core import text
from bimedix_utils.core.language import script_share

pytestmark = pytest.mark.unit

LRI, PDI = "\u2066", "\u2069"


def test_nfc_composes_and_folds_white_space():
    assert text.nfc("  cafe\u0301\t\n 5\u00a0mg ") == "caf\u00e9 5 mg"


def test_nfc_composes_arabic_hamza_seats():
    assert text.nfc("ا\u0654لم") == "ألم"


def test_nfc_keeps_what_must_be_stored_unchanged():
    """Storing keeps diacritics, Arabic-Indic digits, case and compatibility characters; only
    `match_key` may drop them.
    """
    stored = "جدًا ٥٠ ملغ pH ﻻ"
    assert text.nfc(stored) == stored


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("الألم", "الالم"),
        ("إيمان", "ايمان"),
        ("آلام", "الام"),
        ("مستشفى", "مستشفي"),
        ("شاطئ", "شاطي"),
        ("مسؤول", "مسوول"),
        ("مِلْغ", "ملغ"),
        ("ملـــغ", "ملغ"),
        ("٥٠ ملغ", "50 ملغ"),
        ("۵۰ ملغ", "50 ملغ"),
        ("ﻻ", "لا"),
        ("ما العلاج؟", "ما العلاج"),
        ("CA-125", "ca 125"),
        ("  Two\nwords. ", "two words"),
        ("Straße", "STRASSE"),
    ],
)
def test_match_key_joins_spellings_of_one_text(left: str, right: str):
    assert text.match_key(left) == text.match_key(right) != ""


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("50%", "50"),
        ("50 mg", "500 mg"),
        ("1.5 mg", "15 mg"),
        ("حمى", "حماة"),
        ("ليس ألمًا", "ألمًا"),
        ("hypertension", "hypotension"),
    ],
)
def test_match_key_keeps_different_texts_apart(left: str, right: str):
    assert text.match_key(left) != text.match_key(right)


def test_match_key_is_stable_when_applied_twice():
    for sample in ("الجرعة: ٥٠٠ ملغ، مرتين (يوميًا)؟", "Vitamin B12 — 2.4 µg!", "ﻻ ألم"):
        once = text.match_key(sample)
        assert text.match_key(once) == once


@pytest.mark.parametrize(
    ("sample", "share"),
    [
        ("", 0.0),
        ("500 - 7.4 %", 0.0),
        ("abc", 0.0),
        ("ألم", 1.0),
        ("ألم abc", 0.5),
        ("٥ ab", 0.0),
        ("ألم pH", 0.6),
    ],
)
def test_the_share_of_a_script_counts_letters_only(sample: str, share: float):
    assert script_share(sample, "ar") == pytest.approx(share)


def test_the_share_of_a_script_ignores_diacritics_and_marks():
    assert script_share("جدًا؟ ab", "ar") == pytest.approx(3 / 5)


def test_right_to_left_needs_half_of_the_letters():
    assert text.is_right_to_left("ألم abc")
    assert not text.is_right_to_left("ألم abcd")
    assert not text.is_right_to_left("500")


@pytest.mark.parametrize(
    ("sample", "wrapped"),
    [
        ("الجرعة (500 mg) يوميًا", ["500 mg"]),
        ("ارتفاع CA-125، مع pH 7.4.", ["CA-125", "pH 7.4"]),
        ("الضغط 120/80 ملم زئبق", ["120/80"]),
        ("فيتامين D", ["D"]),
        ("بنسبة 95% تقريبًا", ["95%"]),
    ],
)
def test_isolate_wraps_each_left_to_right_run(sample: str, wrapped: list[str]):
    """ "(500 mg)" inside Arabic was displayed as "(mg 500)"; the brackets themselves stay outside,
    they belong to the Arabic.
    """
    shown = text.isolate(sample)
    assert [part.split(PDI)[0] for part in shown.split(LRI)[1:]] == wrapped
    assert shown.count(LRI) == shown.count(PDI) == len(wrapped)


def test_isolate_changes_nothing_but_adding_marks():
    sample = "أعط 1,000 mg من الدواء (IV) ثم CA-125؛ نعم."
    assert text.isolate(sample).replace(LRI, "").replace(PDI, "") == sample


@pytest.mark.parametrize("sample", ["", "Give 500 mg (IV).", "500", "ألم في الصدر"])
def test_isolate_leaves_unmixed_text_alone(sample: str):
    assert text.isolate(sample) == sample


def test_normalising_for_comparison_forgets_isolates():
    sample = "الجرعة 500 mg يوميًا"
    assert text.match_key(text.isolate(sample)) == text.match_key(sample)


def test_canonical_json_does_not_depend_on_order_of_keys():
    assert (
        text.canonical_json({"b": [1, 2], "a": "ألم"})
        == '{"a":"ألم","b":[1,2]}'
        == text.canonical_json({"a": "ألم", "b": [1, 2]})
    )


def test_digest_of_a_string_is_sha256_of_its_utf8_bytes():
    whole = hashlib.sha256("ألم".encode()).hexdigest()
    assert text.digest("ألم") == whole[:16]
    assert text.digest("ألم", 64) == whole


def test_digest_follows_content():
    assert text.digest({"a": 1, "b": 2}) == text.digest({"b": 2, "a": 1})
    assert text.digest([1, 2]) != text.digest([2, 1])
    assert text.digest((1, 2)) == text.digest([1, 2])
    assert len({text.digest(value) for value in ("1", "2", [1], [1.5], None, True, {"a": 1})}) == 7


def test_arabic_indic_table_gives_every_digit():
    assert "٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹".translate(text.ARABIC_INDIC) == "01234567890123456789"
    assert all(
        unicodedata.digit(chr(code)) == int(western) for code, western in text.ARABIC_INDIC.items()
    )
