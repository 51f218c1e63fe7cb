"""The smoke chain as a user runs it: ten notebooks through papermill in a folder of its own,
without a network.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bimedix_utils.core.provenance import NOTEBOOKS, ROOT

pytestmark = pytest.mark.chain
SUPPORT = Path(__file__).parent / "support"


def start(folder: Path, *arguments: str, action: str = "run", **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "bimedix_utils.runner.pipeline", action, *arguments]
    environment = {**os.environ, "BIMEDIX_RUNS": str(folder), **variables}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def pipeline(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    process = start(folder, *arguments, **variables)
    output, _ = process.communicate()
    return process.returncode, output


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """`make test` names a scratch folder, so that the notebook check behind this one finds the
    cached base model.
    """
    return Path(os.environ.get("BIMEDIX_RUNS") or tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def chain(runs) -> dict:
    """The whole smoke run with the network closed: its output, its folder, and what tried to reach
    another machine.
    """
    log = runs / "network.log"
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    code, output = pipeline(runs, NETWORK_LOG=str(log), PYTHONPATH=path)
    assert code == 0, output[-3000:]
    return {
        "output": output,
        "folder": runs / "smoke",
        "network": log.read_text() if log.exists() else "",
    }


def stages(folder: Path, name: str) -> dict[str, dict]:
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob(f"[0-9][0-9]_*/{name}"))
    }


def test_all_ten_notebooks_run_and_leave_manifests_and_results(chain):
    assert list(stages(chain["folder"], "run.json")) == [
        path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    ]
    assert json.loads((chain["folder"] / "results.json").read_text()) == stages(
        chain["folder"], "results.json"
    )
    assert "10 of 10 notebooks run" in chain["output"] and "peak MB" in chain["output"]


def test_the_smoke_run_reaches_no_other_machine(chain):
    assert chain["network"] == ""


def test_rows_never_vanish(chain):
    tables = [
        counts
        for stage in stages(chain["folder"], "results.json").values()
        for counts in stage["counts"].values()
    ]
    assert len(tables) >= 6
    for counts in tables:
        assert counts["rows"] == sum(n for status, n in counts.items() if status != "rows") > 0


def test_a_second_run_executes_nothing_and_is_quick(chain, runs):
    begin = time.monotonic()
    code, output = pipeline(runs)
    assert code == 0 and "0 of 10 notebooks run, 10 unchanged" in output
    assert time.monotonic() - begin < 15


def test_learned_numbers_lie_within_the_band_around_the_committed_ones(chain):
    """Two training runs on two machines differ; the band is 4 standard errors of a difference of
    two shares, plus 6 points that the same seed's order of additions was seen to move the tiny
    model by.
    """
    seen = 0
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", [])]
        text = "".join(
            "".join(o["data"]["text/plain"])
            for o in outputs
            if "application/vnd.bimedix.results+json" in o.get("data", {})
        )
        committed = {
            name: (float(p), int(n))
            for name, p, n in re.findall(r"^(.+?): ≈([\d.]+) \(n=(\d+)\)$", text, re.MULTILINE)
        }
        fresh = stages(chain["folder"], "results.json")[path.stem]["learned"]
        assert committed.keys() == fresh.keys()
        for name, (share, n) in committed.items():
            new = fresh[name]["hits"] / fresh[name]["n"]
            middle = (share + new) / 2
            assert fresh[name]["n"] == n
            assert (
                abs(share - new) <= 4 * (2 * max(middle * (1 - middle), 1 / n) / n) ** 0.5 + 0.06
            ), f"{name}: {share} committed, {new} now"
            seen += 1
    assert seen >= 16


def numbers_of_row(card: Path, first_cell: str) -> list[int]:
    """The numbers of the table row that begins with a cell, marks and signs left out."""
    for line in card.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" *`") for cell in line.strip("|").split("|")]
        if cells[0] == first_cell:
            return [int(cell) for cell in cells[1:] if cell.isdigit()]
    raise AssertionError(f"{card}: no row {first_cell}")


def test_row_counts_on_the_data_cards_are_those_of_the_run(chain):
    """Everything shipped is exercised: the smoke run counts as many rows, facts and answers as the
    cards promise.
    """
    results = {
        name: stage["results"] for name, stage in stages(chain["folder"], "results.json").items()
    }
    cards = {
        name: ROOT / "data" / name / "README.md" for name in ("sample", "knowledge", "recordings")
    }
    prepared = results["01_prepare_sources"]
    assert numbers_of_row(cards["sample"], "all") == [prepared["translated_pairs"]]
    assert sum(prepared["rows_by_kind"].values()) == 2 * prepared["translated_pairs"]
    assert (
        len(prepared["facts"]) == 19
        and sum(prepared["facts"].values()) == numbers_of_row(cards["knowledge"], "all")[0]
    )
    for relation, facts in prepared["facts"].items():
        assert numbers_of_row(cards["knowledge"], relation)[0] == facts
    answers = (
        results["02_synthesize_chats"]["answers"] | results["03_translate_and_refine"]["answers"]
    )
    lines, translate, score, refine, chats, repairs = numbers_of_row(cards["recordings"], "all")
    assert repairs == sum(
        answers.pop(stage) for stage in list(answers) if stage.startswith("repair_")
    )
    assert answers == {
        "synthesize_chat": chats,
        "translate": translate,
        "score": score,
        "refine": refine,
    }
    assert lines == sum(answers.values()) + repairs, "a recording no request asked for"
    text = cards["recordings"].read_text(encoding="utf-8")
    chat, translated = (
        results["02_synthesize_chats"]["statuses"],
        results["03_translate_and_refine"]["states"],
    )
    assert (
        f"{chat['ok']} chats are usable, {chat['rejected']} rejected, {chat['refused']} refused"
        in text
    )
    tests = results["03_translate_and_refine"]["test_items"]
    assert (
        f"{translated['accept'] - tests['accept']} are accepted" in text
        and f"{translated['human'] - tests['human']} go to a person" in text
    )
    assert (
        f"Of {sum(tests.values())} test items {tests['accept']} are accepted, {tests['human']} go"
        " to a person" in text
    )


def test_the_report_opens_offline(chain):
    pages = sorted((chain["folder"] / "report").glob("*.html"))
    assert len(pages) == 16  # ten notebooks; start, exercises, glossary, results, figures, cards
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(
            r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//[^"' >]+""", text
        ), page.name
    texts = {page.stem: page.read_text(encoding="utf-8") for page in pages}
    assert (
        any("What was not run" in text for text in texts.values()) and 'dir="rtl"' in texts["index"]
    )
    assert texts["figures"].count("<figure") >= 8


