"""What is asked of a representation, each by one number."""

import pytest
import torch

from hf_replearn.evaluation.desiderata import LINEAR, Found, desiderata, gain_of_codes


def lines_of(found, asked=("mine",)):
    return {line["asked"]: line for line in desiderata(found, asked=asked)}


def test_each_line_has_the_encoders_number_and_the_best_of_the_others():
    rows = {
        "mine": {"k_shot@1": 0.3, "k_shot@8": 0.7, "k_shot@64": 0.9, "nmi": 0.5},
        "raw pixels": {"k_shot@8": 0.6, "nmi": 0.55},
        "random weights": {"k_shot@8": 0.65, "nmi": None},
    }
    properties = {"mine": {"sparsity": 0.4}, "raw pixels": {"sparsity": 0.1}, "random weights": {"sparsity": 0.2}}
    layers = {
        "mine": {"linear": [0.2, 0.95, 0.9], "knn@20": [0.9, 0.1, 0.1]},
        "random weights": {"linear": [0.5, 0.4, 0.3]},
    }
    found = lines_of(Found(rows, properties, layers, {"mine": 0.12}, {"mine": 0.2, "PCA of pixels (10)": 0.08}))
    told = {name: (line["values"]["mine"], line["baseline"]) for name, line in found.items()}
    assert told == {
        "few labels": ("0.700", "0.650, random weights"),
        "clusters": ("0.500", "0.550, raw pixels"),
        "interpolation": ("0.120", f"0.000, {LINEAR}"),
        "disentanglement": ("0.200", "0.080, PCA of pixels (10)"),
        "hierarchy": ("0.950 (layer 1 of 0 to 2)", "0.500 (layer 0 of 0 to 2), random weights"),
        "sparsity": ("0.400", "0.200, random weights"),
    }
    assert "8 labels a class" in found["few labels"]["measure"] and not any(line["why"] for line in found.values())


def test_what_was_not_measured_is_a_dash_that_says_how_to_have_it():
    found = lines_of(Found({"mine": {"sts_spearman": 0.5}, "other": {}}), asked=("mine", "other"))
    assert all(line["values"] == {"mine": "–", "other": "–"} and line["baseline"] == "–" for line in found.values())
    assert "--layers all" in found["hierarchy"]["why"] and "--add_to_card" in found["disentanglement"]["why"]
    assert all(line["why"] for line in found.values())


def test_a_number_that_is_not_finite_is_a_dash():
    found = lines_of(Found({"mine": {"nmi": float("nan")}, "raw pixels": {"nmi": 0.1}}))
    assert found["clusters"]["values"]["mine"] == "–" and found["clusters"]["baseline"] == "0.100, raw pixels"


def test_one_label_is_told_in_the_singular_and_the_nearest_to_eight_is_taken():
    assert "with 1 label a class" in lines_of(Found({"mine": {"k_shot@1": 0.1}}))["few labels"]["measure"]
    nearest = lines_of(Found({"mine": {"k_shot@1": 0.1, "k_shot@16": 0.5, "k_shot@64": 0.9}}))["few labels"]
    assert nearest["values"]["mine"] == "0.500"


def circle(angles):
    return torch.stack([angles.cos(), angles.sin()], dim=1).view(-1, 2, 1, 1)


def test_the_middle_of_codes_gains_where_images_lie_on_a_curve_that_the_code_follows():
    """Images on half a circle, whose code is the angle: between two codes is an image, between two images none."""
    angles = torch.rand(400, 1) * torch.pi
    gain = gain_of_codes(angles[:300], angles[300:], lambda code: circle(code[:, 0]))
    assert gain > 0.9


def test_the_middle_of_codes_gains_nothing_where_the_decoder_is_linear():
    matrix, codes = torch.randn(3, 12), torch.randn(200, 3)
    gain = gain_of_codes(codes[:100], codes[100:], lambda code: (code @ matrix + 1).view(-1, 3, 2, 2))
    assert gain == pytest.approx(0, abs=1e-5)


def test_the_middle_of_codes_loses_where_it_is_no_image():
    """A code that jumps: its middle is decoded to what no image is like."""
    codes = torch.tensor([[-1.0], [1.0]]).repeat(50, 1) + 0.01 * torch.randn(100, 1)

    def decode(code):
        far = (code.abs() < 0.5).float() * 50
        return torch.stack([code[:, 0], far[:, 0]], dim=1).view(-1, 2, 1, 1)

    assert gain_of_codes(codes, codes, decode) < -1
