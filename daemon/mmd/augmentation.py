"""How far may a sample be varied and still be the same thing? Amounts only; `mmd.training.augment` does it."""

from typing import Annotated, Literal

import msgspec

NonNegative = Annotated[float, msgspec.Meta(ge=0.0)]

_IMAGE_AMOUNTS = ("shift_pixels", "rotation_degrees", "scale", "shear", "warp_pixels", "contrast")
_SIGNAL_AMOUNTS = ("shift_steps", "gain_decibels", "noise")


class Augmentation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far each sample is varied, at most; 0 leaves it alone.

    All down to `border` are for images, the rest is for other inputs.
    """

    shift_pixels: NonNegative = 0.0
    """In any direction."""
    rotation_degrees: NonNegative = 0.0
    """Either way."""
    scale: NonNegative = 0.0
    """Each axis is stretched by a factor between exp(-scale) and exp(scale)."""
    shear: NonNegative = 0.0
    """Of each row against the next, as a share of a pixel."""
    warp_pixels: NonNegative = 0.0
    """Standard deviation of a smooth random displacement (after Simard et al., ICDAR 2003)."""
    contrast: NonNegative = 0.0
    """Distances from the image's mean are multiplied by a factor between exp(-contrast) and exp(contrast)."""
    border: Literal["edge", "zero"] = "edge"
    """What is seen beyond the border: the outermost pixels again, or 0."""
    shift_steps: NonNegative = 0.0
    """Along the last axis, in whole steps; what comes in is 0."""
    gain_decibels: NonNegative = 0.0
    """Louder or quieter."""
    noise: NonNegative = 0.0
    """White noise, as a share of the sample's own root mean square."""

    @property
    def moves(self) -> bool:
        """Whether pixels change their places."""
        return any(getattr(self, name) for name in _IMAGE_AMOUNTS if name != "contrast")

    def misfit(self, kind: str) -> str | None:
        """Return the first amount that a sample of this kind of input cannot be varied by; `None` when all fit."""
        others = _SIGNAL_AMOUNTS if kind == "image" else _IMAGE_AMOUNTS
        return next((name for name in others if getattr(self, name)), None)


def usual_augmentation(kind: str, shape: tuple[int, ...]) -> Augmentation | None:
    """Return small amounts for images of `shape`; `None` for other kinds, of which nothing is known."""
    if kind != "image":
        return None
    return Augmentation(
        shift_pixels=round(0.07 * min(shape[1:]), 2), rotation_degrees=10.0, scale=0.1, shear=0.1, contrast=0.1
    )
