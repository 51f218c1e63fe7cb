"""Models: a tiny bilingual Mixtral made by the kit, a dense Llama made sparse, one loader in 4 bit,
LoRA, its audit, an exact merge.

Pinned to transformers 4.57, where each Mixtral expert is three `nn.Linear`: bitsandbytes quantises
them and PEFT adapts them. In transformers 5 the experts are fused tensors that bitsandbytes leaves
in 16 bit without a word; the audit would stop there.
"""

from ...core.errors import AuditError
from .adapters import LORA_PARTS, add_adapters, resolve_targets, save_adapter
from .audit import (
    AuditRow,
    PartRow,
    adapters_by_part,
    audit_model,
    count_parameters,
    group_of,
    trainable_share,
)
from .loader import (
    for_inference,
    load_base,
    load_plain,
    load_scored,
    prompt_logits,
    release_memory,
    setup_torch,
)
from .merge import merge_adapter
from .tiny import TinySpec, build_tokenizer, tiny_base
from .upcycle import upcycle_model
