"""The replaceable stack of a pattern: pools, gateway, what watches them. Everything it needs to keep lies in the
foundation.
"""

from __future__ import annotations

from pathlib import Path

from aws_cdk import CfnOutput, Environment, Stack
from constructs import Construct

from llm_fleet.patterns.words import IMAGE_NONE
from llm_fleet.planning.plan import FleetPlan, PoolPlan
from llm_fleet_constructs.alarm_topic import AlarmTopic, AlarmTopicProps
from llm_fleet_constructs.alarms import Alarms, fallback_watch, gateway_watches, pool_watches
from llm_fleet_constructs.budget import FleetBudget, FleetBudgetProps
from llm_fleet_constructs.dashboard import FleetDashboard, FleetDashboardProps
from llm_fleet_constructs.gateway_service import GatewayService, GatewayServiceProps
from llm_fleet_constructs.gateway_settings import GatewaySettings, GatewaySettingsProps
from llm_fleet_constructs.network import FleetNetwork
from llm_fleet_constructs.pool import Pool, PoolProps
from llm_fleet_constructs.service_image import ServiceImage, ServiceImageProps
from stacks.foundation import FoundationStack

ROOT = Path(__file__).parents[1]
"""Where Dockerfile and .dockerignore lie."""
POOL_IDS = {
    "high_performance": "HighPerformance",
    "cost_efficient": "CostEfficient",
    "batch_processing": "BatchProcessing",
}
"""Construct id of each role's pool: a contract, since logical ids follow it."""


class ServingStack(Stack):
    """Pools and gateway of a pattern; its id is the pattern's name."""

    def __init__(self, scope: Construct, plan: FleetPlan, foundation: FoundationStack) -> None:
        super().__init__(
            scope,
            plan.pattern,
            env=Environment(region=plan.region),
            description=f"LLM fleet {plan.pattern}: {plan.description}",
        )
        self._plan, self._foundation = plan, foundation
        self._image = self._service_image()
        self.pools = [self._pool(pool) for pool in plan.pools]
        self.gateway = self._gateway()
        self._watch()
        self._write_outputs()

    def _service_image(self) -> ServiceImage | None:
        image = self._plan.deployment.gateway.image
        return None if image == IMAGE_NONE else ServiceImage(self, "Image", ServiceImageProps(image, ROOT))

    def _pool(self, pool: PoolPlan) -> Pool:
        foundation = self._foundation
        props = PoolProps(
            pattern=self._plan.pattern,
            plan=pool,
            network=foundation.network,
            key=foundation.key,
            weights=foundation.weights,
            batches=foundation.batches,
            registry=foundation.registry,
            log_group=foundation.instance_log,
            image=self._image,
        )
        return Pool(self, POOL_IDS[pool.role], props)

    def _gateway(self) -> GatewayService:
        plan, foundation = self._plan, self._foundation
        settings_props = GatewaySettingsProps(
            plan.pattern,
            dict[str, str](plan.routes.items()),
            self.pools,
            foundation.batches,
            foundation.registry,
            foundation.api_keys,
        )
        gateway = plan.deployment.gateway
        props = GatewayServiceProps(
            network=foundation.network,
            zone_ids=gateway_zones(plan, foundation.network),
            pools=self.pools,
            settings=GatewaySettings(self, "GatewaySettings", settings_props),
            batches=foundation.batches,
            registry=foundation.registry,
            api_keys=foundation.api_keys,
            log_group=foundation.gateway_log,
            access_logs=foundation.access_logs.bucket,
            image=self._image,
            architecture=gateway.architecture,
            min_tasks=gateway.min_tasks,
            max_tasks=gateway.max_tasks,
            certificate_arn=gateway.certificate_arn,
            public=gateway.public,
        )
        return GatewayService(self, "Gateway", props)

    def _watch(self) -> None:
        """Alarms into one topic, the budget, the dashboard."""
        plan = self._plan
        topic = AlarmTopic(
            self, "AlarmTopic", AlarmTopicProps(key=self._foundation.key, email=plan.deployment.alarm_email)
        ).topic
        watches = gateway_watches(self.gateway.metrics, runs=self._image is not None)
        alarms = Alarms(self, "GatewayAlarms", topic, watches).alarms
        for pool in self.pools:
            id = f"{POOL_IDS[pool.plan.role]}Alarms"
            watches = pool_watches(pool.plan, pool.metrics)
            if pool.fallback:
                watches.append(fallback_watch(pool.plan.role, pool.fallback))
            alarms += Alarms(self, id, topic, watches).alarms
        FleetBudget(self, "Budget", FleetBudgetProps(plan.pattern, plan.deployment.budget_usd_per_month, topic))
        pools = [(pool.plan, pool.metrics) for pool in self.pools]
        FleetDashboard(
            self,
            "Dashboard",
            FleetDashboardProps(
                title=f"{plan.pattern}: {plan.description}", gateway=self.gateway.metrics, pools=pools, alarms=alarms
            ),
        )

    def _write_outputs(self) -> None:
        plan = self._plan
        CfnOutput(self, "GatewayUrl", value=self.gateway.url, description="Base URL for OpenAI clients")
        table = self._foundation.api_keys.table.table_name
        CfnOutput(self, "ApiKeysTable", value=table, description="Where `llm-fleet keys` keeps the API keys")
        CfnOutput(self, "PlanFingerprint", value=plan.fingerprint(), description=f"SHA-256 of {plan.pattern}.plan.json")
        CfnOutput(self, "CatalogDate", value=plan.catalog_date, description="Date of the newest price behind the plan")
        for pool in self.pools:
            name = POOL_IDS[pool.plan.role]
            CfnOutput(self, f"{name}Group", value=pool.group.auto_scaling_group_name)
            CfnOutput(self, f"{name}Queue", value=pool.work.queue.queue_url)


def gateway_zones(plan: FleetPlan, network: FleetNetwork) -> tuple[str, ...]:
    """Three zones of the network, those with pools first: answers then cross fewer zones."""
    possible = network.public_zone_ids if plan.deployment.gateway.public else network.zone_ids
    with_pools = [zone for pool in plan.pools for zone in pool.zone_ids]
    return tuple(dict.fromkeys(zone for zone in (*with_pools, *possible) if zone in possible))[:3]
