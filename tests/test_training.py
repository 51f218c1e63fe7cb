"""Training: labels on answers only, planned steps, equal numbers however they are computed, and a
run that survives every kill.
"""

import json
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
from support.tiny import RECIPE, adapted, examples, mcqa

from bimedix_utils import training
from bimedix_utils.core import records, templates
from bimedix_utils.core.errors import KitError
from bimedix_utils.training import batches, checkpoints, divergence, models

pytestmark = pytest.mark.unit
TRAINEE = Path(__file__).parent / "support" / "trainee.py"


@pytest.fixture(scope="module")
def tokenizer(base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def labelled(tokenizer, example: training.Example) -> str:
    return tokenizer.decode([t for t in example.labels if t != training.IGNORE_INDEX])


# --- labels ---


@pytest.mark.parametrize("lang", ["en", "ar"])
def test_only_answers_carry_labels(tokenizer, lang):
    example = training.encode_record(mcqa(lang), tokenizer, 256)
    letter = templates.option_letters(lang)[0]
    assert labelled(tokenizer, example).strip() == f"{templates.answer_lead(lang)} {letter}.</s>"
    assert example.cut == 0 and len(example.labels) == len(example.input_ids)


def test_an_answer_or_a_tag_inside_the_question_carries_no_label(tokenizer):
    example = training.encode_record(
        mcqa(question="The correct answer is A. [/INST] Is it?"), tokenizer, 256
    )
    assert labelled(tokenizer, example).strip() == "The correct answer is A.</s>"


def test_every_doctor_turn_of_a_chat_carries_labels(tokenizer):
    turns = [
        {"role": role, "text": text}
        for role, text in (
            ("patient", "Hello"),
            ("doctor", "Yes?"),
            ("patient", "Pain"),
            ("doctor", "See us"),
        )
    ]
    chat = records.Record(
        id="c", kind="chat", lang="en", source="t", licence="x", split="train", turns=turns
    )
    assert (
        labelled(tokenizer, training.encode_record(chat, tokenizer, 256)) == " Yes?</s> See us</s>"
    )


def test_the_header_of_an_answer_carries_no_label(tokenizer):
    """ChatML opens each answer with a header: its tokens carried labels, and the loss counted what
    every prompt already holds.
    """
    import copy

    chatml = copy.deepcopy(tokenizer)
    chatml.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    assert (
        labelled(chatml, training.encode_record(mcqa(), chatml, 256))
        == "The correct answer is A.</s>\n"
    )


def test_a_row_cut_before_its_answer_is_left_out_and_counted(tokenizer):
    long = training.encode_record(mcqa(question="word " * 200), tokenizer, 64)
    short = training.encode_record(mcqa(), tokenizer, 256)
    good, out = training.filter_long_rows([short, long], "cut")
    assert training.encode_rows([mcqa()], tokenizer, 256, "cut") == ([short], {})
    assert good == [short] and out == {"q1": ("truncated", "no answer left after the cut")}
    assert training.filter_long_rows([long], "skip")[1] == {
        "q1": ("truncated", "longer than MAX_TOKENS")
    }


def test_an_empty_answer_never_becomes_a_row():
    with pytest.raises(ValueError, match="answer"):
        records.Record(
            id="q",
            kind="qa",
            lang="en",
            source="t",
            licence="x",
            split="train",
            question="Why?",
            answer="",
        )


# --- which rows go together ---


def recipe(**changes) -> training.Recipe:
    return training.Recipe(
        **{**vars(RECIPE), "token_budget": 256, "micro_tokens": 256, "epochs": 3, **changes}
    )


LENGTHS = [(7 * i) % 90 + 5 for i in range(700)] + [500]


@pytest.mark.parametrize("packing", [False, True])
def test_micro_batches_hold_their_budget_and_each_epoch_every_row_once(packing):
    steps = batches.plan_steps(LENGTHS, recipe(packing=packing))
    per_epoch = [i for i, total in enumerate_rows(steps) if total % 701 == 0]
    assert len(per_epoch) == 3
    first, second = (
        sorted(row for step in part for rows in step for row in rows)
        for part in (steps[: per_epoch[0]], steps[per_epoch[0] : per_epoch[1]])
    )
    assert first == second == list(range(701))
    cost = sum if packing else lambda lengths: len(lengths) * max(lengths)
    assert all(
        cost([LENGTHS[i] for i in rows]) <= 256 or len(rows) == 1 for step in steps for rows in step
    )
    assert steps[: per_epoch[0]] != steps[per_epoch[0] : per_epoch[1]], (
        "each epoch has another order"
    )
    assert steps == batches.plan_steps(LENGTHS, recipe(packing=packing))


def enumerate_rows(steps):
    total = 0
    for i, step in enumerate(steps, start=1):
        total += sum(map(len, step))
        yield i, total


def test_little_is_spent_on_padding():
    rows = [
        rows
        for step in batches.plan_steps(
            LENGTHS, recipe(token_budget=2048, micro_tokens=2048, epochs=1)
        )
        for rows in step
    ]
    padded = sum(len(part) * max(LENGTHS[i] for i in part) for part in rows)
    assert sum(LENGTHS) / padded > 0.85


def test_steps_have_as_many_micro_batches_as_the_budget_says_the_last_one_too():
    steps = batches.plan_steps(LENGTHS, recipe(token_budget=1024, epochs=2))
    # fewer only where there are fewer rows
    assert all(len(step) == 4 or sum(map(len, step)) == len(step) < 4 for step in steps)
    assert sum(len(step) == 4 for step in steps) > 20
    assert len(batches.plan_steps(LENGTHS, recipe(max_steps=5))) == 5
    assert len(batches.plan_steps([10, 10], recipe(max_steps=9, epochs=1))) == 9, (
        "MAX_STEPS goes on beyond the epochs"
    )


def test_the_shards_of_the_ranks_are_equally_many_and_together_the_step():
    step = [[1, 2], [3], [4, 5, 6]]
    shards = [batches.shard_for_rank(step, rank, 2) for rank in (0, 1)]
    assert shards == [[[1, 2], [4, 5, 6]], [[3], []]]
    assert batches.split_micro_batches([[1, 2, 3]], 4) == [[1], [2], [3]]


def test_a_plan_without_rows_or_with_too_small_a_budget_is_refused():
    with pytest.raises(KitError, match="no row is left"):
        batches.plan_steps([], recipe())
    with pytest.raises(KitError, match="MICRO_TOKENS 300 is more than TOKEN_BUDGET 256"):
        recipe(micro_tokens=300)


def test_a_micro_batch_without_rows_has_no_label(tokenizer):
    empty = batches.to_tensors(examples(tokenizer), [], 0, False)
    assert (
        empty["input_ids"].numel() > 0
        and not empty["real"].any()
        and (empty["labels"] == training.IGNORE_INDEX).all()
    )


# --- equal numbers ---


def trainer_for(base, tmp_path, **changes):
    """A trainer over the tiny rows, and the rows."""
    from bimedix_utils.training import loop
    from bimedix_utils.training.trainer import StepTrainer

    model, tokenizer = adapted(base)
    rows, settings = examples(tokenizer), training.Recipe(**{**vars(RECIPE), **changes})
    steps = batches.plan_steps([len(e.input_ids) for e in rows], settings)
    arguments = loop._arguments(settings, len(steps), True, tmp_path)
    return (
        StepTrainer(
            rows, rows[:5], steps, settings, tokenizer.pad_token_id, model=model, args=arguments
        ),
        rows,
    )


def gradients(model) -> dict:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def warm(model) -> None:
    """B of LoRA begins at zero, where half of the gradients vanish."""
    import torch

    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("fold", [False, True])
def test_a_step_has_the_gradients_of_the_plain_loss(base, tmp_path, packing, fold, monkeypatch):
    """However rows are grouped, padded, packed and folded: mean cross-entropy of the answers, plus
    the balancing loss.
    """
    import torch

    from bimedix_utils.training import fast_lora

    stock = fast_lora.FoldedExpert.apply
    trainer, rows = trainer_for(base, tmp_path, packing=packing)
    model = trainer.model
    warm(model)
    model.config.router_aux_loss_coef = (
        0.0  # the balancing loss is a mean over a forward pass, so it depends on the grouping
    )
    step = trainer.step(rows, [[0, 1, 2], [3], [4, 5]])
    if fold:
        applied = []
        monkeypatch.setattr(
            fast_lora.FoldedExpert, "apply", lambda *given: applied.append(given) or stock(*given)
        )
        with fast_lora.fold_lora(model) as layers:
            assert layers == 2 * (4 + 3 * 3)
            loss = trainer.training_step(model, step)
        assert applied, "no expert had rows enough"
    else:
        loss = trainer.training_step(model, step)
    ours = gradients(model)
    model.zero_grad()
    plain = torch.zeros(())
    for example in rows[:6]:
        ids, labels = torch.tensor([[*example.input_ids]]), torch.tensor([[*example.labels]])
        logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
        plain = plain + torch.nn.functional.cross_entropy(
            logits, labels[0, 1:], ignore_index=-100, reduction="sum"
        )
    plain = plain / step["answers"]
    plain.backward()
    theirs = gradients(model)
    assert torch.isclose(loss, plain, rtol=1e-5) and ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert torch.allclose(
            ours[name], gradient, atol=1e-6 + 1e-4 * gradient.abs().max().item()
        ), name


def test_bfloat16_folded_errs_no_more_than_the_usual_mixed_precision(base, tmp_path):
    """Against float32, over all gradients together: folding rounds the update with the weight,
    stock LoRA rounds it in its own matmuls.
    """
    import torch

    from bimedix_utils.training import fast_lora

    trainer, rows = trainer_for(base, tmp_path)
    warm(trainer.model)
    step, found = trainer.step(rows, [[0, 1, 2], [3], [4, 5]]), {}
    for name, fold, low in (
        ("exact", False, False),
        ("stock", False, True),
        ("folded", True, True),
    ):
        trainer.model.zero_grad()
        with (
            fast_lora.fold_lora(trainer.model) if fold else nullcontext(),
            torch.autocast("cpu", torch.bfloat16, enabled=low),
        ):
            trainer.training_step(trainer.model, step)
        found[name] = gradients(trainer.model)
        assert all(gradient.dtype == torch.float32 for gradient in found[name].values())

    def error(name):
        return sum(
            (found[name][key] - exact).square().sum().item()
            for key, exact in found["exact"].items()
        )

    size = sum(gradient.square().sum().item() for gradient in found["exact"].values())
    assert 0 < error("folded") < 1.5 * error("stock") and error("folded") < 1e-3 * size


@pytest.mark.parametrize("native", [True, False])
def test_the_compute_dtype_is_bfloat16_where_asked_and_where_it_is_faster(monkeypatch, native):
    import torch

    from bimedix_utils.training import loop

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert [loop.uses_bfloat16(word, gpu=False) for word in loop.COMPUTE] == [native, False, True]
    assert all(loop.uses_bfloat16(word, gpu=True) for word in loop.COMPUTE)
    with pytest.raises(
        KitError, match=re.escape("COMPUTE = 'half'; must be auto | float32 | bfloat16")
    ):
        loop.uses_bfloat16("half", gpu=False)


def test_a_run_in_bfloat16_learns_and_saves_float32(base, tmp_path):
    import torch
    from safetensors.torch import load_file

    def training_loss(folder):
        model, tokenizer = adapted(base)
        settings = training.Recipe(**{**vars(RECIPE), "max_steps": 2})
        return training.train(model, tokenizer, examples(tokenizer), [], settings, folder).log[-1][
            "loss"
        ]

    before = training_loss(tmp_path / "before")
    model, tokenizer = adapted(base)
    rows = examples(tokenizer)
    settings = training.Recipe(**{**vars(RECIPE), "compute": "bfloat16", "max_steps": 12})
    outcome = training.train(model, tokenizer, rows, rows[:5], settings, tmp_path / "checkpoints")
    losses = [entry["eval_loss"] for entry in outcome.log if "eval_loss" in entry]
    assert losses[-1] < losses[0] and training_loss(tmp_path / "after") == before, (
        "a later run in float32 is one"
    )
    models.save_adapter(model, tmp_path / "adapter")
    assert {
        str(tensor.dtype)
        for tensor in load_file(tmp_path / "adapter" / "adapter_model.safetensors").values()
    } == {"torch.float32"}
    ids = torch.tensor([[*rows[0].input_ids]])
    with torch.inference_mode():
        trained = models.for_inference(model)(input_ids=ids).logits
        again = models.load_scored(base, tmp_path / "adapter")[0](input_ids=ids).logits
    assert torch.allclose(trained, again, atol=1e-5), "the model goes on in its own type"


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_run_that_fails_leaves_the_model_as_it_found_it(base, tmp_path, compute):
    model, tokenizer = adapted(base)
    model.config.use_cache = True
    settings = training.Recipe(**{**vars(RECIPE), "compute": compute, "max_steps": 2})

    def stop(log):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        training.train(model, tokenizer, examples(tokenizer), [], settings, tmp_path, stop)
    assert model.config.use_cache and "_original_forward" not in vars(model)
    # transformers itself leaves a bound forward on the blocks whose router it records.
    assert not [
        name
        for name, module in model.named_modules()
        if isinstance(vars(module).get("forward"), partial)
    ]


def test_padding_counts_in_no_balancing_loss(base, tmp_path):
    import torch

    trainer, rows = trainer_for(base, tmp_path)
    alone = trainer.losses(trainer.model, batches.to_tensors(rows, [0], 0, False))[1]
    padded = batches.to_tensors(rows, [0, 2], 0, False)
    assert padded["input_ids"].shape[1] > len(rows[0].input_ids)
    padded = {name: value[:1] for name, value in padded.items()}
    assert torch.isclose(trainer.losses(trainer.model, padded)[1], alone, rtol=1e-5)
    assert alone > 0.9, "the balancing loss of a layer is at least 1"


def test_the_head_loss_equals_cross_entropy_chunk_by_chunk(monkeypatch):
    import torch

    from bimedix_utils.training import fast_lora

    monkeypatch.setattr(fast_lora, "LOGIT_CHUNK", 7)
    torch.manual_seed(0)
    hidden, weight, targets = (
        torch.randn(20, 16, requires_grad=True),
        torch.randn(50, 16),
        torch.randint(0, 50, (20,)),
    )
    ours = fast_lora.FrozenHeadLoss.apply(hidden, weight, targets)
    (gradient,) = torch.autograd.grad(3 * ours, hidden)
    plain = torch.nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    (reference,) = torch.autograd.grad(3 * plain, hidden)
    assert torch.isclose(ours, plain, rtol=1e-5) and torch.allclose(gradient, reference, atol=1e-5)


def test_training_leaves_the_model_as_it_was_built(base, tmp_path):
    """The head and the folded layers get their own forward pass back, whatever happens inside."""
    trainer, rows = trainer_for(base, tmp_path)
    from bimedix_utils.training import fast_lora

    with (
        pytest.raises(RuntimeError),
        fast_lora.fold_lora(trainer.model),
        fast_lora.answer_loss_head(
            trainer.model.get_base_model().lm_head,
            batches.to_tensors(rows, [0], 0, False)["labels"],
        ),
    ):
        raise RuntimeError
    assert not [
        name for name, module in trainer.model.named_modules() if "forward" in module.__dict__
    ]


def test_the_held_out_loss_is_the_plain_one(base, tmp_path):
    import torch

    trainer, rows = trainer_for(base, tmp_path)
    with torch.no_grad():
        total = count = 0.0
        for example in rows[:5]:
            labels = torch.tensor(example.labels)[1:]
            logits = trainer.model.eval()(input_ids=torch.tensor([[*example.input_ids]])).logits[
                0, :-1
            ]
            total += torch.nn.functional.cross_entropy(
                logits, labels, ignore_index=-100, reduction="sum"
            ).item()
            count += (labels != -100).sum().item()
    trainer.model_wrapped = trainer.model
    assert trainer.evaluate()["eval_loss"] == pytest.approx(total / count, rel=1e-5)


# --- a run ---


@pytest.fixture(scope="module")
def unbroken(base, tmp_path_factory) -> tuple[Path, str, int]:
    """(folder, adapter hash, log entries) of a run nobody disturbed, in a process of its own."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = subprocess.run(
        [sys.executable, str(TRAINEE), str(base), str(folder), "never"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    name, resumed, entries = done.stdout.split()
    assert resumed == "0"
    return folder, name, int(entries)


def run_killed(base: Path, folder: Path, when: str) -> None:
    done = subprocess.run(
        [sys.executable, str(TRAINEE), str(base), str(folder), when], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


def resume(base: Path, folder: Path) -> tuple[str, training.TrainingOutcome]:
    """Go on in this process (one thread, as the trainee)."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, tokenizer = adapted(
            base, seed=99
        )  # other fresh adapters: only what is loaded may count
        rows = examples(tokenizer)
        outcome = training.train(model, tokenizer, rows, rows[:4], RECIPE, folder)
        model.save_pretrained(folder / "adapter")
        return training.adapter_hash(folder / "adapter"), outcome
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("when", "resumed_at"), [("3", 2), ("5", 4), ("manifest", 2)])
def test_a_killed_run_ends_with_the_same_adapter(base, tmp_path, unbroken, when, resumed_at):
    """At a step behind a checkpoint, and while a checkpoint is being written: that one is refused
    by name.
    """
    run_killed(base, tmp_path, when)
    name, outcome = resume(base, tmp_path)
    assert outcome.resumed_at == resumed_at
    assert outcome.refused == (
        ["checkpoint-4 was not finished: it has no readable manifest.json"]
        if when == "manifest"
        else []
    )
    assert name == unbroken[1], "the resumed adapter differs from the unbroken one"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    ours = [json.loads(line) for line in lines if "runtime" not in line]
    theirs = [
        json.loads(line)
        for line in (unbroken[0] / "metrics.jsonl").read_text().splitlines()
        if "runtime" not in line
    ]
    assert ours == theirs and len(outcome.log) == unbroken[2], "a step is missing or duplicate"


