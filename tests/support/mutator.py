"""Damage to translations, one named kind at a time, for measuring what the translation checks catch
and what they let pass.

A pair is an English record's values and its gold Arabic values: `question` with `context`,
`options` and `answer`, or `turns`. The words it works with are its own (`mutator_words`): a maker
of damage that shares a list with the checks measures nothing.
"""

import copy
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

from bimedix_utils import sources
from bimedix_utils.translation.texts import text_fields

from . import mutator_words as words

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "data" / "sample"
EXTRA_PAIRS = HERE / "pairs.jsonl"

KINDS: dict[str, str] = {
    "dose_x10": "critical",
    "number_changed": "critical",
    "unit_swapped": "critical",
    "unit_dropped": "major",
    "frequency_changed": "critical",
    "negation_dropped": "critical",
    "negation_added": "critical",
    "except_dropped": "critical",
    "options_swapped": "critical",
    "option_lost": "critical",
    "option_duplicated": "critical",
    "drug_replaced": "critical",
    "laterality_swapped": "critical",
    "level_swapped": "critical",
    "half_untranslated": "major",
    "untranslated_copy": "major",
    "duplicated_from_neighbour": "critical",
    "truncated": "critical",
    "preamble_added": "minor",
    "refusal_inserted": "major",
    "repetition_loop": "major",
    "mojibake": "major",
    "sex_swapped": "major",
    "markup_leak": "minor",
    "prompt_leak": "major",
    "turn_roles": "critical",
    "turn_lost": "critical",
}
HARMLESS: tuple[str, ...] = (
    "arabic_indic_digits",
    "eastern_decimal_signs",
    "abbreviation_expanded",
    "vowel_marks",
    "clause_reordered",
    "hamza_spelling",
    "synonym",
    "punctuation",
    "number_word",
)
INDIC = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
# A whole number or decimal that is no part of a Latin name (B12, T4, beta-2) or of another number.
NUMBER = r"(?<![\w.,/-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|[.,/-]\d)"
# In a blood pressure both numbers count: "146/90".
LOOSE_NUMBER = r"(?<![A-Za-z\d.,-])\d+(?:,\d{3})*(?:\.\d+)?(?![A-Za-z\d]|[.,-]\d)"
DURATION = r"منذ \d+ (?:ساعات|ساعة|أيام|أسابيع|أشهر|سنوات|دقيقة)"


@dataclass(frozen=True)
class Damage:
    """One damaged translation. `words` are what a drug or negation damage was made of: the English
    trigger and the Arabic words.
    """

    kind: str
    severity: str  # critical, major, minor; none for a harmless variant
    values: dict
    words: tuple[str, ...]
    note: str


Slot = tuple[str, int]
Edit = tuple[dict, str, tuple[str, ...]]


# Slots


def slots(values: dict) -> list[Slot]:
    """The slots that hold text, in reading order: (key, index), the index -1 for a key that holds
    one text.
    """
    found: list[Slot] = []
    for key in ("context", "question", "options", "answer", "turns"):
        value = values.get(key)
        if isinstance(value, str):
            found.append((key, -1))
        elif value:
            found.extend((key, index) for index in range(len(value)))
    return found


def get(values: dict, slot: Slot) -> str:
    """The text of a slot; "" when there is none."""
    key, index = slot
    value = values.get(key, "")
    if isinstance(value, str):
        return value
    if index >= len(value):
        return ""
    return value[index]["text"] if key == "turns" else value[index]


def put(values: dict, slot: Slot, text: str) -> dict:
    """A deep copy with another text in one slot."""
    changed, (key, index) = copy.deepcopy(values), slot
    if index < 0:
        changed[key] = text
    elif key == "turns":
        changed[key][index]["text"] = text
    else:
        changed[key][index] = text
    return changed


def _trigger(pattern: str, text: str) -> re.Match | None:
    """The English word that shows that the thing itself is meant."""
    return re.search(rf"\b(?:{pattern})\b", text, re.IGNORECASE)


def _nearest(pattern: str, english: str, match: re.Match) -> str:
    """The English trigger that stands at about the same share of its text as an Arabic match of its
    own; "" without any.
    """
    chosen = match.start() / max(1, len(match.string))
    found = list(re.finditer(rf"\b(?:{pattern})\b", english, re.IGNORECASE))
    return (
        min(found, key=lambda trigger: abs(trigger.start() / len(english) - chosen)).group()
        if found
        else ""
    )


