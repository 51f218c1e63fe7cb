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
from dataclasses import replace
from pathlib import Path

import pytest
from support.tiny import RECIPE, adapted, examples

from bimedix_utils import training
from bimedix_utils.core import runs
from bimedix_utils.core.errors import KitError
from bimedix_utils.core.provenance import ROOT
from bimedix_utils.training import launch, models, sharded
from bimedix_utils.training.launch import job as jobs
from bimedix_utils.training.launch import start, worker

pytestmark = pytest.mark.unit
RECIPES = ROOT / "docs" / "launch"
SHARDED = Path(__file__).parent / "support" / "sharded.py"


@pytest.fixture(scope="module")
def rows(base):
    from transformers import AutoTokenizer

    return examples(AutoTokenizer.from_pretrained(base))


def written(folder, base, rows, processes=2, recipe=RECIPE):
    job = launch.TrainingJob(base, recipe, 4, 8, processes=processes)
    return launch.write_job(folder, job, rows, rows[:4])


def launched(folder, base, rows, on_log=None):
    job = launch.TrainingJob(base, RECIPE, 4, 8, processes=2)
    return launch.launch_training(folder, job, rows, rows[:4], on_log=on_log)


# --- the job ---


def test_a_job_comes_back_from_disk_as_it_was(tmp_path, base, rows):
    job = written(tmp_path, base, rows)
    assert jobs.TrainingJob.read(tmp_path) == job
    assert jobs.read_examples(tmp_path, jobs.TRAIN_FILE) == rows
    assert jobs.read_examples(tmp_path, jobs.HELD_OUT_FILE) == rows[:4]
    assert written(tmp_path, base, rows, processes=1).key == job.key, (
        "the number of processes makes no other job"
    )
    with pytest.raises(KitError, match=r"holds another job \(recipe differ"):
        written(tmp_path, base, rows, recipe=replace(RECIPE, seed=9))


def test_rows_that_were_changed_and_folders_without_a_job_are_refused(tmp_path, base, rows):
    written(tmp_path / "job", base, rows)
    with open(tmp_path / "job" / jobs.TRAIN_FILE, "a", encoding="utf-8") as lines:
        lines.write("{}\n")
    with pytest.raises(KitError, match=r"train\.jsonl is not the file the job was written with"):
        jobs.TrainingJob.read(tmp_path / "job")
    with pytest.raises(KitError, match="holds no training job"):
        jobs.TrainingJob.read(tmp_path)
    assert launch.read_outcome(tmp_path / "job") is None


def test_passes_that_do_not_divide_are_refused_with_the_numbers_that_would(base, rows, tmp_path):
    with pytest.raises(
        KitError,
        match=(
            r"2 micro-batches a step, which 3 processes cannot split equally: set MICRO_TOKENS ="
            r" 66 .* TOKEN_BUDGET = 300"
        ),
    ):
        written(tmp_path, base, rows, processes=3)


def test_several_machines_are_told_what_to_submit(base, rows, tmp_path):
    job = launch.TrainingJob(base, RECIPE, 4, 8, processes=2)
    with pytest.raises(KitError, match=r"2 machines of 1 processes .*sbatch docs/launch/slurm\.sh"):
        launch.launch_training(tmp_path, job, rows, [], nodes=2)


def test_a_part_and_its_modules_are_one_job(base, rows, tmp_path):
    jobs_of = [
        launch.TrainingJob(base, RECIPE, 4, 8, targets)
        for targets in ("attention", "q_proj,k_proj,v_proj,o_proj", ["attention"])
    ]
    assert len({launch.write_job(tmp_path, job, rows, []).key for job in jobs_of}) == 1


# --- the files of docs/launch ---


@pytest.mark.parametrize("name", ["torchrun.sh", "slurm.sh"])
def test_the_scripts_start_the_worker_on_the_job(name):
    subprocess.run(["bash", "-n", str(RECIPES / name)], check=True)
    text = (RECIPES / name).read_text()
    assert '--nproc_per_node "$GPUS"' in text and "OMP_NUM_THREADS=$THREADS" in text
    assert f'-m {start.WORKER} "$job"' in text
    assert "Not tested: GPUs" in (RECIPES / "README.md").read_text()


