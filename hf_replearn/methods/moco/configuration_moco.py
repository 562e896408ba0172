"""Configuration of MoCo, version 2 (Chen et al. 2020, arXiv:2003.04297) and 3 (Chen et al. 2021, arXiv:2104.02057)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig


@strict
class MoCoConfig(ImageMethodConfig):
    """What rebuilds encoder f, projection head g and their teacher, and the queue or the predictor. The defaults are
    those of version 3; where version 2 has others they are given.

    version:           2: keys of earlier batches are the negatives; 3: the batch is large, and there is a predictor.
    projection_dim:    width of z = g(h) (papers: 256; version 2: 128).
    projection_hidden: width of the hidden layers of g (papers: 4096; version 2: 2048, that of h).
    projection_layers: of g in version 3 (paper: 2 on a ResNet, 3 on a ViT); version 2 has 2.
    predictor_hidden:  width of the one hidden layer of the predictor, in version 3 (paper: 4096).
    queue_size:        keys in the queue, in version 2 (paper: 65536).
    temperature:       of the loss (papers: 1 on a ResNet, 0.2 on a ViT; version 2: 0.2).
    momentum:          of the teacher at the start (papers: 0.99; version 2: 0.999).
    final_momentum:    of the teacher at the end of the run (papers: 1; version 2: 0.999).
    """

    model_type = "moco"

    version: int = 3
    projection_dim: int = 256
    projection_hidden: int = 4096
    projection_layers: int = 2
    predictor_hidden: int = 4096
    queue_size: int = 65_536
    temperature: float = 0.2
    momentum: float = 0.99
    final_momentum: float = 1.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.version not in (2, 3):
            raise ValueError(f"version must be 2 or 3, got {self.version}")
        if not (0 <= self.momentum <= 1 and 0 <= self.final_momentum <= 1):
            raise ValueError(f"momentum must be between 0 and 1, got {self.momentum} and {self.final_momentum}")
        if not (self.temperature > 0 and self.queue_size > 0):
            raise ValueError(f"needs a temperature and a queue_size above 0, got {self.temperature}, {self.queue_size}")


__all__ = ["MoCoConfig"]
