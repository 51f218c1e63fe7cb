"""Textbook facts in two languages, and the texts made from them.

`data/knowledge/<relation>.csv` holds the facts, `<relation>.yaml` the phrasings. From both the kit
generates statements, open questions, multiple-choice questions and short exchanges, in English and
Arabic, with the answer known by construction.

Held-out parts, so that memorising, paraphrase, recall and transfer can be told apart (a hash of the
fact decides, not chance):
* `taught` facts are asked in tuning with the first phrasings; the last two phrasings of each kind
  are kept for testing;
* `stated` facts appear in statements (pre-training) but are never asked in tuning;
* `english_only` facts are stated and asked in English only; asking them in Arabic tests transfer
  between languages.
"""

import csv
import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..core.files import read_utf8
from ..core.records import Record, Turn
from ..core.templates import layout_words, option_letters
from ..core.text import digest
from .catalogue import KIT_LICENCE

KNOWLEDGE_LANGUAGES = ("en", "ar")
KNOWLEDGE_COLUMNS = ["subject_en", "object_en", "subject_ar", "object_ar", "also_en", "note"]
_HELD_OUT = 2  # how many of each list of phrasings, from its end, are kept for testing
FACT_GROUPS = ("taught", "stated", "english_only")
_BOUNDS = (70, 85)  # percent of the facts up to the end of the first and the second group


@dataclass(frozen=True)
class Fact:
    """`subject[lang]` -> `object[lang]`. `also` lists other English objects that would be right
    too, never used as distractors.
    """

    relation: str
    subject: dict[str, str]
    object: dict[str, str]
    also: frozenset[str]

    @property
    def id(self) -> str:
        """Stable across runs and files: relation and a hash of the English subject."""
        return f"{self.relation}:{digest(self.subject['en'], 8)}"

    @property
    def group(self) -> str:
        """One of `FACT_GROUPS`, decided by a hash of the id alone."""
        percent = int(digest("group:" + self.id, 8), 16) % 100
        return FACT_GROUPS[bisect(_BOUNDS, percent)]


@dataclass(frozen=True)
class Relation:
    """A relation's facts and its phrasings: `phrasings[kind][lang]` is a list of templates, for
    dialogues a list of turns.
    """

    name: str
    title: dict[str, str]
    phrasings: dict[str, dict[str, list]]
    facts: tuple[Fact, ...]

    def distractors(self, fact: Fact) -> list[Fact]:
        """One fact for each object that is wrong for `fact`, sorted by object."""
        right = fact.also | {fact.object["en"]}
        facts = {f.object["en"]: f for f in reversed(self.facts) if f.object["en"] not in right}
        return [facts[name] for name in sorted(facts)]

    def numbers(self, kind: str, lang: str, held_out: bool) -> list[int]:
        """The numbers of the phrasings used for teaching, or of those kept for testing."""
        count = len(self.phrasings[kind][lang])
        return list(range(count))[-_HELD_OUT:] if held_out else list(range(count - _HELD_OUT))


def load_relations(folder: Path) -> list[Relation]:
    """All relations of a folder, sorted by name. Raises `InputError` naming file and row for a
    broken one.
    """
    import yaml

    relations = []
    for path in sorted(folder.glob("*.csv")):
        spec_path = path.with_suffix(".yaml")
        spec = yaml.safe_load(read_utf8(spec_path)) if spec_path.exists() else None
        if not spec or spec.get("relation") != path.stem:
            raise InputError(
                f"{spec_path.name}: missing, or its field `relation` is not {path.stem}"
            )
        facts = tuple(_facts(path))
        relations.append(Relation(path.stem, spec["title"], spec["phrasings"], facts))
    if not relations:
        raise InputError(f"{folder.name}: no relation files")
    return relations


