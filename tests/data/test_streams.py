"""Shards of images that are read when they are needed."""

import functools
import http.server
import itertools
import json
import threading

import pytest
import shards as make

from hf_replearn.data.images import load_images
from hf_replearn.data.streams import addresses, stream_images
from hf_replearn.errors import InputError


def contents(shard) -> list[bytes]:
    return [row["image"]["bytes"] for row in shard]


@pytest.fixture
def tars(tmp_path):
    return make.write_tars(tmp_path / "tars")


@pytest.fixture
def tables(tmp_path):
    for shard in range(3):
        images = [make.png(10 * shard + row) for row in range(10)]
        make.write_parquet(tmp_path / "tables" / f"train-{shard}.parquet", images, label=[row % 2 for row in range(10)])
    return tmp_path / "tables"


def test_webdataset_shards_with_labels_beside_the_images(tars):
    data = stream_images(str(tars))
    assert data.stream.names == [f"train-{n:03}.tar" for n in range(4)] and data.stream.known == data.images == 40
    assert contents(data.stream.open(2)) == [make.png(number) for number in range(20, 30)]
    assert data.test is None and data.label_names is None and not data.single_label
    assert data.taken.endswith("a stream of 4 shards of column `png`")
    assert data.notes[0] == "of 40 images that were looked at, all decode" and "hf-replearn evaluate" in data.notes[1]
    assert data.common_size == (18, 20) and data.canvas(16) == 20  # nobody knows whether all are of that size


def test_parquet_shards(tables):
    data = stream_images(str(tables))
    assert data.stream.known == 30 and set(next(iter(data.stream.open(0)))) == {"image"}
    assert contents(data.stream.open(1)) == [make.png(number) for number in range(10, 20)]
    assert stream_images(str(tables), image_column="image").fingerprint == data.fingerprint


def test_a_single_file_and_one_of_the_files(tars):
    data = stream_images(str(tars / "train-001.tar"))
    assert data.stream.names == ["train-001.tar"] and data.stream.known == 10
    assert stream_images(str(tars), files=["*-001.tar"]).stream.known == 10


@pytest.mark.parametrize("kind", ["tars", "tables"])
@pytest.mark.parametrize("done", [0, 1, 3, 4, 9, 10])
def test_a_shard_is_read_on_from_a_state_of_json(kind, done, request):
    stream = stream_images(str(request.getfixturevalue(kind))).stream
    shard = stream.open(1)
    rows = iter(shard)
    begun = [row["image"]["bytes"] for row in itertools.islice(rows, done)]
    state = json.loads(json.dumps(shard.state())) if done else None
    assert begun + contents(stream.open(1, state)) == contents(stream.open(1))


def test_looked_at_are_some_of_all_over(tmp_path):
    """The last of thirty shards is of another kind, and is seen."""
    for shard in range(29):
        make.write_tar(tmp_path / f"train-{shard:02}.tar", {"a.png": make.png(shard)})
    make.write_tar(tmp_path / "train-29.tar", {"a.txt": b"a ship"})
    with pytest.raises(InputError, match=r"1 of 10 images .* do not decode, more than .*empty row"):
        stream_images(str(tmp_path))
    data = stream_images(str(tmp_path), max_undecodable=0.2)
    assert data.stream.known is None and data.images > 10**9 and len(data.train) == 9
    assert data.notes[0] == "of 10 images that were looked at, 1 do not decode: image (train row 9: empty row)"


def test_parquet_is_divided_where_there_are_more_readers_than_files(tables):
    stream = stream_images(str(tables)).stream
    assert stream.for_readers(3) is stream
    divided = stream.for_readers(4)
    assert len(divided) == 9  # row groups of 4, 4 and 2
    found = [image for shard in range(9) for image in contents(divided.open(shard))]
    assert found == [make.png(number) for number in range(30)]
    with pytest.raises(InputError, match="9 shards for 10 readers, the processes times --dataloader_num_workers"):
        stream.for_readers(10)


def test_a_tar_is_not_divided(tars):
    with pytest.raises(InputError, match="4 shards for 5 readers"):
        stream_images(str(tars)).stream.for_readers(5)


def test_shards_without_images(tmp_path):
    make.write_tar(tmp_path / "a" / "train-0.tar", {"0.txt": b"a ship", "1.txt": b"the sea"})
    with pytest.raises(InputError, match="no column holds images; the columns are txt, __key__, __url__"):
        stream_images(str(tmp_path / "a"))
    make.write_tar(tmp_path / "b" / "train-0.tar", {})
    with pytest.raises(InputError, match=r"train-0.tar cannot be read: there is nothing in it"):
        stream_images(str(tmp_path / "b"))


