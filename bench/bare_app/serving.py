"""The pool, the gateway and what watches them."""

from __future__ import annotations

from aws_cdk import CfnOutput, Environment, Stack
from constructs import Construct

from bench.bare_app.fallback import Fallback
from bench.bare_app.foundation import FoundationStack
from bench.bare_app.gateway import Gateway
from bench.bare_app.pool import Pool
from bench.bare_app.watching import Watching


class ServingStack(Stack):
    """What is replaced at will."""

    def __init__(self, scope: Construct, foundation: FoundationStack) -> None:
        super().__init__(
            scope,
            "startup-mvp",
            env=Environment(region="us-east-1"),
            description="LLM fleet startup-mvp: one pool for a first product, an on-demand instance and spot above it.",
        )
        pool = Pool(self, foundation)
        gateway = Gateway(self, foundation, pool)
        fallback = Fallback(self, foundation, pool)
        Watching(self, foundation, pool, gateway, fallback)
        CfnOutput(self, "GatewayUrl", value=gateway.url, description="Base URL for OpenAI clients")
        CfnOutput(self, "ApiKeysTable", value=foundation.key_table.table_name)
        CfnOutput(self, "CostEfficientGroup", value=pool.group.auto_scaling_group_name)
        CfnOutput(self, "CostEfficientQueue", value=pool.queue.queue_url)
