"""Models: a tiny bilingual Mixtral made by the kit, one loader in 4 bit, LoRA on attention, experts and router, and the audit.

Pinned to transformers 4.57, where each Mixtral expert is three `nn.Linear`: bitsandbytes quantises them and PEFT adapts them. In
transformers 5 the experts are fused tensors that bitsandbytes leaves in 16 bit without a word; the audit would stop there.
"""

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AuditError, KitError
from .provenance import shown
from .runs import seed
from .text import digest

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

TARGETS = {"attention": ("q_proj", "k_proj", "v_proj", "o_proj"), "experts": ("w1", "w2", "w3"), "router": ("gate",)}
UNQUANTISED = ["lm_head", "gate"]  # the router decides between experts: it stays in full precision, as in the released AWQ model
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }} [/INST]"
    "{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class TinySpec:
    """Size and pre-training of the kit's own model. With the texts it decides the cache key, so every field counts."""

    vocabulary: int = 3000
    hidden: int = 128
    inner: int = 256
    layers: int = 2
    experts: int = 4
    heads: int = 4
    positions: int = 2048
    steps: int = 200
    batch: int = 8  # sequences a step
    length: int = 128  # tokens a sequence
    learning_rate: float = 1e-2
    seed: int = 42


def setup_torch(threads: int) -> Any:
    """Import torch with fixed threads and deterministic algorithms; quiet the libraries that would write into a notebook."""
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=False)
    for name in ("bitsandbytes", "transformers", "peft", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    return torch


def build_tokenizer(texts: Sequence[str], vocabulary: int) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer trained on `texts`: any input can be encoded, and the corpus' words become single tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="</s>",  # as in the released BiMediX configuration
        unk_token="<unk>",
        additional_special_tokens=["[INST]", "[/INST]"],
        chat_template=CHAT_TEMPLATE,
        model_input_names=["input_ids", "attention_mask"],  # Mixtral refuses token_type_ids
    )


def tiny_base(texts: Sequence[str], words: Sequence[str], spec: TinySpec, cache: Path) -> tuple[Path, list[tuple[int, float]]]:
    """(folder of the pre-trained tiny model, [(step, loss)]), taken from `cache` when texts and spec are the same as before.

    The model reads `texts`; the tokenizer also sees `words`, so that the words of later questions are whole tokens, never read yet.

    The folder appears whole or not at all: it is renamed into place when complete.
    """
    import json

    folder = cache / f"tiny-{digest([digest([*texts]), digest([*words]), vars(spec)])}"
    if not (folder / "losses.json").exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        tokenizer = build_tokenizer([*texts, *words], spec.vocabulary)
        model, losses = _pretrain(texts, tokenizer, spec)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / "losses.json").write_text(json.dumps(losses))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder, [tuple(pair) for pair in json.loads((folder / "losses.json").read_text())]


