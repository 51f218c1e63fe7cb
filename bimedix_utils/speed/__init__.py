"""Speed of a sparse model against dense ones: interleaved rounds, explained by a roofline."""

from .claim import (
    LLAMA_2_70B,
    architecture_ratio,
    best_rate,
    claim_ratios,
    gpus_needed,
    mixtral_shape,
    needed_bandwidth,
    paper_rates,
)
from .comparison import (
    DENSE_MODELS,
    SpeedComparison,
    SpeedSettings,
    compared_shapes,
    equal_active,
    equal_total,
    measure_models,
    parse_batches,
    parse_precisions,
)
from .measure import count_routed, decode_seconds, interleaved, prefill_seconds, time_ratio
from .plots import claim_figure, parts_figure, ratios_figure, sentences_figure
from .probes import Machine, ProbeSweeps, cache_bytes
from .random_models import build_random_model, four_bit_path, random_weights
from .roofline import (
    PRECISION_BYTES,
    distinct_experts,
    predict_seconds,
    residual_overheads,
    step_parts,
    uniform_loads,
)
from .tables import (
    benchmark_conditions,
    benchmark_table,
    bytes_by_part,
    claim_table,
    gpu_table,
    machine_table,
    needed_table,
    parts_table,
    prediction_table,
    ratio_table,
    read_benchmark,
    sentence_table,
    size_table,
    token_cost_table,
)
from .token_costs import (
    TokenCost,
    count_sentences,
    mixtral_counter,
    parallel_items,
    running_text,
    tiny_counter,
    token_costs,
)
