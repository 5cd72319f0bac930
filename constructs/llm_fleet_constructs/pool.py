"""A pool: instances of one role, one engine, one queue; many instance types behind one launch template."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Duration, Stack, Tags
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from llm_fleet.planning.plan import PoolPlan
from llm_fleet_constructs.acknowledgements import acknowledge
from llm_fleet_constructs.batch_store import BatchStore
from llm_fleet_constructs.boot.render import LARGEST_USER_DATA_BYTES, ON_INSTANCE, Bundle, render_user_data
from llm_fleet_constructs.boot.settings import (
    ENGINE_PORT,
    LAUNCH_HOOK,
    TERMINATE_HOOK,
    PoolSurroundings,
    StopTimes,
    artifact_keys,
    pool_settings,
)
from llm_fleet_constructs.capacity_fallback import OnDemandFallback, OnDemandFallbackProps
from llm_fleet_constructs.escape_hatches import hooks_from_the_first_instance
from llm_fleet_constructs.grants import allow
from llm_fleet_constructs.instance_role import GROUP_ARN_WILDCARD, InstanceRole, InstanceRoleProps
from llm_fleet_constructs.metrics import NAMESPACE, PoolMetrics
from llm_fleet_constructs.network import FleetNetwork
from llm_fleet_constructs.pool_scaling import PoolScaling, PoolScalingProps
from llm_fleet_constructs.service_image import ServiceImage
from llm_fleet_constructs.weights_cache import WeightsCache
from llm_fleet_constructs.work_queue import WorkQueue, WorkQueueProps
from llm_fleet_constructs.worker_registry import WorkerRegistry

SYSTEM_VOLUME_GIB = 150
"""Operating system with drivers and toolkits, and an engine image of 15 to 20 GB, packed and unpacked."""
VOLUME_THROUGHPUT_MIB_PER_S = 500
"""Weights of a type without NVMe are read from the root volume at each engine start: four times gp3's default
halves a boot.
"""


@dataclass(frozen=True)
class PoolProps:
    """Of Pool."""

    pattern: str
    """The pattern's name: a dimension of metrics."""
    plan: PoolPlan
    """What the planner decided: choices with serving plans and weights, purchase, scaling, engine, weights."""
    network: FleetNetwork
    """Where instances run."""
    key: kms.IKey
    """Encrypts the queue and the fallback's log."""
    weights: WeightsCache
    """Where weights and compiled artefacts are cached."""
    batches: BatchStore
    """Where batch files and results are."""
    registry: WorkerRegistry
    """Where workers say that they are alive."""
    log_group: logs.LogGroup
    """Where the journal of instances goes."""
    image: ServiceImage | None = None
    """What its workers run. Default: none; instances then run no worker, and the gateway never hears of them."""


