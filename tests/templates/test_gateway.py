"""The gateway: a private load balancer, a locked-down task, and no task at all without an image."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from tests.templates.assembly import Assembly, Template
from tests.templates.reading import actions, of_type, statements, the


@pytest.fixture(params=pattern_names())
def pattern(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def template(pattern: str, assembly: Assembly) -> Template:
    return assembly.template(pattern)


def container(template: Template) -> dict[str, Any]:
    (found,) = the(template, "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    return found


def test_without_an_image_the_template_asks_for_one_and_runs_no_task(template: Template) -> None:
    assert template["Parameters"]["GatewayImage"]["Default"] == "none"
    condition = next(name for name in template["Conditions"] if name.startswith("GatewayImageGiven"))
    assert container(template)["Image"] == {"Ref": "GatewayImage"}
    assert the(template, "AWS::ECS::Service")["DesiredCount"]["Fn::If"][::2] == [condition, 0]
    target = the(template, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert target["MinCapacity"]["Fn::If"][::2] == [condition, 0]
    assert target["MaxCapacity"]["Fn::If"][::2] == [condition, 0]


def test_with_an_image_its_own_scaling_keeps_the_plans_number_of_tasks(pattern: str, template: Template) -> None:
    gateway = plan_fleet(pattern).deployment.gateway
    target = the(template, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert target["MinCapacity"]["Fn::If"][1] == gateway.min_tasks
    assert target["MaxCapacity"]["Fn::If"][1] == gateway.max_tasks


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


def settings(template: Template) -> dict[str, Any]:
    """The settings document, with a stand-in for each value that only a deploy knows."""
    value = the(template, "AWS::SSM::Parameter")["Value"]
    parts = value["Fn::Join"][1]
    return json.loads("".join(part if isinstance(part, str) else "deployed" for part in parts))


def test_the_settings_hold_the_plans_routes_and_pools(pattern: str, template: Template) -> None:
    plan, document = plan_fleet(pattern), settings(template)
    assert document["version"] == 1
    assert document["pattern"] == pattern
    assert document["routes"] == dict(plan.routes)
    assert list(document["pools"]) == [pool.role for pool in plan.pools]
    for pool in plan.pools:
        found = document["pools"][pool.role]
        assert found["served_model_name"] == pool.served_model_name
        assert found["fallback"] == list(pool.fallback)
        assert found["max_model_len_tokens"] == min(choice.max_model_len_tokens for choice in pool.choices)
        assert found["group_name"] == found["queue_url"] == "deployed"


def test_the_settings_fit_into_an_advanced_parameter(template: Template) -> None:
    """8 kB, with 150 characters for each value that only a deploy knows."""
    properties = the(template, "AWS::SSM::Parameter")
    parts = properties["Value"]["Fn::Join"][1]
    assert properties["Tier"] == "Advanced"
    assert sum(len(part) if isinstance(part, str) else 150 for part in parts) < 8192


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


def test_the_gateway_writes_batch_files_and_only_reads_results(template: Template) -> None:
    for statement in statements(template, "GatewayTask"):
        if "s3:PutObject" in actions(statement):
            assert "BatchesResults" not in json.dumps(statement["Resource"])


def test_the_url_is_an_output(template: Template) -> None:
    assert "DNSName" in json.dumps(template["Outputs"]["GatewayUrl"]["Value"])
