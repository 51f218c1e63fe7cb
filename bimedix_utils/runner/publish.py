"""What a run would upload to the hub: shown first, sent only on demand (`make publish`).

python -m bimedix_utils.runner.publish --mode smoke --repo you/name --what "adapter mix"

Three things stop an upload: rows whose licence does not allow redistribution, weights whose licence
is not known, and files that name a folder of this machine. The upload is a staged copy: exactly the
files that were shown. Only `--dry-run 0` (`make publish DRY_RUN=0`) sends it.
"""

import argparse
import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.errors import InputError, KitError, ParameterError, command
from ..core.files import write_text
from ..core.provenance import ROOT, hash_path, run_folder, runs_folder, shown_path
from ..core.records import Record
from ..sources import catalogue
from .hub_cards import hub_model_card, hub_testset_card, model_licence

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PUBLISHED_PARTS = {  # part -> (repository type, folder in the run)
    "adapter": ("model", "06_finetune_qlora/adapter"),
    "merged": ("model", "06_finetune_qlora/merged"),
    "mix": ("dataset", "05_build_bilingual_mix/bimed"),
    "testset": ("dataset", "04_review_translations/testset"),
}
_TEXTS = (".json", ".jinja", ".md", ".txt")
# No pickles, nothing that runs.
_SUFFIXES = (*_TEXTS, ".safetensors", ".parquet", ".jsonl", ".model")
_REPO = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}")


class UploadFile(NamedTuple):
    """One file of an upload."""

    name: str
    size: int  # bytes
    sha256: str


