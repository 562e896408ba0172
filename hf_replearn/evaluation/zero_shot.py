"""Classes told by their names alone: an image is of the class whose prompts are nearest (Radford et al. 2021, section
3.1).

N images, C classes, K templates, P numbers of a projection
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hf_replearn.errors import InputError


def check_templates(templates: Sequence[str]) -> None:
    """Raises InputError for what does not say where the name of a class stands."""
    for template in templates:
        if template.count("{}") != 1 or template.replace("{}", "").count("{") or template.replace("{}", "").count("}"):
            raise InputError(
                f"--zero_shot {template[:80]!r} must have one {{}}, where the name of a class stands, such as 'a photo "
                "of a {}'"
            )


def names_in_words(names: Sequence[str]) -> list[str]:
    """Names of classes as prompts have them: `sports_car` is "sports car"."""
    return [" ".join(name.replace("_", " ").split()) or name for name in names]


def class_vectors(embed: Callable[[list[str]], Tensor], names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """(C, P): the mean over templates of the vectors, of length 1, of each class's prompts, again of length 1 (Radford
    et al. 2021, section 3.1.4)."""
    prompts = [template.format(name) for name in names for template in templates]
    return normalize(embed(prompts).unflatten(0, (len(names), len(templates))).mean(1), dim=-1)


def told(images: Tensor, classes: Tensor) -> Tensor:
    """(N,) int64: the class of the largest cosine. images: (N, P), classes: (C, P), both of length 1."""
    return (images @ classes.T).argmax(1)


def mean_similarity(images: Tensor, classes: Tensor, labels: Tensor) -> Tensor:
    """(C, C): the mean cosine of the images of each class, a row, with the prompts of each."""
    similarity = images @ classes.T
    return torch.stack([similarity[labels == label].mean(0) for label in range(len(classes))])
