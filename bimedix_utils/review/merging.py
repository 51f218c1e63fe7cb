"""From decisions to rows: which decision stands, and what becomes of every translation."""

from collections import defaultdict

from ..core.errors import InputError
from ..core.records import Record
from ..core.text import nfc
from ..translation.texts import flat_texts, text_fields, translated_record
from .decisions import ReviewDecision, latest_decisions, reviewer_key
from .parts import same_shape, source_values, text_shape

POLICIES = ("hold", "accept_high_scores")
_BY_SCORE, _UNREVIEWED = "accepted by score and checks", "high score, not reviewed"
Merged = dict[str, tuple[str, dict | None, str]]  # row id -> (status, values, note)


def decision_content(decision: ReviewDecision) -> tuple[str, list[str]]:
    """What two decisions are compared by: verdict and edited texts, white space folded."""
    texts = flat_texts(decision.edited) if decision.edited else []
    return decision.verdict, [nfc(text) for text in texts]


def _require_shape(decision: ReviewDecision, state: dict) -> None:
    """Raises `InputError` when a decision would change the structure of the English record."""
    where = f"decision on {decision.row_id}"
    if decision.edited is not None:
        found, expected = text_shape(decision.edited), text_shape(source_values(state))
        if found != expected:
            raise InputError(f"{where}: the edit has the form {found}; expected {expected}")
        if not all(text.strip() for text in flat_texts(decision.edited)):
            raise InputError(f"{where}: the edit leaves a text empty")
    if decision.verdict == "approve" and not same_shape(state):
        raise InputError(
            f"{where}: approves a text that has another form than its source; edit or reject it"
        )


def settle_decisions(
    decisions: list[ReviewDecision], reviewers: int
) -> tuple[ReviewDecision | None, str]:
    """(the decision that stands, or None while the row waits; why) from all decisions on one text.

    Of each reviewer the last decision counts. Equal decisions of enough reviewers stand. When they
    differ, the row waits until a further reviewer decides after that; the last such one stands.
    """
    last = {reviewer_key(decision.reviewer): (i, decision) for i, decision in enumerate(decisions)}
    positions, given = zip(*last.values(), strict=True)
    content = [decision_content(decision) for decision in given]
    verdicts = [f"{decision.reviewer} {decision.verdict}" for decision in given]
    odd = next((i for i, other in enumerate(content) if other != content[0]), None)
    if odd is None:
        if len(given) < reviewers:
            return None, "waits for a second reviewer"
        people = " and ".join(decision.reviewer for decision in given)
        return given[0], f"{given[0].verdict} by {people}"
    dispute = max(positions[: odd + 1])
    later = [i for i in range(odd + 1, len(given)) if positions[i] > dispute]
    if not later:
        return None, f"reviewers disagree: {', '.join(verdicts)}"
    final = given[max(later, key=lambda i: positions[i])]
    before = ", ".join(verdicts[: odd + 1])
    return final, f"{final.verdict} by {final.reviewer}, after {before}"


def merge_decisions(
    states: list[dict], queued: list[dict], decisions: list[ReviewDecision], policy: str
) -> Merged:
    """{row id: (status, values, note)} for every state: a pure function of its arguments.

    A decided row follows its decisions (`settle_decisions`), in the queue or not: another share or
    seed changes no decision. An undecided queued row waits (`held`), except that under
    `accept_high_scores` a sampled high score passes. A decision on a text that has changed is void
    and counts as none. Raises `InputError` for a decision on a row without a translation here, and
    for an edit or an approval of another structure than the English record.
    """
    if policy not in POLICIES:
        raise InputError(f"policy {policy!r}; expected one of {', '.join(POLICIES)}")
    waiting = {row["id"]: row for row in queued}
    given: dict[str, list[ReviewDecision]] = defaultdict(list)
    reviewable = {state["id"]: state for state in states if state["best"]}
    for decision in decisions:
        state = reviewable.get(decision.row_id)
        if state is None:
            raise InputError(
                f"decision on {decision.row_id}: no translation of that row was made in this run"
            )
        if decision.text_hash == state["best"]["text_hash"]:
            given[decision.row_id].append(decision)
    for row_id, group in given.items():
        for decision in latest_decisions(group):
            _require_shape(decision, reviewable[row_id])
    void = {decision.row_id for decision in decisions} - set(given)
    result: Merged = {}
    for state in states:
        row_id, queue_row = state["id"], waiting.get(state["id"])
        if row_id in given:
            result[row_id] = _decided(state, given[row_id], queue_row)
        elif queue_row is None and state["state"] == "accept":
            result[row_id] = "ok", state["best"]["values"], _BY_SCORE
        elif queue_row is None:
            result[row_id] = state["state"], None, state["note"]
        elif policy == "accept_high_scores" and queue_row["queue_reason"] == "sample":
            result[row_id] = "ok", state["best"]["values"], _UNREVIEWED
        else:
            changed = "decision void: the text changed"
            result[row_id] = "held", None, changed if row_id in void else "waits for review"
    return result


def _decided(
    state: dict, decisions: list[ReviewDecision], queue_row: dict | None
) -> tuple[str, dict | None, str]:
    final, note = settle_decisions(decisions, queue_row["reviewers"] if queue_row else 1)
    if final is None:
        return "held", None, note
    if final.verdict == "reject":
        return "rejected", None, note
    return "ok", final.edited if final.verdict == "edit" else state["best"]["values"], note


def is_edited(note: str) -> bool:
    """True when a merged row's note says that a reviewer edited it."""
    return "edit" in note.split(" by ")[0]


def merged_records(states: list[dict], merged: Merged, target: str) -> list[Record]:
    """The records in the target language that passed, with the note that says how."""
    records = {state["id"]: Record(**state["record"]) for state in states}
    return [
        translated_record(records[row_id], values, target, note=note)
        for row_id, (status, values, note) in merged.items()
        if status == "ok"
    ]


def outcome_counts(merged: Merged) -> dict[str, int]:
    """How many rows passed by score, passed a reviewer, wait, or ended in another way."""
    by_score = sum(note == _BY_SCORE for _, _, note in merged.values())
    unreviewed = sum(note == _UNREVIEWED for _, _, note in merged.values())
    passed = sum(status == "ok" for status, _, _ in merged.values())
    held = sum(status == "held" for status, _, _ in merged.values())
    return {
        "accepted by score": by_score,
        _UNREVIEWED: unreviewed,
        "reviewed and passed": passed - by_score - unreviewed,
        "waiting": held,
        "rejected or failed": len(merged) - passed - held,
    }


def scores_against_gold(records: list[Record], gold: dict[str, Record]) -> list[tuple]:
    """(measure, n, score, 95 % interval, signature): chrF++ and BLEU of translations.

    `gold` is by parent id; the interval is sacrebleu's bootstrap over rows.
    """
    from sacrebleu.metrics import BLEU, CHRF

    if not records:
        return []
    texts, references = (
        [" ".join(flat_texts(text_fields(row))) for row in rows]
        for rows in (records, [gold[row.parent_id] for row in records])
    )
    rows = []
    for name, measure in {"chrF++": CHRF(word_order=2), "BLEU": BLEU()}.items():
        found = measure.corpus_score(texts, [references], n_bootstrap=500)
        shown = f"{found.score:.1f}", f"± {found._ci:.1f}", str(measure.get_signature())
        rows.append((name, len(records), *shown))
    return rows
