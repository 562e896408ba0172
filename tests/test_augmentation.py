"""Each operation against torchvision, PIL or scipy on fixed parameters; each draw by its distribution."""

import colorsys
import itertools
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from hf_replearn import augmentation as ours
from hf_replearn.errors import InputError
from hf_replearn.methods.collating import DataCollatorForViews
from hf_replearn.randomness import Place

# Both compute in float32 but sum in another order: a few units in the last place of numbers up to 1.
ROUNDING = 5e-6
# torchvision weighs red with 0.2989, we and PIL with 0.299: 1e-4 of the grey, of which at most |1 - factor| counts.
LUMA = 1.1e-4


@pytest.fixture(autouse=True)
def _one_thread():  # of images this small, threads cost more than they give
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(n, *, channels=3, height=40, width=40, seed=0):
    """Image-like: blobs of colour of all saturations, with some pixels black and some white."""
    coarse = torch.rand(n, channels, 5, 5, generator=generator(seed)) * 1.4 - 0.2
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def as_uint8(images):
    return (images * 255).round().byte()


# ------------------------------------------------------------------------------------------------ crop, resize, flip


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [16, 32, 100])  # of boxes from 5 to 80 pixels: enlarged, and reduced with antialiasing
def test_crop_resize_is_torchvisions(channels, size):
    images = smooth(4, channels=channels, height=60, width=80)
    pixels = torch.tensor([[3, 7, 53, 47], [0, 0, 80, 60], [75, 0, 80, 60], [10, 55, 70, 60]])
    mirrored = torch.tensor([False, True, True, False])
    got = ours.crop_resize(images, pixels / torch.tensor([80, 60, 80, 60]), size, mirrored=mirrored)
    for image, (left, top, right, bottom), mirror, view in zip(images, pixels.tolist(), mirrored, got, strict=True):
        want = tv.resized_crop(image, top, left, bottom - top, right - left, [size, size], antialias=True)
        torch.testing.assert_close(view, want.flip(-1) if mirror else want, atol=ROUNDING, rtol=0)


def test_crop_resize_of_uint8_is_pils():
    image = as_uint8(smooth(1, height=48, width=64))
    got = ours.crop_resize(image, torch.tensor([[8 / 64, 6 / 48, 40 / 64, 30 / 48]]), 16)[0]
    want = tv.to_pil_image(image[0]).crop((8, 6, 40, 30)).resize((16, 16), Image.Resampling.BILINEAR)
    torch.testing.assert_close(got, tv.to_image(want) / 255, atol=1.01 / 255, rtol=0)  # PIL rounds twice to 8 bits


def test_crop_never_looks_outside_its_box():
    images = torch.full((1, 1, 20, 20), 1e6)
    images[..., 4:12, 6:16] = torch.rand(8, 10, generator=generator())
    for size in (3, 8, 50):
        assert ours.crop_resize(images, torch.tensor([[6, 4, 16, 12]]) / 20, size).amax() <= 1 + ROUNDING


def crops(n, *, shape, **settings):
    """Scale, log ratio and centre of n drawn crops, in pixels of the image as torchvision has them."""
    height, width = shape
    left, top, right, bottom = ours.draw_crop(n, shape=shape, generator=generator(1), **settings).unbind(1)
    return describe(left * width, top * height, (right - left) * width, (bottom - top) * height, shape)


def torchvision_crops(n, *, shape, min_scale=0.08):
    torch.manual_seed(2)
    transform = v2.RandomResizedCrop(32, scale=(min_scale, 1.0))
    drawn = [transform.make_params([torch.empty(3, *shape)]) for _ in range(n)]
    left, top, width, height = (torch.tensor([float(d[k]) for d in drawn]) for k in ("left", "top", "width", "height"))
    return describe(left, top, width, height, shape)


def describe(left, top, width, height, shape):
    area = width * height / math.prod(shape)
    return {"scale": area, "ratio": (width / height).log(), "x": left + width / 2, "y": top + height / 2}


def assert_same_distribution(a, b, what):
    assert stats.ks_2samp(a.numpy(), b.numpy()).pvalue > 1e-3, what


