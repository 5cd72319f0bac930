"""The fitted coefficients: what each means, its bounds, and its value for a given kind of hardware and engine.

A coefficient has a centre and effects of the things that it depends on (architecture, engine, weight format, link).
Shares are kept between 0 and a physical maximum by a logistic curve, costs above 0 by an exponential, so that no fit
can leave the physical range; effects add up inside the curve. A level that no point supports keeps effect 0 of its own
and stands where its wider family does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Kind = Literal["share", "cost"]


@dataclass(frozen=True, slots=True)
class Term:
    """One coefficient. `typical` and `spread` are what is believed before any point is seen; `effects` gives how far a
    level of each factor may stray. Spreads are on the curve's inner scale: logit for a share, logarithm for a cost.
    """

    name: str
    kind: Kind
    typical: float
    spread: float
    unit: str
    meaning: str
    effects: Mapping[str, float] = field(default_factory=dict[str, float])
    most: float = 1.0
    """Largest value of a share."""

    @property
    def centre(self) -> float:
        """The typical value on the inner scale."""
        return self.inner(self.typical)

    def inner(self, value: float) -> float:
        """From a physical value to the inner scale."""
        return math.log(value / (self.most - value)) if self.kind == "share" else math.log(value)

    def physical(self, inner: Floats) -> Floats:
        """From the inner scale to physical values."""
        return self.most / (1 + np.exp(-inner)) if self.kind == "share" else np.exp(inner)


KIN = {"memory": 0.6, "architecture": 0.35}

TERMS: tuple[Term, ...] = (
    Term(
        *("weights_share", "share", 0.75, 0.4, "of bandwidth", "Reading weights outside routed experts."),
        {**KIN, "family": 0.4, "engine": 0.24, "dense_format": 0.35, "architecture|dense_format": 0.2},
        most=0.97,
    ),
    Term(
        *("experts_share", "share", 0.6, 0.5, "of bandwidth", "Reading routed experts."),
        {**KIN, "family": 0.4, "engine": 0.24, "expert_format": 0.35, "architecture|expert_format": 0.25},
        most=0.97,
    ),
    Term(
        *("cache_share", "share", 0.55, 0.5, "of bandwidth", "Reading the KV cache."),
        {**KIN, "family": 0.4, "engine": 0.3},
        most=0.97,
    ),
    Term(
        *("compute_share", "share", 0.5, 0.4, "of dense peak", "Multiplying weights outside routed experts."),
        {**KIN, "family": 0.4, "engine": 0.18, "dense_format": 0.35, "architecture|dense_format": 0.15},
        most=0.95,
    ),
    Term(
        *("expert_compute_share", "share", 0.35, 0.5, "of dense peak", "Multiplying routed experts."),
        {**KIN, "family": 0.4, "engine": 0.18, "expert_format": 0.35, "architecture|expert_format": 0.2},
        most=0.95,
    ),
    Term(
        *("attention_compute_share", "share", 0.3, 0.5, "of 16-bit peak", "Prompt attention."),
        {"architecture": 0.4, "family": 0.4, "engine": 0.24},
        most=0.95,
    ),
    Term(
        *("latent_compute_share", "share", 0.35, 0.4, "of 16-bit peak", "Decoding over a compressed cache (MLA)."),
        {"architecture": 0.3, "family": 0.4, "engine": 0.18},
        most=0.95,
    ),
    Term(
        *("sharpness", "cost", 1.0, 0.5, "", "How far reading and multiplying overlap: the norm's order less 1."),
        {"architecture": 0.2},
    ),
    Term(
        *("layer_us", "cost", 20, 0.5, "us", "Fixed cost of a layer: launches, norms, small kernels."),
        {"memory": 0.7, "architecture": 0.3, "family": 0.8, "engine": 0.42},
    ),
    Term(
        *("sequence_us", "cost", 5, 0.4, "us", "Fixed cost of a running sequence in a step."),
        {"family": 0.8, "engine": 0.48, "memory": 0.5},
    ),
    Term(*("step_us", "cost", 250, 0.5, "us", "Fixed cost of a step."), {"family": 0.8, "engine": 0.48, "memory": 0.7}),
    Term(
        *("moe_layer_us", "cost", 25, 0.6, "us", "Routing of one layer of experts."),
        {"family": 0.8, "engine": 0.36, "memory": 0.45},
    ),
    Term(
        *("latent_layer_us", "cost", 20, 0.6, "us", "Compression around one layer's latent attention."),
        {"family": 0.8, "engine": 0.24},
    ),
    Term(*("state_layer_us", "cost", 20, 0.6, "us", "One linear-attention layer."), {"family": 0.8, "engine": 0.24}),
    Term(
        *("all_reduce_us", "cost", 5.5, 0.6, "us", "Floor of one all-reduce between two devices."),
        {"link": 1.5, "family": 0.8, "engine": 0.24},
    ),
    Term(
        *("all_reduce_growth", "cost", 0.25, 0.5, "per device", "Growth of that floor with each device more."),
        {"bus": 2.5},
    ),
    Term(
        *("link_share", "share", 0.5, 0.6, "of the link", "Bandwidth of a large all-reduce."),
        {"link": 1.5, "family": 0.4, "engine": 0.18},
        most=0.95,
    ),
    Term(
        *(
            "bus_contention",
            "cost",
            1.0,
            0.8,
            "",
            "Loss of bandwidth over PCIe with devices: their half to this power.",
        ),
    ),
    Term(
        *("request_ms", "cost", 8, 0.8, "ms", "Fixed cost of a request before its first token."),
        {"family": 1.0, "engine": 2.0},
    ),
    Term(
        *("opening_share", "share", 0.1, 0.6, "", "Part of a closed loop's requests that came in its opening burst."),
        {"engine": 3.2},
    ),
    Term(
        *("waiting_share", "share", 0.5, 0.4, "", "Measured waiting beyond full load, against an endless closed loop."),
        {"engine": 0.96},
    ),
    Term(
        *("stage_overlap", "share", 0.6, 0.6, "", "How far pipeline stages work on different sequences at once."),
        {"family": 0.4, "engine": 0.48},
    ),
    Term(
        *("expert_skew", "share", 0.9, 0.4, "", "Tokens count to this power in touching experts: routing is uneven."),
    ),
    Term(
        *("yearly_gain", "cost", 0.05, 0.8, "per 5 minors", "Fall of vLLM's fixed costs with newer versions."),
    ),
)

TERM = {term.name: term for term in TERMS}

FACTORS = ("memory", "architecture", "family", "engine", "dense_format", "expert_format", "link", "bus")
FORMATS = ("16-bit", "8-bit float", "8-bit integer", "4-bit float", "4-bit mx", "4-bit integer")


def crossed(factor: str) -> tuple[str, ...]:
    """The factors that a name such as architecture|dense_format joins."""
    return tuple(factor.split("|"))


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of every factor in use, in the order of their numbers."""

    names: Mapping[str, Sequence[str]]

    def count(self, factor: str) -> int:
        """How many levels a factor, or a crossing of factors, has."""
        return math.prod(len(self.names[part]) for part in crossed(factor))

    def index(self, factor: str, rows: Mapping[str, Integers]) -> Integers:
        """Each row's level of the factor, or of the crossing."""
        parts = crossed(factor)
        found = rows[parts[0]]
        for part in parts[1:]:
            found = found * len(self.names[part]) + rows[part]
        return found

    def label(self, factor: str, number: int) -> str:
        """The name of a level: `hopper`, or `hopper|8-bit float`."""
        words: list[str] = []
        for part in reversed(crossed(factor)):
            number, place = divmod(number, len(self.names[part]))
            words.append(self.names[part][place])
        return "|".join(reversed(words))


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Centres and effects on the inner scale, as the fit wrote them."""

    levels: Levels
    centres: Mapping[str, float]
    effects: Mapping[tuple[str, str], Floats]
    """By (term, factor)."""

    def inner(self, term: Term, rows: Mapping[str, Integers]) -> Floats:
        """The term's inner value of each row."""
        total = np.full(len(rows["architecture"]), self.centres[term.name])
        for factor in term.effects:
            total = total + self.effects[term.name, factor][self.levels.index(factor, rows)]
        return total

    def rates(self, rows: Mapping[str, Integers]) -> dict[str, Floats]:
        """Every coefficient's physical value for each row."""
        return {term.name: term.physical(self.inner(term, rows)) for term in TERMS}