def test_two_columns_of_images(tmp_path):
    images = [make.png(n) for n in range(4)]
    cells = [{"bytes": image, "path": "a.png"} for image in images]
    make.write_parquet(tmp_path / "train.parquet", images, mask=cells)
    with pytest.raises(InputError, match="several columns may be the image: image, mask; choose with --image_column"):
        stream_images(str(tmp_path))
    assert stream_images(str(tmp_path), image_column="mask").stream.known == 4
    with pytest.raises(InputError, match="--image_column 'photo' holds no images"):
        stream_images(str(tmp_path), image_column="photo")


def test_shards_of_two_kinds(tars, tables):
    with pytest.raises(InputError, match=r"3 parquet files .* or the 4 webdataset files .* Say it with --files"):
        stream_images(str(tars.parent))


def test_pictures_are_no_shards(put):
    folder = put("a.png")
    with pytest.raises(InputError, match=r"no shards of images to stream .* without --streaming, or pack many"):
        stream_images(str(folder))


def test_not_streamed_a_tar_says_how_it_is_read(tars):
    for path in (tars, tars / "train-000.tar"):
        with pytest.raises(InputError, match="an archive: unpack it first, or stream its images with --streaming"):
            load_images(str(path))


def test_a_shard_that_was_cut_short(tars, tables):
    for path in (tars / "train-002.tar", tables / "train-2.parquet"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"train-002.tar: the shard is damaged: unexpected end of data: mend it, or"):
        stream_images(str(tars))
    with pytest.raises(InputError, match=r"train-2.parquet' is damaged, or no parquet file"):
        stream_images(str(tables))


def test_damaged_later_it_is_told_where(tars):
    stream = stream_images(str(tars)).stream
    path = tars / "train-002.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rows = iter(stream.open(2))
    assert next(rows)["image"]["bytes"] == make.png(20)
    with pytest.raises(InputError, match="the shard is damaged: unexpected end of data"):
        list(rows)


def test_labels_that_are_no_numbers_do_no_harm_in_a_later_shard(tars):
    make.write_tar(tars / "train-001.tar", {"0.png": make.png(1), "0.cls": b"cat"})
    with pytest.raises(InputError, match=r"train-001.tar: the shard is damaged: invalid literal"):
        stream_images(str(tars))


def test_all_rows_have_the_levels_and_channels_that_are_told(tables):
    stream = stream_images(str(tables), channels=3).stream
    assert next(iter(stream.open(0)))["channels"] == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_at_an_address(workers, tars):
    from torch.utils.data import DataLoader

    handler = functools.partial(Quiet, directory=str(tars))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        data = stream_images(f"{host}/train-{{000..003}}.tar")
        loader = DataLoader(Whole(data.stream, 3), batch_size=None, num_workers=workers)  # also after a fork
        assert list(loader)[0] == [make.png(number) for number in range(30, 40)]
        with pytest.raises(InputError, match=r"train-\{003..004\}.tar' cannot be read|train-004.tar: "):
            stream_images(f"{host}/train-{{003..004}}.tar")
        server.shutdown()
    assert data.stream.names[1] == f"{host}/train-001.tar"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Whole:
    """A data set of one row: all images of a shard."""

    def __init__(self, stream, shard):
        self.stream, self.shard = stream, shard

    def __len__(self):
        return 1

    def __getitem__(self, row):
        return contents(self.stream.open(self.shard))


def test_addresses_of_a_range():
    assert list(addresses("h/{08..11}.tar")) == ["h/08.tar", "h/09.tar", "h/10.tar", "h/11.tar"]
    assert list(addresses("h/{a}-{1..2}/{0..1}")) == ["h/{a}-1/0", "h/{a}-1/1", "h/{a}-2/0", "h/{a}-2/1"]
    assert list(addresses("h/a.tar")) == ["h/a.tar"]
    for wrong in ("h/{3..1}.tar", "h/{0..9999999}.tar"):
        with pytest.raises(InputError, match="names"):
            list(addresses(wrong))


def test_addresses_of_other_things(tars):
    with pytest.raises(InputError, match=r"must end in .tar, .parquet or .arrow"):
        stream_images("https://127.0.0.1/images.zip")
    with pytest.raises(InputError, match="--files is of folders"):
        stream_images("https://127.0.0.1/{0..1}.tar", files=["*"])
