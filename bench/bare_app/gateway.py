"""Settings, load balancer and Fargate service of the gateway."""

from __future__ import annotations

from pathlib import Path

from aws_cdk import Duration
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from bench.bare_app.foundation import FoundationStack
from bench.bare_app.pool import Pool

SETTINGS = Path(__file__).parent / "gateway_settings.json"
ZONES = [0, 1, 3]
"""Places in the foundation's list of zones."""


class Gateway(Construct):
    """A load balancer inside the VPC, and the service behind it."""

    def __init__(self, scope: Construct, foundation: FoundationStack, pool: Pool) -> None:
        super().__init__(scope, "Gateway")
        self._foundation, self._pool = foundation, pool
        self._subnets = ec2.SubnetSelection(subnets=[foundation.private_subnets[place] for place in ZONES])
        self._make_settings()
        self._make_load_balancer()
        self._make_task()
        self._make_service()
        self._listen()
        self._scale()
        self._allow_task()
        pool.security_group.connections.allow_from(self.service, ec2.Port.tcp(8000), "Gateway to engines")
        self.url = f"http://{self.load_balancer.load_balancer_dns_name}/v1"

    def _make_settings(self) -> None:
        kept, pool = self._foundation, self._pool
        settings = SETTINGS.read_text(encoding="utf-8").strip()
        for name, value in {
            "@WORKER_TABLE@": kept.worker_table.table_name,
            "@BATCH_TABLE@": kept.batch_table.table_name,
            "@KEY_TABLE@": kept.key_table.table_name,
            "@BATCH_FILES@": kept.batch_files.bucket_name,
            "@BATCH_RESULTS@": kept.batch_results.bucket_name,
            "@QUEUE_URL@": pool.queue.queue_url,
            "@DEAD_LETTER_QUEUE_URL@": pool.dead_letters.queue_url,
            "@GROUP_NAME@": pool.group.auto_scaling_group_name,
        }.items():
            settings = settings.replace(name, value)
        self.settings = ssm.StringParameter(
            self,
            "Settings",
            description="Settings of the gateway",
            string_value=settings,
            tier=ssm.ParameterTier.ADVANCED,
        )

    def _make_load_balancer(self) -> None:
        self.load_balancer = elbv2.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=self._foundation.vpc,
            vpc_subnets=self._subnets,
            internet_facing=False,
            idle_timeout=Duration.minutes(15),
            drop_invalid_header_fields=True,
        )
        self.load_balancer.log_access_logs(self._foundation.access_logs, "gateway")

    def _make_task(self) -> None:
        pool = self._pool
        self.task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=1024,
            memory_limit_mib=2048,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.X86_64, operating_system_family=ecs.OperatingSystemFamily.LINUX
            ),
            volumes=[ecs.Volume(name="tmp")],
        )
        container = self.task.add_container(
            "gateway",
            image=ecs.ContainerImage.from_docker_image_asset(pool.image),
            command=["llm_fleet.gateway"],
            port_mappings=[ecs.PortMapping(container_port=8080)],
            readonly_root_filesystem=True,
            user="65532",
            secrets={"LLM_FLEET_SETTINGS": ecs.Secret.from_ssm_parameter(self.settings)},
            docker_labels={"llm-fleet.settings": "1"},
            logging=ecs.LogDrivers.aws_logs(log_group=self._foundation.gateway_log, stream_prefix="gateway"),
            stop_timeout=Duration.minutes(2),
        )
        container.add_mount_points(ecs.MountPoint(container_path="/tmp", source_volume="tmp", read_only=False))

    def _make_service(self) -> None:
        cluster = ecs.Cluster(
            self, "Cluster", vpc=self._foundation.vpc, container_insights_v2=ecs.ContainerInsights.ENABLED
        )
        security_group = ec2.SecurityGroup(
            self, "SecurityGroup", vpc=self._foundation.vpc, description="Gateway tasks", allow_all_outbound=False
        )
        security_group.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services, the image's registry")
        self.service = ecs.FargateService(
            self,
            "Service",
            cluster=cluster,
            task_definition=self.task,
            desired_count=2,
            vpc_subnets=self._subnets,
            security_groups=[security_group],
            assign_public_ip=False,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            min_healthy_percent=100,
            max_healthy_percent=200,
            health_check_grace_period=Duration.seconds(60),
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )

    def _listen(self) -> None:
        listener = self.load_balancer.add_listener("Http", port=80, protocol=elbv2.ApplicationProtocol.HTTP, open=False)
        listener.connections.allow_default_port_from(ec2.Peer.ipv4(self._foundation.vpc.vpc_cidr_block), "Clients")
        self.target_group = listener.add_targets(
            "Tasks",
            port=8080,
            protocol=elbv2.ApplicationProtocol.HTTP,
            targets=[self.service],
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            deregistration_delay=Duration.minutes(5),
            health_check=elbv2.HealthCheck(
                path="/health", interval=Duration.seconds(10), healthy_threshold_count=2, unhealthy_threshold_count=3
            ),
        )

    def _scale(self) -> None:
        scaling = self.service.auto_scale_task_count(min_capacity=2, max_capacity=10)
        scaling.scale_on_cpu_utilization(
            "Cpu",
            target_utilization_percent=60,
            scale_out_cooldown=Duration.minutes(1),
            scale_in_cooldown=Duration.minutes(5),
        )

    def _allow_task(self) -> None:
        kept, pool = self._foundation, self._pool
        self._allow(["sqs:SendMessage", "sqs:GetQueueAttributes"], pool.queue.queue_arn)
        self._allow(
            ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"], pool.dead_letters.queue_arn
        )
        self._allow(["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], kept.key.key_arn)
        self._allow(
            ["autoscaling:SetDesiredCapacity", "autoscaling:LaunchInstances"], pool.group.auto_scaling_group_arn
        )
        self._allow(
            ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            kept.batch_files.arn_for_objects("*"),
        )
        self._allow(["s3:GetObject", "s3:PutObject"], kept.batch_results.arn_for_objects("*"))
        self._allow(["s3:ListBucket"], kept.batch_files.bucket_arn)
        self._allow(["s3:ListBucket"], kept.batch_results.bucket_arn)
        self._allow(
            [
                "dynamodb:GetItem",
                "dynamodb:Query",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
                "dynamodb:DeleteItem",
            ],
            kept.batch_table.table_arn,
        )
        self._allow(["dynamodb:GetItem", "dynamodb:Query"], kept.worker_table.table_arn)
        self._allow(
            ["dynamodb:PutItem", "dynamodb:DeleteItem"],
            kept.worker_table.table_arn,
            {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["gateway"]}},
        )
        self._allow(["dynamodb:Scan", "dynamodb:GetItem"], kept.key_table.table_arn)
        self._allow(["cloudwatch:PutMetricData"], "*", {"StringEquals": {"cloudwatch:namespace": "LlmFleet"}})
        self._allow(["autoscaling:DescribeAutoScalingGroups"], "*")

    def _allow(self, actions: list[str], resource: str, conditions: dict[str, dict[str, object]] | None = None) -> None:
        self.task.add_to_task_role_policy(
            iam.PolicyStatement(actions=actions, resources=[resource], conditions=conditions)
        )