@pytest.mark.parametrize("shape", [(32, 32), (375, 500), (60, 200)])
def test_drawn_crops_are_distributed_as_torchvisions(shape):
    mine, theirs = crops(3000, shape=shape), torchvision_crops(3000, shape=shape)
    for what in mine:
        assert_same_distribution(mine[what].round(decimals=4), theirs[what].round(decimals=4), what)


@pytest.mark.parametrize("shape", [(50, 200), (200, 50)])
def test_crop_falls_back_to_the_centre_as_torchvision(shape):
    mine = crops(3, shape=shape, min_scale=0.95)  # no box of 95 % has a ratio up to 4/3 in a picture of 4/1
    theirs = torchvision_crops(3, shape=shape, min_scale=0.95)
    for what in mine:
        torch.testing.assert_close(mine[what], theirs[what])


def test_crop_of_a_squeezed_picture_has_the_pictures_ratio():
    theirs = torchvision_crops(3000, shape=(300, 600))
    mine = crops(3000, shape=(300, 300), aspect=torch.full((3000,), 2.0))
    assert_same_distribution(mine["ratio"] + math.log(2), theirs["ratio"], "ratio")
    assert_same_distribution(mine["scale"], theirs["scale"], "scale")
    assert_same_distribution(mine["x"] * 2, theirs["x"], "x")


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_flip(channels):
    images = smooth(2, channels=channels)
    got = ours.flip(images, torch.tensor([True, False]))
    assert got[0].equal(tv.horizontal_flip(images[0])) and got[1].equal(images[1])


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_coin(p):
    heads = int(ours.draw_coin(5000, p, generator=generator()).sum())
    assert stats.binomtest(heads, 5000, p).pvalue > 1e-3


# ------------------------------------------------------------------------------------------------ colour

PEERS = {
    ours.brightness: (tv.adjust_brightness, [0.0, 0.4, 1.0, 1.8], ROUNDING),
    ours.contrast: (tv.adjust_contrast, [0.0, 0.4, 1.0, 1.8], LUMA),
    ours.saturation: (tv.adjust_saturation, [0.0, 0.4, 1.0, 1.8], LUMA),
    ours.hue: (tv.adjust_hue, [-0.5, -0.2, 0.07, 0.5], ROUNDING),
}


@pytest.mark.parametrize("operation", PEERS, ids=lambda f: f.__name__)
def test_colour_operation_is_torchvisions(operation):
    peer, factors, tolerance = PEERS[operation]
    images = smooth(4)
    got = operation(images, torch.tensor(factors))
    want = torch.stack([peer(image, factor) for image, factor in zip(images, factors, strict=True)])
    torch.testing.assert_close(got, want, atol=tolerance, rtol=0)


def test_hue_is_colorsys_at_the_corners():
    """Black, white, grey, the six pure colours and all ties between two channels: where the cases of HSV meet."""
    colours = list(itertools.product([0.0, 0.3, 0.6, 1.0], repeat=3))
    for shift in (-0.37, 0.0, 0.2):
        got = ours.hue(torch.tensor(colours).T.reshape(1, 3, 8, 8), torch.tensor([shift]))
        hsv = [colorsys.rgb_to_hsv(*colour) for colour in colours]
        want = torch.tensor([colorsys.hsv_to_rgb((h + shift) % 1, s, v) for h, s, v in hsv])
        torch.testing.assert_close(got.flatten(2)[0].T, want, atol=ROUNDING, rtol=0)


def test_colour_jitter_applies_each_images_own_order():
    order = torch.tensor(list(itertools.permutations(range(4))) + [(-1,) * 4])
    images = smooth(25)
    factors, _ = ours.draw_jitter(25, strength=1.0, generator=generator())
    got = ours.colour_jitter(images, factors, order)
    peers = [peer for peer, _, _ in PEERS.values()]
    for i, image in enumerate(images):
        for operation in order[i].tolist():
            if operation >= 0:
                image = peers[operation](image, factors[i, operation].item())
        # a difference of LUMA at first is stretched by at most 1.8 in each of three later turns
        torch.testing.assert_close(got[i], image, atol=LUMA * 1.8**3, rtol=0)
    assert got[24].equal(images[24])
    assert (got[:24] - got[:1]).abs().flatten(1).amax(1)[1:].min() > 0.01


