"""What must outlive every redeploy is encrypted, kept and reachable without the internet where that is free."""

from __future__ import annotations

import json

import pytest

from llm_fleet.patterns import pattern_names
from llm_fleet.planning import plan_fleet
from tests.templates.assembly import Assembly, Template
from tests.templates.reading import everything_in, of_type, the

KEPT = ("AWS::S3::Bucket", "AWS::DynamoDB::GlobalTable", "AWS::KMS::Key", "AWS::Logs::LogGroup")


@pytest.fixture(params=pattern_names())
def pattern(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def template(pattern: str, assembly: Assembly) -> Template:
    return assembly.template(f"{pattern}-foundation")


def bucket(template: Template, prefix: str) -> dict[str, object]:
    return the(template, "AWS::S3::Bucket", prefix)


@pytest.mark.parametrize("kind", KEPT)
def test_what_holds_data_is_kept_when_the_stack_goes(kind: str, template: Template) -> None:
    found = [resource for resource in template["Resources"].values() if resource["Type"] == kind]
    assert found
    for resource in found:
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_key_rotates(template: Template) -> None:
    assert the(template, "AWS::KMS::Key")["EnableKeyRotation"] is True


@pytest.mark.parametrize("prefix", ["Weights", "BatchesFiles", "BatchesResults"])
def test_buckets_with_data_are_encrypted_by_the_fleets_key_and_log_their_accesses(
    prefix: str, template: Template
) -> None:
    properties = the(template, "AWS::S3::Bucket", prefix)
    (rule,) = properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert rule["BucketKeyEnabled"] is True
    assert properties["LoggingConfiguration"]["DestinationBucketName"]["Ref"].startswith("AccessLogs")


def test_every_bucket_is_private_refuses_plain_http_and_drops_half_uploads_after_a_day(template: Template) -> None:
    policies = of_type(template, "AWS::S3::BucketPolicy").values()
    refusing = {
        policy["Bucket"]["Ref"]
        for policy in policies
        if any(
            statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            for statement in policy["PolicyDocument"]["Statement"]
        )
    }
    for logical_id, properties in of_type(template, "AWS::S3::Bucket").items():
        assert logical_id in refusing
        assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
        rules = properties["LifecycleConfiguration"]["Rules"]
        assert any(
            rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation") == 1
            and rule["Status"] == "Enabled"
            for rule in rules
        )


def test_batch_files_are_versioned_and_weights_are_not(template: Template) -> None:
    assert the(template, "AWS::S3::Bucket", "BatchesFiles")["VersioningConfiguration"] == {"Status": "Enabled"}
    assert "VersioningConfiguration" not in the(template, "AWS::S3::Bucket", "Weights")


def test_weights_never_expire_and_batches_do(template: Template) -> None:
    weights = the(template, "AWS::S3::Bucket", "Weights")["LifecycleConfiguration"]["Rules"]
    assert not any("ExpirationInDays" in rule for rule in weights)
    for prefix in ("BatchesFiles", "BatchesResults"):
        rules = the(template, "AWS::S3::Bucket", prefix)["LifecycleConfiguration"]["Rules"]
        assert any("ExpirationInDays" in rule for rule in rules)


def test_tables_recover_to_a_point_and_refuse_deletion(template: Template) -> None:
    tables = of_type(template, "AWS::DynamoDB::GlobalTable").values()
    assert len(tables) == 3
    for properties in tables:
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        (replica,) = properties["Replicas"]
        assert replica["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert replica["DeletionProtectionEnabled"] is True
        assert properties["SSESpecification"]["SSEType"] == "KMS"


@pytest.mark.parametrize("prefix", ["Batches", "Workers"])
def test_batches_and_workers_expire(prefix: str, template: Template) -> None:
    expiry = the(template, "AWS::DynamoDB::GlobalTable", prefix)["TimeToLiveSpecification"]
    assert expiry == {"AttributeName": "expires_at", "Enabled": True}


def test_api_keys_are_found_by_their_id_and_never_expire(template: Template) -> None:
    properties = the(template, "AWS::DynamoDB::GlobalTable", "ApiKeys")
    assert properties["KeySchema"] == [{"AttributeName": "key_id", "KeyType": "HASH"}]
    assert properties["AttributeDefinitions"] == [{"AttributeName": "key_id", "AttributeType": "S"}]
    assert "TimeToLiveSpecification" not in properties


def test_workers_are_found_by_pool(template: Template) -> None:
    keys = the(template, "AWS::DynamoDB::GlobalTable", "Workers")["KeySchema"]
    assert [key["AttributeName"] for key in keys] == ["pool", "worker_id"]


def test_log_groups_are_encrypted_and_end(template: Template) -> None:
    for properties in of_type(template, "AWS::Logs::LogGroup").values():
        assert "KmsKeyId" in properties
        assert properties["RetentionInDays"] > 0


def test_subnets_are_placed_by_zone_id_and_never_by_name(pattern: str, template: Template) -> None:
    """use1-az1 is one place for everybody; us-east-1a is another in each account."""
    subnets = of_type(template, "AWS::EC2::Subnet").values()
    zones = plan_fleet(pattern).deployment.zone_ids
    assert sorted(subnet["AvailabilityZoneId"] for subnet in subnets) == sorted(2 * zones)
    assert not any("AvailabilityZone" in subnet or subnet.get("MapPublicIpOnLaunch") for subnet in subnets)


def test_endpoints_are_the_free_ones(template: Template) -> None:
    endpoints = of_type(template, "AWS::EC2::VPCEndpoint").values()
    assert {endpoint["VpcEndpointType"] for endpoint in endpoints} == {"Gateway"}
    services = json.dumps([endpoint["ServiceName"] for endpoint in endpoints])
    assert ".s3" in services
    assert ".dynamodb" in services


def test_the_vpc_writes_flow_logs_and_empties_its_default_security_group(template: Template) -> None:
    assert the(template, "AWS::EC2::FlowLog")["TrafficType"] == "ALL"
    assert of_type(template, "Custom::VpcRestrictDefaultSG")


def test_the_foundation_knows_nothing_of_what_serves(pattern: str, template: Template) -> None:
    assert not any(isinstance(value, dict) and "Fn::GetStackOutput" in value for value in everything_in(template))
    assert not any("Fn::ImportValue" in value for value in everything_in(template) if isinstance(value, dict))


def test_references_into_the_foundation_are_weak(pattern: str, assembly: Assembly) -> None:
    """An export could not change while it is in use."""
    foundation, serving = assembly.template(f"{pattern}-foundation"), assembly.template(pattern)
    assert not any("Export" in output for output in foundation["Outputs"].values())
    found = [value for value in everything_in(serving) if isinstance(value, dict) and "Fn::GetStackOutput" in value]
    assert found
    assert {value["Fn::GetStackOutput"]["StackName"] for value in found} == {f"{pattern}-foundation"}
    assert {value["Fn::GetStackOutput"]["OutputName"] for value in found} <= set(foundation["Outputs"])
