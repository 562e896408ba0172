"""DGI and GraphMAE end to end on the toy graph: folders that torch_geometric loads, runs that go on, cards that say
which baselines are better, edges that are held out, and what is refused."""

import hashlib
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hf_replearn.data.graphs import load_graph
from hf_replearn.encoders.graphs import read_nodes
from hf_replearn.evaluation.graphs import features_of, hold_out_links, unordered
from hf_replearn.recipes.evaluation import EvaluateSettings
from hf_replearn.recipes.evaluation import main as evaluate
from hf_replearn.recipes.graph import GraphRunSettings, main
from hf_replearn.settings import run
from hf_replearn.sharing.report import Report
from hf_replearn.training.passes import Passes

SMALL = {
    "dgi": ["--method", "dgi", "--dim", "16", "--steps", "20", "--save_steps", "6"],
    "graphmae": ["--method", "graphmae", "--dim", "16", "--steps", "20", "--save_steps", "6"],
}


def start(*arguments, command=(main, GraphRunSettings)) -> int:
    """Runs it in this process; returns its exit code."""
    try:
        run(*command, list(map(str, arguments)))
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("hf_replearn.sharing.results.write_curves", lambda folder: False)
    monkeypatch.setattr("hf_replearn.pretraining.graphs.draw_map", lambda *_: False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of both, that of DGI without some of the edges."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_replearn.sharing.results.write_curves", lambda folder: False)
        patch.setattr("hf_replearn.pretraining.graphs.draw_map", lambda *_: False)
        patch.setattr("hf_replearn.evaluation.graphs.SPLITS", 3)
        for method, more in (("dgi", ["--link_split", 1]), ("graphmae", ["--baselines", "false"])):
            found[method] = tmp_path_factory.mktemp(method) / "out"
            assert start("--dataset", "toy", *SMALL[method], *more, "--output_dir", found[method]) == 0
    return found


def digest(folder) -> str:
    files = [folder / name for name in ("embeddings.safetensors", "model.safetensors", "nodes.txt")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


@pytest.mark.parametrize("method", ["dgi", "graphmae"])
@pytest.mark.filterwarnings("ignore")
def test_torch_geometric_makes_the_vectors_of_what_a_run_leaves(made, method):
    """Its network, by the configuration and weights alone, of the graph without the edges that were held out."""
    theirs = pytest.importorskip("torch_geometric.nn")
    config = json.loads((made[method] / "config.json").read_text())
    network = getattr(theirs, config["class"])(**config["arguments"])
    network.load_state_dict(load_file(made[method] / "model.safetensors"), strict=True)
    graph = load_graph("toy")
    known = hold_out_links(graph, seed=1)[0] if method == "dgi" else graph
    pairs = unordered(known)
    edges = torch.from_numpy(np.concatenate([pairs, pairs[:, ::-1]]).T.copy())
    vectors = network.act(network(torch.from_numpy(features_of(graph).toarray()), edges))
    nodes = read_nodes(made[method])
    assert nodes.ids == graph.ids
    np.testing.assert_allclose(nodes.vectors, vectors.detach().numpy(), atol=1e-5)


def test_the_report_and_the_card_say_what_is_better(made):
    report = Report.load(made["dgi"])
    assert list(report.rows)[:3] == ["DGI", "features", "Â²X"] and list(report.rows)[-1] == "Adamic-Adar"
    assert report.metrics == ["nodes_own_split", "nodes_random_split", "links_auc", "links_ap"]
    assert report.own_task.rows["this run"]["loss"] < report.own_task.rows["random weights"]["loss"]
    assert "learnt from 713 edges, the others are held out by split 1" in report.data.taken
    arguments = json.loads((made["dgi"] / "config.json").read_text())["arguments"]
    assert report.encoder.parameters == 16 * arguments["in_channels"] + 16 + 1
    card = (made["dgi"] / "README.md").read_text()
    assert "torch_geometric.nn" in card and "network.act(network(x, edge_index))" in card
    better = report.not_below("nodes_own_split")
    assert "Â²X" in better
    assert re.search(rf"accuracy of classes of nodes, the graph's own split \({re.escape(better[0])}", card)
    assert "Â²X" in (made["dgi"] / "report.html").read_text()
    assert Report.load(made["graphmae"]).rows == {}


def test_links_are_judged_of_a_run_that_held_them_out(made, tmp_path, capsys):
    command = (evaluate, EvaluateSettings)
    asked = ["--dataset", "toy", "--task", "links", "--baselines", "false"]
    assert start("--model", made["dgi"], *asked, "--output_dir", tmp_path / "some", command=command) == 0
    found = json.loads((tmp_path / "some" / "report.json").read_text())
    own = Report.load(made["dgi"]).rows["DGI"]
    assert found["rows"][str(made["dgi"])] == {name: of for name, of in own.items() if name.startswith("links")}
    assert start("--model", made["graphmae"], *asked, "--output_dir", tmp_path / "all", command=command) == 2
    assert "was learnt from all edges" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["dgi", "graphmae"])
def test_killed_it_goes_on_bit_for_bit(made, method, tmp_path, monkeypatch, capsys):
    more = ["--link_split", 1] if method == "dgi" else ["--baselines", "false"]
    asked = ["--dataset", "toy", *SMALL[method], *more, "--output_dir", tmp_path]
    save = Passes._save

    def killed(self, state):
        if self.done == 12:
            raise KeyboardInterrupt
        save(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(Passes, "_save", killed)
        assert start(*asked) != 0
    assert (tmp_path / "checkpoint-6").exists() and not (tmp_path / "model.safetensors").exists()
    monkeypatch.setattr("hf_replearn.pretraining.graphs.judge", lambda *_: None)
    assert start(*asked) == 0
    assert digest(tmp_path) == digest(made[method])
    assert start(*asked[:-4], "--link_split", 2, "--output_dir", tmp_path) == 2
    assert "link_split" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--dataset", "{}/edges.npz", "--method", "dgi"],
            "has no features of its nodes, which --method dgi learns from",
        ),
        (["--dataset", "toy", "--method", "graphmae", "--dim", "30"], "--heads 4 share the 30 numbers of --dim"),
        (["--dataset", "toy", "--method", "deepwalk", "--patience", "3"], "--patience is of dgi, not of deepwalk"),
        (["--dataset", "toy", "--method", "dgi", "--mask", "0.3"], "--mask is of graphmae, not of dgi"),
        (["--dataset", "{}/edges.npz", "--link_split", "0"], "the graph has 3 edges: 20 are the least"),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_one_line(tmp_path, capsys, arguments, message):
    np.savez(tmp_path / "edges.npz", edge_index=np.array([[0, 1, 2], [1, 2, 3]]))
    given = [argument.format(tmp_path) for argument in arguments]
    assert start(*given, "--output_dir", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
