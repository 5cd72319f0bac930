"""Which mixer and which MLP each layer of a Hugging Face config has."""

from __future__ import annotations

from llm_fleet.models.hub_keys import HubKeys
from llm_fleet.models.hub_shape import Layer, Mixer, Mlp
from llm_fleet.models.hub_traits import Traits

_MIXER_WORDS: dict[str, Mixer] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "window",
    "chunked_attention": "window",
    "deepseek_sparse_attention": "full",
    "linear_attention": "linear",
    "mamba": "mamba",
}
_PATTERN_LETTERS: dict[str, Layer] = {
    "M": Layer("mamba", "none"),
    "*": Layer("full", "none"),
    "-": Layer("none", "dense"),
    "E": Layer("none", "experts"),
}
"""Letters of Nemotron-H's hybrid_override_pattern: each layer does one thing."""
_PATTERN_WORDS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
"""Words of its later layers_block_type, as letters."""
MOST_LAYERS = 1000


def read_layers(keys: HubKeys, traits: Traits, has_experts: bool) -> list[Layer]:
    """Every layer in order. Wrong keys are noted in `keys`."""
    if traits.one_thing_per_layer:
        return _from_pattern(keys)
    count = keys.size("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if count > MOST_LAYERS:
        keys.report("num_hidden_layers", "is wrong", count, f"a whole number from 1 to {MOST_LAYERS}")
        count = 1
    mixers = _mixers(keys, traits, count)
    mlps: list[Mlp] = _mlps(keys, count) if has_experts else ["dense"] * count
    return [Layer(mixer, mlp) for mixer, mlp in zip(mixers, mlps, strict=True)]


def _from_pattern(keys: HubKeys) -> list[Layer]:
    pattern = keys.raw_inside("hybrid_override_pattern")
    words = keys.listed("layers_block_type")
    if words:
        pattern = "".join(_PATTERN_WORDS.get(str(word), "?") for word in words)
    if isinstance(pattern, str) and 0 < len(pattern) <= MOST_LAYERS and set(pattern) <= set(_PATTERN_LETTERS):
        return [_PATTERN_LETTERS[letter] for letter in pattern]
    message = "is missing (or layers_block_type)" if pattern is None else "is wrong"
    keys.report("hybrid_override_pattern", message, pattern, f"letters of {' '.join(_PATTERN_LETTERS)}")
    return [Layer("full", "dense")]


def _mixers(keys: HubKeys, traits: Traits, count: int) -> list[Mixer]:
    words = keys.words("layer_types", count, tuple(_MIXER_WORDS))
    if words:
        return [_MIXER_WORDS[word] for word in words]
    linear_every = keys.optional_size("full_attention_interval")
    if linear_every or keys.raw_inside("linear_num_value_heads") is not None:
        return ["full" if (i + 1) % (linear_every or 4) == 0 else "linear" for i in range(count)]
    if window_tokens(keys) is None:
        return ["full"] * count
    every = keys.optional_size("sliding_window_pattern") or traits.window_pattern
    return ["full" if every and (i + 1) % every == 0 else "window" for i in range(count)]


def window_tokens(keys: HubKeys) -> int | None:
    """Tokens that a windowed layer looks back over; None where no window is in use."""
    if not keys.flag("use_sliding_window", default=True):
        return None
    return keys.optional_size("sliding_window", "attention_chunk_size")


def _mlps(keys: HubKeys, count: int) -> list[Mlp]:
    words = keys.words("mlp_layer_types", count, ("dense", "sparse"))
    if words:
        return ["experts" if word == "sparse" else "dense" for word in words]
    if isinstance(keys.raw_inside("moe_layer_freq"), list):
        return ["experts" if one else "dense" for one in keys.ones("moe_layer_freq", count)] or ["dense"] * count
    first = keys.optional_size("first_k_dense_replace") or 0
    step = keys.optional_size("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq") or 1
    plain = keys.listed("mlp_only_layers")
    return ["experts" if i >= first and (i + 1) % step == 0 and i not in plain else "dense" for i in range(count)]
