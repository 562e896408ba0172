"""DINO's loss, centring and Sinkhorn-Knopp against Python loops and lightly; what its schedules do; its crops. What its
teacher does is in test_teachers.py."""

import math
from functools import partial

import pytest
import torch
from torch.nn.functional import normalize

from hf_replearn.augmentation import simclr_cifar
from hf_replearn.errors import InputError
from hf_replearn.methods.dino import DINOConfig, DINOForPreTraining, centred, dino, sinkhorn
from hf_replearn.methods.dino.collating_dino import DataCollatorForMultiCrop
from hf_replearn.randomness import Place
from hf_replearn.training.optimizers import adamw

SMALL = {"backbone": "resnet18", "stem": "cifar", "backbone_args": {"layers": [1] * 4, "channels": [8] * 4}}
SMALL |= {"prototypes": 32, "projection_hidden": 16}


def model_of(**changes) -> DINOForPreTraining:
    torch.manual_seed(0)
    return DINOForPreTraining(DINOConfig(**SMALL | changes)).train()


def test_it_is_equation_3_over_all_pairs_but_a_crop_and_itself():
    logits, targets = torch.randn(3, 5, 7), torch.rand(3, 2, 7).softmax(-1)
    by_hand, pairs = 0.0, 0
    for b in range(3):
        for large in (0, 1):
            for crop in range(5):
                if crop != large:
                    p = [math.exp(logits[b, crop, k].item() / 0.1) for k in range(7)]
                    by_hand -= sum(targets[b, large, k].item() * math.log(p[k] / sum(p)) for k in range(7))
                    pairs += 1
    assert pairs == 3 * 2 * 4
    assert dino(logits, targets, 0.1).item() == pytest.approx(by_hand / pairs, rel=1e-5)


def test_it_is_ln_k_where_the_student_knows_nothing_and_there_it_starts():
    targets = torch.randn(4, 2, 64).softmax(-1)
    assert dino(torch.zeros(4, 6, 64), targets, 0.1).item() == pytest.approx(math.log(64), rel=1e-6)
    model = model_of(prototypes=1024)
    loss = model(torch.randn(8, 2, 3, 32, 32), local_crops=torch.randn(8, 2, 3, 16, 16)).loss
    assert loss.item() == pytest.approx(math.log(1024), rel=0.1)


def test_centring_takes_the_running_mean_off_before_the_temperature():
    logits, centre = torch.randn(3, 2, 5), torch.randn(5)
    told = centred(logits, centre, 0.04)
    e = [math.exp((logits[1, 1, k] - centre[k]).item() / 0.04) for k in range(5)]
    assert told[1, 1].tolist() == pytest.approx([value / sum(e) for value in e], rel=1e-4)
    assert centred(logits, logits[0, 0], 0.04)[0, 0].tolist() == pytest.approx([0.2] * 5, rel=1e-5)


