"""Renders user data: jinja2 with StrictUndefined, so that a name nobody gave stops synthesis instead of booting an
empty string.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2

from llm_fleet.planning.plan import PoolPlan
from llm_fleet_constructs.boot.settings import LAUNCH_HOOK, StopTimes

TEMPLATES = Path(__file__).parent / "templates"
ON_INSTANCE = Path(__file__).parent.parent / "on_instance"
"""The folder that instances unpack to /opt/llm-fleet/on_instance."""
UNITS = (
    "llm-disk.service",
    "llm-image.service",
    "llm-weights.service",
    "llm-engine@.service",
    "llm-ready.service",
    "llm-leave.service",
)
LARGEST_USER_DATA_BYTES = 16384
"""EC2's limit, before base64."""


@dataclass(frozen=True)
class Bundle:
    """The uploaded `on_instance` folder."""

    bucket: str
    """Bucket's name."""
    key: str
    """Object's key."""


def environment() -> jinja2.Environment:
    """Plain text, no escaping: shell, JSON and unit files quote by their own rules, and every value is a name of
    ours.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_units(pool: PoolPlan) -> dict[str, str]:
    """The systemd units by file name."""
    stop = StopTimes.within_hook(pool.scaling.drain_seconds)
    values = {"container_stop_s": stop.container_s, "unit_stop_s": stop.unit_s}
    templates = environment()
    return {name: templates.get_template(f"{name}.j2").render(values) for name in UNITS}


def render_user_data(pool: PoolPlan, *, region: str, settings_json: str, log_group: str, bundle: Bundle) -> str:
    """The first-boot script."""
    templates = environment()
    agent = templates.get_template("cloudwatch_agent.json.j2").render(log_group=log_group, pool=pool.role)
    return templates.get_template("user_data.sh.j2").render(
        pool=pool.role,
        region=region,
        launch_hook=LAUNCH_HOOK,
        settings_json=settings_json,
        agent_json=agent,
        units=render_units(pool),
        bundle_bucket=bundle.bucket,
        bundle_key=bundle.key,
    )