def test_drawn_jitter():
    factors, order = ours.draw_jitter(6000, strength=0.5, generator=generator())
    for i, (low, high) in enumerate([(0.6, 1.4)] * 3 + [(-0.1, 0.1)]):
        assert stats.kstest(factors[:, i].numpy(), "uniform", (low, high - low)).pvalue > 1e-3
    jittered = order[:, 0] >= 0
    assert stats.binomtest(int(jittered.sum()), 6000, 0.8).pvalue > 1e-3
    assert (order[~jittered] == -1).all()
    _, counts = order[jittered].unique(dim=0, return_counts=True)
    assert len(counts) == 24 and stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_drawn_jitter_has_no_negative_factor():
    factors, _ = ours.draw_jitter(1000, strength=2.0, generator=generator())
    assert factors[:, :3].min() >= 0 and factors[:, :3].max() > 2.5


def test_grey_is_pils():
    image = as_uint8(smooth(1))
    want = tv.to_image(tv.to_pil_image(image[0]).convert("L")) / 255
    got = ours.grey(image / 255)[0]
    torch.testing.assert_close(got, want.expand(3, -1, -1), atol=0.51 / 255, rtol=0)  # PIL rounds to 8 bits


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_colour_operations_refuse_other_than_rgb(channels):
    images, one = smooth(2, channels=channels), torch.ones(2)
    for operation in (ours.brightness, ours.contrast, ours.saturation, ours.hue):
        with pytest.raises(InputError, match=f"RGB.*\\(2, {channels}, 40, 40\\)"):
            operation(images, one)
    with pytest.raises(InputError, match="grey needs RGB"):
        ours.grey(images)
    with pytest.raises(InputError, match="colour_jitter needs RGB"):
        ours.colour_jitter(images, torch.ones(2, 4), torch.full((2, 4), -1))


@pytest.mark.parametrize("policy", [ours.simclr_cifar, ours.simclr_imagenet])
@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_views_of_one_channel_are_those_of_three_that_are_equal(policy, strength):
    """Greys have no saturation and no hue, and are grey: what is left out for one channel changes nothing in three."""
    images = as_uint8(smooth(40, channels=1))
    one = policy(images, generator=generator(), size=24, strength=strength, views=2)
    three = policy(images.expand(-1, 3, -1, -1), generator=generator(), size=24, strength=strength, views=2)
    assert one.shape == (80, 1, 24, 24)
    torch.testing.assert_close(one.expand(-1, 3, -1, -1), three, atol=2e-6, rtol=0)


@pytest.mark.parametrize("channels", [2, 5, 13])
def test_each_of_many_channels_has_the_view_that_it_would_have_alone(channels):
    images = as_uint8(smooth(20, channels=channels))
    many = ours.simclr_imagenet(images, generator=generator(), size=24, views=2)
    assert many.shape == (40, channels, 24, 24) and many.min() >= 0 and many.max() <= 1
    for channel in range(channels):
        alone = ours.simclr_imagenet(images[:, channel, None], generator=generator(), size=24, views=2)
        torch.testing.assert_close(many[:, channel, None], alone, atol=2e-6, rtol=0)


def test_intensity_jitter_by_hand():
    image = torch.tensor([[[[0.2, 0.6]], [[0.0, 0.8]]]])  # (1, 2, 1, 2), means .4 and .4
    factors = torch.tensor([[1.5, 0.5, 9.0, 9.0]])
    first = ours.intensity_jitter(image, factors, torch.tensor([[ours.BRIGHTNESS, 2, 3, ours.CONTRAST]]))
    # x 1.5: .3 .9, 0 1 (clamped); halfway to the means .6 and .5
    torch.testing.assert_close(first, torch.tensor([[[[0.45, 0.75]], [[0.25, 0.75]]]]))
    last = ours.intensity_jitter(image, factors, torch.tensor([[3, ours.CONTRAST, ours.BRIGHTNESS, 2]]))
    torch.testing.assert_close(last, torch.tensor([[[[0.45, 0.75]], [[0.3, 0.9]]]]))
    assert torch.equal(ours.intensity_jitter(image, factors, torch.full((1, 4), -1)), image)


