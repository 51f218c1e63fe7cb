"""All that the kit knows of a language: `bimedix_utils/languages/<code>.yaml`, checked once.

Another language is another file; no code names one. A key that is missing there is an error, never
English. English is the source of every translation here.
"""

import csv
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import read_utf8
from .text import match_key, normalise_letters

PACKAGE = Path(__file__).resolve().parents[1]
LANGUAGES = PACKAGE / "languages"
SHINGLE = 6  # words of a prompt in a row that are no coincidence
# Antidotes, and far more often laboratory values with many wordings.
_BODY_SUBSTANCES = {"glucose", "oxygen"}
# What a language may do without: its grammar has no such thing, or no rule needs it.
_OPTIONAL = {"articles", "encoder", "particles", "prefix", "unit_ending", "units_before"}
# Sections whose entries differ from language to language; in all others each key is required.
_OPEN = {"number_words", "units", "negation", "frequency", "red_flags.fragments"}

_PATTERN_GROUPS = ("negation", "sides", "frequency", "untranslatable")


@cache
def language_data(code: str) -> dict[str, Any]:
    """The data file of a language as it stands.

    Raises `InputError` when there is no file, or when the file lacks a key that Arabic's has.
    """
    import yaml

    path = LANGUAGES / f"{code}.yaml"
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
    return {path for path in _key_paths(language_data("ar")) if path.split(".")[0] not in _OPTIONAL}


def _key_paths(data: dict[str, Any], prefix: str = "") -> set[str]:
    paths = {f"{prefix}{key}" for key in data}
    for key, value in data.items():
        if isinstance(value, dict) and f"{prefix}{key}" not in _OPEN:
            paths |= _key_paths(value, f"{prefix}{key}.")
    return paths


def language_codes() -> list[str]:
    """The languages there is a file for."""
    return sorted(path.stem for path in LANGUAGES.glob("*.yaml"))


def research_notice(lang: str) -> str:
    """The research-only notice that stands beside everything a model says."""
    return language_data(lang)["notice"]


@cache
def _letter_pattern(code: str) -> re.Pattern[str]:
    return re.compile(language_data(code)["letters"])


def script_share(text: str, lang: str) -> float:
    """Letters of the script of `lang` / all letters, from 0 to 1; 0.0 without letters."""
    letters = [letter for letter in text if letter.isalpha()]
    own = len(_letter_pattern(lang).findall(text))
    return own / len(letters) if letters else 0.0


def in_language(text: str, lang: str, least: float = 0.5) -> bool:
    """True when at least the share `least` of the letters belongs to the script of `lang`.

    Languages of one script are not told apart.
    """
    return script_share(text, lang) >= least


def language_of(text: str) -> str:
    """The code of the language a text is most likely written in, among those with a file.

    The script with the most letters decides; between languages of one script, the matches of their
    `distinctive` patterns. English when a text has no letters at all.
    """
    letters = {code: len(_letter_pattern(code).findall(text)) for code in language_codes()}
    most = max(letters.values())
    best = [code for code, n in letters.items() if n == most] if most else ["en"]
    if len(best) == 1:
        return best[0]
    return max(best, key=lambda code: len(_distinctive_pattern(code).findall(text)))


@cache
def _distinctive_pattern(code: str) -> re.Pattern[str]:
    return re.compile(language_data(code)["distinctive"], re.IGNORECASE)


@dataclass(frozen=True, eq=False, repr=False)
class Language:
    """A language with the patterns that the translation checks need.

    All patterns but `letters` expect text in the form of `normalise_letters`. `drugs` maps an
    English drug name to its spellings, in `match_key` form.
    """

    code: str
    name: str
    data: dict[str, Any]
    letters: re.Pattern[str]
    number_words: dict[int, re.Pattern[str]]
    units: re.Pattern[str]
    units_before: re.Pattern[str] | None
    unit_names: tuple[str, ...]
    drugs: dict[str, frozenset[str]]
    knowledge: Path | None  # where `drugs` came from

    @property
    def denials(self) -> list[str]:
        """The concepts of denial this language has patterns for."""
        concepts = self.data["negation"].items()
        return [name for name, text in concepts if name != "except" and isinstance(text, str)]

    def pattern(self, name: str) -> re.Pattern[str]:
        """A pattern by its path, such as "negation.not"; an absent one matches nothing."""
        # English "NOT" and "EXCEPT" in capitals mark what an exam question asks; "except" does not.
        exact = name == "negation.except" and self.code == "en"
        return _compiled(self._texts.get(name, r"(?!)"), 0 if exact else re.IGNORECASE)

    @cached_property
    def _texts(self) -> dict[str, str]:
        often = self.data["frequency"]
        parts = {"": self.data} | {f"{group}.": self.data[group] for group in _PATTERN_GROUPS}
        texts = {
            f"{prefix}{key}": value
            for prefix, part in parts.items()
            for key, value in part.items()
            if isinstance(value, str)
        }
        for period in ("day", "week", "month"):
            texts[f"frequency.times.{period}"] = rf"({often['count']})\s*(?:{often[period]})"
        for word in often.get("latin", {}):
            texts[f"frequency.latin.{word}"] = rf"(?<!\w){re.escape(word)}(?!\w)"
        for key, value in often.get("bare", {}).items():
            texts[f"frequency.bare.{key}"] = value
        return texts


