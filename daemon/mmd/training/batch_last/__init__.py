"""How does a step graph compute with the samples of a batch side by side? Images stay so from operator to operator.

A tensor [n, C, H, W] lies in memory as [C, H, W, n] and is declared as one picture [1, C, H, W n] to the runtime, whose
convolutions then read long rows: its copies of what each tap sees take a fraction of the time, and what is summed over
the batch is summed within a row (docs/performance.md). Made of plain operators alone, so it runs anywhere.
"""

from mmd.training.batch_last.walk import in_batch_last

__all__ = ["in_batch_last"]
