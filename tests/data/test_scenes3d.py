"""Scenes in space: geometry by hand, and that each factor changes what it names and nothing else."""

import colorsys

import numpy as np
import pytest

from hf_replearn.data import scenes3d as module
from hf_replearn.data.factors import KNOWN
from hf_replearn.data.images import load_images
from hf_replearn.data.scenes3d import GRID, OBJECTS, SCALES, draw_scenes, scenes3d

SPHERE = [3, 6, 0, 4, 2, 7]


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(module, "TRAIN", 30)
    monkeypatch.setattr(module, "TEST", 10)
    monkeypatch.setattr(module, "_light", lambda *_: np.full((64, 64, 3), 0.3, np.float32))  # its geometry takes long


def changed(**factors):
    row = dict(zip(GRID, SPHERE, strict=True)) | factors
    return draw_scenes(np.array([list(row.values())]))[0].astype(int)


@pytest.mark.parametrize("shape", OBJECTS)
def test_objects_stand_on_the_floor_and_lie_in_the_sphere_that_rays_are_cut_by(shape):
    half = SCALES[-1]
    distance = OBJECTS[shape](half)
    points = np.random.default_rng(0).uniform((-2, -2, 0), (2, 2, 3.5), (4000, 3))
    inside = points[distance(points) < 0]
    assert np.linalg.norm(inside - module.MIDDLE, axis=1).max() < module.RADIUS
    assert distance(np.array([[0, 0, 1e-6]]))[0] <= 0 < distance(np.array([[0, 0, -1e-3]]))[0]


@pytest.mark.parametrize("shape", OBJECTS)
def test_distances_to_a_surface_are_never_too_long(shape):
    """A step by them must not enter the object: no two points differ by more than what lies between them."""
    rng = np.random.default_rng(1)
    first, second = rng.uniform(-3, 3, (2, 3000, 3))
    distance = OBJECTS[shape](1.0)
    assert (abs(distance(first) - distance(second)) <= np.linalg.norm(first - second, axis=1) + 1e-9).all()


def test_rays_reach_a_sphere_where_geometry_says():
    rng = np.random.default_rng(2)
    starts = np.tile([6.0, 0.5, 3.0], (500, 1))
    aims = rng.uniform((-1.5, -1.5, -0.5), (1.5, 1.5, 2.5), (500, 3))
    rays = (aims - starts) / np.linalg.norm(aims - starts, axis=1, keepdims=True)
    middle = np.array([0, 0, 1.0]) - starts
    along = (middle * rays).sum(1)
    inner = 1.0 - ((middle**2).sum(1) - along**2)
    expected = np.where(inner > 0, along - np.sqrt(np.maximum(inner, 0)), np.inf)
    found = module._march(OBJECTS["sphere"](1.0), starts, rays)
    clear = abs(inner) > 0.02  # rays that graze take more steps
    np.testing.assert_array_equal(np.isfinite(found[clear]), np.isfinite(expected[clear]))
    both = clear & np.isfinite(expected)
    np.testing.assert_allclose(found[both], expected[both], atol=0.01)
    normals = module._normals(OBJECTS["sphere"](1.0), np.array([[1.0, 0, 1], [0, 0, 2], [0, -1, 1]]))
    np.testing.assert_allclose(normals, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-6)


def test_hues_change_the_surface_that_they_name_alone():
    base = changed()
    floor, wall, thing = (np.any(base != changed(**{name: 1}), axis=-1) for name in list(GRID)[:3])
    assert not (thing & wall)[:20].all() and floor[-1].all() and wall[0].all()
    assert (floor | wall | thing).all()
    edges = (floor & wall) | (floor & thing) | (wall & thing)  # where two share a pixel
    assert edges.mean() < 0.08
    lit = np.array(colorsys.hsv_to_rgb(0.3, 0.75, 1.0))
    shade = base[-1, 0] / 255
    np.testing.assert_allclose(shade / shade.max(), lit, atol=0.02)


def test_scale_shape_and_azimuth_can_be_seen():
    areas = []
    for scale in (0, 3, 7):
        areas.append(np.any(changed(scale=scale) != changed(scale=scale, object_hue=5), axis=-1).sum())
    assert areas[0] < areas[1] < areas[2]
    different = [changed(shape=shape) for shape in range(4)] + [changed(azimuth=turn) for turn in (0, 6, 8, 14)]
    assert len({image.tobytes() for image in different}) == 8


def test_columns_are_factors(few):
    train, test = scenes3d().values()
    assert (len(train), len(test)) == (30, 10) and train.column_names == ["image", *GRID]
    assert set(train["azimuth"]) <= set(np.linspace(-30, 30, 15).round(6)) and max(train["floor_hue"]) <= 0.9
    seen = {tuple(row[name] for name in GRID) for part in (train, test) for row in part}
    assert len(seen) == 40
    assert KNOWN["scenes3d"] == tuple(GRID)


def test_they_are_a_dataset_of_images(few):
    data = load_images("scenes3d")
    assert data.label_names == list(module.SHAPES) and data.common_size == (64, 64)
