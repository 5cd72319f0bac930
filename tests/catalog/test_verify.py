"""Each check of the catalogue finds the mistake it is there for."""

from collections.abc import Callable
from pathlib import Path

import pytest

from llm_fleet.catalog.verify import verify

Edit = Callable[[str, str, str], None]
FULL_PRICE_SPOT = "63.296,63.296,63.296,observed,2026-03/2026-04,skypilot,,,,,,"


def test_the_kits_own_catalogue_has_no_problem() -> None:
    assert verify() == ()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        pytest.param("instance_types.csv", "T4,4,64,", "T4,4,60,", "is not its total memory", id="memory adds up"),
        pytest.param("accelerators.csv", "GDDR6,16,15,", "GDDR6,16,17,", "above the nominal", id="usable memory"),
        pytest.param(
            "accelerators.csv", "moto,nvidia-smi,vantage", "moto,,vantage", "without a source", id="read where"
        ),
        pytest.param("instance_types.csv", "2026-04,g6e.xlarge", "2026-04,p3dn.xlarge", "successor", id="successor"),
        pytest.param("instance_types.csv", "2026-04,g6e.xlarge", ",g6e.xlarge", "the month it left", id="left when"),
        pytest.param(
            "instance_types.csv", "spot,offered,,,", "spot,offered,2026-01,,", "is not retired", id="not retired"
        ),
        pytest.param(
            "instance_types.csv", "dl1,Gaudi,8,256,", "dl1,Gaudi,8,255,", "is not its total", id="retired too"
        ),
        pytest.param("availability.csv", "afs1-az2;afs1-az3", "afs1-az2;afs1-az2", "each once", id="zone twice"),
        pytest.param(
            "availability.csv", "afs1-az2;afs1-az3", "afs1-az2;use1-az1", "stands in", id="zone of two regions"
        ),
        pytest.param("prices.csv", "us-east-1,13.10904,", "us-east-1,0,", "must be above zero", id="price of zero"),
        pytest.param(
            "prices.csv", "13.10904,2026-07-20,karpenter", "13.10904,2026-07-20,", "with source", id="no source"
        ),
        pytest.param("prices.csv", "13.10904,2026-07-20", "13.10904,2036-07-20", "impossible date", id="future date"),
        pytest.param("prices.csv", "dl1.24xlarge,us-east-1", "dl1.24xlarge,us-east-9", "unknown region", id="region"),
        pytest.param(
            "prices.csv", "0.526,2026-07-20,karpenter,0.2", "0.526,2026-07-20,karpenter,0.9", "spot", id="spot"
        ),
        pytest.param(
            "prices.csv",
            f"{FULL_PRICE_SPOT}at least one AZ quotes spot = on-demand",
            FULL_PRICE_SPOT,
            "no note says",
            id="spot equals",
        ),
        pytest.param("prices.csv", ",5.6192,tsaol", ",95.6192,tsaol", "one-year price", id="reserved above on-demand"),
        pytest.param("engines.yaml", "families: [inf2]", "families: [inf1]", "carries none", id="family of another"),
        pytest.param("engines.yaml", "vendor: nvidia", "vendor: neuron", "not of its vendor", id="vendor"),
        pytest.param("engines.yaml", "source: vllm-wheel", "source: vllm-whale", "sources.csv has not", id="source"),
        pytest.param("engines.yaml", "[x86_64]", "[x86_64, arm64]", "one AMI parameter", id="AMI"),
        pytest.param("engines.yaml", "[T4, A10G", "[T4, T4G, A10G", "has no row for", id="precisions incomplete"),
        pytest.param("engines.yaml", "[T4, A10G", "[V100-32, T4, A10G", "no usable memory", id="memory not known"),
        pytest.param(
            "precision_support.csv",
            "T4,bf16,no,vllm-wheel;vllm-docs,Turing has no bfloat16: the engine stops with an error; use fp16",
            "T4,bf16,no,vllm-wheel;vllm-docs,",
            "refused without a note",
            id="refusal",
        ),
        pytest.param(
            "sources.csv", "moto,", "unheard-of,w,r,p,v,2026\nmoto,", "named by no figure", id="unused source"
        ),
    ],
)
def test_a_mistake_is_found(folder: Path, edit: Edit, name: str, old: str, new: str, message: str) -> None:
    edit(name, old, new)
    assert any(message in problem.message for problem in verify(folder)), verify(folder)


def test_a_type_without_a_zone_is_found(folder: Path) -> None:
    path = folder / "availability.csv"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("g4dn.metal,")) + "\n", "utf-8")
    assert [problem.where for problem in verify(folder)] == ["instance_types.csv g4dn.metal"]
