"""Shards of images, as people write them."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(number: int, size=(20, 18)) -> bytes:
    """Noise of its own for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def write_tar(path, members: dict[str, bytes]):
    """A webdataset shard. members: name -> content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def write_tars(folder, shards: int = 4, rows: int = 10):
    """Images with labels, numbered through all shards."""
    for shard in range(shards):
        members = {}
        for number in range(shard * rows, (shard + 1) * rows):
            members |= {f"{number:05}.png": png(number), f"{number:05}.cls": str(number % 3).encode()}
            members |= {f"{number:05}.json": b'{"caption": "noise"}'}
        write_tar(folder / f"train-{shard:03}.tar", members)
    return folder


def write_parquet(path, images: list[bytes | None], *, row_group: int = 4, **more: list):
    """A parquet shard with a column `image`, and more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": image, "path": f"{number}.png"} for number, image in enumerate(images)]
    pq.write_table(pa.table({"image": cells, **more}), path, row_group_size=row_group)
    return path
