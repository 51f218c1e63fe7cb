"""Add a target language: one file. Done here in a temporary folder, as ARCHITECTURE.md tells it."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from bimedix_utils import translation
from bimedix_utils.core import language, templates
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.records import Record
from bimedix_utils.teacher.engine import Teacher
from bimedix_utils.translation import checks

pytestmark = pytest.mark.unit

URDU = {
    "context": "سیاق",
    "question": "سوال",
    "options": "اختیارات",
    "answer": "جواب",
    "correct": "درست جواب یہ ہے:",
}
KEYS = sorted(yaml.safe_load((language.LANGUAGES / "fa.yaml").read_text("utf-8")))


@pytest.fixture
def languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kit's languages in a folder of their own, with Urdu beside them."""
    folder = tmp_path / "languages"
    shutil.copytree(language.LANGUAGES, folder)
    monkeypatch.setattr(language, "LANGUAGES", folder)
    data = yaml.safe_load((folder / "fa.yaml").read_text("utf-8"))
    save(
        folder,
        data
        | {"name": "Urdu", "layout": URDU, "notice": "صرف تحقیق کے لیے۔ یہ طبی مشورہ نہیں ہے۔"},
    )
    forget()
    yield folder
    forget()


def save(folder: Path, data: dict) -> None:
    (folder / "ur.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")


def forget() -> None:
    for name in ("language_data", "load_language", "_letter_pattern"):
        getattr(language, name).cache_clear()


def urdu_row() -> Record:
    return Record(
        source="own", licence="not found", split="train", lang="ur", kind="mcqa", id="ur:1",
        question="بخار کی عام وجہ کیا ہے؟", options=["انفیکشن", "نیند"], answer_index=0,
    )  # fmt: skip


def test_a_row_is_trained_and_scored_under_its_own_words(languages: Path):
    """An Urdu row was laid out under English words, and nobody was told."""
    user, assistant = [message["content"] for message in templates.to_messages(urdu_row())]
    letters = language.language_data("ur")["option_letters"]
    assert user.startswith("سوال: ") and f"اختیارات: {letters[0]}. انفیکشن" in user
    assert assistant == f"درست جواب یہ ہے: {letters[0]}."
    assert not re.search("[A-Za-z]", user + assistant)


def test_the_prompts_and_the_checks_of_the_translation_take_it(languages: Path, tmp_path: Path):
    urdu = language.load_language("ur")
    english = urdu_row().model_copy(update={"lang": "en", "question": "What causes fever?"})
    (tmp_path / "recordings").mkdir()
    teacher = Teacher(backend="replay", model="recorded", recordings=tmp_path / "recordings")
    (request,) = translation.first_requests([english], teacher, urdu)
    assert "Urdu" in str(request.messages) and request.row_id.endswith(":ur")
    stops = {f.check for f in checks.run_checks(["Give 5 mg."], ["Give 5 mg."], urdu) if f.stops}
    assert stops, "an English text is no Urdu translation"


def test_the_notice_and_the_script_are_its_own(languages: Path):
    assert "طبی مشورہ نہیں" in language.research_notice("ur")
    assert language.in_language("بخار کی وجہ infection ہے", "ur")
    assert not language.in_language("the cause of fever", "ur")


@pytest.mark.parametrize("key", sorted(set(KEYS) - language._OPTIONAL))
def test_a_missing_key_is_an_error_that_names_it(languages: Path, key: str):
    data = yaml.safe_load((languages / "ur.yaml").read_text("utf-8"))
    del data[key]
    save(languages, data)
    forget()
    with pytest.raises(InputError, match=rf"languages/ur\.yaml lacks .*\b{key}\b"):
        language.language_data("ur")


def test_a_missing_word_of_the_layout_is_an_error_too(languages: Path):
    data = yaml.safe_load((languages / "ur.yaml").read_text("utf-8"))
    del data["layout"]["options"]
    save(languages, data)
    forget()
    with pytest.raises(InputError, match=r"lacks layout\.options"):
        templates.layout_words("ur")


def test_a_language_without_a_file_is_an_error_that_names_the_others():
    with pytest.raises(InputError, match="no language 'xx': there are ar, en, fa"):
        language.language_data("xx")