def test_sinkhorn_sums():
    """One crop, one unit; every prototype the same share of all crops, although one was every crop's favourite."""
    logits = torch.randn(64, 2, 8)
    logits[:, :, 0] += 3
    told = sinkhorn(logits, 0.5, iterations=50)
    torch.testing.assert_close(told.sum(-1), torch.ones(64, 2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(told.sum((0, 1)), torch.full((8,), 16.0), rtol=1e-3, atol=1e-3)
    assert (logits.div(0.5).softmax(-1).sum((0, 1))[0] > 60).item()
    assert sinkhorn(1e4 * logits, 0.04).isfinite().all()  # where exp would overflow


def test_the_centre_moves_after_the_loss_is_taken_and_only_in_training():
    model, images = model_of(centre_momentum=0.75), torch.randn(4, 2, 3, 32, 32)
    f, g = model.teacher
    logits = torch.stack([g(f(view).pooler_output) for view in images.unbind(1)], 1).detach()
    model.centre.copy_(torch.randn(32))
    before = model.centre.clone()
    found = model(images)
    want = dino(found.projections, centred(logits, before, 0.04), 0.1)
    assert found.loss.item() == pytest.approx(want.item(), rel=1e-4)
    torch.testing.assert_close(model.centre, 0.75 * before + 0.25 * logits.mean((0, 1)), rtol=1e-4, atol=1e-5)
    now = model.centre.clone()
    model(images, return_loss=False)
    model.eval()(images)
    assert torch.equal(model.centre, now)
    model = model_of(centring="sinkhorn")
    loss = model(images).loss
    assert loss.isfinite() and model.centre.abs().max() == 0


def test_the_temperature_of_the_teacher_warms_up():
    model = model_of(temperature_warmup=0.5)
    found = [model.teacher_temperature.item()]
    for progress in (0.0, 0.25, 0.5, 0.9):
        model.after_step(progress)
        found.append(model.teacher_temperature.item())
    assert found == pytest.approx([0.04, 0.04, 0.055, 0.07, 0.07])
    assert model_of(temperature_warmup=0.0).teacher_temperature.item() == pytest.approx(0.07)


def test_the_students_prototypes_begin_to_learn_later_and_the_teachers_follow():
    """Frozen are the student's alone, and only for their share: a teacher that is frozen too would never follow."""
    model, images = model_of(frozen_share=0.5, momentum=0.5), torch.randn(4, 2, 3, 32, 32)
    optimizer = adamw(model, 1e-2, weight_decay=0.1)
    student, teacher = model.student[1], model.teacher[1]

    def step(progress: float) -> tuple[float, float]:
        """How far the directions of the student's prototypes have moved, and how far the teacher's are from them."""
        before = normalize(student.prototypes.detach().clone(), dim=1)
        model(images).loss.backward()
        assert student.prototypes.grad is not None and student.mlp[0].weight.grad.abs().max() > 0
        optimizer.step()
        optimizer.zero_grad()
        model.after_step(progress)
        now = normalize(student.prototypes.detach(), dim=1)
        return (now - before).abs().max().item(), (normalize(teacher.prototypes, dim=1) - now).abs().max().item()

    assert all(step(progress)[0] < 1e-6 for progress in (0.0, 0.3))
    step(0.6)
    moved, behind = step(0.8)
    assert moved > 1e-4 and 0 < behind < 0.1
    assert step(1.0)[0] > 1e-4  # a teacher that stands still holds nothing back


def test_the_teacher_is_what_is_kept(tmp_path):
    from transformers import AutoModel

    model = model_of()
    for parameter in model.student[0].parameters():
        parameter.data.add_(1)
    model.save_pretrained(tmp_path)
    kept = AutoModel.from_pretrained(tmp_path).encoder.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in model.teacher[0].encoder.state_dict().items())
    assert model.teacher[0] is model.model
    assert not torch.equal(kept["conv1.weight"], model.student[0].encoder.conv1.weight)


@pytest.mark.parametrize("targets", ["centred", "sinkhorn"])
def test_two_processes_give_the_loss_and_gradients_of_one(targets, difference_of_two_processes):
    """With a centre that has taken in the mean of all processes."""
    model = model_of(prototypes=8, centring="sinkhorn" if targets == "sinkhorn" else "mean", centre_momentum=0.0)

    def loss(z, labels):
        told = z.detach().roll(1, -1)
        model.objective(z.detach(), told)  # the centre moves
        return model.objective(torch.cat([z, z.flip(1) ** 2], 1), told)

    assert max(difference_of_two_processes(loss)) < 1e-5


def test_float32_under_autocast():
    logits, targets = torch.randn(3, 4, 8).bfloat16(), torch.randn(3, 2, 8).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        under = dino(logits, targets, 0.1)
        assert centred(logits[:, :2], torch.zeros(8), 0.04).dtype == sinkhorn(logits[:, :2], 0.04).dtype == under.dtype
    assert under.dtype == torch.float32
    assert under.item() == dino(logits.float(), targets, 0.1).item()


def test_the_head_is_that_of_the_paper_or_batch_normalised():
    kinds = lambda model: [type(layer).__name__ for layer in model.projection.mlp]  # noqa: E731
    assert [kind for kind in kinds(model_of()) if kind != "Identity"] == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    normed = kinds(model_of(head_norm=True))
    assert normed == ["Linear", "BatchNorm1d", "GELU", "Linear", "BatchNorm1d", "GELU", "Linear"]
    cosines = model_of()(torch.randn(4, 2, 3, 32, 32), return_loss=False).projections
    assert cosines.abs().max() <= 1 + 1e-6


def test_a_share_out_of_range_is_an_error():
    for name in ("frozen_share", "temperature_warmup", "centre_momentum", "momentum"):
        with pytest.raises(Exception, match=name):
            DINOConfig(**{name: 1.1})


def collator(**changes) -> DataCollatorForMultiCrop:
    large = partial(simclr_cifar, size=16, min_scale=1.0, strength=0.0, flip=0.0)
    small = partial(simclr_cifar, size=8, min_scale=0.1, max_scale=0.2, strength=0.0, flip=0.0)
    settings = {"local_policy": small, "local_crops": 3} | changes
    return DataCollatorForMultiCrop(large, (0.0,) * 3, (1.0,) * 3, **settings)


def test_small_crops_are_small_parts_and_all_of_them_depend_on_the_place_alone():
    ramp = torch.arange(256, dtype=torch.uint8).expand(4, 3, 256, 256).contiguous()  # grey tells where a pixel was
    made = collator().views({"pixel_values": ramp}, Place(0, 3))
    assert made["pixel_values"].shape == (4, 2, 3, 16, 16) and made["local_crops"].shape == (4, 3, 3, 8, 8)
    wide = lambda views: (views[..., -1] - views[..., 0]).mean((2, 3))  # noqa: E731  # share of the width that is seen
    assert wide(made["pixel_values"]).min() > 0.9
    assert wide(made["local_crops"]).max() < 0.6  # an area of a fifth and a ratio of 4/3 at most
    again = collator().views({"pixel_values": ramp}, Place(0, 3))
    assert all(torch.equal(made[name], again[name]) for name in made)
    assert not torch.equal(made["local_crops"], collator().views({"pixel_values": ramp}, Place(0, 4))["local_crops"])
    same = collator(local_policy=collator().policy, local_crops=2).views({"pixel_values": ramp}, Place(0, 3))
    assert same["local_crops"].shape == (4, 2, 3, 16, 16)


def test_small_crops_draw_other_numbers_than_large_ones():
    noise = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
    policy = partial(simclr_cifar, size=16)
    one = DataCollatorForMultiCrop(policy, (0.0,) * 3, (1.0,) * 3, local_policy=policy, local_crops=2)
    made = one.views({"pixel_values": noise}, Place(0, 3))
    assert not torch.equal(made["pixel_values"], made["local_crops"])


def settings_of(**given):
    from hf_replearn.recipes.dino import DINOSettings

    shared = {"dataset": "toy", "output_dir": "out", "augmentation": "imagenet", "strength": 1.0, "min_scale": 0.4}
    return DINOSettings(**shared | {"image_size": 224, "local_crops": 8} | given)


def test_memory_is_counted_for_all_crops():
    assert settings_of().local_pixels == 96  # as in the paper
    counted = settings_of().VIEWS
    assert counted == pytest.approx(2 + 8 * 96**2 / 224**2)
    assert settings_of(local_crops=0).VIEWS == 2
    assert settings_of(image_size=16, local_crops=2).local_pixels == 8
    assert settings_of(local_size=112).local_pixels == 112


@pytest.mark.parametrize(
    ("given", "augment", "message"),
    [
        ({"local_scale": (0.4, 0.05)}, None, "--local_scale 0.4,0.05 must be LOW,HIGH"),
        ({"local_scale": (0.4,)}, None, "--local_scale 0.4 must be LOW,HIGH"),
        ({}, lambda images: images, "--local_crops 8: your own augmentation makes views of one size: --local_crops 0"),
    ],
)
def test_crops_that_cannot_be_made_are_refused(given, augment, message):
    from types import SimpleNamespace

    from hf_replearn.recipes.dino import multi_crop

    backbone, data = SimpleNamespace(mean=(0.5,), std=(0.5,)), SimpleNamespace(canvas=lambda size: None)
    with pytest.raises(InputError, match=message.split("(")[0]):
        multi_crop(settings_of(**given), backbone, data, augment)
    assert type(multi_crop(settings_of(local_crops=0), backbone, data, augment)).__name__ == "DataCollatorForViews"


def test_loss_gradient_and_centre_equal_lightly():
    peer = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra")
    peer = peer.DINOLoss(output_dim=16, teacher_temp=0.05, student_temp=0.1, center_momentum=0.9)
    torch.manual_seed(0)
    teacher, student, centre = torch.randn(32, 2, 16), torch.randn(32, 6, 16), torch.randn(16)
    peer.center.copy_(centre.view(1, 1, 16))
    model = model_of(prototypes=16, warmup_temperature=0.05)
    model.centre.copy_(centre)
    ours, theirs = student.clone().requires_grad_(), student.clone().requires_grad_()
    one = model.objective(ours, teacher)
    other = peer(list(teacher.unbind(1)), list(theirs.unbind(1)), teacher_temp=0.05)
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(model.centre, peer.center.flatten(), rtol=1e-5, atol=1e-6)


def test_sinkhorn_equals_lightly():
    peer = pytest.importorskip("lightly.loss.swav_loss", reason="the peer is in the bench extra").sinkhorn
    logits = torch.randn(16, 2, 8)
    theirs = peer(logits.flatten(0, 1), iterations=3, epsilon=0.07).view(16, 2, 8)
    torch.testing.assert_close(sinkhorn(logits, 0.07), theirs, rtol=1e-4, atol=1e-6)
