"""What may leave the machine, what is shown before, and cards the hub can read; the container
file's words lead somewhere.
"""

import hashlib
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, HfApi, ModelCard
from support.uploads import UploadStub

from bimedix_utils.core.errors import InputError, KitError
from bimedix_utils.core.files import write_json
from bimedix_utils.core.provenance import ROOT, hash_path
from bimedix_utils.mixture import mix_card
from bimedix_utils.runner import hub_cards as cards
from bimedix_utils.runner import publish
from bimedix_utils.training.adapter_card import write_adapter_card
from bimedix_utils.training.loop import TrainingOutcome
from bimedix_utils.training.recipe import Recipe

pytestmark = pytest.mark.unit
KIT = {"id": "medmcqa:kit-medmcqa-001", "source": "medmcqa", "licence": "CC-BY-4.0"}
UMLS = {"id": "umls_qa:7", "source": "umls_qa", "licence": "UMLS Metathesaurus License"}
STRANGE = {"id": "open_qa:9", "source": "open_qa", "licence": "not found"}


def mix(run: Path, rows: list[dict]) -> None:
    """A mix as notebook 05 leaves it: shard, manifest, card, and the working files nobody else
    should get.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = run / "05_build_bilingual_mix" / "bimed"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / ".work").mkdir(exist_ok=True)
    (folder / ".work" / "features.npy").write_bytes(b"secret")
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "train-00000-of-00001.parquet")
    sources = [
        {
            "source": r["source"],
            "lang": "en",
            "licence": r["licence"],
            "redistribution": "allowed",
            "rows": 1,
        }
        for r in rows
    ]
    manifest = {"mode": "smoke", "sources": sources, "splits": {"train": len(rows)}}
    write_json(folder / "manifest.json", manifest)
    (folder / "README.md").write_text(mix_card(manifest), encoding="utf-8")


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run in which a tiny model was trained, merged and evaluated on two tasks."""
    monkeypatch.setenv("BIMEDIX_RUNS", str(tmp_path / "runs"))
    run = tmp_path / "runs" / "smoke"
    training = run / cards.TRAINING
    (training / "adapter").mkdir(parents=True)
    (training / "merged").mkdir()
    mix(run, [KIT])
    outcome = TrainingOutcome(
        [{"step": 1, "loss": 5.0}, {"step": 9, "loss": 0.5}, {"step": 9, "eval_loss": 2.5}],
        9,
        0,
        [],
        None,
    )
    write_adapter_card(
        "tiny",
        Recipe(2e-3, 9, 1024, 1024, 42, 200),
        64,
        "attention experts router",
        {"ar": 3, "en": 6},
        0.25,
        outcome,
        training / "adapter",
    )
    (training / "adapter" / "adapter_model.safetensors").write_bytes(b"0" * 100)
    (training / "adapter" / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "tiny-1"}'
    )
    (training / "adapter" / "optimizer.pt").write_bytes(b"a pickle")
    (training / "merged" / "model.safetensors").write_bytes(b"1" * 200)
    write_json(
        training / "base.json", {"model": "tiny", "folder": "project:x", "revision": "not found"}
    )
    write_json(training / "run.json", {"inputs": {"run:05_build_bilingual_mix/bimed": "x"}})
    evaluation = run / cards.EVALUATION
    learned = {
        "tuned medqa ar label": {"hits": 2, "n": 10},
        "tuned taught en": {"hits": 9, "n": 12},
        "base medqa ar label": {"hits": 1, "n": 10},
    }
    write_json(
        evaluation / "results.json",
        {"results": {}, "learned": learned | {"tuned pubmedqa en label": {"hits": 0, "n": 0}}},
    )
    write_json(
        evaluation / "run.json",
        {"inputs": {"run:06_finetune_qlora/adapter": hash_path(training / "adapter")}},
    )
    return run


def test_the_model_card_is_read_back_by_the_hubs_own_classes(run):
    planned = publish.plan_upload(run, "adapter", "me/kit-adapter")
    card = ModelCard(planned.card)
    assert (
        card.data.license == "cc-by-4.0"
        and card.data.library_name == "peft"
        and sorted(card.data.language) == ["ar", "en"]
    )
    assert card.data.base_model is None, "the toy base is on no hub"
    found = {
        (r.dataset_type, r.dataset_config, r.metric_name): (r.metric_value, r.metric_args["n"])
        for r in card.data.eval_results
    }
    assert found == {
        ("medqa", "ar", "accuracy, label"): (0.2, 10),
        ("taught", "en", "accuracy, option_text"): (0.75, 12),
    }
    assert card.data.eval_results[0].metric_args["wilson_95"] == pytest.approx(
        [0.0567, 0.5098], abs=1e-4
    )
    for part in (
        "Intended use",
        "Limits",
        "Safety",
        "Licence",
        "Evaluation",
        "LoRA rank 64",
        "held-out loss 2.500",
        "Not medical advice",
        "وليس هذا مشورة طبية",
    ):
        assert part in card.text, part


