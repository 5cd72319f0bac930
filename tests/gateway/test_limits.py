"""Limits of a key: requests and tokens a minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_fleet.gateway import limits as module
from llm_fleet.gateway.keys import ApiKey
from llm_fleet.gateway.limits import Limits


class Clock:
    """The seconds that `limits` reads."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def key(requests: int | None = None, tokens: int | None = None, key_id: str = "aaaaaaaaaaaa") -> ApiKey:
    return ApiKey(key_id, "00", "a test", 0, requests_per_minute=requests, tokens_per_minute=tokens)


def test_a_key_without_limits_is_always_admitted() -> None:
    limits = Limits()
    assert all(limits.admit(key(), 1_000_000) == 0.0 for _ in range(1000))


@pytest.mark.usefixtures("clock")
def test_a_minutes_worth_of_requests_goes_at_once_and_the_next_is_told_when() -> None:
    limits = Limits()
    assert [limits.admit(key(requests=6), 1) for _ in range(6)] == [0.0] * 6
    assert limits.admit(key(requests=6), 1) == pytest.approx(10.0)


def test_the_told_time_is_when_it_succeeds(clock: Clock) -> None:
    limits = Limits()
    for _ in range(6):
        limits.admit(key(requests=6), 1)
    wait_s = limits.admit(key(requests=6), 1)
    clock.now += wait_s - 0.01
    assert limits.admit(key(requests=6), 1) > 0
    clock.now += 0.02
    assert limits.admit(key(requests=6), 1) == 0.0


@pytest.mark.usefixtures("clock")
def test_tokens_are_limited_too_and_a_refused_request_takes_nothing() -> None:
    limits = Limits()
    few = key(requests=100, tokens=1000)
    assert limits.admit(few, 900) == 0.0
    for _ in range(200):
        assert limits.admit(few, 300) == pytest.approx(12.0)
    assert limits.admit(few, 100) == 0.0


def test_a_request_larger_than_the_bucket_goes_when_it_is_full_and_leaves_a_debt(clock: Clock) -> None:
    limits = Limits()
    assert limits.admit(key(tokens=1000), 3000) == 0.0
    assert limits.admit(key(tokens=1000), 1) > 60
    clock.now += 121
    assert limits.admit(key(tokens=1000), 1) == 0.0


@pytest.mark.usefixtures("clock")
def test_what_was_not_used_is_given_back_and_what_was_used_above_is_taken() -> None:
    limits = Limits()
    assert limits.admit(key(tokens=1000), 1000) == 0.0
    limits.settle(key(tokens=1000), estimated=1000, actual=200)
    assert limits.admit(key(tokens=1000), 800) == 0.0
    limits.settle(key(tokens=1000), estimated=800, actual=1800)
    assert limits.admit(key(tokens=1000), 1) == pytest.approx(60.06)


@pytest.mark.usefixtures("clock")
def test_running_tasks_share_a_limit() -> None:
    limits = Limits()
    limits.tasks = 3
    assert sum(limits.admit(key(requests=9), 1) == 0.0 for _ in range(9)) == 3


def test_a_limit_below_the_number_of_tasks_still_lets_some_through(clock: Clock) -> None:
    limits = Limits()
    limits.tasks = 3
    assert limits.admit(key(requests=1), 1) == 0.0
    assert limits.admit(key(requests=1), 1) == pytest.approx(180.0)
    clock.now += 181
    assert limits.admit(key(requests=1), 1) == 0.0


@pytest.mark.usefixtures("clock")
def test_a_new_task_lowers_what_a_full_bucket_holds() -> None:
    limits = Limits()
    limits.admit(key(requests=8), 1)
    limits.tasks = 4
    assert sum(limits.admit(key(requests=8), 1) == 0.0 for _ in range(8)) == 2


@pytest.mark.usefixtures("clock")
def test_a_limit_of_nothing_admits_nothing() -> None:
    assert Limits().admit(key(requests=0), 1) > 0


@pytest.mark.usefixtures("clock")
def test_keys_do_not_share_a_bucket() -> None:
    limits = Limits()
    assert limits.admit(key(requests=1, key_id="aaaaaaaaaaaa"), 1) == 0.0
    assert limits.admit(key(requests=1, key_id="bbbbbbbbbbbb"), 1) == 0.0


def test_buckets_of_keys_that_are_no_longer_used_are_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BUCKETS", 100)
    limits = Limits()
    for number in range(1000):
        limits.admit(key(requests=5, key_id=f"{number:012}"), 1)
        clock.now += 1
    assert len(limits._buckets) <= 100


@given(
    st.integers(min_value=1, max_value=600),
    st.lists(st.tuples(st.floats(min_value=0, max_value=5), st.integers(min_value=1, max_value=50)), max_size=200),
)
def test_no_pattern_of_requests_gets_more_than_a_minutes_burst_and_the_rate(
    per_minute: int, requests: list[tuple[float, int]]
) -> None:
    clock, limits = Clock(), Limits()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", clock)
        began, admitted, largest = clock.now, 0, 0
        for pause_s, tokens in requests:
            clock.now += pause_s
            if limits.admit(key(tokens=per_minute), tokens) == 0.0:
                admitted += tokens
                largest = max(largest, tokens)
        minutes = (clock.now - began) / 60
        assert admitted <= per_minute * (1 + minutes) + largest + 1e-6
