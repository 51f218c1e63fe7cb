"""The human gate: a queue of translations, reviewers' decisions, and a merge that loses nothing.

All rows the rounds could not accept, plus a stratified, seeded sample of those they did, go to a
reviewer, as in the paper; a share goes to two. A decision names the hash of the text it was made
on: when the text changes, the old decision is void.
"""

import difflib
from collections import defaultdict
from collections.abc import Iterable

from ..core.errors import InputError
from ..core.records import Record
from ..core.text import digest, nfc
from ..translation.texts import flat_texts, named_texts, text_fields
from .decisions import (
    COLUMNS,
    VERDICTS,
    Decision,
    append_decision,
    is_simulated,
    latest,
    mend,
    person,
    read_decisions,
    write_decisions,
)

# The file of decisions is part of the gate: whoever reviews needs one import only.
POLICIES = ("hold", "accept_high_scores")
BANDS = (0, 50, 70, 80, 85, 90, 95)  # the lowest score of each band; the last one ends at 100


# The queue


def _place(row_id: str, seed: int, purpose: str) -> float:
    """A seeded number from 0 up to 1 that depends on the id alone."""
    return int(digest(f"{purpose}:{seed}:{row_id}", 8), 16) / 2**32


def sampled(row_id: str, share: float, seed: int, purpose: str = "review") -> bool:
    """True for a seeded `share` (0..1) of ids; decided by the id's own hash, so adding rows moves
    no other row in or out.
    """
    return _place(row_id, seed, purpose) < share


def stratum(state: dict) -> str:
    """The source of a row and the band of its score, such as `toy 90-94`; the unit the sample is
    drawn from.
    """
    score = state["best"].get("score")
    if score is None:
        return f"{state['record']['source']} not scored"
    low = max(edge for edge in BANDS if edge <= score)
    high = min((edge - 1 for edge in BANDS if edge > score), default=100)
    return f"{state['record']['source']} {low}-{high}"


def queue(states: Iterable[dict], share: float, seed: int, double_share: float = 0.0) -> list[dict]:
    """The rows a reviewer must see, in order, each with three keys more:

    * `queue_reason`: `low` (not accepted by the rounds; all of them) or `sample` (a high score
      drawn);
    * `stratum`: source and score band. Of each stratum of accepted rows those are drawn whose own
      hash is under `share` (0..1), and at least one; only such a lone one may give way to another
      when rows are added. A share of 0 draws none;
    * `reviewers`: 2 for a seeded `double_share` (0..1) of the queue, else 1.

    `states` are the rows of 03's `states.jsonl`. Rows without any version have nothing to review
    and are not in the queue.
    """
    strata: dict[str, list[dict]] = defaultdict(list)
    states = [state for state in states if state["best"] is not None]
    for state in states:
        if state["state"] == "accept" and share > 0:
            strata[stratum(state)].append(state)
    drawn = set()
    for members in strata.values():
        under = {state["id"] for state in members if sampled(state["id"], share, seed)}
        drawn |= under or {
            min(members, key=lambda state: _place(state["id"], seed, "review"))["id"]
        }
    result = []
    for state in states:
        if state["state"] == "human" or state["id"] in drawn:
            reason = "low" if state["state"] == "human" else "sample"
            reviewers = 2 if sampled(state["id"], double_share, seed, "double") else 1
            result.append(
                {**state, "queue_reason": reason, "stratum": stratum(state), "reviewers": reviewers}
            )
    return result


# The parts of a text, as every editor shows them


def _pair(before: dict, after: dict) -> list[tuple[str, str, str]]:
    """(part name, text before, text after); a part that one side lacks is empty there. Turns pair
    by number, whoever speaks.
    """

    def slots(values: dict) -> dict[str, tuple[str, str]]:
        return {" ".join(name.split()[:2]): (name, text) for name, text in named_texts(values)}

    left, right = slots(before), slots(after)
    keys = [*left, *(key for key in right if key not in left)]
    return [
        (left.get(key, right.get(key))[0], left.get(key, ("", ""))[1], right.get(key, ("", ""))[1])
        for key in keys
    ]


def source_values(row: dict) -> dict:
    """The English values of a state or a queued row."""
    return text_fields(Record(**row["record"]))


def side_by_side(row: dict) -> list[tuple[str, str, str]]:
    """(part name, source, candidate) of a queued row: what a reviewer compares."""
    return _pair(source_values(row), row["best"]["values"])


