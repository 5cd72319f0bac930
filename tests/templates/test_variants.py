"""Deployments that no shipped pattern asks for: public, in an existing VPC, without internet, with an own AMI, without
an image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import pytest

from app import use_packaged_node
from llm_fleet.planning import FleetPlan, plan_fleet
from llm_fleet.planning.plan import Deployment
from tests.templates.assembly import Assembly, flags
from tests.templates.reading import everything_in, of_type, pulled_from, the

CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
GATEWAY_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/gateway:1"
ENGINE_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mirror/vllm:v0.33.0"
AMI = "ami-0123456789abcdef0"


def deployed_with(name: str, change: Callable[[Deployment], Deployment]) -> FleetPlan:
    """startup-mvp under another name, deployed differently."""
    plan = plan_fleet("startup-mvp")
    return plan.model_copy(update={"pattern": name, "deployment": change(plan.deployment)})


def public(deployment: Deployment) -> Deployment:
    update = {"public": True, "certificate_arn": CERTIFICATE, "image": GATEWAY_IMAGE, "min_tasks": 3}
    gateway = deployment.gateway.model_copy(update=update)
    return deployment.model_copy(update={"gateway": gateway, "alarm_email": "oncall@example.com"})


def in_an_existing_vpc(deployment: Deployment) -> Deployment:
    private = {zone: f"subnet-{index:08x}" for index, zone in enumerate(deployment.zone_ids)}
    update = {"vpc_id": "vpc-01234567", "vpc_cidr": "10.20.0.0/16", "private_subnet_ids": private}
    return deployment.model_copy(update={"network": deployment.network.model_copy(update=update)})


def without_internet(deployment: Deployment) -> Deployment:
    return deployment.model_copy(update={"network": deployment.network.model_copy(update={"nat_gateways": 0})})


def without_an_image(deployment: Deployment) -> Deployment:
    return deployment.model_copy(update={"gateway": deployment.gateway.model_copy(update={"image": "none"})})


def on_arm(deployment: Deployment) -> Deployment:
    return deployment.model_copy(update={"gateway": deployment.gateway.model_copy(update={"architecture": "arm64"})})


def with_an_own_ami_and_registry() -> FleetPlan:
    plan = plan_fleet("startup-mvp")
    pool = plan.pools[0]
    engine = pool.engine.model_copy(update={"ami_id": AMI, "image": ENGINE_IMAGE})
    return plan.model_copy(update={"pattern": "own-ami", "pools": (pool.model_copy(update={"engine": engine}),)})


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Assembly:
    """All of them in one app, with cdk-nag."""
    use_packaged_node(os.environ)
    from stacks.fleet_app import build_app, synthesize

    plans = [
        deployed_with("public", public),
        deployed_with("existing-vpc", in_an_existing_vpc),
        deployed_with("no-internet", without_internet),
        with_an_own_ami_and_registry(),
        deployed_with("no-image", without_an_image),
        deployed_with("arm", on_arm),
    ]
    folder = tmp_path_factory.mktemp("variants")
    try:
        synthesize(build_app(plans, context=flags(), outdir=str(folder)), plans)
    except RuntimeError as error:
        if "ValidationFailed" not in str(error):
            raise
    return Assembly(folder)


def test_cdk_nag_finds_nothing_in_them_either(variants: Assembly) -> None:
    assert variants.violations() == []


def test_a_public_gateway_speaks_tls_and_sends_plain_http_there(variants: Assembly) -> None:
    template = variants.template("public")
    listeners = {item["Port"]: item for item in of_type(template, "AWS::ElasticLoadBalancingV2::Listener").values()}
    assert the(template, "AWS::ElasticLoadBalancingV2::LoadBalancer")["Scheme"] == "internet-facing"
    assert listeners[443]["Certificates"] == [{"CertificateArn": CERTIFICATE}]
    assert listeners[80]["DefaultActions"][0]["RedirectConfig"]["Protocol"] == "HTTPS"
    assert template["Outputs"]["GatewayUrl"]["Value"]["Fn::Join"][1][0] == "https://"


def test_a_given_image_runs_the_plans_tasks_and_is_watched(variants: Assembly) -> None:
    template = variants.template("public")
    assert "GatewayImage" not in template.get("Parameters", {})
    assert the(template, "AWS::ECS::TaskDefinition")["ContainerDefinitions"][0]["Image"] == GATEWAY_IMAGE
    assert the(template, "AWS::ApplicationAutoScaling::ScalableTarget")["MinCapacity"] == 3
    assert len(of_type(template, "AWS::CloudWatch::Alarm", "GatewayAlarmsDown")) == 1


def test_a_given_image_in_an_accounts_registry_may_be_pulled_by_tasks_and_instances(variants: Assembly) -> None:
    template = variants.template("public")
    for prefix in ("GatewayTaskExecutionRole", "CostEfficientRole"):
        assert pulled_from(template, prefix) == ["arn:aws:ecr:us-east-1:123456789012:repository/gateway"]


def test_without_an_image_the_template_asks_for_one_and_runs_no_task(variants: Assembly) -> None:
    template, gateway = variants.template("no-image"), plan_fleet("startup-mvp").deployment.gateway
    assert template["Parameters"]["GatewayImage"]["Default"] == "none"
    condition = next(name for name in template["Conditions"] if name.startswith("GatewayImageGiven"))
    (container,) = the(template, "AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    assert container["Image"] == {"Ref": "GatewayImage"}
    assert the(template, "AWS::ECS::Service")["DesiredCount"]["Fn::If"] == [condition, gateway.min_tasks, 0]
    target = the(template, "AWS::ApplicationAutoScaling::ScalableTarget")
    assert target["MinCapacity"]["Fn::If"] == [condition, gateway.min_tasks, 0]
    assert target["MaxCapacity"]["Fn::If"] == [condition, gateway.max_tasks, 0]


def test_without_an_image_no_container_engine_is_needed_to_deploy(variants: Assembly) -> None:
    assets = json.loads((variants.folder / "no-image.assets.json").read_text())
    assert not assets.get("dockerImages")
    assert not any("ecr:" in str(value) for value in everything_in(variants.template("no-image")))


def test_without_an_image_instances_run_no_worker(variants: Assembly) -> None:
    data = the(variants.template("no-image"), "AWS::EC2::LaunchTemplate")["LaunchTemplateData"]
    assert "llm_fleet.worker" not in json.dumps(data["UserData"])


def test_tasks_on_arm_get_an_image_built_for_arm(variants: Assembly) -> None:
    assets = json.loads((variants.folder / "arm.assets.json").read_text())
    platforms = {image["source"]["platform"]: key for key, image in assets["dockerImages"].items()}
    task = the(variants.template("arm"), "AWS::ECS::TaskDefinition")
    assert task["RuntimePlatform"]["CpuArchitecture"] == "ARM64"
    assert platforms["linux/arm64"] in json.dumps(task["ContainerDefinitions"][0]["Image"])


def test_an_email_hears_of_alarms(variants: Assembly) -> None:
    subscription = the(variants.template("public"), "AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "oncall@example.com")


def test_an_existing_vpc_is_used_by_its_ids_and_nothing_is_built_in_it(variants: Assembly) -> None:
    foundation, serving = variants.template("existing-vpc-foundation"), variants.template("existing-vpc")
    kinds = {resource["Type"] for resource in foundation["Resources"].values()}
    assert not kinds & {"AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::NatGateway", "AWS::EC2::VPCEndpoint"}
    subnets = the(serving, "AWS::AutoScaling::AutoScalingGroup")["VPCZoneIdentifier"]
    assert all(subnet.startswith("subnet-") for subnet in subnets)
    (rule,) = the(serving, "AWS::EC2::SecurityGroup", "GatewayLoadBalancer")["SecurityGroupIngress"]
    assert rule["CidrIp"] == "10.20.0.0/16"


def test_without_internet_there_is_no_way_out_but_an_endpoint_for_every_service(variants: Assembly) -> None:
    template = variants.template("no-internet-foundation")
    endpoints = of_type(template, "AWS::EC2::VPCEndpoint").values()
    services = json.dumps([item["ServiceName"] for item in endpoints if item["VpcEndpointType"] == "Interface"])
    assert not of_type(template, "AWS::EC2::NatGateway")
    assert all(name in services for name in (".sqs", ".ssm", ".logs", ".ecr.dkr", ".autoscaling", ".secretsmanager"))


def test_an_own_ami_wins_over_the_parameter(variants: Assembly) -> None:
    template = variants.template("own-ami")
    assert the(template, "AWS::EC2::LaunchTemplate")["LaunchTemplateData"]["ImageId"] == AMI
    assert not any("Image::Id" in str(value) for value in everything_in(template.get("Parameters", {})))


def test_an_engine_from_an_accounts_registry_may_be_pulled_from_that_repository_only(variants: Assembly) -> None:
    engine, worker = pulled_from(variants.template("own-ami"), "CostEfficientRole")
    assert engine == "arn:aws:ecr:us-east-1:123456789012:repository/mirror/vllm"
    assert "cdk-hnb659fds-container-assets" in json.dumps(worker)


def test_an_engine_from_a_public_registry_needs_no_leave_to_pull(variants: Assembly) -> None:
    assert pulled_from(variants.template("no-image"), "CostEfficientRole") == []
