"""Sprites: their factors, and that nothing but these makes an image."""

import numpy as np
import pytest

from hf_replearn.data import sprites as module
from hf_replearn.data.images import load_images
from hf_replearn.data.sprites import GRID, SHAPES, draw_sprites, sprites


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(module, "TRAIN", 120)
    monkeypatch.setattr(module, "TEST", 40)


def turned(name, shape, *, scale=5):
    """One shape in all orientations, (40, 64 * 64)."""
    factors = np.array([[shape, scale, turn, 16, 16] for turn in range(40)])
    return draw_sprites(factors, name).reshape(40, -1)


def test_orientations_look_different_but_for_symmetries():
    different = {name: [len(np.unique(turned(name, shape), axis=0)) for shape in range(3)] for name in SHAPES}
    assert different == {"sprites": [10, 20, 40], "sprites-asymmetric": [40, 40, 40]}


def test_the_first_orientation_is_not_the_last_again():
    """Which it is in dSprites."""
    heart = turned("sprites", 2)
    assert (heart[0] != heart[39]).any()
    assert (heart[0] != heart[39]).sum() < (heart[0] != heart[20]).sum()  # yet they are neighbours


def test_a_quarter_turn_of_the_square_is_itself():
    square = turned("sprites", 0)
    np.testing.assert_array_equal(square[:10], square[10:20])


def test_positions_move_a_shape_and_change_nothing_else():
    at = draw_sprites(np.array([[2, 3, 7, 0, 0], [2, 3, 7, 5, 0], [2, 3, 7, 0, 9]]))
    np.testing.assert_array_equal(np.roll(at[0], 5, axis=1), at[1])  # to the right
    np.testing.assert_array_equal(np.roll(at[0], 9, axis=0), at[2])  # down


def test_no_shape_is_cut_off_anywhere():
    corners = [[shape, 5, turn, x, y] for shape in range(3) for turn in range(40) for x in (0, 31) for y in (0, 31)]
    for name in SHAPES:
        ink = draw_sprites(np.array(corners), name).astype(bool).sum((1, 2)).reshape(-1, 4)
        assert (ink == ink[:, :1]).all() and ink.min() > 50


def test_a_shape_grows_with_its_scale():
    areas = draw_sprites(np.array([[1, scale, 3, 8, 8] for scale in range(6)])).astype(bool).sum((1, 2))
    np.testing.assert_allclose(areas / areas[-1], (0.5 + np.arange(6) / 10) ** 2, rtol=0.05)
    assert areas[-1] == pytest.approx(np.pi * 0.5 * 0.95 * 16**2, rel=0.03)


def test_columns_say_what_the_image_shows():
    train, test = sprites().values()
    assert (len(train), len(test)) == (120, 40)
    assert train.column_names == ["image", *GRID]
    seen = {tuple(row[name] for name in GRID) for part in (train, test) for row in part}
    assert len(seen) == 160  # no combination twice
    from hf_replearn.data.decoding import decode_rgb

    for row in test.select(range(10)):
        ink = np.argwhere(np.asarray(decode_rgb(row["image"]))[:, :, 0] > 0)  # (pixels, 2): y, x
        assert np.hypot(*(ink - [row["y"], row["x"]]).T).max() <= 16 * row["scale"] + 1
        assert set(np.unique(np.asarray(decode_rgb(row["image"])))) == {0, 255}


def test_they_are_a_dataset_of_images_with_the_shape_for_a_label():
    data = load_images("sprites-asymmetric")
    assert data.label_names == ["triangle", "heart", "flag"] and data.common_size == (64, 64)
    assert data.fingerprint == load_images("sprites-asymmetric").fingerprint
