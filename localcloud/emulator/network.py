"""Parts of a VPC that ministack lacks: elastic IPs, NAT gateways, flow logs, security group rules, six zones."""

from xml.etree import ElementTree

from ministack.core.responses import get_region, new_uuid
from ministack.services import ec2
from ministack.services.cloudformation import provisioners

from localcloud.emulator.registry import Created, Properties, accepted, extend, register

ZONE_LETTERS = "abcdef"  # the catalogue's zone ids reach az6; ministack knows three


def install() -> None:
    """Register the types, the VPC attributes and the zones."""
    ec2._zone_name_for_az_id = zone_name_for_zone_id
    extend("AWS::EC2::VPC", vpc_attributes)
    register("AWS::EC2::EIP", allocate_address, release_address)
    register("AWS::EC2::NatGateway", create_nat_gateway, delete_nat_gateway)
    register("AWS::EC2::FlowLog", create_flow_log, delete_flow_log)
    for direction in ("Ingress", "Egress"):
        register_rule(direction)


def zone_name_for_zone_id(zone_id: str | None) -> str | None:
    """The zone's name in this account, us-east-1d for use1-az4; None for an id of another region."""
    names = (f"{get_region()}{letter}" for letter in ZONE_LETTERS)
    return next((name for name in names if ec2._az_id_for_zone_name(name) == zone_id), None)


def vpc_attributes(vpc_id: str, properties: Properties) -> dict[str, object]:
    """CDK asks the VPC for its address range in the security groups of interface endpoints."""
    return {"CidrBlock": ec2._vpcs[vpc_id]["CidrBlock"], "CidrBlockAssociations": []}


def allocate_address(logical_id: str, properties: Properties, stack: str) -> Created:
    """AWS::EC2::EIP: Ref is the public address."""
    body = accepted(ec2._allocate_address({"Domain": properties.get("Domain", "vpc")}))
    allocation_id, public_ip = answered(body, "allocationId"), answered(body, "publicIp")
    provisioners._ec2_apply_tags(allocation_id, properties)
    return public_ip, {"AllocationId": allocation_id, "PublicIp": public_ip}


def release_address(public_ip: str, properties: Properties) -> None:
    """Give the address back; one that is gone already is no error."""
    ids = [key for key, address in ec2._addresses.items() if address["PublicIp"] == public_ip]
    for allocation_id in ids:
        accepted(ec2._release_address({"AllocationId": allocation_id}))


def create_nat_gateway(logical_id: str, properties: Properties, stack: str) -> Created:
    """AWS::EC2::NatGateway: Ref is its id."""
    members = ("SubnetId", "AllocationId", "ConnectivityType")
    request = {name: properties[name] for name in members if name in properties}
    nat_gateway_id = answered(accepted(ec2._create_nat_gateway(request)), "natGatewayId")
    provisioners._ec2_apply_tags(nat_gateway_id, properties)
    return nat_gateway_id, {"NatGatewayId": nat_gateway_id}


def delete_nat_gateway(nat_gateway_id: str, properties: Properties) -> None:
    """Forget the gateway; AWS shows it as deleted for an hour, which nothing here reads."""
    ec2._nat_gateways.pop(nat_gateway_id, None)


def create_flow_log(logical_id: str, properties: Properties, stack: str) -> Created:
    """AWS::EC2::FlowLog: Ref is its id."""
    members = ("ResourceType", "TrafficType", "LogDestinationType", "LogDestination", "LogGroupName")
    request = {name: properties[name] for name in members if name in properties}
    body = accepted(ec2._create_flow_logs({**request, "ResourceId.1": properties["ResourceId"]}))
    flow_log_id = answered(body, "item")
    provisioners._ec2_apply_tags(flow_log_id, properties)
    return flow_log_id, {"Id": flow_log_id}


def delete_flow_log(flow_log_id: str, properties: Properties) -> None:
    """Forget the flow log."""
    ec2._flow_logs.pop(flow_log_id, None)


def answered(body: bytes, tag: str) -> str:
    """The text of the first element of that name, whatever its namespace.

    Raises:
        ValueError: there is none.
    """
    for element in ElementTree.fromstring(body).iter():
        if element.tag.rpartition("}")[2] == tag:
            return element.text or ""
    raise ValueError(f"no {tag} in the answer {body.decode()}")


def register_rule(direction: str) -> None:
    """AWS::EC2::SecurityGroupIngress or ...Egress: one more permission on an existing group."""
    permissions_key = "IpPermissions" if direction == "Ingress" else "IpPermissionsEgress"

    def create(logical_id: str, properties: Properties, stack: str) -> Created:
        group = ec2._security_groups.get(properties["GroupId"])
        if group is None:
            raise ValueError(f"The security group '{properties['GroupId']}' does not exist")
        group[permissions_key].extend(provisioners._ec2_sg_permissions([properties]))
        rule_id = f"sgr-{new_uuid().replace('-', '')[:17]}"
        return rule_id, {"Id": rule_id}

    def delete(rule_id: str, properties: Properties) -> None:
        group = ec2._security_groups.get(properties["GroupId"])
        if group is None:
            return
        (permission,) = provisioners._ec2_sg_permissions([properties])
        if permission in group[permissions_key]:
            group[permissions_key].remove(permission)

    register(f"AWS::EC2::SecurityGroup{direction}", create, delete)
