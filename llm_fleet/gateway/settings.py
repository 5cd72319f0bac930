"""The settings document of the gateway: written by the CDK, read once at start."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_fleet.errors import InputError, Problem
from llm_fleet.settings_document import parse_document

VERSION = 2
VARIABLE = "LLM_FLEET_SETTINGS"
"""Environment variable that holds the document."""

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """Base: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PoolSettings(Part):
    """A pool, as far as the gateway needs to know it."""

    queue_url: str
    dead_letter_queue_url: str
    group_name: str
    fallback: tuple[str, ...]
    served_model_name: str
    max_model_len_tokens: Count
    expected_output_tokens: Count = Field(description="of a request that sets no maximum")
    engine_keep_alive_seconds: Count = Field(description="after which an engine closes an idle connection")
    units_per_instance: Count
    max_units: Count
    launch_hook_seconds: Count = Field(description="what a boot may take: Retry-After of an empty pool comes from it")
    usd_per_million_output_tokens: float | None


class ExchangeLimits(Part):
    """How long a request may take to an engine and back, in seconds. The stack leaves all of it at the defaults."""

    wait_s: Seconds = Field(default=30, description="for a place, while the pool's engines are all taken")
    flex_wait_s: Seconds = Field(
        default=600,
        description="for a place, by requests that asked to be served when it suits; also while an empty pool is woken",
    )
    head_s: Seconds = Field(
        default=600,
        description="to the first byte of an answer: a long completion that is not streamed takes all that time",
    )
    silence_s: Seconds = Field(default=120, description="between two pieces of an answer")
    comment_s: Seconds = Field(default=15, description="between signs of life in a stream that is silent")


class GatewaySettings(Part):
    """The whole document."""

    version: Literal[2]
    pattern: str
    region: str
    metrics_namespace: str
    registry_table: str
    batch_table: str
    keys_table: str
    batch_files_bucket: str
    batch_results_bucket: str
    routes: dict[str, str] = Field(description="role asked for -> pool that takes it")
    pools: Annotated[dict[str, PoolSettings], Field(min_length=1)]
    exchange: ExchangeLimits = ExchangeLimits()

    def chains(self) -> dict[str, tuple[str, ...]]:
        """For each role, the pools that take over when its own cannot, in order."""
        declared = {name: pool.fallback for name, pool in self.pools.items()}
        missing = {role: (name, *self.pools[name].fallback) for role, name in self.routes.items()}
        return missing | declared

    @model_validator(mode="after")
    def _roles_exist(self) -> GatewaySettings:
        for role, pool in self.routes.items():
            if pool not in self.pools:
                raise ValueError(f"routes.{role} names the pool {pool!r}, and there are {', '.join(self.pools)}")
        return self


def parse_settings(text: str | None, where: str = VARIABLE) -> GatewaySettings:
    """The document, typed.

    Raises:
        InputError: it is missing, no JSON, of another version, or contradicts itself; each problem with its key.
    """
    if not text:
        fix = "the stack hands it to its tasks; on a laptop start `llm-fleet dev`"
        raise InputError(Problem(where, f"no settings document; {fix}"))
    return parse_document(GatewaySettings, text, where, VERSION)
