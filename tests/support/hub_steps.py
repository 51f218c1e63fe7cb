"""Downloads against the stand-in hub, in a process of its own because the hub's libraries read
HF_ENDPOINT when they are imported.

python tests/support/hub_steps.py FOLDER     prints {step: what hub.main printed and returned} as
JSON
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from hub import HubStub

ROW = {
    "question": "Which nerve?",
    "opa": "a",
    "opb": "b",
    "opc": "c",
    "opd": "d",
    "exp": None,
    "subject_name": "Anatomy",
}


def entry(hub: str, file: str, rows: int | str = 8) -> dict:
    part = {"split": "train", "role": "train", "rows": rows, "file": file, "evidence": "a toy"}
    return {
        "title": "toy",
        "source": "medmcqa",
        "owner": "nobody",
        "hub": hub,
        "languages": ["en"],
        "format": "toy",
        "licence": "MIT",
        "redistribution": "allowed",
        "gated": "not found",
        "component": None,
        "paper": {"status": "not found", "what": ""},
        "parts": [part],
        "evidence": "a toy",
    }


def pubmedqa() -> dict[str, bytes]:
    """A Parquet repository with two configurations, in the layout of the hub copy of PubMedQA."""
    import pyarrow
    import pyarrow.parquet

    files = {"README.md": b"---\nconfigs:\n"}
    for name, decisions in (("pqa_artificial", ["yes", "no"]), ("pqa_labeled", ["maybe"])):
        rows = [
            {
                "pubid": i,
                "question": f"Does {name} help?",
                "context": {"contexts": ["We asked.", "We saw."], "labels": ["A", "B"]},
                "long_answer": "It may.",
                "final_decision": decision,
            }
            for i, decision in enumerate(decisions)
        ]
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
        files[f"{name}/train.parquet"] = sink.getvalue()
        files["README.md"] += (
            f"- config_name: {name}\n  data_files:\n  - split: train\n    path:"
            f" {name}/train.parquet\n".encode()
        )
    files["README.md"] += b"---\n"
    return files


def main(folder: Path) -> dict:
    lines = [json.dumps({"id": f"m{i}", **ROW, "cop": i % 4}) + "\n" for i in range(8)]
    content, other = "".join(lines).encode(), "".join(reversed(lines)).encode()
    card = (
        b"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path:"
        b" data/train.jsonl\n---\n"
    )
    repository = {"README.md": card, "data/train.jsonl": content}
    stub = HubStub(
        {"toy/good": dict(repository), "toy/gated": dict(repository), "toy/pubmedqa": pubmedqa()}
    )
    stub.gated.add("toy/gated")
    os.environ.update(
        HF_ENDPOINT=stub.url, HF_HOME=str(folder / "home"), HF_HUB_DISABLE_TELEMETRY="1"
    )
    from bimedix_utils.sources import catalogue, hub

    toy = {
        "licences": {"MIT": "allowed", "not found": "not found"},
        "entries": {
            "good": entry("toy/good", "medmcqa_train.jsonl"),
            "few": entry("toy/good", "medmcqa_few_train.jsonl", 9),
            "gated": entry("toy/gated", "medmcqa_gated_train.jsonl"),
            "absent": entry("toy/absent", "medmcqa_absent_train.jsonl"),
            "homeless": entry("not found", "medmcqa_homeless_train.jsonl"),
            "parquet": {
                **entry("toy/pubmedqa", "pubmedqa_artificial_train.jsonl", 2),
                "source": "pubmedqa",
                "config": "pqa_artificial",
            },
            "private": {
                **entry("toy/good", "medmcqa_private_train.jsonl"),
                "licence": "not found",
                "redistribution": "not found",
            },
        },
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(toy), encoding="utf-8")
    catalogue.load_catalogue = hub.load_catalogue = lambda: known
    known = catalogue.read_catalogue(folder / "toy.yaml")
    raw, steps = folder / "raw", {}

    def step(title: str, *arguments: str) -> None:
        before, out = len(stub.seen), io.StringIO()
        with contextlib.redirect_stdout(out):
            status = hub.main([*arguments, "--folder", str(raw)])
        lock = hub.read_lock(raw)
        steps[title] = {
            "status": status,
            "output": out.getvalue(),
            "requests": len(stub.seen) - before,
            "lock": lock,
            "files": sorted(p.name for p in raw.iterdir() if not p.name.startswith(".")),
        }

    with stub:
        steps["first commit"] = stub.commits["toy/good"]
        step("first", "good")
        steps["content"] = (raw / "medmcqa_train.jsonl").read_text(encoding="utf-8")
        step("again", "good")
        (raw / "medmcqa_train.jsonl").write_text("{}\n")
        step("touched", "good")
        (raw / "medmcqa_train.jsonl").unlink()
        stub.repositories["toy/good"]["data/train.jsonl"] = other
        step("other content", "good")
        stub.commits["toy/good"] = steps["second commit"] = "f" * 40
        step("moved on", "good")
        step("renewed", "good", "--renew")
        step("parquet", "parquet")
        steps["pubmedqa"] = (raw / "pubmedqa_artificial_train.jsonl").read_text(encoding="utf-8")
        (raw / "pubmedqa_artificial_train.jsonl").unlink()
        for name in ("few", "gated", "absent", "homeless", "private", "nonsense"):
            step(name, name)
    (raw / "medmcqa_private_train.jsonl").unlink()
    step("no network", "private")
    step("kept without a network", "good")
    return steps


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
