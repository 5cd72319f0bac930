"""The shape of a decoder, and the parameters and cache elements that follow from it by counting matrices.

Biases and the gates of normalisation are left out: together they are below 0.1 % of the smallest model in models.csv.
Layers of multi-token prediction and towers for images or sound are not counted: the engine does not keep them for text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mixer = Literal["full", "window", "linear", "mamba", "none"]
Mlp = Literal["dense", "experts", "none"]


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer mixes tokens with, and what it runs on each token."""

    mixer: Mixer
    mlp: Mlp


@dataclass(frozen=True, slots=True)
class Attention:
    """Heads of one kind of attention layer."""

    heads: int
    kv_heads: int
    head_dim: int
    gated: bool = False
    keys_are_values: bool = False
    """One projection makes both; the cache still holds both."""

    def params(self, hidden: int) -> int:
        """Query (and gate), key, value and output projections."""
        queries = hidden * self.heads * self.head_dim * (2 if self.gated else 1)
        keys = hidden * self.kv_heads * self.head_dim * (1 if self.keys_are_values else 2)
        return queries + keys + self.heads * self.head_dim * hidden

    @property
    def kv_elements(self) -> int:
        """Cache elements of one token in one layer."""
        return 2 * self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek V2 and later): keys and values from one compressed vector."""

    heads: int
    kv_rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    query_rank: int | None
    index_heads: int | None = None
    index_dim: int | None = None

    def params(self, hidden: int) -> int:
        """Compressions, expansions, output, and the sparse indexer's projections where there is one."""
        query_width = self.heads * (self.nope_dim + self.rope_dim)
        compressed = self.query_rank * (hidden + query_width) if self.query_rank else 0
        queries = compressed or hidden * query_width
        keys = hidden * (self.kv_rank + self.rope_dim) + self.kv_rank * self.heads * (self.nope_dim + self.value_dim)
        return queries + keys + self.heads * self.value_dim * hidden

    def index_params(self, hidden: int) -> int:
        """The indexer of one layer that has its own."""
        if not self.index_heads or not self.index_dim:
            return 0
        return (self.query_rank or hidden) * self.index_heads * self.index_dim + hidden * (
            self.index_dim + self.index_heads
        )

    @property
    def kv_elements(self) -> int:
        """Cache elements of one token in one layer: the compressed vector and the shared rotary key."""
        return self.kv_rank + self.rope_dim


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """Gated delta net (Qwen3-Next and later): a fixed state in place of a cache."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    def params(self, hidden: int) -> int:
        """Projections of query, key, value, gates; convolution; output."""
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.value_dim
        projected = hidden * (2 * keys + 2 * values + 2 * self.value_heads)
        return projected + (2 * keys + values) * self.kernel + values * hidden


@dataclass(frozen=True, slots=True)
class Mamba:
    """Mamba-2: a fixed state in place of a cache."""

    heads: int
    head_dim: int
    groups: int
    state: int
    kernel: int

    def params(self, hidden: int) -> int:
        """Input projection, convolution, output projection."""
        inner, shared = self.heads * self.head_dim, 2 * self.groups * self.state
        return hidden * (2 * inner + shared + self.heads) + (inner + shared) * self.kernel + inner * hidden


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts and the shared one of a mixture-of-experts layer."""

    count: int
    active: int
    width: int
    shared_width: int = 0
    latent: int | None = None
    """Width that routed experts work in, where it is not the hidden size."""

    def params_each(self, hidden: int, matrices: int) -> int:
        """One routed expert."""
        return matrices * (self.latent or hidden) * self.width

    def params_always(self, hidden: int, matrices: int) -> int:
        """Router, shared expert and the projections into and out of the latent width."""
        latent = 2 * hidden * self.latent if self.latent else 0
        return hidden * self.count + matrices * hidden * self.shared_width + latent


@dataclass(frozen=True, slots=True)
class Shape:
    """All of a decoder that counting needs."""

    layers: Sequence[Layer]
    hidden: int
    vocab: int
    tied: bool
    full: Attention | LatentAttention
    window: Attention | LatentAttention
    linear: LinearAttention | None
    mamba: Mamba | None
    dense_width: int
    """Of the dense MLP; 0 where no layer has one."""
    matrices: int
    """Of an MLP: 3 gated, 2 plain."""
    experts: Experts | None
    dense_beside_experts: bool = False
    position_rows: int = 0
    index_layers: int = 0
    """Layers with a sparse indexer of their own."""

    @property
    def params_total(self) -> int:
        """Parameters of the embedding, all layers and the head."""
        tables = self.hidden * (self.vocab * (1 if self.tied else 2) + self.position_rows)
        norms = self.hidden * (2 * len(self.layers) + 1)
        latent = self.full if isinstance(self.full, LatentAttention) else None
        index = self.index_layers * latent.index_params(self.hidden) if latent else 0
        return tables + norms + index + sum(self._mixer(layer) + self._mlp(layer) for layer in self.layers)

    @property
    def params_active(self) -> int:
        """Parameters that one token runs through, with both tables counted."""
        if self.experts is None:
            return self.params_total
        idle = self.experts.count - self.experts.active
        layers = sum(layer.mlp == "experts" for layer in self.layers)
        return self.params_total - layers * idle * self.experts.params_each(self.hidden, self.matrices)

    @property
    def kv_layers(self) -> int:
        """Layers that keep a cache of keys and values."""
        return sum(layer.mixer in ("full", "window") for layer in self.layers)

    @property
    def window_fraction(self) -> float:
        """Share of the caching layers that only look back over the window."""
        windowed = sum(layer.mixer == "window" for layer in self.layers)
        return windowed / self.kv_layers if self.kv_layers else 0.0

    @property
    def kv_elements_per_token(self) -> int:
        """K and V elements of one token over all layers."""
        each = {"full": self.full.kv_elements, "window": self.window.kv_elements}
        return sum(each.get(layer.mixer, 0) for layer in self.layers)

    def _mixer(self, layer: Layer) -> int:
        mixers = {"full": self.full, "window": self.window, "linear": self.linear, "mamba": self.mamba}
        mixer = mixers.get(layer.mixer)
        return mixer.params(self.hidden) if mixer else 0

    def _mlp(self, layer: Layer) -> int:
        dense = self.matrices * self.hidden * self.dense_width
        if layer.mlp == "dense":
            return dense
        if layer.mlp == "none" or self.experts is None:
            return 0
        routed = self.experts.count * self.experts.params_each(self.hidden, self.matrices)
        always = self.experts.params_always(self.hidden, self.matrices)
        return routed + always + (dense if self.dense_beside_experts else 0)
