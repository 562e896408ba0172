"""Graphs from tables and arrays: what is read, what is said of it, what is refused."""

import json
import re

import datasets
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from hf_replearn.data.graphs import load_graph
from hf_replearn.errors import InputError

# a loop, an edge twice, one both ways, a node by itself, two components
ROWS = [("a", "b"), ("b", "c"), ("c", "b"), ("a", "b"), ("c", "c"), ("d", "e")]
NODES = {"id": ["e", "d", "c", "b", "a", "f"], "x": [[1.0, 0], [0, 2], [0, 0], [3, 0], [0, 1], [1, 1]]}
NODES |= {"label": ["fox", "ox", "fox", None, "ox", "fox"], "split": ["train", "dev", "test", "none", "train", ""]}


def write_csv(path, rows, header="source,target"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


@pytest.fixture
def tables(tmp_path):
    """(edges, nodes)"""
    datasets.Dataset.from_dict(NODES).to_parquet(tmp_path / "nodes.parquet")
    return write_csv(tmp_path / "edges.csv", ROWS), str(tmp_path / "nodes.parquet")


def test_edges_alone(tables):
    graph = load_graph(tables[0])
    assert graph.ids == ["a", "b", "c", "d", "e"] and graph.hub_id is None and graph.name == "edges.csv"
    assert graph.edges.tolist() == [[0, 1], [1, 2], [3, 4]]
    assert graph.degrees.tolist() == [1, 2, 1, 1, 1] and graph.components.tolist() == [0, 0, 0, 1, 1]
    for said in ("5 nodes, 3 edges", "given once, but for 1 both ways", "left out: 1 loop", "1 edge given more than",
                 "2 components, the largest of 3 nodes"):  # fmt: skip
        assert said in graph.taken
    dense = np.zeros((5, 5))
    for one, other in graph.edges:
        dense[one, other] = dense[other, one] = 1
    np.testing.assert_array_equal(graph.adjacency.toarray(), dense)


def test_a_directed_graph_keeps_its_ways(tables):
    graph = load_graph(tables[0], directed=True)
    assert graph.edges.tolist() == [[0, 1], [1, 2], [2, 1], [3, 4]]
    assert "directed: an edge leads one way only" in graph.taken and "undirected" not in graph.taken
    np.testing.assert_array_equal(np.argwhere(graph.adjacency.toarray()), graph.edges)
    assert graph.fingerprint != load_graph(tables[0]).fingerprint


def test_nodes_have_the_order_and_the_facts_of_their_table(tables, tmp_path):
    for given in ({"dataset": tables[0], "nodes": tables[1]}, {"dataset": str(tmp_path)}):
        graph = load_graph(**given)
        assert graph.ids == NODES["id"] and graph.classes == ["fox", "ox"]
        assert graph.labels.tolist() == [0, 1, 0, -1, 1, 0]
        assert graph.edges.tolist() == [[0, 1], [2, 3], [3, 4]]
        np.testing.assert_array_equal(graph.features.toarray(), NODES["x"])
        assert {name: rows.tolist() for name, rows in graph.splits.items()} == {
            "train": [0, 4], "validation": [1], "test": [2]
        }  # fmt: skip
        assert "1 node without an edge" in graph.taken and "2 classes of 5 nodes" in graph.taken


def test_arrays_are_the_same_graph_as_tables(tmp_path):
    """Of torch_geometric's names, sparse or dense, and of Shchur's."""
    edges = np.array([[4, 5], [5, 4], [2, 3], [3, 2], [2, 0]])
    x = csr_matrix(np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3], [0, 0, 0], [4, 5, 0], [0, 0, 6.0]]))
    y = np.array([0, 1, -1, 1, 0, 1])
    labels = [label if label >= 0 else None for label in y.tolist()]
    table = {"id": list(range(6)), "label": labels, "feature_index": [[0], [1], [2], [], [0, 1], [2]]}
    table |= {"feature_value": [[1.0], [2.0], [3.0], [], [4.0, 5.0], [6.0]]}
    datasets.Dataset.from_dict(table).to_parquet(tmp_path / "nodes.parquet")
    datasets.Dataset.from_dict({"u": edges[:, 0], "v": edges[:, 1], "weight": [1] * 5}).to_parquet(
        tmp_path / "e.parquet"
    )
    adjacency = csr_matrix((np.ones(5), edges.T), shape=(6, 6))
    parts = {"indptr": x.indptr, "indices": x.indices, "data": x.data, "shape": x.shape}
    sparse = {f"x_{name}": part for name, part in parts.items()}
    kinds = {
        "dense": {"edge_index": edges.T, "x": x.toarray(), "y": y, "train_mask": np.arange(6) < 2},
        "sparse": {"edge_index": edges, "y": y, "train_idx": [1, 0]} | sparse,
        "shchur": {"adj_indptr": adjacency.indptr, "adj_indices": adjacency.indices, "adj_data": adjacency.data,
                   "adj_shape": adjacency.shape, "labels": y, "train_idx": [0, 1]}
        | {f"attr_{name}": part for name, part in parts.items()},
    }  # fmt: skip
    table = load_graph(str(tmp_path / "e.parquet"), nodes=str(tmp_path / "nodes.parquet"))
    assert "columns of edges not used: weight" in table.taken and table.ids == [0, 1, 2, 3, 4, 5]
    for name, arrays in kinds.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        graph = load_graph(str(tmp_path / f"{name}.npz"))
        assert graph.fingerprint == table.fingerprint, name
        assert graph.labels.tolist() == table.labels.tolist() == y.tolist() and graph.classes == ["0", "1"]
        assert graph.splits["train"].tolist() == [0, 1]


