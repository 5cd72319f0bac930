"""Groups, launch templates, queues and roles: what the plan says is what the template says."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from llm_fleet.planning.plan import PoolPlan
from tests.templates.assembly import Assembly, Template
from tests.templates.reading import POOL_PREFIX, actions, of_type, pulled_from, statements, the

POOLS = [(name, pool) for name in pattern_names() for pool in plan_fleet(name).pools]
each_pool = pytest.mark.parametrize(("pattern", "pool"), POOLS, ids=[f"{name}-{pool.role}" for name, pool in POOLS])


def group(assembly: Assembly, pattern: str, pool: PoolPlan) -> dict[str, Any]:
    return the(assembly.template(pattern), "AWS::AutoScaling::AutoScalingGroup", POOL_PREFIX[pool.role])


def launch_template(assembly: Assembly, pattern: str, pool: PoolPlan) -> dict[str, Any]:
    found = the(assembly.template(pattern), "AWS::EC2::LaunchTemplate", POOL_PREFIX[pool.role])
    return found["LaunchTemplateData"]


@each_pool
def test_overrides_and_weights_are_the_plans_choices_in_their_order(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    overrides = group(assembly, pattern, pool)["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert overrides == [
        {"InstanceType": choice.instance_type, "WeightedCapacity": str(choice.capacity_weight)}
        for choice in pool.choices
    ]


@each_pool
def test_the_purchase_mix_is_the_plans(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    assert group(assembly, pattern, pool)["MixedInstancesPolicy"]["InstancesDistribution"] == {
        "OnDemandAllocationStrategy": "prioritized",
        "OnDemandBaseCapacity": pool.purchase.on_demand_base,
        "OnDemandPercentageAboveBaseCapacity": pool.purchase.on_demand_percent_above_base,
        "SpotAllocationStrategy": "price-capacity-optimized",
    }


@each_pool
def test_sizes_are_the_plans_units_and_a_deploy_leaves_the_desired_size_alone(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    properties = group(assembly, pattern, pool)
    assert (properties["MinSize"], properties["MaxSize"]) == (str(pool.scaling.min_units), str(pool.scaling.max_units))
    assert "DesiredCapacity" not in properties


@each_pool
def test_a_group_rebalances_measures_itself_and_has_no_warm_up(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    properties = group(assembly, pattern, pool)
    assert properties["CapacityRebalance"] is True
    assert properties["DefaultInstanceWarmup"] == 0
    assert properties["MetricsCollection"] == [{"Granularity": "1Minute"}]
    assert properties["InstanceMaintenancePolicy"] == {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 110}


@each_pool
def test_hooks_hold_an_instance_until_it_serves_and_until_it_drained(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    launch, drain = group(assembly, pattern, pool)["LifecycleHookSpecificationList"]
    assert launch["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_LAUNCHING"
    assert (launch["HeartbeatTimeout"], launch["DefaultResult"]) == (pool.scaling.launch_hook_seconds, "ABANDON")
    assert drain["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
    assert drain["DefaultResult"] == "CONTINUE"
    assert pool.scaling.drain_seconds < drain["HeartbeatTimeout"] <= 7200


@each_pool
def test_instances_stand_in_the_zones_where_every_choice_is_offered(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    subnets = group(assembly, pattern, pool)["VPCZoneIdentifier"]
    assert len(subnets) == len(pool.zone_ids)
    assert all("PrivateSubnet" in json.dumps(subnet) for subnet in subnets)


@each_pool
def test_the_metadata_service_wants_tokens_and_answers_one_hop_away_only(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    options = launch_template(assembly, pattern, pool)["MetadataOptions"]
    assert options["HttpTokens"] == "required"
    assert options["HttpPutResponseHopLimit"] == 1
    assert options["InstanceMetadataTags"] == "enabled"


@each_pool
def test_volumes_are_encrypted_gp3_with_room_for_the_weights(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    (device,) = launch_template(assembly, pattern, pool)["BlockDeviceMappings"]
    weights_gib = max(choice.memory.weights_gib * choice.tensor_parallel for choice in pool.choices)
    assert device["Ebs"]["Encrypted"] is True
    assert device["Ebs"]["VolumeType"] == "gp3"
    assert device["Ebs"]["VolumeSize"] >= 150 + weights_gib


@each_pool
def test_no_instance_has_a_public_address_or_a_key_pair(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    data = launch_template(assembly, pattern, pool)
    assert "KeyName" not in data
    assert "NetworkInterfaces" not in data or not data["NetworkInterfaces"][0]["AssociatePublicIpAddress"]


@each_pool
def test_the_ami_comes_from_the_plans_parameter_resolved_at_deploy(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    parameter = launch_template(assembly, pattern, pool)["ImageId"]["Ref"]
    assert assembly.template(pattern)["Parameters"][parameter] == {
        "Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
        "Default": pool.engine.ami_ssm_parameter,
    }


@each_pool
def test_only_the_gateway_reaches_the_engines_on_one_port_a_replica(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    template = assembly.template(pattern)
    assert "SecurityGroupIngress" not in the(template, "AWS::EC2::SecurityGroup", POOL_PREFIX[pool.role])
    rule = the(template, "AWS::EC2::SecurityGroupIngress", POOL_PREFIX[pool.role])
    assert rule["SourceSecurityGroupId"]["Fn::GetAtt"][0].startswith("GatewaySecurityGroup")
    replicas = max(choice.replicas for choice in pool.choices)
    assert (rule["FromPort"], rule["ToPort"]) == (8000, 8000 + replicas - 1)


@each_pool
def test_instances_may_only_open_https(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    (rule,) = the(assembly.template(pattern), "AWS::EC2::SecurityGroup", POOL_PREFIX[pool.role])["SecurityGroupEgress"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 443, 443)


@each_pool
def test_the_queue_is_encrypted_long_polled_and_puts_poison_aside(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    queues = of_type(assembly.template(pattern), "AWS::SQS::Queue", f"{POOL_PREFIX[pool.role]}Queue")
    (dead_id, dead), (_, work) = sorted(queues.items(), key=lambda item: "RedrivePolicy" in item[1])
    assert work["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": [dead_id, "Arn"]}
    assert work["ReceiveMessageWaitTimeSeconds"] == 20
    assert "KmsMasterKeyId" in work
    assert "KmsMasterKeyId" in dead
    assert dead["MessageRetentionPeriod"] > work["MessageRetentionPeriod"]


def role_statements(template: Template, pool: PoolPlan) -> list[dict[str, Any]]:
    return statements(template, f"{POOL_PREFIX[pool.role]}Role")


@each_pool
def test_an_instance_may_do_nothing_in_ec2_and_change_no_group_but_complete_its_own_hooks(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    template = assembly.template(pattern)
    own_group = next(iter(of_type(template, "AWS::AutoScaling::AutoScalingGroup", POOL_PREFIX[pool.role])))
    for statement in role_statements(template, pool):
        for action in actions(statement):
            assert not action.startswith("ec2:"), action
            if action.startswith("autoscaling:"):
                allowed = {"CompleteLifecycleAction", "RecordLifecycleActionHeartbeat", "SetInstanceHealth"}
                assert action.split(":")[1] in allowed
                assert own_group in json.dumps(statement["Resource"])


@each_pool
def test_an_instance_registers_itself_under_its_own_pool_only(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    (statement,) = [
        found for found in role_statements(assembly.template(pattern), pool) if "dynamodb:DeleteItem" in actions(found)
    ]
    assert statement["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [pool.role]}}


@each_pool
def test_an_instance_works_on_its_own_queue_and_takes_nothing_out_of_the_dead_letters(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    template = assembly.template(pattern)
    allowed: dict[str, set[str]] = {}
    for statement in role_statements(template, pool):
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        for action in actions(statement):
            if action.startswith("sqs:"):
                allowed.setdefault(action.removeprefix("sqs:"), set()).update(map(json.dumps, resources))
    queues = of_type(template, "AWS::SQS::Queue", POOL_PREFIX[pool.role])
    own = {json.dumps({"Fn::GetAtt": [name, "Arn"]}) for name, queue in queues.items() if "RedrivePolicy" in queue}
    both = {json.dumps({"Fn::GetAtt": [name, "Arn"]}) for name in queues}
    taking = dict.fromkeys(("ReceiveMessage", "ChangeMessageVisibility", "DeleteMessage"), own)
    assert allowed == taking | dict.fromkeys(("SendMessage", "GetQueueAttributes"), both)


@each_pool
def test_an_instance_reads_and_writes_results_and_only_reads_batch_files(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    for bucket, more in (("BatchesFiles", set[str]()), ("BatchesResults", {"s3:PutObject"})):
        found = {
            action
            for statement in role_statements(assembly.template(pattern), pool)
            if bucket in json.dumps(statement["Resource"])
            for action in actions(statement)
        }
        assert found == {"s3:GetObject", "s3:ListBucket"} | more


@each_pool
def test_an_instance_publishes_metrics_of_the_fleets_namespace_only(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    (statement,) = [
        found
        for found in role_statements(assembly.template(pattern), pool)
        if "cloudwatch:PutMetricData" in actions(found)
    ]
    assert statement["Condition"] == {"StringEquals": {"cloudwatch:namespace": "LlmFleet"}}


@each_pool
def test_an_instance_reads_the_hubs_token_only_for_a_gated_model(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    reading = [
        found
        for found in role_statements(assembly.template(pattern), pool)
        if "secretsmanager:GetSecretValue" in actions(found)
    ]
    assert len(reading) == (1 if pool.weights.gated else 0)
    assert all(str(pool.weights.token_secret_name) in json.dumps(found["Resource"]) for found in reading)


@each_pool
def test_an_instance_fills_the_cache_only_below_its_own_model(pattern: str, pool: PoolPlan, assembly: Assembly) -> None:
    (statement,) = [
        found
        for found in role_statements(assembly.template(pattern), pool)
        if {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"} == set(actions(found))
    ]
    resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    ends = {resource["Fn::Join"][1][-1] for resource in resources}
    compiled = {end for end in ends if end.startswith("/artifacts/")}
    assert ends - compiled == {f"/weights/{pool.weights.repository}/*"}
    assert len(compiled) == (len(pool.choices) if pool.engine.static_shapes else 0)
    assert "/artifacts/*" not in compiled


@each_pool
def test_an_instance_runs_the_worker_of_the_image_that_the_deploy_builds_for_it(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    parts = launch_template(assembly, pattern, pool)["UserData"]["Fn::Base64"]["Fn::Join"][1]
    images = json.loads((assembly.folder / f"{pattern}.assets.json").read_text())["dockerImages"]
    platform = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}[pool.architecture]
    (tag,) = [key for key, image in images.items() if image["source"]["platform"] == platform]
    started = [after for before, after in itertools.pairwise(map(json.dumps, parts)) if tag in before]
    assert any(text.startswith('" llm_fleet.worker') for text in started)
    (repository,) = pulled_from(assembly.template(pattern), f"{POOL_PREFIX[pool.role]}Role")
    assert "cdk-hnb659fds-container-assets" in json.dumps(repository)


@each_pool
def test_the_role_exists_before_the_group_starts_its_first_instance(
    pattern: str, pool: PoolPlan, assembly: Assembly
) -> None:
    template = assembly.template(pattern)
    (resource,) = [
        found
        for logical_id, found in template["Resources"].items()
        if found["Type"] == "AWS::AutoScaling::AutoScalingGroup" and logical_id.startswith(POOL_PREFIX[pool.role])
    ]
    assert any("RoleDefaultPolicy" in name for name in resource["DependsOn"])
