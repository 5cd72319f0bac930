"""Network, key, logs, buckets and tables."""

from __future__ import annotations

from typing import cast

from aws_cdk import Duration, Environment, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

ZONE_IDS = ["use1-az1", "use1-az2", "use1-az3", "use1-az4", "use1-az5", "use1-az6"]


class FoundationStack(Stack):
    """What is kept when the serving stack goes."""

    def __init__(self, scope: Construct) -> None:
        super().__init__(
            scope,
            "startup-mvp-foundation",
            env=Environment(region="us-east-1"),
            description="LLM fleet startup-mvp: network, key, buckets, tables, logs. Kept when deleted.",
        )
        self._make_key()
        self.instance_log = self._log("InstanceLog")
        self.gateway_log = self._log("GatewayLog")
        self._make_network()
        self._make_buckets()
        self.batch_table = self._table("BatchTable", "batch_id", "item")
        self.worker_table = self._table("WorkerTable", "pool", "worker_id")
        self.key_table = self._table("KeyTable", "key_id")

    def _make_key(self) -> None:
        key = kms.Key(
            self,
            "Key",
            description="Encrypts what the LLM fleet keeps: weights, batch files, results, tables, queues, logs",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.RETAIN,
        )
        log_groups = f"arn:{self.partition}:logs:{self.region}:{self.account}:log-group:*"
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="LogGroups",
                principals=[_service("logs.us-east-1.amazonaws.com")],
                actions=["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": log_groups}},
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsAndBudgets",
                principals=[_service("cloudwatch.amazonaws.com"), _service("budgets.amazonaws.com")],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
            )
        )
        self.key = cast(kms.IKey, key)

    def _log(self, id: str) -> logs.LogGroup:
        return logs.LogGroup(
            self,
            id,
            encryption_key=self.key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.RETAIN,
        )

    def _make_network(self) -> None:
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            availability_zones=ZONE_IDS,
            nat_gateways=1,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Public", subnet_type=ec2.SubnetType.PUBLIC, map_public_ip_on_launch=False, cidr_mask=24
                ),
                ec2.SubnetConfiguration(name="Private", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS, cidr_mask=20),
            ],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
                "DynamoDb": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
            },
        )
        flow_log = ec2.FlowLogDestination.to_cloud_watch_logs(self._log("FlowLogGroup"))
        self.vpc.add_flow_log("FlowLog", destination=flow_log)
        self.private_subnets = self.vpc.private_subnets
        for subnets in (self.private_subnets, self.vpc.public_subnets):
            for zone_id, subnet in zip(ZONE_IDS, subnets, strict=True):
                resource = cast(ec2.CfnSubnet, subnet.node.default_child)
                resource.availability_zone = None
                resource.availability_zone_id = zone_id

    def _make_buckets(self) -> None:
        abort_uploads = Duration.days(1)
        self.access_logs = s3.Bucket(
            self,
            "AccessLogs",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            removal_policy=RemovalPolicy.RETAIN,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="Expire", expiration=Duration.days(90), abort_incomplete_multipart_upload_after=abort_uploads
                )
            ],
        )
        self.weights = self._bucket(
            "Weights",
            "weights/",
            s3.LifecycleRule(id="AbortIncompleteUploads", abort_incomplete_multipart_upload_after=abort_uploads),
        )
        self.batch_files = self._bucket(
            "BatchFiles",
            "batch-files/",
            s3.LifecycleRule(
                id="Expire",
                expiration=Duration.days(30),
                noncurrent_version_expiration=Duration.days(1),
                abort_incomplete_multipart_upload_after=abort_uploads,
            ),
            versioned=True,
        )
        self.batch_results = self._bucket(
            "BatchResults",
            "batch-results/",
            s3.LifecycleRule(
                id="Expire", expiration=Duration.days(30), abort_incomplete_multipart_upload_after=abort_uploads
            ),
        )

    def _bucket(self, id: str, log_prefix: str, rule: s3.LifecycleRule, *, versioned: bool = False) -> s3.Bucket:
        return s3.Bucket(
            self,
            id,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            versioned=versioned,
            removal_policy=RemovalPolicy.RETAIN,
            server_access_logs_bucket=self.access_logs,
            server_access_logs_prefix=log_prefix,
            lifecycle_rules=[rule],
        )

    def _table(self, id: str, partition_key: str, sort_key: str | None = None) -> dynamodb.TableV2:
        """A table; with a sort key its items expire."""
        return dynamodb.TableV2(
            self,
            id,
            partition_key=dynamodb.Attribute(name=partition_key, type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name=sort_key, type=dynamodb.AttributeType.STRING) if sort_key else None,
            time_to_live_attribute="expires_at" if sort_key else None,
            billing=dynamodb.Billing.on_demand(),
            encryption=dynamodb.TableEncryptionV2.customer_managed_key(self.key),
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=True,
            removal_policy=RemovalPolicy.RETAIN,
        )


def _service(name: str) -> iam.IPrincipal:
    return cast(iam.IPrincipal, iam.ServicePrincipal(name))
