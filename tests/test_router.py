"""The router's view: counts against a plain loop, padding, tags, forced and equal groups, adapters
off and on, the model left as it was.
"""

import math
import re

import numpy
import pytest

from bimedix_utils import training
from bimedix_utils.core import charts, statistics
from bimedix_utils.core.errors import InputError, KitError
from bimedix_utils.training import models, router

pytestmark = pytest.mark.unit
TEXTS = [
    "The drug aspirin belongs to the class of salicylates.",
    "ينتمي دواء أسبرين إلى فئة الساليسيلات.",
] * 20
FORM = ["[INST] Question: Options: A. B. C. D. [/INST] The correct answer is A. B. C. D."] * 5
EXPERTS, LAYERS = 4, 3


@pytest.fixture(scope="module")
def tokenizer():
    models.setup_torch(1)
    return models.build_tokenizer(TEXTS + FORM, 400)


def plain_model(tokenizer, seed=0):
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(seed)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_local_experts=EXPERTS,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        output_router_logits=True,
        initializer_range=0.3,  # a router that prefers, so that rounding decides nothing
    )
    return MixtralForCausalLM(config)


def rows_of(tokenizer, n=12):
    """Rows of many lengths, half English and half Arabic, three tasks, tags around the question,
    and their tasks.
    """
    made, kinds = [], {}
    for i in range(n):
        lang = ("en", "ar")[i % 2]
        text = (
            f"<s>[INST] {' '.join([TEXTS[i % 2]] * (i // 2 % 4 + 1))[: 20 + 9 * i]} [/INST]"
            f" {TEXTS[i % 2][:12]}</s>"
        )
        ids = tokenizer(text, add_special_tokens=False).input_ids
        made.append(training.Example(f"r{i // 2}:{lang}", lang, ids, ids, 0))
        kinds[made[-1].id] = ("qa", "mcqa", "chat")[i // 2 % 3]
    return made, kinds


def brute(model, examples, keep):
    """Slots by plain loops over single rows, from the model's own router logits."""
    import torch

    slots = numpy.zeros((len(examples), LAYERS, EXPERTS), int)
    for i, example in enumerate(examples):
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([[*example.input_ids]]), output_router_logits=True
            ).router_logits
        for layer, of_layer in enumerate(logits):
            for token, row in zip(example.input_ids, of_layer, strict=True):
                if keep(token):
                    for expert in sorted(range(EXPERTS), key=lambda e: -row[e].item())[:2]:
                        slots[i, layer, expert] += 1
    return slots


def view_of(slots, langs, kinds=None):
    """A view from made-up counts (rows, layers, experts)."""
    slots = numpy.asarray(slots, numpy.int32)
    tokens = slots[:, 0].sum(1) // 2
    names = tuple(f"r{i}" for i in range(len(slots)))
    kinds = kinds or ("qa",) * len(slots)
    return router.RoutingCounts(names, tuple(langs), tuple(kinds), slots, tokens, tokens * 0, 2)


@pytest.mark.parametrize(
    ("tokens", "keep"), [("content", [False]), ("tags", [True]), ("all", [False, True])]
)
def test_counts_equal_a_plain_loop_over_single_rows(tokenizer, tokens, keep):
    model = plain_model(tokenizer).eval()
    examples, kinds = rows_of(tokenizer)
    special = set(tokenizer.all_special_ids)  # in this tokenizer every tag is one special token
    view = router.count_routing(model, tokenizer, examples, kinds, budget=200, tokens=tokens)
    assert (view.slots == brute(model, examples, lambda token: (token in special) in keep)).all()
    assert (view.slots.sum(2) == 2 * view.tokens[:, None]).all()
    assert (view.tokens + view.left_out == [len(e.input_ids) for e in examples]).all()


def test_padding_is_never_counted(tokenizer):
    """Batches of one row hold no padding; one batch of all rows is mostly padding: the counts are
    the same.
    """
    model = plain_model(tokenizer)
    examples, kinds = rows_of(tokenizer)
    alone, together = (
        router.count_routing(model, tokenizer, examples, kinds, budget) for budget in (1, 100_000)
    )
    assert (alone.slots == together.slots).all() and (alone.tokens == together.tokens).all()


