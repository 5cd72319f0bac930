"""A model card from a Hugging Face config.json: the shape is read key by key, parameters and cache are counted from it.

hub_keys.py      typed reads of the file, problems by key path
hub_traits.py    what a model_type implies beyond its keys
hub_layers.py    mixer and MLP of each layer
hub_shape.py     parameters and cache elements of a shape
hub_weights.py   number format of the weights
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from llm_fleet.errors import InputError, unknown_choice
from llm_fleet.models.card import AttentionKind, Checkpoint, ModelCard
from llm_fleet.models.hub_keys import HubKeys, read_hub_keys
from llm_fleet.models.hub_layers import read_layers, window_tokens
from llm_fleet.models.hub_shape import Attention, Experts, LatentAttention, LinearAttention, Mamba, Shape
from llm_fleet.models.hub_traits import TRAITS, Traits
from llm_fleet.models.hub_weights import Weights, read_weights

DECODER_ENDINGS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
LARGEST_MODEL_BILLION = 100_000.0


def card_from_hub_config(path: Path) -> ModelCard:
    """The card of the model whose config.json (or folder) is at `path`. It is named after its folder.

    Raises:
        InputError: the file is no JSON, or no decoder that generates text, or keys are missing or wrong: all of them.
    """
    if path.is_dir():
        path = path / "config.json"
    keys = read_hub_keys(path)
    traits = _decoder_traits(keys)
    if traits is None:
        raise InputError(keys.problems)
    shape = _shape(keys, traits)
    weights = read_weights(keys, bool(shape.experts))
    context = keys.size(
        *("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length"),
        default=traits.defaults.get("max_position_embeddings") or traits.default_context or None,
    )
    _check_shape(keys, shape)
    if keys.problems:
        raise InputError(keys.problems)
    return _card(path, keys, traits, shape, weights, context)


def _decoder_traits(keys: HubKeys) -> Traits | None:
    """What the model_type implies; None, with problems noted, where the config is of no decoder that is known."""
    names = keys.listed("architectures")
    if names and not any(str(name).endswith(DECODER_ENDINGS) for name in names):
        allowed = f"a decoder that generates text: a name ending in {', '.join(DECODER_ENDINGS)}"
        keys.report("architectures", "is no model that can be served", names, allowed)
    if keys.raw("is_encoder_decoder") is True and not keys.nested:
        keys.report("is_encoder_decoder", "encoder-decoder models are not served", True, "false")
    model_type = keys.raw("model_type")
    if isinstance(model_type, str) and model_type in TRAITS:
        return None if keys.problems else TRAITS[model_type]
    if model_type is None:
        keys.report("model_type", "is missing", allowed="the type of a decoder, such as llama, mistral or qwen3")
    else:
        keys.problems.append(unknown_choice(keys.where("model_type"), "model_type", str(model_type)[:80], TRAITS))
    return None


def _shape(keys: HubKeys, traits: Traits) -> Shape:
    experts = _experts(keys, traits)
    layers = read_layers(keys, traits, experts is not None)
    mixers = {layer.mixer for layer in layers}
    hidden = keys.size("hidden_size", "n_embd", "d_model")
    window, full = _attentions(keys, traits, hidden)
    dense = any(layer.mlp == "dense" for layer in layers) or traits.dense_beside_experts
    context = keys.optional_size("max_position_embeddings", "n_positions") or 0
    return Shape(
        layers=layers,
        hidden=hidden,
        vocab=keys.size("vocab_size", default=traits.defaults.get("vocab_size")),
        tied=keys.flag("tie_word_embeddings", traits.tied),
        full=full,
        window=window,
        linear=_linear(keys) if "linear" in mixers else None,
        mamba=_mamba(keys, hidden) if "mamba" in mixers else None,
        dense_width=_dense_width(keys, traits, hidden) if dense else 0,
        matrices=3 if traits.gated_mlp else 2,
        experts=experts,
        dense_beside_experts=traits.dense_beside_experts,
        position_rows=context + traits.learned_positions - 1 if traits.learned_positions else 0,
        index_layers=len(layers) - keys.listed("indexer_types").count("shared"),
    )


def _attentions(
    keys: HubKeys, traits: Traits, hidden: int
) -> tuple[Attention | LatentAttention, Attention | LatentAttention]:
    """Heads of the windowed and of the full layers."""
    heads = keys.size(
        "num_attention_heads", "n_head", "n_heads", "num_heads", default=traits.defaults.get("num_attention_heads")
    )
    if keys.raw_inside("kv_lora_rank") is not None:
        latent = _latent(keys, heads)
        return latent, latent
    kv_heads = _kv_heads(keys, traits, heads)
    head_dim = keys.optional_size("head_dim", "attention_head_dim") or traits.defaults.get("head_dim")
    if head_dim is None:
        if hidden > 1 and hidden % heads:  # 1 stands for a size that is reported already
            keys.report("hidden_size", "is no multiple of the attention heads", hidden, f"a multiple of {heads}")
        head_dim = max(1, hidden // heads)
    window = Attention(heads, kv_heads, head_dim, gated=traits.gated_attention)
    wide = keys.optional_size("global_head_dim")
    if wide is None:
        return window, window
    shared = keys.flag("attention_k_eq_v", default=False)
    few = keys.optional_size("num_global_key_value_heads") if shared else None
    return window, Attention(heads, few or kv_heads, wide, keys_are_values=shared)


def _kv_heads(keys: HubKeys, traits: Traits, heads: int) -> int:
    nested: Any = keys.raw_inside("attn_config")
    if isinstance(nested, dict) and "kv_n_heads" in nested:
        found: Any = cast("dict[str, Any]", nested)["kv_n_heads"]
        kv_heads = found if isinstance(found, int) else 0
    elif traits.one_kv_head is not None and keys.flag("multi_query", traits.one_kv_head):
        # Falcon's new decoder has several KV heads although it keeps multi_query true
        new = keys.flag("new_decoder_architecture", default=False)
        kv_heads = keys.size("num_kv_heads", default=heads) if new else 1
    else:
        default = traits.defaults.get("num_key_value_heads", heads)
        kv_heads = keys.size("num_key_value_heads", "num_kv_heads", default=default)
    if kv_heads < 1 or heads % kv_heads:
        keys.report("num_key_value_heads", "does not divide the attention heads", kv_heads, f"a divisor of {heads}")
    return max(1, kv_heads)


def _latent(keys: HubKeys, heads: int) -> LatentAttention:
    return LatentAttention(
        heads=heads,
        kv_rank=keys.size("kv_lora_rank"),
        rope_dim=keys.size("qk_rope_head_dim"),
        nope_dim=keys.size("qk_nope_head_dim"),
        value_dim=keys.size("v_head_dim"),
        query_rank=keys.optional_size("q_lora_rank"),
        index_heads=keys.optional_size("index_n_heads"),
        index_dim=keys.optional_size("index_head_dim"),
    )


def _linear(keys: HubKeys) -> LinearAttention:
    return LinearAttention(
        key_heads=keys.size("linear_num_key_heads"),
        value_heads=keys.size("linear_num_value_heads"),
        key_dim=keys.size("linear_key_head_dim"),
        value_dim=keys.size("linear_value_head_dim"),
        kernel=keys.size("linear_conv_kernel_dim"),
    )


def _mamba(keys: HubKeys, hidden: int) -> Mamba:
    heads = keys.size("mamba_num_heads", "mamba_n_heads")
    expand = keys.optional_size("mamba_expand") or 2
    given = keys.raw_inside("mamba_head_dim", "mamba_d_head")
    head_dim = (
        keys.size("mamba_head_dim", "mamba_d_head") if isinstance(given, int) else max(1, expand * hidden // heads)
    )
    return Mamba(
        heads=heads,
        head_dim=head_dim,
        groups=keys.size("n_groups", "mamba_n_groups"),
        state=keys.size("ssm_state_size", "mamba_d_state"),
        kernel=keys.size("conv_kernel", "mamba_d_conv"),
    )


def _dense_width(keys: HubKeys, traits: Traits, hidden: int) -> int:
    nested = keys.raw_inside("expansion_ratio")
    ratio = nested if isinstance(nested, int) and 0 < nested <= 64 else 4
    plain = None if traits.gated_mlp else ratio * hidden
    names = ("intermediate_size_mlp", "dense_intermediate_size", "intermediate_size", "ffn_dim", "n_inner")
    return keys.size(*names, "ffn_hidden_size", default=plain)


def _experts(keys: HubKeys, traits: Traits) -> Experts | None:
    count = keys.optional_size("n_routed_experts", "num_local_experts", "num_experts")
    if count is None or count == 1:
        return None
    active = keys.size("num_experts_per_tok", "top_k_experts")
    if active > count:
        keys.report("num_experts_per_tok", "is more than the experts there are", active, f"1 to {count}")
    width = keys.size("moe_intermediate_size", "intermediate_size")
    shared = keys.optional_size(
        *("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size")
    )
    number = keys.optional_size("n_shared_experts") or (1 if traits.shared_expert_always else 0)
    shared_width = shared or number * width
    return Experts(count, active, width, shared_width, keys.optional_size("moe_latent_size"))


def _check_shape(keys: HubKeys, shape: Shape) -> None:
    """Sizes that are each possible but not together, once nothing else is wrong."""
    billion = shape.params_total / 1e9
    if not keys.problems and billion > LARGEST_MODEL_BILLION:
        message = f"with the other sizes makes a model of {billion:.0f} billion parameters"
        keys.report("hidden_size", message, shape.hidden, f"up to {LARGEST_MODEL_BILLION:.0f} billion in all")


def _card(path: Path, keys: HubKeys, traits: Traits, shape: Shape, weights: Weights, context: int) -> ModelCard:
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    latent = shape.full if isinstance(shape.full, LatentAttention) else None
    head_dim = latent.nope_dim + latent.rope_dim if latent else cast(Attention, shape.window).head_dim
    own = Checkpoint(weights.precision, name, weights.format, source="config.json")
    return ModelCard(
        name=name or "model",
        family=traits.family,
        params_total_billion=shape.params_total / 1e9,
        params_active_billion=shape.params_active / 1e9,
        layers=len(shape.layers),
        hidden_size=shape.hidden,
        attention_heads=shape.full.heads,
        kv_heads=1 if latent else cast(Attention, shape.window).kv_heads,
        head_dim=head_dim,
        intermediate_size=shape.dense_width or None,
        vocab_size=shape.vocab,
        tie_embeddings=shape.tied,
        max_context_tokens=context,
        attention_kind=_attention_kind(shape),
        sliding_window_tokens=window_tokens(keys) if shape.window_fraction else None,
        sliding_window_layers_fraction=shape.window_fraction,
        mla_kv_rank=latent.kv_rank if latent else None,
        mla_rope_dim=latent.rope_dim if latent else None,
        moe_experts=shape.experts.count if shape.experts else None,
        moe_active_experts=shape.experts.active if shape.experts else None,
        kv_layers=shape.kv_layers,
        kv_elements_per_token=shape.kv_elements_per_token,
        native_precision=weights.precision,
        native_dtype=weights.dtype,
        licence="",
        gated=None,
        checkpoints={weights.precision: own},
        source="config.json",
        notes="parameters counted from the shape; towers for images or sound are not counted" if keys.nested else "",
        mla_query_rank=latent.query_rank if latent else None,
        mla_value_dim=latent.value_dim if latent else None,
        **_mlps(shape),
    )


def _mlps(shape: Shape) -> dict[str, Any]:
    """What a card says of dense MLPs and experts."""
    experts = shape.experts
    with_experts = sum(layer.mlp == "experts" for layer in shape.layers)
    dense = sum(layer.mlp == "dense" for layer in shape.layers)
    if experts is None:
        return {"mlp_matrices": shape.matrices, "dense_layers": dense}
    return {
        "mlp_matrices": shape.matrices,
        "moe_intermediate_size": experts.width,
        "moe_hidden_size": experts.latent,
        "moe_layers": with_experts,
        "dense_layers": dense + (with_experts if shape.dense_beside_experts else 0),
        "shared_expert_size": experts.shared_width,
    }


def _attention_kind(shape: Shape) -> AttentionKind:
    if shape.linear or shape.mamba:
        return "hybrid"
    if isinstance(shape.full, LatentAttention) or isinstance(shape.window, LatentAttention):
        return "mla"
    if shape.window.kv_heads == 1:
        return "mqa"
    return "gqa" if shape.window.kv_heads < shape.window.heads else "mha"
