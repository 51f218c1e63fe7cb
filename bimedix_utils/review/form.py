"""A review form for the notebook: source beside candidate, decided with buttons or the keyboard,
saved line by line.

Nothing waits for it: a batch run that builds the form goes on at once, and the policy says what
becomes of undecided rows.
"""

import html
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core import display
from ..core.errors import InputError
from ..core.text import is_arabic
from ..translation.texts import named_texts
from . import decide, findings, side_by_side, source_values
from .decisions import Decision, append_decision, latest, read_decisions

# A text area has no direction of its own in ipywidgets; a class and a style sheet beside it give
# one.
STYLE = (
    "<style>.bimedix-rtl textarea {direction: rtl; text-align: right} .bimedix-ltr textarea"
    " {direction: ltr; text-align: left}</style>"
)
COMMANDS = {"a": "approve", "e": "edit", "r": "reject", "s": "skip", "b": "back", "u": "undo"}


class ReviewForm:
    """One reviewer's way through a queue: shows a row, writes each decision to the file at once,
    goes on to the next undecided one.

    It opens at the first row on whose present text this reviewer has not decided. `opened_at` is
    the clock, seconds since 1970. Raises `InputError` for a nameless reviewer and for a decisions
    file that cannot be read.
    """

    def __init__(
        self,
        queued: Sequence[dict],
        decisions_path: Path,
        reviewer: str,
        opened_at: Callable[[], float] = time.time,
    ):
        import ipywidgets

        if not reviewer.strip():
            raise InputError("a review needs the reviewer's name: every decision carries it")
        self.rows, self.path, self.reviewer, self.clock = (
            list(queued),
            Path(decisions_path),
            reviewer.strip(),
            opened_at,
        )
        hashes = {row["id"]: row["best"]["text_hash"] for row in self.rows}
        known = (
            latest(read_decisions(self.path))
            if self.path.exists() and self.path.stat().st_size
            else []
        )
        self.decided = {
            d.row_id: d
            for d in known
            if d.reviewer == self.reviewer and d.text_hash == hashes.get(d.row_id)
        }
        self.drafts: dict[
            str, tuple[dict[str, str], str]
        ] = {}  # row id -> (texts by part, note): kept while paging
        self.spent: dict[str, float] = {}  # row id -> seconds of earlier looks
        self.areas: dict[str, Any] = {}
        self.progress, self.facts, self.message = (
            ipywidgets.HTML(),
            ipywidgets.HTML(),
            ipywidgets.HTML(),
        )
        self.parts = ipywidgets.VBox()
        self.note = ipywidgets.Text(description="note", layout={"width": "100%"})
        self.command = ipywidgets.Text(
            description="key",
            placeholder=", ".join(f"{k} {v}" for k, v in COMMANDS.items()) + " + Enter",
            continuous_update=False,
        )
        self.command.observe(self._on_command, "value")
        self.buttons = {
            name: ipywidgets.Button(description=f"{name} ({key})") for key, name in COMMANDS.items()
        }
        for name, button in self.buttons.items():
            button.on_click(lambda _, name=name: self.act(name))
        lines = [ipywidgets.HTML(STYLE), self.progress, self.facts, self.parts, self.note]
        self.box = ipywidgets.VBox(
            [*lines, ipywidgets.HBox([*self.buttons.values(), self.command]), self.message]
        )
        self.place = -1
        self._go(self._undecided_after(-1))

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.box._repr_mimebundle_(**options)

    @property
    def row(self) -> dict | None:
        """The row on screen; None when every row is decided."""
        return self.rows[self.place] if 0 <= self.place < len(self.rows) else None

    def act(self, name: str) -> None:
        """Do what a button or a command says: approve, edit, reject, skip, back or undo. An error
        is shown; no text is lost.
        """
        self.message.value = ""
        try:
            if name in ("approve", "edit", "reject") and self.row:
                self._decide(name)
            elif name == "skip" and self.row:
                self._go(self._undecided_after(self.place))
            elif name == "back" and self.rows:
                self._go(max(0, self.place - 1))
            elif name == "undo" and self.row:
                self.drafts[self.row["id"]] = ({}, self.note.value)
                self._show()
        except (InputError, OSError, ValueError) as error:
            self.message.value = (
                f'<p role="alert" style="color:#b00">Not saved: {html.escape(str(error))}</p>'
            )

    def _on_command(self, change: dict) -> None:
        key = change["new"].strip().casefold()
        if not key:
            return
        self.command.value = ""
        if key in COMMANDS:
            self.act(COMMANDS[key])
        else:
            self.message.value = (
                f"<p>{html.escape(key)!r} is none of"
                f" {', '.join(f'{k} ({v})' for k, v in COMMANDS.items())}</p>"
            )

    def _undecided_after(self, place: int) -> int:
        """The place of the next undecided row after one, from the beginning again at the end; the
        queue's length when none is left.
        """
        order = [*range(place + 1, len(self.rows)), *range(0, place + 1)]
        return next((i for i in order if self.rows[i]["id"] not in self.decided), len(self.rows))

    def _changes(self) -> dict[str, str]:
        """The text areas whose words are no longer the candidate's, by part; white space is folded
        when a text is stored.
        """
        candidates = {part: candidate for part, _, candidate in side_by_side(self.row)}
        return {
            part: area.value
            for part, area in self.areas.items()
            if area.value.split() != candidates[part].split()
        }

    def _decide(self, verdict: str) -> None:
        row, changes, now = self.row, self._changes(), self.clock()
        if changes and verdict != "edit":
            raise InputError(
                f"{', '.join(changes)} changed: edit (e) keeps the change, undo (u) puts the"
                " candidate back"
            )
        if bare := [part for part, text in changes.items() if not text.strip()]:
            raise InputError(f"{bare[0]} is empty: an edit must give a text")
        seconds = round(max(0.0, self.spent.get(row["id"], 0.0) + now - self.shown_at), 1)
        when = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
        decision = decide(
            row["id"], row, verdict, changes, self.reviewer, when, self.note.value.strip(), seconds
        )
        append_decision(self.path, decision)
        self.decided[row["id"]] = decision
        self.spent.pop(row["id"], None)
        self.drafts.pop(row["id"], None)
        self.areas = {}  # what stands in them is saved
        self._go(self._undecided_after(self.place))

    def _leave(self) -> None:
        """Keep what was typed on the row and the time it was on screen."""
        if self.row and self.areas:
            row_id = self.row["id"]
            self.drafts[row_id] = (
                {part: area.value for part, area in self.areas.items()},
                self.note.value,
            )
            self.spent[row_id] = self.spent.get(row_id, 0.0) + max(
                0.0, self.clock() - self.shown_at
            )

    def _go(self, place: int) -> None:
        self._leave()
        self.place = place
        self._show()

    def _show(self) -> None:
        import ipywidgets

        self.shown_at, self.areas = self.clock(), {}
        here = f"row {self.place + 1}: {self.row['id']}" if self.row else "every row is decided"
        done = f"{len(self.decided)} of {len(self.rows)} decided by {self.reviewer}"
        self.progress.value = f"<b>{html.escape(f'{done} · {here}')}</b>"
        for name, button in self.buttons.items():
            button.disabled = not (self.rows if name == "back" else self.row)
        if not self.row:
            self.parts.children, self.facts.value, self.note.value = (), "", ""
            return
        row, earlier = self.row, self.decided.get(self.row["id"])
        self.facts.value = self._facts(row, earlier)
        before = dict(named_texts(earlier.edited)) if earlier and earlier.edited else {}
        texts, note = self.drafts.get(row["id"], (before, earlier.note if earlier else ""))
        self.note.value = note
        known, lines = {part for part, _ in named_texts(source_values(row))}, []
        for part, source, candidate in side_by_side(row):
            area = ipywidgets.Textarea(
                texts.get(part, candidate),
                disabled=part not in known,
                rows=max(2, len(candidate) // 60 + 1),
            )
            area.layout = {"width": "100%"}
            area.add_class(
                "bimedix-rtl" if is_arabic(candidate) or not candidate else "bimedix-ltr"
            )
            self.areas[part] = area
            shown = f"<b>{html.escape(part)}</b>{display.span(source, 'p') if part in known else '<p>(not in the source)</p>'}"
            left = ipywidgets.HTML(shown, layout={"width": "48%"})
            lines.append(ipywidgets.HBox([left, ipywidgets.Box([area], layout={"width": "52%"})]))
        self.parts.children = tuple(lines)

    def _facts(self, row: dict, earlier: Decision | None) -> str:
        """Score, why the row is queued, findings, and the reviewer's own earlier word; never
        another reviewer's.
        """
        lines = [
            ("score", row["best"].get("score")),
            ("queued", f"{row['queue_reason']}, {row.get('stratum', 'no stratum')}"),
        ]
        lines += [("found", finding) for finding in findings(row)]
        lines += [("decided before", earlier.verdict)] if earlier else []
        return display.show_table(lines, ["", ""])._repr_html_()
