"""From the step to the service: steady state of an instance at a number of requests in flight, or at a rate.

Each finished request brings a new prompt. An engine with chunked prefill lets a share of its steps carry a chunk of
a prompt beside the decoding sequences; a compiled engine stops decoding for a whole prompt. Requests beyond what the
cache holds wait outside.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from llm_fleet.sizing.cache import in_blocks
from llm_fleet.sizing.coefficients import Floats
from llm_fleet.sizing.neuron_buckets import SMALLEST_BUCKET_TOKENS
from llm_fleet.sizing.step_time import Rates, Work, kept_tokens, step_seconds

FIXED_POINT_STEPS = 3
BISECTIONS = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of an instance. A concurrency of nan means all at once: as many as fit, and more wait."""

    concurrency: Floats
    """Requests in flight on the whole instance."""
    input_tokens: Floats
    output_tokens: Floats
    most_running: Floats
    """Sequences that one engine lets run at once (max_num_seqs)."""
    chunk_tokens: Floats
    """Prompt tokens of one step at most (max_num_batched_tokens)."""
    compiled: Floats
    """1 where shapes are compiled: prompts are not chunked."""
    compiled_batch: Floats
    """Slots of the compiled batch, all of which are computed; 0 where it follows the load."""
    opening: Floats
    """1 where a measurement starts with all its requests at once, as closed loops do."""
    replicas: Floats
    cache_room_bytes: Floats
    """Of one addressable device."""
    reserved_share: Floats
    """Part of an answer that must have room when its request is taken in: 1 where an engine never evicts a sequence,
    0.5 (mean progress) where it takes in what fits now."""


@dataclass(frozen=True, slots=True)
class Service:
    """What an instance then does. Times in seconds, rates of the whole instance."""

    tpot_s: Floats
    ttft_s: Floats
    output_tokens_per_s: Floats
    requests_per_s: Floats
    running: Floats
    """Requests in flight inside the engines."""
    room: Floats
    """Requests that memory would let run at once, on the whole instance."""
    prefill_s: Floats
    """A prompt alone, with the request's fixed cost."""


Columns = TypeVar("Columns", Work, Load, Service)


def rows_of(columns: Columns, places: npt.NDArray[np.intp]) -> Columns:
    """The same numbers of some rows, which may come more than once."""
    return replace(columns, **{f.name: getattr(columns, f.name)[places] for f in fields(columns)})


def room_for_sequences(work: Work, load: Load) -> Floats:
    """Sequences whose caches fit one attention rank of one engine. May be below 1."""
    length = load.input_tokens + load.reserved_share * load.output_tokens
    each = kept_tokens(work, in_blocks(length, load.compiled)) * work.cache_bytes_per_token + work.state_bytes
    return np.maximum(load.cache_room_bytes, 0.0) / np.maximum(each, 1.0)


def bucket(tokens: Floats) -> Floats:
    """The compiled length that holds so many tokens: powers of two (neuron_buckets.py). All of it is computed, whatever
    part a prompt fills.
    """
    return 2 ** np.ceil(np.log2(np.maximum(tokens, SMALLEST_BUCKET_TOKENS)))


def prompt_seconds(work: Work, rates: Rates, load: Load) -> Floats:
    """A whole prompt through an engine that decodes nothing else, in chunks."""
    whole = np.where(load.compiled > 0, bucket(load.input_tokens), load.input_tokens)
    chunk = np.where(load.compiled > 0, whole, np.minimum(whole, load.chunk_tokens))
    none = np.zeros_like(chunk)
    return step_seconds(work, rates, none, none, chunk, whole / 2) * whole / chunk


def prompts_ahead(load: Load, batch: Floats) -> Floats:
    """Other prompts that a request waits for when `batch` requests come at once: half of them, and half of those that
    share a step with it, since its first token comes when the step ends. A compiled engine takes all of them together.
    """
    beside = np.where(load.compiled > 0, batch, np.clip(load.chunk_tokens / load.input_tokens, 1.0, batch))
    return (batch - 1 + beside - 1) / 2


