"""The review form, driven as a reviewer would: buttons, the key box, text areas, a disk that
refuses.
"""

import os
import subprocess
import sys

import pytest

from bimedix_utils import review, translation
from bimedix_utils.core.errors import InputError
from bimedix_utils.review import ReviewDecision
from bimedix_utils.review.form import ReviewForm

pytestmark = pytest.mark.unit
RECORD = {
    "kind": "mcqa",
    "lang": "en",
    "source": "toy",
    "licence": "MIT",
    "split": "train",
    "question": "What causes <b>pain</b>?",
    "options": ["A1", "B1"],
    "answer_index": 0,
    "answer": "",
}
VALUES = {"question": "ما سبب الألم؟", "options": ["أ", "IgE"]}
ERRORS = [
    {
        "category": "negation",
        "severity": "critical",
        "source": "<not>",
        "target": "لا",
        "explanation": "turned round",
    }
]


def row(number, values=VALUES):
    best = {
        "values": values,
        "text_hash": translation.text_hash(values),
        "score": 72,
        "round": 0,
        "flags": ["x: 5 missing"],
        "errors": ERRORS,
    }
    record = {"id": f"row:{number}", **RECORD}
    return {
        "id": f"row:{number}",
        "state": "human",
        "note": "",
        "best": best,
        "record": record,
        "queue_reason": "low",
        "stratum": "toy 70-79",
        "reviewers": 1,
    }


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 1_767_312_000.0  # 2026-01-02 00:00:00 UTC

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "decisions.csv"


@pytest.fixture
def form(path, clock):
    return ReviewForm([row(1), row(2), row(3)], path, "Dr A", clock)


def at(form):
    return form.row["id"] if form.row else None


def html_of(widget):
    """Every HTML text inside a widget."""
    own = [widget.value] if type(widget).__name__ == "HTML" else []
    return "".join(own + [html_of(child) for child in getattr(widget, "children", ())])


def test_buttons_write_at_once_and_go_on(form, path, clock):
    clock.now += 12.34
    form.buttons["approve"].click()
    assert review.read_decisions(path) == [
        ReviewDecision(
            "row:1",
            "approve",
            None,
            "Dr A",
            "2026-01-02T00:00:12+00:00",
            translation.text_hash(VALUES),
            "",
            12.3,
        )
    ]
    assert at(form) == "row:2"
    form.note.value = "بلا معنى"
    form.buttons["reject"].click()
    form.areas["option 1"].value = "“ألف”"
    form.buttons["edit"].click()
    kept = review.read_decisions(path)
    assert [(d.row_id, d.verdict, d.note) for d in kept] == [
        ("row:1", "approve", ""),
        ("row:2", "reject", "بلا معنى"),
        ("row:3", "edit", ""),
    ]
    assert kept[2].edited == {**VALUES, "options": ["“ألف”", "IgE"]}
    assert (
        form.row is None and "3 of 3 decided by Dr A · every row is decided" in form.progress.value
    )
    assert all(button.disabled == (name != "back") for name, button in form.buttons.items())


def test_keys_do_what_the_buttons_do(form, path):
    for key in ("s", " A ", "b", "b", "r"):
        form.command.value = key
        assert form.command.value == ""
    assert [(d.row_id, d.verdict) for d in review.read_decisions(path)] == [
        ("row:2", "approve"),
        ("row:1", "reject"),
    ]
    form.command.value = "<q>"
    assert (
        "&lt;q&gt;" in form.message.value
        and "a (approve)" in form.message.value
        and at(form) == "row:3"
    )
    assert len(review.read_decisions(path)) == 2


def test_it_opens_at_the_first_row_this_reviewer_has_not_decided(path, clock):
    queued = [row(1), row(2), row(3)]
    first = ReviewForm(queued, path, "Dr A", clock)
    first.act("approve")
    first.act("skip")
    first.act("approve")
    again = ReviewForm(queued, path, "Dr A", clock)
    assert at(again) == "row:2" and "2 of 3 decided" in again.progress.value
    again.act("approve")
    assert ReviewForm(queued, path, "Dr A", clock).row is None
    assert at(ReviewForm(queued, path, "Dr B", clock)) == "row:1"


def test_a_changed_text_is_asked_again(path, clock):
    ReviewForm([row(1), row(2)], path, "Dr A", clock).act("approve")
    changed = [row(1, {**VALUES, "question": "سؤال آخر"}), row(2)]
    assert at(ReviewForm(changed, path, "Dr A", clock)) == "row:1"


def test_it_shows_source_candidate_findings_and_direction(form):
    page = html_of(form.box)
    assert (
        "What causes &lt;b&gt;pain&lt;/b&gt;?" in page
        and "negation, critical" in page
        and "x: 5 missing" in page
        and "72" in page
    )
    assert "<not>" not in page and ".bimedix-rtl textarea" in page and "toy 70-79" in page
    assert [(part, area.value) for part, area in form.areas.items()] == [
        ("question", "ما سبب الألم؟"),
        ("option 1", "أ"),
        ("option 2", "IgE"),
    ]
    classes = {part: area._dom_classes for part, area in form.areas.items()}
    assert classes == {
        "question": ("bimedix-rtl",),
        "option 1": ("bimedix-rtl",),
        "option 2": ("bimedix-ltr",),
    }
    assert ".bimedix-rtl textarea { direction: rtl" in page
    assert "text/plain" in (form._repr_mimebundle_() or {})


