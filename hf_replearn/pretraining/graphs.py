"""The story of vectors of nodes: graph, folder, fit, the vectors in formats that others load, their neighbours, report,
card, upload. What is learnt from, and how, is the method's."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import set_seed

from hf_replearn.data.graphs import Graph, load_graph
from hf_replearn.data.sources import Source, counted
from hf_replearn.encoders.graphs import NodeVectors, read_nodes, write_nodes
from hf_replearn.errors import InputError
from hf_replearn.evaluation.graphs import LINKS, NODES, hold_out_links, judge_graph
from hf_replearn.evaluation.links import LinkSplit
from hf_replearn.pretraining.recipe import GraphMethod, GraphSettings
from hf_replearn.pretraining.run import Run
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing import report as facts
from hf_replearn.sharing.hub import push
from hf_replearn.sharing.results import check_sharing, write_results
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.checkpoints import MANIFEST
from hf_replearn.training.folder import check_folder, circumstances, claim_folder, find_checkpoint
from hf_replearn.training.passes import PROGRESS, STATE, Passes, alone

SHOWN, NEAR = 5, 6  # nodes of each kind whose neighbours are shown, and how many of these
MAP, MAPPED, LINES = "map.png", 1000, 5000  # nodes and edges of the map at most


def learn_nodes(
    settings: GraphSettings,
    methods: Mapping[str, GraphMethod],
    *,
    source: Source | None = None,
    command: str | None = None,
) -> Run:
    """Learns the vectors of the nodes of a graph by one of the methods, saves, describes and shares them.

    Raises InputError before anything is learnt for whatever the user has to mend.
    """
    # 1. Data. What can be wrong with the input is found out here.
    if source is not None:
        raise InputError("dataset: a graph is read from files or from the Hub: give their path or id")
    out, method = Path(settings.output_dir), methods[settings.method]
    refuse_settings_of_others(settings, methods)
    process = alone(use_cpu=settings.use_cpu or method.on_cpu)
    check_folder(settings)
    repo_id = check_sharing(settings)
    whole = open_graph(settings)
    graph, split = (whole, None) if settings.link_split is None else hold_out_links(whole, seed=settings.link_split)
    examples = method.examples(settings, graph)
    given = circumstances(settings, data=graph.fingerprint, processes=1)
    checkpoint = find_checkpoint(settings, given, args=process)
    set_seed(settings.seed)
    fit = method.fit(settings, examples)
    claim_folder(settings)
    print(f"{graph.taken}\n{method.facts.name}; log: {out}/log.jsonl", flush=True)

    # 2. Fit, and save
    def vectors(state: dict[str, Tensor]) -> NodeVectors:
        return NodeVectors(graph.ids, fit.vectors(state, examples).cpu().numpy())

    def write(state: dict[str, Tensor], folder: Path, *, text: bool = False) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        if method.write is not None:
            method.write(fit, state, folder)
        return write_nodes(vectors(state), folder, recipe=method.command, method=settings.method, text=text)

    passes = Passes(
        fit,
        examples,
        out,
        write,
        given,
        seed=settings.seed,
        save_steps=settings.save_steps,
        keep=settings.save_total_limit,
        device=process.device,
    )
    state = passes.run(checkpoint)
    notes = write(state, out, text=True)
    learnt = vectors(state)

    # 3. What they are like, and share them
    took = passes.summary(examples=1) | {"examples": fit.seen(examples, state)}
    took["examples_per_second"] = took["examples"] / max(took["seconds"], 1e-9)
    report = describe(settings, method, graph, learnt, facts.Training(**took))
    report.encoder.parameters = fit.parameters(state)
    report.command = command or report.command
    report.save(out)
    show(report, settings, graph, learnt, partial(own_task, settings, method, fit, state, examples))
    judge(report, settings, graph, learnt, split)
    write_results(report, out, repo_id=repo_id)
    print(f"\n{report.samples}\n", *notes, f"vectors and card: {out}", sep="\n")
    if repo_id:
        print(f"pushed to {push(out, repo_id, private=settings.hub_private_repo)}")
    return Run(out)


def refuse_settings_of_others(settings: GraphSettings, methods: Mapping[str, GraphMethod]) -> None:
    """Raises InputError for a setting that was given and means nothing to the method."""
    own = methods[settings.method].own
    for name in changed(settings):
        others = [other for other, method in methods.items() if name in method.own]
        if others and name not in own:
            raise InputError(f"--{name} is of {', '.join(others)}, not of {settings.method}: leave it out")


def open_graph(settings: GraphSettings) -> Graph:
    """Raises InputError."""
    return load_graph(
        settings.dataset,
        nodes=settings.nodes,
        directed=settings.directed,
        label_column=settings.label_column,
        label_type=settings.label_type,
        edge_columns=settings.edge_columns,
        config=settings.dataset_config,
    )


# ---- result


def export(method: GraphMethod, checkpoint: Path, given: dict[str, Any], out: Path) -> None:
    """Writes what a checkpoint holds of vectors, and maybe of a network, as a run leaves them."""
    nodes = read_nodes(checkpoint)
    for path in checkpoint.iterdir():
        if path.is_file() and path.name not in (STATE, PROGRESS, MANIFEST):
            shutil.copy(path, out)
    write_nodes(nodes, out, recipe=method.command, method=given["method"])


def describe(
    settings: GraphSettings, method: GraphMethod, graph: Graph, learnt: NodeVectors, training: facts.Training
) -> facts.Report:
    """The facts of this run for its report and card."""
    return facts.Report(
        method=method.facts,
        encoder=facts.Encoder(
            library="hf_replearn",
            pipeline_tag="graph-ml",
            architecture=method.architecture,
            parameters=learnt.vectors.size,
            features=learnt.vectors.shape[1],
            input_size=[1],
        ),
        data=facts.Data(
            name=graph.name,
            hub_id=graph.hub_id,
            unit="node",
            train=len(graph),
            test=0,
            skipped=0,
            classes=len(graph.classes) or None,
            held_out="",
            taken=graph.taken,
        ),
        training=training,
        command=shlex.join(["hf-replearn", method.command, *command_line(settings)]),
        settings=as_dict(settings),
        changed=changed(settings),
    )


# ---- what it is worth


def judge(
    report: facts.Report, settings: GraphSettings, graph: Graph, learnt: NodeVectors, split: LinkSplit | None
) -> None:
    """Classes of nodes and links told by the vectors and by their baselines, into the report; or why they are not."""
    tasks = [NODES] * (graph.labels is not None) + [LINKS] * (split is not None)
    if not tasks or not settings.baselines:
        return
    print(f"judging by {' and '.join(tasks)}, beside baselines …", flush=True)
    row = report.method.name
    judged, why = try_to_show(
        "the scores", partial(judge_graph, graph, {row: learnt.vectors}, tasks=tasks, split=split, seed=settings.seed)
    )
    if judged is None:
        print(why)
        return
    report.rows, report.missing, report.protocols = judged.scores, judged.missing, judged.protocols
    print(*judged.notes, f"\n{report.table()}", sep="\n", flush=True)
    report.save(settings.output_dir)


# ---- for show


def show(report: facts.Report, settings: GraphSettings, graph: Graph, learnt: NodeVectors, own_task: Any) -> None:
    """Its own task, neighbours of nodes as text, and a map, into the report; each may fail by itself."""
    report.own_task, _ = try_to_show("how well it does its own task", own_task)
    if report.own_task is not None:
        print(f"\n{report.own_task.table()}")
    said, note = try_to_show("neighbours of nodes", partial(in_words, graph, learnt))
    report.samples = note if said is None else said
    if try_to_show(MAP, partial(draw_map, graph, learnt, Path(settings.output_dir, MAP)))[0]:
        most = len(graph) > MAPPED
        report.figures[MAP] = (
            f"{f'{MAPPED:,} of the nodes, at random' if most else 'The nodes'}, by t-SNE of the directions of their "
            "vectors: nodes that are near lie near, distances across the map say nothing; lines: edges."
            + (" Colours: the classes, which it was not told." if graph.labels is not None else "")
        )


def own_task(
    settings: GraphSettings, method: GraphMethod, fit: Any, state: dict[str, Tensor], examples: Any
) -> facts.OwnTask:
    """How well it does what it was trained for, beside who does not learn."""
    rows = method.own_task(settings, fit, state, examples)
    return facts.OwnTask(told=method.told, rows=rows, smaller=list(method.smaller))


def in_words(graph: Graph, learnt: NodeVectors) -> str:
    """The nodes that are nearest to some with many edges and to some with few, as plain text."""

    def told(node: int) -> str:
        label = "" if graph.labels is None or graph.labels[node] < 0 else f" [{graph.classes[graph.labels[node]]}]"
        return f"{learnt.ids[node]}{label}"

    known = np.flatnonzero(graph.degrees)
    order = known[np.argsort(-graph.degrees[known], kind="stable")]
    few = order[len(order) // 2 :: max(1, len(order) // 20)]
    lines = []
    for kind, nodes in (("many edges", order), ("few edges", few)):
        lines.append(f"nearest to nodes with {kind}:")
        for node in islice(nodes, SHOWN):
            found = learnt.nearest(learnt.ids[node], NEAR)
            near = ", ".join(f"{told(learnt.places[other])} {cosine:.2f}" for other, cosine in found)
            lines.append(f"  {told(node)} ({counted(int(graph.degrees[node]), 'edge')}): {near}")
    return "\n".join(lines)


def draw_map(graph: Graph, learnt: NodeVectors, path: Path) -> bool:
    """Nodes on a plane, by t-SNE of their directions, in the colours of their classes; returns whether there were
    enough of them to draw."""
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from sklearn.manifold import TSNE

    known = np.flatnonzero(learnt.vectors.any(axis=1))
    shown = np.sort(np.random.default_rng(0).permutation(known)[:MAPPED])
    if len(shown) < 10:
        return False
    perplexity = min(30.0, (len(shown) - 1) / 3)
    points = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0).fit_transform(
        learnt.directions[shown]
    )
    figure = Figure(figsize=(9, 8))
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    place = np.full(len(graph), -1)
    place[shown] = np.arange(len(shown))
    ends = place[graph.edges]
    axes.add_collection(
        LineCollection(points[ends[(ends >= 0).all(1)]][:LINES], colors="0.85", linewidths=0.5, zorder=0)
    )
    labels = np.full(len(shown), -1) if graph.labels is None else graph.labels[shown]
    colours = colormaps["tab10" if len(graph.classes) <= 10 else "tab20"].colors
    for label in np.unique(labels):
        name = None if graph.labels is None else "no class" if label < 0 else graph.classes[label]
        colour = "0.6" if label < 0 and name else colours[label % len(colours)]
        axes.scatter(*points[labels == label].T, s=24, color=colour, label=name, linewidths=0, alpha=0.8)
    if 0 < len(graph.classes) <= 20:
        axes.legend(loc="best", framealpha=0.8, markerscale=1.5)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.savefig(path, dpi=100)
    return True