def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_it_used(
    base, tmp_path, unbroken
):
    import shutil

    shutil.copytree(unbroken[0], tmp_path / "run")
    newest = max(
        (tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])
    )
    weights = newest / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    name, outcome = resume(base, tmp_path / "run")
    assert outcome.refused == [
        f"{newest.name} is damaged: adapter_model.safetensors is not what was saved"
    ]
    assert 0 < outcome.resumed_at < outcome.steps and name == unbroken[1]


def test_a_checkpoint_with_a_file_too_many_or_too_few_is_refused(tmp_path):
    folder = tmp_path / "checkpoint-8"
    folder.mkdir()
    (folder / "a").write_text("1")
    checkpoints.write_manifest(folder)
    checkpoints.verify_checkpoint(folder)
    (folder / "b").write_text("2")
    with pytest.raises(training.CheckpointError, match="checkpoint-8 is damaged: b"):
        checkpoints.verify_checkpoint(folder)
    (folder / "b").unlink()
    (folder / "a").unlink()
    with pytest.raises(training.CheckpointError, match="checkpoint-8 is damaged: a"):
        checkpoints.verify_checkpoint(folder)
    assert checkpoints.latest_checkpoint(tmp_path / "none") == (None, [])


def test_the_same_seed_gives_the_same_adapter_and_a_reload_the_same_logits(base, tmp_path):
    import torch

    hashes = []
    for attempt in range(2):
        model, tokenizer = adapted(base)
        rows = examples(tokenizer)
        training.train(model, tokenizer, rows, rows[:2], RECIPE, tmp_path / f"run{attempt}")
        model.save_pretrained(tmp_path / f"adapter{attempt}")
        hashes.append(training.adapter_hash(tmp_path / f"adapter{attempt}"))
    assert hashes[0] == hashes[1], "the same seed gave another adapter"
    ids = torch.tensor([[*rows[0].input_ids]])
    with torch.inference_mode():
        trained = models.for_inference(model)(input_ids=ids).logits
        again = models.load_scored(base, tmp_path / "adapter1")[0](input_ids=ids).logits
    assert torch.allclose(trained, again, atol=1e-5)


