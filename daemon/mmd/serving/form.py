"""Which samples does an artifact set take? Imports nothing heavy."""

from mmd.artifact.manifest import Manifest
from mmd.samples.form import SampleForm


def form_of(manifest: Manifest) -> SampleForm:
    """Return what a sample of this set looks like."""
    spec = manifest.input
    return SampleForm(
        kind=spec.kind,
        shape=spec.stored_shape,
        classes=manifest.classes,
        rate_hz=spec.rate_hz,
        spare=manifest.spare_classes,
    )
