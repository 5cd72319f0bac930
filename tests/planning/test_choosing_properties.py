"""Whatever is asked for: every type is judged, the best is the cheapest that can serve, and reasons hold their own
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_fleet.catalog import load_catalog
from llm_fleet.models import load_models
from llm_fleet.patterns import Overrides, load_pattern
from llm_fleet.patterns.load import LoadedPattern
from llm_fleet.planning import choosing
from llm_fleet.planning.cost import instances_for
from llm_fleet.planning.criteria import ORDER, Assessment, assess
from llm_fleet.planning.request import PoolRequest, settle_requests

MODELS = (
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-3.1-70B",
    "Qwen/Qwen3-30B-A3B",
    "deepseek-ai/DeepSeek-V2-Lite",
    "openai/gpt-oss-20b",
    "google/gemma-3-27b-it",
)
REGIONS = ("us-east-1", "eu-west-1", "ap-northeast-1", "sa-east-1")


@st.composite
def requests(draw: st.DrawFn) -> PoolRequest:
    """A pool request with a drawn model, region, workload and marks."""
    loaded = load_pattern("startup-mvp")
    pool = loaded.pattern.pools["cost_efficient"]
    workload = pool.workload.model_copy(
        update={
            "input_tokens": draw(st.integers(1, 1500)),
            "output_tokens": draw(st.integers(1, 500)),
            "requests_per_day": draw(st.integers(1, 3_000_000)),
            "peak_to_mean": draw(st.floats(1, 20)),
        }
    )
    marks = pool.marks.model_copy(update={"ttft_ms": draw(st.floats(50, 20_000)), "tpot_ms": draw(st.floats(5, 500))})
    changed = pool.model_copy(update={"workload": workload, "marks": marks, "max_model_len_tokens": 2000})
    pattern = loaded.pattern.model_copy(update={"pools": {"cost_efficient": changed}})
    overrides = Overrides(model=draw(st.sampled_from(MODELS)), region=draw(st.sampled_from(REGIONS)))
    _, settled = settle_requests(LoadedPattern(pattern, loaded.document), overrides, load_catalog(), load_models())
    return settled[0]


def serving(assessments: Sequence[Assessment]) -> list[Assessment]:
    """Those that fail nothing."""
    return [item for item in assessments if not item.reasons]


@given(request=requests())
@settings(max_examples=60, deadline=None)
def test_every_type_is_judged_and_a_failure_holds_numbers_that_say_so(request: PoolRequest) -> None:
    for item in assess(request, load_catalog()):
        assert all(reason.criterion in ORDER for reason in item.reasons)
        for reason in item.reasons:
            if reason.criterion in ("memory", "host_memory"):
                assert reason.margin is not None
                assert reason.margin <= 0
        if not item.reasons:
            assert item.usd_per_month is not None
            assert item.candidate.serving is not None
            assert item.candidate.serving.slow_tpot_ms <= request.demand.tpot_mark_ms * (1 + 1e-9)


@given(request=requests())
@settings(max_examples=60, deadline=None)
def test_the_best_choice_is_the_cheapest_type_that_can_serve_and_holds_the_peak(request: PoolRequest) -> None:
    assessments = assess(request, load_catalog())
    chosen = choosing.choose(assessments)
    able = serving(assessments)
    if chosen is None:
        assert not able
        assert any(name in choosing.what_excludes(assessments) for name in ORDER)
        return
    best = chosen.choices[0]
    assert best.usd_per_month == min(item.usd_per_month for item in able if item.usd_per_month is not None)
    peak = instances_for(request, best.serving, request.rates.peak)
    assert peak <= request.pool.scaling.max_instances
    assert len(chosen.choices) + len(chosen.rejected) == len(assessments)


@given(request=requests())
@settings(max_examples=60, deadline=None)
def test_the_weights_of_a_group_follow_the_rates_of_its_choices(request: PoolRequest) -> None:
    chosen = choosing.choose(assess(request, load_catalog()))
    if chosen is None:
        return
    weights = choosing.capacity_weights(chosen.choices)
    rates = [entry.serving.sized_requests_per_s for entry in chosen.choices]
    assert min(weights) == 1
    for weight, rate in zip(weights, rates, strict=True):
        assert abs(weight - rate / min(rates)) <= 0.5


@given(request=requests())
@settings(max_examples=40, deadline=None)
def test_the_headline_set_excludes_every_type_that_cannot_serve_and_no_smaller_set_does(request: PoolRequest) -> None:
    chosen = choosing.choose(assess(request, load_catalog()))
    unable = [item for item in chosen.rejected if item.rank is None] if chosen else []
    group = set(choosing.smallest_emptying_set(unable))
    failing = [{reason.criterion for reason in item.reasons} for item in unable]
    assert all(one & group for one in failing)
    for name in group:
        assert not all(one & (group - {name}) for one in failing)
