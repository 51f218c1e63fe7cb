"""From decisions to rows: which decision stands, and what becomes of every translation."""

from collections import defaultdict

from ..core.errors import InputError
from ..core.text import nfc
from ..translation.texts import flat_texts
from .decisions import ReviewDecision, latest_decisions, reviewer_key
from .parts import same_shape, source_values, text_shape

POLICIES = ("hold", "accept_high_scores")
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
            result[row_id] = "ok", state["best"]["values"], "accepted by score and checks"
        elif queue_row is None:
            result[row_id] = state["state"], None, state["note"]
        elif policy == "accept_high_scores" and queue_row["queue_reason"] == "sample":
            result[row_id] = "ok", state["best"]["values"], "high score, not reviewed"
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
