"""Representation learning in the Hugging Face ecosystem: train an encoder f with a head g, keep f, throw g away."""

import importlib

__version__ = "0.1.0.dev0"

_HOME = {
    "SimCLRConfig": "methods.simclr",
    "SimCLRForPreTraining": "methods.simclr",
    "SimCLRModel": "methods.simclr",
    "AutoencoderConfig": "methods.autoencoder",
    "AutoencoderForPreTraining": "methods.autoencoder",
    "AutoencoderModel": "methods.autoencoder",
    "BarlowTwinsConfig": "methods.barlow_twins",
    "BarlowTwinsForPreTraining": "methods.barlow_twins",
    "BarlowTwinsModel": "methods.barlow_twins",
    "CLIPForPreTraining": "methods.clip",
    "CLIPPreTrainingConfig": "methods.clip",
    "CPCConfig": "methods.cpc",
    "CPCForPreTraining": "methods.cpc",
    "CPCModel": "methods.cpc",
    "ContextPredictionConfig": "methods.context_prediction",
    "ContextPredictionForPreTraining": "methods.context_prediction",
    "ContextPredictionModel": "methods.context_prediction",
    "ComponentsConfig": "methods.components",
    "ComponentsModel": "methods.components",
    "ColorizationConfig": "methods.colorization",
    "ColorizationForPreTraining": "methods.colorization",
    "ColorizationModel": "methods.colorization",
    "DCLConfig": "methods.dcl",
    "DCLForPreTraining": "methods.dcl",
    "DCLModel": "methods.dcl",
    "DINOConfig": "methods.dino",
    "DINOForPreTraining": "methods.dino",
    "DINOModel": "methods.dino",
    "GANConfig": "methods.gan",
    "GANForPreTraining": "methods.gan",
    "GANModel": "methods.gan",
    "KMeansConfig": "methods.kmeans",
    "KMeansModel": "methods.kmeans",
    "ImageGPTForPreTraining": "methods.image_gpt",
    "InpaintingConfig": "methods.inpainting",
    "InpaintingForPreTraining": "methods.inpainting",
    "InpaintingModel": "methods.inpainting",
    "MAEConfig": "methods.mae",
    "MAEForPreTraining": "methods.mae",
    "MAEModel": "methods.mae",
    "MoCoConfig": "methods.moco",
    "MoCoForPreTraining": "methods.moco",
    "MoCoModel": "methods.moco",
    "RBMConfig": "methods.rbm",
    "RBMModel": "methods.rbm",
    "RotationConfig": "methods.rotation",
    "RotationForPreTraining": "methods.rotation",
    "RotationModel": "methods.rotation",
    "SentencesConfig": "methods.sentences",
    "SentencesForPreTraining": "methods.sentences",
    "SIGRegConfig": "methods.sigreg",
    "SIGRegForPreTraining": "methods.sigreg",
    "SIGRegModel": "methods.sigreg",
    "BYOLConfig": "methods.byol",
    "BYOLForPreTraining": "methods.byol",
    "BYOLModel": "methods.byol",
    "SparseCodingConfig": "methods.sparse_coding",
    "SparseCodingModel": "methods.sparse_coding",
    "SimSiamConfig": "methods.simsiam",
    "SimSiamForPreTraining": "methods.simsiam",
    "SimSiamModel": "methods.simsiam",
    "SupConConfig": "methods.supcon",
    "SupConForPreTraining": "methods.supcon",
    "SupConModel": "methods.supcon",
    "VAEConfig": "methods.vae",
    "VAEForPreTraining": "methods.vae",
    "VAEModel": "methods.vae",
    "VICRegConfig": "methods.vicreg",
    "VICRegForPreTraining": "methods.vicreg",
    "VICRegModel": "methods.vicreg",
    "Features": "representation",
    "pretrain": "notebook",
    "evaluate": "recipes.evaluation",
    "extract": "representation",
    "encode": "encoding",
    "decode": "decoded",
    "interpolate": "decoded",
    "nearest": "encoders.nearest",
    "analogy": "encoders.words",
    "WordVectors": "encoders.words",
    "PretrainingTrainer": "training.trainer",
    "load_images": "data.images",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str):
    """Imports a public name when it is first used (PEP 562), so that `import hf_replearn` is instant."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted(__all__)
