"""How does a PNG or JPEG file become the bytes of one sample?

The header is judged before anything is decoded; the picture is turned upright (EXIF), put on white where it is
transparent, reduced to grey or RGB, scaled into the set's shape with its aspect ratio kept, and padded with the
median colour of its border.
"""

import struct
import zlib
from typing import IO, TYPE_CHECKING

from mmd.errors import InputRefused
from mmd.samples.form import SampleForm, describe_shape, describe_start

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_TAIL_BYTES = 65536
"""Some programs append their own data behind the end mark."""
_MODES = {1: "L", 3: "RGB"}


def decode_image(file: IO[bytes], form: SampleForm, *, max_pixels: int) -> bytes:
    """Return the content of the sample in `file`. Raises `InputRefused` with the reason alone."""
    if form.kind != "image" or len(form.shape) != 3 or form.shape[0] not in _MODES:
        raise InputRefused(
            f"is an image, and this artifact set takes {form.kind}s of shape {describe_shape(form.shape)}; give .npy."
        )
    from PIL import Image, UnidentifiedImageError

    try:
        with _open(file, max_pixels) as image:
            upright = _upright(image)
            return _fit(_flatten(upright, _MODES[form.shape[0]]), form).tobytes()
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        struct.error,
        zlib.error,
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        # Pillow tells a damaged file by any of these.
        raise InputRefused(f"is damaged or truncated ({_one_line(error)}); export it again.") from error
    except MemoryError as error:
        raise InputRefused("does not fit into memory; make it smaller.") from error


def _open(file: IO[bytes], max_pixels: int) -> "Image":
    """Open by content, whatever the name says, and judge the header before the picture is decoded."""
    from PIL import JpegImagePlugin, PngImagePlugin

    magic = file.read(len(PNG_MAGIC))
    file.seek(0)
    if magic == PNG_MAGIC:
        plugin: type[ImageFile] = PngImagePlugin.PngImageFile
    elif magic.startswith(JPEG_MAGIC):
        plugin = JpegImagePlugin.JpegImageFile
    else:
        raise InputRefused(f"is not a PNG or JPEG image ({describe_start(magic)}).")
    image = plugin(file)
    width, height = image.size
    if width * height > max_pixels:
        raise InputRefused(
            f"has {width} x {height} = {width * height:,} pixels; at most {max_pixels:,} are decoded "
            "(samples.max_pixels); make it smaller."
        )
    if magic == PNG_MAGIC:
        image.verify()  # every chunk's checksum
        _require_end_mark(file, _PNG_END)
        file.seek(0)
        return plugin(file)
    _require_end_mark(file, _JPEG_END)
    return image


def _require_end_mark(file: IO[bytes], mark: bytes) -> None:
    """Refuse a file that lacks its end: the decoders let some of those pass, and fill the rest with grey."""
    position = file.tell()
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL_BYTES))
    is_whole = mark in file.read()
    file.seek(position)
    if not is_whole:
        raise InputRefused("is truncated (its end mark is missing); export it again.")


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    image.load()
    return ImageOps.exif_transpose(image) or image


def _flatten(image: "Image", mode: str) -> "Image":
    """Reduce to 8 bits and to `mode`, with transparent parts on white."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey; Pillow's own conversion would clip them
        image = image.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, coloured)
    return image.convert(mode)


def _fit(image: "Image", form: SampleForm) -> "NDArray[np.uint8]":
    """Return [channels, height, width]; an image of the right size keeps its values exactly."""
    import numpy as np
    from PIL import Image

    channels, height, width = form.shape
    if image.size != (width, height):
        scale = min(width / image.width, height / image.height)
        inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        background = _border_colour(image)
        resized = image.resize(inner, Image.Resampling.BILINEAR)
        image = Image.new(image.mode, (width, height), background)
        image.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    values = np.asarray(image, np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _border_colour(image: "Image") -> tuple[int, ...]:
    import numpy as np

    values = np.asarray(image).reshape(image.height, image.width, -1)
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    return tuple(int(value) for value in np.median(border, axis=0))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
