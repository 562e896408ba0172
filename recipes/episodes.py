"""Learning from few examples, by episodes: tasks of a few classes with a few images each (meta-learning).

    hf-replearn episodes --dataset toy --method protonet --max_steps 300 --output_dir out/toy
    hf-replearn episodes --dataset toy --method maml --max_steps 100 --test_episodes 200 --output_dir out/maml
    hf-replearn evaluate --model out/toy --dataset toy --task episodes --shots 1,5 --output_dir out/judged
    hf-replearn episodes --dataset omniglot/ --group_by folder --turned true --jitter 1 --way 20 --output_dir out/proto

Classes are trained on or held out, never both: by the split `test` of the data, or a share of the classes, or of their
groups (--group_by). Each episode has other classes, in random order, and shows --shots images of each; the encoder f is
what leaves. ProtoNet: the nearest mean tells (Snell et al. 2017). MAML: steps of gradient descent on the images shown,
from a start that is learnt (Finn et al. 2017); ANIL and Reptile are its kin. Beside it stand the images as they
are, the same network from random weights, and trained as a plain classifier on as many images, which is often as good
(Chen et al. 2019). No answer depends on other queries: batch normalisation goes by running statistics, or, where
weights adapt, by the images that are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.pretraining.recipe import EpisodeMethod, EpisodeSettings, Method, run, setting


@dataclass(kw_only=True)
class EpisodesSettings(EpisodeSettings):
    method: Literal["protonet", "maml", "fomaml", "anil", "reptile", "classifier"] = setting(
        "protonet",
        "protonet: the nearest mean tells; maml, fomaml (first order), anil (the head alone), reptile: steps of "
        "gradient descent from a start that is learnt; classifier: all classes at once, as a baseline",
        section="model",
    )
    inner_learning_rate: float | None = setting(
        None, "of the steps within an episode; none: 0.4 of maml, 0.1 of fomaml and anil, 0.001 of reptile (by Adam)",
        section="training", above=0, at_most=100,
    )  # fmt: skip
    inner_steps: int | None = setting(
        None, "within an episode, in training; none: 1 of maml, else 5", section="training", at_least=1,
        at_most=1000,
    )  # fmt: skip
    test_steps: int | None = setting(
        None, "within an episode that judges; none: 1 of maml, 10 of fomaml and anil, 50 of reptile",
        section="evaluation", at_least=0, at_most=10_000,
    )  # fmt: skip


FINN = """\
@inproceedings{finn2017model,
  title     = {Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks},
  author    = {Finn, Chelsea and Abbeel, Pieter and Levine, Sergey},
  booktitle = {International Conference on Machine Learning},
  year      = {2017}
}"""
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
    "maml": Method(
        name="MAML",
        summary="The start of encoder and head is learnt from which a step of gradient descent on the few images that "
        "are shown leads to right answers; the gradient goes through that step. Labels of the classes trained on are "
        "used, and none of those held out.",
        paper="Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
        arxiv="1703.03400",
        bibtex=FINN,
        model_class="hf_replearn.methods.maml.MAMLForPreTraining",
    ),
    "fomaml": Method(
        name="first-order MAML",
        summary="The start of encoder and head is learnt from which a step of gradient descent on the few images that "
        "are shown leads to right answers; second derivatives are left out. Labels of the classes trained on are used, "
        "and none of those held out.",
        paper="Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
        arxiv="1703.03400",
        bibtex=FINN,
        model_class="hf_replearn.methods.maml.MAMLForPreTraining",
    ),
    "anil": Method(
        name="ANIL",
        summary="As MAML, but only the head adapts to the few images that are shown; labels of the classes trained on "
        "are used, and none of those held out.",
        paper="Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML",
        arxiv="1909.09157",
        bibtex="""\
@inproceedings{raghu2020rapid,
  title     = {Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of {MAML}},
  author    = {Raghu, Aniruddh and Raghu, Maithra and Bengio, Samy and Vinyals, Oriol},
  booktitle = {International Conference on Learning Representations},
  year      = {2020}
}""",
        model_class="hf_replearn.methods.maml.MAMLForPreTraining",
    ),
    "reptile": Method(
        name="Reptile",
        summary="The start of encoder and head moves towards where some steps of training on an episode lead; labels "
        "of the classes trained on are used, and none of those held out.",
        paper="On First-Order Meta-Learning Algorithms",
        arxiv="1803.02999",
        bibtex="""\
@article{nichol2018first,
  title   = {On First-Order Meta-Learning Algorithms},
  author  = {Nichol, Alex and Achiam, Joshua and Schulman, John},
  journal = {arXiv preprint arXiv:1803.02999},
  year    = {2018}
}""",
        model_class="hf_replearn.methods.maml.MAMLForPreTraining",
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
INNER = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
    "inner_learning_rate": 0.4,
    "inner_steps": 1,
    "test_steps": 1,  # the paper has 3; before thousands of episodes are learnt from, more steps than in training harm
}
SMALLER = INNER | {"inner_learning_rate": 0.1, "inner_steps": 5, "test_steps": 10}
USUAL = {
    "protonet": ADAM,
    "maml": INNER,
    "fomaml": SMALLER,  # by one large step hardly anything is learnt without second derivatives
    "anil": SMALLER,
    "reptile": {
        "learning_rate": 1.0,
        "per_device_train_batch_size": 5,
        "inner_learning_rate": 1e-3,
        "inner_steps": 5,
        "test_steps": 50,
    },
    "classifier": ADAM,
}
METHOD = EpisodeMethod(command="episodes", facts=KINDS["protonet"], kinds=KINDS, usual=USUAL)


def main(settings: EpisodesSettings, **given):
    """Learning from few examples, by episodes of a few classes with a few images each."""
    from hf_replearn.pretraining.episodes import learn_episodes

    return learn_episodes(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, EpisodesSettings, prog="episodes")
