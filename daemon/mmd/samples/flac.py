"""What is in a FLAC file? libsndfile reads it, by way of `soundfile`, which is an extra of its own."""

from typing import IO

from mmd.errors import InputRefused
from mmd.samples.recording import Limits, Recording


def read_flac(file: IO[bytes], limits: Limits) -> Recording:
    """Return the recording in `file`. Raises `InputRefused` with the reason alone."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: the package is there, libsndfile is not
        raise InputRefused(
            "is FLAC, and what reads that is not installed; pip install 'mmd-daemon[flac]', or export it as WAV."
        ) from error
    try:
        with soundfile.SoundFile(file) as sound:
            promised, channels, rate_hz = sound.frames, sound.channels, sound.samplerate
            limits.require(promised, rate_hz, channels)
            values = sound.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputRefused(f"is damaged or truncated ({reason}); export it again.") from error
    if len(values) != promised:
        raise InputRefused(f"is truncated ({promised - len(values):,} frames are missing); export it again.")
    return Recording.of(values, rate_hz)
