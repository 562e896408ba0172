"""PCA, k-means features and sparse codes, ours and scikit-learn's in turn, for the same result.

    python -m benchmarks.classical [--quick]
    python -m benchmarks.classical --cifar10 path/to/cifar10

Seconds are of the processor, one thread, the median of as many runs as `REPEATED` says. PCA: 64 components of 50,000 x
3,072 numbers whose variances fall as i^-2; scikit-learn by its default for this shape, randomized, whose span is less
exact than ours, and by the covariance, which is as exact; how exact, is the smallest cosine of a principal angle with
the span by all eigenvectors. Ours by passes over the data, and by the covariance, as of data that is not in memory.

k-means: triangle features of images of 32 x 32 pixels in colours by 400 centroids of whitened patches of 6 x 6;
scikit-learn's `KMeans.transform` between the same steps in numpy. `products_alone` are the two matrix products that
both have to compute, whitening and patches by centroids. They take half of our time, at the speed of a core; the rest
are some fifteen passes over 29,160 x 400 or x 108 numbers in its cache: root, mean, difference, and what makes patches.
Five times scikit-learn's speed is not reached. Other designs were tried: codes as centroids x patches, from `unfold`,
were slower than patches x centroids, by its copies and a thin product that sums regions; all results written into
memory that is kept, without copies of the inputs, gave 15 % more and could not be differentiated; halves or quarters of
an image at a time cost more in calls than they gain in the cache.

Sparse codes: lasso of
whitened patches over 196 atoms to a KKT residual of 1e-3 of the penalty at most; scikit-learn's `sparse_encode` by its
default, lasso_lars, and by coordinate descent, lasso_cd, in as few rounds as come as near.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import threadpoolctl
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, sparse_encode

from benchmarks._machine import machine, write_result
from hf_replearn.data.images import ImageData, load_images
from hf_replearn.evaluation.linear_probe import linear_probe
from hf_replearn.methods.fitting import by_covariance, principal_axes, zca
from hf_replearn.methods.kmeans import KMeans as KMeansFit
from hf_replearn.methods.kmeans import KMeansConfig, KMeansModel
from hf_replearn.methods.sparse_coding.modeling_sparse_coding import fista, residual
from hf_replearn.pretraining.inputs import Crops, Inputs, drawn_patches
from hf_replearn.representation import Features, ImagePreprocessor, extract

REPEATED = {"sparse_codes": 5, "kmeans": 15, "pca": 3}


def in_turn(times: int, **works: Callable[[], Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """name -> median of processor seconds, and what each gave, one after the other each time."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    results = {}
    for _ in range(times):
        for name, work in works.items():
            start = time.process_time()
            results[name] = work()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}, results


