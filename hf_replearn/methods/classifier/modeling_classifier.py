"""A plain classifier of all classes at once, whose features are then compared as they are: what learning from episodes
has to beat (Chen et al. 2019, arXiv:1904.04232; Tian et al. 2020, arXiv:2003.11539).

E draws, N classes of one, M images of each class, D features
"""

from dataclasses import dataclass

from torch import Tensor, nn
from transformers.utils import ModelOutput

from hf_replearn.methods.trunk import ImageEncoder, ImageForPreTraining

from .configuration_classifier import ClassifierConfig


@dataclass
class ClassifierOutput(ModelOutput):
    """loss: () in nats, absent with `return_loss=False`. pooler_output: (E N M, D)."""

    loss: Tensor | None = None
    pooler_output: Tensor | None = None


class ClassifierModel(ImageEncoder):
    config_class = ClassifierConfig


class ClassifierForPreTraining(ImageForPreTraining):
    """The encoder f, and a linear map to the classes, which is thrown away."""

    config_class = ClassifierConfig

    def __init__(self, config: ClassifierConfig):
        super().__init__(config)
        self.head = nn.Linear(self.model.features, config.classes)
        self.post_init()

    def forward(self, pixel_values: Tensor, classes: Tensor | None = None, return_loss: bool = True):
        """pixel_values: (E, N, M, C, H, W). classes: (E, N), the number of each class among all."""
        h = self.model(pixel_values.flatten(0, 2)).pooler_output
        if not return_loss:
            return ClassifierOutput(pooler_output=h)
        labels = classes.flatten().repeat_interleave(pixel_values.shape[2])
        return ClassifierOutput(loss=nn.functional.cross_entropy(self.head(h).float(), labels), pooler_output=h)


__all__ = ["ClassifierForPreTraining", "ClassifierModel"]
