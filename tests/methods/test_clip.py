"""CLIP and SigLIP: losses and gradients against plain formulas, over processes, with equal captions; the towers that
are locked; gradients that are cached."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid, normalize
from transformers import CLIPTextConfig, CLIPVisionConfig

from hf_replearn.methods.clip import CLIPForPreTraining, CLIPPreTrainingConfig, clip_loss, siglip_loss
from hf_replearn.training.cached_gradients import cached_gradient_step

IMAGES, TEXTS = 0, 1


def pairs(count: int = 13, width: int = 6):
    """Vectors, log scale and bias, and numbers of images and captions of which some are equal."""
    torch.manual_seed(0)
    vectors = [torch.randn(count, width, dtype=torch.double, requires_grad=True) for _ in range(2)]
    numbers = [torch.tensor(value, dtype=torch.double, requires_grad=True) for value in (1.3, -0.7)]
    ids = torch.arange(count)[:, None].repeat(1, 2)
    ids[[3, 7], TEXTS] = 0  # three captions are equal
    ids[10, IMAGES] = 1  # and two images
    return vectors, numbers, ids


def fitting(ids):
    """Which image and text fit, by the rule in words: the same image, or the same caption."""
    rows = ids.tolist()
    return torch.tensor([[float(a[0] == b[0] or a[1] == b[1]) for b in rows] for a in rows], dtype=torch.double)


def test_the_loss_of_clip_and_its_gradients_are_those_of_two_cross_entropies():
    """As in open_clip, of probabilities where several answers are right; a chunk that does not divide the batch."""
    (images, texts), (scale, _), ids = pairs()
    logits = scale.exp() * normalize(images, dim=1) @ normalize(texts, dim=1).T
    target = fitting(ids) / fitting(ids).sum(1, keepdim=True)
    plain = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    ours = clip_loss(images, texts, scale, ids, chunk=4)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    for one, other in zip(*(torch.autograd.grad(loss, [images, texts, scale]) for loss in (ours, plain)), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_without_numbers_each_pair_is_its_own_right_answer():
    (images, texts), (scale, bias), _ = pairs()
    logits = scale.exp() * normalize(images, dim=1) @ normalize(texts, dim=1).T
    right = torch.arange(len(images))
    plain = (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2
    assert clip_loss(images, texts, scale).item() == pytest.approx(plain.item(), rel=1e-6)
    signs = 2 * torch.eye(len(images)) - 1
    plain = -logsigmoid(signs * (logits + bias)).sum() / len(images)
    assert siglip_loss(images, texts, scale, bias).item() == pytest.approx(plain.item(), rel=1e-6)


def test_the_loss_of_siglip_and_its_gradients_are_those_of_all_pairs_one_by_one():
    (images, texts), numbers, ids = pairs()
    total, fit = 0.0, fitting(ids)
    for i, image in enumerate(images):
        for j, text in enumerate(texts):
            logit = numbers[0].exp() * torch.cosine_similarity(image, text, dim=0) + numbers[1]
            total = total - logsigmoid(logit if fit[i, j] else -logit)
    plain, ours = total / len(images), siglip_loss(images, texts, *numbers, ids, chunk=4)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    wanted = [images, texts, *numbers]
    for one, other in zip(*(torch.autograd.grad(loss, wanted) for loss in (ours, plain)), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_two_processes_have_the_loss_and_gradient_of_one(kind, difference_of_two_processes):
    """Captions that are equal stand in both halves. The gradients of scale and bias are averaged as those of weights:
    they are added to the value, which is."""

    def loss(projections, labels):
        ids = torch.stack([torch.arange(len(labels)) + 100 * labels[0], labels], 1)
        numbers = [projections.new_tensor(value, requires_grad=True) for value in (2.0, -1.0)]
        numbers = numbers[:1] if kind == "clip" else numbers
        value = (clip_loss if kind == "clip" else siglip_loss)(*projections.unbind(1), *numbers, ids, chunk=3)
        return value + sum(torch.autograd.grad(value, numbers, retain_graph=True))

    value, gradient = difference_of_two_processes(loss)
    assert value < 1e-5 and gradient < 1e-4


def test_of_many_pairs_the_logits_are_never_whole():
    """What is saved between forward and backward grows with the pairs, not with their square."""
    saved = {}
    for count in (256, 512):
        images, texts = (torch.randn(count, 8, requires_grad=True) for _ in range(2))
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, n=count: saved.setdefault(n, []).append(x.numel()) or x, lambda x: x
        ):
            clip_loss(images, texts, torch.tensor(2.0, requires_grad=True), chunk=64)
    assert sum(saved[512]) < 2.1 * sum(saved[256]) and max(saved[512]) < 512 * 64


def test_large_scales_are_finite():
    """At a scale of 100 and cosines of -1 no exponential may underflow to a logarithm of zero."""
    images = torch.tensor([[1.0, 0.0], [0.99, 0.1]], requires_grad=True)
    loss = clip_loss(images, -images, torch.tensor(math.log(100.0)))
    loss.backward()
    assert loss.isfinite() and images.grad.isfinite().all()


# ---- the model


def config(**changes) -> CLIPPreTrainingConfig:
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = CLIPVisionConfig(image_size=8, patch_size=4, **small)
    text = CLIPTextConfig(vocab_size=20, max_position_embeddings=8, eos_token_id=3, pad_token_id=0, **small)
    description = {"projection_dim": 6} | {"image": {"features": 16, "pooling": "own"}}
    description |= {"text": {"features": 16, "pooling": "own"}}
    about = {"image": {"config": vision.to_dict()}, "text": text.to_dict(), "description": description}
    return CLIPPreTrainingConfig(**about | {"image_size": 8} | changes)


def batch(count: int = 6) -> dict:
    torch.manual_seed(1)
    tokens = torch.randint(4, 20, (count, 5))
    tokens[:, 4] = 3
    labels = torch.arange(count)[:, None].repeat(1, 2)
    labels[count - 1, TEXTS] = 0  # the captions of the first pair and the last
    return {
        "pixel_values": torch.randn(count, 3, 8, 8),
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": labels,
    }


def gradients(model) -> dict:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_scale_and_bias_begin_as_in_the_papers_and_the_scale_stays_below_100():
    clip, siglip = (CLIPForPreTraining(config(loss=loss)) for loss in ("clip", "siglip"))
    assert clip.encoder.log_scale.exp().item() == pytest.approx(1 / 0.07)
    assert siglip.encoder.log_scale.exp().item() == pytest.approx(10)
    assert siglip.encoder.bias.item() == -10 and not clip.encoder.bias.requires_grad
    with torch.no_grad():
        clip.encoder.log_scale.fill_(9.0)
    clip.after_step(0.5)
    assert clip.encoder.log_scale.exp().item() == pytest.approx(100, rel=1e-5)


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_cached_gradients_are_those_of_the_whole_batch_also_of_scale_and_bias(loss):
    model, whole = CLIPForPreTraining(config(loss=loss)), batch()
    model(**whole).loss.backward()
    wanted = gradients(model)
    model.zero_grad()

    def project(place: int):
        part = {name: value[2 * place : 2 * place + 2] for name, value in whole.items()}
        return model(**part, return_loss=False).projections

    def objective(projections):
        return model.objective(projections, whole["labels"])

    cached_gradient_step(project, objective, batches=3, model=model)
    found = gradients(model)
    assert found.keys() == wanted.keys() and "encoder.log_scale" in found
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], atol=1e-5), name


def test_the_model_knows_which_captions_are_equal():
    model, pairs = CLIPForPreTraining(config()), batch()
    found = model(**pairs)
    images, texts = found.projections[..., :-1].unbind(1)
    assert found.loss.item() == clip_loss(images, texts, model.encoder.log_scale, pairs["labels"]).item()
    assert found.loss.item() != clip_loss(images, texts, model.encoder.log_scale).item()


@pytest.mark.parametrize("locked", ["image", "text"])
def test_a_locked_tower_is_not_trained_and_its_projection_is(locked):
    model = CLIPForPreTraining(config(locked=locked)).train()
    tower, other = (getattr(model.encoder, name) for name in (locked, "text" if locked == "image" else "image"))
    model(**batch()).loss.backward()
    assert not tower.network.training and all(p.grad is None for p in tower.network.parameters())
    assert tower.projection.weight.grad.abs().sum() > 0
    assert other.network.training and all(p.grad is not None for p in other.network.parameters())


def test_it_is_rebuilt_from_its_folder(tmp_path):
    model, pairs = CLIPForPreTraining(config(loss="siglip")).eval(), batch()
    model.save_pretrained(tmp_path)
    again = CLIPForPreTraining.from_pretrained(tmp_path).eval()
    assert torch.equal(model(**pairs).loss, again(**pairs).loss)


def test_a_loss_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="loss must be one of clip, siglip, got 'coca'"):
        CLIPForPreTraining(config(loss="coca"))
