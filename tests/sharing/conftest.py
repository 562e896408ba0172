import pytest
from loopback_hub import LoopbackHub

from hf_replearn.sharing.report import Data, Encoder, Method, Report, Training


@pytest.fixture(scope="session")
def loopback_hub(tmp_path_factory):
    with LoopbackHub(home=tmp_path_factory.mktemp("hf_home")) as hub:
        yield hub


@pytest.fixture
def report():
    """A run that wins at k_shot, ties at linear as printed, and loses at knn."""
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