def test_it_never_shows_what_another_reviewer_decided(path, clock):
    queued = [row(1)]
    other = ReviewForm(queued, path, "Dr Secret", clock)
    other.note.value = "hidden note"
    other.act("reject")
    page = html_of(ReviewForm(queued, path, "Dr A", clock).box)
    assert "Secret" not in page and "hidden" not in page and "decided before" not in page


@pytest.mark.parametrize("verdict", ["approve", "reject"])
def test_a_changed_text_is_not_thrown_away_by_another_verdict(verdict, form, path):
    form.areas["question"].value = "سؤال آخر"
    form.act(verdict)
    assert (
        "question changed: edit (e) keeps the change" in form.message.value
        and not path.exists()
        and at(form) == "row:1"
    )
    form.act("undo")
    assert form.areas["question"].value == VALUES["question"]
    form.act(verdict)
    assert form.message.value == "" and review.read_decisions(path)[0].verdict == verdict


def test_an_edit_without_a_change_or_with_an_emptied_text_is_refused(form, path):
    form.act("edit")
    assert "an edit without any correction" in form.message.value
    form.areas["option 1"].value = " "
    form.act("edit")
    assert (
        "option 1 is empty" in form.message.value
        and not path.exists()
        and form.areas["option 1"].value == " "
    )


def test_typed_words_survive_paging(form, path):
    form.areas["question"].value, form.note.value = "نصف جملة", "later"
    form.act("skip")
    assert form.areas["question"].value == VALUES["question"] and form.note.value == ""
    form.act("back")
    assert (form.areas["question"].value, form.note.value) == ("نصف جملة", "later")
    assert not path.exists()


def test_skipping_goes_round_and_back_stops_at_the_first(form):
    seen = []
    for _ in range(4):
        seen.append(at(form))
        form.act("skip")
    assert seen == ["row:1", "row:2", "row:3", "row:1"]
    for _ in range(3):
        form.act("back")
    assert at(form) == "row:1"


def test_time_adds_up_over_the_looks_at_a_row(form, path, clock):
    clock.now += 10
    form.act("skip")
    clock.now += 100
    form.act("back")
    clock.now += 5
    form.act("approve")
    assert review.read_decisions(path)[0].seconds == 15.0
    clock.now += 3
    form.act("approve")
    assert review.read_decisions(path)[1].seconds == 103.0


def test_a_decision_can_be_changed_and_the_later_one_counts(form, path, clock):
    form.areas["question"].value = "سؤال آخر"
    form.act("edit")
    form.act("back")
    assert form.areas["question"].value == "سؤال آخر" and "decided before" in form.facts.value
    form.act("undo")
    form.act("approve")
    kept = review.read_decisions(path)
    assert [d.verdict for d in kept] == ["edit", "approve"] and [
        d.verdict for d in review.latest_decisions(kept)
    ] == ["approve"]
    assert at(form) == "row:2"


def test_words_typed_on_a_decided_row_survive_paging(form):
    form.act("approve")
    form.act("back")
    form.areas["question"].value = "فكرة متأخرة"
    form.act("skip")
    form.act("back")
    assert at(form) == "row:1" and form.areas["question"].value == "فكرة متأخرة"


def test_a_disk_that_refuses_is_shown_and_no_text_is_lost(form, path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    form.areas["question"].value, form.note.value = "سؤال آخر", "why"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        form.act("edit")
    assert "Not saved: [Errno 28] No space left on device" in form.message.value
    assert (at(form), form.areas["question"].value, form.note.value) == (
        "row:1",
        "سؤال آخر",
        "why",
    ) and "0 of 3" in form.progress.value
    form.act("edit")
    assert (
        form.message.value == "" and review.read_decisions(path)[0].edited["question"] == "سؤال آخر"
    )


def test_a_file_cut_by_a_kill_stops_the_form_before_it_opens(form, path, clock):
    form.act("approve")
    path.write_bytes(path.read_bytes()[:-4])
    form.act("approve")
    assert "row 2: the last line has no end" in form.message.value and at(form) == "row:2"
    with pytest.raises(InputError, match=r"row 2: the last line has no end.*remove_cut_row"):
        ReviewForm([row(1)], path, "Dr A", clock)
    review.remove_cut_row(path)
    assert at(ReviewForm([row(1)], path, "Dr A", clock)) == "row:1"


def test_a_part_the_source_lacks_cannot_be_typed_in_and_is_left_out(path, clock):
    form = ReviewForm([row(1, {**VALUES, "options": ["أ", "IgE", "زائد"]})], path, "Dr A", clock)
    assert (
        form.areas["option 3"].disabled
        and not form.areas["option 2"].disabled
        and "(not in the source)" in html_of(form.box)
    )
    form.act("approve")
    assert "does not have the parts of its source" in form.message.value
    form.act("edit")
    assert review.read_decisions(path)[0].edited == VALUES


def test_an_empty_queue_and_a_nameless_reviewer(path, clock):
    form = ReviewForm([], path, "Dr A", clock)
    for name in form.buttons:
        form.act(name)
    assert form.row is None and form.message.value == "" and not path.exists()
    with pytest.raises(InputError, match="needs the reviewer's name"):
        ReviewForm([row(1)], path, " ", clock)


def test_importing_the_form_loads_no_widgets():
    code = (
        "import bimedix_utils.review.form, sys; print({'ipywidgets', 'openpyxl', 'sklearn'} &"
        " set(sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "set()"
    )