def mean_step_seconds(
    work: Work, rates: Rates, load: Load, sequences: Floats, arriving: Floats, prompt_s: Floats
) -> Floats:
    """Mean time between two tokens of a sequence while `sequences` decode on each rank and `arriving` new prompts of
    others come in a step.
    """
    context = load.input_tokens + load.output_tokens / 2
    none = np.zeros_like(context)
    slots = np.where(load.compiled_batch > 0, np.maximum(load.compiled_batch, sequences), sequences)
    bare = step_seconds(work, rates, slots, context, none, none)
    chunk = np.minimum(load.input_tokens, load.chunk_tokens)
    share = np.minimum(arriving * load.input_tokens / chunk, 1.0)
    carried = np.where(share < 1, chunk, arriving * load.input_tokens)
    mixed = step_seconds(work, rates, sequences, context, carried, load.input_tokens / 2)
    return np.where(load.compiled > 0, bare + arriving * prompt_s, (1 - share) * bare + share * mixed)


def steady_state(work: Work, rates: Rates, load: Load) -> Service:
    """The service at a concurrency; where it is nan, with everything submitted at once."""
    room = room_for_sequences(work, load)
    engines = load.replicas * work.attention_ranks
    limit = np.maximum(np.minimum(room, load.most_running / work.attention_ranks), 1.0)
    asked = np.where(np.isnan(load.concurrency), limit, np.maximum(load.concurrency / engines, 1.0))
    running = np.minimum(asked, limit)
    lanes = 1 + (np.minimum(work.stages, running) - 1) * rates["stage_overlap"]
    batch = np.maximum(running / lanes, 1.0)
    prompt_s = prompt_seconds(work, rates, load)
    request_s = rates["request_ms"] * 1e-3
    others = 1 - 1 / batch
    step, share = prompt_s, np.ones_like(batch)
    for _ in range(FIXED_POINT_STEPS):
        decoding = batch * share
        arriving = decoding * others / load.output_tokens
        step = mean_step_seconds(work, rates, load, np.maximum(decoding, 1.0), arriving, prompt_s)
        busy = load.output_tokens * step
        share = busy / (busy + request_s + prompt_s + others * step / 2)
    rate = batch * share * lanes / step
    output = engines * rate * np.where(load.concurrency < engines, load.concurrency / engines, 1.0)
    requests = output / load.output_tokens
    waiting = np.where(asked > limit, (asked - limit) / np.maximum(rate / load.output_tokens, 1e-12), 0.0)
    waiting = waiting * rates["waiting_share"]
    prompts_share = np.minimum(batch * prompt_s / (prompt_s + load.output_tokens * step), 0.98)
    queue = np.minimum(prompts_share / (2 * (1 - prompts_share)), (batch - 1) / 2) * prompt_s
    queue = queue + load.opening * rates["opening_share"] * prompts_ahead(load, batch) * prompt_s
    ttft = request_s + prompt_s + others * step / 2 + queue + waiting
    return Service(
        tpot_s=step,
        ttft_s=ttft,
        output_tokens_per_s=output,
        requests_per_s=requests,
        running=running * engines,
        room=room * engines,
        prefill_s=request_s + prompt_s,
    )


def at_rate(work: Work, rates: Rates, load: Load, requests_per_s: Floats) -> Service:
    """The service at an arrival rate: the concurrency whose throughput equals it, or the largest that runs where the
    rate is more than the instance can take (its waiting then has no end; the time to first token is that of full load).
    """
    load = replace(load, opening=np.zeros_like(load.opening))
    engines = load.replicas * work.attention_ranks
    most = np.maximum(np.minimum(room_for_sequences(work, load), load.most_running / work.attention_ranks), 1.0)
    low, high = np.full_like(most, 1e-3), most * engines
    for _ in range(BISECTIONS):
        middle = np.sqrt(low * high)
        short = steady_state(work, rates, replace(load, concurrency=middle)).requests_per_s < requests_per_s
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    found = steady_state(work, rates, replace(load, concurrency=high))
    given = np.minimum(found.requests_per_s, requests_per_s)
    return replace(found, requests_per_s=given, output_tokens_per_s=given * load.output_tokens)
