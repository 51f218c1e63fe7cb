"""Speed: parameters by closed form and by count, interleaved measuring, probes, the roofline, the
claim, sentences.
"""

import math
import random
import statistics

import pytest

from bimedix_utils import speed
from bimedix_utils.core.errors import InputError
from bimedix_utils.core.provenance import ROOT
from bimedix_utils.core.studies import STUDIES, read_study
from bimedix_utils.speed import PRECISION_BYTES, claim
from bimedix_utils.training import Shape, read_gpus
from bimedix_utils.training.plan.memory import nf4_bytes

pytestmark = pytest.mark.unit
SPARSE = Shape(64, 128, 2, 4, 8, 100)
PAPER = ROOT / "data" / "paper" / "speed.csv"


# Models


def count_model(model) -> tuple[int, int]:
    """(all parameters, parameters that one token uses) of a real model, counted."""
    experts = others = 0
    # A 4-bit parameter holds codes; its logical size stands in the quantisation state.
    for name, value in model.named_parameters():
        state = getattr(value, "quant_state", None)
        count = math.prod(state.shape) if state else value.numel()
        if ".experts." in name:
            experts += count
        else:
            others += count
    number = getattr(model.config, "num_local_experts", 0)
    used = experts * model.config.num_experts_per_tok // number if number else 0
    return others + experts, others + used


@pytest.mark.parametrize("name", ["sparse", "equal total", "equal active"])
def test_closed_forms_are_what_the_models_hold(name):
    shape = speed.compared_shapes(SPARSE)[name]
    assert count_model(speed.build_random_model(shape, 1)) == (shape.total, shape.active)


def test_the_dense_models_are_equal_but_for_the_routers():
    shapes = speed.compared_shapes(SPARSE)
    routers = 2 * 64 * 8
    assert shapes["sparse"].total - shapes["equal total"].total == routers
    assert shapes["sparse"].active - shapes["equal active"].total == routers
    assert shapes["sparse"].total - shapes["sparse"].active == 2 * 6 * 3 * 64 * 128


def test_a_shape_that_no_attention_fits_is_refused():
    with pytest.raises(InputError, match="must divide"):
        Shape(100, 128, 2, 3)
    assert Shape(64, 128, 2, 1).kv_heads == 1


def test_models_share_one_pool_and_a_small_one_is_refused():
    shapes = speed.compared_shapes(SPARSE)
    numbers = speed.random_weights(shapes["sparse"], 3)
    a, b = (
        speed.build_random_model(shapes[name], 3, numbers) for name in ("sparse", "equal total")
    )
    assert (
        a.model.embed_tokens.weight.data_ptr()
        == b.model.embed_tokens.weight.data_ptr()
        == numbers.data_ptr()
    )
    with pytest.raises(InputError, match="largest shape"):
        speed.build_random_model(shapes["sparse"], 3, numbers[:-1000])
    with pytest.raises(InputError, match="float32, bfloat16, nf4"):
        speed.random_weights(SPARSE, 3, "int8")


def test_four_bit_models_quantise_all_but_router_and_head_and_compute_nearly_the_same():
    import bitsandbytes as bnb
    import torch

    numbers = speed.random_weights(SPARSE, 5, "bfloat16")
    plain, small = (
        speed.build_random_model(SPARSE, 5, numbers, "bfloat16"),
        speed.build_random_model(SPARSE, 5, numbers, "nf4"),
    )
    kinds = {
        name: type(module)
        for name, module in small.named_modules()
        if hasattr(module, "in_features")
    }
    assert {name.rsplit(".", 1)[-1] for name, kind in kinds.items() if kind is torch.nn.Linear} == {
        "gate",
        "lm_head",
    }
    assert sum(kind is bnb.nn.Linear4bit for kind in kinds.values()) == 2 * (4 + 8 * 3)
    assert count_model(small) == (SPARSE.total, SPARSE.active)
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.inference_mode():
        a, b = (m.model.layers[1].block_sparse_moe.experts[7].w1(x).float() for m in (plain, small))
    # NF4 rounds normal weights by 9 to 10 % of their deviation (Dettmers et al. 2023); errors of
    # one product add up to as much
    assert 0.02 < float((a - b).norm() / a.norm()) < 0.2