def _facts(path: Path) -> Iterator[Fact]:
    rows = list(csv.DictReader(read_utf8(path).splitlines(), strict=True))
    seen = list(rows[0]) if rows else ["none"]
    if seen != KNOWLEDGE_COLUMNS:
        expected = ",".join(KNOWLEDGE_COLUMNS)
        raise InputError(f"{path.name}: columns expected {expected}; seen {','.join(seen)}")
    for number, row in enumerate(rows, start=2):
        if any(not (row[column] or "").strip() for column in KNOWLEDGE_COLUMNS[:4]):
            raise InputError(f"{path.name}, line {number}: an empty cell")
        also = frozenset(part.strip() for part in row["also_en"].split(";") if part.strip())
        subject = {lang: row[f"subject_{lang}"].strip() for lang in KNOWLEDGE_LANGUAGES}
        target = {lang: row[f"object_{lang}"].strip() for lang in KNOWLEDGE_LANGUAGES}
        yield Fact(path.stem, subject, target, also)


def choose_relations(relations: list[Relation], names: str) -> list[Relation]:
    """The relations named in a text, parted by spaces. Raises `InputError` for an unknown name."""
    known = {relation.name: relation for relation in relations}
    if unknown := [name for name in names.split() if name not in known]:
        raise InputError(
            f"no relation {unknown[0]!r} in data/knowledge; there are {', '.join(known)}"
        )
    return [known[name] for name in names.split()]


def _fill(template: str, fact: Fact, lang: str) -> str:
    text = template.replace("{subject}", fact.subject[lang]).replace("{object}", fact.object[lang])
    return text[:1].upper() + text[1:]


def fact_statement(relation: Relation, fact: Fact, lang: str, phrasing: int) -> str:
    """One sentence that states the fact."""
    return _fill(relation.phrasings["statement"][lang][phrasing], fact, lang)


# kind of record -> kind of phrasing
_PHRASINGS = {"mcqa": "mcq", "qa": "question", "chat": "dialogue"}


def _fact_record(
    relation: Relation,
    fact: Fact,
    lang: str,
    kind: str,
    phrasing: int,
    variant: int = 0,
    **values: object,
) -> Record:
    held_out = phrasing in relation.numbers(_PHRASINGS[kind], lang, held_out=True)
    return Record(
        id=f"knowledge:{fact.id}:{kind}:{phrasing}:{variant}:{lang}",
        kind=kind,
        lang=lang,
        source=f"knowledge_{fact.relation}",
        licence=KIT_LICENCE,
        split="test" if held_out else "train",
        topic=fact.relation,
        **values,
    )


def fact_question(relation: Relation, fact: Fact, lang: str, phrasing: int) -> Record:
    """An open question with its short answer."""
    text = _fill(relation.phrasings["question"][lang][phrasing], fact, lang)
    # The answer keeps the table's lower case: mid-sentence and alone it is then the same token for
    # the tiny model.
    values = {"question": text, "answer": fact.object[lang]}
    return _fact_record(relation, fact, lang, "qa", phrasing, **values)


def fact_mcqa(
    relation: Relation, fact: Fact, lang: str, phrasing: int, variant: int = 0, seed: int = 0
) -> Record:
    """A four-option question. Distractors and order depend on fact, variant and seed only, so both
    languages get the same options.

    Raises `InputError` when the relation has fewer than three objects that are wrong for this fact.
    """
    pool = relation.distractors(fact)
    if len(pool) < 3:
        subject = fact.subject["en"]
        raise InputError(f"{relation.name}: fewer than three wrong answers for {subject}")
    rng = random.Random(f"{seed}:{fact.id}:{variant}")
    options = [*rng.sample(pool, 3), fact]
    rng.shuffle(options)
    values = {
        "question": _fill(relation.phrasings["mcq"][lang][phrasing], fact, lang),
        "options": tuple(option.object[lang] for option in options),
        "answer_index": options.index(fact),
    }
    return _fact_record(relation, fact, lang, "mcqa", phrasing, variant, **values)


def fact_dialogue(relation: Relation, fact: Fact, lang: str, phrasing: int) -> Record:
    """A short exchange between a patient and a doctor about the fact."""
    texts = relation.phrasings["dialogue"][lang][phrasing]
    turns = tuple(
        Turn(role="doctor" if i % 2 else "patient", text=_fill(text, fact, lang))
        for i, text in enumerate(texts)
    )
    return _fact_record(relation, fact, lang, "chat", phrasing, turns=turns)