# ------------------------------------------------------------------------------------------------ blur and the rest


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("height", "width", "kernel"), [(32, 32, 3), (96, 60, 9), (30, 96, 3), (224, 40, 23)])
def test_gaussian_blur_is_torchvisions(channels, height, width, kernel):
    images = smooth(3, channels=channels, height=height, width=width)
    sigmas = [0.1, 0.9, 2.0]
    got = ours.gaussian_blur(images, torch.tensor(sigmas))
    want = torch.stack([tv.gaussian_blur(x, [kernel, kernel], [s, s]) for x, s in zip(images, sigmas, strict=True)])
    torch.testing.assert_close(got, want, atol=ROUNDING, rtol=0)


def test_drawn_sigma():
    sigma = ours.draw_blur(5000, generator=generator())
    assert stats.binomtest(int((sigma > 0).sum()), 5000, 0.5).pvalue > 1e-3
    assert stats.kstest(sigma[sigma > 0].numpy(), "uniform", (0.1, 1.9)).pvalue > 1e-3


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_rotate(channels):
    images = smooth(4, channels=channels)
    for turns, got, image in zip(range(4), ours.rotate(images, torch.arange(4)), images, strict=True):
        assert got.equal(tv.rotate(image, 90.0 * turns))
    with pytest.raises(InputError, match="square images, got 40 × 50"):
        ours.rotate(smooth(1, width=50), torch.tensor([1]))


def test_drawn_rotation():
    counts = ours.draw_rotation(4000, generator=generator()).bincount()
    assert len(counts) == 4 and stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_cutout(channels):
    images = smooth(2, channels=channels, height=40, width=50)
    boxes = torch.tensor([[0.2, 0.25, 0.6, 0.75], [-0.2, 0.5, 0.3, 1.2]])
    got = ours.cutout(images, boxes)
    assert got[0].equal(tv.erase(images[0], 10, 10, 20, 20, v=torch.tensor(0.5)))
    assert got[1].equal(tv.erase(images[1], 20, 0, 20, 15, v=torch.tensor(0.5)))


def test_drawn_cutout():
    boxes = ours.draw_cutout(3000, generator=generator(), side=0.4)
    torch.testing.assert_close(boxes[:, 2:] - boxes[:, :2], torch.full((3000, 2), 0.4))
    for i in range(2):
        assert stats.kstest((boxes[:, i] + 0.2).numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_gaussian_noise(channels):
    images = smooth(2, channels=channels)
    noise = ours.draw_noise(images.shape, generator=generator(), sigma=0.2)
    assert stats.kstest(noise.flatten().numpy(), "norm", (0, 0.2)).pvalue > 1e-3
    assert ours.gaussian_noise(images, noise).equal((images + noise).clamp(0, 1))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_sobel_is_scipys(channels):
    images = smooth(2, channels=channels, height=30, width=40)
    for got, plane in zip(ours.sobel(images).flatten(0, 1), images.flatten(0, 1), strict=True):
        down, across = (torch.from_numpy(ndimage.sobel(plane.numpy(), axis=axis, mode="mirror")) for axis in (0, 1))
        torch.testing.assert_close(got, (torch.hypot(down, across) / 4).clamp(max=1), atol=ROUNDING, rtol=0)


def test_normalize_is_torchvisions():
    images, mean, std = smooth(3), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    want = tv.normalize(images, mean, std)
    torch.testing.assert_close(ours.normalize(images, mean, std), want)


# ------------------------------------------------------------------------------------------------ the policies

POLICIES = pytest.mark.parametrize("policy", [ours.simclr_cifar, ours.simclr_imagenet], ids=lambda f: f.__name__)


@POLICIES
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (50, 40, 24), (20, 30, 64)])
def test_policy_gives_floats_in_the_unit_interval(policy, height, width, size):
    images = as_uint8(smooth(20, height=height, width=width))
    before = images.clone()
    views = policy(images, size=size, views=2, generator=generator())
    assert views.shape == (40, 3, size, size) and views.dtype == torch.float32
    assert views.min() >= 0 and views.max() <= 1
    assert images.equal(before)