def test_tags_of_several_tokens_are_found():
    """Mixtral's own tokenizer spells [INST] with three ordinary tokens."""

    class Pieces:
        all_special_ids = [0]

        def convert_ids_to_tokens(self, ids):
            return [
                ["<s>", "▁[", "INST", "]", "▁a", "▁[", "/", "▁b", "<|im_start|>", "user", "Ċ"][i]
                for i in ids
            ]

    found = router.find_tags([0, 1, 2, 3, 4, 5, 6, 2, 3, 7, 1, 7, 8, 9, 10], Pieces())
    assert found == [True] * 4 + [False] + [True] * 4 + [False] * 3 + [True] * 3


def test_shares_sum_to_one_and_lie_in_their_intervals(tokenizer):
    examples, kinds = rows_of(tokenizer)
    view = router.count_routing(plain_model(tokenizer), tokenizer, examples, kinds)
    loads = router.expert_loads(view, ["ar", "en", "ar mcqa", "all"], seed=1, draws=200)
    assert [(x.group, x.layer) for x in loads[:4]] == [("ar", 0), ("ar", 1), ("ar", 2), ("en", 0)]
    for one in loads:
        assert math.isclose(sum(one.share), 1)
        assert all(a <= s <= b for a, s, b in zip(one.low, one.share, one.high, strict=True))
    by_group = {x.group: x for x in loads}
    assert (
        by_group["all"].tokens == by_group["ar"].tokens + by_group["en"].tokens
        and by_group["ar mcqa"].rows == 2
    )


def force(model, tokenizer, arabic: set[int]):
    """Rebuild the weights by hand: Arabic tokens go to experts 0 and 1, all others to 2 and 3, in
    every layer.
    """
    import torch

    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding.normal_(std=0.1)
        for token in range(len(embedding)):
            embedding[token, 0] = 5.0 if token in arabic else -5.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()  # each token keeps its own sign
            for expert in layer.block_sparse_moe.experts:
                expert.w2.weight.zero_()
            layer.block_sparse_moe.gate.weight.zero_()
            layer.block_sparse_moe.gate.weight[:, 0] = torch.tensor([2.0, 1.0, -2.0, -1.0])


def test_a_router_forced_by_language_is_found(tokenizer):
    model = plain_model(tokenizer)
    examples, kinds = rows_of(tokenizer, 24)
    special = set(tokenizer.all_special_ids)
    # spaces and the full stop are shared by the languages: take rows of tokens that only one of
    # them has
    arabic, english = (
        {t for e in examples if e.lang == lang for t in e.input_ids} - special
        for lang in ("ar", "en")
    )
    shared = arabic & english
    examples = [
        training.Example(e.id, e.lang, ids, ids, 0)
        for e in examples
        if (ids := [t for t in e.input_ids if t not in shared - special])
    ]
    force(model, tokenizer, arabic - shared)
    view = router.count_routing(model, tokenizer, examples, kinds)
    loads = router.expert_loads(view, ["ar", "en"], 1, 100)
    assert all(
        x.share == ((0.5, 0.5, 0, 0) if x.group == "ar" else (0, 0, 0.5, 0.5)) for x in loads
    )
    for gap in router.group_distances(view, "ar", "en", seed=1, draws=500):
        assert gap.jsd.value == gap.jsd.low == gap.tv.value == pytest.approx(1)
        assert (
            gap.p == pytest.approx(1 / 501)
            and gap.p_holm == pytest.approx(LAYERS / 501)
            and gap.jsd.shuffled < 0.2
        )
    assert (
        len(router.dead_experts(loads)) == 2 * 2 * LAYERS
        and router.dead_experts(router.expert_loads(view, ["all"], 1, 50)) == []
    )


def test_a_random_split_of_one_group_is_not_a_difference():
    """Plain divergence is never 0 in a sample: the test must not take its bias for a finding, and
    the interval must hold 0.
    """
    rng = numpy.random.default_rng(5)
    shares = rng.dirichlet(
        [4] * 6, (80, 2)
    )  # each row has its own shares: tokens of a row depend on each other
    slots = [[rng.multinomial(60, layer) for layer in row] for row in shares]
    small = 0
    for split in range(20):
        langs = numpy.random.default_rng(split).permutation(["en", "ar"] * 40)
        for gap in router.group_distances(view_of(slots, langs), "ar", "en", seed=1, draws=200):
            assert gap.jsd.plain > 0 and gap.jsd.low <= gap.jsd.value <= gap.jsd.high
            small += gap.p < 0.05
            assert gap.p < 0.05 or (gap.jsd.low == 0 and gap.p_holm >= gap.p)
    assert (
        small <= 6
    )  # of 40 tests at 5 %: more than 6 has a chance of 1.4 %, and the seeds are fixed