def taught_in(fact: Fact, lang: str) -> bool:
    """True when tuning may ask this fact in this language."""
    return fact.group == "taught" or (fact.group == "english_only" and lang == "en")


def pretraining_texts(relations: list[Relation]) -> list[str]:
    """Pre-training text: all statements (an English-only fact in English only), and a glossary that
    ties the two languages' words.
    """
    texts = []
    for relation, fact in ((one, fact) for one in relations for fact in one.facts):
        for lang in ("en",) if fact.group == "english_only" else KNOWLEDGE_LANGUAGES:
            templates = relation.phrasings["statement"][lang]
            texts += [_fill(template, fact, lang) for template in templates]
        for word in (fact.subject, fact.object):
            texts += [
                f"English: {word['en']}. Arabic: {word['ar']}.",
                f"العربية: {word['ar']}. الإنجليزية: {word['en']}.",
            ]
    return texts


def pretraining_layouts() -> list[str]:
    """The fixed words and letters of every layout, without any fact: a tag never read in
    pre-training would stay a random vector.
    """
    lines = []
    for lang in KNOWLEDGE_LANGUAGES:
        fixed = layout_words(lang)
        for letter in option_letters(lang)[:5]:
            lines.append(
                f"[INST] {fixed['context']}: {fixed['question']}: {fixed['options']}: {letter}."
                f" [/INST] {fixed['correct']} {letter}."
            )
    return lines


def pretraining_and_questions(relations: list[Relation]) -> tuple[list[str], list[str]]:
    """(what the tiny base reads, questions whose words its tokenizer must also know)."""
    questions = [row.question for row in knowledge_mix(relations) if row.kind != "chat"]
    return pretraining_texts(relations) + pretraining_layouts(), questions


def knowledge_rows(relations: list[Relation], kind: str, lang: str) -> list[Record]:
    """Every training row of one kind (`qa`, `mcqa`, `chat`) and language: taught facts, phrasings
    not held out.
    """
    make = {"mcqa": fact_mcqa, "qa": fact_question, "chat": fact_dialogue}[kind]
    return [
        # each phrasing of a question has distractors of its own
        make(relation, fact, lang, phrasing, *([phrasing] if kind == "mcqa" else []))
        for relation in relations
        for fact in relation.facts
        if taught_in(fact, lang)
        for phrasing in relation.numbers(_PHRASINGS[kind], lang, held_out=False)
    ]


def knowledge_mix(relations: list[Relation]) -> list[Record]:
    """The generated part of the mix, both languages: every open question, and one in twenty of the
    longer rows.

    Lettered questions and exchanges teach the form; the facts are taught by the short questions,
    many of which fit one batch.
    """
    steps = {"qa": 1, "mcqa": 20, "chat": 20}
    return [
        row
        for lang in KNOWLEDGE_LANGUAGES
        for kind, step in steps.items()
        for row in knowledge_rows(relations, kind, lang)[::step]
    ]


_PART_GROUPS = {
    "taught": "taught",
    "paraphrase": "taught",
    "stated": "stated",
    "transfer": "english_only",
}


def held_out_questions(
    relations: list[Relation], lang: str, part: str, count: int, seed: int
) -> list[Record]:
    """`count` multiple-choice questions of one held-out part, drawn without replacement; fewer when
    there are no more.

    Parts: `taught` (phrasings and options seen in tuning), `paraphrase` (taught facts, phrasings
    kept for testing), `stated` (facts only ever read as statements), `transfer` (facts taught in
    English only).
    """
    seen = part == "taught"
    rows = [
        fact_mcqa(relation, fact, lang, number, variant=number if seen else 1000 + number)
        for relation in relations
        for fact in relation.facts
        if fact.group == _PART_GROUPS[part]
        for number in relation.numbers("mcq", lang, held_out=not seen)
    ]
    drawn = random.Random(f"{seed}:{part}").sample(range(len(rows)), min(count, len(rows)))
    return [rows[index] for index in sorted(drawn)]
