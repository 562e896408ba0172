"""CPC on sounds (van den Oord et al. 2018, arXiv:1807.03748, section 3.1): from what was heard, which of all frames of
a batch is the one so many steps on?

    accelerate launch recipes/cpc_audio.py --config recipes/configs/cpc_audio/toy_tones.yaml --output_dir out/tones
    hf-replearn cpc-audio --dataset sounds/ --output_dir out/mine
    accelerate launch --config_file recipes/accelerate/ddp.yaml recipes/cpc_audio.py \\
        --config recipes/configs/cpc_audio/paper.yaml --dataset speech/ --output_dir out/speech

Convolutions in strides make a frame of each 160 samples, and a recurrent network a context of all frames so far, which
is what is kept: no context sees a later sample. A linear map of it for each step ahead tells frames to come. The wrong
answers are all other frames of the same process's batch, those of the same sound too: the loss begins at ln N of N
frames, and falls with a smaller batch without anything being learnt. As in the paper, the first two frames ahead share
samples with the context; frames are normalised one by one (Rivière et al. 2020, arXiv:2002.02848), not by the batch.
The toy takes 85 seconds of CPU time: linear probe 0.493, of random weights 0.400, of mel
spectra 0.453 (mean) and 0.780 (mean and deviation over time).
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_replearn.pretraining.recipe import Method, SoundMethod, SoundSettings, later, run, setting


@dataclass(kw_only=True)
class CPCAudioSettings(SoundSettings):
    kernels: tuple[int, ...] = setting(
        (10, 8, 4, 4, 4), "of the convolutions, in places of their input", section="model", at_least=1, at_most=10_000
    )
    strides: tuple[int, ...] = setting(
        (5, 4, 2, 2, 2), "of the convolutions; their product is the samples of a frame", section="model",
        at_least=1, at_most=10_000,
    )  # fmt: skip
    channels: int = setting(512, "of each convolution, and of a frame", section="model", at_least=1, at_most=65_536)
    context_dim: int = setting(
        256, "width of the recurrent network, whose contexts are the features", section="model",
        at_least=1, at_most=65_536,
    )  # fmt: skip
    steps_ahead: int = setting(12, "frames ahead that are told", section="model", at_least=1, at_most=1000)


METHOD = SoundMethod(
    command="cpc-audio",
    own_task=later("hf_replearn.methods.cpc_audio.showing_cpc_audio.own_task"),
    pictures=later("hf_replearn.methods.cpc_audio.showing_cpc_audio.pictures"),
    facts=Method(
        name="CPC",
        summary="From what was heard of a sound the network tells which of many frames comes so much later; no labels "
        "are used, and the maps that tell it are thrown away.",
        paper="Representation Learning with Contrastive Predictive Coding",
        arxiv="1807.03748",
        bibtex="""\
@article{oord2018representation,
  title   = {Representation Learning with Contrastive Predictive Coding},
  author  = {van den Oord, Aaron and Li, Yazhe and Vinyals, Oriol},
  journal = {arXiv preprint arXiv:1807.03748},
  year    = {2018}
}""",
        model_class="hf_replearn.methods.cpc_audio.CPCAudioForPreTraining",
    ),
)


def main(settings: CPCAudioSettings, **given):
    """CPC on sounds: from what was heard, which of all frames is the one so many steps on (arXiv:1807.03748)?"""
    from hf_replearn.pretraining.sounds import pretrain_sounds

    return pretrain_sounds(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, CPCAudioSettings, prog="cpc-audio")