def _with(gold: dict, slot: Slot, match: re.Match, replacement: str) -> dict:
    """A copy in which one match is replaced."""
    text = match.string
    return put(gold, slot, text[: match.start()] + replacement + text[match.end() :])


def _main(values: dict) -> Slot:
    """Where a reader begins: the question, or a chat's first turn."""
    return ("question", -1) if "question" in values else ("turns", 0)


def _pick(rng: random.Random, found: list) -> object | None:
    """One of them, or None."""
    return rng.choice(found) if found else None


def _swap_all(gold: dict, change: Callable[[str], str]) -> dict:
    """A copy with every text changed by one function."""
    for slot in slots(gold):
        gold = put(gold, slot, change(get(gold, slot)))
    return gold


# Numbers, units, frequencies


def _same_numbers(source: dict, slot: Slot) -> set[str]:
    return set(re.findall(NUMBER, get(source, slot))) | set(
        re.findall(r"\d+(?:\.\d+)?", get(source, slot))
    )


def _units(gold: dict, names: tuple[str, ...]) -> list[tuple[Slot, re.Match]]:
    """(slot, match) of each number with one of the units; groups: number, space, unit."""
    longest = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    # A slash after the unit makes it another one: "ملغ/دل" is no dose.
    unit = rf"(?P<number>{NUMBER[: NUMBER.rindex('(?!')]})(?P<space> ?)(?P<unit>{longest})(?![\w/])"
    return [(slot, match) for slot in slots(gold) for match in re.finditer(unit, get(gold, slot))]


def _is_dose(source: dict, slot: Slot) -> bool:
    text = get(source, slot)
    return bool(
        _trigger(
            r"doses?|tablets?|inject\w*|infus\w+|intravenous\w*|takes?|given|daily|mg/kg|mcg|units?|drops",
            text,
        )
    ) or bool(_trigger(rf"\d+(?:\.\d+)? m?c?g|{'|'.join(words.DRUGS)}", text))


def _times(number: str, factor: str) -> str:
    """A number times ten or a tenth of it, written as it was written."""
    value = (Decimal(number.replace(",", "")) * Decimal(factor)).normalize()
    return f"{value:,f}" if "," in number else f"{value:f}"