def test_killed_stages_resume_with_the_same_result(chain, runs):
    for wait in (4, 9):
        process = start(runs, "--nb", "01 02 03 04 05", "--set", "RUN=killed")
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    code, output = pipeline(runs, "--nb", "01 02 03 04 05", "--set", "RUN=killed")
    assert code == 0, output[-2000:]
    whole, resumed = (
        stages(chain["folder"], "results.json"),
        stages(runs / "smoke-killed", "results.json"),
    )
    assert resumed == {name: whole[name] for name in resumed} and len(resumed) == 5


def test_another_seed_queues_other_rows_and_runs_as_well(chain, runs):
    code, output = pipeline(runs, "--nb", "01 02 03 04 05", "--set", "RUN=seed", "SEED=7")
    assert code == 0, output[-2000:]
    first, second = (
        stages(folder, "results.json")["04_review_translations"]["counts"]
        for folder in (chain["folder"], runs / "smoke-seed")
    )
    assert first != second and first["translated rows"]["rows"] == second["translated rows"]["rows"]


@pytest.mark.parametrize(
    ("parameter", "hint"),
    [("LORA_RNAK=8", "LORA_RANK"), ("SEED=abc", "int"), ("MODE=fast", "smoke")],
)
def test_the_runner_refuses_wrong_parameters_before_anything_runs(runs, parameter, hint):
    code, output = pipeline(runs, "--set", parameter, "RUN=never")
    assert code == 1 and "ParameterError" in output and hint in output
    assert not (runs / "smoke-never").exists()