def _pretrain(texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast", spec: TinySpec) -> tuple["PreTrainedModel", list]:
    """Next-token training from random weights on packed texts: AdamW (0.9, 0.95), 50 warm-up steps, cosine to a twentieth."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden,
        intermediate_size=spec.inner,
        num_hidden_layers=spec.layers,
        num_local_experts=spec.experts,
        num_experts_per_tok=2,
        num_attention_heads=spec.heads,
        num_key_value_heads=max(1, spec.heads // 2),
        max_position_embeddings=spec.positions,
        router_aux_loss_coef=0.02,  # the released BiMediX configuration
        output_router_logits=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    seed(spec.seed)
    torch.manual_seed(spec.seed)
    model = MixtralForCausalLM(config).train()
    encoded = tokenizer(list(texts), add_special_tokens=False).input_ids
    order = torch.randperm(len(encoded)).tolist()
    flat = [token for i in order for token in (tokenizer.bos_token_id, *encoded[i], tokenizer.eos_token_id)]
    rows = torch.tensor(flat[: len(flat) // spec.length * spec.length]).view(-1, spec.length)
    if len(rows) < spec.batch:
        raise KitError(f"the pre-training text gives {len(rows)} sequences of {spec.length} tokens; {spec.batch} are needed for one batch")
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, betas=(0.9, 0.95), fused=True)
    losses, queue = [], []
    for step in range(spec.steps):
        if len(queue) < spec.batch:
            queue = torch.randperm(len(rows)).tolist()
        batch = rows[[queue.pop() for _ in range(spec.batch)]]
        rate = spec.learning_rate * min(1.0, (step + 1) / 50) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / spec.steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 10 == 0 or step == spec.steps - 1:
            losses.append((step, round(loss.item(), 4)))
    return model.eval(), losses


def load_base(name: str | Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerFast"]:
    """A Mixtral in 4 bit (NF4 with double quantisation) and its tokenizer, from a local folder or a hub id.

    Compute runs in float32 on a CPU and in bfloat16 on a GPU. Raises `KitError` when the model cannot be found.
    """
    import bitsandbytes as bnb
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if gpu else torch.float32
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=UNQUANTISED,
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(
            name, quantization_config=quantisation, dtype=dtype, device_map="auto" if gpu else None
        )
    except (OSError, ValueError) as error:
        where = shown(name) if isinstance(name, Path) else name
        raise KitError(f"the model {where!r} cannot be loaded: {str(error).splitlines()[0]}") from None
    for module in model.modules():
        # On AVX512_BF16 processors bitsandbytes repacks the weights in place at the first evaluation without gradients; training
        # afterwards would silently lose the gradient through the base.
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model, tokenizer


def add_adapters(model: "PreTrainedModel", rank: int, alpha: int, parts: Sequence[str] = tuple(TARGETS)) -> "PeftModel":
    """LoRA on the named parts (`attention`, `experts`, `router`), everything else frozen, the router's balancing loss switched on."""
    from peft import LoraConfig, get_peft_model

    unknown = set(parts) - set(TARGETS)
    if unknown:
        raise KitError(f"unknown LoRA parts {sorted(unknown)}; legal: {', '.join(TARGETS)}")
    targets = [name for part in parts for name in TARGETS[part]]
    model.config.output_router_logits = True  # without it Mixtral computes no load-balancing loss
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM"))


def load_tuned(base: str | Path, adapter: Path) -> tuple["PeftModel", "PreTrainedTokenizerFast"]:
    """The 4-bit base with a saved adapter on it, ready for inference."""
    from peft import PeftModel

    model, tokenizer = load_base(base)
    return for_inference(PeftModel.from_pretrained(model, adapter)), tokenizer


def load_scored(base: str | Path, adapter: Path | None) -> tuple[Any, "PreTrainedTokenizerFast"]:
    """A model ready to be scored: the 4-bit base alone, or with an adapter."""
    if adapter is not None:
        return load_tuned(base, adapter)
    model, tokenizer = load_base(base)
    return for_inference(model), tokenizer


def trainable_share(model: Any) -> tuple[int, int]:
    """(parameters that learn, all parameters); a 4-bit matrix counts with its logical size."""
    rows = count(model)
    return sum(row.trainable for row in rows), sum(row.parameters for row in rows)


def for_inference(model: Any) -> Any:
    """Evaluation mode without router logits: with them `generate` fails in transformers 4.57."""
    model.config.output_router_logits = False
    return model.eval()


def group_of(name: str) -> str:
    """The part of a Mixtral a parameter belongs to, told by its name."""
    if ".experts." in name:
        return "experts"
    if ".gate." in name:
        return "router"
    if "self_attn" in name:
        return "attention"
    return "embeddings" if "embed_tokens" in name else "lm_head" if "lm_head" in name else "norms"


@dataclass(frozen=True)
class AuditRow:
    """One line of the audit: how many logical parameters a part has, in which type, in how many bytes, and how many train."""

    part: str
    dtype: str
    parameters: int
    bytes: int
    trainable: int


def count(model: Any) -> list[AuditRow]:
    """Parameters, bytes and what learns, by part and type, sorted."""
    import bitsandbytes as bnb

    table: dict[tuple[str, str], list[int]] = {}
    for name, parameter in model.named_parameters():
        four_bit = isinstance(parameter, bnb.nn.Params4bit)
        lora = "lora_" in name
        part = f"LoRA {group_of(name)}" if lora else group_of(name)
        size = math.prod(parameter.quant_state.shape) if four_bit else parameter.numel()
        row = table.setdefault((part, "nf4" if four_bit else str(parameter.dtype).removeprefix("torch.")), [0, 0, 0])
        for i, value in enumerate((size, parameter.numel() * parameter.element_size(), size if parameter.requires_grad else 0)):
            row[i] += value
    return [AuditRow(part, dtype, *values) for (part, dtype), values in sorted(table.items())]


def audit(model: Any, parts: Sequence[str] = tuple(TARGETS)) -> list[AuditRow]:
    """`count`, after proving the recipe. Raises `AuditError` when it is not met.

    Required: every expert weight in NF4 with double quantisation, adapters on every layer's module of each named part, nothing
    but adapters trainable, and the router's balancing loss on.
    """
    import bitsandbytes as bnb

    config = model.config
    layers, experts = config.num_hidden_layers, config.num_local_experts
    for name, parameter in model.named_parameters():
        four_bit, lora = isinstance(parameter, bnb.nn.Params4bit), "lora_" in name
        if parameter.requires_grad and not lora:
            raise AuditError(f"{name} would be trained: only adapters may learn")
        if group_of(name) == "experts" and not lora and not four_bit:
            raise AuditError(f"{name} is {parameter.dtype}, not 4 bit: fused experts (transformers 5) or a wrong skip list")
        if four_bit and not (parameter.quant_type == "nf4" and parameter.quant_state.nested):
            raise AuditError(f"{name} is {parameter.quant_type}, wanted NF4 with double quantisation")
    expected = {"attention": 4 * layers, "experts": 3 * layers * experts, "router": layers}
    for part, names in TARGETS.items():
        found = sum(1 for name, _ in model.named_parameters() if name.endswith("lora_A.default.weight") and group_of(name) == part)
        wanted = expected[part] if part in parts else 0
        if found != wanted:
            raise AuditError(f"{found} adapters on {part} ({', '.join(names)}); wanted {wanted}")
    if not config.output_router_logits:
        raise AuditError("the router's load-balancing loss is off: set output_router_logits")
    return count(model)