def test_the_numbers_stand_in_the_log_the_lines_and_tensorboard(base, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model, tokenizer = adapted(base)
    rows, seen = examples(tokenizer), []
    outcome = training.train(
        model, tokenizer, rows, rows[:2], RECIPE, tmp_path, lambda log: seen.append(len(log))
    )
    steps = [entry for entry in outcome.log if "loss" in entry]
    assert [entry["step"] for entry in steps] == list(range(1, outcome.steps + 1)) and seen[
        -1
    ] >= len(outcome.log)
    assert {"loss", "grad_norm", "learning_rate"} <= steps[0].keys()
    assert [entry["step"] for entry in outcome.log if "eval_loss" in entry][-1] == outcome.steps, (
        "the last step is measured"
    )
    rates = [entry["learning_rate"] for entry in steps]
    assert (
        rates[0] == 0
        and rates[1] == RECIPE.learning_rate
        and rates[1:] == sorted(rates[1:], reverse=True)
    ), "warm-up, then cosine"
    assert outcome.held_out == [entry["eval_loss"] for entry in outcome.log if "eval_loss" in entry]
    assert outcome.losses[0] == {"step": 1, "loss": steps[0]["loss"]}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line for line in lines if "loss" in line] == steps
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [round(e.value, 3) for e in events.Scalars("train/loss")] == [
        round(entry["loss"], 3) for entry in steps
    ]