def of_pca(count: int, width: int, components: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(width, width, generator=generator) / torch.arange(1, width + 1)[:, None]
    x = torch.cat([torch.randn(1000, width, generator=generator) @ mixing for _ in range(count // 1000)])
    inputs = Inputs(x, width, torch.device("cpu"), 4096)

    def theirs(solver: str) -> np.ndarray:
        return PCA(components, svd_solver=solver, random_state=0).fit(x.numpy()).components_

    seconds, found = in_turn(
        REPEATED["pca"],
        ours=lambda: principal_axes(inputs, components)[2].numpy(),
        ours_by_covariance=lambda: by_covariance(inputs, components)[2].T.numpy(),
        scikit_learn_default=lambda: theirs("auto"),
        scikit_learn_by_covariance=lambda: theirs("covariance_eigh"),
    )
    centred = x.double() - x.double().mean(0)
    exact = torch.linalg.eigh(centred.T @ centred)[1].flip(1)[:, :components].numpy()
    angles = {name: np.linalg.svd(axes.astype(np.float64) @ exact)[1].min() for name, axes in found.items()}
    return {
        "examples": count,
        "numbers": width,
        "components": components,
        "seconds": seconds,
        "smallest_cosine": angles,
    }


def of_kmeans(count: int, centroids: int) -> dict[str, Any]:
    torch.manual_seed(0)
    config = KMeansConfig(
        image_size=32, inputs=108, components=centroids, patch_size=6, contrast=10 / 255**2, whitened=True
    )
    model = KMeansModel(config).eval()
    with torch.no_grad():
        model.whitener.copy_(torch.randn(108, 108) / 10)
        model.centroids.copy_(torch.randn(centroids, 108))
    images = torch.rand(count, 3, 32, 32)
    fitted = KMeans(centroids, n_init=1, max_iter=1).fit(model.centroids.detach().numpy())
    fitted.cluster_centers_ = model.centroids.detach().numpy()

    def theirs() -> np.ndarray:
        shift, whitener = (part.detach().numpy() for part in (model.shift, model.whitener))
        rows = []
        for image in images.numpy():
            patches = np.lib.stride_tricks.sliding_window_view(image, (6, 6), axis=(1, 2))
            x = patches.transpose(1, 2, 0, 3, 4).reshape(-1, 108)
            x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + config.contrast)
            z = fitted.transform((x - shift) @ whitener)
            codes = np.maximum(z.mean(1, keepdims=True) - z, 0).reshape(27, 27, -1)
            halves = (slice(14), slice(14, 27))
            quarters = [codes[ys, xs].sum((0, 1)) for ys in halves for xs in halves]
            rows.append(np.concatenate(quarters))
        return np.stack(rows)

    def ours() -> np.ndarray:
        with torch.no_grad():
            return model(images).pooler_output.numpy()

    whitened = torch.rand(27 * 27, 108)

    def products() -> None:
        with torch.no_grad():
            for _ in images:
                whitened @ model.whitener @ model.centroids.T

    seconds, found = in_turn(REPEATED["kmeans"], ours=ours, scikit_learn=theirs, products_alone=products)
    scale = np.abs(found["scikit_learn"]).max()
    difference = np.abs(found["ours"] - found["scikit_learn"]).max() / scale
    return {"images": count, "centroids": centroids, "seconds": seconds, "largest_difference": float(difference)}


def of_sparse_codes(count: int, atoms: int, width: int) -> dict[str, Any]:
    generator, penalty = torch.Generator().manual_seed(0), 1.0
    dictionary = torch.nn.functional.normalize(torch.randn(atoms, width, generator=generator))
    x = torch.randn(count, width, generator=generator)

    def off(codes: torch.Tensor) -> float:
        return residual(codes, (codes @ dictionary - x) @ dictionary.T, penalty).max().item()

    def theirs(algorithm: str, rounds: int) -> np.ndarray:
        about = {"algorithm": algorithm, "alpha": penalty, "max_iter": rounds, "check_input": False}
        return sparse_encode(x.numpy(), dictionary.numpy(), **about)

    rounds = 4  # of coordinate descent: as many as it takes to come as near
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while rounds < 10_000 and off(torch.from_numpy(theirs("lasso_cd", rounds)).float()) > 1e-3 * penalty:
            rounds += 4
        seconds, found = in_turn(
            REPEATED["sparse_codes"],
            ours=lambda: fista(x, dictionary, penalty).numpy(),
            scikit_learn_default=lambda: theirs("lasso_lars", 1000),
            scikit_learn_by_coordinates=lambda: theirs("lasso_cd", rounds),
        )
    found = {name: torch.from_numpy(codes).float() for name, codes in found.items()}
    return {
        "inputs": count,
        "atoms": atoms,
        "numbers": width,
        "seconds": seconds,
        "rounds_of_coordinate_descent": rounds,
        "kkt_residual_of_the_penalty": {name: off(codes) / penalty for name, codes in found.items()},
        "numbers_not_0": {name: codes.count_nonzero().item() / count for name, codes in found.items()},
    }


def kmeans_features(images: ImageData, past: Callable[[str], None] = lambda step: None) -> list[Features]:
    """Features of the images to train and to test on as recipes/configs/kmeans/cifar10.yaml has them. past: called with
    the name of each step that is done."""
    about = {"device": torch.device("cpu"), "size": 4096, "contrast": 10 / 255**2}
    fit, generator = KMeansFit(400, passes=15), torch.Generator().manual_seed(42)
    inputs = drawn_patches(images.train, Crops(32, 1.0), side=6, count=200_000, seed=42, **about)
    shift, whitener = zca(inputs, 0.1)
    inputs = inputs.whitened(shift, whitener)
    past("patches and whitening")
    state = fit.begin(inputs, generator)
    for _ in range(fit.passes):
        fit.go_on(state, inputs, generator)
    past("k-means")
    config = KMeansConfig(
        image_size=32, inputs=108, components=400, patch_size=6, contrast=about["contrast"], whitened=True
    )
    model = KMeansModel(config).eval()
    model.load_state_dict({"shift": shift, "whitener": whitener} | fit.weights(state))
    seen = ImagePreprocessor(32, (0.0,), (1.0,))
    parts = [
        extract(lambda x: model(x).pooler_output, rows, preprocess=seen) for rows in (images.labelled, images.test)
    ]
    past("features of 60,000 images")
    return parts


def on_cifar10(dataset: str) -> dict[str, Any]:
    """The linear probe of k-means features, and the seconds of steps once the images are decoded."""
    images = load_images(dataset)
    seconds, begun = {}, time.process_time()

    def past(step: str) -> None:
        seconds[step] = time.process_time() - begun - sum(seconds.values())

    found = linear_probe(*kmeans_features(images, past))
    past("linear probe")
    return {"dataset": images.name, "centroids": 400, "patches": 200_000, "seconds": seconds, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small data")
    parser.add_argument("--cifar10", help="folder: only the accuracy of k-means features on it, and their time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    if options.cifar10 is not None:
        return write_result("classical_cifar10", {"machine": machine(), "kmeans": on_cifar10(options.cifar10)})
    quick = options.quick
    result = {
        "machine": machine(),
        "sparse_codes": of_sparse_codes(200 if quick else 2000, 196, 144),
        "kmeans": of_kmeans(4 if quick else 40, 400),
        "pca": of_pca(2000 if quick else 50_000, 600 if quick else 3072, 64),
    }
    for name in ("sparse_codes", "kmeans", "pca"):
        print(name, {side: round(value, 2) for side, value in result[name]["seconds"].items()})
    write_result("classical" + "_quick" * quick, result)


if __name__ == "__main__":
    main()
