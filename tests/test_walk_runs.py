"""Vectors of nodes end to end: runs, what others load of them, runs that go on, neighbours, bad input."""

import dataclasses
import hashlib
import importlib
import json
import os
import signal

import datasets
import elsewhere
import numpy as np
import pytest
from forked import start as fork

import hf_replearn as hr
from hf_replearn.data.graphs import load_graph
from hf_replearn.encoders.graphs import NodeVectors, read_nodes, write_nodes
from hf_replearn.errors import InputError
from hf_replearn.pretraining.graphs import draw_map
from hf_replearn.recipes.graph import METHODS, GraphRunSettings, main
from hf_replearn.settings import run
from hf_replearn.training.passes import Passes

DRAW_MAP = draw_map  # the runs here have none
SMALL = ["--dim", "8", "--save_steps", "1"]
WALKS = ["--walks", "10", "--walk_length", "20", "--window", "4"]
GIVEN = {"deepwalk": WALKS, "node2vec": [*WALKS, "--p", "0.5", "--q", "2"], "line": ["--edge_passes", "20"]}

LOAD = """
import json, sys
folder = sys.argv[1]
from safetensors import safe_open
with safe_open(folder + "/embeddings.safetensors", framework="numpy") as file:
    found = {"ids": json.loads(file.metadata()["ids"]), "embeddings": file.get_tensor("embeddings").tolist()}
try:
    from gensim.models import KeyedVectors
    vectors = KeyedVectors.load_word2vec_format(folder + "/nodes.txt")
    found["gensim"] = {node: vectors[node].tolist() for node in vectors.index_to_key}
    found["near"] = vectors.most_similar(found["ids"][0], topn=5)
except ImportError:
    pass
print(json.dumps(found))
"""


def start(*arguments: str) -> int:
    """Runs it in this process; returns its exit code."""
    try:
        run(main, GraphRunSettings, [*SMALL, *arguments])
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    make_small(monkeypatch)


