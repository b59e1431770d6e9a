"""Does a trainer that fails get another chance, and not too many?"""

from mmd.supervisor.retries import RETRY_SECONDS, Retries


def test_each_failure_without_progress_waits_longer() -> None:
    retries = Retries()
    waits = []
    for _ in RETRY_SECONDS:
        retries.note("no", step=0, now=100.0)
        waits.append((retries.retry_at or 0) - 100.0)
        assert not retries.is_hopeless
    assert tuple(waits) == RETRY_SECONDS
    retries.note("no", step=0, now=100.0)
    assert retries.is_hopeless


def test_progress_between_failures_counts_anew() -> None:
    retries = Retries((1.0, 2.0))
    for step in range(1, 50):
        retries.note("killed", step=step * 10, now=0.0)
        assert retries.failures == 1
        assert not retries.is_hopeless


def test_going_back_is_no_progress() -> None:
    retries = Retries((1.0, 2.0))
    for step in (50, 25, 40):
        retries.note("killed", step=step, now=0.0)
    assert retries.failures == 3
    assert retries.is_hopeless


def test_the_account_names_the_last_failure_and_how_many_there_were() -> None:
    retries = Retries((1.0,))
    retries.note("first.", step=0, now=0.0)
    assert retries.account() == "first."
    retries.note("second.", step=0, now=0.0)
    assert retries.account() == "The trainer failed 2 times without progress; the last time: second."


def test_the_next_round_begins_with_a_clean_slate() -> None:
    retries = Retries((1.0,))
    retries.note("first.", step=9, now=0.0)
    retries.forget()
    assert (retries.failures, retries.retry_at) == (0, None)