class Pool(Construct):
    """Queue, launch template, group with a mixed-instances policy, hooks and scaling of one role.

    Smallest use:

        props = PoolProps("mine", plan.pools[0], network, key, weights, batches, registry, log_group)
        pool = Pool(self, "Batch", props)
        pool.connections.allow_from(gateway, pool.engine_ports)
        pool.grant_wake(gateway_role)

    The AMI is a parameter of the template, resolved at deploy, and not at launch (`resolve:ssm`): all instances of a
    group then run the same image, a new one comes with a deploy that somebody watches, and an instance refresh can
    roll back (which needs a real AMI id). A pattern's own `ami_id` wins.

    A changed launch template reaches instances that start afterwards; `docs/runbooks/replace-instances.md` says how
    to renew the others.
    """

    def __init__(self, scope: Construct, id: str, props: PoolProps) -> None:
        super().__init__(scope, id)
        plan = props.plan
        self.plan = plan
        self.engine_ports = ec2.Port.tcp_range(
            ENGINE_PORT, ENGINE_PORT + max(choice.replicas for choice in plan.choices) - 1
        )
        """One port a replica."""
        self.work = WorkQueue(self, "Queue", WorkQueueProps(key=props.key))
        self._security_group = _security_group(self, props)
        self.connections = ec2.Connections(security_groups=[self._security_group])
        """Engines. Nobody may reach them until somebody is allowed to."""
        self._role = self._instance_role(props)
        self.group = self._group(props, self._launch_template(props))
        self._role.grant_own_hooks(self.group)
        self.metrics = PoolMetrics(props.pattern, plan.role, self.work, self.group)
        self.scaling = PoolScaling(
            self, "Scaling", PoolScalingProps(group=self.group, metrics=self.metrics, rules=plan.scaling)
        )
        self.fallback = self._fallback(props)
        """What puts on-demand in the place of spot that EC2 refuses; None in a pool without spot."""
        Tags.of(self).add("llm-fleet:pool", plan.role)

    def metric_backlog(self) -> cloudwatch.MathExpression:
        """Requests that wait for this pool; more of its figures in `metrics`."""
        return self.metrics.backlog()

    def metric_units_in_service(self) -> cloudwatch.Metric:
        """Capacity units that serve."""
        return self.metrics.units_in_service()

    def grant_wake(self, grantee: iam.IGrantable) -> None:
        """Start instances of this pool, at once and without waiting for an alarm."""
        wake = ["autoscaling:SetDesiredCapacity", "autoscaling:LaunchInstances"]
        allow(grantee, wake, [self.group.auto_scaling_group_arn], owner=self, wildcard_because=GROUP_ARN_WILDCARD)

    def _fallback(self, props: PoolProps) -> OnDemandFallback | None:
        if props.plan.purchase.spot_percent == 0:
            return None
        fallback = OnDemandFallbackProps(group=self.group, metrics=self.metrics, plan=props.plan, key=props.key)
        return OnDemandFallback(self, "Fallback", fallback)

    def _instance_role(self, props: PoolProps) -> InstanceRole:
        plan = props.plan
        secret = plan.weights.token_secret_name if plan.weights.gated else None
        role_props = InstanceRoleProps(
            log_group=props.log_group, engine_image=plan.engine.image, token_secret_name=secret
        )
        role = InstanceRole(self, "Role", role_props)
        prefixes = [f"weights/{plan.weights.repository}"] if plan.weights.repository else []
        prefixes += artifact_keys(plan)
        if prefixes:
            props.weights.grant_fill(role.role, *prefixes)
        if props.image:
            props.image.grant_pull(role.role, plan.architecture)
        self.work.grant_consume(role.role)
        props.batches.grant_work(role.role)
        props.registry.grant_register(role.role, plan.role)
        return role

    def _launch_template(self, props: PoolProps) -> ec2.LaunchTemplate:
        return ec2.LaunchTemplate(
            self,
            "LaunchTemplate",
            machine_image=_machine_image(props),
            user_data=self._user_data(props),
            role=self._role.role,
            security_group=self._security_group,
            associate_public_ip_address=False,
            block_devices=[
                ec2.BlockDevice(
                    device_name=_root_device_name(props.plan.engine.ami_ssm_parameter),
                    # The key of EBS: under a customer-managed one the group's service role would need a grant.
                    volume=ec2.BlockDeviceVolume.ebs(
                        _volume_gib(props.plan),
                        encrypted=True,
                        volume_type=ec2.EbsDeviceVolumeType.GP3,
                        throughput=VOLUME_THROUGHPUT_MIB_PER_S,
                    ),
                )
            ],
            detailed_monitoring=True,
            require_imdsv2=True,
            http_put_response_hop_limit=1,
            instance_metadata_tags=True,  # how an instance learns its group's name without asking EC2
        )

    def _user_data(self, props: PoolProps) -> ec2.UserData:
        stack = Stack.of(self)
        bundle = s3_assets.Asset(self, "OnInstance", path=str(ON_INSTANCE), exclude=["**/__pycache__", "**/*.pyc"])
        allow(self._role.role, ["s3:GetObject"], [bundle.bucket.arn_for_objects(bundle.s3_object_key)])
        settings = pool_settings(props.plan, self._surroundings(props, stack.region))
        text = render_user_data(
            props.plan,
            region=stack.region,
            settings_json=stack.to_json_string(settings),
            log_group=props.log_group.log_group_name,
            bundle=Bundle(bundle.s3_bucket_name, bundle.s3_object_key),
            worker_image=_worker_image(props),
        )
        size = len(text) + len(json.dumps(stack.resolve(settings)))
        if size > LARGEST_USER_DATA_BYTES:
            raise ValueError(
                f"user data of pool {props.plan.role} is {size} bytes long, EC2 takes {LARGEST_USER_DATA_BYTES}"
            )
        return ec2.UserData.custom(text)

    def _surroundings(self, props: PoolProps, region: str) -> PoolSurroundings:
        return PoolSurroundings(
            pattern=props.pattern,
            region=region,
            weights_bucket=props.weights.bucket.bucket_name,
            queue_url=self.work.queue.queue_url,
            dead_letter_queue_url=self.work.dead_letters.queue_url,
            registry_table=props.registry.table.table_name,
            batch_table=props.batches.table.table_name,
            batch_files_bucket=props.batches.files.bucket_name,
            batch_results_bucket=props.batches.results.bucket_name,
            log_group=props.log_group.log_group_name,
            metrics_namespace=NAMESPACE,
            worker_image=_worker_image(props),
        )

    def _group(self, props: PoolProps, template: ec2.LaunchTemplate) -> autoscaling.AutoScalingGroup:
        plan = props.plan
        group = autoscaling.AutoScalingGroup(
            self,
            "Group",
            vpc=props.network.vpc,
            vpc_subnets=props.network.private_subnets(plan.zone_ids),
            mixed_instances_policy=autoscaling.MixedInstancesPolicy(
                launch_template=template,
                launch_template_overrides=_overrides(plan),
                instances_distribution=_distribution(plan),
            ),
            min_capacity=plan.scaling.min_units,
            max_capacity=plan.scaling.max_units,
            capacity_rebalance=True,
            # Zero behind a launch hook that ends with a generated token: any warming instance would block all scale-in.
            default_instance_warmup=Duration.seconds(0),
            # Replacements start before what they replace stops, at most a tenth above the wanted size, at least one.
            min_healthy_percentage=100,
            max_healthy_percentage=110,
            group_metrics=[autoscaling.GroupMetrics.all()],
            health_checks=autoscaling.HealthChecks.ec2(grace_period=Duration.minutes(5)),
        )
        hooks_from_the_first_instance(group, _hooks(plan))
        # The instance must find its permissions at first boot, not some seconds after.
        group.node.add_dependency(self._role.role)
        acknowledge(
            group,
            "AwsSolutions-EC26",
            "The rule cannot read a mixed-instances policy; the template's volume is encrypted",
        )
        acknowledge(
            group, "AwsSolutions-AS3", "Scaling is the normal course; what is not normal has an alarm with a runbook"
        )
        return group


