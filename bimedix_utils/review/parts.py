"""The parts of a queued row, as every editor shows them, and what a reviewer changed in them."""

import difflib
from typing import Any

from ..core.errors import InputError
from ..core.records import Record
from ..translation.texts import named_texts, text_fields


def _aligned_parts(before: dict, after: dict) -> list[tuple[str, str, str]]:
    """(part name, text before, text after); a part that one side lacks is empty there.

    Turns are matched by number, whoever speaks.
    """

    def by_key(values: dict) -> dict[str, tuple[str, str]]:
        return {" ".join(name.split()[:2]): (name, text) for name, text in named_texts(values)}

    left, right = by_key(before), by_key(after)
    names = {key: name for key, (name, _) in (right | left).items()}
    keys = [*left, *(key for key in right if key not in left)]
    return [(names[k], left.get(k, ("", ""))[1], right.get(k, ("", ""))[1]) for k in keys]


def source_values(row: dict) -> dict:
    """The English values of a state or a queued row."""
    return text_fields(Record(**row["record"]))


def side_by_side(row: dict) -> list[tuple[str, str, str]]:
    """(part name, source, candidate) of a queued row: what a reviewer compares."""
    return _aligned_parts(source_values(row), row["best"]["values"])


def text_shape(value: Any) -> Any:
    """The structure of a text: keys, number of options or turns, speakers and types; no words."""
    if isinstance(value, dict):
        return {k: v if k == "role" else text_shape(v) for k, v in sorted(value.items())}
    return [text_shape(part) for part in value] if isinstance(value, list) else type(value).__name__


def same_shape(row: dict) -> bool:
    """True when the candidate has the structure of the English record.

    Only then can it be approved as it stands.
    """
    return text_shape(row["best"]["values"]) == text_shape(source_values(row))


def corrected_values(row: dict, corrections: dict[str, str]) -> dict:
    """The candidate with some parts replaced by name, in the structure of the English record.

    A part that the source lacks is left out. Raises `InputError` when nothing changes, a part would
    stay empty, or a part is corrected that the source does not have.
    """
    source = source_values(row)
    known = [name for name, _ in named_texts(source)]
    if extra := [name for name, text in corrections.items() if text.strip() and name not in known]:
        raise InputError(
            f"{extra[0]} is corrected, but the source has no such part and an edit leaves it out:"
            " clear that correction"
        )
    candidates = {name: candidate for name, _, candidate in side_by_side(row)}
    texts = {name: corrections.get(name, "").strip() or candidates[name] for name in known}
    if empty := [name for name in known if not texts[name].strip()]:
        raise InputError(f"{empty[0]} has no translation: an edit must give one")
    new, values = iter(texts.values()), {}  # in the order of the source's own texts
    for key, value in source.items():
        if key == "turns":
            values[key] = [{**turn, "text": next(new)} for turn in value]
        else:
            values[key] = next(new) if isinstance(value, str) else [next(new) for _ in value]
    if values == row["best"]["values"]:
        raise InputError("an edit without any correction: approve it, or correct a part")
    return values


def row_findings(row: dict) -> list[str]:
    """What the checks and the scorer found, one sentence each."""
    spans = [
        f"{error['category']}, {error['severity']}: {error['source']!r} / {error['target']!r}"
        f" {error['explanation']}".rstrip()
        for error in row["best"].get("errors", [])
    ]
    return [*row["best"].get("flags", []), *spans]


def word_differences(before: dict, after: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """(part name, [(kind, words)]) of the parts whose words differ, in reading order.

    Kinds are `equal`, `delete` and `insert`. White space is not compared: a stored text has single
    spaces.
    """
    result = []
    for name, *texts in _aligned_parts(before, after):
        old, new = (text.split() for text in texts)
        if old == new:
            continue
        pieces = []
        matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
        for kind, i, j, k, m in matcher.get_opcodes():
            if kind == "equal":
                pieces.append((kind, " ".join(old[i:j])))
                continue
            both = (("delete", old[i:j]), ("insert", new[k:m]))
            pieces += [(name, " ".join(words)) for name, words in both if words]
        result.append((name, pieces))
    return result
