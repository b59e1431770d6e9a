"""Does augmentation move images as far as the recipe allows, and leave them alone where it does not?"""

import numpy as np
import pytest

from mmd.augmentation import Augmentation, usual_augmentation
from mmd.training.augment import augment, view_of


def _dot(row: int = 14, column: int = 14) -> np.ndarray:
    image = np.zeros((1, 1, 28, 28), np.uint8)
    image[0, 0, row - 1 : row + 2, column - 1 : column + 2] = 200
    return image


def _centre(image: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[0 : image.shape[-2], 0 : image.shape[-1]]
    return np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()


def test_a_recipe_of_zeros_returns_the_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 9, 7), np.uint8)
    moved = augment(images, Augmentation(), np.random.default_rng(0))
    assert moved.dtype == np.float32
    assert np.array_equal(moved, images)


def test_an_image_is_shifted_by_at_most_what_the_recipe_says() -> None:
    images = np.repeat(_dot(), 200, axis=0)
    moved = augment(images, Augmentation(shift_pixels=3.0), np.random.default_rng(0))
    distances = np.array([_centre(image[0]) - 14 for image in moved])
    assert np.abs(distances).max() <= 3.01
    assert np.abs(distances).max() > 2.5


def test_rotation_keeps_the_centre_and_the_distance_from_it() -> None:
    images = np.repeat(_dot(row=5), 50, axis=0)
    moved = augment(images, Augmentation(rotation_degrees=45.0), np.random.default_rng(0))
    radii = [np.hypot(*(_centre(image[0]) - 13.5)) for image in moved]
    assert np.allclose(radii, np.hypot(8.5, 0.5), atol=0.3)


def test_every_movement_changes_the_image_and_keeps_its_values_in_range() -> None:
    images = np.repeat(_dot(row=8, column=18), 4, axis=0)
    for name in ("shift_pixels", "rotation_degrees", "scale", "shear", "warp_pixels"):
        amount = 20.0 if name == "rotation_degrees" else 0.5
        moved = augment(images, Augmentation(**{name: amount}), np.random.default_rng(1))
        assert not np.array_equal(moved, images), name
        assert moved.min() >= 0
        assert moved.max() <= 200


def test_all_channels_of_an_image_move_together() -> None:
    images = np.repeat(_dot(row=9), 3, axis=1)
    recipe = Augmentation(shift_pixels=2.0, rotation_degrees=20.0, scale=0.2, shear=0.2, warp_pixels=1.0)
    moved = augment(images, recipe, np.random.default_rng(2))
    assert np.array_equal(moved[:, 0], moved[:, 1])
    assert np.array_equal(moved[:, 0], moved[:, 2])


def test_the_same_generator_moves_the_same_way() -> None:
    images, recipe = np.repeat(_dot(row=4), 6, axis=0), Augmentation(shift_pixels=2.0, warp_pixels=1.0)
    moved = [augment(images, recipe, np.random.default_rng(7)) for _ in range(2)]
    assert np.array_equal(*moved)


def test_what_lies_beyond_the_border_is_the_border_again_or_nothing() -> None:
    images = np.full((1, 1, 9, 9), 100, np.uint8)
    edge, zero = (
        augment(images, Augmentation(shift_pixels=4.0, border=border), np.random.default_rng(0))
        for border in ("edge", "zero")
    )
    assert np.array_equal(edge, images)
    assert zero.min() < 0.01


def test_contrast_keeps_the_mean_and_changes_the_spread() -> None:
    images = np.random.default_rng(0).integers(100, 156, (50, 1, 9, 9), np.uint8)
    varied = augment(images, Augmentation(contrast=0.5), np.random.default_rng(0))
    np.testing.assert_allclose(varied.mean(axis=(1, 2, 3)), images.mean(axis=(1, 2, 3)), rtol=1e-5)
    factors = varied.std(axis=(1, 2, 3)) / images.std(axis=(1, 2, 3))
    assert np.exp(-0.5) <= factors.min() < 0.8
    assert 1.25 < factors.max() <= np.exp(0.5) * 1.001


@pytest.mark.parametrize("most", [3.0, 500.0])
def test_a_signal_is_shifted_along_its_last_axis_and_filled_with_silence(most: float) -> None:
    signals = np.arange(1, 21, dtype=np.float32).reshape(1, 1, 20).repeat(60, axis=0)
    shifted = augment(signals, Augmentation(shift_steps=most), np.random.default_rng(0))
    moves = set()
    for (row,) in shifted:
        (heard,) = np.nonzero(row)
        if len(heard):
            assert np.array_equal(row[heard], np.arange(row[heard[0]], row[heard[0]] + len(heard)))
            moves.add(int(heard[0] - row[heard[0]] + 1))
    assert max(map(abs, moves), default=0) <= most
    assert most > 20 or moves == set(range(-3, 4))


def test_gain_and_noise_stay_within_what_is_allowed() -> None:
    signals = np.sin(np.arange(4000, dtype=np.float32)).reshape(1, 1, 4000).repeat(20, axis=0)
    louder = augment(signals, Augmentation(gain_decibels=6.0), np.random.default_rng(0))
    decibels = 20 * np.log10(louder.std(axis=2) / signals.std(axis=2))
    assert 4 < np.abs(decibels).max() <= 6.001
    hissing = augment(signals, Augmentation(noise=0.1), np.random.default_rng(0)) - signals
    np.testing.assert_allclose(hissing.std(axis=2) / signals.std(axis=2), 0.1, rtol=0.05)


EVERYTHING = Augmentation(
    shift_pixels=2.0, rotation_degrees=20.0, scale=0.2, shear=0.2, warp_pixels=1.0, contrast=1.0, noise=0.1
)
A, B = "a" * 64, "b" * 64


def test_view_0_is_the_sample() -> None:
    assert view_of(_dot()[0], A, 0, EVERYTHING, 1).tobytes() == _dot().tobytes()


def test_a_view_depends_on_sample_number_and_seed_and_on_nothing_else() -> None:
    def view(identifier: str, number: int, seed: int) -> bytes:
        return view_of(_dot()[0], identifier, number, EVERYTHING, seed).tobytes()

    assert view(A, 1, 0) == view(A, 1, 0)
    assert len({view(A, 1, 0), view(A, 2, 0), view(B, 1, 0), view(A, 1, 5)}) == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_view_is_of_the_stored_type_and_never_wraps_around(dtype: type[np.generic]) -> None:
    stored = np.random.default_rng(0).choice([0, 120, 255], (1, 28, 28)).astype(dtype)
    view = view_of(stored, A, 1, Augmentation(contrast=2.0), 0)
    assert view.dtype == dtype
    near_mean = np.abs(view.astype(float) - stored.mean())
    assert (near_mean[stored == 120] <= near_mean[stored == 255].min()).all(), "the order of the values stays"


def test_usual_amounts_are_known_for_images_only_and_fit_them() -> None:
    usual = usual_augmentation("image", (1, 28, 28))
    assert usual is not None
    assert usual.moves
    assert usual.misfit("image") is None
    assert usual.misfit("tensor") == "shift_pixels"
    assert usual_augmentation("tensor", (4, 8)) is None