# Measuring


def test_decoding_is_one_token_a_step_behind_a_filled_cache_and_rows_differ():
    import torch

    model, seen = speed.build_random_model(SPARSE, 1), []

    def look(module, args, given):
        past = given["past_key_values"]
        seen.append((given["input_ids"].clone(), past.get_seq_length() if past else 0))

    model.model.register_forward_pre_hook(look, with_kwargs=True)
    assert speed.decode_seconds(model, 3, batch=4, context=7) > 0
    assert [(tuple(ids.shape), past) for ids, past in seen] == [
        ((4, 1), 7),
        ((4, 1), 8),
        ((4, 1), 9),
    ]
    rows = torch.cat([ids for ids, _ in seen], dim=1).tolist()
    assert len({tuple(row) for row in rows}) == 4, "equal rows ask for the same experts"
    seen.clear()
    assert speed.prefill_seconds(model, 11, 2) > 0
    assert [(tuple(ids.shape), past) for ids, past in seen] == [((2, 11), 0)]


def test_routing_as_seen_accounts_for_every_row():
    model = speed.build_random_model(SPARSE, 1)
    assert speed.count_routed(model, lambda: speed.decode_seconds(model, 2)) == {1: 2.0}, (
        "one token uses two experts, one row each"
    )
    loads = speed.count_routed(model, lambda: speed.decode_seconds(model, 2, batch=16))
    assert sum(rows * count for rows, count in loads.items()) == pytest.approx(16 * 2)
    assert 2 <= sum(loads.values()) <= 8
    assert speed.count_routed(model, lambda: speed.decode_seconds(model, 2)) == {1: 2.0}, (
        "the hooks are gone"
    )
    with pytest.raises(InputError, match="routes nothing"):
        speed.count_routed(speed.build_random_model(speed.equal_total(SPARSE), 1), lambda: None)


def test_interleaved_rounds_take_turns():
    calls = []
    found = speed.interleaved(
        {name: lambda name=name: calls.append(name) or 1.0 for name in "abc"}, 3
    )
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert found == {"a": [1.0] * 3, "b": [1.0] * 3, "c": [1.0] * 3}


def test_a_ratio_is_taken_round_by_round():
    """A machine that slows down for one round slows both sides: the ratio of that round is as good
    as any.
    """
    steady = speed.time_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0])
    assert (steady.median, steady.low, steady.high, steady.rounds) == (2, 2, 2, 3)
    for slow, fast in (([1.0], []), ([], [])):
        with pytest.raises(InputError, match="both sides"):
            speed.time_ratio(slow, fast)


# Rounds, rank of the ends, confidence: the binomial distribution's, as tables of the sign test
# print them
@pytest.mark.parametrize(
    ("rounds", "k", "confidence"),
    [(1, 1, 0.0), (3, 1, 0.75), (5, 1, 0.9375), (7, 1, 0.9844), (9, 2, 0.9609), (15, 4, 0.9648)],
)
def test_the_interval_of_the_median_is_made_of_rounds(rounds, k, confidence):
    found = speed.time_ratio([float(n) for n in range(rounds, 0, -1)], [1.0] * rounds)
    assert (found.low, found.high) == (k, rounds + 1 - k)
    assert found.confidence == pytest.approx(confidence, abs=5e-5)


@pytest.mark.parametrize("rounds", [3, 7, 9])
def test_the_interval_of_the_median_covers_it_as_often_as_it_says(rounds):
    """2,000 draws of skewed rounds: within four standard errors of the stated share, above and
    below.
    """
    draw, n = random.Random(1), 2000
    found = [
        speed.time_ratio([2 * draw.lognormvariate(0, 0.5) for _ in range(rounds)], [1.0] * rounds)
        for _ in range(n)
    ]
    stated = found[0].confidence
    assert sum(one.low <= 2 <= one.high for one in found) / n == pytest.approx(
        stated, abs=4 * (stated * (1 - stated) / n) ** 0.5
    )


