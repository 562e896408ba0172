"""Prototypical networks: the loss by Python loops, no answer by other queries, and the four convolutions."""

import math

import pytest
import timm
import torch

from hf_replearn.methods.classifier import ClassifierConfig, ClassifierForPreTraining
from hf_replearn.methods.protonet import ProtoNetConfig, ProtoNetForPreTraining, prototype_logits

SMALL = {"backbone": "conv4", "backbone_args": {"width": 4, "img_size": 16}}


@pytest.fixture
def model():
    return ProtoNetForPreTraining(ProtoNetConfig(**SMALL, shots=2))


def test_logits_are_minus_squared_distances_to_means():
    support, query = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 5)
    logits = prototype_logits(support, query)
    for episode in range(2):
        for number in range(7):
            for name in range(3):
                mean = sum(support[episode, name, shot] for shot in range(4)) / 4
                distance = sum((query[episode, number, d] - mean[d]) ** 2 for d in range(5))
                assert logits[episode, number, name].item() == pytest.approx(-distance.item(), rel=1e-4, abs=1e-4)


def test_the_loss_is_the_cross_entropy_of_queries_in_the_order_of_their_classes(model):
    pixels = torch.rand(2, 3, 5, 3, 16, 16)
    found = model.eval()(pixels)
    features = model.model(pixels.flatten(0, 2)).pooler_output.view(2, 3, 5, -1)
    losses = []
    for episode in range(2):
        means = features[episode, :, :2].mean(1)
        for name in range(3):
            for query in range(2, 5):
                scores = [-((features[episode, name, query] - mean) ** 2).sum().item() for mean in means]
                losses.append(math.log(sum(math.exp(score - scores[name]) for score in scores)))
    assert found.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert found.logits.shape == (2, 9, 3)


def test_an_answer_does_not_change_with_other_queries(model):
    """Nor with other episodes of its batch: in evaluation mode batch normalisation goes by running statistics."""
    pixels = torch.rand(2, 3, 5, 3, 16, 16)
    model.train()(pixels)  # running statistics that are of something
    model.eval()
    before = model(pixels).logits
    changed = pixels.clone()
    changed[0, :, 3:] = torch.rand(3, 2, 3, 16, 16)  # all queries but the first of each class
    changed[1] = torch.rand(3, 5, 3, 16, 16)
    after = model(changed).logits
    kept = [name * 3 for name in range(3)]
    assert torch.allclose(before[0, kept], after[0, kept], atol=1e-6)
    assert not torch.allclose(before[0], after[0], atol=1e-4)


def test_four_convolutions_halve_four_times():
    network = timm.create_model("conv4", img_size=84, num_classes=0)
    assert network.num_features == 1600 and network(torch.rand(2, 3, 84, 84)).shape == (2, 1600)
    assert sum(weight.numel() for weight in network.parameters()) == 113_088  # as of the papers: 4 x (conv + norm)
    assert timm.create_model("conv4", num_classes=0)(torch.rand(2, 3, 28, 28)).shape == (2, 64)
    with pytest.raises(ValueError, match="it takes images of"):
        network(torch.rand(2, 3, 28, 28))
    with pytest.raises(ValueError, match="16 pixels or more"):
        timm.create_model("conv4", img_size=8, num_classes=0)


def test_the_plain_classifier_tells_the_classes_by_their_numbers():
    model = ClassifierForPreTraining(ClassifierConfig(**SMALL, classes=6)).eval()
    pixels, classes = torch.rand(2, 3, 2, 3, 16, 16), torch.tensor([[5, 0, 2], [1, 1, 4]])
    logits = model.head(model.model(pixels.flatten(0, 2)).pooler_output)
    labels = [int(classes[e, n]) for e in range(2) for n in range(3) for _ in range(2)]
    expected = -sum(logits[row].log_softmax(0)[label] for row, label in enumerate(labels)) / 12
    assert model(pixels, classes).loss.item() == pytest.approx(expected.item(), rel=1e-5)