@cache
def _compiled(text: str, flags: int = re.IGNORECASE) -> re.Pattern[str]:
    return re.compile(re.sub(r"\n\s*", "", normalise_letters(text)), flags)


def _unit_pattern(data: dict[str, Any], english: dict[str, Any]) -> re.Pattern[str]:
    """A number, a range perhaps ("5 to 10 mg" has one unit), and its unit.

    Groups u0, u1 ... name the unit, v0, v1 ... the unit it is "per".
    """
    ending, prefix = data.get("unit_ending", ""), data.get("prefix", "")
    own = {} if data is english else data["units"]
    forms = []
    for name, latin in english["units"].items():
        words = [f"(?:{own[name]}){ending}"] if own.get(name) else []
        forms.append(normalise_letters("|".join([*words, latin])))

    def named(letter: str) -> str:
        return "|".join(f"(?P<{letter}{index}>{form})" for index, form in enumerate(forms))

    between, per = normalise_letters(data["range"]), normalise_letters(data["per"])
    digits = r"\d++(?:[.,]\d++)*+"
    number = rf"(?<![\d.])(?<!\d,)(?P<n>{digits})(?P<range>\s?(?:-|–|{between})\s?{digits})?"
    unit = rf"[\s-]*+(?:{prefix})??(?:{named('u')})(?![^\W\d_])"
    rate = rf"(?:\s*(?:/|(?:{per})\s*)(?:{prefix})??(?:{named('v')})(?![^\W\d_]))?"
    return re.compile(number + unit + rate)


@cache
def load_language(code: str, knowledge: Path | None = None) -> Language:
    """A language with its patterns compiled.

    `knowledge` (the folder of facts) adds the drug names it holds in that language. Raises
    `InputError` as `language_data` does.
    """
    data, english = language_data(code), language_data("en")
    prefix, other = data.get("prefix", ""), data["another_number"]
    words = {
        number: _compiled(rf"(?<!\w)(?:{prefix})(?:{'|'.join(forms)})(?!{other})\w{{0,2}}(?!\w)")
        for number, forms in data["number_words"].items()
    }
    before = "|".join(f"(?P<b_{n}>{text})" for n, text in data.get("units_before", {}).items())
    return Language(
        code,
        data["name"],
        data,
        letters=_letter_pattern(code),
        number_words=words,
        units=_unit_pattern(data, english),
        units_before=_compiled(f"(?:{before}) ?(?P<n>[0-9]+)") if before else None,
        unit_names=tuple(english["units"]),
        drugs=_drug_names(knowledge, code) if knowledge else {},
        knowledge=knowledge,
    )


def _drug_names(folder: Path, code: str) -> dict[str, frozenset[str]]:
    columns = {"drug_class": "subject", "drug_use": "subject", "poison_antidote": "object"}
    names: dict[str, set[str]] = {}
    for stem, column in columns.items():
        for row in csv.DictReader(read_utf8(folder / f"{stem}.csv").splitlines()):
            english = match_key(row[f"{column}_en"])
            # Phrases such as "sodium bicarbonate" are written in too many ways to be matched whole.
            if " " not in english and english not in _BODY_SUBSTANCES and f"{column}_{code}" in row:
                names.setdefault(english, set()).add(match_key(row[f"{column}_{code}"]))
    return {name: frozenset(spellings) for name, spellings in names.items()}


@cache
def prompt_shingles() -> frozenset[tuple[str, ...]]:
    """Word n-grams of length `SHINGLE` in the kit's own prompts.

    A translation that holds one repeats its instructions.
    """
    found: set[tuple[str, ...]] = set()
    for path in PACKAGE.glob("*/prompts/*.txt"):
        for line in re.split(r"\{\{?|\}\}?|\n", read_utf8(path)):
            words = match_key(line).split()
            found.update(tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1))
    return frozenset(found)


def find_refusal(text: str, lang: str) -> str:
    """The words by which a text in `lang` declines to do what was asked; "" when it does not.

    The patterns are `refusals` in the language's file.
    """
    plain = re.sub(r"\s+", " ", normalise_letters(text).replace("’", "'"))
    match = load_language(lang).pattern("refusals").search(plain)
    return match.group().strip() if match else ""


def is_refusal(text: str, lang: str | None = None) -> bool:
    """True when a text declines to do what was asked; without `lang`, in any language."""
    return any(find_refusal(text, code) for code in ([lang] if lang else language_codes()))
