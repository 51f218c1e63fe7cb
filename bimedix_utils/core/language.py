"""All that the kit knows of a language: `bimedix_utils/languages/<code>.yaml`, read and checked once.

Another language is another file; no code names one. A key that is missing there is an error, never
English. English is the source of every translation here.
"""

import csv
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import read_utf8
from .text import match_key, normalise_letters

PACKAGE = Path(__file__).resolve().parents[1]
FOLDER = PACKAGE / "languages"
SHINGLE = 6  # words of a prompt in a row that are no coincidence
# Antidotes, and far more often laboratory values with many wordings.
_BODY_SUBSTANCES = {"glucose", "oxygen"}
# What a language may do without: its grammar has no such thing, or no rule needs it.
_OPTIONAL = {"articles", "encoder", "particles", "prefix", "unit_ending", "units_before"}
# Translations into English are not checked: the source needs no patterns of bad targets.
_TARGETS_ONLY = {"chatter", "refusal"}
# Sections whose entries differ from language to language; in all others each key is required.
_OPEN = {"number_words", "units", "negation", "frequency"}


@cache
def language_data(code: str) -> dict[str, Any]:
    """The data file of a language as it stands.

    Raises `InputError` when there is no file, or when the file lacks a key that Arabic's has.
    """
    import yaml

    path = FOLDER / f"{code}.yaml"
    if not path.is_file():
        raise InputError(
            f"no language {code!r}: there are {', '.join(language_codes())}; add"
            f" bimedix_utils/languages/{code}.yaml"
        )
    data = yaml.load(read_utf8(path), yaml.CSafeLoader)
    missing = sorted(_required_keys(code) - _key_paths(data))
    if missing:
        raise InputError(f"languages/{code}.yaml lacks {', '.join(missing)}")
    return data


def _required_keys(code: str) -> set[str]:
    if code == "ar":
        return set()
    optional = _OPTIONAL | (_TARGETS_ONLY if code == "en" else set())
    return {path for path in _key_paths(language_data("ar")) if path.split(".")[0] not in optional}


def _key_paths(data: dict[str, Any], prefix: str = "") -> set[str]:
    paths = {f"{prefix}{key}" for key in data}
    for key, value in data.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in _OPEN:
            paths |= _key_paths(value, f"{prefix}{key}.")
    return paths


def language_codes() -> list[str]:
    """The languages there is a file for."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def research_notice(lang: str) -> str:
    """The research-only notice that stands beside everything a model says."""
    return language_data(lang)["notice"]


@cache
def _letter_pattern(code: str) -> re.Pattern[str]:
    return re.compile(language_data(code)["letters"])


def script_share(text: str, lang: str) -> float:
    """Letters of the script of `lang` / all letters, from 0 to 1; 0.0 for a text without letters."""
    letters = [letter for letter in text if letter.isalpha()]
    own = len(_letter_pattern(lang).findall(text))
    return own / len(letters) if letters else 0.0


def in_language(text: str, lang: str, least: float = 0.5) -> bool:
    """True when at least the share `least` of the letters belongs to the script of `lang`.

    Languages of one script are not told apart.
    """
    return script_share(text, lang) >= least


@dataclass(frozen=True, eq=False)
class Language:
    """Compiled patterns; all but `letters` expect folded text. `drugs` maps an English drug name to
    its spellings, in `match_key` form.
    """

    code: str
    name: str
    data: dict[str, Any] = field(repr=False)
    letters: re.Pattern[str] = field(repr=False)
    number_words: dict[int, re.Pattern[str]] = field(repr=False)
    units: re.Pattern[str] = field(repr=False)
    units_before: re.Pattern[str] | None = field(repr=False)
    patterns: dict[str, re.Pattern[str]] = field(repr=False)
    drugs: dict[str, frozenset[str]] = field(repr=False)
    knowledge: Path | None = field(repr=False)  # where `drugs` came from
    unit_names: tuple[str, ...] = field(repr=False)

    @property
    def denials(self) -> list[str]:
        """The concepts of denial this language has patterns for."""
        return [
            name
            for name, value in self.data["negation"].items()
            if name != "except" and isinstance(value, str)
        ]

    def pattern(self, name: str) -> re.Pattern[str]:
        """A pattern of the data file by its path, such as "negation.not"; one that is absent
        matches nothing.
        """
        return self.patterns.get(name, _NOTHING)


_NOTHING = re.compile(r"(?!)")


def _compiled(text: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(re.sub(r"\n\s*", "", normalise_letters(text)), flags)


def _alternatives(forms: dict[str, str], letter: str) -> str:
    """One named group a unit; the longest spelling wins because each is followed by a word's end."""
    return "|".join(
        f"(?P<{letter}{place}>{normalise_letters(pattern)})"
        for place, pattern in enumerate(forms.values())
    )