@POLICIES
def test_policy_depends_on_the_generator_alone(policy, monkeypatch):
    images = as_uint8(smooth(30))
    views = policy(images, size=32, views=2, generator=generator(5))
    assert policy(images, size=32, views=2, generator=generator(5)).equal(views)
    assert not policy(images, size=32, views=2, generator=generator(6)).equal(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert policy(images, size=32, views=2, generator=generator(5)).equal(views)
    monkeypatch.setattr(ours, "_tile", lambda *_: 7)
    assert policy(images, size=32, views=2, generator=generator(5)).equal(views)


@POLICIES
def test_view_of_an_image_lies_in_its_row(policy):
    """A flat image stays flat whatever the crop, so with no jitter its level tells which image a row shows."""
    levels = torch.arange(16, dtype=torch.uint8) * 16
    views = policy(levels.view(16, 1, 1, 1).repeat(1, 3, 40, 40), size=32, strength=0.0, views=3, generator=generator())
    want = (levels / 255).repeat(3).view(48, 1, 1, 1).expand(48, 3, 32, 32)
    torch.testing.assert_close(views, want, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize(("policy", "sharp"), [(ours.simclr_cifar, 1.0), (ours.simclr_imagenet, 0.5)])
def test_what_is_left_with_the_rest_switched_off(policy, sharp, flip):
    """The whole image, mirrored or not, without jitter: 80 % in colour, and as many sharp as are not blurred."""
    n = 400
    image = as_uint8(torch.rand(1, 3, 32, 32, generator=generator()))
    settings = {"size": 32, "strength": 0.0, "min_scale": 1.0, "flip": flip}
    views = policy(image.expand(n, -1, -1, -1), generator=generator(), **settings)
    want = image.flip(-1) / 255 if flip else image / 255
    in_colour = (views.amax(1) - views.amin(1)).amax((1, 2)) > 1e-3
    assert stats.binomtest(int(in_colour.sum()), n, 0.8).pvalue > 1e-3
    same = ((views - torch.where(in_colour[:, None, None, None], want, ours.grey(want))).abs() < 1e-5).all((1, 2, 3))
    assert sharp - 0.08 < same.float().mean() <= sharp + 0.12  # a blur of less than 0.2 pixels does not show


@POLICIES
def test_policy_crops_by_the_pictures_aspect(policy):
    """Red grows from left to right and green from top to bottom, so their ranges tell a crop's width and height."""
    ramp = torch.linspace(0, 1, 64).expand(64, 64)
    images = as_uint8(torch.stack([ramp, ramp.T, ramp * 0])).expand(150, -1, -1, -1)
    aspect = torch.tensor([0.5, 1.0, 3.0]).repeat(50)
    views = policy(images, size=32, strength=0.0, views=2, aspect=aspect, generator=generator())
    spread = views.amax((2, 3)) - views.amin((2, 3))  # (300, 3)
    in_colour = spread[:, 2] < 1e-3
    ratio = (spread[:, 0] / spread[:, 1]).where(in_colour, torch.nan).view(100, 3)
    torch.testing.assert_close(ratio.nanmedian(0).values * aspect[:3], torch.ones(3), atol=0.15, rtol=0)


@POLICIES
def test_policy_refuses_wrong_settings(policy):
    images = as_uint8(smooth(2))
    with pytest.raises(InputError, match="uint8 images, got torch.float32"):
        policy(smooth(2), generator=generator())
    for wrong in ({"strength": -1.0}, {"strength": 3.0}, {"min_scale": 0.0}, {"min_scale": 1.5}, {"flip": 1.1}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} {next(iter(wrong.values()))}"):
            policy(images, generator=generator(), **wrong)


def torchvision_pipeline(*, size, strength, blur):
    jitter = v2.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([jitter], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(int(0.1 * size) | 1, sigma=(0.1, 2.0))], p=blur),
        ]
    )


