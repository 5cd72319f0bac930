"""Whether the existing VPC of a pattern can hold its plan."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from llm_fleet.errors import Problem
from llm_fleet.planning.plan import FleetPlan

ZONES_OF_A_LOAD_BALANCER = 2


def existing_vpc_problems(plan: FleetPlan) -> Iterator[Problem]:
    """What the pattern's existing VPC lacks: a private subnet where each pool's types are offered, two zones for the
    load balancer.
    """
    network = plan.deployment.network
    if network.vpc_id is None:
        return
    private = network.private_subnet_ids
    for pool in plan.pools:
        if not set(pool.zone_ids) & set(private):
            where = f"{plan.pattern}: deploy.network.private_subnet_ids"
            message = f"no subnet lies in a zone that offers every choice of pool {pool.role}"
            yield Problem(where, message, ", ".join(private), ", ".join(pool.zone_ids))
    subnets = {"public": network.public_subnet_ids} if plan.deployment.gateway.public else {"private": private}
    for kind, found in subnets.items():
        yield from _too_few(plan.pattern, kind, found)


def _too_few(pattern: str, kind: str, zones: Collection[str]) -> Iterator[Problem]:
    if len(zones) < ZONES_OF_A_LOAD_BALANCER:
        where = f"{pattern}: deploy.network.{kind}_subnet_ids"
        yield Problem(where, "a load balancer needs subnets in two zones", ", ".join(zones) or "none")