@dataclass
class PlannedUpload:
    """One repository: its files, and the reasons against sending it (none: it may be sent)."""

    part: str
    repo: str
    kind: str  # of repository: model or dataset
    folder: Path
    files: list[UploadFile]
    card: str
    left_out: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Files with size and hash, what is left out, the card, the reasons against sending."""
        size = sum(file.size for file in self.files)
        lines = [
            f"{self.part}  ->  {self.kind} {self.repo} (private)",
            f"{len(self.files)} files, {size:,} bytes, staged in {shown_path(self.folder)}",
        ]
        lines += [f"  {file.size:>13,}  {file.sha256}  {file.name}" for file in self.files]
        lines += [f"  left out: {', '.join(self.left_out)}"] if self.left_out else []
        lines += ["", "card:", *(f"  | {line}".rstrip() for line in self.card.splitlines()), ""]
        return "\n".join([*lines, *(f"REFUSED: {reason}" for reason in self.refusals)])


def plan_upload(run: Path, part: str, repo: str) -> PlannedUpload:
    """Stage one part of a run as it would be uploaded.

    Raises `InputError` when the run has not made it or `repo` is no name.
    """
    if part not in PUBLISHED_PARTS:
        raise InputError(f"WHAT = {part!r}: expected some of {' '.join(PUBLISHED_PARTS)}")
    if not _REPO.fullmatch(repo):
        raise InputError(
            f"REPO = {repo!r}: expected the owner and the name of a repository, such as"
            " REPO=your-name/bimedix-smoke"
        )
    kind, place = PUBLISHED_PARTS[part]
    source, staged = run / place, run / "publish" / part
    if not source.is_dir():
        raise InputError(f"{shown_path(source)} is not there: run notebook {place[:2]} first")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    left_out = _stage_files(source, staged)
    refusals, card = _check_licences(run, part, source, repo)
    # The staged card is a link: writing through it would change the stage's own file.
    (staged / "README.md").unlink(missing_ok=True)
    write_text(staged / "README.md", [card])
    refusals += _local_paths(staged)
    paths = sorted(path for path in staged.rglob("*") if path.is_file())
    files = [
        UploadFile(path.relative_to(staged).as_posix(), path.stat().st_size, hash_path(path))
        for path in paths
    ]
    return PlannedUpload(part, repo, kind, staged, files, card, left_out, refusals)


def _stage_files(source: Path, staged: Path) -> list[str]:
    """Link or copy the files that may be published; returns the names of the others."""
    left_out = []
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        name = path.relative_to(source)
        if any(part.startswith(".") for part in name.parts):
            continue  # the stage's own working files
        if path.suffix not in _SUFFIXES:
            left_out.append(name.as_posix())
            continue
        target = staged / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:  # another disk
            shutil.copyfile(path, target)
    return left_out


def run_cards(run: Path) -> dict[str, str]:
    """{part: its card as `plan_upload` would write it}; an incomplete stage has none."""
    found = {}
    for part, (_, place) in PUBLISHED_PARTS.items():
        source = run / place
        if source.is_dir() and (part != "mix" or (source / "manifest.json").exists()):
            try:
                found[part] = _card(run, part, source, f"owner/{run.name}-{part}")
            except InputError:
                continue  # that stage was not run to its end
    return found


def _card(run: Path, part: str, source: Path, repo: str) -> str:
    if part == "mix":
        return (source / "README.md").read_text(encoding="utf-8")
    if part == "testset":
        return hub_testset_card(source, {licence for _, licence, _ in _row_licences(source, part)})
    return hub_model_card(run, repo, part == "merged")


def _check_licences(run: Path, part: str, source: Path, repo: str) -> tuple[list[str], str]:
    """(reasons against redistribution, the card)."""
    card = _card(run, part, source, repo)
    if part in ("adapter", "merged"):
        licence = model_licence(run)
        return ([] if licence.is_known else [f"no licence can be stated. {licence.why}"]), card
    rows = Counter(_row_licences(source, part))
    advice = "with  make run NB=05 SET=PURPOSE=publish" if part == "mix" else "of the test set"
    refusals = [
        f"{n:,} rows of {name} (licence {licence}) must not be redistributed, or it is not known;"
        f" leave them out {advice}"
        for (name, licence, kit), n in sorted(rows.items())
        if not _may_publish(name, licence, kit)
    ]
    return refusals + ([] if rows else ["no row is in it"]), card


def _row_licences(folder: Path, part: str) -> Iterator[tuple[str, str, bool]]:
    """(source, licence, written for this kit) of each row, read from the files themselves."""
    if part == "mix":
        import pyarrow.parquet as pq

        for path in sorted((folder / "data").glob("*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(columns=["id", "source", "licence"]):
                for row in batch.to_pylist():
                    yield row["source"], row["licence"], ":kit-" in row["id"]
    else:
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                yield row["source"], row["licence"], ":kit-" in row["id"]


def _may_publish(source: str, licence: str, kit: bool) -> bool:
    identity = f"{source}:kit-1" if kit else f"{source}:1"
    record = Record.model_construct(id=identity, source=source, licence=licence)
    return catalogue.may_publish_record(record)


def _local_paths(folder: Path) -> list[str]:
    """Files that name a folder of this machine: of no use to others, and private."""
    places = [str(place) for place in (ROOT, runs_folder(), Path.home()) if len(place.parts) > 1]
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _TEXTS):
        text, name = path.read_text(encoding="utf-8"), path.relative_to(folder).as_posix()
        named = [place for place in places if f"{place}/" in text]
        found += [f"{name} names a folder of this machine ({place})" for place in named[:1]]
    return found


def send_upload(planned: PlannedUpload, api: "HfApi") -> str:
    """Send a planned upload into a private repository; returns its address. Raises `KitError`."""
    refused = f"{planned.part} is not sent: "
    if planned.refusals:
        raise KitError(refused + planned.refusals[0])
    for file in planned.files:
        if hash_path(planned.folder / file.name) != file.sha256:
            raise KitError(f"{refused}{file.name} changed after it was shown")
    api.create_repo(planned.repo, repo_type=planned.kind, private=True, exist_ok=True)
    # The hub ignores `private` for a repository that exists already.
    if not api.repo_info(planned.repo, repo_type=planned.kind).private:
        raise KitError(f"{refused}{planned.repo} is public; make it private first, or name another")
    info = api.upload_folder(
        repo_id=planned.repo,
        repo_type=planned.kind,
        folder_path=planned.folder,
        allow_patterns=[file.name for file in planned.files],
        commit_message=f"{planned.part} of a run of the kit",
    )
    return info.commit_url


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line: 1 when something was refused or went wrong, else 0."""
    parser = argparse.ArgumentParser("bimedix_utils.runner.publish", description=__doc__)
    parser.add_argument("--mode", default="smoke", help="smoke, laptop, gpu or paper")
    parser.add_argument("--run", default="", help="the run's name")
    parser.add_argument("--repo", default="", help="owner/name; several parts: owner/name-part")
    parser.add_argument("--what", default="", help=f"some of {' '.join(PUBLISHED_PARTS)}")
    parser.add_argument("--dry-run", default="1", help="1 shows, 0 sends")
    given = parser.parse_args(arguments)
    if given.dry_run not in ("0", "1"):
        raise ParameterError(f"DRY_RUN = {given.dry_run!r}: 1 shows what would be sent, 0 sends it")
    folder = run_folder(given.mode, given.run)
    made = [part for part, (_, place) in PUBLISHED_PARTS.items() if (folder / place).is_dir()]
    parts = given.what.split() or made
    if not parts:
        raise KitError(f"nothing to publish in {shown_path(folder)}: run  make run  first")
    repos = {part: given.repo if len(parts) == 1 else f"{given.repo}-{part}" for part in parts}
    planned = [plan_upload(folder, part, repo) for part, repo in repos.items()]
    print("\n".join(one.describe() for one in planned))
    if refused := [one.part for one in planned if one.refusals]:
        print(f"\nnothing is sent: {', '.join(refused)} refused, see above", file=sys.stderr)
        return 1
    if given.dry_run == "1":
        print("nothing was sent: this is what  DRY_RUN=0  would upload, into private repositories")
        return 0
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    for one in planned:
        try:
            print(f"sent: {send_upload(one, HfApi())}")
        except (HfHubHTTPError, OSError) as error:
            raise KitError(
                f"{one.part}: the hub refused or could not be reached ({type(error).__name__}); log"
                " in with  hf auth login"
            ) from None
    return 0


if __name__ == "__main__":
    sys.exit(main())
