"""Configuration of methods that adapt to an episode by gradients: MAML (Finn et al. 2017, arXiv:1703.03400), ANIL
(Raghu et al. 2020, arXiv:1909.09157), Reptile (Nichol et al. 2018, arXiv:1803.02999)."""

from huggingface_hub.dataclasses import strict

from hf_replearn.methods.trunk import ImageMethodConfig

METHODS = ("maml", "fomaml", "anil", "reptile")


@strict
class MAMLConfig(ImageMethodConfig):
    """method: maml; fomaml, its first order; anil, which adapts the head alone; or reptile.

    way, shots:          classes of an episode, which are outputs of the head, and support images of each.
    inner_learning_rate: of the steps within an episode. inner_steps, test_steps: of these, in training and when the
                         encoder is judged.
    """

    model_type = "maml"

    recipe: str = "episodes"
    method: str = "maml"
    way: int = 5
    shots: int = 1
    inner_learning_rate: float = 0.4
    inner_steps: int = 1
    test_steps: int = 3

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")


__all__ = ["MAMLConfig"]
