"""A further safety rule of the chat is one row of data in a language file."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from bimedix_utils.core.language import PACKAGE

pytestmark = pytest.mark.unit
ASK = """
import json, sys
from bimedix_utils import chat
texts = json.loads(sys.argv[1])
print(json.dumps([(chat.red_flag_kinds(text), chat.red_flag(text)) for text in texts]))
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package that a test may edit."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "bimedix_utils", ignore=ignored)
    return tmp_path / "bimedix_utils"


def ask(package, *texts: str) -> list:
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    command = [sys.executable, "-c", ASK, json.dumps(texts)]
    done = subprocess.run(
        command, cwd=package.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def add_row(package, code: str, after: str, rows: str) -> None:
    """Insert `rows` behind the line `after` of a language file."""
    path = package / "languages" / f"{code}.yaml"
    text = path.read_text(encoding="utf-8")
    begin, found, rest = text.rpartition(f"\n    {after}\n")
    assert found
    path.write_text(begin + found + rows + rest, encoding="utf-8")


def test_a_pattern_is_one_row_of_the_language_file(package):
    texts = ("A snake has bitten him", "لدغته أفعى سامة")
    assert ask(package, *texts) == [[[], None], [[], None]]
    add_row(package, "en", "collapse:", "      - '\\bsnake (?:\\w+ )?(?:bite|bitten)\\b'\n")
    add_row(package, "ar", "collapse:", "      - '\\b(?:لدغ|عض)ته (?:افعي|حيه|ثعبان)'\n")
    (english, arabic) = ask(package, *texts)
    assert english[0] == arabic[0] == ["collapse"]
    assert "emergency number" in english[1] and "الطوارئ" in arabic[1]


def test_a_broken_pattern_is_refused_by_name(package):
    add_row(package, "en", "collapse:", "      - '<nobody> (fell'\n")
    with pytest.raises(AssertionError, match="languages/en.yaml, red_flags: '<nobody>"):
        ask(package, "hello")
