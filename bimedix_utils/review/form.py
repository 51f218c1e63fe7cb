"""A review form for the notebook: source beside candidate, decided with buttons or the keyboard.

Every decision is saved at once. Nothing waits for the form: a batch run that builds it continues,
and the policy says what becomes of undecided rows.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from ..core import display
from ..core.errors import InputError
from ..core.text import is_right_to_left
from ..translation.texts import named_texts
from .decisions import (
    ReviewDecision,
    append_decision,
    latest_decisions,
    make_decision,
    read_decisions,
)
from .parts import row_findings, side_by_side, source_values

_STYLE_SHEET = Path(__file__).with_name("form.css")
REVIEW_COMMANDS = {
    "a": "approve",
    "e": "edit",
    "r": "reject",
    "s": "skip",
    "b": "back",
    "u": "undo",
}


class ReviewForm:
    """Shows one row after another, writes each decision at once, goes on to the next undecided row.

    It opens at the first row on whose present text this reviewer has not decided. `clock` gives
    seconds since 1970. Raises `InputError` for a nameless reviewer and for a decisions file that
    cannot be read.
    """

    def __init__(
        self,
        queued: Sequence[dict],
        decisions_path: Path,
        reviewer: str,
        clock: Callable[[], float] = time.time,
    ):
        self.rows, self.path, self.clock = list(queued), Path(decisions_path), clock
        self.reviewer = reviewer.strip()
        if not self.reviewer:
            raise InputError("a review needs the reviewer's name: every decision carries it")
        hashes = {row["id"]: row["best"]["text_hash"] for row in self.rows}
        started = self.path.exists() and self.path.stat().st_size
        known = latest_decisions(read_decisions(self.path)) if started else []
        own = [decision for decision in known if decision.reviewer == self.reviewer]
        self.decided = {d.row_id: d for d in own if d.text_hash == hashes.get(d.row_id)}
        # Row id -> (texts by part, note), kept while paging; row id -> seconds of earlier looks.
        self.drafts: dict[str, tuple[dict[str, str], str]] = {}
        self.spent: dict[str, float] = {}
        self.areas: dict[str, Any] = {}
        self.index = -1
        self._build()
        self._go(self._undecided_after(-1))

    def _build(self) -> None:
        import ipywidgets

        self.progress, self.facts, self.message = (ipywidgets.HTML() for _ in range(3))
        self.parts = ipywidgets.VBox()
        self.note = ipywidgets.Text(description="note", layout={"width": "100%"})
        keys = ", ".join(f"{key} {name}" for key, name in REVIEW_COMMANDS.items())
        self.command = ipywidgets.Text(
            description="key", placeholder=f"{keys} + Enter", continuous_update=False
        )
        self.command.observe(self._on_command, "value")
        self.buttons = {}
        for key, name in REVIEW_COMMANDS.items():
            self.buttons[name] = ipywidgets.Button(description=f"{name} ({key})")
            self.buttons[name].on_click(lambda _, name=name: self.act(name))
        style = ipywidgets.HTML(f"<style>{_STYLE_SHEET.read_text(encoding='utf-8')}</style>")
        controls = ipywidgets.HBox([*self.buttons.values(), self.command])
        lines = [style, self.progress, self.facts, self.parts, self.note, controls, self.message]
        self.box = ipywidgets.VBox(lines)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.box._repr_mimebundle_(**options)

    @property
    def row(self) -> dict | None:
        """The row on screen; None when every row is decided."""
        return self.rows[self.index] if 0 <= self.index < len(self.rows) else None

    def act(self, name: str) -> None:
        """Do what a button or a command says: a verdict, skip, back or undo.

        An error is shown; no text is lost.
        """
        self.message.value = ""
        try:
            if name == "back" and self.rows:
                self._go(max(0, self.index - 1))
            elif self.row is None:
                return
            elif name == "skip":
                self._go(self._undecided_after(self.index))
            elif name == "undo":
                self.drafts[self.row["id"]] = ({}, self.note.value)
                self._show()
            else:
                self._decide(name)
        except (InputError, OSError, ValueError) as error:
            text = escape(str(error))
            self.message.value = f'<p role="alert" class="bimedix-alert">Not saved: {text}</p>'

    def _on_command(self, change: dict) -> None:
        key = change["new"].strip().casefold()
        if not key:
            return
        self.command.value = ""
        if key in REVIEW_COMMANDS:
            self.act(REVIEW_COMMANDS[key])
        else:
            keys = ", ".join(f"{key} ({name})" for key, name in REVIEW_COMMANDS.items())
            self.message.value = f"<p>{escape(key)!r} is none of {keys}</p>"

    def _undecided_after(self, index: int) -> int:
        """The index of the next undecided row, from the beginning again at the end.

        The queue's length when none is left.
        """
        order = [*range(index + 1, len(self.rows)), *range(index + 1)]
        return next((i for i in order if self.rows[i]["id"] not in self.decided), len(self.rows))

    def _changes(self) -> dict[str, str]:
        """The texts by part whose words are no longer the candidate's."""
        candidates = {part: candidate for part, _, candidate in side_by_side(self.row)}
        texts = {part: area.value for part, area in self.areas.items()}
        return {part: t for part, t in texts.items() if t.split() != candidates[part].split()}

    def _decide(self, verdict: str) -> None:
        row_id, changes, now = self.row["id"], self._changes(), self.clock()
        if changes and verdict != "edit":
            raise InputError(
                f"{', '.join(changes)} changed: edit (e) keeps the change, undo (u) puts the"
                " candidate back"
            )
        if empty := [part for part, text in changes.items() if not text.strip()]:
            raise InputError(f"{empty[0]} is empty: an edit must give a text")
        seconds = round(self._seconds(row_id, now), 1)
        when = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        note = self.note.value.strip()
        decision = make_decision(
            row_id, self.row, verdict, changes, self.reviewer, when, note, seconds
        )
        append_decision(self.path, decision)
        self.decided[row_id] = decision
        self.spent.pop(row_id, None)
        self.drafts.pop(row_id, None)
        self.areas = {}  # their texts are saved
        self._go(self._undecided_after(self.index))

    def _seconds(self, row_id: str, now: float) -> float:
        return max(0.0, self.spent.get(row_id, 0.0) + now - self.shown_at)

    def _go(self, index: int) -> None:
        if self.row and self.areas:  # keep what was typed, and the time the row was on screen
            row_id, texts = self.row["id"], {part: area.value for part, area in self.areas.items()}
            self.drafts[row_id] = (texts, self.note.value)
            self.spent[row_id] = self._seconds(row_id, self.clock())
        self.index = index
        self._show()

    def _show(self) -> None:
        self.shown_at, self.areas, row = self.clock(), {}, self.row
        here = f"row {self.index + 1}: {row['id']}" if row else "every row is decided"
        done = f"{len(self.decided)} of {len(self.rows)} decided by {self.reviewer}"
        self.progress.value = f"<b>{escape(f'{done} · {here}')}</b>"
        for name, button in self.buttons.items():
            button.disabled = not (self.rows if name == "back" else row)
        if not row:
            self.parts.children, self.facts.value, self.note.value = (), "", ""
            return
        earlier = self.decided.get(row["id"])
        self.facts.value = self._facts(row, earlier)
        edited = dict(named_texts(earlier.edited)) if earlier and earlier.edited else {}
        draft = (edited, earlier.note if earlier else "")
        texts, self.note.value = self.drafts.get(row["id"], draft)
        known = {part for part, _ in named_texts(source_values(row))}
        self.parts.children = tuple(
            self._part_line(part, source if part in known else None, candidate, texts)
            for part, source, candidate in side_by_side(row)
        )

    def _part_line(
        self, part: str, source: str | None, candidate: str, texts: dict[str, str]
    ) -> Any:
        """Source on the left, the candidate to edit on the right."""
        import ipywidgets

        height, width = max(2, len(candidate) // 60 + 1), {"width": "100%"}
        area = ipywidgets.Textarea(
            texts.get(part, candidate), disabled=source is None, rows=height, layout=width
        )
        rtl = is_right_to_left(candidate) or not candidate
        area.add_class("bimedix-rtl" if rtl else "bimedix-ltr")
        self.areas[part] = area
        shown = "<p>(not in the source)</p>" if source is None else display.span(source, "p")
        left = ipywidgets.HTML(f"<b>{escape(part)}</b>{shown}", layout={"width": "48%"})
        return ipywidgets.HBox([left, ipywidgets.Box([area], layout={"width": "52%"})])

    def _facts(self, row: dict, earlier: ReviewDecision | None) -> str:
        """Score, reason, findings, and the reviewer's own earlier decision; never another's."""
        lines = [
            ("score", row["best"].get("score")),
            ("queued", f"{row['queue_reason']}, {row.get('stratum', 'no stratum')}"),
            *(("found", finding) for finding in row_findings(row)),
        ]
        lines += [("decided before", earlier.verdict)] if earlier else []
        return display.show_table(lines, ["", ""])._repr_html_()
