"""Seconds from the launch of an instance to its first token, stage by stage, and what one boot costs.

The stages follow on each other as on the instance: system, image, weights (on_instance/weights.py pulls the image first
and fetches with it), then engine start, load, compilation. The first boot of a pool takes the weights from the Hub,
writes them into the fleet's cache in S3 and, on Neuron, compiles; later boots read both from S3. torch.compile's cache
is not shared between instances, so every boot on a GPU compiles.

No boot of this kit was measured. Constants are of other people's boots (tests/sizing/test_boot.py lists them) or are
assumptions, said at each; low and high use the quickest and the slowest plausible value of each at once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from llm_fleet.catalog.types import InstanceType
from llm_fleet.sizing.reserve import GIB

GB = 1e9

IMAGE_GB = 17.5
"""Unpacked image, of vLLM and of Neuron alike: AWS speaks of 15 to 20 GB for images of this kind; the two took about
as long on 8 vCPUs (168 s on g6.2xlarge, near 3 minutes on trn1.2xlarge)."""
IMAGE_VCPU_POWER = 0.39
"""More cores unpack faster: 188 s on 4 vCPUs of G6, 63 s on 64 of G6e (giantswarm): ln(188 / 63) / ln(16)."""
ROOT_GB_PER_S = 500 * 2**20 / GB
"""Root volume: the kit buys 500 MiB/s of gp3 (constructs, pool.py)."""
NVME_GB_PER_S_PER_TB = 1.0
NVME_LEAST_GB_PER_S = 0.5
"""Sequential rate of the instance's own disks. Assumption: AWS publishes operations a second, no rate."""
FIRST_CHECKS, LATER_CHECKS = 2, 1
"""Times all weights are hashed: hub.py and the manifest of the cache; later the manifest alone."""
ARTEFACT_SHARE = 0.03
"""Compiled artefacts over weights, without weights of their own (shard on load): 10 MiB for 2.2 GB (2 graphs), 0.7 GB
for 27 GB (12 graphs)."""
GRAPHS_MEASURED = 2
PER_FURTHER_GRAPH = 0.15
"""Graphs beyond two are compiled beside each other: two more took 12 to 45 % longer on Trainium2 (Trinity, three sizes,
@4bcdc54). Ten more make 2.5 times, which also turns 6 minutes for an 8B into the 15 of the vLLM guide."""
HOST_BYTES_PER_WEIGHT_BYTE = 3.0
"""Host memory at the peak of loading and compiling on Neuron. Seen: 62 GB of weights 182 GB (2.9); 16 GB did not fit
31 GiB, 12 GB did not fit 16 GiB, 2.2 GB did; DeepSeek-V3 about 2 TB for 0.67."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the engines of one instance hold."""

    weight_bytes: float
    """Of the whole model as stored, once."""
    layers: int
    tensor_parallel: int
    """GPUs of a replica; NeuronCores on Neuron."""
    replicas: int = 1
    graphs: int = 0
    """Compiled graphs of a Neuron engine (neuron_buckets.py); 0 on a GPU."""

    @property
    def neuron(self) -> bool:
        """Whether shapes are compiled ahead."""
        return self.graphs > 0


@dataclass(frozen=True, slots=True)
class Stages:
    """Seconds of each stage, in the order in which they pass."""

    system_s: float
    """From the launch to the units of the kit: EC2, kernel, drivers, user data."""
    image_s: float
    """Pull and unpack the engine's image."""
    weights_s: float
    """Weights to the disk: from the Hub, later from S3."""
    check_s: float
    """SHA-256 of all weights, on one core."""
    publish_s: float
    """First boot: weights and artefacts into S3. The engine waits for the weights' part."""
    artefacts_s: float
    """Compiled artefacts from S3 to the disk; 0 where this boot compiles."""
    engine_s: float
    """Imports and start of the engine's processes."""
    load_s: float
    """Weights to the devices."""
    compile_s: float
    """torch.compile, or the Neuron compiler."""
    warm_up_s: float
    """CUDA graphs, or one run of each compiled graph."""

    @property
    def total_s(self) -> float:
        """The sum."""
        return sum(self.by_name().values())

    def by_name(self) -> dict[str, float]:
        """Seconds by stage, in order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot: expected seconds of each stage, and the sum if all goes well or badly."""

    stages: Stages
    low_s: float
    high_s: float

    @property
    def total_s(self) -> float:
        """Expected seconds from launch to first token."""
        return self.stages.total_s