def shape(value: object) -> object:
    """The form of a text: its keys, the number of options or turns, the speakers, and the types;
    not the words.
    """
    if isinstance(value, dict):
        return {key: part if key == "role" else shape(part) for key, part in sorted(value.items())}
    return [shape(part) for part in value] if isinstance(value, list) else type(value).__name__


def whole(row: dict) -> bool:
    """True when the candidate has the form of the English record: only then can it be approved as
    it stands.
    """
    return shape(row["best"]["values"]) == shape(source_values(row))


def corrected(row: dict, corrections: dict[str, str]) -> dict:
    """The candidate with some parts replaced by name, in the form of the English record; a part the
    source lacks is left out.

    Raises `InputError` when nothing changes, a part would stay empty, or a part is corrected that
    the source does not have.
    """
    source = source_values(row)
    known = {name for name, _ in named_texts(source)}
    if extra := [name for name, text in corrections.items() if text.strip() and name not in known]:
        raise InputError(
            f"{extra[0]} is corrected, but the source has no such part and an edit leaves it out:"
            " clear that correction"
        )
    texts = {
        name: corrections.get(name, "").strip() or candidate
        for name, _, candidate in side_by_side(row)
    }
    if bare := [name for name in texts if name in known and not texts[name].strip()]:
        raise InputError(f"{bare[0]} has no translation: an edit must give one")

    def fill(key: str, value: object) -> object:
        if isinstance(value, str):
            return texts[key]
        if key == "turns":
            return [
                {**turn, "text": texts[f"turn {number} {turn['role']}"]}
                for number, turn in enumerate(value, start=1)
            ]
        return [texts[f"{key.removesuffix('s')} {number}"] for number in range(1, len(value) + 1)]

    values = {key: fill(key, value) for key, value in source.items()}
    if values == row["best"]["values"]:
        raise InputError("an edit without any correction: approve it, or correct a part")
    return values


def decide(
    where: str,
    row: dict,
    verdict: str,
    corrections: dict[str, str],
    who: str,
    when: str,
    note: str,
    seconds: float | None,
) -> Decision:
    """A decision with its edit made from corrections by part, or an `InputError` that begins with
    `where`.
    """
    if verdict not in VERDICTS:
        raise InputError(f"{where}: verdict {verdict!r}; wanted one of {', '.join(VERDICTS)}")
    if not who:
        raise InputError(
            f"{where}: nobody is named as reviewer; fill the column or name one when reading"
        )
    if corrections and verdict != "edit":
        raise InputError(
            f"{where}: {', '.join(corrections)} corrected, but the verdict is {verdict};"
            " corrections need the verdict edit"
        )
    if verdict == "approve" and not whole(row):
        wanted = ", ".join(part for part, _ in named_texts(source_values(row)))
        raise InputError(
            f"{where}: the candidate does not have the parts of its source ({wanted}); edit or"
            " reject it"
        )
    try:
        edited = corrected(row, corrections) if verdict == "edit" else None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return Decision(row["id"], verdict, edited, who, when, row["best"]["text_hash"], note, seconds)


def findings(row: dict) -> list[str]:
    """What the rules and the scorer found, one sentence each."""
    best = row["best"]
    spans = [
        f"{error['category']}, {error['severity']}: {error['source']!r} / {error['target']!r}"
        f" {error['explanation']}".rstrip()
        for error in best.get("errors", [])
    ]
    return [*best.get("flags", []), *spans]


