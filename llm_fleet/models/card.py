"""A model's architecture facts, as far as memory, speed and the engines need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

AttentionKind = Literal["mha", "gqa", "mqa", "mla", "hybrid"]
PRECISIONS = ("fp32", "fp16", "bf16", "fp8", "int8", "int4", "mxfp4", "nvfp4")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights on the Hugging Face Hub in one precision. `revision` is a 40-digit commit, or empty until looked up."""

    precision: str
    repository: str
    format: str
    """How it is stored: safetensors16, safetensors32, w8a8, w8a16, w4a16, awq, gptq, fp8, mxfp4, nvfp4."""
    revision: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model. Counts are plain numbers; None means "not known" or "does not apply"."""

    name: str
    """Hub repository, e.g. meta-llama/Llama-2-7b-hf; for a config.json on disk, its folder's name."""
    family: str
    params_total_billion: float
    params_active_billion: float
    """Equal to the total for a dense model."""
    layers: int
    hidden_size: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    intermediate_size: int | None
    vocab_size: int
    tie_embeddings: bool
    max_context_tokens: int
    attention_kind: AttentionKind
    sliding_window_tokens: int | None
    sliding_window_layers_fraction: float
    mla_kv_rank: int | None
    mla_rope_dim: int | None
    moe_experts: int | None
    moe_active_experts: int | None
    kv_layers: int
    kv_elements_per_token: int
    """K and V elements of one token over all layers that keep a cache."""
    native_precision: str
    """One of PRECISIONS: the format the weights were published in (float16 -> fp16, bfloat16 -> bf16, fp8-block128
    -> fp8, mxfp4-experts -> mxfp4, int4-group32-experts -> int4).
    """
    native_dtype: str
    """The format in full: what it covers, its blocks or groups, and after a + what the rest is stored in."""
    licence: str
    gated: bool | None
    checkpoints: Mapping[str, Checkpoint]
    """Known weights by precision; always holds the native one."""
    source: str
    notes: str = ""
    mla_query_rank: int | None = None
    """Of multi-head latent attention; None: queries are projected in one step."""
    mla_value_dim: int | None = None
    moe_intermediate_size: int | None = None
    """Width of one routed expert."""
    moe_hidden_size: int | None = None
    """Width that routed experts take in and give out, where it is not the hidden size."""
    moe_layers: int | None = None
    """Layers with routed experts; None: all that have no dense MLP."""
    dense_layers: int | None = None
    """Layers that run a dense MLP; None: none of a mixture of experts, else all."""
    shared_expert_size: int = 0
    """Width of all shared experts of a layer together."""
    mlp_matrices: int = 3
    """Of one MLP: 3 with a gate, 2 without."""

    @property
    def mixture_of_experts(self) -> bool:
        """Whether only some experts run per token."""
        return bool(self.moe_experts)

    @property
    def embedding_params_billion(self) -> float:
        """Parameters of the input embedding and the output head (one table when tied), which 8- and 4-bit formats
        leave in 16 bit.
        """
        tables = 1 if self.tie_embeddings else 2
        return tables * self.vocab_size * self.hidden_size / 1e9