def test_ids_may_be_numbers_beside_words_and_numbers_are_in_their_order(tmp_path):
    assert load_graph(write_csv(tmp_path / "numbers.csv", [(10, 2), (2, 7)])).ids == [2, 7, 10]
    words = write_csv(tmp_path / "words.csv", [("p1",), (7,), ("007",)], "id")
    edges = write_csv(tmp_path / "edges.csv", [(7, 7), ("p1", 7), ("007", 7)])
    graph = load_graph(edges, nodes=words)
    assert graph.ids == ["p1", "7", "007"] and graph.edges.tolist() == [[0, 1], [1, 2]]
    numbers = write_csv(tmp_path / "all.csv", [(1, 7), (7, 8)])
    assert load_graph(numbers, nodes=write_csv(tmp_path / "n.csv", [("a",), (7,), (1,), (8,)], "id")).ids[1] == "7"


def test_two_columns_are_an_edge_and_columns_of_numbers_are_features(tmp_path):
    edges = write_csv(tmp_path / "edges.tsv", [("ann\tbob",), ("bob\tcy",)], "who\twhom")
    nodes = write_csv(tmp_path / "nodes.csv", [("ann", 1, 0.5, "x"), ("bob", 2, 0, "y"), ("cy", 3, 1, "z")],
                      "node,age,height,remark")  # fmt: skip
    graph = load_graph(edges, nodes=nodes)
    assert graph.edges.tolist() == [[0, 1], [1, 2]] and graph.features.toarray().tolist() == [[1, 0.5], [2, 0], [3, 1]]
    assert "features: the columns age, height" in graph.taken and "columns of nodes not used: remark" in graph.taken
    assert graph.labels is None and graph.splits == {}


def test_the_toy_is_a_graph_with_groups(tmp_path):
    graph = load_graph("toy")
    assert len(graph) == 300 and graph.features.shape == (300, 120) and len(graph.classes) == 4
    same = (graph.labels[graph.edges[:, 0]] == graph.labels[graph.edges[:, 1]]).mean()
    assert 0.6 < same < 0.9 and (graph.degrees == 0).sum() > 2
    assert np.bincount(graph.labels[graph.splits["train"]]).tolist() == [5, 5, 5, 5]
    assert [len(rows) for rows in graph.splits.values()] == [20, 80, 200]
    assert len(np.unique(np.concatenate(list(graph.splits.values())))) == 300
    assert graph.fingerprint == load_graph("toy").fingerprint


def test_some_of_the_edges(tables):
    graph = load_graph(tables[0])
    part = graph.with_edges(graph.edges[:1])
    assert len(part) == 5 and part.degrees.sum() == 2 and part.adjacency.nnz == 2 and graph.adjacency.nnz == 6