def _dose_x10(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    found = [
        (slot, match) for slot, match in _units(gold, words.DOSE_UNITS) if _is_dose(source, slot)
    ]
    # Grams of body weight, or a millilitre of blood, are lab values and not doses.
    found = [
        (s, m)
        for s, m in found
        if m["unit"] not in ("غ", "مل")
        or not re.search(r"وزن|بول|بيلة|عظم", m.string[: m.start()][-30:])
    ]
    chosen = _pick(rng, found)
    if chosen is None:
        return None
    slot, match = chosen
    number = _times(match["number"], rng.choice(("10", "0.1")))
    changed = number + match["space"] + match["unit"]
    return (
        _with(gold, slot, match, changed),
        f"dose {match['number']} became {number} {match['unit']}",
        (),
    )


def _other_number(number: str, rng: random.Random) -> str:
    """As many digits, another value: two digits changed round, or one replaced."""
    positions = [i for i, sign in enumerate(number) if sign.isdigit()]
    turned = [
        (i, j)
        for i, j in zip(positions, positions[1:], strict=False)
        if number[i] != number[j] and (number[j] != "0" or i > positions[0])
    ]
    if turned and rng.random() < 0.4:
        i, j = rng.choice(turned)
        signs = list(number)
        signs[i], signs[j] = signs[j], signs[i]
        return "".join(signs)
    chosen = rng.choice(positions)
    allowed = [digit for digit in "123456789" if digit != number[chosen]]
    return number[:chosen] + rng.choice(allowed) + number[chosen + 1 :]


def _number_changed(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    doses = {(slot, match.start()) for slot, match in _units(gold, words.DOSE_UNITS)}
    found = [
        (slot, match)
        for slot in slots(gold)
        for match in re.finditer(LOOSE_NUMBER, get(gold, slot))
        if match.group() in _same_numbers(source, slot) and (slot, match.start()) not in doses
    ]
    chosen = _pick(rng, found)
    if chosen is None:
        return None
    slot, match = chosen
    number = _other_number(match.group(), rng)
    return _with(gold, slot, match, number), f"number {match.group()} became {number}", ()


def _unit_swapped(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    found = _units(gold, tuple(words.UNITS))
    week = [
        (s, m)
        for s in slots(gold)
        for m in re.finditer(r"الأسبوع (?=\d)", get(gold, s))
        if _trigger("weeks?", get(source, s))
    ]
    if week and (not found or rng.random() < 0.2):
        slot, match = rng.choice(week)
        return _with(gold, slot, match, "الشهر "), "week became month", ()
    # Doses and lab values first: a wrong unit of time stands in nearly every case and would hide
    # them.
    rare = [(s, m) for s, m in found if re.search(r"غ|مل|mg|mol|وحدة|سم", m["unit"])]
    chosen = _pick(rng, rare if rare and rng.random() < 0.7 else found)
    if chosen is None:
        return None
    slot, match = chosen
    unit = rng.choice(words.UNITS[match["unit"]])
    changed = match["number"] + match["space"] + unit
    return (
        _with(gold, slot, match, changed),
        f"unit {match['unit']} became {unit.strip()} after {match['number']}",
        (),
    )


def _unit_is_understood(match: re.Match) -> bool:
    """True when nobody would miss the unit: a pulse, the years of an age, the first per cent of a
    range.
    """
    before, after = match.string[: match.start()], match.string[match.end() :]
    if match["unit"] in ("سنة", "سنوات", "عامًا", "أعوام"):
        return bool(re.search(r"عمر|يبلغ|أعمار", before[-25:]))
    return match["unit"] in ("نبضة/دقيقة", "مرة/دقيقة") or (
        match["unit"] == "%" and bool(re.match(r" (?:إلى|أو) \d", after))
    )


def _unit_dropped(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    chosen = _pick(
        rng,
        [
            chosen
            for chosen in _units(gold, tuple(words.UNITS))
            if not _unit_is_understood(chosen[1])
        ],
    )
    if chosen is None:
        return None
    slot, match = chosen
    return (
        _with(gold, slot, match, match["number"]),
        f"unit {match['unit']} lost after {match['number']}",
        (),
    )


def _frequency_changed(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    found = [
        (slot, match, others)
        for slot in slots(gold)
        for trigger, pattern, others in words.FREQUENCIES
        for match in re.finditer(pattern, get(gold, slot))
        if _trigger(trigger, get(source, slot))
    ]
    chosen = _pick(rng, found)
    if chosen is None:
        return None
    slot, match, others = chosen
    other = rng.choice(others)
    return _with(gold, slot, match, other), f"{match.group().strip()} became {other.strip()}", ()


# Negation


def _opposites(
    source: dict, gold: dict, rules: tuple[tuple[str, str, str], ...]
) -> list[tuple[Slot, re.Match, str, str]]:
    """(slot, match, its opposite, English trigger) for each rule whose trigger stands in the
    English of the same slot.
    """
    return [
        (slot, match, match.expand(opposite), trigger)
        for slot in slots(gold)
        for english, pattern, opposite in rules
        for match in re.finditer(pattern, get(gold, slot))
        if (trigger := _nearest(english, get(source, slot), match))
    ]


def _without_echo(text: str, start: int) -> str:
    """After "there is no pain and no fever" has become "there is pain", the second "no" of its
    clause goes too, with "any" and "ever".
    """
    end = next((i for i in range(start, len(text)) if text[i] in ".؛؟،"), len(text))
    clause = re.sub(r"(?<!\w)ولا (?=(?:أي )?(?!يوجد|توجد)\w)", "و", text[start:end])
    clause = re.sub(
        r"(?<!\w)(و?)أي (\w+)",
        lambda match: match[1] + words.OBJECTS.get(match[2], match[2]),
        clause,
    )
    clause = re.sub(r" (?:قط|أبدًا)(?!\w)| بعد$", "", clause)
    return text[:start] + clause + text[end:]


def _accusative(before: str, adjective: str) -> str:
    """An adjective that has lost its "غير" takes the ending which "غير" carried unseen after verbs
    such as "remain".
    """
    after_verb = re.search(r"(?<!\w)[وف]?(?:يبقى|تبقى|يكون|تكون|كان|كانت|بقي|عد) [^.؛،؟]*$", before)
    plain = not re.search(r"(?:ة|ين|ات|ى|ا)$|^[وف]?ال", adjective)
    return adjective + "ًا" if after_verb and plain else adjective


def _negation_dropped(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    rare, plain = (
        _opposites(source, gold, rules) for rules in (words.RARE_NEGATIONS, words.PLAIN_NEGATIONS)
    )
    chosen = _pick(rng, rare if rare and (not plain or rng.random() < 0.8) else plain)
    if chosen is None:
        return None
    slot, match, opposite, english = chosen
    if opposite == match.group():
        return None
    if re.match(r"[وف]?غير ", match.group()):
        opposite = _accusative(match.string[: match.start()], opposite)
    text = match.string[: match.start()] + opposite + match.string[match.end() :]
    particle = bool(re.match(r"[وف]?(?:لا|لم|ليست?|[يت]نفي|تنعدم)(?!\w)", match.group().strip()))
    if particle:
        text = _without_echo(text, match.start() + len(opposite))
    used = (english, match.group().strip(), opposite.strip())
    return put(gold, slot, text), f"{used[1]} became {used[2]}", used


def _negation_added(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    # "Does he take" and "does he not take" ask the same; "what does he not take" nobody asks.
    asked = r"(?<!\w)[وف]?(?:هل|ماذا|كيف|متى|كم|لماذا)(?!\w)[^.؟؛]*$"
    plain, rare = (
        [
            case
            for case in _opposites(source, gold, rules)
            if not re.search(asked, case[1].string[: case[1].start()])
        ]
        for rules in (words.ADDED_NEGATIONS, words.RARE_ADDED)
    )
    chosen = _pick(rng, rare if rare and (not plain or rng.random() < 0.7) else plain)
    if chosen is None:
        return None
    slot, match, opposite, english = chosen
    used = (english, match.group().strip(), opposite.strip())
    return _with(gold, slot, match, opposite), f"{used[1]} became {used[2]}", used


def _except_dropped(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    slot = ("question", -1)
    english = re.search(r"\b(EXCEPT|except|NOT)\b", get(source, slot))
    found = [
        (m, m.expand(other))
        for pattern, other in words.EXCEPTIONS
        for m in re.finditer(pattern, get(gold, slot))
    ]
    if english is None or not found:
        return None
    # A stem asks at its end; an earlier "not" belongs to the case.
    match, other = max(found, key=lambda pair: pair[0].start())
    return (
        _with(gold, slot, match, other),
        f"{match.group().strip()} lost",
        (english.group(), match.group().strip()),
    )


# Options, drugs, sides


def _options_swapped(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    options = gold.get("options", [])
    found = [
        (i, j)
        for i in range(len(options))
        for j in range(i)
        if options[i].strip() != options[j].strip()
    ]
    if not found:
        return None
    i, j = rng.choice(found)
    return (
        put(put(gold, ("options", i), options[j]), ("options", j), options[i]),
        f"options {j + 1} and {i + 1} changed places",
        (),
    )


def _option_lost(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    if len(gold.get("options", [])) < 2:
        return None
    changed, index = copy.deepcopy(gold), rng.randrange(len(gold["options"]))
    del changed["options"][index]
    return changed, f"option {index + 1} lost", ()


def _option_duplicated(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    options = gold.get("options", [])
    found = [
        (i, j)
        for i in range(len(options))
        for j in range(len(options))
        if options[i].strip() != options[j].strip()
    ]
    if not found:
        return None
    i, j = rng.choice(found)
    return (
        put(gold, ("options", j), options[i]),
        f"option {i + 1} stands in place of option {j + 1}",
        (),
    )


def _drug_replaced(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    found = []
    for slot in slots(gold):
        for english, (spellings, other) in words.DRUGS.items():
            # The prefix must be a particle: "كينين" is also the end of other words.
            pattern = rf"(?<!\w)((?:[وف])?(?:ال|بال|لل|كال|[بلك])?)({'|'.join(spellings)})(?!\w)"
            stands = _trigger(english, get(source, slot)) and re.search(pattern, get(gold, slot))
            if stands and not any(other in get(gold, chosen) for chosen in slots(gold)):
                found.append((slot, english, pattern, stands[2], other))
    chosen = _pick(rng, found)
    if chosen is None:
        return None
    slot, english, pattern, spelling, other = chosen
    text = re.sub(pattern, lambda match: match[1] + other, get(gold, slot))
    return put(gold, slot, text), f"{spelling} became {other}", (english, spelling, other)


def _exchange(text: str, pairs: tuple[tuple[str, str], ...], rng: random.Random) -> tuple[str, str]:
    """(text with one or all words of the pairs exchanged, what was done); ("", "") without such a
    word.
    """
    partner = {a: b for a, b in pairs} | {b: a for a, b in pairs}
    names = "|".join(sorted(partner, key=len, reverse=True))
    pattern = rf"(?<!\w)((?:[وف])?(?:ال|بال|لل|[بل])?)({names})(ه|ها|ك|ي|ًا|ا)?(?!\w)"
    found = list(re.finditer(pattern, text))
    if not found:
        return "", ""
    chosen = found if len(found) > 1 and rng.random() < 0.5 else [rng.choice(found)]
    for match in reversed(chosen):
        text = (
            text[: match.start()]
            + match[1]
            + partner[match[2]]
            + (match[3] or "")
            + text[match.end() :]
        )
    return text, "; ".join(
        f"{match.group()} became {match[1]}{partner[match[2]]}{match[3] or ''}" for match in chosen
    )


def _laterality_swapped(
    source: dict, gold: dict, rng: random.Random, _: dict | None
) -> Edit | None:
    # "right now", "the right thing" and "left the hospital" are no sides.
    side = (
        r"right(?! now| away| thing| answer| dose| day)|left(?! the | untreated| alone|"
        r" over)|bilateral"
    )
    found = [slot for slot in slots(gold) if _trigger(side, get(source, slot))]
    edits = []
    for slot in found:
        text = get(gold, slot)
        both = re.sub(r"(?<!\w)(ال)?ثنائي(ة)? الجانب(?!\w)", r"\1أحادي\2 الجانب", text, count=1)
        changed, note = (
            (both, "bilateral became unilateral")
            if both != text
            else _exchange(text, words.SIDES, rng)
        )
        if changed:
            edits.append((put(gold, slot, changed), note, ()))
    return _pick(rng, edits)


def _level_swapped(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    edits = []
    for slot in slots(gold):
        if _trigger(r"upper|lower|superior|inferior", get(source, slot)):
            changed, note = _exchange(get(gold, slot), words.LEVELS, rng)
            if changed:
                edits.append((put(gold, slot, changed), note, ()))
    return _pick(rng, edits)


def _sex_swapped(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    chosen = _pick(rng, _opposites(source, gold, words.SEXES))
    if chosen is None:
        return None
    slot, match, other, _english = chosen
    before, tail = match.string[: match.start()], match.string[match.end() :]
    woman = other.endswith(("ة", "أنثى", "تي"))
    # The verb before and the word or two after agree; what is further on stays as it was.
    for man_verb, woman_verb in words.AGREEING:
        wrong, right = (man_verb, woman_verb) if woman else (woman_verb, man_verb)
        before = re.sub(rf"(?<!\w)([وف]?){wrong} $", rf"\1{right} ", before)
    if woman:
        tail = re.sub(r"^( مصاب)(?!\w)", r"\1ة", re.sub(r"^( (?:عمر|وزن)ه)(?!\w)", r"\1ا", tail))
    else:
        tail = re.sub(r"^( مصاب)ة(?!\w)", r"\1", re.sub(r"^( (?:عمر|وزن)ه)ا(?!\w)", r"\1", tail))
    return put(gold, slot, before + other + tail), f"{match.group()} became {other}", ()


# Language and length


def _sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.؟?؛;!])\s+", text) if part]


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _half_untranslated(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    found = [
        slot
        for slot in slots(gold)
        if len(get(gold, slot)) >= 70 and _letters(get(source, slot)) >= 60
    ]
    slot = _pick(rng, found)
    if slot is None:
        return None
    arabic, english = _sentences(get(gold, slot)), _sentences(get(source, slot))
    shares = [
        (len(" ".join(arabic[:cut])) / len(get(gold, slot)), cut) for cut in range(1, len(arabic))
    ]
    share, cut = min(shares, key=lambda pair: abs(pair[0] - 0.5), default=(0.0, 0))
    # Between two sentences where both texts have as many and one ends near the middle, else between
    # two words.
    if len(arabic) == len(english) and 0.3 <= share <= 0.7:
        first, second = arabic[:cut], english[cut:]
    else:
        wording, meant = get(gold, slot).split(), get(source, slot).split()
        first, second = wording[: len(wording) // 2], meant[len(meant) // 2 :]
    return put(gold, slot, " ".join(first + second)), "the second half is English", ()


def _untranslated_copy(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    found = [
        s
        for s in slots(gold)
        if _letters(get(source, s)) >= 12
        and " " in get(source, s)
        and get(source, s) != get(gold, s)
    ]
    if not found:
        return None
    if rng.random() < 0.4 and slots(source) == slots(gold):
        return copy.deepcopy(source), "the whole row is English", ()
    slot = rng.choice(found)
    return put(gold, slot, get(source, slot)), f"{slot[0]} is English", ()


def _duplicated(
    source: dict, gold: dict, rng: random.Random, neighbour: dict | None
) -> Edit | None:
    if (
        neighbour is None
        or ("turns" in neighbour) != ("turns" in gold)
        or get(neighbour, _main(neighbour)) == get(gold, _main(gold))
    ):
        return None
    changed = copy.deepcopy(gold)
    for key in ("question", "options", "turns"):
        if key in gold and key in neighbour:
            changed[key] = copy.deepcopy(neighbour[key])
    return changed, "question and options are the neighbour's", ()


def _truncated(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    slot = _pick(rng, [slot for slot in slots(gold) if len(get(gold, slot)) >= 70])
    if slot is None:
        return None
    text = get(gold, slot)
    cut = int(min(len(text) * rng.uniform(0.3, 0.72), len(text) - 35))
    # Half of the breaks fall inside a word, as a token limit does; never on an end of sentence,
    # which would be an omission.
    if rng.random() < 0.5:
        cut = text.rindex(" ", 0, cut)
    kept = text[:cut].rstrip(" .؟،؛:")
    return put(gold, slot, kept), f"{len(text) - len(kept)} of {len(text)} characters lost", ()


def _preamble_added(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    preamble = rng.choice(words.PREAMBLES)
    slot = _main(gold)
    return (
        put(gold, slot, preamble + rng.choice((" ", "\n", "\n\n")) + get(gold, slot)),
        f"begins with {preamble}",
        (),
    )


def _refusal_inserted(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    refusal = rng.choice(words.REFUSALS)
    slot = rng.choice([slot for slot in slots(gold) if slot[0] in ("question", "answer", "turns")])
    text = refusal if rng.random() < 0.6 else f"{get(gold, slot)} {refusal}"
    return put(gold, slot, text), f"{slot[0]} holds the refusal {refusal}", ()


def _repetition_loop(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    slot = _pick(rng, [slot for slot in slots(gold) if len(get(gold, slot).split()) >= 6])
    if slot is None:
        return None
    wording, size, times = get(gold, slot).split(), rng.randint(2, 5), rng.randint(6, 20)
    start = rng.randrange(len(wording) - size + 1)
    loop = wording[start : start + size]
    rest = wording[start + size :] if rng.random() < 0.5 else []
    return (
        put(gold, slot, " ".join(wording[: start + size] + loop * times + rest)),
        f"{' '.join(loop)} repeated {times} times",
        (),
    )


@cache
def _presentation() -> dict[int, str]:
    """Each Arabic letter's isolated presentation form."""
    forms = (chr(code) for code in range(0xFE80, 0xFEF5))
    named = ((unicodedata.decomposition(form).split(), form) for form in forms)
    return {
        int(parts[1], 16): form
        for parts, form in named
        if len(parts) == 2 and parts[0] == "<isolated>"
    }


def _mojibake(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    slot = rng.choice([slot for slot in slots(gold) if len(get(gold, slot)) >= 12] or slots(gold))
    text, style = (
        get(gold, slot),
        rng.choice(("replacement", "presentation", "latin", "question marks", "windows")),
    )
    if style == "presentation":
        changed = text.translate(_presentation())
    elif style == "latin":
        changed = text.encode().decode("latin-1")
    elif style == "windows":
        changed = text.encode("cp1256", "replace").decode("latin-1")
    else:
        sign = "\ufffd" if style == "replacement" else "?"
        share = 0.25 if style == "replacement" else 1.0
        changed = "".join(
            sign if c.isalpha() and not c.isascii() and rng.random() < share else c for c in text
        )
    return put(gold, slot, changed), f"{style} in {slot[0]}", ()


def _markup_leak(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    slot = rng.choice(slots(gold))
    text, mark = get(gold, slot), rng.choice(words.PLACEHOLDERS)
    changed = rng.choice(
        (
            f"```json\n{text}\n```",
            f"```\n{text}",
            json.dumps({slot[0]: text}, ensure_ascii=False),
            f'{text}"}}',
            f"**{text}**",
            f"## {text}",
            f"<p>{text}</p>",
            f"{text} {mark}",
            f"{mark} {text}",
        )
    )
    return put(gold, slot, changed), f"markup in {slot[0]}", ()


def _prompt_leak(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    slot, wording = _main(gold), rng.choice(words.INSTRUCTIONS)
    text = get(gold, slot)
    return (
        put(gold, slot, f"{wording} {text}" if rng.random() < 0.6 else f"{text} {wording}"),
        f"instruction repeated: {wording}",
        (),
    )


def _turn_roles(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    turns = copy.deepcopy(gold.get("turns", []))
    if len({turn["role"] for turn in turns}) < 2:
        return None
    for turn in turns:
        turn["role"] = "doctor" if turn["role"] == "patient" else "patient"
    return {**copy.deepcopy(gold), "turns": turns}, "patient and doctor changed roles", ()


def _turn_lost(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    turns = copy.deepcopy(gold.get("turns", []))
    if len(turns) < 2:
        return None
    index = rng.randrange(len(turns))
    del turns[index]
    return {**copy.deepcopy(gold), "turns": turns}, f"turn {index + 1} lost", ()


# Harmless variants: same meaning, other writing


def _arabic_indic_digits(
    source: dict, gold: dict, rng: random.Random, _: dict | None
) -> Edit | None:
    # A digit in a Latin name stays as it is: no one writes B١٢.
    pattern = r"(?<![A-Za-z\d])(?<![A-Za-z]-)\d[\d.,]*(?![A-Za-z])"
    changed = _swap_all(
        gold, lambda text: re.sub(pattern, lambda match: match[0].translate(INDIC), text)
    )
    return changed, "all digits are Arabic-Indic", ()


def _eastern_decimal_signs(
    source: dict, gold: dict, rng: random.Random, _: dict | None
) -> Edit | None:
    def change(match: re.Match) -> str:
        return match.group().replace(".", "٫").replace(",", "٬").translate(INDIC)

    pattern = r"(?<![A-Za-z\d.,])\d+(?:,\d{3})+(?:\.\d+)?(?!\d)|(?<![A-Za-z\d.,])\d+\.\d+(?![\d.])"
    return (
        _swap_all(gold, lambda text: re.sub(pattern, change, text)),
        "Arabic decimal and thousands signs",
        (),
    )


def _abbreviation_expanded(
    source: dict, gold: dict, rng: random.Random, _: dict | None
) -> Edit | None:
    chosen = {short: rng.choice(longs) for short, longs in words.SPELLINGS.items()}

    def change(text: str) -> str:
        for short, long in chosen.items():
            text = re.sub(rf"(?<=\d ){re.escape(short)}(?!\w)|(?<=غ/){short}(?!\w)", long, text)
        for short, long in words.ABBREVIATIONS.items():
            # Once, at its first mention, and never inside a longer Latin term, a bracket or a
            # definite phrase.
            text = re.sub(
                rf"(?<=[\u0621-\u064a] )(?<!فيروس ){short}(?=[ .،؛؟]?(?: ?[\u0621-\u064a]|$))",
                long,
                text,
                count=1,
            )
        return text

    return _swap_all(gold, change), "units and abbreviations written out", ()


def _vowel_marks(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    names = "|".join(words.VOWELLED)
    # "من" before a verb is "who" and not "from".
    pattern = rf"(?<!\w)({names})(?!\w)(?<!من(?= ل[ما] ))(?<!من(?= ي))"
    changed = _swap_all(
        gold, lambda text: re.sub(pattern, lambda match: words.VOWELLED[match[1]], text)
    )
    marked = sum(
        len(re.findall(r"\w*[\u064e-\u0652]\w*", get(changed, slot))) for slot in slots(changed)
    )
    return (changed, f"vowel marks on {marked} words", ()) if marked > 1 else None


def _clause_reordered(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    # Two measured values of a list, each with its name and unit, or a duration moved to the front
    # of its own clause.
    value = r"و(?:النبض|ضغط الدم|معدل التنفس) \d+(?:/\d+)? (?:نبضة/دقيقة|ملم زئبق|مرة/دقيقة)"
    rules = (
        (rf"({value})، ({value})", r"\2، \1"),
        (rf"((?<!\w)(?:لديه|لديها|لدي)) ([^\d.،؛؟]{{3,40}}?) ({DURATION})(?=[.؛؟])", r"\1 \3 \2"),
    )
    found = [
        (slot, match, match.expand(other))
        for slot in slots(gold)
        for pattern, other in rules
        for match in re.finditer(pattern, get(gold, slot))
    ]
    chosen = _pick(rng, found)
    if chosen is None:
        return None
    slot, match, other = chosen
    return _with(gold, slot, match, other), f"{match.group()} became {other}", ()


def _hamza_spelling(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    return (
        _swap_all(gold, lambda text: re.sub(r"(?<!\w)(ال)?[أإ](?=\w)", r"\1ا", text)),
        "no hamza on an initial alif",
        (),
    )


def _synonym(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    found = [
        (s, m, other)
        for s in slots(gold)
        for pattern, other in words.SYNONYMS
        for m in re.finditer(pattern, get(gold, s))
    ]
    chosen = _pick(rng, found)
    if chosen is None:
        return None
    slot, match, other = chosen
    return _with(gold, slot, match, other), f"{match.group()} became {other}", ()


def _punctuation(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    return (
        _swap_all(gold, lambda text: text.translate(str.maketrans("،؛؟", ",;?"))),
        "Latin commas and question marks",
        (),
    )


def _number_word(source: dict, gold: dict, rng: random.Random, _: dict | None) -> Edit | None:
    # A number in a range or a list of numbers keeps its digits: half in words reads oddly.
    pattern = (
        r"(?<![\d.,/-])(?<!\d إلى )(?<!\d أو )(?<!\d و)(?<!\w)([3-9]|10)"
        rf" ({'|'.join(words.COUNTED)})(?![\w/])"
    )
    found = [
        (slot, match) for slot in slots(gold) for match in re.finditer(pattern, get(gold, slot))
    ]
    chosen = _pick(rng, found)
    if chosen is None:
        return None
    slot, match = chosen
    wording = f"{words.COUNTED[match[2]][int(match[1])]} {match[2]}"
    return _with(gold, slot, match, wording), f"{match.group()} became {wording}", ()


_SPECIAL = {"duplicated_from_neighbour": _duplicated}
_MAKERS: dict[str, Callable[[dict, dict, random.Random, dict | None], Edit | None]] = {
    kind: _SPECIAL.get(kind) or globals()[f"_{kind}"] for kind in (*KINDS, *HARMLESS)
}


# The two ways in


def damage(
    kind: str, source: dict, gold: dict, rng: random.Random, neighbour: dict | None = None
) -> Damage | None:
    """The gold translation with one damage of a kind (or one harmless variant), or None when the
    pair has no slot for it.

    `neighbour` is another row's gold, needed by `duplicated_from_neighbour` only. Equal state of
    `rng` gives an equal result; the result differs from `gold`, which is never changed. Raises
    KeyError for an unknown kind.
    """
    edit = _MAKERS[kind](source, copy.deepcopy(gold), rng, neighbour)
    if edit is None or edit[0] == gold:
        return None
    values, note, used = edit
    return Damage(kind, KINDS.get(kind, "none"), values, used, note)


def gold_pairs() -> list[tuple[str, dict, dict]]:
    """(row id, English values, Arabic gold values) of the sample rows and of `EXTRA_PAIRS`."""
    records = [
        record
        for path in sources.find_files(SAMPLE)
        for record in sources.read_file(path, kit=True)
    ]
    arabic = {record.parent_id: record for record in records if record.lang == "ar"}
    pairs = [
        (r.id, text_fields(r), text_fields(arabic[r.id]))
        for r in records
        if r.lang == "en" and r.id in arabic
    ]
    extra = [json.loads(line) for line in EXTRA_PAIRS.read_text(encoding="utf-8").splitlines()]
    return pairs + [(row["id"], row["en"], row["ar"]) for row in extra]


def benchmark(seed: int) -> Iterator[tuple[str, str, dict, Damage]]:
    """(row id, kind, English values, damage) for every pair and every kind, harmless ones included,
    that finds a slot in it.

    Each case has its own random state, so that adding a pair or a kind changes no other case. A
    row's neighbour is the next row of its shape.
    """
    pairs = gold_pairs()
    for chosen, (row_id, source, gold) in enumerate(pairs):
        following = pairs[chosen + 1 :] + pairs[:chosen]
        neighbour = next((other for _, _, other in following if set(other) == set(gold)), None)
        for kind in _MAKERS:
            made = damage(kind, source, gold, random.Random(f"{seed}:{row_id}:{kind}"), neighbour)
            if made:
                yield row_id, kind, source, made