def test_torchrun_sh_starts_the_processes_it_says(tmp_path, monkeypatch):
    """Run with a torchrun that prints its arguments, and with two processes instead of 8."""
    (tmp_path / "torchrun").write_text('#!/bin/sh\necho "$OMP_NUM_THREADS $@"\n')
    (tmp_path / "torchrun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    script = tmp_path / "torchrun.sh"
    script.write_text((RECIPES / "torchrun.sh").read_text().replace("GPUS=8", "GPUS=2"))
    done = subprocess.run(["bash", script, "job"], capture_output=True, text=True, check=True)
    arguments = "--standalone --nproc_per_node 2 --max_restarts 0"
    assert done.stdout.strip() == f"8 {arguments} -m {start.WORKER} job"


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_files_of_accelerate_hold_keys_and_settings_it_knows(parallel):
    import yaml
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.commands.launch import launch_command_parser

    path = RECIPES / f"accelerate_{parallel}.yaml"
    config = ClusterConfig.from_yaml_file(yaml_file=str(path))
    assert config.num_processes == 8 and bool(config.fsdp_config) == (parallel == "fsdp")
    values = yaml.safe_load(path.read_text()).get("fsdp_config", {})
    assert not set(values) - {action.dest for action in launch_command_parser()._actions}
    settings = {f"fsdp_{name}": value for name, value in sharded.FSDP_SETTINGS.items()}
    assert settings.items() <= values.items() or parallel == "ddp", "one set of settings"


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
def together(base, rows, tmp_path_factory) -> launch.LaunchedOutcome:
    """Two processes of one thread each."""
    folder = tmp_path_factory.mktemp("two")
    seen = []
    found = launched(folder, base, rows, lambda log: seen.append(len(log)))
    assert seen and seen == sorted(seen), "the caller sees the log grow"
    return found


def test_two_processes_agree_with_one(base, rows, together, tmp_path):
    """The same steps, the same log, and adapters that differ by the order of additions only."""
    from safetensors.torch import load_file

    outcome, expected = in_one_process(base, rows, tmp_path)
    assert together.processes == 2
    assert len(set(together.devices)) == 1
    assert len(together.devices) == 2
    assert together.steps == outcome.steps
    assert losses(together.log) == pytest.approx(losses(outcome.log), abs=2e-4)
    found = load_file(together.adapter / "adapter_model.safetensors")
    assert len(found) == len(expected)
    for name, value in expected.items():
        assert (found[name.replace(".default.", ".")] - value).abs().max() < 1e-5, name
    assert all(sum(step) > 0 for step in zip(*together.padded_tokens, strict=True))
    assert together.tokens > 0
    assert together.seconds > 0


def test_a_finished_job_is_not_run_again(base, rows, together):
    again = launched(together.adapter.parent, base, rows)
    assert again == together


def test_a_killed_process_ends_the_job_with_its_name_and_the_job_goes_on(
    base, rows, together, tmp_path
):
    """One of two processes is killed behind a checkpoint; run again, the adapter is the one of the
    unbroken run, to the last bit.
    """
    written(tmp_path, base, rows)

    def kill_one() -> None:
        metrics, log = tmp_path / worker.CHECKPOINTS / "metrics.jsonl", tmp_path / start.LOG
        while not (metrics.exists() and '"step": 3' in metrics.read_text()):
            time.sleep(0.01)
        os.kill(int(re.search(r"process 1 of 2: pid (\d+)", log.read_text())[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    try:
        found = launch.run_job(tmp_path)
    except KitError as error:
        assert re.search(r"process \d of 2 (was ended by signal SIG\w+|failed)", str(error)), error
        found = launch.run_job(tmp_path)
        assert found.resumed_at >= 2
    assert found.adapter_hash == together.adapter_hash and found.log == together.log


def test_a_process_alone_says_that_the_launcher_started_too_few(base, rows, tmp_path, monkeypatch):
    written(tmp_path, base, rows)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(
        KitError, match="has 1 process, and the job needs 2: the launcher started too few"
    ):
        worker.run_process(tmp_path)


def test_accelerate_that_silently_starts_one_process_is_stopped(base, rows, tmp_path):
    """`accelerate launch --cpu --num_processes 2` starts one process: the job would run alone, and
    nobody would know.
    """
    written(tmp_path, base, rows)
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "-m",
        start.WORKER,
        str(tmp_path),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=start.worker_environment(1), cwd=ROOT
    )
    if done.returncode == 0:
        assert launch.read_outcome(tmp_path).processes == 2, "it did start two after all"
    else:
        assert "the launcher started too few or too many" in done.stdout + done.stderr


def test_a_failure_of_a_process_comes_back_as_the_kits_own_error(base, rows, tmp_path):
    """A base that is not there: the reason stands in the error, not only in a log of hundreds of
    lines.
    """
    job = written(tmp_path, base, rows, processes=1)
    replace(job, base=str(tmp_path / "nowhere")).write(tmp_path)
    with pytest.raises(KitError, match=r"process 0 of 1: .*nowhere"):
        launch.run_job(tmp_path)


def test_sharded_training_agrees_with_one_process_and_calls_every_expert(base, tmp_path):
    """float32, on CPUs that are presented as GPUs: 4 bit and FSDP together do not run here."""
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
            command, capture_output=True, text=True, env=start.worker_environment(1), timeout=240
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
