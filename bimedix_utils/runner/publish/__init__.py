"""What of a run would go to the hub, and under which conditions: shown first, sent only when that
is said explicitly.

Rows whose licence does not allow passing them on stop it, and so do weights whose licence is not
known and files that name a folder of this machine. What is sent is a staged copy: exactly the files
that were shown.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.errors import InputError, KitError
from ...core.files import write_text
from ...core.provenance import ROOT, hash_path, runs_folder, shown_path
from ...core.records import Record
from ...sources import catalogue
from . import hub_cards

if TYPE_CHECKING:
    from huggingface_hub import HfApi

KINDS = {  # what -> (repository type, folder in the run)
    "adapter": ("model", "06_finetune_qlora/adapter"),
    "merged": ("model", "06_finetune_qlora/merged"),
    "mix": ("dataset", "05_build_bilingual_mix/bimed"),
    "testset": ("dataset", "04_review_translations/testset"),
}
SUFFIXES = (
    ".safetensors",
    ".json",
    ".jinja",
    ".md",
    ".parquet",
    ".jsonl",
    ".txt",
    ".model",
)  # no pickles, nothing that runs
_TEXTS = (".json", ".jinja", ".md", ".txt")
_REPO = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}")


class File(NamedTuple):
    """One file of the upload."""

    name: str
    size: int  # bytes
    sha256: str


@dataclass
class Upload:
    """One repository: what would be in it, and why it may not be sent (empty: it may)."""

    what: str
    repo: str
    kind: str  # of repository: model or dataset
    folder: Path
    files: list[File]
    card: str
    left_out: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def text(self) -> str:
        """All of it for a reader's eyes: files with size and hash, what is left out, the card, what
        stands against it.
        """
        size = sum(file.size for file in self.files)
        lines = [
            f"{self.what}  ->  {self.kind} {self.repo} (private)",
            f"{len(self.files)} files, {size:,} bytes, staged in {shown_path(self.folder)}",
        ]
        lines += [f"  {file.size:>13,}  {file.sha256}  {file.name}" for file in self.files]
        lines += [f"  left out: {', '.join(self.left_out)}"] if self.left_out else []
        lines += ["", "card:", *(f"  | {line}".rstrip() for line in self.card.splitlines()), ""]
        lines += [f"REFUSED: {reason}" for reason in self.refused]
        return "\n".join(lines)


def plan(run: Path, what: str, repo: str) -> Upload:
    """Stage one part of a run as it would be uploaded. Raises `InputError` when the run has not
    made it or `repo` is no name.
    """
    if what not in KINDS:
        raise InputError(f"WHAT = {what!r}: wanted some of {' '.join(KINDS)}")
    if not _REPO.fullmatch(repo):
        raise InputError(
            f"REPO = {repo!r}: wanted the owner and the name of a repository, such as"
            " REPO=your-name/bimedix-smoke"
        )
    kind, place = KINDS[what]
    source, staged = run / place, run / "publish" / what
    if not source.is_dir():
        raise InputError(f"{shown_path(source)} is not there: run notebook {place[:2]} first")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    left_out = []
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name = path.relative_to(source)
        if any(part.startswith(".") for part in name.parts):
            continue  # the stage's own working files
        if path.suffix not in SUFFIXES:
            left_out.append(name.as_posix())
            continue
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        _link(path, staged / name)
    refused, card = _licences(run, what, source, repo)
    (staged / "README.md").unlink(
        missing_ok=True
    )  # a link: writing through it would change the stage's own file
    write_text(staged / "README.md", [card])
    refused += _traces(staged)
    names = sorted(p for p in staged.rglob("*") if p.is_file())
    files = [File(p.relative_to(staged).as_posix(), p.stat().st_size, hash_path(p)) for p in names]
    return Upload(what, repo, kind, staged, files, card, left_out, refused)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copyfile(source, target)


def cards_of(run: Path) -> dict[str, str]:
    """{part of a run: its card as `plan` would write it} of all that has one, for a reader; a stage
    that is not complete has none.
    """
    found = {}
    for what, (_, place) in KINDS.items():
        source, repo = run / place, f"owner/{run.name}-{what}"
        try:
            if what in ("adapter", "merged") and source.is_dir():
                found[what] = hub_cards.hub_model_card(run, repo, what == "merged")
            elif what == "testset" and source.is_dir():
                found[what] = hub_cards.hub_testset_card(
                    source, {licence for _, licence, _ in _rows(source, what)}
                )
            elif (source / "manifest.json").exists():
                found[what] = (source / "README.md").read_text(encoding="utf-8")
        except InputError:
            continue  # that stage was not run to its end
    return found


def _licences(run: Path, what: str, source: Path, repo: str) -> tuple[list[str], str]:
    """(what stands against passing this on, the card)."""
    if what in ("adapter", "merged"):
        licence = hub_cards.model_licence(run)
        refused = [] if licence.is_known else [f"no licence can be stated. {licence.why}"]
        return refused, hub_cards.hub_model_card(run, repo, what == "merged")
    rows = Counter(_rows(source, what))
    held = {key: n for key, n in rows.items() if not _allowed(*key)}
    refused = [
        f"{n:,} rows of {name} (licence {licence}) may not be passed on, or are not known to be"
        " allowed to; leave them out "
        + ("with  make run NB=05 SET=PURPOSE=publish" if what == "mix" else "of the test set")
        for (name, licence, _), n in sorted(held.items())
    ]
    refused += [] if rows else ["no row is in it"]
    if what == "mix":
        return refused, (source / "README.md").read_text(encoding="utf-8")
    return refused, hub_cards.hub_testset_card(source, {licence for _, licence, _ in rows})


def _rows(folder: Path, what: str) -> Iterator[tuple[str, str, bool]]:
    """(source, licence, written for this kit) of each row that would be uploaded, read from the
    files themselves.
    """
    if what == "mix":
        import pyarrow.parquet as pq

        for path in sorted((folder / "data").glob("*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(columns=["id", "source", "licence"]):
                for row in batch.to_pylist():
                    yield row["source"], row["licence"], ":kit-" in row["id"]
    else:
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                row: dict[str, Any] = json.loads(line)
                yield row["source"], row["licence"], ":kit-" in row["id"]


def _allowed(source: str, licence: str, kit: bool) -> bool:
    record = Record.model_construct(
        id=f"{source}:kit-1" if kit else f"{source}:1", source=source, licence=licence
    )
    return catalogue.may_publish_record(record)


def _traces(folder: Path) -> list[str]:
    """Files that name a folder of this machine: they would tell strangers who works where, and be
    of no use to them.
    """
    places = [str(place) for place in (ROOT, runs_folder(), Path.home()) if len(place.parts) > 1]
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in _TEXTS):
        text = path.read_text(encoding="utf-8")
        found += [
            f"{path.relative_to(folder).as_posix()} names a folder of this machine ({place})"
            for place in places
            if f"{place}/" in text
        ][:1]
    return found


def upload(planned: Upload, api: "HfApi") -> str:
    """Send what was planned into a private repository; returns its address. Raises `KitError` when
    something stands against it.
    """
    if planned.refused:
        raise KitError(f"{planned.what} is not sent: {planned.refused[0]}")
    for file in planned.files:
        if hash_path(planned.folder / file.name) != file.sha256:
            raise KitError(f"{planned.what} is not sent: {file.name} changed after it was shown")
    api.create_repo(planned.repo, repo_type=planned.kind, private=True, exist_ok=True)
    if not api.repo_info(
        planned.repo, repo_type=planned.kind
    ).private:  # it was there already: the hub then ignores `private`
        raise KitError(
            f"{planned.what} is not sent: {planned.repo} is public; make it private first, or name"
            " another"
        )
    names = [file.name for file in planned.files]
    info = api.upload_folder(
        repo_id=planned.repo,
        repo_type=planned.kind,
        folder_path=planned.folder,
        allow_patterns=names,
        commit_message=f"{planned.what} of a run of the kit",
    )
    return info.commit_url
