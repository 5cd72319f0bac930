"""An existing VPC that cannot hold the plan is refused before anything is built."""

from __future__ import annotations

from llm_fleet.planning import FleetPlan, plan_fleet
from llm_fleet.planning.existing_vpc import existing_vpc_problems


def plan_in(private: dict[str, str], public: dict[str, str], *, reached_from_outside: bool = False) -> FleetPlan:
    plan = plan_fleet("startup-mvp")
    network = {"vpc_id": "vpc-01234567", "private_subnet_ids": private, "public_subnet_ids": public}
    deployment = plan.deployment.model_copy(
        update={
            "network": plan.deployment.network.model_copy(update=network),
            "gateway": plan.deployment.gateway.model_copy(update={"public": reached_from_outside}),
        }
    )
    return plan.model_copy(update={"deployment": deployment})


def problems(plan: FleetPlan) -> list[str]:
    return [str(problem) for problem in existing_vpc_problems(plan)]


GOOD = {"use1-az1": "subnet-1", "use1-az2": "subnet-2"}


def test_a_new_vpc_has_no_problems() -> None:
    assert problems(plan_fleet("startup-mvp")) == []


def test_subnets_where_the_types_are_offered_are_enough() -> None:
    assert problems(plan_in(GOOD, {})) == []


def test_a_pool_without_a_subnet_in_its_zones_is_named_with_the_zones_that_would_do() -> None:
    (problem,) = problems(plan_in({"use1-az3": "subnet-3", "use1-az9": "subnet-9"}, {}))
    assert "pool cost_efficient" in problem
    assert "got use1-az3, use1-az9" in problem
    assert "use1-az1" in problem.split("allowed: ")[1]


def test_one_zone_is_too_few_for_a_load_balancer() -> None:
    (problem,) = problems(plan_in({"use1-az1": "subnet-1"}, {}))
    assert "deploy.network.private_subnet_ids: a load balancer needs subnets in two zones" in problem


def test_a_public_gateway_needs_public_subnets() -> None:
    (problem,) = problems(plan_in(GOOD, {}, reached_from_outside=True))
    assert "public_subnet_ids: a load balancer needs subnets in two zones; got none" in problem