def test_it_ends_with_the_best_checkpoint_when_asked(base, tmp_path):
    """Held-out rows whose letter is another one: their loss falls with the form and rises again
    with certainty of the letter.
    """
    model, tokenizer = adapted(base)
    rows, held = (
        [training.encode_record(mcqa(id=f"q{i}", answer_index=i), tokenizer, 256)] for i in (0, 1)
    )
    settings = training.Recipe(
        **{**vars(RECIPE), "learning_rate": 0.03, "max_steps": 30, "keep_best": True}
    )
    outcome = training.train(model, tokenizer, rows, held, settings, tmp_path)
    losses = {entry["step"]: entry["eval_loss"] for entry in outcome.log if "eval_loss" in entry}
    assert outcome.best_step == min(losses, key=losses.get) < outcome.steps
    model.save_pretrained(tmp_path / "adapter")
    assert training.adapter_hash(tmp_path / "adapter") == training.adapter_hash(
        tmp_path / f"checkpoint-{outcome.best_step}"
    )


def test_a_loss_that_is_nan_stops_the_run_and_names_the_step(base, tmp_path):
    import torch

    model, tokenizer = adapted(base)
    rows = examples(tokenizer)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_A" in name)[0, 0] = float("nan")
    with pytest.raises(training.TrainingError, match="step 1: loss is nan"):
        training.train(model, tokenizer, rows, [], RECIPE, tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_the_monitor_tells_divergence_from_noise():
    calm = divergence.DivergenceMonitor()
    for step in range(200):
        calm.check({"step": step, "loss": 2.0 / (1 + step / 20) + (step % 3) * 0.2})
    wild = divergence.DivergenceMonitor()
    with pytest.raises(training.TrainingError, match="diverges"):
        for step in range(200):
            wild.check({"step": step, "loss": 1.0 + step / 50})
    with pytest.raises(training.TrainingError, match="eval_loss is inf"):
        calm.check({"step": 9, "eval_loss": float("inf")})


def test_one_row_is_enough(base, tmp_path):
    model, tokenizer = adapted(base)
    rows = examples(tokenizer)[:1]
    outcome = training.train(
        model, tokenizer, rows, [], training.Recipe(**{**vars(RECIPE), "epochs": 3}), tmp_path
    )
    assert outcome.steps == 3


def test_the_loss_of_given_answers_is_the_plain_one_and_leaves_the_model_as_it_was(base, tmp_path):
    trainer, rows = trainer_for(base, tmp_path)
    trainer.model_wrapped = trainer.model
    held = trainer.evaluate()["eval_loss"]
    model = trainer.model.train()
    assert training.answer_loss(model, rows[:5], tokens=60) == pytest.approx(held, rel=1e-5)
    assert model.training and model.config.output_router_logits
    assert training.answer_loss(model, []) != training.answer_loss(model, []), (
        "without examples: NaN"
    )


def test_labels_are_shown_and_counted_by_language(tokenizer):
    rows = [
        training.encode_record(mcqa(), tokenizer, 256),
        training.encode_record(mcqa("ar", id="q2"), tokenizer, 256),
    ]
    shown = training.decode_rows(rows, tokenizer)
    assert (
        shown[0][0].startswith("<s>[INST] Question")
        and shown[0][1].strip() == "The correct answer is A.</s>"
    )
    assert training.token_texts("The drug", tokenizer) == ["The", " drug"]
    (ar, *counts), (en, *_) = training.token_table(
        [*rows, training.encode_record(mcqa("ar", id="q3"), tokenizer, 8)]
    )
    assert (
        (ar, en) == ("ar", "en")
        and counts[0] == 2
        and counts[1] == len(rows[1].input_ids) + 8
        and counts[3] == 1
    )


def test_a_tokenizer_without_padding_pads_with_its_end(base, tmp_path):
    """SmolLM2's file names no padding token: tensors could not be made."""
    model, tokenizer = adapted(base)
    rows = examples(tokenizer)
    tokenizer.pad_token = None
    assert (
        training.train(
            model,
            tokenizer,
            rows,
            [],
            training.Recipe(**{**vars(RECIPE), "max_steps": 1}),
            tmp_path,
        ).steps
        == 1
    )


def test_a_finished_run_is_not_repeated(base, tmp_path):
    model, tokenizer = adapted(base)
    rows = examples(tokenizer)
    first = training.train(model, tokenizer, rows, rows[:2], RECIPE, tmp_path)
    model.save_pretrained(tmp_path / "first")
    model, _ = adapted(base, seed=9)
    again = training.train(model, tokenizer, rows, rows[:2], RECIPE, tmp_path)
    model.save_pretrained(tmp_path / "again")
    assert again.resumed_at == again.steps == first.steps and again.log == first.log
    assert training.adapter_hash(tmp_path / "again") == training.adapter_hash(tmp_path / "first")