# Probes


def test_the_last_level_cache_is_read_or_not_found(tmp_path):
    for index, (level, size) in enumerate(
        [("1", "48K"), ("2", "1024K"), ("3", "32M"), ("x", "1M"), ("4", "?")]
    ):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "level").write_text(level + "\n")
        (tmp_path / f"index{index}" / "size").write_text(size + "\n")
    assert speed.cache_bytes(tmp_path) == 32 * 1024**2
    assert speed.cache_bytes(tmp_path / "absent") is None


def test_bandwidth_between_measured_rows():
    machine = speed.Machine("m", {1: 16.0, 4: 4.0}, 100.0)
    assert [machine.bytes_per_second(rows) for rows in (0.5, 1, 4, 32)] == [16, 16, 4, 4]
    assert machine.bytes_per_second(2) == pytest.approx(8)
    assert machine.single_bandwidth().bytes_per_second(4) == 16
    assert machine.single_bandwidth().flops == 100


def test_sweeps_multiply_every_expert_matrix_once_and_nothing_else():
    model, seen = speed.build_random_model(SPARSE, 1), []
    for name, module in model.named_modules():
        if hasattr(module, "in_features"):
            module.register_forward_hook(
                lambda m, args, out, name=name: seen.append((name, len(args[0])))
            )
    sweeps = speed.ProbeSweeps(model)
    assert sweeps.rows(4) > 0 and len(seen) == 2 * 8 * 3 and {rows for _, rows in seen} == {4}
    assert all(".experts." in name for name, _ in seen)
    assert len({name for name, _ in seen}) == len(seen)
    assert sweeps.bytes == 4 * 2 * 8 * 3 * 64 * 128
    machine = sweeps.machine({1: [1.0, 2.0, 9.0]}, [0.5])
    assert machine.bandwidth == {1: sweeps.bytes / 2}
    assert machine.flops == 3 * 2 * 256 * 64 * 128 / 0.5
    assert sweeps.machine({8: [0.001]}, [0.5]).flops == 2 * 8 * sweeps.parameters / 0.001, (
        "a roof does not lie below what was built"
    )
    with pytest.raises(InputError, match="no expert and no MLP"):
        speed.ProbeSweeps(model.lm_head)


# Roofline


@pytest.mark.parametrize("batch", [1, 3, 8, 32])
def test_experts_hit_by_uniform_routing(batch):
    """The closed form against 4,000 simulated layers: within four standard errors."""
    draw, found = random.Random(batch), []
    for _ in range(4000):
        found.append(len({expert for _ in range(batch) for expert in draw.sample(range(8), 2)}))
    error = (statistics.pstdev(found) or 1e-9) / 4000**0.5
    assert speed.distinct_experts(8, 2, batch) == pytest.approx(
        statistics.mean(found), abs=4 * error + 1e-9
    )
    loads = speed.uniform_loads(8, 2, batch)
    assert sum(loads.values()) == pytest.approx(speed.distinct_experts(8, 2, batch))
    assert sum(rows * count for rows, count in loads.items()) == pytest.approx(2 * batch)


def test_one_token_reads_the_weights_it_uses_and_computes_with_each_twice():
    machine = speed.Machine("m", {1: 1.0}, 1e30)
    parts = {part.part: part for part in speed.step_parts(SPARSE, machine, 1, 0)}
    read = SPARSE.active - SPARSE.parameters()["embeddings"] - SPARSE.parameters()["norms"]
    assert sum(part.bytes for part in parts.values()) == pytest.approx(4 * read)
    assert sum(part.flops for part in parts.values()) == pytest.approx(2 * read)
    assert parts["KV cache"].bytes == 0
    longer = {part.part: part for part in speed.step_parts(SPARSE, machine, 3, 10)}
    assert longer["KV cache"].bytes == 2 * 3 * 10 * 2 * 32 * 4
    assert longer["KV cache"].flops == 4 * 2 * 3 * 10 * 64
    assert longer["attention"].bytes == parts["attention"].bytes
    assert longer["attention"].flops == 3 * parts["attention"].flops