@pytest.mark.parametrize(
    ("policy", "size", "blur", "strength"), [(ours.simclr_cifar, 32, 0.0, 0.5), (ours.simclr_imagenet, 48, 0.5, 1.0)]
)
def test_policy_is_distributed_as_torchvisions_pipeline(policy, size, blur, strength):
    n = 1200
    image = smooth(1, height=50, width=60, seed=3)
    image = (image + 0.1 * torch.rand(image.shape, generator=generator())).clamp(0, 1)  # texture, for blur to smooth
    torch.manual_seed(1)
    transform = torchvision_pipeline(size=size, strength=strength, blur=blur)
    theirs = torch.stack([transform(image[0]) for _ in range(n)])
    mine = policy(as_uint8(image).expand(n, -1, -1, -1), size=size, generator=generator(1))
    statistics = {
        "level": lambda x: x.mean((1, 2, 3)),
        "contrast": lambda x: x.std((1, 2, 3)),
        "colourfulness": lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)),
        "red": lambda x: x[:, 0].mean((1, 2)),
        "detail": lambda x: (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3)),
        "left less right": lambda x: x[..., : size // 2].mean((1, 2, 3)) - x[..., size // 2 :].mean((1, 2, 3)),
    }
    for what, statistic in statistics.items():
        assert_same_distribution(statistic(mine), statistic(theirs), what)
    error = (theirs.var(0) / n + mine.var(0) / n).sqrt()  # of the difference of two means, for each pixel and channel
    assert ((mine.mean(0) - theirs.mean(0)).abs() / error).max() < 5


# ------------------------------------------------------------------------------------------------ on a GPU


