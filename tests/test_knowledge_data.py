"""The knowledge tables in data/knowledge: complete, consistent, in clean Arabic, with honest
distractors and without leakage.
"""

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from bimedix_utils.core.text import match_key
from bimedix_utils.sources import knowledge

pytestmark = pytest.mark.unit
FOLDER = Path(__file__).resolve().parents[1] / "data" / "knowledge"
TABLES = sorted(FOLDER.glob("*.csv"))
NAMES = [path.stem for path in TABLES]
KINDS = {"statement": "qa", "question": "qa", "mcq": "mcqa", "dialogue": "chat"}

# Latin tokens that Arabic medical text keeps, by why. A new one must be added here on purpose.
ALLOWED_LATIN = {
    "types, groups and subunits": "A A1 A2 B B6 B12 B-48 C D D1 E G I K L M N S U X",
    "receptors, enzymes and genes": (
        "H1 H2 Xa DPP-4 GLP-1 SGLT2 NADPH GM1 YY ABCA1 ABCD1 ATP7A ATP7B BCL2 KIT WT1"
    ),
    "markers": "hCG PSA CA CA-125 CD1a CD30 CD31 CD99 S-100 TdT",
    "karyotypes and chromosome bands": "XXY p q11 q11-q13",
    "viruses": "HIV HPV JC BK B19",
    "vaccines": "ACWY ChAdOx1-S CVD HgR HM175 mRNA PRP R21 RA RTS SA Ty21a Vi",
}
LATIN = set(" ".join(ALLOWED_LATIN.values()).split())
GENE_SYMBOL = re.compile(
    r"[A-Z][A-Z0-9]{1,7}(?:-[A-Z0-9]+)?"
)  # HGNC style: most of disorder_gene is answered with symbols in both languages
TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*")
# What an Arabic cell or phrasing may be made of besides letters, digits and Latin tokens: tanween,
# and a few signs.
SIGNS = set(" -,./0123456789") | {"\u064b"}


@pytest.fixture(scope="module")
def world():
    return {relation.name: relation for relation in knowledge.load_relations(FOLDER)}


def table(name: str) -> list[dict[str, str]]:
    with open(FOLDER / f"{name}.csv", encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, strict=True))


# The facts


def test_size(world):
    assert len(world) >= 14
    assert sum(len(relation.facts) for relation in world.values()) >= 1000
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_files_are_plain_utf8(name):
    for suffix in (".csv", ".yaml"):
        raw = (FOLDER / f"{name}{suffix}").read_bytes()
        text = raw.decode("utf-8")
        assert not raw.startswith(b"\xef\xbb\xbf") and b"\r" not in raw and raw.endswith(b"\n")
        assert text == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_is_empty_or_padded(name):
    for row in table(name):
        assert list(row) == knowledge.KNOWLEDGE_COLUMNS and None not in row.values()
        assert all(row[column].strip() for column in knowledge.KNOWLEDGE_COLUMNS[:4]), row
        assert all(value == value.strip() and "  " not in value for value in row.values()), row


