"""Does augmentation move images as far as the recipe allows, and leave them alone where it does not?"""

import numpy as np

from mmd_tools.nets import AugmentRecipe
from mmd_tools.train_augment import augment


def _dot(row: int = 14, column: int = 14) -> np.ndarray:
    image = np.zeros((1, 1, 28, 28), np.uint8)
    image[0, 0, row - 1 : row + 2, column - 1 : column + 2] = 200
    return image


def _centre(image: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[0 : image.shape[-2], 0 : image.shape[-1]]
    return np.array([(rows * image).sum(), (columns * image).sum()]) / image.sum()


def test_a_recipe_of_zeros_returns_the_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 9, 7), np.uint8)
    moved = augment(images, AugmentRecipe(), np.random.default_rng(0))
    assert moved.dtype == np.float32
    assert np.array_equal(moved, images)


def test_an_image_is_shifted_by_at_most_what_the_recipe_says() -> None:
    images = np.repeat(_dot(), 200, axis=0)
    moved = augment(images, AugmentRecipe(shift_pixels=3.0), np.random.default_rng(0))
    distances = np.array([_centre(image[0]) - 14 for image in moved])
    assert np.abs(distances).max() <= 3.01
    assert np.abs(distances).max() > 2.5


def test_rotation_keeps_the_centre_and_the_distance_from_it() -> None:
    images = np.repeat(_dot(row=5), 50, axis=0)
    moved = augment(images, AugmentRecipe(rotation_degrees=45.0), np.random.default_rng(0))
    radii = [np.hypot(*(_centre(image[0]) - 13.5)) for image in moved]
    assert np.allclose(radii, np.hypot(8.5, 0.5), atol=0.3)


def test_every_movement_changes_the_image_and_keeps_its_values_in_range() -> None:
    images = np.repeat(_dot(row=8, column=18), 4, axis=0)
    for name in ("shift_pixels", "rotation_degrees", "scale", "shear", "warp_pixels"):
        amount = 20.0 if name == "rotation_degrees" else 0.5
        moved = augment(images, AugmentRecipe(**{name: amount}), np.random.default_rng(1))
        assert not np.array_equal(moved, images), name
        assert moved.min() >= 0
        assert moved.max() <= 200


def test_all_channels_of_an_image_move_together() -> None:
    images = np.repeat(_dot(row=9), 3, axis=1)
    recipe = AugmentRecipe(shift_pixels=2.0, rotation_degrees=20.0, scale=0.2, shear=0.2, warp_pixels=1.0)
    moved = augment(images, recipe, np.random.default_rng(2))
    assert np.array_equal(moved[:, 0], moved[:, 1])
    assert np.array_equal(moved[:, 0], moved[:, 2])


def test_the_same_generator_moves_the_same_way() -> None:
    images, recipe = np.repeat(_dot(row=4), 6, axis=0), AugmentRecipe(shift_pixels=2.0, warp_pixels=1.0)
    moved = [augment(images, recipe, np.random.default_rng(7)) for _ in range(2)]
    assert np.array_equal(*moved)
