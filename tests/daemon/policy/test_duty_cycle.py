"""Does training get its share of the time, and never more?"""

from hypothesis import given
from hypothesis import strategies as st

from mmd.conditions import Instant
from mmd.limits import DutyCycle
from mmd.policy.duty_cycle import TokenBucket, turn

HALF = DutyCycle(share_percent=50.0, burst_minutes=10.0)


def at(seconds: float) -> Instant:
    return Instant(wall=0.0, monotonic=seconds)


def test_the_bucket_is_full_when_the_daemon_starts() -> None:
    assert turn(None, HALF, at(5), was_running=False).percent(HALF) == 100.0


def test_it_empties_while_training_runs_and_fills_while_it_does_not() -> None:
    bucket = turn(TokenBucket(600.0, 0.0), HALF, at(600), was_running=True)
    assert bucket.percent(HALF) == 50.0
    assert turn(bucket, HALF, at(900), was_running=False).percent(HALF) == 75.0


def test_a_share_of_everything_never_empties_it() -> None:
    always = DutyCycle()
    assert turn(TokenBucket(600.0, 0.0), always, at(1e6), was_running=True).percent(always) == 100.0


def test_a_clock_that_goes_back_changes_nothing() -> None:
    assert turn(TokenBucket(300.0, 100.0), HALF, at(50), was_running=True).seconds == 300.0


def test_a_smaller_burst_after_a_reload_takes_effect_at_once() -> None:
    small = DutyCycle(share_percent=50.0, burst_minutes=1.0)
    assert turn(TokenBucket(600.0, 0.0), small, at(0), was_running=False).percent(small) == 100.0


@given(
    st.floats(1, 100).map(lambda share: DutyCycle(share_percent=share)),
    st.lists(st.tuples(st.floats(0, 3600), st.booleans()), max_size=50),
)
def test_no_more_than_the_share_and_one_burst_is_ever_trained(
    limits: DutyCycle, spans: list[tuple[float, bool]]
) -> None:
    bucket, now, trained = turn(None, limits, at(0), was_running=False), 0.0, 0.0
    for seconds, wants in spans:
        # As the policy does at every look: an empty bucket stops what runs.
        drain = 1 - limits.share_percent / 100
        lasts = bucket.seconds / drain if drain else seconds
        runs = min(seconds, lasts) if wants else 0.0
        bucket = turn(bucket, limits, at(now + runs), was_running=True)
        bucket = turn(bucket, limits, at(now + seconds), was_running=False)
        now, trained = now + seconds, trained + runs
        assert 0.0 <= bucket.seconds <= limits.burst_minutes * 60
        assert trained <= now * limits.share_percent / 100 + limits.burst_minutes * 60 + 1e-6 * now + 1e-6
