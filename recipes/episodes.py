"""Learning from few examples, by episodes: tasks of a few classes with a few images each (meta-learning).

    hf-replearn episodes --dataset toy --method protonet --max_steps 300 --output_dir out/toy
    hf-replearn episodes --dataset omniglot/ --group_by folder --turned true --jitter 1 --way 20 --output_dir out/proto

Classes are trained on or held out, never both: by the split `test` of the data, or a share of the classes, or of their
groups (--group_by). Each episode has other classes, in random order, and shows --shots images of each; the encoder f is
what leaves. ProtoNet: the nearest mean tells (Snell et al. 2017). Beside it stand the images as they are, the same
network from random weights, and trained as a plain classifier on as many images, which is often as good (Chen et al.
2019). No answer depends on other queries: batch normalisation goes by running statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.pretraining.recipe import EpisodeMethod, EpisodeSettings, Method, run, setting


@dataclass(kw_only=True)
class EpisodesSettings(EpisodeSettings):
    method: Literal["protonet", "classifier"] = setting(
        "protonet",
        "protonet: the nearest mean tells; classifier: all classes at once, as a baseline",
        section="model",
    )


KINDS = {
    "protonet": Method(
        name="ProtoNet",
        summary="In each episode a query is to be of the class the mean of whose support features lies nearest; labels "
        "of the classes trained on are used, and none of those held out.",
        paper="Prototypical Networks for Few-shot Learning",
        arxiv="1703.05175",
        bibtex="""\
@inproceedings{snell2017prototypical,
  title     = {Prototypical Networks for Few-shot Learning},
  author    = {Snell, Jake and Swersky, Kevin and Zemel, Richard},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2017}
}""",
        model_class="hf_replearn.methods.protonet.ProtoNetForPreTraining",
    ),
    "classifier": Method(
        name="plain classifier",
        summary="All classes trained on are told apart at once by a linear map, which is thrown away; it stands beside "
        "methods that learn from episodes.",
        paper="A Closer Look at Few-shot Classification",
        arxiv="1904.04232",
        bibtex="""\
@inproceedings{chen2019closer,
  title     = {A Closer Look at Few-shot Classification},
  author    = {Chen, Wei-Yu and Liu, Yen-Cheng and Kira, Zsolt and Wang, Yu-Chiang Frank and Huang, Jia-Bin},
  booktitle = {International Conference on Learning Representations},
  year      = {2019}
}""",
        model_class="hf_replearn.methods.classifier.ClassifierForPreTraining",
    ),
}
ADAM = {"learning_rate": 1e-3, "per_device_train_batch_size": 1}
METHOD = EpisodeMethod(
    command="episodes", facts=KINDS["protonet"], kinds=KINDS, usual={"protonet": ADAM, "classifier": ADAM}
)


def main(settings: EpisodesSettings, **given):
    """Learning from few examples, by episodes of a few classes with a few images each."""
    from hf_replearn.pretraining.episodes import learn_episodes

    return learn_episodes(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, EpisodesSettings, prog="episodes")
