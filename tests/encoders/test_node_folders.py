"""Folders of vectors of nodes and their networks: written, read, read by others, and what is refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hf_replearn.encoders.graphs import NodeVectors, is_nodes, read_nodes, write_nodes
from hf_replearn.errors import InputError

VECTORS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
NETWORK = {"class": "GCN", "arguments": {"in_channels": 7, "hidden_channels": 3, "num_layers": 1, "act": "prelu"}}


@pytest.mark.parametrize("ids", [[7, 0, -3, 10**12], ["a", "b\u00e9", "7", "x/y"]])
def test_what_is_written_is_read(tmp_path, ids):
    weights = {"convs.0.bias": np.arange(3, dtype=np.float32)}
    write_nodes(NodeVectors(ids, VECTORS, NETWORK), tmp_path / "out", recipe="graph", weights=weights)
    found = read_nodes(tmp_path / "out")
    assert is_nodes(tmp_path / "out") and found.ids == ids and found.network == NETWORK
    np.testing.assert_array_equal(found.vectors, VECTORS)
    np.testing.assert_array_equal(found.of(ids[:1:-1], named="x"), VECTORS[:1:-1])
    np.testing.assert_array_equal(load_file(tmp_path / "out" / "model.safetensors")["convs.0.bias"], np.arange(3))
    lines = (tmp_path / "out" / "nodes.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "4 3" and [line.split(" ")[0] for line in lines[1:]] == list(map(str, ids))
    np.testing.assert_array_equal(np.array([line.split(" ")[1:] for line in lines[1:]], dtype=np.float32), VECTORS)
    modes = {path.stat().st_mode for path in (tmp_path / "out").iterdir()}
    assert len(modes) == 1


def test_ids_that_a_text_file_cannot_hold_are_named(tmp_path, capsys):
    write_nodes(NodeVectors(["a", "b c", "d", "e"], VECTORS), tmp_path, recipe="graph")
    assert "nodes.txt is left out: the id 'b c' has a space" in capsys.readouterr().out
    assert not (tmp_path / "nodes.txt").exists() and read_nodes(tmp_path).ids == ["a", "b c", "d", "e"]


def test_nodes_without_a_vector_are_named():
    nodes = NodeVectors([1, 2, 3, 4], VECTORS)
    with pytest.raises(InputError, match="out has no vector of 2 of the graph's 3 nodes, such as 9; its first is 1"):
        nodes.of([9, 1, 8], named="out")
    with pytest.raises(InputError, match="no vector of 1 of the graph's 1 nodes, such as '1'"):
        nodes.of(["1"], named="out")


def test_damaged_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no vectors of nodes"):
        read_nodes(tmp_path)
    (tmp_path / "embeddings.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_nodes(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({}))
    for ids in ([1, 2, 3], [1, 2, 3, 3]):
        save_file({"embeddings": VECTORS, "ids": np.array(ids)}, tmp_path / "embeddings.safetensors")
        with pytest.raises(InputError, match="does not hold one vector for each of its ids"):
            read_nodes(tmp_path)