@dataclass(frozen=True, slots=True)
class Rates:
    """One set of the constants that scatter."""

    system_s: float
    """Measured on CPU families: running after 16 s, SSH after 23 to 29 (brevdev); a trn1.2xlarge joined EKS 161 s after
    its node group was asked for. User data and drivers: assumption."""
    image_gb_per_s: float
    """On 4 vCPUs; 17.5 GB in 188 s on g6.xlarge. AWS: 4 to 6 minutes for 15 to 20 GB."""
    burst: bool
    """Whether the network's burst rate holds for the whole download, else its baseline."""
    hub_gb_per_s: float
    """16.1 GB in 61 s (tensorfuse, L40S). The other two: assumption."""
    s3_gb_per_s: float
    """`aws s3 sync`: ten ranges at once, each up to 85 MB/s (S3's performance guide). Assumption: 50 MB/s are reached;
    no measurement found."""
    hash_gb_per_s: float
    """SHA-256 on one core, with and without its instructions. Assumption."""
    gpu_engine_s: float
    """94 s, 34 s with everything in memory (tensorfuse, L40S); 95 s (kaito, A100)."""
    gpu_load_gb_per_s: float
    """One GPU, 16.1 GB: 18 s from memory, 33 s from disk (tensorfuse). 27B on an A100: 54 GB in 62 s (kaito)."""
    compile_s_per_layer: float
    """52 s for 32 layers, 23 s from its cache (tensorfuse)."""
    capture_s_per_layer: float
    """54 s for 32 layers at vLLM's default sizes, 7 s at eight sizes (tensorfuse)."""
    neuron_engine_s: float
    """TinyLlama on trn1.2xlarge: 34 s until it serves, 13 of them for sharding."""
    neuron_load_gb_per_s_per_vcpu: float
    """Weights are cut for the cores on the host: 2.2 GB in 29 s on 4 vCPUs and 13 s on 8; 12 GB in 38 s on 12; on 192,
    810 GB in 187 s and 460 GB in 233 s, but 516 GB of one port with experts in 850 s."""
    neuron_compile: float
    """Over the expected time: half of 31 measured models lie within 1.21, nine tenths within 1.82."""


EXPECTED = Rates(60, 17.5 / 188, False, 0.26, 0.5, 0.5, 94, 0.89, 1.63, 1.69, 25, 0.02, 1.0)
QUICK = Rates(30, 1.4 * 17.5 / 188, True, 0.85, 0.85, 1.8, 34, 1.5, 0.72, 0.22, 20, 0.04, 1 / 1.82)
SLOW = Rates(180, 0.5 * 17.5 / 188, False, 0.13, 0.25, 0.4, 120, 0.49, 2.4, 2.5, 60, 0.01, 1.82)


def boot(kind: InstanceType, served: Served, first: bool) -> Boot:
    """A boot with an empty cache (`first`), or one that finds weights and artefacts in S3."""
    return Boot(
        stages=_stages(kind, served, first, EXPECTED),
        low_s=_stages(kind, served, first, QUICK).total_s,
        high_s=_stages(kind, served, first, SLOW).total_s,
    )


def usd(seconds: float, usd_per_hour: float) -> float:
    """What an instance costs for that long: of a boot's total, or of its compilation alone."""
    return seconds / 3600 * usd_per_hour


def neuron_compile_s(weight_bytes: float, layers: int, tensor_parallel: int, graphs: int) -> float:
    """Expected seconds of the Neuron compiler: 4.25 a layer and 37 per GB of weights on one core for two graphs, 15 %
    more for each further one.

    Fitted to 31 dense decoders of 0.1 to 36 B on trn1.32xlarge, TP 1, 2 and 8, two graphs of up to 2,048 tokens
    (neuronx-distributed-inference @4bcdc54, contrib READMEs). The batch hardly counts (214 s at 4, 229 s at 32).
    Outside the fit: models with experts up to 2.5 times as long, one port of a 31B on inf2.24xlarge 4 times, a 27B with
    twelve graphs on Trainium2 a third; a host of 8 vCPUs within 1.3 times.
    """
    two_graphs = 4.25 * layers + 37 * weight_bytes / GB / tensor_parallel
    return two_graphs * (1 + PER_FURTHER_GRAPH * max(0, graphs - GRAPHS_MEASURED))


