"""What is the daemon doing, and what can it do next? One enum, one transition table."""

from enum import StrEnum


class State(StrEnum):
    IDLE = "idle"
    """Nothing to do."""
    WAITING = "waiting"
    """There is work, and a reason against doing it now."""
    TRAINING = "training"
    SUSPENDED = "suspended"
    """A round is open and nothing of it runs."""
    EVALUATING = "evaluating"
    """The candidate is before the gate."""


class Event(StrEnum):
    WORK_FOUND = "work_found"
    WORK_GONE = "work_gone"
    ROUND_FOUND_OPEN = "round_found_open"
    STARTED = "started"
    """A trainer runs: a new one, or the one that was stopped in place."""
    EVALUATION_BEGAN = "evaluation_began"
    SUSPENDED = "suspended"
    TRAINER_LOST = "trainer_lost"
    """It ended without finishing its round."""
    ROUND_ENDED = "round_ended"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.WORK_FOUND): State.WAITING,
    (State.IDLE, Event.ROUND_FOUND_OPEN): State.SUSPENDED,
    (State.IDLE, Event.STARTED): State.TRAINING,
    (State.WAITING, Event.WORK_GONE): State.IDLE,
    (State.WAITING, Event.ROUND_FOUND_OPEN): State.SUSPENDED,
    (State.WAITING, Event.STARTED): State.TRAINING,
    (State.TRAINING, Event.EVALUATION_BEGAN): State.EVALUATING,
    (State.TRAINING, Event.SUSPENDED): State.SUSPENDED,
    (State.TRAINING, Event.TRAINER_LOST): State.SUSPENDED,
    (State.TRAINING, Event.ROUND_ENDED): State.IDLE,
    (State.SUSPENDED, Event.STARTED): State.TRAINING,
    # A trainer stopped in mid-sentence may say so only now.
    (State.SUSPENDED, Event.EVALUATION_BEGAN): State.SUSPENDED,
    (State.SUSPENDED, Event.TRAINER_LOST): State.SUSPENDED,
    (State.SUSPENDED, Event.ROUND_ENDED): State.IDLE,
    (State.EVALUATING, Event.EVALUATION_BEGAN): State.EVALUATING,
    (State.EVALUATING, Event.SUSPENDED): State.SUSPENDED,
    (State.EVALUATING, Event.TRAINER_LOST): State.SUSPENDED,
    (State.EVALUATING, Event.ROUND_ENDED): State.IDLE,
}

RUNNING = frozenset({State.TRAINING, State.EVALUATING})
"""The states in which a trainer uses the processor."""


def transition(state: State, event: Event) -> State:
    """Return the state after `event`. Raises `AssertionError` for a pair that the table does not have."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise AssertionError(f"{event} cannot happen in state {state}") from None
