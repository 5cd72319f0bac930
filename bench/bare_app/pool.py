"""Queue, role, launch template, group and scaling of the one pool."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from aws_cdk import Duration, Tags
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from bench.bare_app.foundation import FoundationStack

USER_DATA = Path(__file__).parent / "user_data.sh"
KIT = Path(__file__).parents[2]
INSTANCE_CODE = KIT / "constructs/llm_fleet_constructs/on_instance"
AMI_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
TYPES = ["g4dn.xlarge", "g4dn.2xlarge"]
ZONES_WITH_G4DN = [0, 1, 3, 4, 5]
"""Places in the foundation's list of zones."""
WEIGHTS_PREFIX = "weights/RedHatAI/Llama-2-7b-chat-quantized.w8a8/*"
OWN_DIMENSIONS = {"Pattern": "startup-mvp", "Pool": "cost_efficient"}
MINUTE = Duration.seconds(60)


class Pool(Construct):
    """Instances of g4dn behind one queue."""

    def __init__(self, scope: Construct, foundation: FoundationStack) -> None:
        super().__init__(scope, "CostEfficient")
        self._foundation = foundation
        self._make_queues()
        self.security_group = ec2.SecurityGroup(
            self,
            "SecurityGroup",
            vpc=foundation.vpc,
            description="Engines of pool cost_efficient: reached by the gateway only, no SSH",
            allow_all_outbound=False,
        )
        self.security_group.add_egress_rule(
            ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "AWS services, image registries, the model hub"
        )
        self.image = ecr_assets.DockerImageAsset(
            self, "Image", directory=str(KIT), platform=ecr_assets.Platform.LINUX_AMD64
        )
        self._make_role()
        self._make_group()
        self._allow_own_hooks()
        self._make_metrics()
        self._scale_out()
        self._scale_in()
        self._track()
        Tags.of(self).add("llm-fleet:pool", "cost_efficient")

    def _make_queues(self) -> None:
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=self._foundation.key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=self._foundation.key,
            data_key_reuse=Duration.hours(1),
            enforce_ssl=True,
            receive_message_wait_time=Duration.seconds(20),
            retention_period=Duration.days(4),
            visibility_timeout=Duration.minutes(5),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=5),
        )

    def _make_role(self) -> None:
        kept = self._foundation
        ec2_service = cast(iam.IPrincipal, iam.ServicePrincipal("ec2.amazonaws.com"))
        self.role = cast(iam.IRole, iam.Role(self, "Role", assumed_by=ec2_service))
        self._allow(
            [
                "ssm:UpdateInstanceInformation",
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            ],
            "*",
        )
        self._allow(["cloudwatch:PutMetricData"], "*", {"StringEquals": {"cloudwatch:namespace": "LlmFleet"}})
        self._allow(
            ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"], kept.instance_log.log_group_arn
        )
        account = kept.account
        self._allow(
            ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"],
            f"arn:aws:secretsmanager:us-east-1:{account}:secret:llm-fleet/hub-token-??????",
        )
        self._allow(
            ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"], kept.weights.arn_for_objects(WEIGHTS_PREFIX)
        )
        self._allow(["s3:ListBucket"], kept.weights.bucket_arn, {"StringLike": {"s3:prefix": [WEIGHTS_PREFIX]}})
        self.image.repository.grant_pull(self.role)
        self._allow(
            ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage"],
            self.queue.queue_arn,
        )
        self._allow(["sqs:SendMessage", "sqs:GetQueueAttributes"], self.queue.queue_arn)
        self._allow(["sqs:SendMessage", "sqs:GetQueueAttributes"], self.dead_letters.queue_arn)
        self._allow(["s3:GetObject"], kept.batch_files.arn_for_objects("*"))
        self._allow(["s3:GetObject", "s3:PutObject"], kept.batch_results.arn_for_objects("*"))
        self._allow(["s3:ListBucket"], kept.batch_files.bucket_arn)
        self._allow(["s3:ListBucket"], kept.batch_results.bucket_arn)
        self._allow(["dynamodb:GetItem", "dynamodb:UpdateItem"], kept.batch_table.table_arn)
        self._allow(
            ["dynamodb:PutItem", "dynamodb:DeleteItem"],
            kept.worker_table.table_arn,
            {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["cost_efficient"]}},
        )
        self._allow(["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"], kept.key.key_arn)

    def _allow(self, actions: list[str], resource: str, conditions: dict[str, dict[str, object]] | None = None) -> None:
        self.role.add_to_principal_policy(
            iam.PolicyStatement(actions=actions, resources=[resource], conditions=conditions)
        )

    def _allow_own_hooks(self) -> None:
        self.role.attach_inline_policy(
            iam.Policy(
                self,
                "OwnHooks",
                statements=[
                    iam.PolicyStatement(
                        actions=[
                            "autoscaling:CompleteLifecycleAction",
                            "autoscaling:RecordLifecycleActionHeartbeat",
                            "autoscaling:SetInstanceHealth",
                        ],
                        resources=[self.group.auto_scaling_group_arn],
                    )
                ],
            )
        )

    def _user_data(self) -> ec2.UserData:
        kept = self._foundation
        code = s3_assets.Asset(self, "InstanceCode", path=str(INSTANCE_CODE), exclude=["**/__pycache__", "**/*.pyc"])
        self._allow(["s3:GetObject"], code.bucket.arn_for_objects(code.s3_object_key))
        text = USER_DATA.read_text(encoding="utf-8")
        for name, value in {
            "@QUEUE_URL@": self.queue.queue_url,
            "@DEAD_LETTER_QUEUE_URL@": self.dead_letters.queue_url,
            "@WORKER_TABLE@": kept.worker_table.table_name,
            "@BATCH_TABLE@": kept.batch_table.table_name,
            "@BATCH_FILES@": kept.batch_files.bucket_name,
            "@BATCH_RESULTS@": kept.batch_results.bucket_name,
            "@WEIGHTS@": kept.weights.bucket_name,
            "@LOG_GROUP@": kept.instance_log.log_group_name,
            "@WORKER_IMAGE@": self.image.image_uri,
            "@CODE_URL@": code.s3_object_url,
        }.items():
            text = text.replace(name, value)
        return ec2.UserData.custom(text)

    def _make_group(self) -> None:
        template = ec2.LaunchTemplate(
            self,
            "LaunchTemplate",
            machine_image=ec2.MachineImage.from_ssm_parameter(AMI_PARAMETER, os=ec2.OperatingSystemType.LINUX),
            user_data=self._user_data(),
            role=self.role,
            security_group=self.security_group,
            associate_public_ip_address=False,
            block_devices=[
                ec2.BlockDevice(
                    device_name="/dev/xvda",
                    volume=ec2.BlockDeviceVolume.ebs(
                        160, encrypted=True, volume_type=ec2.EbsDeviceVolumeType.GP3, throughput=500
                    ),
                )
            ],
            detailed_monitoring=True,
            require_imdsv2=True,
            http_put_response_hop_limit=1,
            instance_metadata_tags=True,
        )
        subnets = [self._foundation.private_subnets[place] for place in ZONES_WITH_G4DN]
        self.group = autoscaling.AutoScalingGroup(
            self,
            "Group",
            vpc=self._foundation.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=subnets),
            mixed_instances_policy=autoscaling.MixedInstancesPolicy(
                launch_template=template,
                launch_template_overrides=[
                    autoscaling.LaunchTemplateOverrides(instance_type=ec2.InstanceType(name), weighted_capacity=1)
                    for name in TYPES
                ],
                instances_distribution=autoscaling.InstancesDistribution(
                    on_demand_base_capacity=1,
                    on_demand_percentage_above_base_capacity=30,
                    on_demand_allocation_strategy=autoscaling.OnDemandAllocationStrategy.PRIORITIZED,
                    spot_allocation_strategy=autoscaling.SpotAllocationStrategy.PRICE_CAPACITY_OPTIMIZED,
                ),
            ),
            min_capacity=1,
            max_capacity=10,
            capacity_rebalance=True,
            default_instance_warmup=Duration.seconds(0),
            min_healthy_percentage=100,
            max_healthy_percentage=110,
            group_metrics=[autoscaling.GroupMetrics.all()],
            health_checks=autoscaling.HealthChecks.ec2(grace_period=Duration.minutes(5)),
        )
        hook = autoscaling.CfnAutoScalingGroup.LifecycleHookSpecificationProperty
        cast(autoscaling.CfnAutoScalingGroup, self.group.node.default_child).lifecycle_hook_specification_list = [
            hook(
                lifecycle_hook_name="launch",
                lifecycle_transition="autoscaling:EC2_INSTANCE_LAUNCHING",
                heartbeat_timeout=1800,
                default_result="ABANDON",
            ),
            hook(
                lifecycle_hook_name="drain",
                lifecycle_transition="autoscaling:EC2_INSTANCE_TERMINATING",
                heartbeat_timeout=360,
                default_result="CONTINUE",
            ),
        ]
        self.group.node.add_dependency(self.role)

    def _make_metrics(self) -> None:
        """Own metrics, those of queue and group, and the expressions that more than one thing looks at."""
        self.own_backlog = _own_metric("Backlog", "Maximum")
        self.own_in_flight = _own_metric("InFlight", "Maximum")
        self.time_to_first_token = _own_metric("TimeToFirstToken", "Average")
        self.visible = self.queue.metric_approximate_number_of_messages_visible(statistic="Maximum", period=MINUTE)
        self.leased = self.queue.metric_approximate_number_of_messages_not_visible(statistic="Maximum", period=MINUTE)
        self.in_service = self._group_metric("GroupInServiceCapacity")
        self.pending = self._group_metric("GroupPendingCapacity")
        self.instances = self._group_metric("GroupInServiceInstances")
        self.workers = _own_metric("Workers", "Maximum")
        self.desired = self._group_metric("GroupDesiredCapacity")
        self.backlog = cloudwatch.MathExpression(
            expression="FILL(own_backlog, visible)",
            using_metrics={"own_backlog": self.own_backlog, "visible": self.visible},
            period=MINUTE,
            label="backlog",
        )
        ordered = cloudwatch.MathExpression(
            expression="FILL(in_service, REPEAT) + FILL(pending, REPEAT)",
            using_metrics={"in_service": self.in_service, "pending": self.pending},
            period=MINUTE,
            label="units ordered",
        )
        self.backlog_per_ordered_unit = cloudwatch.MathExpression(
            expression="backlog / IF(ordered < 1, 1, ordered)",
            using_metrics={"backlog": self.backlog, "ordered": ordered},
            period=MINUTE,
            label="backlog per ordered unit",
        )

    def _group_metric(self, name: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/AutoScaling",
            metric_name=name,
            dimensions_map={"AutoScalingGroupName": self.group.auto_scaling_group_name},
            statistic="Average",
            period=MINUTE,
        )

    def _scale_out(self) -> None:
        policy = autoscaling.StepScalingAction(
            self,
            "StepOut",
            auto_scaling_group=self.group,
            adjustment_type=autoscaling.AdjustmentType.CHANGE_IN_CAPACITY,
            metric_aggregation_type=autoscaling.MetricAggregationType.MAXIMUM,
        )
        policy.add_adjustment(adjustment=2, lower_bound=0, upper_bound=50)
        policy.add_adjustment(adjustment=4, lower_bound=50, upper_bound=150)
        policy.add_adjustment(adjustment=8, lower_bound=150)
        alarm = cloudwatch.Alarm(
            self,
            "StepOutAlarm",
            metric=self.backlog_per_ordered_unit,
            threshold=50,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description="More than 50 requests wait per ordered capacity unit; the group adds 2 units or more.",
        )
        alarm.add_alarm_action(cast(cloudwatch.IAlarmAction, actions.AutoScalingAction(policy)))

    def _scale_in(self) -> None:
        policy = autoscaling.StepScalingAction(
            self,
            "StepIn",
            auto_scaling_group=self.group,
            adjustment_type=autoscaling.AdjustmentType.CHANGE_IN_CAPACITY,
            metric_aggregation_type=autoscaling.MetricAggregationType.MAXIMUM,
        )
        policy.add_adjustment(adjustment=-1, lower_bound=0)
        per_unit = "backlog / IF(serving < 1, 1, serving) < 5"
        slow = "IF(backlog <= 0, IF(ttft >= 289.1, 1, 0), IF(ttft < 289.1, 0, 1))"
        fits = "(serving - 1) * 17 - FILL(own_in_flight, leased) >= 0"
        changed = "FILL(ABS(DIFF(desired)), 0)"
        spare = cloudwatch.MathExpression(
            expression=f"IF({per_unit}, IF({slow} < 1, IF({fits}, IF({changed} > 0, 0, 1), 0), 0), 0)",
            using_metrics={
                "backlog": self.backlog,
                "serving": self.in_service,
                "desired": self.desired,
                "ttft": self.time_to_first_token,
                "own_in_flight": self.own_in_flight,
                "leased": self.leased,
            },
            period=MINUTE,
            label="spare capacity",
        )
        alarm = cloudwatch.Alarm(
            self,
            "StepInAlarm",
            metric=spare,
            threshold=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            evaluation_periods=15,
            datapoints_to_alarm=15,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description="For 15 minutes the pool had capacity to spare; the group takes 1 unit away.",
        )
        alarm.add_alarm_action(cast(cloudwatch.IAlarmAction, actions.AutoScalingAction(policy)))

    def _track(self) -> None:
        policy = autoscaling.CfnScalingPolicy
        group = {"AutoScalingGroupName": self.group.auto_scaling_group_name}
        queue = {"QueueName": self.queue.queue_name}
        policy(
            self,
            "Track",
            auto_scaling_group_name=self.group.auto_scaling_group_name,
            policy_type="TargetTrackingScaling",
            target_tracking_configuration=policy.TargetTrackingConfigurationProperty(
                target_value=10,
                disable_scale_in=True,
                customized_metric_specification=policy.CustomizedMetricSpecificationProperty(
                    metrics=[
                        _tracked("own_backlog", "LlmFleet", "Backlog", OWN_DIMENSIONS, "Maximum"),
                        _tracked("visible", "AWS/SQS", "ApproximateNumberOfMessagesVisible", queue, "Maximum"),
                        _tracked_expression("backlog", "FILL(own_backlog, visible)"),
                        _tracked("in_service", "AWS/AutoScaling", "GroupInServiceCapacity", group, "Average"),
                        _tracked("pending", "AWS/AutoScaling", "GroupPendingCapacity", group, "Average"),
                        _tracked_expression("ordered", "FILL(in_service, REPEAT) + FILL(pending, REPEAT)"),
                        _tracked_expression("target", "backlog / IF(ordered < 1, 1, ordered)", returns=True),
                    ]
                ),
            ),
        )


def _own_metric(name: str, statistic: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace="LlmFleet",
        metric_name=name,
        dimensions_map=OWN_DIMENSIONS,
        statistic=statistic,
        period=MINUTE,
    )


def _tracked(
    id: str, namespace: str, name: str, dimensions: dict[str, str], statistic: str
) -> autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty:
    policy = autoscaling.CfnScalingPolicy
    return policy.TargetTrackingMetricDataQueryProperty(
        id=id,
        metric_stat=policy.TargetTrackingMetricStatProperty(
            metric=policy.MetricProperty(
                namespace=namespace,
                metric_name=name,
                dimensions=[policy.MetricDimensionProperty(name=key, value=value) for key, value in dimensions.items()],
            ),
            stat=statistic,
            period=60,
        ),
        return_data=False,
    )


def _tracked_expression(
    id: str, expression: str, *, returns: bool = False
) -> autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty:
    return autoscaling.CfnScalingPolicy.TargetTrackingMetricDataQueryProperty(
        id=id, expression=expression, return_data=returns
    )
