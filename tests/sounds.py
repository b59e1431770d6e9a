"""Which sounds do the tests use? Tones of two pitches, WAV files of every kind, and a small set that hears them."""

import struct
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

RATE_HZ = 4000
SECONDS = 0.25
LENGTH = 1000
CLASSES = ("low", "high")
PITCHES_HZ = (300.0, 900.0)
_FORMATS = {"u1": (1, 8), "i2": (1, 16), "i3": (1, 24), "i4": (1, 32), "f4": (3, 32), "f8": (3, 64)}


def tone(hertz: float, *, rate_hz: int = RATE_HZ, seconds: float = 0.2, loudness: float = 0.5) -> NDArray[np.float64]:
    """Return a tone that swells and fades, so that it holds one pitch and no clicks."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    swell = np.sin(np.pi * time / seconds) ** 2
    return np.asarray(loudness * swell * np.sin(2 * np.pi * hertz * time))


def wav_bytes(
    values: NDArray[np.float64], rate_hz: int = RATE_HZ, *, kind: str = "i2", extensible: bool = False
) -> bytes:
    """Return a WAV file of `values`, [frames] or [frames, channels], within -1 to 1."""
    frames = values if values.ndim == 2 else values[:, None]
    channels = frames.shape[1]
    coding, bits = _FORMATS[kind]
    if kind == "u1":
        data = np.clip(np.rint(frames * 128) + 128, 0, 255).astype(np.uint8).tobytes()
    elif kind == "i3":
        whole = np.clip(np.rint(frames * 2**23), -(2**23), 2**23 - 1).astype("<i4")
        data = whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    elif kind.startswith("i"):
        data = (
            np.clip(np.rint(frames * 2.0 ** (bits - 1)), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            .astype(f"<{kind}")
            .tobytes()
        )
    else:
        data = frames.astype(f"<{kind}").tobytes()
    size = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 0xFFFE if extensible else coding, channels, rate_hz, rate_hz * size, size, bits)
    if extensible:
        fmt += struct.pack("<HHIH", 22, bits, 0, coding) + b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    chunks = b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"LIST" + struct.pack("<I", 3) + b"abc\x00"
    chunks += b"data" + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def write_wav(path: Path, values: NDArray[np.float64], rate_hz: int = RATE_HZ, *, kind: str = "i2") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(values, rate_hz, kind=kind))
    return path


def varied_tone(label: int, seed: int) -> NDArray[np.float64]:
    """Return one of many recordings of a class: another pitch nearby, another loudness, some noise."""
    rng = np.random.default_rng([seed, label])
    sound = tone(PITCHES_HZ[label] * rng.uniform(0.9, 1.1), loudness=rng.uniform(0.1, 0.6))
    return sound + rng.normal(0, 0.003, len(sound))


def write_tone_folders(root: Path, per_class: int, *, seed: int = 0) -> Path:
    """Write a folder a class with so many different recordings in each."""
    for label, name in enumerate(CLASSES):
        for number in range(per_class):
            write_wav(root / name / f"{number:03d}.wav", varied_tone(label, seed + number))
    return root


def build_sound_set(folder: Path) -> Path:
    """Fuse two untrained networks that hear tones; return the set's folder."""
    from mmd_tools.audio.resample import recipe_resampler
    from mmd_tools.fuse import fuse
    from mmd_tools.nets import NetRecipe, build_net
    from mmd_tools.recipe import AudioRecipe, InputRecipe, Recipe, TrainingRecipe

    audio = AudioRecipe(rate_hz=RATE_HZ, seconds=SECONDS, mels=8, low_hz=100.0, high_hz=1800.0)
    resample = recipe_resampler(audio)
    stored = [resample(varied_tone(place % 2, 1000 + place).astype(np.float32), RATE_HZ) for place in range(40)]
    np.savez(folder / "anchor.npz", inputs=np.stack(stored), labels=np.arange(40) % 2)
    for name, channels, seed in (("mentor", 4, 1), ("mentee", 2, 2)):
        layers = (f"conv {channels} 3", "relu", "pool 2", "flatten", "fc 2")
        onnx.save(build_net(NetRecipe(layers=layers, input=(1, 8, 14), seed=seed)), folder / f"{name}.onnx")
    recipe = Recipe(
        name="tones",
        licence="MIT",
        classes=CLASSES,
        anchor=str(folder / "anchor.npz"),
        input=InputRecipe(kind="audio", mean=(-14.0,), std=(4.0,), audio=audio),
        training=TrainingRecipe(epochs=8, batch_size=8, learning_rate=0.02, replay=0.0),
    )
    fuse(folder / "mentor.onnx", folder / "mentee.onnx", recipe, folder / "set")
    return folder / "set"
