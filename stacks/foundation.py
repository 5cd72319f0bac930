"""The long-lived stack of a pattern: what must outlive every redeploy of what serves."""

from __future__ import annotations

from aws_cdk import Environment, RemovalPolicy, Stack
from aws_cdk import aws_logs as logs
from constructs import Construct

from llm_fleet.planning.plan import FleetPlan, Network
from llm_fleet_constructs.access_logs import AccessLogs, AccessLogsProps
from llm_fleet_constructs.api_keys import ApiKeys, ApiKeysProps
from llm_fleet_constructs.batch_store import BatchStore, BatchStoreProps
from llm_fleet_constructs.data_key import DataKey
from llm_fleet_constructs.network import ExistingVpc, FleetNetwork, FleetNetworkProps
from llm_fleet_constructs.weights_cache import WeightsCache, WeightsCacheProps
from llm_fleet_constructs.worker_registry import WorkerRegistry, WorkerRegistryProps


class FoundationStack(Stack):
    """Network, key, buckets, tables and log groups of a pattern; its id is `<pattern>-foundation`.

    Bound to the plan's region (its zones, prices and offers hold nowhere else) and to no account.
    """

    def __init__(self, scope: Construct, plan: FleetPlan) -> None:
        super().__init__(
            scope,
            f"{plan.pattern}-foundation",
            env=Environment(region=plan.region),
            description=f"LLM fleet {plan.pattern}: network, key, buckets, tables, logs. Kept when deleted.",
        )
        self.key = DataKey(self, "Key").key
        self.instance_log = self._log("InstanceLog")
        self.gateway_log = self._log("GatewayLog")
        self.network = self._network(plan)
        self.access_logs = AccessLogs(self, "AccessLogs", AccessLogsProps())
        self.weights = WeightsCache(
            self, "Weights", WeightsCacheProps(key=self.key, access_logs=self.access_logs.bucket)
        )
        self.batches = BatchStore(self, "Batches", BatchStoreProps(key=self.key, access_logs=self.access_logs.bucket))
        self.registry = WorkerRegistry(self, "Workers", WorkerRegistryProps(key=self.key))
        self.api_keys = ApiKeys(self, "ApiKeys", ApiKeysProps(key=self.key))

    def _network(self, plan: FleetPlan) -> FleetNetwork:
        network = plan.deployment.network
        if network.vpc_id:
            return FleetNetwork(self, "Network", FleetNetworkProps(zone_ids=(), existing=_existing(network)))
        props = FleetNetworkProps(
            zone_ids=plan.deployment.zone_ids, nat_gateways=network.nat_gateways, flow_log_group=self._log("FlowLog")
        )
        return FleetNetwork(self, "Network", props)

    def _log(self, id: str) -> logs.LogGroup:
        return logs.LogGroup(
            self,
            id,
            encryption_key=self.key,
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.RETAIN,
        )


def _existing(network: Network) -> ExistingVpc:
    if not network.vpc_id or not network.vpc_cidr:
        raise ValueError("an existing VPC needs vpc_id and vpc_cidr")
    return ExistingVpc(
        vpc_id=network.vpc_id,
        cidr=network.vpc_cidr,
        private_subnet_ids=network.private_subnet_ids,
        public_subnet_ids=network.public_subnet_ids,
    )
