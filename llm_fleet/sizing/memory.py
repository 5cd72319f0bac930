"""What one addressable device of a replica holds, in GiB, and the cache of one sequence."""

from __future__ import annotations

from dataclasses import dataclass

from llm_fleet.sizing.case import Setup
from llm_fleet.sizing.layout import GIB, cache_room_bytes, reserve_bytes


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What one device of a replica holds, in GiB."""

    usable_gib: float
    weights_gib: float
    reserve_gib: float
    kv_cache_gib: float
    """What is left for the cache; negative where weights and reserve do not fit."""


def device_memory(setup: Setup) -> DeviceMemory:
    """The split of one addressable device's memory."""
    cores = setup.layout.cores_per_device
    usable = setup.device.memory_gib / cores
    reserve = reserve_bytes(setup.device, cores) / GIB
    room = cache_room_bytes(setup.traits, setup.device, setup.layout) / GIB
    return DeviceMemory(usable, usable - reserve - room, reserve, room)


def sequence_bytes(setup: Setup, tokens: float) -> float:
    """Cache and state of one sequence of `tokens` tokens on one addressable device."""
    traits, degree = setup.traits, setup.layout.tensor_parallel
    shared = 1.0 if traits.latent else max(1.0, traits.kv_heads / degree) / traits.kv_heads
    kept = (1 - traits.window_share) * tokens + traits.window_share * min(tokens, traits.window_tokens)
    return kept * traits.kv_bytes_per_token * shared + traits.state_bytes / degree


def sequences_that_fit(setup: Setup, tokens: float) -> int:
    """Sequences of `tokens` tokens whose caches fit one replica at once."""
    room = max(cache_room_bytes(setup.traits, setup.device, setup.layout), 0.0)
    return int(room // sequence_bytes(setup, tokens))


def largest_context_tokens(setup: Setup) -> int:
    """Tokens of the longest sequence that a replica holds alone; 0 where the weights leave no room."""
    traits = setup.traits
    room = cache_room_bytes(traits, setup.device, setup.layout)
    if room <= sequence_bytes(setup, 0):
        return 0
    each = sequence_bytes(setup, 1) - sequence_bytes(setup, 0)
    windowed = each * (1 - traits.window_share) if room > sequence_bytes(setup, traits.window_tokens) else each
    past = traits.window_tokens if windowed != each else 0.0
    return int(past + (room - sequence_bytes(setup, past)) // max(windowed, 1e-9)) if windowed else 10**9
