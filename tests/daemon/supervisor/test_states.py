"""Can the daemon only do what the transition table allows?"""

import pytest

from mmd.supervisor.states import RUNNING, TRANSITIONS, Event, State, transition


def test_every_state_and_every_event_is_in_the_table() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_every_state_can_be_reached() -> None:
    assert set(TRANSITIONS.values()) == set(State)


def test_only_a_running_trainer_can_be_suspended() -> None:
    assert {state for state, event in TRANSITIONS if event is Event.SUSPENDED} == RUNNING


def test_a_suspended_round_never_becomes_idle_without_ending() -> None:
    ways = [event for (state, event), after in TRANSITIONS.items() if state is State.SUSPENDED and after is State.IDLE]
    assert ways == [Event.ROUND_ENDED]


def test_what_the_table_does_not_have_is_refused() -> None:
    with pytest.raises(AssertionError, match="suspended cannot happen in state idle"):
        transition(State.IDLE, Event.SUSPENDED)