def test_each_part_takes_the_longer_of_reading_and_computing():
    slow_memory = {
        p.part: p.seconds
        for p in speed.step_parts(SPARSE, speed.Machine("m", {1: 1.0}, 1e30), 2, 4)
    }
    slow_maths = {
        p.part: p.seconds
        for p in speed.step_parts(SPARSE, speed.Machine("m", {1: 1e30}, 1.0), 2, 4)
    }
    both = {
        p.part: p.seconds for p in speed.step_parts(SPARSE, speed.Machine("m", {1: 1.0}, 1.0), 2, 4)
    }
    assert both == {part: pytest.approx(max(slow_memory[part], slow_maths[part])) for part in both}


def test_four_bit_weights_keep_router_head_and_cache_in_16_bit():
    machine = speed.Machine("m", {1: 1.0}, 1e30)
    wide, small = (
        {p.part: p.bytes for p in speed.step_parts(SPARSE, machine, 2, 4, kind)}
        for kind in ("bfloat16", "nf4")
    )
    assert {part for part in wide if wide[part] == small[part]} == {"router", "head", "KV cache"}
    assert small["experts"] / wide["experts"] == pytest.approx(PRECISION_BYTES["nf4"] / 2)
    codes, constants = nf4_bytes(4096 * 14336)
    assert (codes + constants) / (4096 * 14336) == pytest.approx(PRECISION_BYTES["nf4"], rel=1e-4)


def synthetic(overhead: float, of_an_expert: float = 0.0) -> speed.SpeedComparison:
    """A trial whose seconds are the roofline's own, so that what should come out is known."""
    trial = speed.SpeedComparison(
        "float32", speed.compared_shapes(SPARSE), speed.SpeedSettings((1, 8), rounds=3, context=16)
    )
    for batch in (1, 8):
        # a round that another process slows down threefold slows everything, bare matrices too
        slowed = [1.0, 3.0, 0.9]
        trial.machines[batch] = [
            speed.Machine("m", {1: 1e9 / slow, 8: 4e8 / slow}, 1e10 / slow) for slow in slowed
        ]
        machine = trial.machines[batch][0]
        loads = trial.loads[batch] = {1: 2.0} if batch == 1 else {1: 2.0, 2: 3.0, 4: 2.0}
        for name, shape in trial.shapes.items():
            seen = loads if shape.experts else None
            seconds = speed.predict_seconds(
                shape, machine, batch, 16, loads=seen, overhead=overhead
            )
            seconds += of_an_expert * shape.layers * sum(loads.values()) if shape.experts else 0
            trial.decode.setdefault(batch, {})[name] = [slow * seconds for slow in slowed]
    return trial


def test_the_overhead_is_found_and_the_ratios_are_predicted():
    trial = synthetic(0.001)
    assert trial.overhead() == pytest.approx(0.001)
    assert [one.error for one in trial.predictions()] == pytest.approx([0] * 4)
    assert {(one.batch, one.against) for one in trial.predictions()} == {
        (b, name) for b in (1, 8) for name in speed.DENSE_MODELS
    }
    assert trial.predictions(as_routed=False)[2].predicted != pytest.approx(
        trial.predictions()[2].predicted
    )
    assert trial.rates("sparse")[8] == pytest.approx(8 / trial.decode[8]["sparse"][0])


