"""The settings document of the gateway: one JSON value, in an SSM parameter, handed to its tasks as they start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Stack
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from llm_fleet.gateway import settings as shape
from llm_fleet_constructs.api_keys import ApiKeys
from llm_fleet_constructs.batch_store import BatchStore
from llm_fleet_constructs.gateway_pool import gateway_pool
from llm_fleet_constructs.metrics import NAMESPACE
from llm_fleet_constructs.pool import Pool
from llm_fleet_constructs.worker_registry import WorkerRegistry


@dataclass(frozen=True)
class GatewaySettingsProps:
    """Of GatewaySettings."""

    pattern: str
    """The pattern's name: a dimension of metrics."""
    routes: dict[str, str]
    """Role asked for -> pool that takes it."""
    pools: Sequence[Pool]
    """The pools to route to."""
    batches: BatchStore
    """Where batch files, results and state are."""
    registry: WorkerRegistry
    """Where workers say that they are alive."""
    api_keys: ApiKeys
    """Where API keys are."""


class GatewaySettings(Construct):
    """The document, as a parameter and as a fingerprint.

    Smallest use:

        props = GatewaySettingsProps("mine", routes, pools, batches, registry, keys)
        settings = GatewaySettings(self, "Settings", props)
        container.add_secret("LLM_FLEET_SETTINGS", Secret.from_ssm_parameter(settings.parameter))
    """

    def __init__(self, scope: Construct, id: str, props: GatewaySettingsProps) -> None:
        super().__init__(scope, id)
        stack = Stack.of(self)
        self.pattern = props.pattern
        """The pattern's name, which the tasks' metrics carry."""
        # Without its times: the image has their defaults.
        document = _document(props, stack.region).model_dump(mode="json", exclude={"exchange"})
        self.parameter = ssm.StringParameter(
            self,
            "Resource",
            description="Settings of the gateway; rendered by the CDK, do not edit",
            string_value=stack.to_json_string(document),
            # Up to 8 kB: three pools with their names come near the 4 kB of the standard tier.
            tier=ssm.ParameterTier.ADVANCED,
        )
        self.fingerprint = hashlib.sha256(json.dumps(stack.resolve(document), sort_keys=True).encode()).hexdigest()[:16]
        """Changes with the document: tasks read it once, so a changed one must start new tasks."""


def _document(props: GatewaySettingsProps, region: str) -> shape.GatewaySettings:
    return shape.GatewaySettings(
        version=shape.VERSION,
        pattern=props.pattern,
        region=region,
        metrics_namespace=NAMESPACE,
        registry_table=props.registry.table.table_name,
        batch_table=props.batches.table.table_name,
        keys_table=props.api_keys.table.table_name,
        batch_files_bucket=props.batches.files.bucket_name,
        batch_results_bucket=props.batches.results.bucket_name,
        routes=props.routes,
        pools={pool.plan.role: _pool(pool) for pool in props.pools},
    )


def _pool(pool: Pool) -> shape.PoolSettings:
    return gateway_pool(
        pool.plan,
        queue_url=pool.work.queue.queue_url,
        dead_letter_queue_url=pool.work.dead_letters.queue_url,
        group_name=pool.group.auto_scaling_group_name,
    )
