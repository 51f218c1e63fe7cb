"""Notebook 06: QLoRA fine-tuning of a mixture of experts.

* `models`: the tiny base, upcycling, 4-bit loading, LoRA adapters, their audit, an exact merge;
  `weights`: models from the hub.
* `examples`, `batches`, `recipe`: rows to tokens and labels, planned steps, the settings of a run.
* `loop`, `trainer`, `checkpoints`, `divergence`, `fast_lora`: one run. `sharded`, `launch`: the
  same over several GPUs and machines.
* `plan`: memory, time and cost before a run. `router`: which experts read which language.
"""

from ..core.errors import AuditError
from .adapter_card import adapter_hash, write_adapter_card
from .batches import plan_steps
from .checkpoints import CheckpointError
from .divergence import TrainingError
from .examples import (
    IGNORE_INDEX,
    Example,
    decode_rows,
    encode_record,
    encode_rows,
    filter_long_rows,
    token_table,
    token_texts,
)
from .launch import LaunchedOutcome, TrainingJob, launch_training, read_outcome, run_job, write_job
from .loop import TrainingOutcome, answer_loss, train
from .models import (
    LORA_PARTS,
    AuditRow,
    PartRow,
    TinySpec,
    adapters_by_part,
    add_adapters,
    audit_model,
    build_tokenizer,
    count_parameters,
    for_inference,
    group_of,
    load_base,
    load_plain,
    load_scored,
    merge_adapter,
    prompt_logits,
    release_memory,
    resolve_targets,
    save_adapter,
    setup_torch,
    tiny_base,
    trainable_share,
    upcycle_model,
)
from .plan import (
    DevicePlan,
    EpochRows,
    Gpu,
    ParameterCount,
    PeakMemory,
    Shape,
    TrainingPlan,
    TrainingSetup,
    count_on_meta,
    epoch_rows,
    find_config,
    find_gpu,
    memory_figure,
    peak_memory,
    plan_device,
    plan_training,
    preset_table,
    read_gpus,
    remedies,
)
from .recipe import Recipe
from .router import (
    DistanceEstimate,
    ExpertLoad,
    GroupDistance,
    RoutingChange,
    RoutingCounts,
    RoutingShift,
    count_routing,
    count_routing_change,
    dead_experts,
    draw_rows,
    expert_loads,
    group_distances,
    group_rows,
    jensen_shannon,
    plot_loads,
    routing_shifts,
    total_variation,
)
from .weights import (
    SMALL_MODEL,
    fetch_model,
    fetched_model,
    local_checkpoint,
    locked_revision,
    model_name,
)
