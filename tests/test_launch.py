"""Many processes: the job on disk, the files that start it, two processes that agree with one, a
launcher that starts too few.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.tiny import RECIPE, adapted, examples

from bimedix_utils import training
from bimedix_utils.core import parameters, runs
from bimedix_utils.core.errors import KitError, ParameterError
from bimedix_utils.core.provenance import NOTEBOOKS, ROOT
from bimedix_utils.training import launch, models
from bimedix_utils.training.launch import job as jobs
from bimedix_utils.training.launch import scripts, start, worker

pytestmark = pytest.mark.unit
SHARDED = Path(__file__).parent / "support" / "sharded.py"


@pytest.fixture(scope="module")
def rows(base):
    from transformers import AutoTokenizer

    return examples(AutoTokenizer.from_pretrained(base))


def prepare(folder, base, rows, processes=2, recipe=RECIPE):
    return launch.prepare(folder, base, rows, rows[:4], recipe, 4, 8, processes=processes)


# --- the job ---


def test_a_job_comes_back_from_disk_as_it_was(tmp_path, base, rows):
    job = prepare(tmp_path, base, rows)
    assert (
        jobs.Job.read(tmp_path) == job
        and jobs.examples(tmp_path, jobs.ROWS) == rows
        and jobs.examples(tmp_path, jobs.HELD) == rows[:4]
    )
    assert prepare(tmp_path, base, rows, processes=1).key == job.key, (
        "the number of processes makes no other job"
    )
    with pytest.raises(KitError, match=r"holds another job \(recipe differ"):
        prepare(tmp_path, base, rows, recipe=training.Recipe(**{**vars(RECIPE), "seed": 9}))


def test_rows_that_were_changed_and_folders_without_a_job_are_refused(tmp_path, base, rows):
    prepare(tmp_path / "job", base, rows)
    with open(tmp_path / "job" / jobs.ROWS, "a", encoding="utf-8") as lines:
        lines.write("{}\n")
    with pytest.raises(KitError, match=r"train\.jsonl is not the file the job was written with"):
        jobs.Job.read(tmp_path / "job")
    with pytest.raises(KitError, match="holds no training job"):
        jobs.Job.read(tmp_path)
    assert launch.outcome(tmp_path / "job") is None


def test_passes_that_do_not_divide_are_refused_with_the_numbers_that_would(base, rows, tmp_path):
    with pytest.raises(
        KitError,
        match=(
            r"2 forward passes a step, which 3 processes cannot share equally: set MICRO_TOKENS ="
            r" 66 .* TOKEN_BUDGET = 300"
        ),
    ):
        prepare(tmp_path, base, rows, processes=3)


def test_several_machines_are_told_what_to_submit(base, rows, tmp_path):
    with pytest.raises(KitError, match=r"2 machines of 1 processes .*sbatch job\.slurm"):
        launch.train(tmp_path, base, rows, [], RECIPE, 4, 8, processes=1, nodes=2)


# --- the files ---


@pytest.mark.parametrize("mode", ["smoke", "gpu", "paper"])
def test_the_files_say_what_the_preset_says(tmp_path, mode):
    from accelerate.commands.config.config_args import ClusterConfig

    values = parameters.preset_values(NOTEBOOKS, mode, NOTEBOOKS / "06_finetune_qlora.ipynb")
    written = {path.name: path for path in launch.files(values, tmp_path)}
    for name in ("torchrun.sh", "job.slurm"):
        subprocess.run(["bash", "-n", str(written[name])], check=True)
        text = written[name].read_text()
        assert (
            f"--nproc_per_node {values['GPUS']}" in text
            and f"OMP_NUM_THREADS={values['THREADS']}" in text
            and "Not run: GPUs" in text
        )
    for parallel in ("ddp", "fsdp"):
        config = ClusterConfig.from_yaml_file(yaml_file=str(written[f"accelerate_{parallel}.yaml"]))
        assert (
            config.num_processes == values["GPUS"] * values["NODES"]
            and config.num_machines == values["NODES"]
        )
        assert bool(config.fsdp_config) == (parallel == "fsdp")


def test_every_key_of_the_sharding_is_one_that_accelerate_knows(tmp_path):
    import yaml
    from accelerate.commands.launch import launch_command_parser

    layout = launch.Layout(8, 2, 4, "fsdp")
    known = {action.dest for action in launch_command_parser()._actions}
    wanted = yaml.safe_load(scripts.accelerate(layout, "fsdp"))["fsdp_config"]
    assert len(wanted) > 8 and not set(wanted) - known


def test_a_layout_that_makes_no_sense_is_refused():
    with pytest.raises(ParameterError, match="ddp or fsdp"):
        launch.Layout(1, 1, 1, "dpp")
    with pytest.raises(ParameterError, match="processes = 0"):
        launch.Layout(0, 1, 1, "ddp")


# --- the processes ---


def in_one_process(base, rows, folder) -> tuple[training.TrainingOutcome, dict]:
    """The same job here, on one thread."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, tokenizer = models.load_base(base)
        runs.set_seed(RECIPE.seed)
        tuned = models.add_adapters(model, 4, 8)
        outcome = training.train(tuned, tokenizer, rows, rows[:4], RECIPE, folder)
    finally:
        torch.set_num_threads(threads)
    return outcome, {
        name: p.detach().clone() for name, p in tuned.named_parameters() if p.requires_grad
    }