def test_plain_papermill_refuses_a_misspelt_parameter(runs, tmp_path):
    command = [
        sys.executable,
        "-m",
        "papermill",
        "06_finetune_qlora.ipynb",
        str(tmp_path / "out.ipynb"),
        "--cwd",
        str(NOTEBOOKS),
    ]
    done = subprocess.run(
        [*command, "-p", "LORA_RNAK", "8"],
        cwd=NOTEBOOKS,
        env={**os.environ, "BIMEDIX_RUNS": str(runs)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "unknown parameter LORA_RNAK; did you mean LORA_RANK?" in done.stderr + done.stdout


def test_a_missing_folder_and_broken_files_stop_with_what_to_do(runs, tmp_path):
    code, output = pipeline(
        runs, "--nb", "01", "--set", "RUN=broken", f"RAW_DIR={tmp_path / 'nowhere'}"
    )
    assert code == 1 and "does not exist" in output
    (tmp_path / "medmcqa_dev.jsonl").write_bytes('{"question": "ما هي"}\n'.encode("windows-1256"))
    code, output = pipeline(runs, "--nb", "01", "--set", "RUN=broken", f"RAW_DIR={tmp_path}")
    assert code == 1 and "medmcqa_dev.jsonl, line 1" in output and "iconv" in output


def test_answers_of_an_endpoint_are_paid_for_once(chain, runs, tmp_path):
    """Delete the stage outputs, keep the answer store, run again: the server is not asked."""
    from support.stub_server import Stub

    turns = [
        ("patient", "I feel tired."),
        ("doctor", "Since when?"),
        ("patient", "A week."),
        ("doctor", "Please see a clinician soon."),
    ]
    chat = json.dumps({"turns": [{"role": role, "text": text} for role, text in turns]})
    with Stub(answer=lambda text: chat) as server:
        given = [
            "RUN=paid",
            "TEACHER=http",
            f"TEACHER_URL={server.url}",
            "TEACHER_MODEL=stub",
            "MAX_CHATS=6",
        ]
        for expected in (6, 6):
            code, output = pipeline(
                runs,
                "--nb",
                "01 02",
                "--set",
                *given,
                BIMEDIX_ANSWERS=str(tmp_path / "answers.sqlite"),
            )
            assert code == 0, output[-2000:]
            assert server.total == expected
            statuses = stages(runs / "smoke-paid", "results.json")["02_synthesize_chats"]["counts"][
                "questions"
            ]
            assert statuses["rows"] == sum(n for status, n in statuses.items() if status != "rows")
            shutil.rmtree(runs / "smoke-paid" / "02_synthesize_chats")


def test_the_same_command_reads_real_published_rows(chain, runs, raw_dir):
    base = next(runs.glob("cache/tiny-*"))
    given = ["RUN=real", f"RAW_DIR={raw_dir}"]
    code, output = pipeline(runs, "--nb", "01 02 03 04 05", "--set", *given)
    assert code == 0, output[-3000:]
    counts = {
        name: stage["counts"] for name, stage in stages(runs / "smoke-real", "results.json").items()
    }
    assert counts["02_synthesize_chats"]["questions"].keys() == {"rows", "held"}, (
        "a real test row was sent to the teacher"
    )
    assert set(counts["03_translate_and_refine"]["rows to translate"]) == {"rows", "held"}
    code, output = pipeline(runs, "--nb", "07", "--set", *given, f"MODEL={base}", "EVAL_ROWS=12")
    assert code == 0, output[-3000:]
    found = stages(runs / "smoke-real", "results.json")["07_evaluate_models"]
    assert (
        found["results"]["tasks"] == 11
    )  # four MMLU subjects in two languages, MedMCQA, MedQA, PubMedQA in English
    assert found["learned"]["model mmlu_medical_genetics ar label"]["n"] == 12
