"""The losses of MoCo v2 and v3 against Python loops and lightly; the queue. Its teacher is in test_teachers.py."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

from hf_replearn.methods.moco import MoCoConfig, MoCoForPreTraining, MoCoModel, moco_v2, moco_v3
from hf_replearn.methods.moco.modeling_moco import enqueue
from hf_replearn.recipes.moco import MoCoSettings, main

SMALL = {"backbone": "resnet18", "backbone_args": {"layers": [1] * 4, "channels": [8] * 4}}
SMALL |= {"projection_dim": 16, "projection_hidden": 8, "predictor_hidden": 8}


def queue_of(keys: int, width: int) -> torch.Tensor:
    return normalize(torch.randn(keys, width), dim=1)


def info_nce_by_hand(query, positive, others, temperature) -> float:
    similar = lambda key: math.exp(cosine_similarity(query, key, dim=0).item() / temperature)  # noqa: E731
    return -math.log(similar(positive) / (similar(positive) + sum(map(similar, others))))


def test_version_2_is_equation_1_of_momentum_contrast():
    q, k, queue = torch.randn(5, 2, 8), torch.randn(5, 2, 8), queue_of(7, 8)
    by_hand = sum(info_nce_by_hand(q[b, v], k[b, 1 - v], queue, 0.2) for b in range(5) for v in (0, 1)) / 10
    assert moco_v2(q, k, queue, 0.2).item() == pytest.approx(by_hand, rel=1e-5)
    same = torch.ones(5, 2, 8)
    assert moco_v2(same, same, normalize(torch.ones(7, 8), dim=1), 0.2).item() == pytest.approx(math.log(8), rel=1e-6)


def test_version_3_is_algorithm_1_of_its_paper():
    q, k = torch.randn(5, 2, 8), torch.randn(5, 2, 8)
    by_hand = 0.0
    for view in (0, 1):
        for b in range(5):  # the keys of the other view alone are candidates
            others = [k[other, 1 - view] for other in range(5) if other != b]
            by_hand += 2 * 0.2 * info_nce_by_hand(q[b, view], k[b, 1 - view], others, 0.2) / 5
    assert moco_v3(q, k, 0.2).item() == pytest.approx(by_hand, rel=1e-5)
    same = torch.ones(5, 2, 8)
    assert moco_v3(same, same, 0.2).item() == pytest.approx(4 * 0.2 * math.log(5), rel=1e-6)


@pytest.mark.parametrize("loss", [lambda q, k: moco_v2(q, k, queue_of(7, 8), 0.2), lambda q, k: moco_v3(q, k, 0.2)])
def test_no_gradient_reaches_the_keys_and_it_is_float32_under_autocast(loss):
    q, k = torch.randn(5, 2, 8, requires_grad=True), torch.randn(5, 2, 8, requires_grad=True)
    torch.manual_seed(1)
    plain = loss(q.bfloat16().float(), k.bfloat16().float())
    plain.backward()
    assert k.grad is None and q.grad.abs().sum() > 0
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        under = loss(q.bfloat16(), k.bfloat16())
    assert under.dtype == torch.float32
    assert under.item() == plain.item()


def test_the_queue_goes_round_and_the_oldest_keys_leave():
    """Seven places, which are no multiple of the four keys of a batch."""
    queue, oldest = torch.zeros(7, 3), torch.zeros((), dtype=torch.int64)
    batches = [normalize(torch.randn(2, 2, 3), dim=-1) for _ in range(3)]
    for keys in batches:
        enqueue(queue, oldest, keys)
    last = torch.cat(batches).flatten(0, 1)[-7:]
    torch.testing.assert_close(queue[[(int(oldest) + i) % 7 for i in range(7)]], last)
    enqueue(queue, oldest, torch.randn(8, 2, 3))  # more keys than places
    enqueue(queue, oldest, batches[0])
    torch.testing.assert_close(queue[[(int(oldest) - 4 + i) % 7 for i in range(4)]], batches[0].flatten(0, 1))


def test_the_queue_knows_no_key_of_the_batch_that_is_compared_with_it():
    """And takes it in afterwards: otherwise each query had its positive among the negatives."""
    model = MoCoForPreTraining(MoCoConfig(**SMALL, version=2, queue_size=24)).train()
    before, images = model.queue.clone(), torch.randn(4, 2, 3, 32, 32)
    f, g = model.teacher
    keys = normalize(torch.stack([g(f(view).pooler_output) for view in images.unbind(1)], 1).detach(), dim=-1)
    first = model(images)
    assert first.loss.item() == pytest.approx(moco_v2(first.projections, keys, before, 0.2).item(), rel=1e-4)
    first.loss.backward()  # although the queue has gone on
    torch.testing.assert_close(model.queue[:8], keys.flatten(0, 1), rtol=1e-3, atol=1e-4)
    assert torch.equal(model.queue[8:], before[8:])
    now = model.queue.clone()
    model(images, return_loss=False)
    model.eval()(images)
    assert torch.equal(model.queue, now)


def test_momentum_goes_from_the_first_to_the_final_one():
    model = MoCoForPreTraining(MoCoConfig(**SMALL, momentum=0.99, final_momentum=0.999))
    assert [model.momentum(progress) for progress in (0, 0.5, 1)] == pytest.approx([0.99, 0.9945, 0.999])


def test_what_is_left_open_is_what_the_paper_of_the_version_has(monkeypatch):
    monkeypatch.setattr("hf_replearn.pretraining.images.pretrain_images", lambda settings, method: (settings, method))
    open_ = ("projection_dim", "projection_hidden", "momentum", "final_momentum")
    for given, name, values in (
        ({}, "MoCo v3", (256, 4096, 0.99, 1.0)),
        ({"version": 2}, "MoCo v2", (128, 2048, 0.999, 0.999)),
        ({"version": 2, "momentum": 0.0, "projection_dim": 256}, "MoCo v2", (256, 2048, 0.0, 0.999)),
    ):
        settings, method = main(MoCoSettings(dataset="toy", output_dir="out", **given))
        assert (method.facts.name, tuple(getattr(settings, key) for key in open_)) == (name, values)


@pytest.mark.parametrize("version", [2, 3])
def test_the_encoder_of_a_saved_model_loads_without_a_word_on_its_heads(version, tmp_path):
    model = MoCoForPreTraining(MoCoConfig(**SMALL, version=version, queue_size=4))
    model.save_pretrained(tmp_path)
    encoder, found = MoCoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values())
    assert torch.equal(encoder.encoder.conv1.weight, model.model.encoder.conv1.weight)
    save_file(model.state_dict() | {"model.encoder.conv9.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert MoCoModel.from_pretrained(tmp_path, output_loading_info=True)[1]["unexpected_keys"]


def test_heads_are_those_of_the_papers():
    heads = lambda **version: MoCoForPreTraining(MoCoConfig(**SMALL | version))  # noqa: E731
    second, third = heads(version=2), heads(projection_layers=3)
    assert [type(m) for m in second.projection] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [m.out_features for m in third.projection if isinstance(m, nn.Linear)] == [8, 8, 16]
    assert isinstance(third.projection[-1], nn.BatchNorm1d) and not third.projection[-1].affine
    assert isinstance(third.predictor[-1], nn.Linear)
    assert not hasattr(second, "predictor") and not hasattr(third, "queue")


@pytest.mark.parametrize("version", [2, 3])
def test_two_processes_give_the_loss_and_gradients_of_one(version, difference_of_two_processes):
    """Version 2 with a queue that has taken in the keys of all processes, in the order of ranks."""
    weights = torch.arange(1.0, 41.0)

    def second(z, labels):
        queue, oldest = torch.zeros(40, 8), torch.zeros((), dtype=torch.int64)
        enqueue(queue, oldest, z.detach())
        assert (queue.norm(dim=1) > 0).sum() == 32
        return moco_v2(z, z.roll(1, -1), normalize(queue * weights[:, None] + 0.1, dim=1), 0.2)

    def third(z, labels):
        return moco_v3(z, z.roll(1, -1), 0.2)

    assert max(difference_of_two_processes(second if version == 2 else third)) < 1e-5


@pytest.mark.parametrize("wrong", [{"version": 4}, {"temperature": 0.0}, {"queue_size": 0}, {"final_momentum": 2.0}])
def test_what_cannot_be_is_an_error(wrong):
    with pytest.raises(Exception, match=next(iter(wrong)).removeprefix("final_")):
        MoCoConfig(**wrong)


def test_version_2_equals_lightly():
    peers = pytest.importorskip("lightly.loss", reason="the peer is in the bench extra")
    queue, q, k = queue_of(40, 16), torch.randn(32, 2, 16), torch.randn(32, 2, 16)
    ours, theirs = q.clone().requires_grad_(), q.clone().requires_grad_()
    one, other = moco_v2(ours, k, queue, 0.2), torch.zeros(())
    for view in (0, 1):
        loss = peers.NTXentLoss(0.2, memory_bank_size=(40, 16))
        loss.memory_bank.bank.copy_(queue)
        other = other + loss(theirs[:, view], k[:, 1 - view]) / 2
    one.backward()
    other.backward()
    assert one.item() == pytest.approx(other.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-7)