def losses(log: list[dict]) -> list[float]:
    return [
        entry.get("loss", entry.get("eval_loss"))
        for entry in log
        if "loss" in entry or "eval_loss" in entry
    ]


@pytest.fixture(scope="module")
def together(base, rows, tmp_path_factory) -> launch.Launched:
    """Two processes of one thread each."""
    folder = tmp_path_factory.mktemp("two")
    seen = []
    found = launch.train(
        folder,
        base,
        rows,
        rows[:4],
        RECIPE,
        4,
        8,
        processes=2,
        every=lambda log: seen.append(len(log)),
    )
    assert seen and seen == sorted(seen), "the caller sees the log grow"
    return found


def test_two_processes_agree_with_one(base, rows, together, tmp_path):
    """The same steps, the same log, and adapters that differ by the order of additions only."""
    from safetensors.torch import load_file

    outcome, wanted = in_one_process(base, rows, tmp_path)
    assert (
        together.processes == 2 and len(set(together.devices)) == 1 and len(together.devices) == 2
    )
    assert together.steps == outcome.steps and losses(together.log) == pytest.approx(
        losses(outcome.log), abs=2e-4
    )
    found = load_file(together.adapter / "adapter_model.safetensors")
    assert len(found) == len(wanted)
    for name, value in wanted.items():
        assert (found[name.replace(".default.", ".")] - value).abs().max() < 1e-5, name
    assert (
        all(sum(step) > 0 for step in zip(*together.shares, strict=True))
        and together.tokens > 0
        and together.seconds > 0
    )


def test_a_finished_job_is_not_run_again(base, rows, together):
    again = launch.train(together.adapter.parent, base, rows, rows[:4], RECIPE, 4, 8, processes=2)
    assert again == together


def test_a_killed_process_ends_the_job_with_its_name_and_the_job_goes_on(
    base, rows, together, tmp_path
):
    """One of two processes is killed behind a checkpoint; run again, the adapter is the one of the
    unbroken run, to the last bit.
    """
    prepare(tmp_path, base, rows)

    def kill_one() -> None:
        metrics, log = tmp_path / worker.CHECKPOINTS / "metrics.jsonl", tmp_path / start.LOG
        while not (metrics.exists() and '"step": 3' in metrics.read_text()):
            time.sleep(0.01)
        os.kill(int(re.search(r"process 1 of 2: pid (\d+)", log.read_text())[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        found = launch.run(tmp_path)
    except KitError as error:
        assert re.search(r"process \d of 2 (was ended by signal SIG\w+|failed)", str(error)), error
        found = launch.run(tmp_path)
        assert found.resumed_at >= 2
    assert found.adapter_hash == together.adapter_hash and found.log == together.log


def test_a_process_alone_says_that_the_launcher_started_too_few(base, rows, tmp_path, monkeypatch):
    prepare(tmp_path, base, rows)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(
        KitError, match="has 1 process, and the job wants 2: the launcher did not start"
    ):
        worker.work(tmp_path)


def test_accelerate_that_silently_starts_one_process_is_stopped(base, rows, tmp_path):
    """`accelerate launch --cpu --num_processes 2` starts one process: the job would run alone, and
    nobody would know.
    """
    prepare(tmp_path, base, rows)
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "-m",
        scripts.WORKER,
        str(tmp_path),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=start.environment(1), cwd=ROOT
    )
    if done.returncode == 0:
        assert launch.outcome(tmp_path).processes == 2, "it did start two after all"
    else:
        assert "the launcher did not start what it was told to" in done.stdout + done.stderr


def test_a_failure_of_a_process_comes_back_as_the_kits_own_error(base, rows, tmp_path):
    """A base that is not there: the reason stands in the error, not only in a log of hundreds of
    lines.
    """
    job = prepare(tmp_path, base, rows, processes=1)
    jobs.Job(**{**vars(job), "base": str(tmp_path / "nowhere")}).write(tmp_path)
    with pytest.raises(KitError, match=r"process 0 of 1: .*nowhere"):
        launch.run(tmp_path)


def test_sharded_training_agrees_with_one_process_and_calls_every_expert(base, tmp_path):
    """float32, on processors made to pass for GPUs: 4 bit and FSDP together do not run here."""
    logs = []
    for processes in (1, 2):
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            str(processes),
        ]
        command += [str(SHARDED), str(base), str(tmp_path / str(processes))]
        done = subprocess.run(
            command, capture_output=True, text=True, env=start.environment(1), timeout=240
        )
        assert done.returncode == 0, done.stderr[-3000:]
        logs.append(
            json.loads(
                next(line for line in done.stdout.splitlines() if line.startswith("LOG "))[4:]
            )[0]
        )
    assert losses(logs[1]) == pytest.approx(losses(logs[0]), abs=5e-4)


def test_sharding_needs_several_processes_and_an_optimiser_it_can_divide(
    base, rows, tmp_path, monkeypatch
):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    model, tokenizer = adapted(base)
    with pytest.raises(KitError, match="there is one"):
        training.train(model, tokenizer, rows, [], RECIPE, tmp_path, parallel="fsdp")
    from bimedix_utils.training import sharded

    with pytest.raises(KitError, match="paged_adamw_8bit keeps its state in blocks"):
        sharded.fsdp_arguments(
            training.Recipe(**{**vars(RECIPE), "optimiser": "paged_adamw_8bit"}), gpu=True
        )