def _worker_image(props: PoolProps) -> str | None:
    return props.image.uri(props.plan.architecture) if props.image else None


def _security_group(scope: Construct, props: PoolProps) -> ec2.SecurityGroup:
    group = ec2.SecurityGroup(
        scope,
        "SecurityGroup",
        vpc=props.network.vpc,
        description=f"Engines of pool {props.plan.role}: reached by the gateway only, no SSH",
        allow_all_outbound=False,
    )
    group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services, image registries, the model hub")
    return group


def _machine_image(props: PoolProps) -> ec2.IMachineImage:
    engine = props.plan.engine
    if engine.ami_id:
        return ec2.MachineImage.generic_linux({Stack.of(props.network).region: engine.ami_id})
    return ec2.MachineImage.from_ssm_parameter(engine.ami_ssm_parameter, os=ec2.OperatingSystemType.LINUX)


def _root_device_name(ami_parameter: str) -> str:
    """Root device of the image's system. An AMI given by id must be of the same system as the engine's own."""
    return "/dev/sda1" if "ubuntu" in ami_parameter else "/dev/xvda"


def _volume_gib(plan: PoolPlan) -> int:
    """Room for the system, and for the weights of types without NVMe, twice where as much is compiled from them."""
    weights_gib = max(choice.memory.weights_gib * choice.tensor_parallel for choice in plan.choices)
    return SYSTEM_VOLUME_GIB + 10 * math.ceil(weights_gib * (2 if plan.engine.static_shapes else 1) * 1.2 / 10)


def _overrides(plan: PoolPlan) -> list[autoscaling.LaunchTemplateOverrides]:
    return [
        autoscaling.LaunchTemplateOverrides(
            instance_type=ec2.InstanceType(choice.instance_type), weighted_capacity=choice.capacity_weight
        )
        for choice in plan.choices
    ]


def _distribution(plan: PoolPlan) -> autoscaling.InstancesDistribution:
    return autoscaling.InstancesDistribution(
        on_demand_base_capacity=plan.purchase.on_demand_base,
        on_demand_percentage_above_base_capacity=plan.purchase.on_demand_percent_above_base,
        on_demand_allocation_strategy=autoscaling.OnDemandAllocationStrategy.PRIORITIZED,
        spot_allocation_strategy=autoscaling.SpotAllocationStrategy.PRICE_CAPACITY_OPTIMIZED,
    )


def _hooks(plan: PoolPlan) -> Sequence[autoscaling.CfnAutoScalingGroup.LifecycleHookSpecificationProperty]:
    """Launch: an instance that never generated a token is thrown away. Terminate: goes on, however the drain went."""
    hook = autoscaling.CfnAutoScalingGroup.LifecycleHookSpecificationProperty
    return [
        hook(
            lifecycle_hook_name=LAUNCH_HOOK,
            lifecycle_transition="autoscaling:EC2_INSTANCE_LAUNCHING",
            heartbeat_timeout=plan.scaling.launch_hook_seconds,
            default_result="ABANDON",
        ),
        hook(
            lifecycle_hook_name=TERMINATE_HOOK,
            lifecycle_transition="autoscaling:EC2_INSTANCE_TERMINATING",
            heartbeat_timeout=StopTimes.within_hook(plan.scaling.drain_seconds).hook_s,
            default_result="CONTINUE",
        ),
    ]