def test_a_reader_of_the_report_gets_the_same_cards(run):
    found = publish.run_cards(run)
    assert (
        set(found) == {"adapter", "merged", "mix"} and ModelCard(found["adapter"]).data.eval_results
    )
    (run / cards.TRAINING / "base.json").unlink()
    assert set(publish.run_cards(run)) == {"mix"}, "a stage that was killed has no card"


def test_scores_of_an_older_adapter_are_not_on_the_card(run):
    (run / cards.TRAINING / "adapter" / "adapter_model.safetensors").write_bytes(b"trained again")
    card = publish.plan_upload(run, "merged", "me/m").card
    assert ModelCard(card).data.eval_results is None and "evaluated another adapter" in card
    (run / cards.EVALUATION / "run.json").unlink()
    assert "has not evaluated it" in publish.plan_upload(run, "adapter", "me/m").card


def test_the_plan_lists_exactly_what_is_staged_and_leaves_the_stage_alone(run):
    source = run / cards.TRAINING / "adapter"
    before = hash_path(source)
    planned = publish.plan_upload(run, "adapter", "me/a")
    assert [file.name for file in planned.files] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert planned.left_out == ["optimizer.pt"] and not planned.refusals
    for name, size, sha in planned.files:
        content = (planned.folder / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, sha)
        assert f"{size:>13,}  {sha}  {name}" in planned.describe()
    assert (
        (planned.folder / "README.md").read_text(encoding="utf-8")
        == planned.card
        != (source / "README.md").read_text(encoding="utf-8")
    )
    assert hash_path(source) == before, "07's scores belong to this hash"


@pytest.mark.parametrize(
    ("row", "named"), [(UMLS, "UMLS Metathesaurus License"), (STRANGE, "not found")]
)
def test_rows_that_may_not_be_passed_on_stop_the_mix_and_the_model(run, row, named):
    mix(run, [KIT, row])
    planned = publish.plan_upload(run, "mix", "me/mix")
    assert (
        len(planned.refusals) == 1
        and named in planned.refusals[0]
        and "PURPOSE=publish" in planned.refusals[0]
    )
    with pytest.raises(KitError, match="not sent"):
        publish.send_upload(planned, HfApi(endpoint="http://127.0.0.1:9", token="hf_x"))
    assert "no licence can be stated" in publish.plan_upload(run, "adapter", "me/a").refusals[0]


def test_the_mix_goes_without_its_working_files(run):
    planned = publish.plan_upload(run, "mix", "me/mix")
    assert [file.name for file in planned.files] == [
        "README.md",
        "data/train-00000-of-00001.parquet",
        "manifest.json",
    ] and not planned.refusals
    assert DatasetCard(planned.card).data.license == "cc-by-4.0"


def test_a_test_set_gets_a_header_and_every_row_is_looked_at(run):
    folder = run / "04_review_translations" / "testset"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# A set\n")
    (folder / "medmcqa.ar.jsonl").write_text(json.dumps(KIT) + "\n")
    tasks = {
        "medmcqa": {"file": "medmcqa.ar.jsonl", "items": 1},
        "medqa": {"file": "medqa.ar.jsonl", "items": 0},
    }
    write_json(
        folder / "manifest.json", {"language": "ar", "version": "1.x", "items": 1, "tasks": tasks}
    )
    planned = publish.plan_upload(run, "testset", "me/t")
    card = DatasetCard(planned.card)
    assert (
        not planned.refusals
        and card.data.language == ["ar"]
        and card.data.license == "cc-by-4.0"
        and "# A set" in card.text
    )
    assert card.data.configs == [
        {"config_name": "medmcqa", "data_files": [{"split": "test", "path": "medmcqa.ar.jsonl"}]}
    ]
    (folder / "medmcqa.ar.jsonl").write_text("")
    assert "no row is in it" in publish.plan_upload(run, "testset", "me/t").refusals
    (folder / "medmcqa.ar.jsonl").write_text(json.dumps(KIT) + "\n" + json.dumps(UMLS) + "\n")
    assert "1 rows of umls_qa" in publish.plan_upload(run, "testset", "me/t").refusals[0]


@pytest.mark.parametrize(
    ("named", "wanted"),
    [
        ({"base": "Apache-2.0", "rows": "CC-BY-4.0"}, "cc-by-4.0"),
        ({"base": "cc-by-nc-sa-4.0", "rows": "MIT"}, "cc-by-nc-sa-4.0"),
        ({"base": "cc-by-nc-4.0", "rows": "cc-by-sa-4.0"}, "not found"),
        ({"base": "cc-by-nc-sa-4.0", "rows": "cc-by-sa-4.0"}, "not found"),
        ({"base": "apache-2.0", "rows": "UMLS Metathesaurus License"}, "not found"),
        ({}, "not found"),
    ],
)
def test_the_strictest_licence_is_inherited(named, wanted):
    found = cards.strictest_licence(named)
    assert found.name == wanted and all(licence in found.why for licence in named.values())


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("BiMediX/BiMediX-Bi", "cc-by-nc-sa-4.0"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "cc-by-4.0"),
        ("somebody/model", "not found"),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "not found"),
    ],
)
def test_the_base_models_licence_counts(run, model, wanted):
    """The paper's weights are CC-BY-NC-SA: an adapter trained on them must say so, though its rows
    are CC BY.
    """
    write_json(run / cards.TRAINING / "base.json", {"model": model})
    planned = publish.plan_upload(run, "adapter", "me/a")
    assert ModelCard(planned.card).data.base_model == model and bool(planned.refusals) == (
        wanted == "not found"
    )
    assert ModelCard(planned.card).data.license == (wanted if wanted != "not found" else "other")