def _units(own: dict[str, str], latin: dict[str, str], data: dict[str, Any]) -> re.Pattern[str]:
    """A number, a range perhaps ("5 to 10 mg" has one unit), its unit (groups u0, u1 ...) and the
    unit it is "per" (groups v0, v1 ...).
    """
    ending, prefix = data.get("unit_ending", ""), data.get("prefix", "")
    forms = {
        name: "|".join(
            part for part in (own.get(name) and f"(?:{own[name]}){ending}", pattern) if part
        )
        for name, pattern in latin.items()
    }
    number = rf"(?<![\d.])(?<!\d,)(?P<n>\d++(?:[.,]\d++)*+)(?P<range>\s?(?:-|–|{normalise_letters(data['range'])})\s?\d++(?:[.,]\d++)*+)?"
    unit = rf"[\s-]*+(?:{prefix})??(?:{_alternatives(forms, 'u')})(?![^\W\d_])"
    per = rf"(?:\s*(?:/|(?:{normalise_letters(data['per'])})\s*)(?:{prefix})??(?:{_alternatives(forms, 'v')})(?![^\W\d_]))?"
    return re.compile(number + unit + per)


@cache
def load_language(code: str, knowledge: Path | None = None) -> Language:
    """A language with its patterns compiled; `knowledge` (the folder of facts) adds the drug names
    it holds in that language.

    Raises `InputError` as `language_data` does.
    """
    data, english = language_data(code), language_data("en")
    words = {
        n: _compiled(
            rf"(?<!\w)(?:{data.get('prefix', '')})(?:{'|'.join(forms)})(?!{data.get('another_number', '(?!)')})\w{{0,2}}(?!\w)"
        )
        for n, forms in data["number_words"].items()
    }
    before = data.get("units_before", {})
    often = data["frequency"]
    flat = {
        f"frequency.times.{period}": rf"({often['count']})\s*(?:{often[period]})"
        for period in ("day", "week", "month")
    }
    flat |= {
        f"frequency.latin.{word}": rf"(?<!\w){re.escape(word)}(?!\w)"
        for word in often.get("latin", {})
    }
    flat |= {f"frequency.bare.{name}": value for name, value in often.get("bare", {}).items()}
    flat |= {
        f"{group}.{name}": value
        for group, part in data.items()
        if isinstance(part, dict)
        for name, value in part.items()
    } | data
    return Language(
        code, data["name"], data,
        letters=_letter_pattern(code),
        number_words=words,
        units=_units({} if code == "en" else data["units"], english["units"], data),
        units_before=_compiled(f"(?:{'|'.join(f'(?P<b_{n}>{p})' for n, p in before.items())}) ?(?P<n>[0-9]+)") if before else None,
        patterns={name: _compiled(value, 0 if name == "negation.except" and code == "en" else re.IGNORECASE)
                  for name, value in flat.items() if isinstance(value, str) and name not in ("name", "letters")},
        drugs=_drugs(knowledge, code) if knowledge else {},
        knowledge=knowledge,
        unit_names=tuple(english["units"]),
    )  # fmt: skip


def _drugs(folder: Path, code: str) -> dict[str, frozenset[str]]:
    names: dict[str, set[str]] = {}
    for stem, column in (
        ("drug_class", "subject"),
        ("drug_use", "subject"),
        ("poison_antidote", "object"),
    ):
        for row in csv.DictReader(read_utf8(folder / f"{stem}.csv").splitlines()):
            english = match_key(row[f"{column}_en"])
            # Phrases such as "sodium bicarbonate" are written in too many ways to be matched whole.
            if " " not in english and english not in _BODY_SUBSTANCES and f"{column}_{code}" in row:
                names.setdefault(english, set()).add(match_key(row[f"{column}_{code}"]))
    return {name: frozenset(spellings) for name, spellings in names.items()}


@cache
def prompt_shingles() -> frozenset[tuple[str, ...]]:
    """Runs of `SHINGLE` words of the kit's own prompts: a translation that holds one repeats its
    instructions.
    """
    found: set[tuple[str, ...]] = set()
    for path in PACKAGE.glob("*/prompts/*.txt"):
        for line in re.split(r"\{\{?|\}\}?|\n", read_utf8(path)):
            words = match_key(line).split()
            found.update(tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))
    return frozenset(found)
