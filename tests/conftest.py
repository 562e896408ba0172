"""No test looks anything up on the Hub, and none writes to the user's caches; a GPU is seen by `-m gpu` alone."""

import gc
import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_DATASETS_CACHE"] = os.path.join(tempfile.gettempdir(), f"hf_replearn_tests_{os.getpid()}")
os.environ["HF_MODULES_CACHE"] = os.path.join(os.environ["HF_DATASETS_CACHE"], "modules")  # code beside weights
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # tests are small: threads would only wait for one another

import shutil
import warnings

import pytest


def pytest_configure(config):
    """Tests are of the CPU, and some fork, which a process that has used a GPU must not. Those of a GPU run alone."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # --full_determinism in a process that has used it


LONGEST = ("no_round_trip", "text_recipes", "killed", "image_methods", "sharding", "recipes", "multitask_recipe")
LONGEST += ("episodes_command", "finetune", "evaluate", "streamed", "sentence_encoders", "trainer", "told_to_stop")


def pytest_collection_modifyitems(items):
    """Files that take longest come first, so that of several processes none works on alone at the end."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True, scope="session")
def _remove_caches():
    yield
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def _frozen():
    """Every run looks for garbage, and most of what it would look through are modules: half the time of small runs."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seed():
    import torch

    torch.manual_seed(0)
    warnings.simplefilter("default")


@pytest.fixture(autouse=True)
def _verbosity():
    """A recipe owns its process and may silence transformers in it, progress bars of training included: not for the
    tests after it."""
    import transformers

    verbosity = transformers.logging.get_verbosity()
    yield
    transformers.logging.set_verbosity(verbosity)


@pytest.fixture
def unshown(monkeypatch):
    """Runs of this test draw no pictures and write neither card nor page."""
    import small_runs

    small_runs.unshown(monkeypatch)


@pytest.fixture
def report():
    """A run that wins at k_shot, ties at linear as printed, and loses at knn."""
    from hf_replearn.sharing.report import Data, Encoder, Method, Report, Training

    return Report(
        method=Method(
            name="SimCLR",
            summary="Two views of an image attract, views of other images repel; labels are not used.",
            paper="A Simple Framework for Contrastive Learning of Visual Representations",
            arxiv="2002.05709",
            bibtex="@inproceedings{chen2020simple,\n  title = {A Simple Framework}\n}",
            model_class="hf_replearn.methods.simclr.SimCLRForPreTraining",
        ),
        encoder=Encoder(
            library="timm",
            pipeline_tag="image-feature-extraction",
            architecture="resnet10t",
            parameters=4_923_000,
            features=512,
            input_size=[3, 32, 32],
        ),
        data=Data(name="digits", unit="image", train=1437, test=360, skipped=0, classes=10, held_out="every 5th image"),
        training=Training(
            steps=100,
            examples=25_600,
            seconds=12.5,
            examples_per_second=2048.0,
            final_loss=1.25,
            hardware="2 CPU cores",
        ),
        command="accelerate launch recipes/simclr.py --dataset toy",
        settings={"dataset": "toy", "seed": 0, "temperature": 0.5},
        changed=["dataset"],
        rows={
            "SimCLR": {"knn@20": 0.9, "linear": 0.9501, "k_shot@1": 0.78125, "k_shot@1_ci95": 0.0123},
            "raw pixels": {"knn@20": 0.95, "linear": 0.9499, "k_shot@1": 0.68, "k_shot@1_ci95": 0.02},
            "random weights": {"knn@20": 0.5, "linear": float("nan")},
        },
        protocols={
            "knn": "Weighted vote of k neighbours.",
            "linear": "Logistic regression.",
            "k_shot": "Mean of 10 draws.",
        },
    )
