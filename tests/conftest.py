"""Shared fixtures. Real published rows are found through RAW_DIR; tests that need them skip with
the reason when it is unset.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def raw_dir() -> Path:
    """The folder with published files."""
    value = os.environ.get("RAW_DIR", "")
    if not value or not Path(value).is_dir():
        pytest.skip("RAW_DIR names no folder: the real published rows are not here")
    return Path(value)


@pytest.fixture
def runs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private runs folder for one test."""
    monkeypatch.setenv("BIMEDIX_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny pre-trained Mixtral."""
    from support.tiny import FORM, SPEC, TEXTS

    from bimedix_utils.training import models

    models.setup_torch(2)
    folder, losses = models.tiny_base(TEXTS + FORM, [], SPEC, tmp_path_factory.mktemp("cache"))
    assert losses[0][1] > 0
    return folder