def test_the_sparse_model_cannot_move_the_overhead():
    """Whatever the sparse model costs, the term stays: a ratio that it spoils shows as an error and
    is not tuned away.
    """
    assert synthetic(0.001, of_an_expert=0.01).overhead() == synthetic(0.001).overhead()
    assert all(one.error > 0.2 for one in synthetic(0.001, of_an_expert=0.01).predictions())
    with pytest.raises(ValueError, match="dense runs only"):
        speed.residual_overheads([(SPARSE, 1, 1.0)], speed.Machine("m", {1: 1.0}), 0)


def test_a_complete_comparison_of_toy_models_and_its_tables():
    trial = speed.measure_models(
        SPARSE, "float32", speed.SpeedSettings((1, 3), rounds=2, tokens=1, prefill=8, context=4)
    )
    assert set(trial.decode) == set(trial.machines) == set(trial.loads) == {1, 3}
    assert {len(seconds) for found in trial.decode.values() for seconds in found.values()} == {2}
    assert [set(seen.bandwidth) for seen in trial.machines[3]] == [{1, 2, 3}] * 2
    assert set(trial.machine(3).bandwidth) == {1, 2, 3}
    assert set(trial.prefill) == set(trial.shapes)
    assert len(trial.predictions()) == 4 and set(trial.prefill_ratios()) == set(speed.DENSE_MODELS)
    assert trial.weight_bytes("equal total") == 4 * (
        trial.shapes["equal total"].total - 100 * 64 - 5 * 64
    )
    measured = {"float32": trial}
    assert "prefill, 8 tokens" in repr(speed.ratio_table(measured))
    assert "not found / not found" in repr(speed.machine_table(measured, None))
    assert len(repr(speed.prediction_table(trial)).splitlines()) == 1 + 4


# The claim


def test_the_published_sizes():
    mixtral = speed.mixtral_shape()
    assert (mixtral.total, mixtral.active) == (46_702_792_704, 12_879_925_248)
    assert speed.LLAMA_2_70B.total == 68_976_648_192
    assert speed.paper_rates(PAPER) == (180.6, 20.9)


def test_the_claims_share_of_the_architecture():
    gpus, mixtral = read_gpus(), speed.mixtral_shape()
    found = {
        batch: [claim.architecture_ratio((gpu, gpu), batch, mixtral) for gpu in gpus]
        for batch in (1, 32)
    }
    for ratios in found.values():
        assert [one is None for one in ratios] == [gpu.bandwidth is None for gpu in gpus]
    missing = {gpu.name for gpu, one in zip(gpus, found[1], strict=True) if one is None}
    assert "MI250 (one die)" in missing
    first, last = ([one for one in found[batch] if one] for batch in (1, 32))
    # at one row memory limits every GPU of the table, so bandwidth cancels: bytes over bytes,
    # caches and heads included
    assert max(first) - min(first) < 1e-9 and 5.2 < first[0] < 70 / 12.9 and max(last) < 2
    pair, mixed = (gpus[0], gpus[0]), ("nf4", "bfloat16")
    small = claim.architecture_ratio(pair, 1, mixtral, precisions=mixed)
    assert small / first[0] > 3.5, "a 4-bit model reads a quarter"
    cases = speed.claim_ratios((1, 32), mixtral)
    assert next(iter(cases.values())) == {1: pytest.approx(first[0]), 32: pytest.approx(last[0])}
    assert all(other[1] > first[0] for other in list(cases.values())[1:])
    shares = {row[-1] for row in claim.gpu_rows(gpus, (1,), 180.6 / 20.9, mixtral)}
    assert shares == {f"{math.log(first[0]) / math.log(180.6 / 20.9):.0%}", "not found"}


def test_the_gpus_and_the_bandwidth_that_are_needed():
    by_name = {gpu.name: gpu for gpu in read_gpus()}
    assert speed.gpus_needed(speed.LLAMA_2_70B, by_name["A100 80GB"]) == 2
    assert speed.gpus_needed(speed.mixtral_shape(), by_name["MI300X"]) == 1
    needed = speed.needed_bandwidth(speed.LLAMA_2_70B, 20.9, "bfloat16", context=0)
    assert needed == pytest.approx(20.9 * 2 * (speed.LLAMA_2_70B.total - 32000 * 8192 - 161 * 8192))


