"""Reading points files: what is wrong is named by line and column, and the rest goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_fleet.calibration.fit import residuals_of
from llm_fleet.calibration.points import REQUIRED, read_points
from llm_fleet.calibration.setups import Resolver, batch_of
from llm_fleet.errors import InputError
from llm_fleet.sizing.case import Setup, engine_class

GOOD = {
    **dict.fromkeys(REQUIRED, ""),
    "engine": "vllm",
    "engine_version": "0.15.1",
    "mode": "fixed_concurrency",
    "model": "meta-llama/Llama-3.1-8B",
    "precision_weights": "bf16",
    "accelerator": "L40S",
    "accelerator_count": "1",
    "batch_or_concurrency": "8",
    "input_tokens": "1000",
    "output_tokens": "200",
}


def points_file(folder: Path, *rows: dict[str, str], columns: tuple[str, ...] = REQUIRED) -> Path:
    path = folder / "points.csv"
    lines = [",".join(columns), *(",".join(row.get(name, "") for name in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def setup_of(**cells: str) -> Setup | str:
    return Resolver().setup(read_row(**cells))


def read_row(**cells: str):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        extra = tuple(name for name in cells if name not in GOOD)
        table = read_points(points_file(Path(folder), {**GOOD, **cells}, columns=(*REQUIRED, *extra)))
    (point,) = table.points
    assert point is not None, table.problems
    return point


def test_missing_columns_are_all_named(tmp_path: Path):
    path = points_file(tmp_path, columns=tuple(name for name in REQUIRED if name not in ("mode", "model")))
    with pytest.raises(InputError, match="lacks the columns mode, model"):
        read_points(path)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("batch_or_concurrency", "-1"),
        ("batch_or_concurrency", "0"),
        ("accelerator_count", "two"),
        ("accelerator_count", ""),
        ("output_tokens", "-5"),
        ("input_tokens", "nan"),
        ("tensor_parallel", "inf"),
        ("mode", "sometimes"),
        ("model", ""),
    ],
)
def test_a_bad_cell_is_named_by_line_and_column_and_the_rest_goes_on(tmp_path: Path, column: str, value: str):
    table = read_points(points_file(tmp_path, {**GOOD, column: value}, GOOD))
    assert [point is None for point in table.points] == [True, False]
    assert f"points.csv:2 {column}" in str(table.problems[0])


def test_a_row_with_too_few_cells_is_named(tmp_path: Path):
    path = points_file(tmp_path, GOOD)
    path.write_text(path.read_text() + "vllm,0.15\n")
    table = read_points(path)
    assert "points.csv:3: has the wrong number of cells" in str(table.problems[1])


def test_measured_columns_may_be_missing(tmp_path: Path):
    (point,) = read_points(points_file(tmp_path, GOOD)).points
    assert point is not None
    assert point.tpot_ms is None


def test_an_endless_rate_means_everything_at_once():
    assert read_row(request_rate_per_s="inf").rate_per_s is None


def test_no_prediction_reads_a_measured_column():
    bare = read_row()
    told = read_row(tpot_ms="1", ttft_ms="1", output_tokens_per_s="1", total_tokens_per_s="1", source_id="someone")
    assert Resolver().setup(bare) == Resolver().setup(told)


def test_an_unknown_accelerator_is_a_reason_with_the_nearest_name():
    assert "did you mean L40S" in str(setup_of(accelerator="L4OS"))


def test_a_model_that_does_not_fit_is_a_reason():
    assert "does not fit" in str(setup_of(model="meta-llama/Llama-3.1-70B"))


def test_an_unknown_model_takes_the_usual_shape_of_its_size():
    found = setup_of(model="someone/new-7b", params_billion="7")
    assert isinstance(found, Setup)
    assert (found.traits.layers, found.traits.hidden) == (32, 4096)


def test_active_parameters_in_a_name_make_a_mixture_of_experts():
    found = setup_of(model="someone/new-30b-A3B", params_billion="30", precision_weights="int4")
    assert isinstance(found, Setup)
    assert found.traits.experts == 128
    assert found.traits.expert_params + found.traits.dense_params == pytest.approx(3e9, rel=0.1)


def test_an_unknown_model_without_a_size_is_a_reason():
    assert "no params_billion" in str(setup_of(model="someone/new"))


def test_without_a_degree_the_smallest_that_holds_the_model_is_taken_and_the_rest_are_replicas():
    # 70B in bf16 is 131 GiB; an L40S has 45: two hold 90, four hold 180, so 8 devices make 2 replicas of 4.
    found = setup_of(model="meta-llama/Llama-3.1-70B", accelerator_count="8")
    assert isinstance(found, Setup)
    assert (found.layout.tensor_parallel, found.layout.replicas) == (4, 2)


def test_attention_data_parallel_keeps_dense_weights_on_each_rank_and_spreads_the_experts():
    found = setup_of(
        model="MiniMaxAI/MiniMax-M2.7",
        precision_weights="fp8",
        accelerator="B200",
        accelerator_count="4",
        tensor_parallel="1",
        data_parallel="4",
        expert_parallel="4",
    )
    assert isinstance(found, Setup)
    layout = found.layout
    assert (layout.tensor_parallel, layout.attention_ranks, layout.expert_shard, layout.replicas) == (1, 4, 4, 1)


@pytest.mark.parametrize(
    ("accelerator", "count", "degree", "replicas"),
    [
        ("Trainium1", "16", 8, 4),  # 32 cores: engines of eight, though two would hold 16 GB of weights
        ("Inferentia2", "1", 2, 1),  # all there are
    ],
)
def test_an_unstated_degree_on_neuron_is_eight_cores_at_least(
    accelerator: str, count: str, degree: float, replicas: float
):
    found = setup_of(engine="tgi", accelerator=accelerator, accelerator_count=count)
    assert isinstance(found, Setup)
    assert (found.layout.tensor_parallel, found.layout.replicas) == (degree, replicas)


def test_a_first_token_is_compared_where_the_prompts_length_is_stated_and_weighs_less_under_load():
    points = [
        read_row(ttft_ms="100", tpot_ms="20", batch_or_concurrency=load, input_tokens=inputs, source_id=source)
        for load, inputs, source in (("4", "1000", "a"), ("8", "1000", "b"), ("4", "", "c"))
    ]
    batch, _ = batch_of(points, Resolver())
    compared = residuals_of(batch, points)
    assert list(zip(compared.rows.tolist(), compared.kinds.tolist(), strict=True)) == [
        (0, 0),
        (0, 3),
        (1, 0),
        (1, 3),
        (2, 0),
    ]
    weights = compared.weights / compared.weights[0]
    assert weights.tolist() == pytest.approx([1, 0.5, 1, 0.15, 1])


def test_a_row_without_a_load_says_so():
    batch, reasons = batch_of([read_row(batch_or_concurrency="")], Resolver())
    assert not batch.indices
    assert "how many requests run at once" in reasons[0]


@pytest.mark.parametrize(
    ("engine", "version", "date", "neuron", "expected"),
    [
        ("vllm", "0.2.7", "", False, "vllm 2023"),
        ("vllm", "", "2024", False, "vllm 0.3"),
        ("vllm", "0.6.3", "", False, "vllm 0.6"),
        ("vllm", "0.17.0", "", False, "vllm"),
        ("vllm", "", "", False, "vllm"),
        ("tensorrt-llm", "0.12.0", "", False, "trtllm 2023"),
        ("tensorrt-llm", "1.0.0rc3", "", False, "trtllm"),
        ("vllm", "0.16", "", True, "neuron"),
        ("tgi", "", "", True, "neuron served"),
        ("transformers-neuronx", "", "", True, "neuron 2023"),
        ("somebody's", "", "", False, "eager"),
    ],
)
def test_engines_fall_into_classes_by_version_or_date(
    engine: str, version: str, date: str, neuron: bool, expected: str
):
    assert engine_class(engine, version, date, neuron) == expected
