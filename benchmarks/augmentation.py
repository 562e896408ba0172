"""Two augmented, normalised views of each image on one core: batched tensors against lightly's SimCLRTransform on PIL.

    python -m benchmarks.augmentation [--dataset images.parquet] [--images 256] [--rounds 15]

Both get the same decoded images and the same policy: at 32 px the paper's for CIFAR (strength 0.5, no blur), at 96 px
the one for ImageNet (strength 1, blur with p 0.5). lightly is called as in its training loops, image by image on PIL,
which is its fastest way; stacking its views into a batch is not counted. One thread, CPU time, the two in turn, medians
over the rounds.
"""

import argparse
import io
import statistics
import time

import torch
from lightly.transforms import SimCLRTransform
from lightly.transforms.utils import IMAGENET_NORMALIZE
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from benchmarks._machine import machine, write_result
from hf_replearn.augmentation import normalize, simclr_cifar, simclr_imagenet

POLICIES = {  # pixels: ours, lightly's settings, ratio required
    32: (simclr_cifar, {"cj_strength": 0.5, "gaussian_blur": 0.0}, 10),
    96: (simclr_imagenet, {"cj_strength": 1.0, "gaussian_blur": 0.5}, 2),
}


def pictures(path: str | None, n: int, size: int) -> list[Image.Image]:
    """The first n of a parquet file's `image` column, or smooth random colours; RGB, size × size."""
    if path is None:
        coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
        return [to_pil_image(image) for image in smooth]
    from pyarrow.parquet import read_table

    rows = read_table(path, columns=["image"]).slice(0, n).column("image").to_pylist()
    return [Image.open(io.BytesIO(row["bytes"])).convert("RGB").resize((size, size)) for row in rows]


def pairs_per_second(make_views, images: int) -> float:
    start = time.process_time()
    make_views()
    return images / (time.process_time() - start)


def compare(size: int, dataset: str | None, images: int, rounds: int) -> dict[str, float]:
    """Median pairs per second of both at one size, and their ratio."""
    policy, settings, required = POLICIES[size]
    decoded = pictures(dataset, images, size)
    batch = torch.stack([pil_to_tensor(image) for image in decoded])
    transform = SimCLRTransform(input_size=size, normalize=IMAGENET_NORMALIZE, **settings)
    generator = torch.Generator().manual_seed(0)

    def ours():
        views = policy(batch, size=size, views=2, generator=generator)
        return normalize(views, IMAGENET_NORMALIZE["mean"], IMAGENET_NORMALIZE["std"])

    def theirs():
        return [transform(image) for image in decoded]

    runs = {"hf_replearn": ours, "lightly": theirs}
    speeds = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            speed = pairs_per_second(run, len(decoded))
            if i > 0:  # the first round warms up
                speeds[name].append(speed)
    result = {name: round(statistics.median(speed), 1) for name, speed in speeds.items()}
    result |= {"ratio": round(result["hf_replearn"] / result["lightly"], 2), "required": required}
    print(f"{size:3d} px: {result['hf_replearn']:8.0f} pairs/s, lightly {result['lightly']:6.0f}: × {result['ratio']}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="parquet file with an `image` column of encoded images")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {size: compare(size, args.dataset, args.images, args.rounds) for size in POLICIES}
    write_result(
        "augmentation",
        {
            "benchmark": "augmentation",
            "what": "pairs of views per second of CPU time, one thread",
            "dataset": args.dataset or "smooth random colours",
            "images": args.images,
            "rounds": args.rounds,
            "pairs_per_second": {f"{s}px": {k: r[k] for k in ("hf_replearn", "lightly")} for s, r in results.items()},
            "ratio": {f"{s}px": r["ratio"] for s, r in results.items()},
            "required": {f"{s}px": r["required"] for s, r in results.items()},
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