def test_a_table_without_the_claim_is_refused(tmp_path):
    (tmp_path / "speed.csv").write_text("system,model,tokens_per_s\nBiMediX v1,70B dense,~20.9\n")
    with pytest.raises(InputError, match="found 1"):
        speed.paper_rates(tmp_path / "speed.csv")


# Languages


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("The dose is 2.5 mg. Take it twice.", 2),
        ("ما الجرعة؟ الجرعة 2.5 ملغ. تؤخذ مرتين.", 3),
        ("No end", 1),
        ("He said “stop.” Then he left.", 2),
        ("Really?! Yes.", 2),
    ],
)
def test_sentences_end_at_their_marks_and_not_inside_numbers(text, count):
    assert speed.count_sentences(text) == count


def test_the_samples_items_pair_up_in_both_languages():
    rows = speed.parallel_items(ROOT / "data" / "sample")
    assert len(rows) == 242 and all((a.lang, b.lang) == ("en", "ar") for a, b in rows)
    assert all(len(speed.running_text(a)) == len(speed.running_text(b)) for a, b in rows), (
        "a pair holds the same content"
    )
    assert {a.kind for a, _ in rows} == {"mcqa", "qa", "chat"}


def test_arabic_costs_more_tokens_with_mixtrals_tokenizer_than_with_the_kits():
    rows = speed.parallel_items(ROOT / "data" / "sample")[:60]
    tiny = speed.tiny_counter(ROOT / "data" / "knowledge")
    tokenizers = {"Mixtral": speed.mixtral_counter(), "tiny": tiny}
    costs = {(cost.tokenizer, cost.lang): cost for cost in speed.token_costs(rows, tokenizers)}
    ratio = {
        name: costs[name, "ar"].per_sentence / costs[name, "en"].per_sentence for name in tokenizers
    }
    assert ratio["Mixtral"] > 2 > ratio["tiny"]
    one = costs["Mixtral", "ar"]
    characters, sentences = one.rates(100.0)
    assert characters * one.tokens == pytest.approx(100 * one.characters)
    assert sentences * one.tokens == pytest.approx(100 * one.sentences)


def test_a_folder_without_twins_is_refused(tmp_path):
    (tmp_path / "open_qa_train.en.jsonl").write_text(
        (ROOT / "data/sample/open_qa_train.en.jsonl").read_text(encoding="utf-8")
    )
    with pytest.raises(InputError, match="both languages"):
        speed.parallel_items(tmp_path)


# Figures


def test_figures_show_what_they_are_given():
    import matplotlib.pyplot as plt

    axis = speed.ratios_figure(synthetic(0.001).predictions(), "title")
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "8"]
    assert axis.get_title() == "title"
    assert len(axis.get_legend().get_texts()) == 4
    axis = speed.claim_figure({"a": {1: 5.4, 8: 1.6}}, 8.64, "t")
    assert "8.6" in axis.get_legend().get_texts()[-1].get_text()
    axis = speed.parts_figure({"x": {"a": 1.0, "b": 2.0}, "y": {"a": 3.0, "b": 0.5}}, "t", "GB")
    assert [bar.get_width() for bar in axis.patches] == [1.0, 3.0, 2.0, 0.5]
    assert [bar.get_x() for bar in axis.patches][2:] == [1.0, 3.0]
    axis = speed.sentences_figure(
        [speed.TokenCost("T", lang, 1, 10, 2, n) for lang, n in (("en", 20), ("ar", 60))], "t"
    )
    assert [bar.get_height() for bar in axis.patches] == [10, 30]
    plt.close("all")


# The committed study and the notebook's parameters


