"""The gateway: a private load balancer, a locked-down task of the image that the deploy builds."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from llm_fleet.gateway.settings import parse_settings
from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from tests.templates.assembly import Assembly, Template
from tests.templates.reading import actions, of_type, pulled_from, statements, the


@pytest.fixture(params=pattern_names())
def pattern(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def template(pattern: str, assembly: Assembly) -> Template:
    return assembly.template(pattern)


def container(template: Template) -> dict[str, Any]:
    (found,) = the(template, "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    return found


def test_the_task_runs_the_image_that_the_deploy_builds(template: Template) -> None:
    assert "cdk-hnb659fds-container-assets" in json.dumps(container(template)["Image"])
    assert container(template)["Command"] == ["llm_fleet.gateway"]
    assert "GatewayImage" not in template["Parameters"]


def test_its_execution_role_pulls_from_that_repository_only(template: Template) -> None:
    (repository,) = pulled_from(template, "GatewayTaskExecutionRole")
    assert "cdk-hnb659fds-container-assets-" in json.dumps(repository)


def test_its_own_scaling_keeps_the_plans_number_of_tasks(pattern: str, template: Template) -> None:
    gateway = plan_fleet(pattern).deployment.gateway
    target = the(template, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert (target["MinCapacity"], target["MaxCapacity"]) == (gateway.min_tasks, gateway.max_tasks)
    assert the(template, "AWS::ECS::Service")["DesiredCount"] == gateway.min_tasks


def test_a_task_gets_two_minutes_to_stop(template: Template) -> None:
    assert container(template)["StopTimeout"] == 120


def test_requests_go_to_the_task_that_has_fewest(template: Template) -> None:
    properties = the(template, "AWS::ElasticLoadBalancingV2::TargetGroup")
    attributes = {item["Key"]: item["Value"] for item in properties["TargetGroupAttributes"]}
    assert attributes["load_balancing.algorithm.type"] == "least_outstanding_requests"


def test_the_task_is_x86_cannot_write_its_root_and_is_nobody(template: Template) -> None:
    task = the(template, "AWS::ECS::TaskDefinition")
    assert task["RuntimePlatform"] == {"CpuArchitecture": "X86_64", "OperatingSystemFamily": "LINUX"}
    assert container(template)["ReadonlyRootFilesystem"] is True
    assert container(template)["User"] == "65532"
    assert "Environment" not in container(template)


def test_a_broken_deployment_goes_back_by_itself(template: Template) -> None:
    configuration = the(template, "AWS::ECS::Service")["DeploymentConfiguration"]
    assert configuration["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}


def test_the_load_balancer_is_internal_logs_and_waits_for_long_answers(template: Template) -> None:
    properties = the(template, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    attributes = {item["Key"]: item["Value"] for item in properties["LoadBalancerAttributes"]}
    assert properties["Scheme"] == "internal"
    assert attributes["access_logs.s3.enabled"] == "true"
    assert int(attributes["idle_timeout.timeout_seconds"]) >= 300
    assert attributes["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert 2 <= len(properties["Subnets"]) <= 3


def test_a_leaving_task_gets_time_to_finish_its_answers(template: Template) -> None:
    properties = the(template, "AWS::ElasticLoadBalancingV2::TargetGroup")
    attributes = {item["Key"]: item["Value"] for item in properties["TargetGroupAttributes"]}
    assert int(attributes["deregistration_delay.timeout_seconds"]) >= 300
    assert properties["HealthCheckPath"] == "/health"


def test_clients_come_from_the_vpc_only(template: Template) -> None:
    (rule,) = the(template, "AWS::EC2::SecurityGroup", "GatewayLoadBalancer")["SecurityGroupIngress"]
    assert "CidrBlock" in json.dumps(rule["CidrIp"])
    assert (rule["FromPort"], rule["ToPort"]) == (80, 80)


def test_the_settings_reach_the_task_as_a_secret_and_a_change_starts_new_tasks(template: Template) -> None:
    (secret,) = container(template)["Secrets"]
    assert secret["Name"] == "LLM_FLEET_SETTINGS"
    assert "GatewaySettings" in json.dumps(secret["ValueFrom"])
    assert len(container(template)["DockerLabels"]["llm-fleet.settings"]) == 16


def settings_text(template: Template, deployed: str = "deployed") -> str:
    """The settings document, with a stand-in for each value that only a deploy knows."""
    parts = the(template, "AWS::SSM::Parameter")["Value"]["Fn::Join"][1]
    return "".join(part if isinstance(part, str) else deployed for part in parts)


def test_the_gateway_can_read_the_settings_that_the_stack_writes(pattern: str, template: Template) -> None:
    plan, settings = plan_fleet(pattern), parse_settings(settings_text(template))
    assert settings.pattern == pattern
    assert settings.routes == dict(plan.routes)
    assert list(settings.pools) == [pool.role for pool in plan.pools]
    assert settings.keys_table == settings.registry_table == settings.batch_table == "deployed"
    for pool in plan.pools:
        found = settings.pools[pool.role]
        assert found.served_model_name == pool.served_model_name
        assert found.fallback == tuple(pool.fallback)
        assert found.max_model_len_tokens == min(choice.max_model_len_tokens for choice in pool.choices)
        assert found.expected_output_tokens == pool.load.output_tokens
        assert found.group_name == found.queue_url == found.dead_letter_queue_url == "deployed"


def test_the_settings_name_each_thing_of_the_deployment_once_where_it_belongs(template: Template) -> None:
    parts = the(template, "AWS::SSM::Parameter")["Value"]["Fn::Join"][1]
    named = {
        before[:-3].rsplit('"', 1)[-1]: json.dumps(reference)
        for before, reference in itertools.pairwise(parts)
        if isinstance(before, str) and not isinstance(reference, str)
    }
    for key, id in {
        "registry_table": "Workers",
        "batch_table": "Batches",
        "keys_table": "ApiKeys",
        "batch_files_bucket": "BatchesFiles",
        "batch_results_bucket": "BatchesResults",
        "queue_url": "Queue",
        "dead_letter_queue_url": "DeadLetters",
        "group_name": "Group",
    }.items():
        assert id in named[key], key


def test_the_settings_fit_into_an_advanced_parameter(template: Template) -> None:
    """8 kB, with 150 characters for each value that only a deploy knows."""
    assert the(template, "AWS::SSM::Parameter")["Tier"] == "Advanced"
    assert len(settings_text(template, 150 * "x").encode()) < 8192


def test_the_gateway_wakes_its_own_pools_and_touches_no_other_group(pattern: str, template: Template) -> None:
    groups = list(of_type(template, "AWS::AutoScaling::AutoScalingGroup"))
    waking = [
        statement
        for statement in statements(template, "GatewayTask")
        if "autoscaling:SetDesiredCapacity" in actions(statement)
    ]
    text = json.dumps([statement["Resource"] for statement in waking])
    assert all("autoscaling:LaunchInstances" in actions(statement) for statement in waking)
    assert all(group in text for group in groups)
    assert '"*"' not in text


def allowed(template: Template, resource: str) -> list[tuple[set[str], dict[str, Any]]]:
    """Actions and conditions of the task's statements on one resource, by a part of its id."""
    return [
        (set(actions(statement)), statement.get("Condition", {}))
        for statement in statements(template, "GatewayTask")
        if resource in json.dumps(statement["Resource"])
    ]


