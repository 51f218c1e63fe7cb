"""One run of one notebook: parameters, seed, inputs, outputs, row accounting, results, manifest.

A stage owns the folder `runs/<mode>[-<RUN>]/<notebook>/`. Its `run.json` is written last: its
existence means the stage is complete. `results.json` holds only what must be identical on the same
machine; seconds and memory live in `run.json`.
"""

import json
import os
import platform
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import parameters
from .errors import AccountingError, InputError, KitError
from .files import file_lock, write_json
from .freshness import fingerprint, package_versions
from .provenance import (
    NOTEBOOKS,
    device_state,
    git_state,
    hash_path,
    portable_path,
    resolve_path,
    run_folder,
    shown_path,
)

RESULTS_MIME = "application/vnd.bimedix.results+json"
_LOCK_SECONDS = 4  # how long to wait for a stage folder that another process holds
_open_runs: dict[str, "Run"] = {}  # a kernel that runs its header twice must not fight its own lock


def set_seed(value: int) -> None:
    """Seed Python, NumPy and, where it is loaded, PyTorch: right before each stochastic step."""
    import numpy

    random.seed(value)
    numpy.random.seed(value % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(value)


class Run:
    """A started stage, made by `start_run`."""

    def __init__(self, notebook: str, values: dict[str, Any]):
        self.notebook, self.params = notebook, values
        self.folder = run_folder(values["MODE"], values["RUN"]) / notebook
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = ExitStack()  # held until `close`; the kernel of a killed run frees it late
        busy = KitError(
            f"{shown_path(self.folder)} is in use by another process: wait for it, or give this"
            " run a name (RUN=...)"
        )
        self._lock.enter_context(file_lock(self.folder / ".lock", _LOCK_SECONDS, busy))
        for stale in ("run.json", "results.json"):
            (self.folder / stale).unlink(missing_ok=True)
        # Taken now: code edited while this stage runs is not the code that ran.
        self._fingerprint = fingerprint(notebook, values)
        self._begin, self._inputs, self._outputs = time.time(), {}, []
        self._counts: dict[str, dict[str, int]] = {}
        self._results: dict[str, Any] = {}
        self._learned: dict[str, tuple[int, int]] = {}
        self._incomplete = False
        self._machine: dict[str, Any] = {}
        self._not_run: list[str] = []

    def stage(self, name: str) -> Path:
        """The folder of an earlier, complete stage of this run; its outputs become inputs here."""
        folder = self.folder.parent / name
        if not (folder / "run.json").exists():
            named = f"RUN={self.params['RUN']} " if self.params["RUN"] else ""
            raise InputError(
                f"{name} has not finished in {shown_path(folder.parent)}: make run"
                f" MODE={self.params['MODE']} {named}NB={name[:2]}"
            )
        # Not run.json itself: it holds times, which change without any change of content.
        for output in json.loads((folder / "run.json").read_text(encoding="utf-8"))["outputs"]:
            self.input(folder / output)
        return folder

    def input(self, path: Path | str) -> Path:
        """Register a file or folder that this stage reads. Raises `InputError` when absent."""
        path = resolve_path(str(path))
        if not path.exists():
            raise InputError(f"{shown_path(path)} does not exist")
        self._inputs[portable_path(path, self.folder.parent)] = hash_path(path)
        return path

    def output(self, name: str) -> Path:
        """The path of an output of this stage; `finish` fails if it was not written."""
        self._outputs.append(name)
        return self.folder / name

    def account(self, title: str, ids: Iterable[str], statuses: dict[str, str]) -> dict[str, int]:
        """Prove that each input id ended in exactly one status; record and return the counts.

        Raises `AccountingError` naming the first ids that vanished, appeared or are duplicates.
        """
        times = Counter(iter(ids))  # a mapping counts by its keys
        wrong = {
            "are duplicates": {row_id for row_id, count in times.items() if count > 1},
            "vanished": set(times) - set(statuses),
            "came from nowhere": set(statuses) - set(times),
        }
        for word, rows in wrong.items():
            if rows:
                first = ", ".join(sorted(rows)[:3])
                raise AccountingError(f"{title}: {len(rows)} rows {word}, first {first}")
        return self.tally(title, len(times), Counter(statuses.values()))

    def tally(
        self, title: str, rows: int, counts: Mapping[str, int], duplicates: Collection[Any] = ()
    ) -> dict[str, int]:
        """`account` for rows that were read one at a time: the counts must add up to `rows`.

        `duplicates` is what `records.IdSet` found. Raises `AccountingError` naming both sums.
        """
        found = {status: n for status, n in sorted(counts.items()) if n}
        if duplicates:
            raise AccountingError(f"{title}: {len(duplicates)} ids are duplicates")
        if (total := sum(found.values())) != rows:
            raise AccountingError(
                f"{title}: {rows} rows came in, the statuses add up to {total} ({found})"
            )
        self._counts[title] = {"rows": rows, **found}
        return found

    def result(self, name: str, value: Any) -> None:
        """Record an exact result (count, id, hash, category); the tests compare it literally."""
        self._results[name] = value

    def learned(self, name: str, hits: int, n: int) -> str:
        """Record a learned share `hits / n`; the tests compare it within a band derived from n.

        Returns the text to print, marked with the sign that the tests' sanitiser knows.
        """
        self._learned[name] = (int(hits), int(n))
        return learned_text(hits, n)

    def not_run(self, what: str) -> None:
        """Say what this mode leaves out. Printed here and listed on the report's first page."""
        self._not_run.append(what)
        print(f"not run in this mode: {what}")

    def incomplete(self, missing: int, what: str) -> None:
        """Say what another try may bring; unless `missing` is 0 the stage then runs again."""
        if missing:
            self._incomplete = True
            self.not_run(f"{missing:,} {what}: the same command looks for them again")

    def machine(self, name: str, value: Any) -> None:
        """Record what belongs to the machine (seconds, bytes): kept out of results.json."""
        self._machine[name] = value

    def finish(self) -> None:
        """Hash the outputs, write results.json, then run.json, and show the results. Last call."""
        from IPython.display import display

        outputs = {}
        for name in self._outputs:
            if not (self.folder / name).exists():
                raise KitError(f"{self.notebook} announced {name} and did not write it")
            outputs[name] = hash_path(self.folder / name)
        results = {
            "results": self._results,
            "learned": {name: {"hits": hits, "n": n} for name, (hits, n) in self._learned.items()},
            "counts": self._counts,
            "not_run": self._not_run,
        }
        write_json(self.folder / "results.json", results)
        manifest = {
            "notebook": self.notebook,
            "parameters": self.params,
            "fingerprint": self._fingerprint,
            "incomplete": self._incomplete,
            "inputs": self._inputs,
            "outputs": outputs,
            "counts": self._counts,
            "git": git_state(),
            "versions": {"python": platform.python_version(), **package_versions()},
            "device": device_state(),
            "machine": self._machine,
            "seconds": round(time.time() - self._begin, 1),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        write_json(self.folder / "run.json", manifest)
        self.close()
        lines = [
            *(
                f"{k}: {json.dumps(v, ensure_ascii=False)}"
                for k, v in sorted(self._results.items())
            ),
            *(f"{k}: {learned_text(*v)}" for k, v in sorted(self._learned.items())),
        ]
        told = {"results": self._results, "learned": sorted(self._learned)}
        display({RESULTS_MIME: told, "text/plain": "\n".join(lines)}, raw=True)

    def close(self) -> None:
        """Give the stage folder back, so that another process may run it."""
        self._lock.close()
        _open_runs.pop(str(self.folder), None)


def learned_text(hits: int, n: int) -> str:
    """A learned share as text; the sign ≈ tells that it may differ on another machine."""
    return f"≈{hits / n:.3f} (n={n})" if n else "not run (n=0)"


def start_run(notebook: str, namespace: dict[str, Any]) -> Run:
    """The header of every notebook: `run = core.start_run("03_translate_and_refine", globals())`.

    Checks the parameters against the notebook's own declaration, fixes seed and threads, and opens
    the stage's folder. Raises `ParameterError` for unknown, missing or mistyped parameters and
    `KitError` when another process holds the folder.
    """
    values = parameters.parameters_from_namespace(NOTEBOOKS / f"{notebook}.ipynb", namespace)
    folder = str(run_folder(values["MODE"], values["RUN"]) / notebook)
    if folder in _open_runs:
        _open_runs[folder].close()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # deterministic matmuls on a GPU
    if "THREADS" in values:
        os.environ["OMP_NUM_THREADS"] = str(values["THREADS"])
    set_seed(values["SEED"])
    _open_runs[folder] = run = Run(notebook, values)
    print(f"{notebook}  mode {values['MODE']}  seed {values['SEED']}  ->  {shown_path(run.folder)}")
    return run
