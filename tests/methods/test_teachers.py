"""Every method with a teacher, found by itself: a copy, not an alias, that follows and is never trained."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import hf_replearn
from hf_replearn.methods.trunk import TeacherForPreTraining
from hf_replearn.training.optimizers import adamw

BACKBONE = {"backbone": "resnet18", "stem": "cifar", "backbone_args": {"layers": [1] * 4, "channels": [8] * 4}}
BACKBONE["backbone_args"]["drop_path_rate"] = 0.5  # a teacher in training mode would give other targets each time
WIDTHS = ("projection_dim", "projection_hidden", "predictor_hidden", "prototypes")
VARIANTS = {"MoCoForPreTraining": [{"version": 2, "queue_size": 40}]}  # of methods whose state is another then


def variants():
    for path in sorted(Path(hf_replearn.__file__).parent.glob("methods/*/__init__.py")):
        package = importlib.import_module(f"hf_replearn.methods.{path.parent.name}")
        for found in vars(package).values():
            if isinstance(found, type) and issubclass(found, TeacherForPreTraining):
                yield from ((found, changes) for changes in [{}, *VARIANTS.get(found.__name__, [])])


@pytest.fixture(params=variants(), ids=lambda found: " ".join([found[0].__name__, *map(str, found[1].values())]))
def make(request):
    """A new small model of a method, in training mode."""
    kind, own = request.param

    def make(**changes):
        narrow = {name: 16 for name in vars(kind.config_class()) if name in WIDTHS}
        torch.manual_seed(0)
        return kind(kind.config_class(**BACKBONE, **(narrow | own | changes))).train()

    return make


def tensors(networks) -> dict[str, torch.Tensor]:
    return {f"{i} {name}": value for i, network in enumerate(networks) for name, value in network.state_dict().items()}


def weights(networks) -> dict[str, torch.Tensor]:
    """A copy of them."""
    return {
        f"{i} {name}": value.detach().clone()
        for i, network in enumerate(networks)
        for name, value in network.named_parameters()
    }


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(8, 2, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def step(model, optimizer, *, micro_batches: int = 1, progress: float | None = None) -> None:
    """One step of the optimizer, and with `progress` what follows it."""
    for number in range(micro_batches):
        model(images(number)).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if progress is not None:
        model.after_step(progress)


def test_the_teacher_begins_as_a_copy_and_is_no_alias(make):
    model = make()
    teacher, student = tensors(model.teacher), tensors(model.student)
    assert teacher.keys() == student.keys()
    assert all(torch.equal(teacher[name], student[name]) for name in teacher)
    assert not {value.data_ptr() for value in teacher.values()} & {value.data_ptr() for value in student.values()}


def test_no_optimizer_trains_the_teacher_and_no_gradient_reaches_it(make):
    model = make()
    frozen = {id(p) for network in model.teacher for p in network.parameters()}
    trained = {id(p) for group in adamw(model, 1e-3, weight_decay=0.1).param_groups for p in group["params"]}
    assert frozen and not frozen & trained
    assert {id(p) for p in model.parameters()} == frozen | trained
    model(images()).loss.backward()
    assert all((p.grad is None) == (id(p) in frozen) for p in model.parameters())


def test_the_teacher_moves_once_after_each_step_and_never_in_a_micro_batch(make):
    model = make(momentum=0.75)
    before = weights(model.teacher)
    step(model, adamw(model, 1e-2, weight_decay=0.1), micro_batches=2)
    student, teacher = weights(model.student), weights(model.teacher)
    assert all(torch.equal(value, before[name]) for name, value in teacher.items())
    assert any(not torch.equal(value, before[name]) for name, value in student.items())
    model.after_step(0.0)
    for name, value in weights(model.teacher).items():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * student[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("momentum", "same_as"), [(1.0, "before"), (0.0, "student")])
def test_momentum_1_and_0_are_no_teaching_and_no_memory(make, momentum, same_as):
    model = make(momentum=momentum)
    want = {"before": weights(model.teacher)}
    step(model, adamw(model, 1e-2, weight_decay=0.1), progress=0.0)
    want["student"] = weights(model.student)
    assert all(torch.equal(value, want[same_as][name]) for name, value in weights(model.teacher).items())


def test_momentum_rises_to_1_along_a_cosine(make):
    model = make(momentum=0.9)
    assert [model.momentum(progress) for progress in (0, 1 / 3, 0.5, 1)] == pytest.approx([0.9, 0.925, 0.95, 1.0])


def test_the_teacher_is_in_evaluation_mode_whatever_is_said(make):
    model = make()
    for mode in (True, False, True):
        model.train(mode)
        assert not any(module.training for network in model.teacher for module in network.modules())
        assert all(module.training == mode for network in model.student for module in network.modules())
    nn.Sequential(model).train()  # as DistributedDataParallel does
    assert not any(module.training for network in model.teacher for module in network.modules())


def test_batch_normalisation_of_the_teacher_goes_by_statistics_of_its_own_activations(make, monkeypatch):
    """Which it takes in when it has gone by them: what it makes of an image does not depend on the others."""
    model, told = make(), []
    monkeypatch.setattr(model, "objective", lambda projections, targets: told.append(targets) or projections.sum())
    encoder, before = model.teacher[0].encoder, {name: value.clone() for name, value in model.state_dict().items()}
    other_half = torch.cat([images()[:4], images(1)[4:]])
    model(images())
    model.load_state_dict(before)
    model(other_half)
    torch.testing.assert_close(told[0][:4], told[1][:4], rtol=1e-4, atol=1e-5)

    first = encoder.conv1(other_half.flatten(0, 1))
    torch.testing.assert_close(encoder.bn1.running_mean, 0.1 * first.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)
    encoder.bn1.momentum = 1.0
    model(images())
    now = encoder.bn1.running_var.clone()
    torch.testing.assert_close(now, encoder.conv1(images().flatten(0, 1)).var((0, 2, 3)), rtol=1e-3, atol=1e-5)
    model(images(1), return_loss=False)
    model.eval()(images(1))
    assert torch.equal(encoder.bn1.running_var, now)


def test_a_run_from_a_checkpoint_starts_with_a_teacher_of_its_weights(make):
    model, other = make(), make()
    start = {name: value + 1 for name, value in other.model.encoder.state_dict().items()}
    model.start_from(start)
    for network in (model.teacher[0], model.student[0]):
        assert all(torch.equal(value, start[name]) for name, value in network.encoder.state_dict().items())


def test_saved_and_loaded_the_teacher_is_as_it_was_and_still_not_trained(make, tmp_path):
    model = make()
    step(model, adamw(model, 1e-2, weight_decay=0.1), progress=0.5)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    saved, loaded = model.state_dict(), again.state_dict()
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    again.train()
    assert not any(p.requires_grad for network in again.teacher for p in network.parameters())
    assert all(p.requires_grad for network in again.student for p in network.parameters())
    assert not any(module.training for network in again.teacher for module in network.modules())


def test_the_teacher_stays_float32_under_autocast(make):
    model = make(momentum=0.9999)
    optimizer = adamw(model, 1e-3, weight_decay=0.0)
    before = tensors(model.teacher)["0 encoder.conv1.weight"].clone()
    with torch.autocast("cpu", torch.bfloat16):
        step(model, optimizer, progress=0.0)
    after = tensors(model.teacher)["0 encoder.conv1.weight"]
    assert after.dtype == torch.float32
    assert 0 < (after - before).abs().max() < 1e-6  # a step that bfloat16 would lose


def test_a_momentum_out_of_range_is_an_error(make):
    for momentum in (-0.1, 1.5, math.nan):
        with pytest.raises(Exception, match="momentum"):
            make(momentum=momentum)