def neuron_host_gib(weight_bytes: float) -> float:
    """Host memory that loading and compiling on Neuron needs, GiB."""
    return HOST_BYTES_PER_WEIGHT_BYTE * weight_bytes / GIB


def _stages(kind: InstanceType, served: Served, first: bool, rates: Rates) -> Stages:
    weights_gb = served.weight_bytes / GB
    artefacts_gb = ARTEFACT_SHARE * weights_gb if served.neuron else 0.0
    disk, network = _disk_gb_per_s(kind), _network_gb_per_s(kind, rates.burst)
    s3 = min(rates.s3_gb_per_s, network, disk)
    hub = min(rates.hub_gb_per_s, network, disk)
    # Where the first Neuron instance compiles, one engine does it alone and the others follow (ready.py).
    waves = [1, served.replicas - 1] if first and served.neuron and served.replicas > 1 else [served.replicas]
    compiles = first or not served.neuron
    return Stages(
        system_s=rates.system_s,
        image_s=IMAGE_GB / min(rates.image_gb_per_s * (kind.vcpus / 4) ** IMAGE_VCPU_POWER, ROOT_GB_PER_S),
        weights_s=weights_gb / (hub if first else s3),
        check_s=(FIRST_CHECKS if first else LATER_CHECKS) * weights_gb / rates.hash_gb_per_s,
        publish_s=(weights_gb + artefacts_gb) / s3 if first else 0.0,
        artefacts_s=0.0 if first else artefacts_gb / s3,
        engine_s=len(waves) * (rates.neuron_engine_s if served.neuron else rates.gpu_engine_s),
        load_s=sum(_load_s(kind, served, engines, disk, rates) for engines in waves),
        compile_s=_compile_s(served, rates) if compiles else 0.0,
        warm_up_s=_warm_up_s(served, rates),
    )


def _load_s(kind: InstanceType, served: Served, engines: int, disk_gb_per_s: float, rates: Rates) -> float:
    """Seconds until `engines` replicas hold their weights. The disk is read once for all of them, and not at all where
    the files that were just written are still in the host's memory.
    """
    weights_gb = served.weight_bytes / GB
    from_disk_s = 0.0 if kind.memory_gib * GIB > 2 * served.weight_bytes else weights_gb / disk_gb_per_s
    if served.neuron:
        return max(from_disk_s, engines * weights_gb / (rates.neuron_load_gb_per_s_per_vcpu * kind.vcpus))
    return max(from_disk_s, weights_gb / (rates.gpu_load_gb_per_s * served.tensor_parallel))


def _compile_s(served: Served, rates: Rates) -> float:
    if not served.neuron:
        return rates.compile_s_per_layer * served.layers
    expected = neuron_compile_s(served.weight_bytes, served.layers, served.tensor_parallel, served.graphs)
    return rates.neuron_compile * expected


def _warm_up_s(served: Served, rates: Rates) -> float:
    """On Neuron 0.2 s a graph: 0.3 to 2.4 s were seen for 2 to 12 of them."""
    return 0.2 * served.graphs if served.neuron else rates.capture_s_per_layer * served.layers


def _disk_gb_per_s(kind: InstanceType) -> float:
    """The instance's own disks as one stripe, or the root volume where it has none (disk.sh)."""
    if kind.local_nvme_gb == 0:
        return ROOT_GB_PER_S
    return max(NVME_LEAST_GB_PER_S, kind.local_nvme_gb / 1000 * NVME_GB_PER_S_PER_TB)


def _network_gb_per_s(kind: InstanceType, burst: bool) -> float:
    gigabits = kind.network_gbps if burst else kind.network_baseline_gbps or kind.network_gbps
    return gigabits / 8
