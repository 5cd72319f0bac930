"""What the catalogue says, and what it says about a wrong file."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from llm_fleet.catalog import load_catalog
from llm_fleet.errors import InputError, Problem
from llm_fleet.models import load_models

Edit = Callable[[str, str, str], None]


def problems_of(folder: Path) -> tuple[Problem, ...]:
    with pytest.raises(InputError) as caught:
        load_catalog(folder)
    return caught.value.problems


def test_the_catalogue_is_read_once_per_process() -> None:
    assert load_catalog() is load_catalog()


def test_p4d_carries_40_gb_cards_and_p4de_80() -> None:
    catalog = load_catalog()
    memory = {
        name: catalog.accelerators[catalog.instance_types[name].accelerator].memory_usable_gib
        for name in ("p4d.24xlarge", "p4de.24xlarge")
    }
    assert memory == {"p4d.24xlarge": 40.0, "p4de.24xlarge": 80.0}


def test_usable_memory_is_what_the_driver_reports_not_what_the_sheet_prints() -> None:
    a10g = load_catalog().accelerators["A10G"]
    assert (a10g.memory_nominal_gib, a10g.memory_usable_gib) == (24, 22.49)


def test_a_figure_that_nobody_read_is_none_and_not_zero() -> None:
    catalog = load_catalog()
    assert catalog.accelerators["RTX-PRO-4500"].memory_usable_gib is None
    assert "int8" not in catalog.accelerators["A10G"].dense_tflops
    price = catalog.price("p5e.48xlarge", "us-west-2")
    assert price is not None
    assert price.on_demand_usd_per_hour is None
    assert price.capacity_block_usd_per_hour is not None


def test_a_slice_of_a_gpu_counts_as_a_fraction() -> None:
    slice_of_l4 = load_catalog().instance_types["g6f.2xlarge"]
    assert (slice_of_l4.accelerator_count, slice_of_l4.devices, slice_of_l4.device_fraction) == (0.25, 1, 0.25)


@pytest.mark.parametrize(("name", "month", "successor"), [("p3.8xlarge", "2026-04", "g6e.12xlarge")])
def test_a_retired_type_says_when_it_left_and_what_to_take_instead(name: str, month: str, successor: str) -> None:
    kind = load_catalog().instance_types[name]
    assert (kind.status, kind.retired_on, kind.successor) == ("retired", month, successor)


@pytest.mark.parametrize(
    ("instance_type", "engine"),
    [
        ("g5.xlarge", "vllm"),
        ("p6-b300.48xlarge", "vllm"),
        ("inf2.xlarge", "vllm-neuron-inf2"),
        ("trn1.32xlarge", "vllm-neuron-trn1"),
        ("trn2.48xlarge", "vllm-neuron-trn2"),
    ],
)
def test_a_type_runs_the_engine_of_its_accelerator(instance_type: str, engine: str) -> None:
    catalog = load_catalog()
    found = catalog.engine_for(catalog.instance_types[instance_type])
    assert found is not None
    assert found.name == engine


@pytest.mark.parametrize(
    "instance_type",
    ["g7.2xlarge", "g6f.large", "gr6f.4xlarge", "p3dn.24xlarge", "g5g.xlarge", "inf1.xlarge", "p6e-gb200.36xlarge"],
)
def test_a_type_whose_family_the_image_does_not_support_has_no_engine(instance_type: str) -> None:
    catalog = load_catalog()
    assert catalog.engine_for(catalog.instance_types[instance_type]) is None


@pytest.mark.parametrize(
    ("accelerator", "precision", "how"),
    [
        ("T4", "bf16", "no"),
        ("T4", "int8", "native"),
        ("A10G", "fp8", "weight-only"),
        ("L40S", "fp8", "native"),
        ("B200", "int8", "no"),
        ("RTX-PRO-6000", "nvfp4", "native"),
        ("Inferentia2", "int8", "no"),
        ("Inferentia2", "fp16", "native"),
    ],
)
def test_precision_support_follows_the_engines_kernels(accelerator: str, precision: str, how: str) -> None:
    assert load_catalog().precision_support[accelerator, precision].how == how


def test_zones_are_those_of_the_type_in_the_region() -> None:
    catalog = load_catalog()
    assert catalog.zones("g6e.12xlarge", "us-east-1") == ("use1-az1", "use1-az2", "use1-az4", "use1-az6")
    assert catalog.zones("p3.8xlarge", "us-east-1") == ()
    assert set(catalog.zones("p5en.48xlarge", "us-east-1")) < set(catalog.region_zones("us-east-1"))


def test_the_age_of_a_price_counts_from_the_first_day_of_its_source() -> None:
    price = load_catalog().price("g6e.xlarge", "us-west-2")
    assert price is not None
    assert price.date == date(2026, 3, 1)
    assert price.age_days(date(2026, 3, 31)) == 30


def test_the_catalogues_date_is_that_of_its_newest_price() -> None:
    catalog = load_catalog()
    assert catalog.date == date(2026, 7, 20)
    assert catalog.collected == date(2026, 11, 24)


def test_a_wrong_cell_is_named_by_file_line_and_column(folder: Path, edit: Edit) -> None:
    edit("instance_types.csv", "g4dn.xlarge,g4dn,T4,1,16,4,", "g4dn.xlarge,g4dn,T4,1,16,four,")
    [problem] = problems_of(folder)
    assert problem.where.endswith("instance_types.csv:4 vcpus")
    assert problem.value == "'four'"
    assert problem.allowed == "a whole number of at least 1"


def test_an_unknown_accelerator_is_answered_with_the_nearest(folder: Path, edit: Edit) -> None:
    edit("instance_types.csv", "g6e.xlarge,g6e,L40S,", "g6e.xlarge,g6e,L4OS,")
    [problem] = problems_of(folder)
    assert (problem.value, problem.nearest) == ("'L4OS'", "L40S")


def test_every_problem_of_every_file_comes_in_one_answer(folder: Path, edit: Edit) -> None:
    edit("prices.csv", "g4dn.xlarge,us-east-1,0.526,", "g4dn.xlarge,us-east-1,-0.526,")
    edit("accelerators.csv", "T4,nvidia,", "T4,nvidiaa,")
    edit("precision_support.csv", "T4,bf16,no,", "T4,bf16,maybe,")
    edit("engines.yaml", "static_shapes: false", "static_shapes: 0")
    files = sorted(problem.where.split("/")[-1].split(":")[0] for problem in problems_of(folder))
    assert files == ["accelerators.csv", "engines.yaml", "precision_support.csv", "prices.csv"]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("prices.csv", "2026-07-20", "2026-13-20", "is not a date"),
        ("prices.csv", "0.526", "nan", "is not a number in range"),
        ("prices.csv", "karpenter", "carpenter", "unknown source"),
        ("prices.csv", "g4dn.xlarge,us-east-1", "g4dn.2xlarge,us-east-1", "stands twice"),
        ("prices.csv", "region,on_demand", "on_demand", "column 'region' must stand here"),
        ("prices.csv", "g4dn.xlarge,us-east-1,", "g4dn.xlarge,", "has the wrong number of cells"),
        ("prices.csv", "g4dn.xlarge,us-east-1,", '"g4dn.xlarge"x,us-east-1,', "is not valid CSV"),
        ("availability.csv", "afs1-az2;afs1-az3", "afs1-az2;", "unknown word"),
        ("instance_types.csv", "g4dn.xlarge,g4dn", "g4dn.xlarge,g5", "unknown family"),
        ("instance_types.csv", "true,on-demand;spot,offered", "true,on-demand;sport,offered", "unknown word"),
        ("sources.csv", "catalogue,", "katalog,", "no row says on which day"),
        ("engines.yaml", "architectures: [x86_64]", "architectures: x86_64", "must be a list"),
        ("engines.yaml", "[1, 2, 4, 8]", "[0, 2]", "must be a list of whole numbers"),
        ("engines.yaml", "vendor: nvidia", "vendor: nvidia\n  vendour: nvidia", "unknown key"),
        ("engines.yaml", "    x86_64: /aws", "    riscv: /aws", "must map words to text"),
    ],
)
def test_a_broken_file_is_answered_with_what_is_wrong(
    folder: Path, edit: Edit, name: str, old: str, new: str, message: str
) -> None:
    edit(name, old, new)
    problems = problems_of(folder)
    assert any(message in problem.message for problem in problems), problems
    assert all(problem.where for problem in problems)


def test_a_missing_file_is_a_problem_and_not_a_traceback(folder: Path) -> None:
    (folder / "prices.csv").unlink()
    [problem] = problems_of(folder)
    assert problem.where.endswith("prices.csv")
    assert "cannot be read" in problem.message


@pytest.mark.parametrize(
    ("engine", "degrees"),
    [
        ("vllm-neuron-inf2", (1, 2, 4, 8, 24)),
        ("vllm-neuron-trn1", (1, 2, 8, 16, 32)),
        ("vllm-neuron-trn2", (1, 2, 4, 8, 16, 32, 64)),
    ],
)
def test_degrees_on_neuron_are_those_of_its_runtime(engine: str, degrees: tuple[int, ...]) -> None:
    found = next(item for item in load_catalog().engines if item.name == engine)
    assert found.tensor_parallel_degrees == degrees


@pytest.mark.parametrize(
    ("model", "served_on"),
    [
        ("meta-llama/Llama-3.1-8B", {"inf2", "trn1", "trn2"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", {"inf2", "trn1", "trn2"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", {"inf2", "trn1"}),  # a Qwen 2.5, which Trainium2's engine lacks
        ("Qwen/Qwen3-8B", {"inf2", "trn1", "trn2"}),
        ("Qwen/Qwen3-30B-A3B", {"inf2", "trn1"}),  # its experts are an architecture of their own
        ("openai/gpt-oss-20b", {"trn2"}),
        ("google/gemma-3-12b-it", set[str]()),
    ],
)
def test_a_neuron_engine_serves_the_architectures_of_its_guide(model: str, served_on: set[str]) -> None:
    family = load_models().cards[model].family
    engines = [engine for engine in load_catalog().engines if engine.vendor == "neuron"]
    assert {engine.families[0] for engine in engines if family in engine.model_families} == served_on
