"""Does every picture become the right bytes, or one clear refusal?"""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.support import grey, png_bytes

from mmd.errors import InputRefused
from mmd.samples.form import SampleForm
from mmd.samples.images import decode_image

GREY = SampleForm("image", (1, 8, 8), ("cat",))
COLOUR = SampleForm("image", (3, 8, 8), ("cat",))


def decoded(data: bytes, form: SampleForm = GREY, *, max_pixels: int = 1_000_000) -> NDArray[np.uint8]:
    content = decode_image(io.BytesIO(data), form, max_pixels=max_pixels)
    return np.frombuffer(content, np.uint8).reshape(form.shape)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """Return a small PNG whose header promises `width` x `height` pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_a_grey_png_of_the_right_size_keeps_every_value() -> None:
    image = grey(1)
    assert decoded(png_bytes(image))[0].tolist() == np.asarray(image).tolist()


def test_a_colour_png_becomes_channels_first() -> None:
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert (decoded(png_bytes(Image.fromarray(values)), COLOUR) == values.transpose(2, 0, 1)).all()


def test_grey_fills_all_channels_of_a_colour_set() -> None:
    values = decoded(png_bytes(grey(1)), COLOUR)
    assert (values[0] == values[1]).all()
    assert (values[0] == values[2]).all()


def test_a_jpeg_comes_close_to_what_it_shows() -> None:
    image = Image.new("L", (8, 8), 200)
    assert np.abs(decoded(saved(image, "JPEG", quality=95)).astype(int) - 200).max() <= 3


def test_a_jpeg_under_the_name_of_a_png_is_read_by_its_content() -> None:
    assert decoded(saved(Image.new("L", (8, 8), 7), "JPEG")).shape == (1, 8, 8)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    expected = np.rint(values / 257).astype(int)
    assert np.abs(decoded(png_bytes(Image.fromarray(values)))[0].astype(int) - expected).max() <= 1


def test_a_palette_is_looked_up() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert decoded(png_bytes(image), COLOUR)[:, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_lie_on_white(mode: str) -> None:
    assert (decoded(png_bytes(Image.new(mode, (8, 8)))) == 255).all()


def test_a_palette_with_a_transparent_entry_lies_on_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert (decoded(saved(image, "PNG", transparency=0)) == 255).all()


def test_one_bit_pictures_are_black_and_white() -> None:
    assert (decoded(png_bytes(Image.new("1", (8, 8), 1))) == 255).all()


def test_a_cmyk_jpeg_is_read() -> None:
    assert decoded(saved(Image.new("CMYK", (8, 8)), "JPEG"), COLOUR).min() >= 250


def test_exif_orientation_is_applied() -> None:
    image = Image.new("L", (8, 8), 0)
    image.paste(255, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    upright = decoded(saved(image, "JPEG", exif=exif, quality=95))[0]
    assert upright[:3].max() < 20
    assert upright[5:].min() > 235


def test_a_wide_picture_is_padded_above_and_below_with_its_background() -> None:
    image = Image.new("L", (32, 16), 90)
    image.paste(250, (12, 4, 20, 12))
    values = decoded(png_bytes(image))[0]
    assert (values[:2] == 90).all()
    assert (values[-2:] == 90).all()
    assert values[4, 4] > 200


def test_a_thin_line_of_a_picture_still_has_a_pixel() -> None:
    assert decoded(png_bytes(Image.new("L", (1000, 1), 50))).shape == (1, 8, 8)


def test_a_small_picture_is_enlarged() -> None:
    assert (decoded(png_bytes(Image.new("L", (4, 4), 33))) == 33).all()


def test_a_huge_picture_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(InputRefused, match="20000 x 10000 = 200,000,000 pixels; at most 50,000,000"):
        decoded(png_claiming(20000, 10000), max_pixels=50_000_000)


def test_a_header_that_lies_is_refused() -> None:
    with pytest.raises(InputRefused, match="truncated"):
        decoded(png_claiming(900, 900))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_picture_is_refused_wherever_it_was_cut(kind: str) -> None:
    whole = saved(grey(1, size=(32, 32)), kind)
    for length in range(0, len(whole), 7):
        with pytest.raises(InputRefused):
            decoded(whole[:length])
    for missing in range(1, 12):
        with pytest.raises(InputRefused, match="truncated"):
            decoded(whole[:-missing])


def test_a_flipped_byte_in_a_png_is_refused() -> None:
    data = bytearray(png_bytes(grey(1, size=(32, 32))))
    data[len(data) // 2] ^= 1
    with pytest.raises(InputRefused, match="damaged"):
        decoded(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello, world\n", "looks like text"),
        (b"", "the file is empty"),
        (b"\0\1\2\3\4", "begins with bytes 00 01 02 03"),
        (b"GIF89a", "not a PNG or JPEG"),
    ],
)
def test_what_is_no_picture_is_refused_saying_what_it_looks_like(data: bytes, reason: str) -> None:
    with pytest.raises(InputRefused, match=reason):
        decoded(data)


@pytest.mark.parametrize("form", [SampleForm("tensor", (4,), ("a",)), SampleForm("image", (2, 8, 8), ("a",))])
def test_a_set_that_takes_no_pictures_refuses_them(form: SampleForm) -> None:
    with pytest.raises(InputRefused, match=r"give \.npy"):
        decoded(png_bytes(grey(1)), form)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["L", "RGB", "RGBA", "P", "1", "LA", "I;16"]))
def test_every_size_and_mode_gives_the_form(width: int, height: int, mode: str) -> None:
    for form in (GREY, COLOUR):
        assert decoded(png_bytes(Image.new(mode, (width, height))), form).shape == form.shape


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"]))
def test_noise_is_refused_never_a_crash(data: bytes, magic: bytes) -> None:
    with pytest.raises(InputRefused) as raised:
        decoded(magic + data)
    assert os.linesep not in str(raised.value)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_picture_is_refused_or_read_never_a_crash(data: st.DataObject) -> None:
    whole = bytearray(data.draw(st.sampled_from([png_bytes(grey(1)), saved(grey(1), "JPEG")])))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decoded(bytes(whole)).shape == GREY.shape
    except InputRefused as refusal:
        assert os.linesep not in str(refusal)
