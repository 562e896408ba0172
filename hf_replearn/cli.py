"""`hf-replearn <recipe>`: the same recipes from an installed package. Only argparse until a recipe is chosen."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys

from hf_replearn import __version__
from hf_replearn.errors import one_line_endings

COMMANDS = {
    "simclr": ("simclr", "SimCLRSettings", "SimCLR: two views of an image attract, other images repel"),
    "dcl": ("dcl", "DCLSettings", "DCL: SimCLR whose attracting pair is not among the repelling ones"),
    "supcon": ("supcon", "SupConSettings", "SupCon: images of one class attract, other classes repel (needs labels)"),
    "barlow-twins": (
        "barlow_twins",
        "BarlowTwinsSettings",
        "Barlow Twins: features agree, none repeats another",
    ),
    "vicreg": ("vicreg", "VICRegSettings", "VICReg: views agree, features vary, no two vary together"),
    "sigreg": ("sigreg", "SIGRegSettings", "LeJEPA: views agree, projections are a standard Gaussian (SIGReg)"),
    "simsiam": ("simsiam", "SimSiamSettings", "SimSiam: one view's projection is told from the other's"),
    "byol": ("byol", "BYOLSettings", "BYOL: a student predicts its teacher's view of an image, without negatives"),
    "moco": ("moco", "MoCoSettings", "MoCo v3 or v2: a query finds its teacher's key of another view of the image"),
    "dino": ("dino", "DINOSettings", "DINO: a student tells how its teacher sorts other crops of the image"),
    "inpainting": ("inpainting", "InpaintingSettings", "inpainting: what is in the part that is hidden?"),
    "autoencoder": ("autoencoder", "AutoencoderSettings", "autoencoder: an image is made again of a few numbers"),
    "vae": ("vae", "VAESettings", "VAE, beta-VAE, beta-TCVAE: an image is told from a few uncertain latent numbers"),
    "gan": ("gan", "GANSettings", "GAN: images are generated, and an encoder tells of which numbers"),
    "mae": ("mae", "MAESettings", "MAE: hidden patches of an image, told from the others"),
    "colorization": ("colorization", "ColorizationSettings", "colorization: which colours has this grey image?"),
    "rotation": ("rotation", "RotationSettings", "rotation: by how many quarter turns was an image turned?"),
    "context-prediction": (
        "context_prediction",
        "ContextPredictionSettings",
        "context prediction: at which of eight places beside a patch was another cut?",
    ),
    "cpc": ("cpc", "CPCSettings", "CPC: from the patches above, which of all patches is the one further below?"),
    "cpc-audio": (
        "cpc_audio",
        "CPCAudioSettings",
        "CPC on sounds: from what was heard, which of all frames comes next?",
    ),
    "image-gpt": ("image_gpt", "ImageGPTSettings", "image GPT: the colour of each pixel is told from those before it"),
    "pca": ("pca", "PCASettings", "PCA: the directions in which images, patches or features vary most"),
    "ica": ("ica", "ICASettings", "ICA: directions that tell as little of one another as they can"),
    "dictionary": ("dictionary", "DictionarySettings", "dictionary learning: atoms of which few tell an image"),
    "sparse-coding": ("sparse_coding", "SparseCodingSettings", "sparse coding: an image as a sum of few atoms"),
    "rbm": ("rbm", "RBMSettings", "restricted Boltzmann machines: hidden units explain what is seen"),
    "kmeans": ("kmeans", "KMeansSettings", "k-means features: how near patches are to centroids"),
    "episodes": ("episodes", "EpisodesSettings", "learning from few examples, by episodes of a few classes"),
    "word2vec": ("word2vec", "Word2VecSettings", "word2vec: vectors of words, by which each tells those around it"),
    "sentences": ("sentences", "SentencesSettings", "SimCSE, TSDAE, pairs of texts: one vector of a sentence"),
    "graph": ("graph", "GraphRunSettings", "DeepWalk, node2vec, LINE: vectors of the nodes of a graph"),
    "clip": ("clip", "CLIPSettings", "CLIP, SigLIP: which caption is of this image, and which image of this caption?"),
    "multitask": ("multitask", "MultiTaskSettings", "several labelled tasks at once: one trunk, a head for each"),
    "finetune": ("finetune", "FinetuneSettings", "what an encoder is worth on a labelled task, beside baselines"),
    "masked-lm": ("masked_lm", "MaskedLMSettings", "masked language modelling: hidden tokens are told"),
    "causal-lm": ("causal_lm", "CausalLMSettings", "causal language modelling: the next token is told"),
    "evaluate": ("evaluation", "EvaluateSettings", "what frozen representations are worth, side by side"),
    "disentanglement": (
        "disentanglement",
        "DisentanglementSettings",
        "whether each factor of images has a part of a code to itself",
    ),
    "encode": ("encode", "EncodeSettings", "features of a dataset, in one file of arrays"),
    "export": ("export", "ExportSettings", "the encoder of a checkpoint, in its library's own format"),
    "report": ("report", "ReportSettings", "one page that puts runs and evaluations beside one another"),
    "prompt": ("prompt", "PromptSettings", "few-shot prompting in the style of GPT-3, with intervals"),
    "push": ("push", "PushSettings", "upload what a run left to the Hugging Face Hub"),
    "env": (None, None, "versions and hardware, for a bug report"),
}


def main(argv: list[str] | None = None) -> None:
    """Starts the recipe named by the first argument with the rest of them."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="hf-replearn",
        description="Learn an encoder f with a head g, keep f, throw g away.",
        epilog="`hf-replearn <command> --help` lists a command's settings.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (_, _, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    if argv and not argv[0].startswith("-") and argv[0] not in COMMANDS:
        print(f"error: unknown command {argv[0]}: {nearest_command(argv[0])}", file=sys.stderr)
        sys.exit(2)
    parser.parse_args(argv[:1])
    if argv[0] == "env":
        with one_line_endings():
            return env()
    module, settings, _ = COMMANDS[argv[0]]
    from hf_replearn.settings import run

    recipe = importlib.import_module(f"hf_replearn.recipes.{module}")
    run(recipe.main, getattr(recipe, settings), argv[1:], prog=f"hf-replearn {argv[0]}")


def nearest_command(name: str) -> str:
    """What to say to somebody who gave the name of no command."""
    nearest = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(COMMANDS)}"


def env() -> None:
    """What a bug report needs."""
    import platform
    from importlib.metadata import version

    import torch

    print(f"hf_replearn {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in ("torch", "torchvision", "transformers", "accelerate", "datasets", "timm", "huggingface-hub"):
        print(f"{package} {version(package)}")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(f"GPUs: {', '.join(gpus) or 'none'}; CPU threads: {torch.get_num_threads()}")


if __name__ == "__main__":
    main()
