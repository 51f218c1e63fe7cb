"""vLLM's own benchmark: `vllm bench latency` and `vllm bench throughput`, their command lines and
their result files.

Options and result keys as in https://docs.vllm.ai/en/latest/cli/bench/ and
vllm/benchmarks/latency.py, throughput.py of vLLM 0.12.
"""

import json
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError, KitError


@dataclass(frozen=True)
class Job:
    """What vLLM shall run: a model (hub id or folder), its cards, rows at once, tokens read and
    written in each row.
    """

    model: str
    batch: int
    prompt: int
    output: int
    cards: int = 1
    dtype: str = "auto"
    quantization: str = ""
    iterations: int = 7
    warmup: int = 2


@dataclass(frozen=True)
class Rates:
    """Seconds of each iteration for one token and for all; tokens a second in reading and in
    writing.
    """

    prefill: list[float]
    whole: list[float]
    read_per_s: float
    written_per_s: float


def executable() -> str | None:
    """The path of an installed `vllm`, or None."""
    return shutil.which("vllm")


def _engine(job: Job) -> list[str]:
    options = ["--model", job.model, "--tensor-parallel-size", str(job.cards), "--dtype", job.dtype]
    return options + (["--quantization", job.quantization] if job.quantization else [])


def latency_command(job: Job, output: int, result: Path) -> list[str]:
    """`vllm bench latency` for a batch of `job.batch` rows that write `output` tokens each."""
    sizes = [
        "--batch-size",
        str(job.batch),
        "--input-len",
        str(job.prompt),
        "--output-len",
        str(output),
    ]
    times = [
        "--num-iters-warmup",
        str(job.warmup),
        "--num-iters",
        str(job.iterations),
        "--output-json",
        str(result),
    ]
    return ["vllm", "bench", "latency", *_engine(job), *sizes, *times, "--disable-detokenize"]


def throughput_command(job: Job, prompts: int, result: Path) -> list[str]:
    """`vllm bench throughput`: `prompts` random requests at once, at most `job.batch` of them under
    way (continuous batching).
    """
    sizes = [
        "--dataset-name",
        "random",
        "--input-len",
        str(job.prompt),
        "--output-len",
        str(job.output),
        "--num-prompts",
        str(prompts),
    ]
    return [
        "vllm",
        "bench",
        "throughput",
        *_engine(job),
        *sizes,
        "--max-num-seqs",
        str(job.batch),
        "--output-json",
        str(result),
    ]


def run(command: list[str]) -> None:
    """Run one of the commands. Raises `KitError` with vLLM's last words when it is not installed or
    fails.
    """
    found = executable()
    if found is None:
        raise KitError(
            "vllm is not installed: pip install vllm in an environment with a supported GPU"
        )
    done = subprocess.run([found, *command[1:]], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise KitError(
            f"vllm {' '.join(command[1:3])} ended with {done.returncode}: {' / '.join(last)}"
        )


def _read(path: Path, key: str) -> dict:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values[key]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path.name}: not a result of vllm bench: no {key!r}") from None
    return values


def latencies(path: Path) -> list[float]:
    """Seconds of each iteration in a result of `vllm bench latency`."""
    values = [float(value) for value in _read(path, "latencies")["latencies"]]
    if not values or min(values) <= 0:
        raise InputError(f"{path.name}: no iteration took any time")
    return values


def measure(job: Job, folder: Path) -> Rates:
    """Run the latency benchmark for one token and for `job.output`: the difference is writing,
    without the prompt.

    Raises `InputError` for a job that writes no second token or whose times do not grow with the
    tokens, `KitError` when vLLM fails.
    """
    if job.output < 2:
        raise InputError("writing is measured from the second token on: output must be at least 2")
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for output in (1, job.output):
        result = folder / f"latency-{job.model.replace('/', '--')}-{job.batch}-{output}.json"
        result.unlink(missing_ok=True)  # an older run's file must not pass for this one's
        run(latency_command(job, output, result))
        found.append(latencies(result))
    first, whole = (statistics.median(values) for values in found)
    if whole <= first:
        raise InputError(
            f"{job.output} tokens took {whole:.3f} s and one took {first:.3f} s: too noisy, give"
            " more tokens or iterations"
        )
    return Rates(
        found[0],
        found[1],
        job.batch * job.prompt / first,
        job.batch * (job.output - 1) / (whole - first),
    )


def continuous(job: Job, prompts: int, folder: Path) -> tuple[float, float]:
    """(requests a second, tokens a second) of the throughput benchmark; tokens count prompts and
    answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / f"throughput-{job.model.replace('/', '--')}-{job.batch}.json"
    result.unlink(missing_ok=True)
    run(throughput_command(job, prompts, result))
    values = _read(result, "requests_per_second")
    return float(values["requests_per_second"]), float(
        _read(result, "tokens_per_second")["tokens_per_second"]
    )
