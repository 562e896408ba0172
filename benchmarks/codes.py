"""What if f(x) = A x and g(y) = B y? A linear autoencoder of Fashion-MNIST, to its minimum, beside its principal
components; and with a price of squares, the closed form of its singular values.

    python -m benchmarks.codes PATH_OF_FASHION_MNIST

In float64 by L-BFGS on the expected loss, which for linear maps is a function of the mean and covariance of the images,
whose mean is taken off; then the error of the model as it is, on all of them. One CPU core, some seconds. And by the
command, with recipes/configs/autoencoder/fashion_mnist_linear.yaml: AdamW in batches, a minute.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from benchmarks._machine import machine, write_result
from hf_replearn.cli import main as command
from hf_replearn.data.images import load_images
from hf_replearn.evaluation.reconstruction import Components, principal_components
from hf_replearn.methods.autoencoder import AutoencoderConfig, AutoencoderForPreTraining, reconstruction_error
from hf_replearn.methods.autoencoder.showing_autoencoder import beside_pca, offset_of
from hf_replearn.representation import ImagePreprocessor

CODE, SIDE, TOGETHER, STEPS = 16, 28, 5000, 1000


def linear(l2: float) -> AutoencoderForPreTraining:
    """A linear autoencoder from random weights."""
    torch.manual_seed(0)
    arguments = {"widths": [CODE], "activation": "none", "in_chans": 1, "img_size": SIDE}
    about = {"backbone": "dense", "backbone_args": arguments, "image_size": SIDE, "code": CODE, "linear": True}
    return AutoencoderForPreTraining(AutoencoderConfig(**about, l2=l2)).double()


def expected_loss(model: AutoencoderForPreTraining, known: Components) -> torch.Tensor:
    """Over all images, from their moments."""
    encoder, decoder = model.matrices
    covariance, mean = known.covariance, known.mean
    coded = encoder @ covariance  # (K, D)
    left = covariance.trace() - 2 * (coded * decoder.T).sum() + ((coded @ encoder.T) * (decoder.T @ decoder)).sum()
    code = encoder @ mean + model.model.encoder.layers[1].bias
    missed = mean - decoder @ code - model.decoder[0].bias
    return left + missed.square().sum() + model.config.l2 * (encoder.square().sum() + decoder.square().sum())


def descend(known: Components, l2: float, start: AutoencoderForPreTraining | None = None) -> AutoencoderForPreTraining:
    """To the minimum, from random weights or from those of another: without a price of squares the way from random ones
    is long."""
    model = linear(l2)
    if start is not None:
        model.load_state_dict(start.state_dict())
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=STEPS, history_size=50, tolerance_grad=1e-10, tolerance_change=0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = expected_loss(model, known)
        value.backward()
        return value

    optimizer.step(loss)
    return model


def by_command(dataset: str) -> dict[str, float]:
    """What `hf-replearn autoencoder` reports of its own run, with the configuration of the recipes."""
    config = Path(__file__).parents[1] / "recipes" / "configs" / "autoencoder" / "fashion_mnist_linear.yaml"
    with tempfile.TemporaryDirectory() as place:
        began = time.process_time()
        told = ["autoencoder", "--config", str(config), "--dataset", dataset, "--output_dir", f"{place}/linear"]
        command([*told, "--use_cpu", "--label_type", "ignored"])
        seconds = time.process_time() - began
        report = json.loads(Path(place, "linear", "report.json").read_text())
    return {"CPU seconds of all": seconds, **report["own_task"]["rows"]["this run"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    dataset = parser.parse_args().dataset
    torch.set_num_threads(1)
    rows = load_images(dataset, channels=1).train
    preprocess = ImagePreprocessor(SIDE, (0.0,), (1.0,))
    parts = range(0, len(rows), TOGETHER)
    images = torch.cat([preprocess([rows[n] for n in range(s, min(s + TOGETHER, len(rows)))]) for s in parts])
    images -= images.double().mean(0).float()  # or the offsets would have to follow each step of the matrices
    known = principal_components(images.split(TOGETHER), CODE)
    found = {"images": len(images), "code": CODE, "left by PCA": known.left}
    model = None
    for l2 in (0.1, 0.0):
        began = time.process_time()
        model = descend(known, l2, model)
        seconds = time.process_time() - began
        with torch.no_grad():
            pieces = [part.double() for part in images.split(TOGETHER)]
            left = sum(reconstruction_error(model(x, return_loss=False).told, x) * len(x) for x in pieces) / len(images)
            measured = {name: float(value) for name, value in beside_pca(model, known).items()}
            exact = known.left_by(model.matrices[1] @ model.matrices[0], offset=offset_of(model, model.matrices[1]))
        found[f"l2 {l2}"] = {"left": float(left), "left in float64": exact, "CPU seconds": seconds, **measured}
        print(l2, found[f"l2 {l2}"], flush=True)
    found["by the command"] = by_command(dataset)
    write_result("codes", {"machine": machine(), "linear autoencoder": found})


if __name__ == "__main__":
    main()