def varied(rng, share, rows, layers, tokens):
    """Counts (rows, layers, experts) of rows that vary around `share`; `tokens`
    (least, most) a row.
    """
    shares = rng.dirichlet(20 * numpy.asarray(share), (rows, layers))
    lengths = rng.integers(*tokens, rows)
    return numpy.array(
        [
            [rng.multinomial(2 * n, layer) for layer in row]
            for n, row in zip(lengths, shares, strict=True)
        ]
    )


@pytest.mark.parametrize("moved", [0, 0.02, 0.15])
def test_intervals_hold_the_true_divergence(moved):
    """Plain percentile intervals held it in 0 to 35 % of such cases. 150 layers stand for 150
    repetitions.
    """
    rng = numpy.random.default_rng(1)
    even = numpy.full(8, 1 / 8)
    other = even + [moved, *[-moved / 7] * 7]
    slots = numpy.concatenate([varied(rng, share, 40, 150, (5, 40)) for share in (even, other)])
    gaps = router.group_distances(view_of(slots, ["en"] * 40 + ["ar"] * 40), "en", "ar", 1, 300)
    true = router.jensen_shannon(even, other)
    least = 0.95 * 150 - 3 * math.sqrt(150 * 0.95 * 0.05)
    assert sum(gap.jsd.low <= true <= gap.jsd.high for gap in gaps) >= least
    # the variation has a corner at 0, where only the test keeps its lower end honest
    assert moved or sum(gap.tv.low == 0 for gap in gaps) >= least
    assert abs(numpy.mean([gap.jsd.value for gap in gaps]) - true) < abs(
        numpy.mean([gap.jsd.plain for gap in gaps]) - true
    )


def test_a_small_group_of_short_rows_is_not_found_different():
    """Names dealt out among all rows of 15 short and 60 long ones rejected in 24 % of cases without
    any difference.
    """
    rng = numpy.random.default_rng(2)
    even = numpy.full(8, 1 / 8)
    slots = numpy.concatenate(
        [varied(rng, even, 15, 150, (5, 10)), varied(rng, even, 60, 150, (30, 120))]
    )
    gaps = router.group_distances(view_of(slots, ["ar"] * 15 + ["en"] * 60), "ar", "en", 1, 300)
    assert sum(gap.p <= 0.05 for gap in gaps) <= 0.05 * 150 + 3 * math.sqrt(150 * 0.05 * 0.95)
    assert gaps[0].rows == (15, 60)


def test_the_same_seed_gives_the_same_numbers_and_pairs_see_what_rows_do_not():
    """Topics move the load far more than language does; inside pairs the topic is the same and the
    small difference is seen.
    """
    rng = numpy.random.default_rng(3)
    slots, ids, langs = [], [], []
    for i in range(60):
        topic = rng.dirichlet([1, 1, 1])
        for lang in ("en", "ar"):
            counts = (
                numpy.round(100 * topic).astype(int) + (5, 0, 0)
                if lang == "ar"
                else numpy.round(100 * topic).astype(int) + (0, 5, 0)
            )
            slots.append([counts])
            ids.append(f"q{i}:{lang}")
            langs.append(lang)
    view = router.RoutingCounts(**{**vars(view_of(slots, langs)), "ids": tuple(ids)})
    plain, again = (router.group_distances(view, "ar", "en", 7, 300) for _ in range(2))
    assert plain == again
    (paired,) = router.group_distances(view, "ar", "en", 7, 300, pair=lambda name: name[:-3])
    assert plain[0].p > 0.2 and paired.p == pytest.approx(1 / 301) and paired.rows == (60, 60)
    assert paired.tv.plain == plain[0].tv.plain
    with pytest.raises(InputError, match="same pair name"):
        router.group_distances(view, "ar", "en", 7, 300, pair=lambda name: "one")
    lonely = router.RoutingCounts(**{**vars(view), "ids": ("alone:en", *ids[1:])})
    assert router.group_distances(lonely, "ar", "en", 7, 50, pair=lambda name: name[:-3])[
        0
    ].rows == (59, 59)


