"""The router service in front of the pools: a load balancer and Fargate tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Annotations, CfnCondition, CfnParameter, Duration, Fn, Stack, Token
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from llm_fleet.patterns.words import IMAGE_NONE
from llm_fleet_constructs.acknowledgements import acknowledge
from llm_fleet_constructs.api_keys import ApiKeys
from llm_fleet_constructs.batch_store import BatchStore
from llm_fleet_constructs.gateway_metrics import GatewayMetrics
from llm_fleet_constructs.gateway_settings import GatewaySettings
from llm_fleet_constructs.grants import allow
from llm_fleet_constructs.instance_role import METRICS_WILDCARD
from llm_fleet_constructs.metrics import NAMESPACE
from llm_fleet_constructs.network import VPC_INGRESS, FleetNetwork
from llm_fleet_constructs.pool import Pool
from llm_fleet_constructs.service_image import Architecture, ServiceImage
from llm_fleet_constructs.worker_registry import WorkerRegistry

PORT = 8080
SETTINGS_VARIABLE = "LLM_FLEET_SETTINGS"
"""Environment variable that holds the settings document."""
PUBLIC_INGRESS = "The pattern asks for a public gateway; it speaks TLS with the given certificate"
ECR_WARNING = "@aws-cdk/aws-ecs:ecrImageRequiresPolicy"
_CPU_ARCHITECTURES = {"x86_64": ecs.CpuArchitecture.X86_64, "arm64": ecs.CpuArchitecture.ARM64}
USER = "65532"
"""Nobody in particular, and not root."""


@dataclass(frozen=True)
class GatewayServiceProps:
    """Of GatewayService."""

    network: FleetNetwork
    """Where it runs."""
    zone_ids: Sequence[str]
    """Zones of load balancer and tasks, at least two."""
    pools: Sequence[Pool]
    """The pools it routes to, wakes and queues for."""
    settings: GatewaySettings
    """What its tasks read as they start."""
    batches: BatchStore
    """Batch files, results and state."""
    registry: WorkerRegistry
    """Which workers are alive."""
    api_keys: ApiKeys
    """Who may use it."""
    log_group: logs.LogGroup
    """Where its log goes."""
    access_logs: s3.Bucket
    """Where the load balancer's access log goes."""
    image: ServiceImage | None = None
    """What its tasks run. Default: none; the template then has a parameter GatewayImage, and no task runs until that
    is set.
    """
    architecture: Architecture = "x86_64"
    """Of the tasks. Default x86_64."""
    min_tasks: int = 2
    """Default 2: one zone may go."""
    max_tasks: int = 10
    """Default 10."""
    certificate_arn: str | None = None
    """ACM certificate. Default: none; plain HTTP, inside the VPC only."""
    public: bool = False
    """Reachable from the internet; needs a certificate. Default: from the VPC only."""
    vcpus: float = 1
    """Of one task. Default 1: the gateway is one process with one event loop."""
    memory_mib: int = 2048
    """Of one task. Default 2048."""
    idle_timeout_s: int = 900
    """Silence after which the load balancer cuts a connection. Default 900: an answer that is not streamed sends
    nothing until it is done.
    """
    deregistration_delay_s: int = 300
    """What running answers get when a task leaves. Default 300, as long as an engine's drain."""