def test_the_gateway_reads_every_worker_and_writes_only_its_own_entries(template: Template) -> None:
    reading, writing = sorted(allowed(template, "Workers"), key=lambda found: bool(found[1]))
    assert reading == ({"dynamodb:GetItem", "dynamodb:Query"}, {})
    own = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["gateway"]}}
    assert writing == ({"dynamodb:PutItem", "dynamodb:DeleteItem"}, own)


def test_the_gateway_reads_api_keys_and_cannot_make_one(template: Template) -> None:
    assert allowed(template, "ApiKeys") == [({"dynamodb:Scan", "dynamodb:GetItem"}, {})]


def test_the_gateway_looks_at_dead_letters_and_cannot_delete_one(template: Template) -> None:
    everything = {action for found, _ in allowed(template, "DeadLetters") for action in found}
    assert everything == {"sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"}


def test_the_gateway_deletes_batch_files_and_never_a_result(template: Template) -> None:
    results = {action for found, _ in allowed(template, "BatchesResults") for action in found}
    files = {action for found, _ in allowed(template, "BatchesFiles") for action in found}
    assert results == {"s3:GetObject", "s3:PutObject", "s3:ListBucket"}
    assert files == results | {"s3:DeleteObject", "s3:AbortMultipartUpload"}


def test_the_gateway_may_open_https_and_the_engines_ports_only(pattern: str, template: Template) -> None:
    (https,) = the(template, "AWS::EC2::SecurityGroup", "GatewaySecurityGroup")["SecurityGroupEgress"]
    assert (https["IpProtocol"], https["FromPort"], https["ToPort"]) == ("tcp", 443, 443)
    rules = of_type(template, "AWS::EC2::SecurityGroupEgress", "GatewaySecurityGroup").values()
    ends = {(rule["FromPort"], rule["DestinationSecurityGroupId"]["Fn::GetAtt"][0]) for rule in rules}
    assert len(ends) == len(rules) == len(plan_fleet(pattern).pools)
    assert {port for port, _ in ends} == {8000}


def test_the_url_is_an_output(template: Template) -> None:
    assert "DNSName" in json.dumps(template["Outputs"]["GatewayUrl"]["Value"])
