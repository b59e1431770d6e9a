"""How does a step graph compute in the blocked layout? Images stay blocked from operator to operator.

A tensor [n, C, H, W] lies in memory as [n, C / block, H, W, block]. Its declared shape stays [n, C, H, W], with C
rounded up to whole blocks and the rest zeros; a sequence [n, C, L] is an image one row high.
"""

from mmd.training.blocked.walk import in_blocks

__all__ = ["in_blocks"]