def differences(before: dict, after: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """(part name, [(kind, words)]) of the parts whose words differ; kinds are `equal`, `delete` and
    `insert`, in reading order.

    White space is not compared: a stored text has single spaces.
    """
    result = []
    for name, old, new in _pair(before, after):
        a, b = old.split(), new.split()
        if a == b:
            continue
        pieces = []
        for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            if kind == "equal":
                pieces.append(("equal", " ".join(a[i:j])))
                continue
            pieces += [("delete", " ".join(a[i:j]))] * (j > i) + [("insert", " ".join(b[k:m]))] * (
                m > k
            )
        result.append((name, pieces))
    return result


# Merging


def word(decision: Decision) -> tuple[str, list[str]]:
    """What a decision says, for comparing: its verdict and the edited texts, white space folded."""
    return decision.verdict, (
        [nfc(text) for text in flat_texts(decision.edited)] if decision.edited else []
    )


def _checked(decision: Decision, state: dict) -> None:
    """Raises `InputError` for a decision that would make a row of another form than the English
    record's.
    """
    if decision.edited is not None:
        source = source_values(state)
        if shape(decision.edited) != shape(source):
            raise InputError(
                f"decision on {decision.row_id}: the edit has the form {shape(decision.edited)};"
                f" wanted {shape(source)}"
            )
        if not all(text.strip() for text in flat_texts(decision.edited)):
            raise InputError(f"decision on {decision.row_id}: the edit leaves a text empty")
    if decision.verdict == "approve" and not whole(state):
        raise InputError(
            f"decision on {decision.row_id}: approves a text that has another form than its source;"
            " edit or reject it"
        )


def settle(decisions: list[Decision], reviewers: int) -> tuple[Decision | None, str]:
    """(the decision that stands, or None while the row waits; why, in words) from all decisions on
    one text, in file order.

    Each reviewer's last word counts. Equal words of enough reviewers stand. When words differ, the
    row waits until a further reviewer decides after that; the last such word stands.
    """
    last = {
        person(decision.reviewer): (place, decision) for place, decision in enumerate(decisions)
    }
    people = list(last)
    words = [last[name] for name in people]
    first = words[0][1]
    odd = next((i for i, (_, decision) in enumerate(words) if word(decision) != word(first)), None)
    if odd is None:
        if len(people) < reviewers:
            return None, "waits for a second reviewer"
        return (
            first,
            f"{first.verdict} by {' and '.join(decision.reviewer for _, decision in words)}",
        )
    heard = ", ".join(f"{decision.reviewer} {decision.verdict}" for _, decision in words[: odd + 1])
    since = max(place for place, _ in words[: odd + 1])
    later = [(place, decision) for place, decision in words[odd + 1 :] if place > since]
    if not later:
        return (
            None,
            (
                "reviewers disagree:"
                f" {', '.join(f'{decision.reviewer} {decision.verdict}' for _, decision in words)}"
            ),
        )
    final = max(later, key=lambda pair: pair[0])[1]
    return final, f"{final.verdict} by {final.reviewer}, after {heard}"


def merge(
    states: list[dict], queued: list[dict], decisions: list[Decision], policy: str
) -> dict[str, tuple[str, dict | None, str]]:
    """{row id: (status, values, note)} for every state: a pure function of its arguments.

    A decided row follows its decisions (see `settle`), in the queue or not: what a person decided
    stays decided when another share or seed queues other rows. An undecided one waits (`held`),
    except that under `accept_high_scores` a sampled high score passes. A decision whose text has
    changed is void and counts as none. Raises `InputError` for a decision on a row that has no
    translation here, for an edit of another form than the English record, and for the approval of a
    text of another form.
    """
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r}; wanted one of {', '.join(POLICIES)}")
    waiting = {state["id"]: state for state in queued}
    reviewable = {state["id"]: state for state in states if state["best"]}
    given: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        state = reviewable.get(decision.row_id)
        if state is None:
            raise InputError(
                f"decision on {decision.row_id}: no translation of that row was made in this run"
            )
        if decision.text_hash == state["best"]["text_hash"]:
            given[decision.row_id].append(decision)
    for decision in (decision for group in given.values() for decision in latest(group)):
        _checked(decision, reviewable[decision.row_id])
    void = {decision.row_id for decision in decisions} - set(given)
    result: dict[str, tuple[str, dict | None, str]] = {}
    for state in states:
        row_id, values = state["id"], state["best"]["values"] if state["best"] else None
        if row_id in given:
            final, note = settle(given[row_id], waiting.get(row_id, {}).get("reviewers", 1))
            texts = (
                {"approve": values, "edit": final.edited, "reject": None}[final.verdict]
                if final
                else None
            )
            result[row_id] = (
                "held" if final is None else "rejected" if final.verdict == "reject" else "ok",
                texts,
                note,
            )
        elif row_id in waiting:
            passes = policy == "accept_high_scores" and waiting[row_id]["queue_reason"] == "sample"
            note = (
                "high score, not reviewed"
                if passes
                else "decision void: the text changed"
                if row_id in void
                else "waits for review"
            )
            result[row_id] = ("ok", values, note) if passes else ("held", None, note)
        elif state["state"] == "accept":
            result[row_id] = ("ok", values, "accepted by score and checks")
        else:
            result[row_id] = (state["state"], None, state["note"])
    return result
