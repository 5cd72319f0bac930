"""Clients that are slow, idle or do not read: they cost little, and cost nobody else anything."""

from __future__ import annotations

import time

import pytest

from tests.proof.door import CHAT, Door, chat_body
from tests.proof.findings import Findings
from tests.proof.processes import wait_until
from tests.proof.raw import Raw, request

IDLE_CONNECTIONS = 2000
IDLE_BYTES_EACH = 20_000
"""Of memory in the gateway."""
SLOW_HEADS = 200
STALLED_READERS = 50
STALLED_BYTES = 20 << 20
"""All that the gateway may hold for readers that do not read; what the engine has for them is twice as much."""


def works(door: Door) -> None:
    assert door.chat("is anyone there").status == 200


def test_two_thousand_idle_connections_cost_little(door: Door, findings: Findings) -> None:
    works(door)
    before = door.gateway.rss_bytes()
    connections = [Raw(door.port) for _ in range(IDLE_CONNECTIONS)]
    works(door)
    each = (door.gateway.rss_bytes() - before) / IDLE_CONNECTIONS
    for connection in connections[:: IDLE_CONNECTIONS // 10]:
        connection.send(request("GET", "/v1/models", door.key))
        assert connection.reply().status == 200
    for connection in connections:
        connection.close()
    works(door)
    findings.say(connections=IDLE_CONNECTIONS, bytes_each=round(each))
    assert each < IDLE_BYTES_EACH


def test_heads_that_never_end_are_closed_and_hold_up_nobody(door: Door, findings: Findings) -> None:
    """Slow loris: a byte of the head now and then."""
    connections = [Raw(door.port) for _ in range(SLOW_HEADS)]
    drip = iter(b"GET /v1/models HTTP/1.1\r\nX-Slow: " + b"a" * 10_000)
    started = time.monotonic()
    is_open = set(connections)

    def all_closed() -> bool:
        byte = bytes((next(drip),))
        for connection in tuple(is_open):
            if not connection.trickle(byte):
                is_open.remove(connection)
        works(door)
        time.sleep(0.3)
        return not is_open

    wait_until(all_closed, 60, "slow heads are closed", lambda: f"{len(is_open)} are open")
    findings.say(connections=SLOW_HEADS, closed_after_s=round(time.monotonic() - started))
    for connection in connections:
        connection.close()


def test_a_request_without_a_key_is_refused_before_its_body_comes(door: Door) -> None:
    with Raw(door.port) as connection:
        connection.send(request("POST", CHAT, Content_Length="1000"))
        assert connection.reply().status == 401


def test_readers_that_do_not_read_fill_no_memory(door: Door, findings: Findings) -> None:
    """The gateway stops reading from the engine for a client that does not read."""
    works(door)
    before = door.gateway.rss_bytes()
    started = door.started()
    readers = [Raw(door.port, receive_buffer_bytes=4096) for _ in range(STALLED_READERS)]
    for number, reader in enumerate(readers):
        reader.send(request("POST", CHAT, door.key, chat_body(f"long {number}", stream=True, max_tokens=4096)))
    wait_until(lambda: door.started() == started + STALLED_READERS, 60, "all streams have begun")
    grown = [door.gateway.rss_bytes() - before]

    def settled() -> bool:
        works(door)
        time.sleep(0.5)
        grown.append(door.gateway.rss_bytes() - before)
        return grown[-1] == grown[-2]

    wait_until(settled, 60, "the gateway's memory stays as it is")
    for reader in readers:
        reader.close()
    wait_until(door.is_idle, 30, "nothing is under way")
    findings.say(readers=STALLED_READERS, held_bytes=max(grown))
    assert max(grown) < STALLED_BYTES


@pytest.mark.parametrize("sent", [0.0, 0.5], ids=["before its body", "in its body"])
def test_a_client_that_leaves_before_its_request_is_whole_leaves_nothing(door: Door, sent: float) -> None:
    body = chat_body("x" * 10_000)
    before = door.started()
    with Raw(door.port) as connection:
        head = request("POST", CHAT, door.key, Content_Length=str(len(body)))
        connection.send(head + body[: int(len(body) * sent)])
    works(door)
    wait_until(door.is_idle, 30, "nothing is under way")
    assert door.started() == before + 1