def test_distances_against_values_worked_out_by_hand():
    p, q = numpy.array([1.0, 0.0]), numpy.array([0.5, 0.5])
    # middle (3/4, 1/4): half of log2(4/3) and half of (log2(2/3) + log2(2)) / 2
    assert router.jensen_shannon(p, q) == pytest.approx(
        0.5 * math.log2(4 / 3) + 0.25 * math.log2(2 / 3) + 0.25
    )
    assert (
        router.total_variation(p, q) == 0.5
        and router.jensen_shannon(p, p) == 0
        and router.jensen_shannon(p, p[::-1]) == 1
    )


@pytest.mark.parametrize("training_mode", [True, False])
def test_the_model_is_left_as_it_was(tokenizer, training_mode):
    model = plain_model(tokenizer).train(training_mode)
    model.model.layers[1].eval()  # one part in another mode
    model.config.output_router_logits, model.config.use_cache = training_mode, training_mode
    before = (
        model.config.to_dict(),
        [m.training for m in model.modules()],
        [m._forward_hooks for m in model.modules()],
    )
    router.count_routing(model, tokenizer, *rows_of(tokenizer))
    assert before == (
        model.config.to_dict(),
        [m.training for m in model.modules()],
        [m._forward_hooks for m in model.modules()],
    )
    assert not any(m._forward_hooks for m in model.modules())


def test_a_model_in_training_mode_is_counted_without_its_noise(tokenizer):
    examples, kinds = rows_of(tokenizer)
    model = plain_model(tokenizer)
    for layer in model.model.layers:
        layer.block_sparse_moe.jitter_noise = 0.9  # only training adds it
    counts = [
        router.count_routing(model.train(mode), tokenizer, examples, kinds).slots
        for mode in (True, False)
    ]
    assert (counts[0] == counts[1]).all()


def test_an_error_in_the_middle_leaves_the_model_as_it_was(tokenizer):
    model = plain_model(tokenizer).train()
    examples, kinds = rows_of(tokenizer, 2)
    broken = training.Example("r0:en", "en", [10**6], [10**6], 0)
    with pytest.raises(IndexError):
        router.count_routing(model, tokenizer, [broken], kinds, tokens="all")
    assert model.training and not any(m._forward_hooks for m in model.modules())


@pytest.fixture(scope="module")
def four_bit(tmp_path_factory):
    models.setup_torch(1)
    spec = models.TinySpec(
        vocabulary=400,
        hidden=64,
        inner=64,
        layers=LAYERS,
        experts=EXPERTS,
        heads=2,
        steps=3,
        batch=2,
        length=32,
    )
    folder, _ = models.tiny_base(TEXTS + FORM, [], spec, tmp_path_factory.mktemp("cache"))
    return models.load_base(folder)


def test_fresh_adapters_change_nothing_and_others_are_seen(four_bit):
    """LoRA's second matrix starts at 0: off and on agree on every token. A router adapter set by
    hand changes the expert of every token.
    """
    import torch

    model, tokenizer = four_bit
    examples, kinds = rows_of(tokenizer)
    adapted = models.add_adapters(model, 4, 8)
    trainable = [p.requires_grad for p in adapted.parameters()]
    change = router.count_routing_change(adapted, tokenizer, examples, kinds, 300)
    assert [
        p.requires_grad for p in adapted.parameters()
    ] == trainable and adapted.config.output_router_logits
    assert (change.same == change.after.tokens[:, None]).all() and (
        change.before.slots == change.after.slots
    ).all()
    assert (
        change.after.slots
        == brute(adapted.eval(), examples, lambda t: t not in tokenizer.all_special_ids)
    ).all()
    for one in router.routing_shifts(change, "ar", 1, 100):
        assert (one.changed, one.low, one.high, one.tv.value, one.p_holm, set(one.change)) == (
            0,
            0,
            0,
            0,
            1,
            {0},
        )
    with torch.no_grad():
        for layer in adapted.get_base_model().model.layers:
            gate = layer.block_sparse_moe.gate
            # the adapter takes the base's logits away twice: the least probable expert becomes the
            # most probable one
            a, _, b = torch.linalg.svd(gate.base_layer.weight, full_matrices=False)
            gate.lora_A["default"].weight.copy_(b)
            gate.lora_B["default"].weight.copy_(-a * _)  # alpha / rank = 2
    adapted.requires_grad_(False)  # as a model loaded for inference
    change = router.count_routing_change(adapted, tokenizer, examples, kinds, 300)
    assert not any(p.requires_grad for p in adapted.parameters())
    first, *_ = router.routing_shifts(change, "all", 1, 100)
    # in the first layer the input is the same: the two chosen experts become the two that were not
    slots = change.before.slots[:, 0] + change.after.slots[:, 0]
    assert (
        (slots == change.before.tokens[:, None]).all()
        and first.changed == 1
        and sum(first.change) == pytest.approx(0)
    )
    assert first.tv.plain == pytest.approx(sum(abs(x) for x in first.change) / 2)


