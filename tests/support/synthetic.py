"""Synthetic rows of the paper's size and shape, with planted duplicates and planted test questions:
what the mix is measured on.

Everything is a pure function of seed and row number (a counter-based generator), so a copy can be
made in another file and process than its original, and memory stays bounded whatever the number of
rows.

* Words: two parallel vocabularies of 40,000 forms drawn by Zipf's law: first real words, then
  invented ones.
* Shape: the paper's composition, Arabic to English about 1:2; an Arabic row is the word-for-word
  translation of its English parent.
* Templates: stock openings, greetings and warnings in most rows; in a fifth of them half to three
  quarters of the words come from a family's common text. Such pairs have a Jaccard similarity up to
  0.7 and are no duplicates: of each row at least 18 % of the words are its own, so that no
  unplanted pair can reach more than 1 / (2 / 0.82 - 1) = 0.70 but by chance.
* Planted: exact copies (3 %), edited copies (5 %, true similarity recorded) and test questions (0.5
  %), the same shares in both languages.
"""

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from bimedix_utils.core.records import LABELS
from bimedix_utils.core.text import match_key
from bimedix_utils.sources.benchmarks import nine_benchmarks

VERSION = 1  # of the rows: raise it when a change gives other rows for the same seed
LANGS = ("en", "ar")
# data/paper/composition.csv; English questions and answers raised by the 200,000 rows that are
# missing there, see its note.
COMPOSITION = {
    "pubmedqa": (210_169, 115_773),
    "medmcqa": (182_712, 97_523),
    "medqa": (20_691, 11_210),
    "open_qa": (319_879, 156_254),
    "dialogue": (133_134, 64_235),
}
KIND = {"pubmedqa": "mcqa", "medmcqa": "mcqa", "medqa": "mcqa", "open_qa": "qa", "dialogue": "chat"}
# Where a copy may be found a second time: another collection of the same kind of row.
ELSEWHERE = {
    "pubmedqa": "pubmed_mirror",
    "medmcqa": "exam_mirror",
    "medqa": "exam_mirror",
    "open_qa": "forum_crawl",
    "dialogue": "chat_crawl",
}
EXACT, NEAR, LEAK = 0.03, 0.05, 0.005
HEAVY, OWN = 0.20, 0.18  # share of rows with much common text; least share of own words in a row
FAMILY = 40  # English rows that share a text, on average
COMMON_FAMILIES = 20  # of each source: families that grow with the rows
# Words of a row.
TYPICAL = {"pubmedqa": 270, "medmcqa": 220, "medqa": 300, "open_qa": 285, "dialogue": 400}
PARALLEL = 20_000  # fewer rows are made faster without more processes
NEAR_LOW, NEAR_HIGH = 0.80, 0.95
BASE, COPY, EDITED, LEAKED = range(4)
_MASK, _GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15
_STEPS = np.arange(1, 4097, dtype=np.uint64) * np.uint64(_GOLDEN)
_FORMS, _TABLE = 40_000, 20  # word forms; bits of the table that turns a random number into a word
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

TEXTS = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
NUMBERS = "1 2 3 4 5 6 7 8 10 12 15 20 24 25 30 40 50 60 75 80 100 120 140 150 200 250 500".split()
ENDMARKS = {"en": (",", "."), "ar": ("،", ".")}
_LENGTHS = (9, 14, 7, 18, 11, 16, 8, 12, 21, 10)


def _mix(*parts: int) -> int:
    """One 64-bit number from several (the finaliser of splitmix64)."""
    state = 0
    for part in parts:
        state = (state + part + 1) * _GOLDEN & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


def _scramble(state: np.ndarray) -> np.ndarray:
    state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return state ^ state >> np.uint64(31)


def _numbers(state: int, count: int) -> np.ndarray:
    """`count` random 64-bit numbers of the stream `state`."""
    return _scramble(_STEPS[:count] + np.uint64(state))


def _order(state: int, count: int) -> np.ndarray:
    """A permutation."""
    keys = _scramble(
        np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(state)
    )
    return np.argsort(keys, kind="stable").astype(np.int32)


