"""Which decoder turns a file into one sample? The artifact set's kind says, whatever the file is called."""

from typing import IO, TYPE_CHECKING

from mmd.config import SamplesConfig
from mmd.samples.form import SampleForm

if TYPE_CHECKING:
    from mmd.samples.recording import Resample


def decode(file: IO[bytes], form: SampleForm, config: SamplesConfig, resample: "Resample | None") -> bytes:
    """Return the content of the one sample in `file`. Raises `InputRefused` with the reason alone.

    `resample` brings recordings to the set's rate and length; only a set of audio needs it.
    """
    if form.kind == "image":
        from mmd.samples.images import decode_image

        return decode_image(file, form, max_pixels=config.max_pixels)
    if form.kind == "audio":
        from mmd.samples.recording import decode_recording

        assert resample is not None, "whoever opens a store of audio brings the set's resampler"
        return decode_recording(file, form, resample, max_seconds=config.max_seconds)
    from mmd.samples.window import decode_window

    return decode_window(file, form)
