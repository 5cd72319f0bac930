"""The breaker of an engine."""

from __future__ import annotations

from llm_fleet.gateway.breaker import FAILURES_IN_A_ROW, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(now, probe=False)
    return breaker


def test_it_opens_after_three_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW - 1):
        breaker.failed(0.0, probe=False)
    assert breaker.state(0.0) == "closed"
    breaker.failed(0.0, probe=False)
    assert breaker.state(0.0) == "open"


def test_an_answer_between_failures_begins_the_row_anew() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(0.0, probe=False)
        breaker.succeeded(probe=False)
    assert breaker.state(0.0) == "closed"


def test_it_lets_one_probe_through_after_its_pause() -> None:
    breaker = opened()
    assert not breaker.may_probe(FIRST_PAUSE_S - 0.1)
    assert breaker.may_probe(FIRST_PAUSE_S)
    assert breaker.state(FIRST_PAUSE_S) == "half-open"
    breaker.begin_probe()
    assert not breaker.may_probe(FIRST_PAUSE_S + 1)


def test_a_probe_that_succeeds_closes_it_and_forgets_its_failures() -> None:
    breaker = opened()
    breaker.begin_probe()
    breaker.succeeded(probe=True)
    breaker.failed(0.0, probe=False)
    assert breaker.state(0.0) == "closed"


def test_pauses_double_up_to_the_longest_while_probes_fail() -> None:
    breaker = opened()
    now, pauses = FIRST_PAUSE_S, list[float]()
    for _ in range(6):
        breaker.begin_probe()
        breaker.failed(now, probe=True)
        pause_s = next(pause_s for pause_s in (2.0, 4.0, 8.0, 16.0, 30.0) if breaker.may_probe(now + pause_s))
        pauses.append(pause_s)
        now += pause_s
    assert pauses == [4.0, 8.0, 16.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_pauses_are_short_again_after_it_closed() -> None:
    breaker = opened()
    breaker.begin_probe()
    breaker.failed(10.0, probe=True)
    breaker.begin_probe()
    breaker.succeeded(probe=True)
    for _ in range(FAILURES_IN_A_ROW):
        breaker.failed(100.0, probe=False)
    assert breaker.may_probe(100.0 + FIRST_PAUSE_S)


def test_an_older_answer_that_ends_well_does_not_close_it() -> None:
    breaker = opened()
    breaker.succeeded(probe=False)
    assert breaker.is_open


def test_older_requests_that_fail_do_not_lengthen_its_pause() -> None:
    breaker = opened()
    for _ in range(50):
        breaker.failed(1.9, probe=False)
    assert breaker.may_probe(FIRST_PAUSE_S)


def test_a_probe_whose_client_leaves_makes_room_for_another() -> None:
    breaker = opened()
    breaker.begin_probe()
    breaker.probe_left()
    assert breaker.is_open
    assert breaker.may_probe(FIRST_PAUSE_S)