class GatewayService(Construct):
    """Load balancer and Fargate service of the gateway.

    Smallest use:

        props = GatewayServiceProps(network, zones, [pool], settings, batches, registry, keys, log, access_logs)
        GatewayService(self, "Gateway", props)

    Without an image the service stands at zero tasks, and synthesis warns.
    """

    def __init__(self, scope: Construct, id: str, props: GatewayServiceProps) -> None:
        super().__init__(scope, id)
        if props.public and not props.certificate_arn:
            raise ValueError("a public gateway needs a certificate_arn: keys must not travel in clear text")
        if len(props.zone_ids) < 2:
            raise ValueError(f"a load balancer needs two zones, got {', '.join(props.zone_ids) or 'none'}")
        self._props = props
        self.load_balancer = self._load_balancer()
        image, min_tasks, max_tasks = self._image_and_tasks()
        self.service = self._service(image, min_tasks)
        self.connections = self.service.connections
        """Of the tasks."""
        self.target_group = self._listen()
        self.metrics = GatewayMetrics(props.settings.pattern, self.load_balancer, self.target_group, self.service)
        """Its figures."""
        self._scale(min_tasks, max_tasks)
        for pool in props.pools:
            pool.connections.allow_from(self.service, pool.engine_ports, "Gateway to engines")
        self._grant(self.service.task_definition.task_role)
        scheme = "https" if props.certificate_arn else "http"
        self.url = f"{scheme}://{self.load_balancer.load_balancer_dns_name}/v1"
        """Base URL for OpenAI clients."""

    def metric_requests(self) -> cloudwatch.Metric:
        """Requests a minute; more figures in `metrics`."""
        return self.metrics.requests()

    def metric_error_percent(self) -> cloudwatch.MathExpression:
        """Share of requests that ended with a server error."""
        return self.metrics.error_percent()

    def _load_balancer(self) -> elbv2.ApplicationLoadBalancer:
        props = self._props
        subnets = (
            props.network.public_subnets(props.zone_ids)
            if props.public
            else props.network.private_subnets(props.zone_ids)
        )
        balancer = elbv2.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=props.network.vpc,
            vpc_subnets=subnets,
            internet_facing=props.public,
            idle_timeout=Duration.seconds(props.idle_timeout_s),
            drop_invalid_header_fields=True,
        )
        balancer.log_access_logs(props.access_logs, "gateway")
        return balancer

    def _image_and_tasks(self) -> tuple[ecs.ContainerImage, int, int]:
        """The image, and how many tasks run at least and at most: none without an image."""
        props = self._props
        if props.image:
            image = ecs.ContainerImage.from_registry(props.image.uri(props.architecture))
            return image, props.min_tasks, props.max_tasks
        parameter = CfnParameter(
            Stack.of(self),  # at the top, so that its name in the template is the one a user types
            "GatewayImage",
            default=IMAGE_NONE,
            description="Container image URI of the gateway; none: no task runs",
        )
        given = CfnCondition(
            self, "ImageGiven", expression=Fn.condition_not(Fn.condition_equals(parameter.value_as_string, IMAGE_NONE))
        )
        Annotations.of(self).add_warning_v2(
            "llm-fleet:gateway-without-image",
            "The gateway has no image, so it stands at zero tasks: give -c image=build, -c image=URI or the parameter "
            "GatewayImage.",
        )

        def unless_missing(tasks: int) -> int:
            return int(Token.as_number(Fn.condition_if(given.logical_id, tasks, 0)))

        image = ecs.ContainerImage.from_registry(parameter.value_as_string)
        return image, unless_missing(props.min_tasks), unless_missing(props.max_tasks)

    def _service(self, image: ecs.ContainerImage, desired: int) -> ecs.FargateService:
        props = self._props
        cluster = ecs.Cluster(
            self, "Cluster", vpc=props.network.vpc, container_insights_v2=ecs.ContainerInsights.ENABLED
        )
        security_group = ec2.SecurityGroup(
            self, "SecurityGroup", vpc=props.network.vpc, description="Gateway tasks", allow_all_outbound=False
        )
        security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services, the image's registry")
        return ecs.FargateService(
            self,
            "Service",
            cluster=cluster,
            task_definition=self._task_definition(image),
            desired_count=desired,
            vpc_subnets=props.network.private_subnets(props.zone_ids),
            security_groups=[security_group],
            assign_public_ip=False,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            min_healthy_percent=100,
            max_healthy_percent=200,
            health_check_grace_period=Duration.seconds(60),
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )

    def _task_definition(self, image: ecs.ContainerImage) -> ecs.FargateTaskDefinition:
        props = self._props
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=round(props.vcpus * 1024),
            memory_limit_mib=props.memory_mib,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=_CPU_ARCHITECTURES[props.architecture],
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            volumes=[ecs.Volume(name="tmp")],
        )
        container = task.add_container(
            "gateway",
            image=image,
            command=["llm_fleet.gateway"],
            port_mappings=[ecs.PortMapping(container_port=PORT)],
            readonly_root_filesystem=True,
            user=USER,
            secrets={SETTINGS_VARIABLE: ecs.Secret.from_ssm_parameter(props.settings.parameter)},
            docker_labels={"llm-fleet.settings": props.settings.fingerprint},
            logging=ecs.LogDrivers.aws_logs(log_group=props.log_group, stream_prefix="gateway"),
            # Fargate's longest; the load balancer has waited for running answers before.
            stop_timeout=Duration.seconds(120),
        )
        if props.image:
            props.image.grant_pull(task.obtain_execution_role(), props.architecture)
            # The CDK warns of every image in an account's registry, whatever its role may do.
            Annotations.of(container).acknowledge_warning(ECR_WARNING)
        container.add_mount_points(ecs.MountPoint(container_path="/tmp", source_volume="tmp", read_only=False))
        return task

    def _listen(self) -> elbv2.ApplicationTargetGroup:
        props, balancer = self._props, self.load_balancer
        if props.certificate_arn:
            certificate = acm.Certificate.from_certificate_arn(self, "Certificate", props.certificate_arn)
            listener = balancer.add_listener(
                "Https", port=443, certificates=[certificate], ssl_policy=elbv2.SslPolicy.RECOMMENDED_TLS, open=False
            )
            plain = balancer.add_listener(
                "HttpRedirect",
                port=80,
                open=False,
                default_action=elbv2.ListenerAction.redirect(protocol="HTTPS", port="443", permanent=True),
            )
            listeners = [listener, plain]
        else:
            listener = balancer.add_listener("Http", port=80, protocol=elbv2.ApplicationProtocol.HTTP, open=False)
            listeners = [listener]
        clients = ec2.Peer.any_ipv4() if props.public else ec2.Peer.ipv4(props.network.cidr)
        acknowledge(self.load_balancer, "AwsSolutions-EC23", PUBLIC_INGRESS if props.public else VPC_INGRESS)
        for each in listeners:
            each.connections.allow_default_port_from(clients, "Clients")
        return listener.add_targets(
            "Tasks",
            port=PORT,
            protocol=elbv2.ApplicationProtocol.HTTP,
            targets=[self.service],
            # Answers take from a moment to minutes: turns would pile long ones up on one task.
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            deregistration_delay=Duration.seconds(props.deregistration_delay_s),
            health_check=elbv2.HealthCheck(
                path="/health", interval=Duration.seconds(10), healthy_threshold_count=2, unhealthy_threshold_count=3
            ),
        )

    def _scale(self, min_tasks: int, max_tasks: int) -> None:
        scaling = self.service.auto_scale_task_count(min_capacity=min_tasks, max_capacity=max_tasks)
        scaling.scale_on_cpu_utilization(
            "Cpu",
            target_utilization_percent=60,
            scale_out_cooldown=Duration.seconds(60),
            scale_in_cooldown=Duration.seconds(300),
        )

    def _grant(self, role: iam.IRole) -> None:
        props = self._props
        for pool in props.pools:
            pool.work.grant_serve(role)
            pool.grant_wake(role)
        props.batches.grant_serve(role)
        props.registry.grant_serve(role)
        props.api_keys.grant_read(role)
        allow(
            role,
            ["cloudwatch:PutMetricData"],
            ["*"],
            conditions={"StringEquals": {"cloudwatch:namespace": NAMESPACE}},
            wildcard_because=METRICS_WILDCARD,
        )
        why = "Describing groups cannot be limited to a resource; it only reads sizes"
        allow(role, ["autoscaling:DescribeAutoScalingGroups"], ["*"], wildcard_because=why)