def drawn_for(policy, images, *, aspect=None, views=2, **settings):
    """The arguments with which the policy makes its views, as a function of images, draws and size makes them too."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ours, "_make_views", lambda images, draws, size, **how: found.update(draws=draws, **how))
        policy(images, generator=generator(3), views=views, aspect=aspect, **settings)
    return found["draws"], found["blurred"]


@POLICIES
@pytest.mark.parametrize("strength", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(
    ("channels", "height", "width", "size", "n"),
    [(3, 32, 32, 32, 60), (1, 32, 32, 32, 30), (5, 40, 25, 24, 30), (3, 150, 260, 224, 4), (1, 30, 400, 224, 2)],
)
def test_all_at_once_makes_the_pixels_of_the_tiles(policy, strength, channels, height, width, size, n):
    """Noise, which every operation changes most: 60 images twice have each order of the jitter several times."""
    images = torch.randint(256, (n, channels, height, width), generator=generator(), dtype=torch.uint8)
    aspect = torch.rand(n, generator=generator()) + 0.5
    draws, blurred = drawn_for(policy, images, aspect=aspect, strength=strength)
    assert blurred == bool(draws.sigma.any())
    got = ours._all_at_once(images, draws, size, blurred=blurred)
    torch.testing.assert_close(got, ours._in_tiles(images, draws, size), atol=1e-5, rtol=0)


@pytest.mark.skipif("OWN_PROCESS" not in os.environ, reason="run by training/test_no_round_trip.py")
def test_all_at_once_is_one_graph_for_all_batches_of_a_size():
    images = as_uint8(smooth(12, height=20, width=20))
    compiled = torch.compile(ours._all_at_once, fullgraph=True, backend="eager")
    for n, stance in ((12, "default"), (12, "fail_on_recompile")):
        draws, blurred = drawn_for(ours.simclr_imagenet, images[:n], strength=float(n == 12), min_scale=0.1)
        with torch.compiler.set_stance(stance):
            got = compiled(images[:n], draws, 16, blurred=blurred)
        torch.testing.assert_close(got, ours._in_tiles(images[:n], draws, 16), atol=1e-5, rtol=0)


def test_a_collator_says_whether_views_are_compiled():
    asked = []

    def policy(images, *, views, compiled, **_):
        asked.append(compiled)
        return images.repeat(views, 1, 1, 1) / 255

    collator = DataCollatorForViews(policy, (0.5,) * 3, (0.5,) * 3)
    for compiled in (False, True):
        replace(collator, compiled=compiled).views({"pixel_values": as_uint8(smooth(2))}, Place(0, 0))
    assert asked == [False, True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("compiled", [False, True])
@POLICIES
def test_gpu_gives_the_views_of_the_cpu_and_nobody_waits(policy, compiled):
    images, aspect = as_uint8(smooth(50)), torch.rand(50, generator=generator()) + 0.5
    there = images.cuda(), aspect.cuda()
    for seed in range(2):  # what is compiled or allocated once may wait
        on_cpu = policy(images, size=48, views=2, aspect=aspect, generator=generator(seed))
        torch.cuda.set_sync_debug_mode("error" if seed else "default")
        try:
            on_gpu = policy(there[0], size=48, views=2, aspect=there[1], generator=generator(seed), compiled=compiled)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(32, 32, 1), (30, 50, 5), (1, 1, 3), (1, 300, 2), (300, 1, 3), (32, 32, 3)]
)
def test_the_picture_shows_each_image_beside_its_views(height, width, channels, tmp_path):
    images = as_uint8(smooth(3, height=height, width=width, channels=channels))
    views = ours.simclr_cifar(images, size=16, views=4, generator=generator())
    ours.draw_views(images, views, tmp_path / "augmentations.png")
    with Image.open(tmp_path / "augmentations.png") as written:
        assert written.width > 600 and len(written.convert("RGB").getcolors(2**20)) > 10


def test_the_picture_puts_views_beside_their_own_image(tmp_path):
    """Images of one colour each, whose views keep it: nothing but that colour stands in a row."""
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    images = colours[:, :, None, None].expand(3, 3, 8, 8)
    views = torch.cat([images, images]).float() / 255  # view v of image i is row v * B + i
    ours.draw_views(images, views, tmp_path / "augmentations.png")
    with Image.open(tmp_path / "augmentations.png") as written:
        pixels = np.asarray(written.convert("RGB"))
    for row, band in enumerate(np.array_split(pixels[30:], 3)):
        middle = band[len(band) // 2]
        found = {tuple(pixel) for pixel in middle[(middle.max(1) == 255) & (middle.min(1) == 0)]}
        assert found == {tuple(colours[row].tolist())}


def test_crops_keep_their_colours():
    """The whole of a square image is itself, mirrored if asked; any crop of one colour is of that colour."""
    images = torch.randint(256, (5, 3, 12, 12), dtype=torch.uint8)
    whole = {"size": 12, "min_scale": 1.0, "generator": torch.Generator().manual_seed(0)}
    assert torch.allclose(ours.crop_and_flip(images, flip=0.0, **whole), images / 255, atol=1e-6)
    assert torch.allclose(ours.crop_and_flip(images, flip=1.0, **whole), images.flip(-1) / 255, atol=1e-6)
    flat = torch.tensor([10, 200, 90], dtype=torch.uint8)[:, None, None].expand(2, 3, 30, 20).contiguous()
    crops = ours.crop_and_flip(flat, size=8, min_scale=0.1, views=3, generator=torch.Generator().manual_seed(0))
    assert crops.shape == (6, 3, 8, 8)
    assert torch.allclose(crops, (flat[:1, :, :1, :1] / 255).expand_as(crops), atol=1e-6)
    again = [
        ours.crop_and_flip(images, size=8, views=2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    ]
    assert torch.equal(again[0], again[1]) and not torch.equal(again[0], again[2])
    assert not torch.equal(again[0][:5], again[0][5:])


@pytest.mark.parametrize("wrong", [{"min_scale": 0.0}, {"min_scale": 0.9, "max_scale": 0.5}, {"flip": 1.5}])
def test_crops_that_cannot_be_taken_are_refused(wrong):
    with pytest.raises(InputError, match="needs 0 < min_scale"):
        ours.crop_and_flip(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), size=8, generator=torch.Generator(), **wrong)
