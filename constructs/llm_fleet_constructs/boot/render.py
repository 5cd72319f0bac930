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
UNITS = ("llm-disk.service", "llm-image.service", "llm-weights.service", "llm-engine@.service", "llm-ready.service")
"""On every instance."""
UNITS_OF_A_WORKER = ("llm-worker.service", "llm-unhealthy.service")
"""Where there is a worker image: the worker completes both hooks, and drains."""
UNITS_WITHOUT_WORKER = ("llm-leave.service",)
"""Where there is none: the instance's own code completes the hooks, and drains the engines."""
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


def render_units(pool: PoolPlan, worker_image: str | None = None) -> dict[str, str]:
    """The systemd units by file name."""
    stop = StopTimes.within_hook(pool.scaling.drain_seconds)
    values = {"container_stop_s": stop.container_s, "unit_stop_s": stop.unit_s, "worker_image": worker_image}
    names = UNITS + (UNITS_OF_A_WORKER if worker_image else UNITS_WITHOUT_WORKER)
    templates = environment()
    return {name: templates.get_template(f"{name}.j2").render(values) for name in names}


def render_user_data(
    pool: PoolPlan,
    *,
    region: str,
    settings_json: str,
    log_group: str,
    bundle: Bundle,
    worker_image: str | None = None,
) -> str:
    """The first-boot script. `worker_image` must be the settings' own."""
    templates = environment()
    units = render_units(pool, worker_image)
    agent = templates.get_template("cloudwatch_agent.json.j2").render(log_group=log_group, pool=pool.role, units=units)
    return templates.get_template("user_data.sh.j2").render(
        pool=pool.role,
        region=region,
        launch_hook=LAUNCH_HOOK,
        settings_json=settings_json,
        agent_json=agent,
        units=units,
        worker=worker_image is not None,
        bundle_bucket=bundle.bucket,
        bundle_key=bundle.key,
    )
