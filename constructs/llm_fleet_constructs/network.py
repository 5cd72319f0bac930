"""The VPC that the fleet runs in: a new one, placed by zone ids, or an existing one by its ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from constructs import Construct

from llm_fleet_constructs.acknowledgements import acknowledge
from llm_fleet_constructs.escape_hatches import place_subnet_in_zone_id

SERVICES_WITHOUT_INTERNET = (
    "autoscaling",
    "ecr.api",
    "ecr.dkr",
    "ec2messages",
    "kms",
    "logs",
    "monitoring",
    "secretsmanager",
    "sqs",
    "ssm",
    "ssmmessages",
)
"""What instances and gateway tasks call. ECR's layers come from S3, through the gateway endpoint."""

VPC_INGRESS = "Callers come from the VPC's own address range, which the rule cannot read before the VPC exists"


@dataclass(frozen=True)
class ExistingVpc:
    """A VPC that somebody else owns, by its ids: synth never looks anything up."""

    vpc_id: str
    """vpc-..."""
    cidr: str
    """Its address range: clients of an internal gateway come from it."""
    private_subnet_ids: Mapping[str, str]
    """Zone id -> subnet with a way out (NAT, or the endpoints of SERVICES_WITHOUT_INTERNET)."""
    public_subnet_ids: Mapping[str, str]
    """Zone id -> subnet with an internet gateway. Needed for a public gateway only."""


@dataclass(frozen=True)
class FleetNetworkProps:
    """Of FleetNetwork."""

    zone_ids: Sequence[str]
    """Zones of a new VPC, in order: a zone inserted before others would move their subnets."""
    nat_gateways: int = 1
    """Default one: a lost zone then costs egress (first downloads, control calls), not serving. 0: no internet at
    all; the services in SERVICES_WITHOUT_INTERNET get interface endpoints, weights must be filled beforehand and
    images lie in ECR."""
    flow_log_group: logs.LogGroup | None = None
    """Where the new VPC's flow logs go. Default: none are kept."""
    existing: ExistingVpc | None = None
    """Take this one. Default: make one."""


class FleetNetwork(Construct):
    """Private subnets for instances and gateway, public ones for NAT and a public load balancer.

    Smallest use:

        network = FleetNetwork(self, "Network", FleetNetworkProps(zone_ids=["use1-az1", "use1-az2"]))
        AutoScalingGroup(self, "Group", vpc=network.vpc, vpc_subnets=network.private_subnets(["use1-az1"]), ...)

    Gateway endpoints for S3 (weights, image layers, batch files: nearly all bytes) and DynamoDB cost nothing.
    Interface endpoints are billed by the hour in every zone; beside a NAT gateway, which the first download of
    weights and public images need anyway, they would only carry small control calls. So there are none, unless the
    network has no NAT gateway: then they are the only way out.
    """

    def __init__(self, scope: Construct, id: str, props: FleetNetworkProps) -> None:
        super().__init__(scope, id)
        if props.existing:
            self._take(props.existing)
        else:
            self._make(props)

    def _take(self, existing: ExistingVpc) -> None:
        zones, public_zones = list(existing.private_subnet_ids), list(existing.public_subnet_ids)
        self.cidr = existing.cidr
        self.vpc: ec2.IVpc = ec2.Vpc.from_vpc_attributes(
            self, "Vpc", vpc_id=existing.vpc_id, availability_zones=zones, vpc_cidr_block=existing.cidr
        )
        self._private = {
            zone: self._imported(f"Private{zone}", existing.private_subnet_ids[zone], zone) for zone in zones
        }
        self._public = {
            zone: self._imported(f"Public{zone}", existing.public_subnet_ids[zone], zone) for zone in public_zones
        }

    def _imported(self, id: str, subnet_id: str, zone_id: str) -> ec2.ISubnet:
        return ec2.Subnet.from_subnet_attributes(self, id, subnet_id=subnet_id, availability_zone=zone_id)

    def _make(self, props: FleetNetworkProps) -> None:
        isolated = props.nat_gateways == 0
        private = ec2.SubnetType.PRIVATE_ISOLATED if isolated else ec2.SubnetType.PRIVATE_WITH_EGRESS
        vpc = ec2.Vpc(
            self,
            "Vpc",
            availability_zones=list(props.zone_ids),
            nat_gateways=props.nat_gateways,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Public", subnet_type=ec2.SubnetType.PUBLIC, map_public_ip_on_launch=False, cidr_mask=24
                ),
                ec2.SubnetConfiguration(name="Private", subnet_type=private, cidr_mask=20),
            ],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3),
                "DynamoDb": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.DYNAMODB),
            },
        )
        if props.flow_log_group:
            vpc.add_flow_log("FlowLog", destination=ec2.FlowLogDestination.to_cloud_watch_logs(props.flow_log_group))
        private_subnets = vpc.isolated_subnets if isolated else vpc.private_subnets
        self.vpc = vpc
        self.cidr = vpc.vpc_cidr_block
        self._private = dict(zip(props.zone_ids, private_subnets, strict=True))
        self._public = dict(zip(props.zone_ids, vpc.public_subnets, strict=True))
        for zone_id in props.zone_ids:
            place_subnet_in_zone_id(self._private[zone_id], zone_id)
            place_subnet_in_zone_id(self._public[zone_id], zone_id)
        if isolated:
            self._reach_services_without_internet(vpc)

    def _reach_services_without_internet(self, vpc: ec2.Vpc) -> None:
        subnets = ec2.SubnetSelection(subnets=list(self._private.values()))
        guard = ec2.SecurityGroup(
            self, "Endpoints", vpc=vpc, description="Endpoints of services", allow_all_outbound=False
        )
        guard.add_ingress_rule(ec2.Peer.ipv4(vpc.vpc_cidr_block), ec2.Port.tcp(443), "From the VPC")
        acknowledge(guard, "AwsSolutions-EC23", VPC_INGRESS)
        for name in SERVICES_WITHOUT_INTERNET:
            vpc.add_interface_endpoint(
                f"Endpoint-{name}",
                service=ec2.InterfaceVpcEndpointAwsService(name),
                subnets=subnets,
                security_groups=[guard],
                open=False,
            )

    @property
    def zone_ids(self) -> tuple[str, ...]:
        """Zones with a private subnet."""
        return tuple(self._private)

    @property
    def public_zone_ids(self) -> tuple[str, ...]:
        """Zones with a public subnet."""
        return tuple(self._public)

    def private_subnets(self, zone_ids: Sequence[str]) -> ec2.SubnetSelection:
        """The private subnets of these zones.

        Raises:
            ValueError: none of the zones has one.
        """
        return _select(self._private, zone_ids, "private")

    def public_subnets(self, zone_ids: Sequence[str]) -> ec2.SubnetSelection:
        """The public subnets of these zones.

        Raises:
            ValueError: none of the zones has one.
        """
        return _select(self._public, zone_ids, "public")


def _select(subnets: Mapping[str, ec2.ISubnet], zone_ids: Sequence[str], kind: str) -> ec2.SubnetSelection:
    chosen = [subnets[zone] for zone in zone_ids if zone in subnets]
    if not chosen:
        known = ", ".join(subnets) or "none"
        raise ValueError(f"no {kind} subnet in the zones {', '.join(zone_ids)}; zones with one: {known}")
    return ec2.SubnetSelection(subnets=chosen)