def test_batches_and_precisions_of_a_notebook_are_read_or_refused():
    assert speed.parse_batches("32 1 8 8") == (1, 8, 32)
    assert speed.parse_precisions("nf4 float32") == ("float32", "nf4")
    for text in ("", "0", "1,8", "-1", "two"):
        with pytest.raises(InputError, match="BATCHES"):
            speed.parse_batches(text)
    for text in ("", "int8", "float32,bfloat16"):
        with pytest.raises(InputError, match="PRECISIONS"):
            speed.parse_precisions(text)


def test_the_gpu_table_says_not_found_where_a_bandwidth_is_missing():
    gpus = read_gpus()
    lines = claim.gpu_rows(gpus, (1, 8), 180.6 / 20.9, speed.mixtral_shape())
    assert [line[0] for line in lines] == [gpu.name for gpu in gpus]
    for gpu, line in zip(gpus, lines, strict=True):
        assert len(line) == 8
        assert (line[2] == "not found") == (gpu.bandwidth is None) == (line[-1] == "not found")
    a100 = next(line for line in lines if line[0] == "A100 80GB")
    # two GPUs read 4,078 GB/s; 25.5 GB of weights and cache a token
    assert a100[1] == "2" and int(a100[2]) == pytest.approx(2 * 2039e9 / (2 * 12.75e9), rel=0.01)


def test_the_study_measured_what_it_promises_on_a_clean_commit():
    made = speed.benchmark_conditions(STUDIES)
    assert made["git"]["commit"]
    assert not made["git"]["dirty"]
    assert made["rounds"] >= 7
    assert made["limit"] == 0.2
    lines = [line for line in speed.read_benchmark(STUDIES) if line.precision == "float32"]
    assert {(line.batch, line.against) for line in lines} == {
        (b, name) for b in (1, 2, 4, 8, 16, 32) for name in speed.DENSE_MODELS
    }
    assert all(len(line.errors) == 3 and float(line.weights_over_cache) >= 8 for line in lines)
    assert {line.precision for line in speed.read_benchmark(STUDIES)} == set(speed.PRECISION_BYTES)


def test_the_tables_of_the_study_and_of_the_claim_hold_a_line_for_each_row():
    rows = speed.read_benchmark(STUDIES)
    assert len(repr(speed.benchmark_table(rows)).splitlines()) == 1 + len(rows)
    parts = speed.bytes_by_part({"70B": speed.LLAMA_2_70B}, (1, 8))
    assert list(parts) == ["70B, 1 row", "70B, 8 rows"]
    assert sum(parts["70B, 1 row"].values()) == pytest.approx(137.6, abs=0.1)
    assert len(repr(speed.parts_table(parts)).splitlines()) == 1 + 2
    by_name = {gpu.name: gpu for gpu in read_gpus()}
    needed = speed.needed_table((180.6, 20.9), speed.mixtral_shape(), by_name["MI250 (one die)"])
    assert repr(needed).count("not found") == 4


def test_the_study_names_every_miss():
    """A miss is reported: the manifest's list is the table's, and the errors are those of the two
    columns beside them.
    """
    made, rows = speed.benchmark_conditions(STUDIES), read_study(STUDIES, "speed")
    for row in rows:
        assert float(row["predicted"]) / float(row["measured"]) - 1 == pytest.approx(
            float(row["error"]), abs=0.005
        )
        assert float(row["low"]) <= float(row["measured"]) <= float(row["high"])
    missed = [
        row
        for row in rows
        if row["precision"] == "float32" and abs(float(row["error"])) > made["limit"]
    ]
    assert [(str(m["repeat"]), str(m["batch"]), m["against"]) for m in made["missed_float32"]] == [
        (row["repeat"], row["batch"], row["against"]) for row in missed
    ]


def test_the_studys_median_ratios_in_float32_are_predicted_within_the_limit():
    """Median over the three repeats, each of them a median of seven rounds; single repeats may miss
    and are listed.
    """
    made = speed.benchmark_conditions(STUDIES)
    for line in speed.read_benchmark(STUDIES):
        if line.precision == "float32":
            assert abs(statistics.median(line.errors)) <= made["limit"], (line.batch, line.against)
