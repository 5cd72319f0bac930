"""AWS's public SSM parameters that our launch templates name. The image ids are made up: no instance starts here."""

from hashlib import sha256

from ministack.services import ssm

DEEP_LEARNING = "/aws/service/deeplearning/ami/{architecture}/base-oss-nvidia-driver-gpu-{system}/latest/ami-id"
NEURON = "/aws/service/neuron/dlami/base/{system}/latest/image_id"
PARAMETERS = (
    *(
        DEEP_LEARNING.format(architecture=architecture, system=system)
        for architecture in ("x86_64", "arm64")
        for system in ("amazon-linux-2023", "ubuntu-24.04")
    ),
    *(NEURON.format(system=system) for system in ("amazon-linux-2023", "ubuntu-24.04")),
)


def install() -> None:
    """Add the parameters to the table of public ones, where nobody can put any."""
    ssm._PUBLIC_AMI_PARAMETERS.update({name: image_id(name) for name in PARAMETERS})


def image_id(parameter: str) -> str:
    """A well-formed AMI id that is the same on every start."""
    return f"ami-{sha256(parameter.encode()).hexdigest()[:17]}"
