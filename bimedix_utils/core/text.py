"""Text rules every stage shares: normalising, counting scripts, isolating for display, hashing."""

import hashlib
import json
import re
import unicodedata
from typing import Any

ARABIC_INDIC = {ord(c): str(i % 10) for i, c in enumerate("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹")}
_ARABIC_LETTER = re.compile(r"[\u0620-\u064A\u066E-\u06D3\u06FA-\u06FF]")
_LATIN_LETTER = re.compile(r"[A-Za-z]")
_DIACRITICS = re.compile(r"[\u064B-\u0652\u0670\u0640]+")
_INDIC_DIGIT = re.compile("[٠-٩۰-۹]")
_NO_WORD = re.compile(r"[^\w%]+")
# A run of Latin letters, digits and the signs between them: "500 mg", "CA-125", "pH 7.4".
_LATIN_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .,/%+\-–]*[A-Za-z0-9%]|[A-Za-z0-9]")
# Letters that writers exchange freely: hamza seats, final ya and alif maqsura, ta marbuta and ha,
# the Persian forms of ya and kaf.
_SEATS = tuple(zip("أإآٱىیةئؤکۀ", "ااااييهيوكه", strict=True))
_LRI, _PDI = "\u2066", "\u2069"


def nfc(text: str) -> str:
    """Unicode NFC with runs of white space folded to one space and the ends trimmed."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()


def normalise_letters(text: str) -> str:
    """The one normaliser of Arabic letters, for comparing, never for storing.

    Western digits and decimal signs, no vowel marks or tatweel, one form for letters that writers
    exchange. Punctuation and case stay.
    """
    if text.isascii():
        return text
    if _INDIC_DIGIT.search(text):
        text = text.translate(ARABIC_INDIC)
    text = _DIACRITICS.sub("", text.replace("٫", ".").replace("٬", ","))
    # A translation table looks at every letter: single replacements are three times faster.
    for seat, letter in _SEATS:
        text = text.replace(seat, letter)
    return text


def match_key(text: str) -> str:
    """A form for comparing: `normalise_letters`, folded case, punctuation replaced by spaces."""
    if not text.isascii():
        text = normalise_letters(unicodedata.normalize("NFKC", text).casefold())
    return _NO_WORD.sub(" ", text.lower()).strip()


def is_right_to_left(text: str) -> bool:
    """True when at least half of the Arabic and Latin letters are Arabic: how a text is shown."""
    arabic, latin = len(_ARABIC_LETTER.findall(text)), len(_LATIN_LETTER.findall(text))
    return arabic > 0 and arabic >= latin


def isolate(text: str) -> str:
    """Wrap left-to-right runs of an Arabic text in isolates, **for display only** (UAX #9).

    Without them "(500 mg)" inside Arabic displays as "(mg 500)". Stored text never carries them.
    """
    if not _ARABIC_LETTER.search(text):
        return text
    return _LATIN_RUN.sub(lambda run: f"{_LRI}{run.group()}{_PDI}", text)


# Made once: json.dumps would make an encoder for every call, and a million requests are hashed in a
# big run.
_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal content gives equal text, so it can be hashed."""
    return _CANONICAL.encode(value)


def digest(value: Any, length: int = 16) -> str:
    """First `length` hex digits of the SHA-256 of a string, or of the canonical JSON of any other
    value.
    """
    text = value if isinstance(value, str) else canonical_json(value)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:length]


# The consonants that survive a spelling in the other script, each by one Latin letter: p and b, v
# and f, c and k, z and s meet.
_SOUND_LETTERS = {
    "b": "بپ", "t": "تطث", "g": "جغچگژ", "k": "قكخک", "d": "دذض",
    "r": "ر", "s": "زسصشظ", "f": "فڤ", "l": "ل", "m": "م", "n": "ن",
}  # fmt: skip
_SOUNDS = {ord(letter): sound for sound, text in _SOUND_LETTERS.items() for letter in text}
_DIGRAPHS = (
    ("ph", "f"),
    ("th", "t"),
    ("sch", "s"),
    ("sh", "s"),
    ("ch", "k"),
    ("qu", "k"),
    ("x", "ks"),
    ("ck", "k"),
)
_SOFT = re.compile(r"c(?=[eiy])")
_LATIN_SOUNDS = str.maketrans("pvcqzj", "bfkksg")


def skeleton(word: str) -> str:
    """The consonants of a word in either script, by which a drug's name and its Arabic spelling
    meet: "heparin" and "هيبارين" give "brn".

    Vowels, h, w, y, ain and hamza are left out; doubled consonants count once. Different words may
    share a skeleton.
    """
    word = _DIACRITICS.sub("", word.casefold())
    if word.isascii():
        for pair, sound in _DIGRAPHS:
            word = word.replace(pair, sound)
        word = _SOFT.sub("s", word).translate(_LATIN_SOUNDS)
    else:
        word = word.translate(_SOUNDS)
    return re.sub(r"(.)\1+", r"\1", re.sub(r"[^bdfgklmnrst]", "", word))
