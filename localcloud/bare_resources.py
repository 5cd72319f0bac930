"""The queues, buckets, tables and groups of a plan, made by API calls in a moment: for `llm-fleet dev`, which deploys
nothing.
"""

from __future__ import annotations

import json
from typing import Any

from llm_fleet.gateway.settings import GatewaySettings, PoolSettings
from llm_fleet.planning import FleetPlan
from llm_fleet.planning.plan import PoolPlan
from llm_fleet_constructs.boot.settings import PoolSurroundings, pool_settings
from llm_fleet_constructs.gateway_pool import gateway_pool
from localcloud.cloud import LocalCloud
from localcloud.settings_documents import SettingsDocuments

VISIBILITY_TIMEOUT_S = 300
MAX_RECEIVES = 5
"""As the stack's queues have them."""


def make_resources(cloud: LocalCloud, plan: FleetPlan) -> SettingsDocuments:
    """Make what the services of a plan need; returns the documents that name it."""
    name = plan.pattern
    registry_table = _table(cloud, f"{name}-workers", "pool", "worker_id")
    batch_table = _table(cloud, f"{name}-batches", "batch_id", "item")
    files = _bucket(cloud, f"{name}-batch-files")
    results = _bucket(cloud, f"{name}-batch-results")
    gateway_pools: dict[str, PoolSettings] = {}
    pools: dict[str, dict[str, Any]] = {}
    for pool in plan.pools:
        dead_letters = _queue(cloud, f"{name}-{pool.role}-dead-letters")
        queue = _queue(cloud, f"{name}-{pool.role}", dead_letters)
        around = PoolSurroundings(
            pattern=name,
            region=plan.region,
            queue_url=queue,
            dead_letter_queue_url=dead_letters,
            registry_table=registry_table,
            batch_table=batch_table,
            batch_files_bucket=files,
            batch_results_bucket=results,
            weights_bucket="none",
            log_group="none",
        )
        pools[pool.role] = pool_settings(pool, around)
        group = _group(cloud, f"{name}-{pool.role}", pool)
        gateway_pools[pool.role] = gateway_pool(
            pool, queue_url=queue, dead_letter_queue_url=dead_letters, group_name=group
        )
    gateway = GatewaySettings(
        version=2,
        pattern=name,
        region=plan.region,
        metrics_namespace="LlmFleet",
        registry_table=registry_table,
        batch_table=batch_table,
        batch_files_bucket=files,
        batch_results_bucket=results,
        keys_table=_table(cloud, f"{name}-keys", "key_id"),
        routes=dict[str, str](plan.routes.items()),
        pools=gateway_pools,
    )
    return SettingsDocuments(gateway.model_dump(mode="json"), pools)


def _table(cloud: LocalCloud, name: str, *keys: str) -> str:
    """A table by partition key and, if given, sort key."""
    cloud.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


def _bucket(cloud: LocalCloud, name: str) -> str:
    cloud.client("s3").create_bucket(Bucket=name)
    return name


def _queue(cloud: LocalCloud, name: str, dead_letters: str | None = None) -> str:
    """A queue; returns its URL."""
    sqs = cloud.client("sqs")
    attributes = {"VisibilityTimeout": str(VISIBILITY_TIMEOUT_S)}
    if dead_letters is not None:
        arn = sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        attributes["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(MAX_RECEIVES)})
    return sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


def _group(cloud: LocalCloud, name: str, pool: PoolPlan) -> str:
    """A group that the gateway can look at and wake; its instances are records."""
    data: Any = {"ImageId": "ami-00000000", "InstanceType": pool.choices[0].instance_type}
    cloud.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    cloud.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name,
        LaunchTemplate={"LaunchTemplateName": name, "Version": "$Latest"},
        MinSize=1,
        MaxSize=pool.scaling.max_units,
        DesiredCapacity=1,
        AvailabilityZones=[f"{cloud.region}a"],
    )
    return name
