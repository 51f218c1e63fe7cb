"""A further translation check is one function and its line in the table of checks."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from bimedix_utils.core.language import PACKAGE

pytestmark = pytest.mark.unit
FUNCTION = '''

def exclamation(pair: TextPair) -> Iterator[Finding]:
    """No exclamation mark that the source does not have."""
    for part in pair.parts:
        if "!" in part.target and "!" not in part.source:
            yield "human", f"{part.name}: an exclamation mark was added"
'''
LINE = '    "exclamation": surface.exclamation,\n'
# The check on its own, over many rows on two CPUs, and in the rounds, which hand the row to a
# person.
SCRIPT = """
import json
from bimedix_utils import core, translation
from bimedix_utils.teacher import Answer, Teacher

SOURCE, TARGET = ["Rest at home."], ["استرح في البيت!"]
ANSWERS = {"translate": {"question": "أين يستريح؟", "answer": "في البيت!"},
           "score": {"errors": [], "score": 99}}


def ask(teacher, requests):
    return {r.id: Answer(r.id, json.dumps(ANSWERS[r.stage])) for r in requests}


def main():
    language = core.load_language("ar")
    alone = translation.run_checks(SOURCE, TARGET, language, ("question",))
    rows = ((f"row:{i}", SOURCE, TARGET, ("question",)) for i in range(600))
    many = {len(flags) for _, flags in translation.check_rows(rows, language, processes=2)}
    record = core.Record(id="q", kind="qa", lang="en", source="toy", licence="MIT", split="train",
                         question="Where should he rest?", answer="At home.")
    teacher = Teacher(backend="replay", model="recorded")
    (state,) = translation.run_rounds([record], teacher, 85, 0, language, ask=ask)
    print(json.dumps([[str(flag) for flag in alone], sorted(many), state.state, state.note]))


if __name__ == "__main__":  # the workers import this file
    main()
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package that a test may edit."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "bimedix_utils", ignore=ignored)
    return tmp_path / "bimedix_utils"


def answer_of(package) -> list:
    script = package.parent / "ask.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def add_check(package) -> None:
    with open(package / "translation/checks/surface.py", "a", encoding="utf-8") as handle:
        handle.write(FUNCTION)
    registry = package / "translation/checks/registry.py"
    head, table, rest = registry.read_text("utf-8").partition("CHECKS: dict[str, Check] = {\n")
    assert table
    registry.write_text(head + table + LINE + rest, encoding="utf-8")


def test_one_function_and_one_line_of_the_table_add_a_check(package):
    assert answer_of(package) == [[], [0], "accept", ""]
    add_check(package)
    found = "exclamation: {}: an exclamation mark was added"
    note = found.format("answer")
    assert answer_of(package) == [[found.format("question")], [1], "human", note]
