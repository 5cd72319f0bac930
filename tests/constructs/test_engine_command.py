"""The command of one engine replica."""

from __future__ import annotations

from llm_fleet_constructs.on_instance.engine import engine_command
from llm_fleet_constructs.on_instance.settings import Settings
from tests.constructs.conftest import settings_document, settings_of


def command_options(command: list[str], name: str) -> list[str]:
    return [command[index + 1] for index, word in enumerate(command) if word == name]


def test_each_replica_has_its_own_devices_its_own_port_and_the_engine_as_process_one(settings: Settings) -> None:
    document = settings_document()
    document["instance_types"]["g4dn.xlarge"] |= {"replicas": 2, "tensor_parallel": 2}
    plan = settings_of(document).plan_for("g4dn.xlarge")
    commands = [engine_command(settings, plan, replica, "10.0.0.5", []) for replica in range(2)]
    assert [command_options(command, "--gpus") for command in commands] == [['"device=0,1"'], ['"device=2,3"']]
    assert [command_options(command, "--port") for command in commands] == [["8000"], ["8001"]]
    assert command_options(commands[0], "--entrypoint") == ["vllm"]
    assert command_options(commands[0], "--host") == ["10.0.0.5"]
    assert "--restart" not in commands[0], "systemd is the only supervisor"


def test_engines_report_to_nobody(settings: Settings) -> None:
    environment = command_options(
        engine_command(settings, settings.plan_for("g4dn.xlarge"), 0, "10.0.0.5", []), "--env"
    )
    assert {"VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1"} <= set(environment)


def test_on_neuron_a_replica_gets_every_device_file_and_its_own_cores() -> None:
    settings = settings_of(settings_document("cost-optimized-scale"))
    plan = next(iter(settings.plans.values()))
    command = engine_command(settings, plan, 1, "10.0.0.5", ["/dev/neuron0", "/dev/neuron1"])
    count = plan.devices_per_replica
    environment = command_options(command, "--env")
    assert {"--device=/dev/neuron0", "--device=/dev/neuron1"} <= set(command)
    assert f"NEURON_RT_VISIBLE_CORES={count}-{2 * count - 1}" in environment
    assert "NEURON_COMPILED_ARTIFACTS=/artifacts" in environment
    assert any(volume.endswith(":/artifacts") for volume in command_options(command, "--volume"))
