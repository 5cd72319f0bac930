"""What a coefficient is where some of its levels have points and others have none."""

from __future__ import annotations

import numpy as np
import pytest

from llm_fleet.sizing.case import ENGINES, engine_family, levels
from llm_fleet.sizing.coefficients import TERM, TERMS, Coefficients


def test_engines_with_captured_graphs_are_one_family():
    assert engine_family("vllm") == engine_family("sglang") == engine_family("trtllm 2023") == "served"
    assert engine_family("neuron 2023") == engine_family("neuron") == "neuron"
    assert engine_family("vllm 2023") == engine_family("tgi") == engine_family("eager") == "other"


def test_an_engine_without_points_stands_where_its_family_does():
    # The family's effect is log(1/2), the engine's own is none: 20 us a layer become 10; another family keeps 20.
    where = levels()
    effects = {(term.name, factor): np.zeros(where.count(factor)) for term in TERMS for factor in term.effects}
    effects["layer_us", "family"][where.names["family"].index("served")] = np.log(0.5)
    known = Coefficients(where, {term.name: term.inner(term.typical) for term in TERMS}, effects)
    engines = ("sglang", "tgi")
    rows = {name: np.zeros(2, dtype=np.int64) for name in where.names}
    rows["engine"] = np.array([ENGINES.index(engine) for engine in engines])
    rows["family"] = np.array([where.names["family"].index(engine_family(engine)) for engine in engines])
    assert TERM["layer_us"].typical == 20
    assert known.rates(rows)["layer_us"] == pytest.approx([10, 20])
