"""How are samples forgotten, with every trace of them? In an order in which a kill loses nothing that cannot be redone.

Needs neither numpy nor onnxruntime.
"""

from collections.abc import Sequence

from mmd.promotion.models import ModelStore
from mmd.samples.store import SampleStore


def forget_samples(models: ModelStore, store: SampleStore, chosen: Sequence[str]) -> tuple[int, list[int]]:
    """Remove `chosen`, every plan that names them and every model that saw them.

    Returns how many samples were removed, and the generations that were dropped.
    """
    # First: once the models are gone, nothing says any more that what they had learned has to be learned again.
    if models.that_saw(chosen):
        store.mark_all_new()
    # Models before samples: were the samples gone already, a crash would leave no way to name them again. And once more
    # after: a round may have ended in between.
    dropped = set(models.drop_generations_that_saw(chosen))
    removed = store.forget(chosen)
    dropped.update(models.drop_generations_that_saw(chosen))
    if dropped:
        store.mark_all_new()
    return removed, sorted(dropped)