ARRAYS = {"edge_index": np.array([[0, 1, 2], [1, 2, 0]])}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.ones((3, 2))}, "has the arrays x (3, 2); a graph is edge_index"),
        (ARRAYS | {"adj_indptr": [0, 1], "adj_indices": [0]}, "both edge_index and adj_indptr"),
        (ARRAYS | {"x": np.ones((2, 2))}, "edge 1 is between the nodes 1 and 2, and there are 2"),
        ({"edge_index": np.array([[0, -1, 1], [1, 0, 0]])}, "edge 1 is between the nodes -1 and 0"),
        (ARRAYS | {"x": np.ones((3, 2)), "y": np.zeros(4, int)}, "together: features of 3 nodes, labels of 4"),
        ({"edge_index": np.array([[0, 1], [1, 2]])}, "whether an edge is a row or a column"),
        ({"edge_index": np.zeros((2, 0), int)}, "no edges between nodes"),
        ({"edge_index": np.ones((2, 4), int)}, "no edges between nodes, only 4 loops"),
        ({"edge_index": np.ones((2, 4))}, "give whole numbers"),
        (ARRAYS | {"x": np.array([[1, 2], [np.nan, 1], [0, 0]])}, "a feature of row 1 is nan"),
        (ARRAYS | {"y": np.array([0, -2, 1])}, "a label is -2"),
        (ARRAYS | {"y": np.zeros((3, 2), int)}, "one class a node"),
        (ARRAYS | {"y": np.zeros(3, int), "labels": np.zeros(3, int)}, "y and labels, which may mean the same"),
        (ARRAYS | {"test_idx": [1, 3]}, "test_idx has the node 3 of 3"),
        (ARRAYS | {"train_mask": np.ones((3, 10), bool)}, "train_mask is bool (3, 10)"),
        (ARRAYS | {"ids": np.array(["a", "b", "a"])}, "the id a is there more than once"),
        (ARRAYS | {"y": np.array(["a", None, "b"], dtype=object)}, "objects of Python"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_graph_are_refused_in_one_line(arrays, message, tmp_path):
    np.savez(tmp_path / "graph.npz", **arrays)
    with pytest.raises(InputError, match=re.escape(message)) as told:
        load_graph(str(tmp_path / "graph.npz"))
    assert "\n" not in str(told.value) and "graph.npz" in str(told.value)


@pytest.mark.parametrize(
    ("rows", "header", "more", "message"),
    [
        ([("a", "b", 1)], "who,whom,when", {}, "is no table of edges: it has the columns who (string)"),
        ([("a", "b", "c", "d")], "source,target,src,dst", {}, "between source and target or src and dst"),
        ([("a", "b")], "source,target", {"edge_columns": ["source", "to"]}, "--edge_columns source to: give two of"),
        ([(1, 2), (-3, 2)], "source,target", {}, "has the node -3 in row 1"),
        ([(1, 2), ("", 2)], "source,target", {}, "has no node in row 1"),
        ([("a", "b"), ("a", " ")], "source,target", {}, "has no node in row 1"),
        ([(1, 2.5)], "source,target", {}, "nodes are whole numbers from 0 on, or words"),
        ([("a", "a")], "source,target", {}, "no edges between nodes, only 1 loop"),
        ([], "source,target", {}, "no rows"),
        ([("a", "b")], "source,target", {"label_column": "y"}, "give their table with --nodes"),
    ],
)
def test_tables_that_are_no_graph_are_refused_in_one_line(rows, header, more, message, tmp_path):
    with pytest.raises(InputError, match=re.escape(message)) as told:
        load_graph(write_csv(tmp_path / "edges.csv", rows, header), **more)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"id": ["a", "b", "c", "d", "d"]}, "has the node 'd' more than once"),
        ({"id": ["a", "b", "c", "d"]}, "row 5: the node 'e' is not among those of"),
        ({"id": ["a", "b", None]}, "has no node in row 2"),
        ({"person": ["a", "b"]}, "the ids are in none of them"),
        ({"id": ["a"], "node": ["a"]}, "the ids may be of id or node"),
        ({"id": list("abcde"), "split": ["train", "holdout", "", "", ""]}, "has the split 'holdout'"),
        ({"id": list("abcde"), "x": [[1.0], [2.0], [3.0], [4.0], [5.0, 6.0]]}, "all of one length"),
        ({"id": list("abcde"), "age": [1.0, 2.0, 3.0, float("nan"), 4.0]}, "a feature of row 3 is nan"),
        ({"id": list("abcde"), "label": [0.5, 1.5, 0.1, 0.2, 0.3]}, "of use for texts only"),
        ({"id": list("abcde"), "label": [-1, 0, 1, 1, 0]}, "a class, or no label? Say --label_type classes"),
        ({"id": list("abcde"), "label": [["x"], ["y"], [], [], []]}, "has lists of them"),
    ],
)
def test_tables_of_nodes_that_do_not_fit_are_refused_in_one_line(nodes, message, tables, tmp_path):
    datasets.Dataset.from_dict(nodes).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match=re.escape(message)) as told:
        load_graph(tables[0], nodes=str(tmp_path / "other.parquet"))
    assert "\n" not in str(told.value)


def test_a_folder_of_two_graphs_is_refused_by_both_names(tables, tmp_path):
    np.savez(tmp_path / "cora.npz", **ARRAYS)
    with pytest.raises(
        InputError, match=r"edges.csv and cora.npz, which may be two graphs.*nodes.parquet with --nodes"
    ):
        load_graph(str(tmp_path))
    (tmp_path / "cora.npz").unlink()
    with pytest.raises(InputError, match="has nodes of its own"):
        load_graph(str(tmp_path), nodes=tables[1])
    with pytest.raises(InputError, match="'toy' is none: leave it out"):
        load_graph("toy", nodes=tables[1])
    (tmp_path / "edges.csv").rename(tmp_path / "links.json")
    with pytest.raises(InputError, match="has links.json, nodes.parquet; a graph is edges.csv"):
        load_graph(str(tmp_path))
    (tmp_path / "links.json").write_text(json.dumps({"text": "once upon a time"}) + "\n")
    with pytest.raises(InputError, match="is no table of edges"):
        load_graph(str(tmp_path / "links.json"))
    (tmp_path / "edges.txt").write_text("1 2\n2 3\n")
    with pytest.raises(InputError, match="is plain text: make a .csv of it"):
        load_graph(str(tmp_path / "edges.txt"))
    for name, content in (("broken.npz", "no zip"), ("edges.edgelist", "1 2")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=name):
            load_graph(str(tmp_path / name))
