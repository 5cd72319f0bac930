"""What log, meters and limits learn of a call: the first layer of all, which acts when the call has ended."""

from __future__ import annotations

from functools import partial

from llm_fleet.gateway.exchange import Exchange
from llm_fleet.gateway.limits import Limits
from llm_fleet.gateway.meters import FinishedRequest, Meters
from llm_fleet.gateway.wire.call import Call


class Meter:
    """Counts and logs a call when it has ended, and settles what it used of its key's tokens."""

    def __init__(self, meters: Meters, limits: Limits) -> None:
        self._meters = meters
        self._limits = limits

    def begin(self, call: Call) -> None:
        """From here on."""
        call.when_ended = self.end

    def end(self, call: Call) -> None:
        """Settle what its key's limit was charged, and note it for log and meters."""
        exchange = call.exchange
        if call.admitted_tokens and call.key is not None:
            used = used_tokens(exchange)
            self._limits.settle(call.key, call.admitted_tokens, used[0] + used[1])
        self._meters.note(partial(described, call, exchange))


def described(call: Call, exchange: Exchange | None) -> FinishedRequest:
    """All that is known of a call that ended."""
    prompt_tokens, completion_tokens, estimated = used_tokens(exchange)
    accepted_at, ended_at = call.accepted_at, call.ended_at
    leased_at = exchange.leased_at if exchange else None
    first_at = exchange.first_at if exchange else None
    return FinishedRequest(
        request_id=call.request_id,
        key_id=call.key.key_id if call.key else None,
        method=call.method,
        path=call.path[:200],
        model=call.wanted.model if call.wanted else None,
        pool=exchange.pool if exchange else None,
        role=exchange.role if exchange else None,
        reason=exchange.reason if exchange else None,
        worker_id=(exchange.worker_id or None) if exchange else None,
        status=call.status,
        streamed=exchange.wanted.stream if exchange else False,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        tokens_estimated=estimated,
        queue_wait_ms=_ms((leased_at or ended_at) - accepted_at) if exchange else 0.0,
        ttft_ms=None if first_at is None else _ms(first_at - accepted_at),
        total_ms=_ms(ended_at - accepted_at),
        cost_usd=exchange.cost_usd(completion_tokens) if exchange else None,
        attempts=exchange.attempts if exchange else 0,
        error_code=call.error_code or None,
        bytes_in=call.body_bytes,
        bytes_out=call.bytes_out,
    )


def _ms(seconds: float) -> float:
    """Milliseconds with three places; `round` goes through the digits, and takes five times as long."""
    return int(1e6 * seconds + 0.5) / 1e3


def used_tokens(exchange: Exchange | None) -> tuple[int, int, bool]:
    """Prompt and completion tokens that a call used, and whether they are an estimate."""
    if exchange is None or exchange.first_at is None:
        return 0, 0, False
    if exchange.usage is not None:
        return *exchange.usage, False
    return exchange.wanted.prompt_tokens, max(0, exchange.events - 1), True