def test_what_cannot_be_counted_is_named(tokenizer):
    from bimedix_utils import speed

    model = plain_model(tokenizer)
    examples, kinds = rows_of(tokenizer)
    with pytest.raises(InputError, match="no rows"):
        router.count_routing(model, tokenizer, [], kinds)
    with pytest.raises(InputError, match="12 rows have no task"):
        router.count_routing(model, tokenizer, examples, {})
    long = training.Example("l", "en", [5] * 200, [5] * 200, 0)
    with pytest.raises(InputError, match="200 tokens; the model has 128"):
        router.count_routing(model, tokenizer, [long], {"l": "qa"})
    with pytest.raises(KitError, match="no adapters"):
        router.count_routing_change(model, tokenizer, examples, kinds)
    with pytest.raises(KitError, match="no router"):
        router.count_routing(
            speed.build_random_model(training.Shape(32, 32, 1, 2, vocabulary=500), 1),
            tokenizer,
            examples,
            kinds,
        )
    view = router.count_routing(model, tokenizer, examples, kinds)
    for a, b, message in (
        ("fr", "en", "no group"),
        ("ar", "mcqa", "share rows"),
        ("", "en", "no group"),
    ):
        with pytest.raises(InputError, match=message):
            router.group_distances(view, a, b, 1, 10)
    with pytest.raises(InputError, match=re.escape("0 rows and no counted token")):
        router.group_rows(view_of([[[2, 2]]] * 2, ["en", "ar"], ["qa", "chat"]), "en chat")


def test_holm_against_values_worked_out_by_hand():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 = 0.06, and 0.5 x 1; order kept, never falling, never above
    1.
    """
    assert statistics.holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.9, 0.8]) == [1.0, 1.0] and statistics.holm([]) == []


def test_the_figures_show_the_numbers_and_frame_dead_experts():
    import matplotlib

    matplotlib.use("Agg")
    slots = [[[98, 0, 102], [60, 70, 70]]] * 4 + [[[80, 60, 60], [60, 70, 70]]] * 4
    view = view_of(slots, ["ar"] * 4 + ["en"] * 4)
    panels = router.plot_loads(router.expert_loads(view, ["ar", "en"], 1, 20), "Loads")
    assert [axis.get_title() for axis in panels] == ["ar", "en"]
    assert [text.get_text() for text in panels[0].texts][:3] == ["49.0", "0.0", "51.0"]
    assert [len(axis.patches) for axis in panels] == [1, 0]
    assert {axis.collections[0].get_clim() for axis in panels} == {(0.0, 51.0)}
    (panel,) = charts.heatmap({"a": [[0.0, 0.0]]}, "", "", "", "points", signed=True)
    assert panel.collections[0].get_clim() == (-1.0, 1.0) and panel.texts[0].get_text() == "+0.0"
    with pytest.raises(ValueError, match="one shape"):
        charts.heatmap({"a": [[1, 2]], "b": [[1]]}, "", "", "", "")
    matplotlib.pyplot.close("all")


def test_rows_are_drawn_by_seed_and_id_alone():
    rows = [training.Example(f"r{i}", ("en", "ar")[i % 2], [1], [1], 0) for i in range(20)]
    drawn = router.draw_rows(rows, ["ar", "en"], 3, 7)
    assert [e.lang for e in drawn] == ["ar"] * 3 + ["en"] * 3
    assert drawn == router.draw_rows(rows[::-1], ["ar", "en"], 3, 7)
    assert drawn != router.draw_rows(rows, ["ar", "en"], 3, 8)
