"""The worker's view of the pool's settings document, which the CDK wrote. Keys that it does not need are ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_fleet.errors import InputError, Problem
from llm_fleet.registry import REFRESH_S
from llm_fleet.settings_document import parse_document

VERSION = 1
"""Of the document. The instance's own code reads the same one."""
DEFAULT_PATH = "/etc/llm-fleet/settings.json"

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    """Base: frozen; the document has more readers, so unknown keys are theirs."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class HookSettings(Part):
    """Names of the group's lifecycle hooks."""

    launch: str
    terminate: str
    drain_seconds: Count = Field(description="what running requests get when the instance leaves")


class EngineSettings(Part):
    """Where the engines listen: the first replica on `port`, the others on the ports after it."""

    port: Annotated[int, Field(ge=1, le=65535)]


class ModelSettings(Part):
    """What the engines serve."""

    served_model_name: str


class InstanceTypeSettings(Part):
    """What an instance type runs."""

    replicas: Count
    max_num_seqs: Count = Field(description="requests that one replica runs at once")
    capacity_weight: Count


class Times(Part):
    """How long and how often, in seconds. The stack leaves all of it at the defaults."""

    answer_timeout_s: Seconds = Field(default=1800, description="until an engine must have answered a line")
    poll_wait_s: Annotated[int, Field(ge=0, le=20)] = Field(
        default=5, description="of a long poll; a drain waits for the one under way, so not SQS's 20"
    )
    look_s: Seconds = Field(default=1, description="between looks at an engine's queue")
    probe_after_s: Seconds = Field(default=30, description="without an answer until an engine must generate a token")
    probe_timeout_s: Seconds = Field(default=60, description="for that token")
    unhealthy_after_s: Seconds = Field(default=300, description="without a token until the group replaces the instance")
    register_s: Seconds = Field(default=REFRESH_S, description="between writes of the registry entry")
    metadata_s: Seconds = Field(default=2, description="between looks at the metadata service")
    publish_s: Seconds = Field(default=30, description="between metrics")
    status_cache_s: Seconds = Field(default=3, description="that a batch's status may be old")
    retry_delay_s: Seconds = Field(default=5, description="until a line is tried again, doubled each time")
    record_retry_s: Seconds = Field(
        default=60, description="that a result waits for S3 and DynamoDB before the line goes back"
    )
    spot_budget_s: Seconds = Field(default=100, description="of the two minutes that a spot notice leaves")
    linger_s: Seconds = Field(
        default=2 * REFRESH_S + 2,
        description="a leaving instance waits, so that every gateway task has read that it drains",
    )


class WorkerSettings(Part):
    """The document."""

    version: Literal[1]
    pattern: str
    pool: str
    region: str
    queue_url: str
    dead_letter_queue_url: str
    registry_table: str
    batch_table: str
    batch_files_bucket: str
    batch_results_bucket: str
    metrics_namespace: str = "LlmFleet"
    hooks: HookSettings
    engine: EngineSettings
    model: ModelSettings
    instance_types: dict[str, InstanceTypeSettings]
    worker: Times = Times()

    def plan_for(self, instance_type: str) -> InstanceTypeSettings:
        """What this type runs.

        Raises:
            InputError: the document does not know the type.
        """
        if instance_type not in self.instance_types:
            known = ", ".join(sorted(self.instance_types))
            raise InputError(Problem("instance type", "the settings have no serving plan", repr(instance_type), known))
        return self.instance_types[instance_type]


def load_settings(path: Path) -> WorkerSettings:
    """Read the document.

    Raises:
        InputError: it cannot be read, is no JSON, of another version, or lacks something; each problem with its key.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        fix = "the instance's user data writes it; elsewhere name another with --settings"
        raise InputError(Problem(str(path), f"cannot be read ({error.strerror}): {fix}")) from error
    return parse_document(WorkerSettings, text, str(path), VERSION)