@pytest.mark.parametrize("name", NAMES)
def test_subjects_are_unique_in_both_languages(name):
    """Compared as leakage is compared: a hamza or a capital does not make another subject."""
    for lang in knowledge.KNOWLEDGE_LANGUAGES:
        counts = Counter(match_key(row[f"subject_{lang}"]) for row in table(name))
        assert [subject for subject, n in counts.items() if n > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_objects_correspond_one_to_one(name):
    pairs = {(row["object_en"], row["object_ar"]) for row in table(name)}
    for side in (0, 1):
        assert [
            o for o, n in Counter(match_key(pair[side]) for pair in pairs).items() if n > 1
        ] == []


def test_fact_ids_are_unique(world):
    ids = Counter(fact.id for relation in world.values() for fact in relation.facts)
    assert [i for i, n in ids.items() if n > 1] == []


@pytest.mark.parametrize("name", NAMES)
def test_also_names_other_objects_of_the_file(name):
    rows = table(name)
    objects = {row["object_en"] for row in rows}
    for row in rows:
        also = [part.strip() for part in row["also_en"].split(";")] if row["also_en"] else []
        assert set(also) <= objects - {row["object_en"]} and len(also) == len(set(also)), row


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_enough_wrong_answers_and_no_right_one_among_them(name, world):
    relation = world[name]
    arabic = {fact.object["en"]: fact.object["ar"] for fact in relation.facts}
    for fact in relation.facts:
        pool = relation.distractors(fact)
        assert len(pool) >= 8, fact
        right = {fact.object["en"], *fact.also}
        assert not {f.object["en"] for f in pool} & right, fact
        assert not {match_key(f.object["ar"]) for f in pool} & {
            match_key(arabic[o]) for o in right
        }, fact
        assert (
            len({f.object["en"] for f in pool}) == len({f.object["ar"] for f in pool}) == len(pool)
        )


# Arabic


def strange(text: str) -> list[str]:
    """Characters that have no place in the kit's Arabic."""
    rest = TOKEN.sub("", text)
    return [
        f"U+{ord(c):04X}"
        for c in rest
        if not ("\u0621" <= c <= "\u063a" or "\u0641" <= c <= "\u064a" or c in SIGNS)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_arabic_cells_are_arabic(name):
    for row in table(name):
        for column in ("subject_ar", "object_ar"):
            cell = row[column]
            if name == "disorder_gene" and column == "object_ar" and GENE_SYMBOL.fullmatch(cell):
                assert cell == row["object_en"], row
                continue
            assert strange(cell) == [], (cell, strange(cell))
            assert set(TOKEN.findall(cell)) <= LATIN, (cell, set(TOKEN.findall(cell)) - LATIN)
            assert re.search("[\u0621-\u064a]{2}", cell), row


def test_no_allowed_latin_token_is_without_use():
    used = {
        t
        for name in NAMES
        for row in table(name)
        for c in ("subject_ar", "object_ar")
        for t in TOKEN.findall(row[c])
    }
    assert LATIN - used == set()


@pytest.mark.parametrize("name", NAMES)
def test_english_cells_hold_no_arabic(name):
    for row in table(name):
        assert not re.search(
            "[\u0590-\u08ff\ufb50-\ufeff]",
            "".join(row[c] for c in ("subject_en", "object_en", "also_en", "note")),
        ), row


# The phrasings


def texts(phrasing) -> list[str]:
    return [phrasing] if isinstance(phrasing, str) else phrasing


@pytest.mark.parametrize("name", NAMES)
def test_phrasings_are_many_and_distinct(name, world):
    for kind in KINDS:
        assert set(world[name].phrasings) == set(KINDS) and set(world[name].phrasings[kind]) == set(
            knowledge.KNOWLEDGE_LANGUAGES
        )
        for lang in knowledge.KNOWLEDGE_LANGUAGES:
            listed = [
                match_key(" ".join(texts(phrasing)))
                for phrasing in world[name].phrasings[kind][lang]
            ]
            assert len(listed) >= 6 and len(set(listed)) == len(listed), (kind, lang)


@pytest.mark.parametrize("name", NAMES)
def test_phrasings_have_their_slots(name, world):
    """A statement names both, a question only the subject: an object in a question would give the
    answer away.
    """
    for kind, expected in (
        ("statement", {"subject", "object"}),
        ("question", {"subject"}),
        ("mcq", {"subject"}),
    ):
        for lang in knowledge.KNOWLEDGE_LANGUAGES:
            for phrasing in world[name].phrasings[kind][lang]:
                assert Counter(re.findall(r"\{(.*?)\}", phrasing)) == Counter(expected), (
                    kind,
                    lang,
                    phrasing,
                )
    for lang in knowledge.KNOWLEDGE_LANGUAGES:
        for turns in world[name].phrasings["dialogue"][lang]:
            slots = [set(re.findall(r"\{(.*?)\}", turn)) for turn in turns]
            assert len(turns) in (2, 4) and set.union(*slots) == {"subject", "object"}, turns
            assert not any("object" in found for found in slots[::2]), (
                "the patient gives the answer",
                turns,
            )


@pytest.mark.parametrize("name", NAMES)
def test_phrasings_are_whole_sentences_in_their_language(name, world):
    for kind in KINDS:
        for lang in knowledge.KNOWLEDGE_LANGUAGES:
            for phrasing in world[name].phrasings[kind][lang]:
                for text in texts(phrasing):
                    bare = re.sub(r"\{\w+\}", "", text)
                    assert text == text.strip() and text[-1] in (
                        ".؟!:" if lang == "ar" else ".?!:"
                    ), text
                    if lang == "ar":
                        assert not re.search(r"[A-Za-z?,;\u0640]", bare) and not re.search(
                            "[\ufb50-\ufdff\ufe70-\ufeff]", text
                        ), text
                        # A proclitic glued to a slot would change the word that is put there.
                        assert not re.search(r"[\u0621-\u064a]\{", text) and not re.search(
                            r"\}[\u0621-\u064a]", text
                        ), text
                    else:
                        assert bare.isascii(), text
                        assert not re.search(r"\b[Aa]n? \{", text), (
                            "a or an depends on the slot",
                            text,
                        )


@pytest.mark.parametrize("name", NAMES)
def test_yaml_names_its_relation_and_title(name):
    spec = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert set(spec) == {"relation", "title", "phrasings"} and spec["relation"] == name
    assert (
        set(spec["title"]) == set(knowledge.KNOWLEDGE_LANGUAGES)
        and not spec["title"]["ar"].isascii()
    )


# What is generated


@pytest.fixture(scope="module")
def training(world):
    """Every training row, by language and kind."""
    relations = list(world.values())
    return {
        (lang, kind): knowledge.knowledge_rows(relations, kind, lang)
        for lang in knowledge.KNOWLEDGE_LANGUAGES
        for kind in ("qa", "mcqa", "chat")
    }


@pytest.fixture(scope="module")
def held_out(world):
    """Every held-out row, by language and part."""
    relations = list(world.values())
    parts = ("paraphrase", "stated", "transfer")
    return {
        (lang, part): knowledge.held_out_questions(relations, lang, part, 10**9, 42)
        for lang in knowledge.KNOWLEDGE_LANGUAGES
        for part in parts
    }


@pytest.fixture(scope="module")
def groups(world):
    """{fact id: group}."""
    return {fact.id: fact.group for relation in world.values() for fact in relation.facts}


def fact_id(row) -> str:
    """The fact a generated row is made from, read from its id."""
    return ":".join(row.id.split(":")[1:3])


def test_generated_rows_are_valid(training, held_out, world):
    """Building a record validates it; here: unique ids, no slot left, the right key, four different
    options, alternating turns.
    """
    answers = {fact.id: fact.object for relation in world.values() for fact in relation.facts}
    rows = [row for some in (*training.values(), *held_out.values()) for row in some]
    assert len({row.id for row in rows}) == len(rows) > 40_000
    for row in rows:
        right = answers[fact_id(row)][row.lang]
        text = (
            row.question
            + row.answer
            + "".join(row.options)
            + "".join(turn.text for turn in row.turns)
        )
        assert "{" not in text and "}" not in text
        if row.kind == "qa":
            assert row.answer == right
        elif row.kind == "mcqa":
            assert row.options[row.answer_index] == right and len(set(row.options)) == 4
        else:
            assert [turn.role for turn in row.turns] == ["patient", "doctor"] * (
                len(row.turns) // 2
            )
            assert (
                right.casefold()
                in " ".join(turn.text for turn in row.turns if turn.role == "doctor").casefold()
            )
    assert {row.split for some in training.values() for row in some} == {"train"}
    assert {row.split for some in held_out.values() for row in some} == {"test"}


def test_translations_have_the_same_options_and_key(held_out, world):
    arabic = {r.name: {f.object["en"]: f.object["ar"] for f in r.facts} for r in world.values()}
    for part in ("paraphrase", "stated", "transfer"):
        translations = {row.id[:-3]: row for row in held_out[("ar", part)]}
        for row in held_out[("en", part)]:
            translation = translations[row.id[:-3]]
            assert translation.answer_index == row.answer_index
            assert translation.options == tuple(arabic[row.topic][option] for option in row.options)


def test_keys_are_spread_evenly(training):
    """With four options each key is drawn a quarter of the time, within four standard errors."""
    rows = training[("en", "mcqa")]
    for n in Counter(row.answer_index for row in rows).values():
        assert abs(n / len(rows) - 0.25) < 4 * (0.25 * 0.75 / len(rows)) ** 0.5


def test_the_groups_are_as_large_as_they_should_be(groups):
    for group, share in zip(knowledge.FACT_GROUPS, (0.70, 0.15, 0.15), strict=True):
        found = Counter(groups.values())[group] / len(groups)
        assert abs(found - share) < 4 * (share * (1 - share) / len(groups)) ** 0.5, (group, found)


# No leakage


def question_key(row):
    return match_key(row.turns[0].text if row.kind == "chat" else row.question)


def test_no_training_question_is_a_held_out_question(training, held_out):
    asked = {question_key(row) for some in training.values() for row in some}
    for rows in held_out.values():
        assert rows and not [row.id for row in rows if question_key(row) in asked]


def test_held_out_parts_share_no_question(held_out):
    for lang in knowledge.KNOWLEDGE_LANGUAGES:
        keys = Counter(
            question_key(row)
            for part in ("paraphrase", "stated", "transfer")
            for row in held_out[(lang, part)]
        )
        assert [key for key, n in keys.items() if n > 1] == []


def test_stated_facts_are_never_asked_in_training(training, groups):
    asked = {fact_id(row) for rows in training.values() for row in rows}
    assert {groups[i] for i in asked} == {"taught", "english_only"}


def test_english_only_facts_are_never_taught_in_arabic(training, groups):
    found = {
        lang: {
            groups[fact_id(row)]
            for kind in ("qa", "mcqa", "chat")
            for row in training[(lang, kind)]
        }
        for lang in knowledge.KNOWLEDGE_LANGUAGES
    }
    assert found == {"en": {"taught", "english_only"}, "ar": {"taught"}}


def test_the_training_mix_keeps_the_same_promises(world, training, groups):
    """Every open question and some of the longer rows, all of them training rows; four relations
    stand for all.
    """
    names = NAMES[:4]
    mix = knowledge.knowledge_mix([world[name] for name in names])
    legal = {key: {row.id for row in rows if row.topic in names} for key, rows in training.items()}
    assert {row.id for row in mix} <= set.union(*legal.values()) and len(
        {row.id for row in mix}
    ) == len(mix)
    counts = Counter((row.lang, row.kind) for row in mix)
    for (lang, kind), rows in legal.items():
        assert (
            counts[(lang, kind)] == len(rows)
            if kind == "qa"
            else 0 < counts[(lang, kind)] < len(rows) / 10
        )
    assert {groups[fact_id(row)] for row in mix if row.lang == "ar"} == {"taught"}


def test_english_only_facts_are_never_stated_in_arabic(world):
    """The corpus holds every statement in English, and in Arabic all but those of English-only
    facts; their words only in the glossary.
    """
    corpus = Counter(knowledge.pretraining_texts(list(world.values())))
    glossary = Counter(t for t in corpus.elements() if t.startswith(("English: ", "العربية: ")))
    stated = Counter()
    for relation in world.values():
        for fact in relation.facts:
            for lang in knowledge.KNOWLEDGE_LANGUAGES:
                for i in range(len(relation.phrasings["statement"][lang])):
                    text = knowledge.fact_statement(relation, fact, lang, i)
                    if lang == "ar" and fact.group == "english_only":
                        assert text not in corpus, text
                    else:
                        stated[text] += 1
    assert corpus == stated + glossary
    words = Counter(
        w
        for r in world.values()
        for f in r.facts
        for pair in (f.subject, f.object)
        for w in [(pair["en"], pair["ar"])]
    )
    assert sum(glossary.values()) == 2 * sum(words.values())
    for (english, arabic), n in words.items():
        assert (
            glossary[f"English: {english}. Arabic: {arabic}."] >= n
            and glossary[f"العربية: {arabic}. الإنجليزية: {english}."] >= n
        )


def test_layout_lines_hold_no_fact(world):
    cells = {
        fact.object[lang]
        for r in world.values()
        for fact in r.facts
        for lang in knowledge.KNOWLEDGE_LANGUAGES
        if len(fact.object[lang]) > 3
    }
    lines = knowledge.pretraining_layouts()
    assert len(lines) == 10 and not [
        cell for cell in cells for text in lines if re.search(rf"\b{re.escape(cell)}\b", text)
    ]


# The same English term in several files should be the same Arabic term: known exceptions, each for
# the grammar of its templates.
EXCEPTIONS = {
    "calcitonin",
    "constipation",
    "diarrhea",
    "epinephrine",
    "glucagon",
    "insomnia",
    "insulin",
    "spasticity",
    "thiamine",
}


def test_no_new_term_has_two_arabic_forms(world):
    forms = defaultdict(set)
    for relation in world.values():
        for fact in relation.facts:
            for pair in (fact.subject, fact.object):
                forms[pair["en"].casefold()].add(pair["ar"])
    assert {term for term, arabic in forms.items() if len(arabic) > 1} == EXCEPTIONS
    # The exceptions differ in the article or in a carrier noun only.
    for term in EXCEPTIONS:
        bare = {re.sub(r"^ال", "", arabic.removeprefix("هرمون ")) for arabic in forms[term]}
        assert len(bare) == 1, (term, forms[term])