def make_small(patch):
    """Stretches of 4,000 nodes, so that the toy has several; no curves, and no map."""
    patch.setattr("hf_replearn.methods.walks.STRETCH", 4000)
    patch.setattr("hf_replearn.sharing.results.write_curves", lambda folder: False)
    patch.setattr("hf_replearn.pretraining.graphs.draw_map", lambda graph, learnt, path: False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run on the toy by each method."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        outs = {method: tmp_path_factory.mktemp("nodes") / method for method in GIVEN}
        for method, out in outs.items():
            assert start("--dataset", "toy", "--method", method, *GIVEN[method], "--output_dir", str(out)) == 0
    return outs


def digest(out) -> str:
    return hashlib.sha256((out / "embeddings.safetensors").read_bytes()).hexdigest()


def test_a_run_leaves_what_others_load_without_this_package(made, tmp_path):
    printed = elsewhere.run(LOAD, made["deepwalk"], folder=tmp_path)
    found, ours, graph = json.loads(printed.splitlines()[-1]), read_nodes(made["deepwalk"]), load_graph("toy")
    assert found["ids"] == ours.ids == graph.ids
    np.testing.assert_array_equal(np.array(found["embeddings"], dtype=np.float32), ours.vectors)
    if "gensim" in found:
        assert list(found["gensim"]) == ours.ids
        np.testing.assert_array_equal(np.array(list(found["gensim"].values()), dtype=np.float32), ours.vectors)
        assert [node for node, _ in found["near"]] == [node for node, _ in ours.nearest(ours.ids[0], 5)]


@pytest.mark.parametrize("method", GIVEN)
def test_what_a_run_of_each_method_leaves(method, made):
    out, graph = made[method], load_graph("toy")
    nodes, report = read_nodes(out), json.loads((out / "report.json").read_text())
    assert nodes.vectors.shape == (300, 8) and np.isfinite(nodes.vectors).all()
    np.testing.assert_array_equal(nodes.vectors.any(axis=1), graph.degrees > 0)
    own = report["own_task"]["rows"]
    assert own["this run"]["loss of a pair (nats)"] < own["random vectors"]["loss of a pair (nats)"] - 0.1
    assert report["method"]["name"] == METHODS[method].facts.name and report["encoder"]["parameters"] == 300 * 8
    assert report["data"]["train"] == 300 and "taken as undirected" in report["data"]["taken"]
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert len(steps) > 3 and report["training"]["steps"] == len(steps) and all(step["loss"] > 0 for step in steps)
    card = (out / "README.md").read_text()
    assert "pipeline_tag: graph-ml" in card and "safe_open" in card and "taken as undirected" in card
    assert "nearest to nodes with many edges" in card
    assert (
        "takes inputs of" not in card and "0 held out" not in card and "taken as" in (out / "report.html").read_text()
    )


@pytest.mark.parametrize("method", GIVEN)
@pytest.mark.usefixtures("unshown")
def test_killed_it_goes_on_bit_for_bit(method, made, tmp_path, monkeypatch):
    """By a signal after the third pass, before its checkpoint is there; the same command ends with the same bits."""
    again, save = tmp_path / "again", Passes._save
    arguments = ["--dataset", "toy", "--method", method, *GIVEN[method], "--output_dir", str(again)]

    def killed(self, state):
        if self.done == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Passes, "_save", killed)
        assert fork(lambda: start(*arguments), tmp_path / "log").wait() == [-signal.SIGKILL]
    assert (again / "checkpoint-2").exists() and not (again / "embeddings.safetensors").exists()
    assert start(*arguments) == 0
    assert digest(again) == digest(made[method])
    logs = [
        [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
        for out in (again, made[method])
    ]
    assert logs[0] == logs[1] == list(range(1, len(logs[1]) + 1))


def test_other_settings_do_not_go_on(made, capsys):
    given = ["--dataset", "toy", *GIVEN["deepwalk"], "--output_dir", str(made["deepwalk"])]
    assert start(*given, "--seed", "7") == 2
    assert "seed" in capsys.readouterr().err


@pytest.mark.usefixtures("unshown")
def test_two_threads_give_the_same_bits_again(tmp_path):
    outs = [tmp_path / name for name in ("one", "other")]
    for out in outs:
        assert start("--dataset", "toy", *GIVEN["deepwalk"], "--workers", "2", "--output_dir", str(out)) == 0
    assert digest(outs[0]) == digest(outs[1])


def test_a_checkpoint_is_exported(made, tmp_path):
    recipe = importlib.import_module("hf_replearn.recipes.export")
    steps = sorted(made["line"].glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    run(recipe.main, recipe.ExportSettings, ["--checkpoint", str(steps[0]), "--output_dir", str(tmp_path / "x")])
    found, last = read_nodes(tmp_path / "x"), read_nodes(made["line"])
    assert found.ids == last.ids and not np.array_equal(found.vectors, last.vectors)
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"config.json", "embeddings.safetensors", "nodes.txt"}
    assert json.loads((tmp_path / "x" / "config.json").read_text())["method"] == "line"


def test_a_directed_graph_is_walked_along_its_edges(tmp_path):
    edges = {"source": [0, 1, 2, 0], "target": [1, 2, 3, 2]}
    datasets.Dataset.from_dict(edges).to_parquet(tmp_path / "edges.parquet")
    out = tmp_path / "out"
    assert start("--dataset", str(tmp_path / "edges.parquet"), "--directed", *WALKS, "--output_dir", str(out)) == 0
    assert read_nodes(out).ids == [0, 1, 2, 3]
    report = json.loads((out / "report.json").read_text())
    assert "directed: an edge leads one way only" in report["data"]["taken"] and report["data"]["classes"] is None
    assert "no labels" in (out / "README.md").read_text() and report["figures"] == {}


def test_a_map_is_drawn_of_nodes_that_have_a_vector(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_replearn.pretraining.graphs.MAPPED", 60)
    graph = load_graph("toy")
    vectors = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    for nodes, drawn in ((NodeVectors(graph.ids, vectors), True), (NodeVectors(graph.ids, vectors * 0), False)):
        assert DRAW_MAP(graph, nodes, tmp_path / f"{drawn}.png") is drawn == (tmp_path / f"{drawn}.png").exists()
    unlabelled = dataclasses.replace(graph, labels=None, classes=[])
    assert DRAW_MAP(unlabelled, NodeVectors(graph.ids, vectors), tmp_path / "grey.png")


# ---- vectors

PLANE = NodeVectors(["north", "7", "north east", "alone"], np.array([[0, 2], [3, 0], [1, 1], [0, 0]], dtype=np.float32))


def test_neighbours_by_hand():
    found = PLANE.nearest("north", 3)
    assert [node for node, _ in found] == ["north east", "7", "alone"]
    np.testing.assert_allclose([cosine for _, cosine in found], [0.5**0.5, 0, 0], atol=1e-6)
    assert PLANE.nearest("7", 1)[0][0] == PLANE.nearest(7, 1)[0][0] == "north east"
    numbers = NodeVectors([5, 7], np.eye(2, dtype=np.float32))
    assert numbers.nearest("5") == numbers.nearest(5) == [(7, 0.0)]
    for node, message in (("North", "'North' is not among the 4"), ("alone", "has no edge")):
        with pytest.raises(InputError, match=message):
            PLANE.nearest(node)


def test_vectors_are_written_and_read_whatever_the_ids(tmp_path):
    assert write_nodes(PLANE, tmp_path / "words", recipe="graph", method="line") == [
        "no nodes.txt: its format has no room for the space in 'north east'"
    ]
    assert not (tmp_path / "words" / "nodes.txt").exists()
    numbers = NodeVectors([0, 10**12], PLANE.vectors[:2])
    assert write_nodes(numbers, tmp_path / "numbers", recipe="graph", method="line") == []
    for name, nodes in (("words", PLANE), ("numbers", numbers)):
        found = read_nodes(tmp_path / name)
        assert found.ids == nodes.ids
        np.testing.assert_array_equal(found.vectors, nodes.vectors)
    assert hr.nearest(tmp_path / "words", "north", 1)[0][0] == "north east"
    assert (tmp_path / "numbers" / "nodes.txt").read_text() == f"2 2\n0 0 2\n{10**12} 3 0\n"
    (tmp_path / "numbers" / "embeddings.safetensors").write_bytes(b"no safetensors")
    for folder in (tmp_path / "numbers", tmp_path):
        with pytest.raises(InputError, match="vectors of nodes"):
            read_nodes(folder)


@pytest.mark.parametrize(
    ("edges", "more", "message"),
    [
        ("a,b\nb,c\n", ["--method", "line", "--walks", "3"], "--walks is of deepwalk, node2vec, not of line"),
        ("a,b\nb,c\n", ["--p", "2"], "--p is of node2vec, not of deepwalk"),
        ("a,a\nb,b\n", [], "no edges between nodes, only 2 loops"),
        ("a,b,once\nb,c,upon\n", [], "is no table of edges"),
        ("-1,2\n2,3\n", [], "has the node -1 in row 0"),
        (",2\n2,3\n", [], "has no node in row 0"),
        ("a,b\n", ["--dim", "1"], "--dim"),
        ("a,b\n", ["--method", "line", "--dim", "5"], "--dim 5: half of a vector of line"),
        ("a,b\n", ["--method", "line", "--directed"], "--directed: line learns from both ends"),
        ("a,b\n", ["--nodes", "nowhere.csv"], "nowhere.csv"),
        ("a,b\n", ["--dataset_config", "x", "--label_column", "y"], "--label_column y is a column of nodes"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_is_learnt(edges, more, message, tmp_path, capsys):
    header = "one,two,three\n" if edges.count(",") == 4 else "source,target\n"
    (tmp_path / "edges.csv").write_text(header + edges)
    assert start("--dataset", str(tmp_path / "edges.csv"), "--output_dir", str(tmp_path / "out"), *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out" / "recipe.yaml").exists()


def test_a_graph_in_a_notebook_is_a_path(tmp_path):
    with pytest.raises(InputError, match="a graph is read from files or from the Hub"):
        hr.pretrain("graph", dataset=datasets.Dataset.from_dict({"x": [1]}), output_dir=str(tmp_path / "x"))
    run_ = hr.pretrain("graph", dataset="toy", walks=2, walk_length=5, dim=4, output_dir=str(tmp_path / "out"))
    assert run_.report.encoder.features == 4 and len(hr.nearest(run_, "person-003", 3)) == 3
