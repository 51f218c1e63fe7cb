"""A tiny bilingual Mixtral made by the kit: tokenizer and weights from given texts, cached by their
content.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import KitError
from ...core.files import atomic_directory, write_json
from ...core.runs import set_seed
from ...core.text import digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{"
    " message['content'] }} [/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{%"
    " endfor %}"
)


@dataclass(frozen=True)
class TinySpec:
    """Size and pre-training of the kit's own model; with the texts, its cache key."""

    vocabulary: int = 4096
    hidden: int = 128
    inner: int = 256
    layers: int = 2
    experts: int = 4
    heads: int = 4
    positions: int = 2048
    steps: int = 250
    batch: int = 8  # sequences a step
    length: int = 128  # tokens a sequence
    learning_rate: float = 8e-3
    seed: int = 42

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TinySpec":
        """The spec in a notebook's parameters."""
        names = {"vocabulary": "VOCABULARY", "steps": "PRETRAIN_STEPS", "seed": "SEED"}
        return cls(**{field: values[name] for field, name in names.items()})


def build_tokenizer(texts: Sequence[str], vocabulary: int) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer trained on `texts`: it encodes any input, and words of the texts
    become single tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<unk>", "<s>", "</s>", "[INST]", "[/INST]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
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


def tiny_base(
    texts: Sequence[str], words: Sequence[str], spec: TinySpec, cache: Path
) -> tuple[Path, list[tuple[int, float]]]:
    """(folder of the pre-trained tiny model, [(step, loss)]), taken from `cache` when it was made
    before from the same texts and spec.

    The model trains on `texts`. The tokenizer also sees `words`, so that words of later questions
    are single tokens, which the model never read.
    """
    folder = cache / f"tiny-{digest([digest([*texts]), digest([*words]), vars(spec)])}"
    with atomic_directory(folder) as partial:
        if partial:
            tokenizer = build_tokenizer([*texts, *words], spec.vocabulary)
            model, losses = _pretrain(texts, tokenizer, spec)
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            write_json(partial / "losses.json", losses)
    losses = json.loads((folder / "losses.json").read_text(encoding="utf-8"))
    return folder, [tuple(pair) for pair in losses]


def _pretrain(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast", spec: TinySpec
) -> tuple["PreTrainedModel", list]:
    """Next-token training from random weights on packed texts: AdamW (0.9, 0.95), 50 warm-up steps,
    cosine to a twentieth.
    """
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
    set_seed(spec.seed)
    torch.manual_seed(spec.seed)
    model = MixtralForCausalLM(config).train()
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    encoded = tokenizer(list(texts), add_special_tokens=False).input_ids
    order = torch.randperm(len(encoded)).tolist()
    flat = [token for i in order for token in (bos, *encoded[i], eos)]
    rows = torch.tensor(flat[: len(flat) // spec.length * spec.length]).view(-1, spec.length)
    if len(rows) < spec.batch:
        raise KitError(
            f"the pre-training text gives {len(rows)} sequences of {spec.length} tokens;"
            f" {spec.batch} are needed for one batch"
        )
    peak = spec.learning_rate
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), fused=True)
    losses, queue = [], []
    for step in range(spec.steps):
        if len(queue) < spec.batch:
            queue = torch.randperm(len(rows)).tolist()
        batch = rows[[queue.pop() for _ in range(spec.batch)]]
        cosine = 0.05 + 0.475 * (1 + math.cos(math.pi * step / spec.steps))
        for group in optimiser.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 50) * cosine
        loss = model(input_ids=batch, labels=batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 10 == 0 or step == spec.steps - 1:
            losses.append((step, round(loss.item(), 4)))
    return model.eval(), losses
