"""`evaluate` of vectors of nodes, end to end on the toy graph: reports, pages, cards, edges that are held out, and what
is refused."""

import json
import re

import numpy as np
import pytest

from hf_replearn.data.graphs import load_graph
from hf_replearn.encoders.graphs import NodeVectors, write_nodes
from hf_replearn.evaluation.graph_baselines import spread
from hf_replearn.evaluation.graphs import check_unseen, features_of, hold_out_links, judge_graph, unordered
from hf_replearn.recipes.evaluation import EvaluateSettings, main
from hf_replearn.settings import run
from hf_replearn.sharing.report import Evaluation


def vectors(split: int | None = None) -> NodeVectors:
    """Of the toy graph's nodes, that know its features and the edges that are not held out."""
    graph = load_graph("toy")
    known = graph if split is None else hold_out_links(graph, seed=split)[0]
    return NodeVectors(graph.ids, spread(features_of(graph), unordered(known), 2))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders as runs leave them: of all edges, and of those that a split leaves."""
    found = {}
    for name, split in (("all", None), ("some", 3)):
        found[name] = tmp_path_factory.mktemp(name)
        write_nodes(vectors(split), found[name], recipe="graph", method="dgi")
        given = {"dataset": "toy", "directed": False, "link_split": split}
        (found[name] / "recipe.yaml").write_text("".join(f"{key}: {json.dumps(of)}\n" for key, of in given.items()))
    return found


def evaluate(*arguments) -> int:
    try:
        run(main, EvaluateSettings, list(map(str, arguments)))
    except SystemExit as end:
        return end.code
    return 0


def test_classes_of_nodes_beside_their_baselines(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("hf_replearn.evaluation.graphs.SPLITS", 3)
    asked = ["--model", folders["all"], "--dataset", "toy", "--task", "nodes", "--output_dir", tmp_path / "out"]
    assert evaluate(*asked) == 0
    report = Evaluation.load(tmp_path / "out")
    first, *others = report.rows
    assert first == str(folders["all"])
    assert others == ["features", "Â²X", "Â⁴X", "random GCN (512)", "spectral (64)", "degree"]
    assert report.rows[first] == report.rows["Â²X"]  # they are the same
    assert report.rows[first]["nodes_own_split"] > report.rows["degree"]["nodes_own_split"] + 0.3
    same = [test for test in report.comparisons if test["other"] == "Â²X"]
    assert [(test["difference"], test["p"]) for test in same] == [(0, 1), (0, 1)]
    assert "200 test nodes of the graph's own split" in report.protocols["nodes_own_split"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Classes of nodes" in page and "random splits" in page and "spectral (64)" in page
    assert "taken as undirected" in capsys.readouterr().out


def test_links_that_the_vectors_do_not_know(folders, tmp_path):
    asked = ["--model", folders["some"], "--dataset", "toy", "--task", "links", "--output_dir", tmp_path / "out"]
    assert evaluate(*asked) == 0
    report = Evaluation.load(tmp_path / "out")
    assert list(report.rows)[-2:] == ["degree", "Adamic-Adar"]
    assert report.rows[str(folders["some"])] == report.rows["Â²X"]  # both know the edges that are left
    assert re.search(r"84 edges held out .* know 713 other edges\. .*Â²X: \w+", report.protocols["links_auc"])
    assert report.metrics == ["links_auc", "links_ap"]
    assert "the vectors know 713 of the edges" in report.task.notes[-1]


def test_edges_that_are_held_out_are_known_to_nobody():
    graph = load_graph("toy")
    for directed in (False, True):
        whole = load_graph("toy", directed=directed)
        if directed:  # some lead both ways
            whole = whole.with_edges(np.unique(np.concatenate([whole.edges, whole.edges[::3, ::-1]]), axis=0))
        left, split = hold_out_links(whole, seed=0)
        held = {frozenset(pair) for pair in np.concatenate([split.validation, split.test]).tolist()}
        assert not held & {frozenset(pair) for pair in left.edges.tolist()}
        assert len({frozenset(pair) for pair in left.edges.tolist()}) + len(held) == len(graph.edges)
        with pytest.raises(AssertionError, match="an edge that is to be told is known"):
            check_unseen(whole, split)
        with pytest.raises(AssertionError, match="an edge that is to be told is known"):
            judge_graph(whole, {"x": vectors().vectors}, tasks=["links"], split=split)


def test_features_are_shares_unless_some_are_negative():
    graph = load_graph("toy")
    shares = np.asarray(features_of(graph).sum(axis=1)).ravel()
    np.testing.assert_allclose(shares, 1, rtol=1e-6)
    negative = graph.features.copy()
    negative.data[0] = -1
    assert (features_of(type(graph)(**{**graph.__dict__, "features": negative})) != negative).nnz == 0


@pytest.mark.parametrize(
    ("folder", "arguments", "message"),
    [
        ("all", ["--task", "links"], r"was learnt from all edges.*--link_split 0"),
        ("all", [], r"say by what they are to be judged, --task nodes .* or --task links"),
        ("all", ["--task", "nodes", "--finetune", "0.1"], "--finetune is not for vectors of nodes"),
        (None, ["--task", "nodes"], r"--task nodes is of vectors of nodes, and --model .* holds none"),
        ("bare", ["--task", "links"], "has no recipe.yaml, which tells the edges"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(folders, tmp_path, capsys, folder, arguments, message):
    places = {**folders, None: tmp_path / "nothing", "bare": tmp_path / "bare"}
    if folder == "bare":
        write_nodes(vectors(), places["bare"], recipe="graph", method="dgi")
    out = tmp_path / "out"
    assert evaluate("--model", places[folder], "--dataset", "toy", *arguments, "--output_dir", out) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and said.count("\n") == 1
    assert not (out / "report.json").exists()


def test_vectors_of_another_graph_and_of_other_edges_are_refused(folders, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", edge_index=np.array([[0, 1, 2], [1, 2, 3]]), y=np.array([0, 1, 0, 1]))
    asked = ["--task", "nodes", "--output_dir", tmp_path / "out"]
    assert evaluate("--model", folders["all"], "--dataset", tmp_path / "other.npz", *asked) == 2
    assert re.search("has no vector of 4 of the 4 nodes .*such as 0; its first is 'person", capsys.readouterr().err)
    both = ["--model", folders["all"], "--model", folders["some"], "--dataset", "toy"]
    assert evaluate(*both, *asked) == 2
    assert "was learnt with link_split None" in capsys.readouterr().err


def test_classes_of_nodes_are_judged_of_a_folder_without_its_run(folders, tmp_path, monkeypatch):
    """Such as a checkpoint that was exported."""
    monkeypatch.setattr("hf_replearn.evaluation.graphs.SPLITS", 3)
    write_nodes(vectors(), tmp_path / "bare", recipe="graph", method="dgi")
    asked = ["--dataset", "toy", "--task", "nodes", "--baselines", "false", "--output_dir"]
    rows = []
    for model, out in ((tmp_path / "bare", tmp_path / "one"), (folders["all"], tmp_path / "two")):
        assert evaluate("--model", model, *asked, out) == 0
        rows.append(list(Evaluation.load(out).rows.values()))
    assert rows[0] == rows[1]
