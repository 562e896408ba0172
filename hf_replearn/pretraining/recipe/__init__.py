"""What a recipe hands over, by kind of data: its settings and the facts of its method. Imports nothing heavy."""

from hf_replearn.pretraining.recipe.episodes import EpisodeMethod, EpisodeSettings
from hf_replearn.pretraining.recipe.fitted import FittedMethod, FittedSettings, WhitenedSettings
from hf_replearn.pretraining.recipe.graphs import GraphMethod, GraphSettings
from hf_replearn.pretraining.recipe.images import (
    SMALL,
    ContrastiveSettings,
    CropSettings,
    ImageMethod,
    ImageSettings,
    PictureSettings,
    ViewSettings,
)
from hf_replearn.pretraining.recipe.method import later
from hf_replearn.pretraining.recipe.pairs import PairMethod, PairSettings
from hf_replearn.pretraining.recipe.pixels import PixelMethod, PixelSettings
from hf_replearn.pretraining.recipe.sentences import SentenceMethod, SentenceSettings
from hf_replearn.pretraining.recipe.sounds import SoundMethod, SoundSettings
from hf_replearn.pretraining.recipe.tasks import TaskMethod, TaskSettings
from hf_replearn.pretraining.recipe.texts import TextMethod, TextSettings
from hf_replearn.pretraining.recipe.words import WordMethod, WordSettings
from hf_replearn.settings import run, setting
from hf_replearn.sharing.report import Method

__all__ = [
    "SMALL", "ContrastiveSettings", "CropSettings", "EpisodeMethod", "EpisodeSettings",
    "FittedMethod", "FittedSettings", "GraphMethod", "GraphSettings",
    "ImageMethod", "ImageSettings", "Method", "PairMethod", "PairSettings", "PictureSettings", "PixelMethod",
    "PixelSettings", "SentenceMethod", "SentenceSettings", "SoundMethod", "SoundSettings", "TaskMethod",
    "TaskSettings", "TextMethod", "TextSettings", "ViewSettings", "WhitenedSettings", "WordMethod", "WordSettings",
    "later", "run", "setting",
]  # fmt: skip