class Dice:
    """A row's own stream of small decisions."""

    def __init__(self, state: int):
        self.state = state

    def below(self, limit: int) -> int:
        self.state = self.state + _GOLDEN & _MASK
        value = (self.state ^ self.state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
        return ((value ^ value >> 31) >> 11) * limit >> 53

    def pick(self, items: list[str]) -> str:
        return items[self.below(len(items))]

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def share(self) -> float:
        return self.below(1 << 30) / (1 << 30)


@cache
def vocabulary(lang: str) -> list[str]:
    """40,000 different forms in the order of their frequency: real words, numbers, invented words.
    The same for every seed.
    """
    dice = Dice(_mix(1, LANGS.index(lang)))
    words = TEXTS["words"][lang].split() + NUMBERS
    onsets, vowels = TEXTS["onsets"][lang].split(), TEXTS["vowels"][lang]
    endings = TEXTS["endings"][lang]
    known = set(words)
    while len(words) < _FORMS:
        syllables = dice.between(1, 2) + (len(words) > 3000) * dice.below(2) + (lang == "ar")
        word = "".join(dice.pick(onsets) + dice.pick(vowels) for _ in range(syllables))
        word = "ال" * (lang == "ar" and dice.below(3) == 0) + word + dice.pick(endings)
        if word not in known:
            known.add(word)
            words.append(word)
    return words


@cache
def _words_table(lang: str) -> np.ndarray:
    """2**20 words in the proportions of Zipf's law: a random number picks one."""
    weights = 1 / (np.arange(_FORMS) + 2.7)
    edges = np.cumsum(weights) / weights.sum()
    ranks = np.searchsorted(edges, (np.arange(1 << _TABLE) + 0.5) / (1 << _TABLE))
    return np.array(vocabulary(lang), dtype=object)[ranks]


def _words(state: int, count: int, lang: str) -> list[str]:
    """`count` words; fewer of the same stream are the first of them."""
    return _words_table(lang)[_numbers(state, count) >> np.uint64(64 - _TABLE)].tolist()


def _prose(words: list[str], lang: str, first: int = 0) -> str:
    """Words as sentences with capitals, commas and full stops."""
    comma, stop = ENDMARKS[lang]
    sentences, place, number = [], 0, first
    while place < len(words):
        length = _LENGTHS[number % 10]
        part = words[place : place + length]
        if length > 12 and len(part) > 6:
            part[5] += comma
        sentence = " ".join(part)
        sentences.append(sentence[0].upper() + sentence[1:] + stop)
        place, number = place + length, number + 1
    return " ".join(sentences)


def _question(words: list[str], lang: str) -> str:
    return _prose(words, lang, 8)[:-1] + ("؟" if lang == "ar" else "?")


def record_fields(row_id: str, lang: str, kind: str, source: str, split: str) -> dict:
    """The first fields of a row, in the order of `Record`'s fields."""
    return {
        "id": row_id if lang == "en" else f"{row_id}:{lang}",
        "kind": kind,
        "lang": lang,
        "source": source,
        "licence": "CC0-1.0",
        "split": split,
    }


def last_fields(row_id: str, lang: str) -> dict:
    """The last fields of a row."""
    parent = None if lang == "en" else row_id
    return {"topic": "", "parent_id": parent, "status": "ok", "note": ""}


def _stock(kind: str, lang: str, dice: Dice) -> list[str]:
    """The words of one stock phrase; the same decisions in both languages."""
    phrases = TEXTS["phrases"][kind]
    choice, age, n = dice.below(len(phrases["en"])), dice.between(18, 88), dice.between(2, 9)
    return phrases[lang][choice].format(age=age, n=n).split()


class Maker:
    """Rows of one data set. `rows` fixes how many families share a text."""

    def __init__(self, rows: int, seed: int):
        self.seed = seed
        self.families = max(1, round(rows * 2 / 3 * HEAVY / FAMILY / len(COMPOSITION)))

    def row(self, number: int, source: str, lang: str, stream: int = 1) -> dict:
        """A row as a dict in the order of `Record`'s fields; `stream` parts base rows from those
        built around a test question.
        """
        state = _mix(self.seed, stream, number)
        dice = Dice(state)
        kind, heavy = KIND[source], dice.share() < HEAVY
        common = heavy and dice.below(20) == 0
        # Common families (their pairs grow with the square of the rows) share less: the bulk of a
        # real set is alike only a little.
        shared = (
            (
                0.25 + 0.25 * dice.share()
                if common
                else 0.5 + (0.5 - OWN) * max(dice.share(), dice.share())
            )
            if heavy
            else 0.0
        )
        family = (
            dice.below(COMMON_FAMILIES) if common else COMMON_FAMILIES + dice.below(self.families)
        )
        if source == "pubmedqa":
            lengths = [dice.between(8, 18), dice.between(145, 245), dice.between(30, 55)]
        elif source == "medmcqa":
            lengths = [dice.between(10, 45), 0, dice.between(85, 270)]
        elif source == "medqa":
            lengths = [dice.between(70, 150), 0, dice.between(110, 240)]
        elif source == "open_qa":
            lengths = [dice.between(35, 110), 0, dice.between(105, 270)]
        else:
            exchanges = dice.between(3, 5)
            lengths = [
                dice.between(*((40, 85) if i % 2 else (18, 40))) for i in range(2 * exchanges)
            ]
        # Stock phrases before the first, second and last part; then one that ends the row.
        wanted = {
            "pubmedqa": ("study", "study", "", "closing"),
            "open_qa": ("complaint", "", "greeting", "closing"),
            "dialogue": ("complaint", "greeting", "", "closing"),
        }.get(source, ("vignette", "", "", ""))
        stock = [_stock(name, lang, dice) if name and dice.below(10) < 7 else [] for name in wanted]
        common_text: list[str] = []
        if heavy:
            kin = _mix(self.seed, 3, family, list(KIND).index(source))
            count = round(TYPICAL[source] * ((0.25 if common else 0.45) + 0.3 * Dice(kin).share()))
            common_text = _words(kin, count, lang)
            # As many words of its own as make the common and the stock words the wanted share of
            # the whole.
            scale = (1 - shared) / shared * (count + sum(map(len, stock))) / sum(lengths)
            lengths = [max(6, round(n * scale)) if n else 0 for n in lengths]
        own, first = sum(lengths), dice.below(10)
        words = _words(_mix(state, 2), own + 20, lang)
        text = iter(words)
        parts = [[next(text) for _ in range(n)] for n in lengths]
        question, context, answer, options, key, turns = "", "", "", [], None, []
        if kind == "chat":
            parts = [
                stock[0] + parts[0],
                stock[1] + parts[1],
                *parts[2:-1],
                [*common_text, *parts[-1], *stock[3]],
            ]
            turns = [
                {"role": "doctor" if i % 2 else "patient", "text": _prose(part, lang, first)}
                for i, part in enumerate(parts)
            ]
        else:
            question = _question(stock[0] + parts[0], lang)
            if source == "pubmedqa":
                context = _prose([*stock[1], *common_text, *parts[1]], lang, first)
                common_text, options, key = [], TEXTS["choices"][lang], dice.below(3)
            elif kind == "mcqa":
                options, key = self._options(words[own:], dice), dice.below(4)
            answer = _prose([*stock[2], *common_text, *parts[2], *stock[3]], lang, first)
        return {
            **record_fields(f"{source}:{number}", lang, kind, source, "train"),
            "question": question,
            "context": context,
            "options": options,
            "answer_index": key,
            "answer": answer,
            "turns": turns,
            **last_fields(f"{source}:{number}", lang),
        }

    @staticmethod
    def _options(words: list[str], dice: Dice) -> list[str]:
        """Four different options of one to five words."""
        lengths = [dice.between(1, 5) for _ in range(4)]
        ends = [0, *accumulate(lengths)]
        options = [" ".join(words[a:b]) for a, b in zip(ends, ends[1:], strict=False)]
        return [
            option if option not in options[:i] else f"{option} {i + 1}"
            for i, option in enumerate(options)
        ]

    def test(self, task: int, number: int, lang: str) -> dict:
        """Test item `number` of one of the nine tasks; opens with the same stock phrases as rows
        do.
        """
        name = list(nine_benchmarks())[task]
        split = nine_benchmarks()[name].split
        state = _mix(self.seed, 4, task, number)
        dice = Dice(state)
        long = name in ("medqa", "mmlu_professional_medicine")
        study = name == "pubmedqa"
        count = dice.between(60, 130) if long else dice.between(8, 24)
        words = _words(_mix(state, 2), count + 20 + 220, lang)
        opening = _stock("study" if study else "vignette", lang, dice) if dice.below(10) < 7 else []
        source_id = f"{name}:{split}:{number}"
        return {
            **record_fields(source_id, lang, "mcqa", name, split),
            "question": _question(opening + words[:count], lang),
            "context": _prose(words[count + 20 :], lang) if study else "",
            "options": TEXTS["choices"][lang]
            if study
            else self._options(words[count : count + 20], dice),
            "answer_index": dice.below(3 if study else 4),
            "answer": "",
            "turns": [],
            **last_fields(source_id, lang),
        }

    def copy(self, original: dict, number: int) -> dict:
        """The same content under another id, half of the time from another collection."""
        dice = Dice(_mix(self.seed, 5, number, LANGS.index(original["lang"])))
        source = ELSEWHERE[original["source"]] if dice.below(2) else original["source"]
        suffix = "" if original["lang"] == "en" else f":{original['lang']}"
        return {
            **original,
            "id": f"{source}:copy{number}{suffix}",
            "source": source,
            "parent_id": None,
        }

    def leak(self, number: int, lang: str, tests: float) -> tuple[dict, str]:
        """(a row that asks a test question word for word, the test row's id): as its own question,
        or inside a longer text.
        """
        dice = Dice(_mix(self.seed, 6, number, LANGS.index(lang)))
        sizes = test_sizes(tests)
        place = dice.below(sum(sizes))
        task = next(i for i, end in enumerate(accumulate(sizes)) if place < end)
        item = self.test(task, place - sum(sizes[:task]), lang)
        form = dice.below(10)
        source = (
            "open_qa"
            if form in (6, 7)
            else "dialogue"
            if form > 7
            else "pubmedqa"
            if item["context"]
            else "medmcqa"
        )
        row = self.row(number + LANGS.index(lang) * 10**7, source, lang, stream=7)
        suffix = "" if lang == "en" else f":{lang}"
        row |= {"id": f"{source}:asked{number}{suffix}", "parent_id": None}
        if row["kind"] == "mcqa":
            row |= {key: item[key] for key in ("question", "options", "answer_index")}
            if item["context"] and dice.below(2):
                row["context"] = item["context"]
            return row, item["id"]
        lettered = " ".join(
            f"{letter}. {option}" for letter, option in zip(LABELS, item["options"], strict=False)
        )
        asked = f"{item['question']} {lettered}" if dice.below(2) else item["question"]
        if row["kind"] == "qa":
            # at the start, in the middle, alone
            before, _, after = row["question"].partition(". ")
            row["question"] = [
                f"{asked} {row['question']}",
                f"{before}. {asked} {after}".strip(),
                asked,
            ][dice.below(3)]
        else:
            turn = row["turns"][2 * dice.below(2)]  # the patient's first or second turn
            turn["text"] = [f"{turn['text']} {asked}", f"{asked} {turn['text']}"][dice.below(2)]
        return row, item["id"]

    def edited(self, original: dict, number: int) -> tuple[dict, float]:
        """(a copy with changed words, its true similarity to the original), aimed at 0.80 to 0.95,
        on average 0.85.
        """
        lang = original["lang"]
        dice = Dice(_mix(self.seed, 8, number, LANGS.index(lang)))
        before = shingles(full_text(original))
        wanted = (
            NEAR_LOW + 0.012 + (NEAR_HIGH - NEAR_LOW - 0.02) * min(dice.share() for _ in range(3))
        )
        edits = max(1, round(len(before) * (1 - wanted) / (5 * (1 + wanted))))
        best, best_similarity = None, 0.0
        for attempt in range(8):
            row = self._edit(original, edits, Dice(_mix(dice.state, attempt)))
            after = shingles(full_text(row))
            similarity = len(before & after) / len(before | after)
            if best is None or abs(similarity - wanted) < abs(best_similarity - wanted):
                best, best_similarity = row, similarity
            if NEAR_LOW <= similarity <= NEAR_HIGH:
                best, best_similarity = row, similarity
                break
            edits = max(1, edits - 1) if similarity < NEAR_LOW else edits + 1
        return (
            self.copy(best, number)
            | {"id": self.copy(original, number)["id"].replace(":copy", ":edit")},
            best_similarity,
        )

    def _edit(self, original: dict, edits: int, dice: Dice) -> dict:
        """Words replaced, put in, left out or exchanged, and as many changes of case, marks and
        spelling that mean nothing.
        """
        lang = original["lang"]
        texts = {name: original[name].split(" ") for name in ("question", "context", "answer")}
        texts |= {i: turn["text"].split(" ") for i, turn in enumerate(original["turns"])}
        long = [name for name, words in texts.items() if len(words) >= 12]
        total = sum(len(texts[name]) for name in long)
        new = _words(dice.state, edits, lang)
        for i in range(2 * edits):
            at = dice.below(total)
            for name in long:
                if at < len(texts[name]):
                    break
                at -= len(texts[name])
            words = texts[name]
            at = min(at, len(words) - 2)
            if i >= edits:  # nothing that matters
                word = words[at]
                other = f"{word[:1]}ـ{word[1:]}" if lang == "ar" else word.title()
                words[at] = [word.upper(), f"“{word}”", f"{word},", other][dice.below(4)]
                continue
            action = dice.below(8)
            if action < 4:
                words[at] = new[i]
            elif action < 6 and len(words) > 8:
                del words[at]
                total -= 1
            elif action < 7:
                words.insert(at, new[i])
                total += 1
            else:
                words[at], words[at + 1] = words[at + 1], words[at]
        row = {
            **original,
            **{name: " ".join(texts[name]) for name in ("question", "context", "answer")},
        }
        row["turns"] = [
            {**turn, "text": " ".join(texts[i])} for i, turn in enumerate(original["turns"])
        ]
        return row


def full_text(row: dict) -> str:
    """All that a reader sees of a row (of `Record.model_dump()` too): question, context, options,
    answer, turns, in this order.
    """
    return " ".join(
        [
            row["question"],
            row["context"],
            *row["options"],
            row["answer"],
            *(turn["text"] for turn in row["turns"]),
        ]
    )


def shingles(text: str) -> set[tuple[str, ...]]:
    """The word 5-grams of a text's `match_key`; a shorter text is one of them."""
    words = match_key(text).split()
    return (
        set(zip(*(words[i:] for i in range(5)), strict=False))
        if len(words) >= 5
        else {tuple(words)}
    )


def test_sizes(share: float) -> list[int]:
    """Items of each of the nine tasks in one language; `share` 1.0 is their published size."""
    return [
        max(1, round(size * share)) for size in (one.items for one in nine_benchmarks().values())
    ]


class Plan(NamedTuple):
    """The layout: arrays over all rows in the order of the files."""

    role: np.ndarray
    lang: np.ndarray
    number: np.ndarray  # of the base row, or of the planted row within its role and language
    original: np.ndarray  # number of the base row a copy is made from
    sources: tuple[
        np.ndarray, np.ndarray
    ]  # for each language: where each source's base rows begin among the base numbers


def plan(rows: int, seed: int) -> Plan:
    """The roles of `rows` rows, shuffled. A tenth of the exact copies are second copies of one
    original.
    """
    weights = np.array(list(COMPOSITION.values()), dtype=float)
    counts = np.round(rows * (1 - EXACT - NEAR - LEAK) * weights / weights.sum()).astype(int)
    share = weights[:, 1].sum() / weights.sum()
    planted = {
        role: (round(rows * part * (1 - share)), round(rows * part * share))
        for role, part in ((COPY, EXACT), (EDITED, NEAR), (LEAKED, LEAK))
    }
    counts[3, 0] += rows - counts.sum() - sum(map(sum, planted.values()))  # roundings
    starts = np.concatenate([[0], np.cumsum(counts[:, 0])]).astype(np.int64)
    role, lang, number, original = [], [], [], []
    for code in range(2):
        # The Arabic rows of a source are the translations of its first English rows.
        base = np.concatenate(
            [starts[i] + np.arange(counts[i, code]) for i in range(len(counts))]
        ).astype(np.int32)
        drawn = base[_order(_mix(seed, 9, code), len(base))]
        exact, near, leaked = (planted[r][code] for r in (COPY, EDITED, LEAKED))
        copies = np.arange(exact)
        copies -= copies % 10 == 9
        for kind, numbers, origin in (
            (BASE, base, base),
            (COPY, np.arange(exact), drawn[copies]),
            (EDITED, np.arange(near), drawn[exact : exact + near]),
            (LEAKED, np.arange(leaked), np.zeros(leaked)),
        ):
            role.append(np.full(len(numbers), kind, dtype=np.int8))
            lang.append(np.full(len(numbers), code, dtype=np.int8))
            number.append(numbers.astype(np.int32))
            original.append(origin.astype(np.int32))
    order = _order(_mix(seed, 10), rows)
    return Plan(
        *(np.concatenate(column)[order] for column in (role, lang, number, original)), starts
    )


def made(
    maker: Maker, layout: Plan, first: int, last: int, tests: float
) -> Iterator[tuple[dict, dict | None]]:
    """(row, what was planted with it) of the positions `first` to `last`."""
    names = list(COMPOSITION)

    def base(at: int, lang: str) -> dict:
        return maker.row(
            at, names[int(np.searchsorted(layout.sources, at, side="right")) - 1], lang
        )

    columns = (column[first:last].tolist() for column in layout[:4])
    for role, code, number, origin in zip(*columns, strict=True):
        lang = LANGS[code]
        if role == BASE:
            yield base(number, lang), None
        elif role == LEAKED:
            row, test = maker.leak(number, lang, tests)
            yield (
                row,
                {
                    "planted": "leak",
                    "id": row["id"],
                    "other": test,
                    "lang": lang,
                    "form": row["kind"],
                },
            )
        else:
            original = base(origin, lang)
            row, similarity = (
                (maker.copy(original, number), 1.0)
                if role == COPY
                else maker.edited(original, number)
            )
            name = "exact" if role == COPY else "near"
            yield (
                row,
                {
                    "planted": name,
                    "id": row["id"],
                    "other": original["id"],
                    "lang": lang,
                    "jaccard": similarity,
                },
            )


def _write_file(folder: Path, rows: int, seed: int, files: int, tests: float, number: int) -> int:
    """One of the files and what is planted in it; how many bytes."""
    maker, layout = Maker(rows, seed), plan(rows, seed)
    bounds = [rows * i // files for i in range(files + 1)]
    with (
        open(folder / f"train-{number:02}.jsonl", "w", encoding="utf-8", buffering=1 << 20) as out,
        open(folder / f"planted-{number:02}.part", "w", encoding="utf-8") as truth,
    ):
        for row, planted in made(maker, layout, bounds[number], bounds[number + 1], tests):
            out.write(_ENCODE(row) + "\n")
            if planted:
                truth.write(_ENCODE(planted) + "\n")
    return (folder / f"train-{number:02}.jsonl").stat().st_size


def settings(rows: int, seed: int, files: int, tests: float) -> dict:
    """What fixes every byte of a data set."""
    return {"version": VERSION, "rows": rows, "seed": seed, "files": files, "tests": tests}


def write(
    folder: Path, rows: int, seed: int, files: int = 8, tests: float = 1.0, workers: int = 2
) -> None:
    """Write `train-XX.jsonl`, `tests.jsonl`, `planted.jsonl` and, last, `made.json` (settings and
    bytes) into `folder`.

    `tests` is the share of the nine tasks' published sizes. The bytes do not depend on `workers`.
    Does nothing when the folder holds the same data set already.
    """
    wanted = settings(rows, seed, files, tests)
    if written(folder) == wanted:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in ("made.json", "train-*.jsonl", "planted*", "tests.jsonl"):
        for old in folder.glob(pattern):
            old.unlink()
    maker = Maker(rows, seed)
    with open(folder / "tests.jsonl", "w", encoding="utf-8") as out:
        for lang in LANGS:
            for task, size in enumerate(test_sizes(tests)):
                out.writelines(_ENCODE(maker.test(task, i, lang)) + "\n" for i in range(size))
    jobs = [(folder, rows, seed, files, tests, number) for number in range(files)]
    if workers > 1 and rows > PARALLEL:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            sizes = list(pool.map(_write_file, *zip(*jobs, strict=True)))
    else:
        sizes = [_write_file(*job) for job in jobs]
    with open(folder / "planted.jsonl", "w", encoding="utf-8") as out:
        for number in range(files):
            part = folder / f"planted-{number:02}.part"
            out.write(part.read_text(encoding="utf-8"))
            part.unlink()
    (folder / "made.json").write_text(json.dumps({**wanted, "bytes": sum(sizes)}), encoding="utf-8")


def written(folder: Path) -> dict | None:
    """The settings of the whole data set in `folder`, if there is one."""
    try:
        found = json.loads((folder / "made.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return (
        {key: found[key] for key in settings(0, 0, 0, 0)}
        if found.keys() > settings(0, 0, 0, 0).keys()
        else None
    )