def test_a_file_that_names_a_folder_of_this_machine_is_refused(run):
    (run / cards.TRAINING / "adapter" / "adapter_config.json").write_text(
        json.dumps({"base": f"{ROOT}/runs/cache/tiny"})
    )
    assert (
        "names a folder of this machine" in publish.plan_upload(run, "adapter", "me/a").refusals[0]
    )


@pytest.mark.parametrize(
    ("what", "repo", "message"),
    [
        ("all", "me/a", "WHAT"),
        ("adapter", "", "REPO"),
        ("adapter", "me/../a", "REPO"),
        ("testset", "me/a", "run notebook 04"),
    ],
)
def test_a_wrong_wish_is_answered_with_the_right_one(run, what, repo, message):
    with pytest.raises(InputError, match=message):
        publish.plan_upload(run, what, repo)


def test_nothing_is_sent_unless_that_is_said(run, monkeypatch, capsys):
    def sent(*arguments: object) -> str:
        raise AssertionError("sent")

    monkeypatch.setattr(publish, "send_upload", sent)
    assert publish.main(["--repo", "me/kit"]) == 0
    text = capsys.readouterr().out
    assert (
        "me/kit-adapter (private)" in text
        and "me/kit-mix" in text
        and "nothing was sent" in text
        and "| license: cc-by-4.0" in text
    )
    for word in ("no", "", "false", "00"):
        assert publish.main(["--repo", "me/kit", "--dry-run", word]) == 1
    mix(run, [UMLS])
    assert publish.main(["--repo", "me/kit", "--what", "mix", "--dry-run", "0"]) == 1
    assert "refused" in capsys.readouterr().err


def test_what_was_shown_is_what_arrives(run):
    with UploadStub() as hub:
        planned = publish.plan_upload(run, "adapter", "me/kit-adapter")
        address = publish.send_upload(planned, HfApi(endpoint=hub.url, token="hf_test"))
        assert address.endswith("/me/kit-adapter/commit/1") and hub.created[0]["private"] is True
        arrived = {
            name: hashlib.sha256(content).hexdigest()
            for name, content in hub.files["me/kit-adapter"].items()
        }
        assert arrived == {file.name: file.sha256 for file in planned.files}
        hub.public.add("me/kit-adapter")
        with pytest.raises(KitError, match="me/kit-adapter is public"):
            publish.send_upload(planned, HfApi(endpoint=hub.url, token="hf_test"))
        (planned.folder / "adapter_config.json").unlink()
        (planned.folder / "adapter_config.json").write_text("{}")
        with pytest.raises(KitError, match="changed after it was shown"):
            publish.send_upload(planned, HfApi(endpoint=hub.url, token="hf_test"))


# The container file


def words(name: str) -> list[list[str]]:
    """Instructions of a container file, continuation lines joined, comments left out."""
    lines = [
        line
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    return [
        line.split(maxsplit=1)
        for line in "\n".join(lines).replace("\\\n", " ").splitlines()
        if line.strip()
    ]


def test_the_container_file_copies_what_exists_and_calls_targets_that_exist():
    """It cannot be built where the tests run; its words are held against the repository."""
    steps = words("Containerfile")
    assert steps[0][0] in ("ARG", "FROM") and {word for word, _ in steps} <= {
        "ARG",
        "FROM",
        "RUN",
        "WORKDIR",
        "COPY",
        "ENV",
        "USER",
        "EXPOSE",
        "ENTRYPOINT",
        "CMD",
    }
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    called = re.findall(
        r"\bmake ([a-z-]+)",
        " ".join(
            rest.replace('", "', " ")
            for word, rest in steps
            if word in ("RUN", "CMD", "ENTRYPOINT")
        ),
    )
    called = [name for name in called if name != "curl"]
    assert "setup" in called and set(called) - {"git"} <= targets, called
    for word, rest in steps:
        if word == "COPY":
            for source in [part for part in rest.split() if not part.startswith("--")][:-1]:
                assert (ROOT / source).exists(), source
    users = [rest for word, rest in steps if word == "USER"]
    assert users and users[-1] not in ("root", "0"), "it must not run as root"


def test_no_secret_and_no_local_work_gets_into_an_image():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert {".venv", "runs", "data/raw/*", "data/answers/*", ".git"} <= set(ignored)
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").lower()
    assert not re.search(r"token|password|secret|api_key", text)
