"""The idle policy by itself: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepseek_ocr_mcp.lifecycle.idle import NEVER, IdlePolicy, Step
from deepseek_ocr_mcp.models import State

SECONDS = st.one_of(st.just(NEVER), st.floats(0, 1e6))


@pytest.mark.parametrize(
    ("state", "idle_s", "step"),
    [
        (State.GPU, 0, None),
        (State.GPU, 10, Step.OFFLOAD),
        (State.GPU, 60, Step.RELEASE),
        (State.HOST, 10, None),
        (State.HOST, 60, Step.RELEASE),
        (State.UNLOADED, 1e9, None),
        (State.CLOSED, 1e9, None),
    ],
)
def test_a_model_moves_down_a_step_at_a_time(state: State, idle_s: float, step: Step | None) -> None:
    assert IdlePolicy(offload_after=10, release_after=60).next_step(state, idle_s) is step


def test_zero_means_at_once_and_minus_one_never() -> None:
    policy = IdlePolicy(offload_after=0, release_after=NEVER)
    assert policy.next_step(State.GPU, 0) is Step.OFFLOAD
    assert policy.next_step(State.HOST, 1e9) is None
    assert policy.wake_after(State.HOST, 0) is None


@given(SECONDS, SECONDS, st.sampled_from(State), st.floats(0, 1e6))
def test_a_step_is_due_exactly_when_the_wait_for_it_is_over(
    offload: float, release: float, state: State, idle_s: float
) -> None:
    policy = IdlePolicy(offload, release)
    wait = policy.wake_after(state, idle_s)
    assert (policy.next_step(state, idle_s) is not None) == (wait == 0)
    if wait is not None:
        assert policy.next_step(state, idle_s + wait + 1) is not None
