"""The story of `evaluate` for vectors of nodes: classes of nodes and links, beside what is known without learning."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from hf_replearn.data.graphs import Graph, load_graph
from hf_replearn.encoders.graphs import NodeVectors, is_nodes, read_nodes
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.graphs import LINKS, NODES, Judged, hold_out_links, judge_graph, own_split
from hf_replearn.evaluation.links import LinkSplit
from hf_replearn.settings import as_dict, changed, command_line
from hf_replearn.sharing.card import extend_card, extendable
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import FILE as REPORT
from hf_replearn.sharing.report import Evaluation, Report, Task
from hf_replearn.sharing.show import try_to_show
from hf_replearn.strict_yaml import as_data, read_mapping
from hf_replearn.training.folder import FILE as RECIPE
from hf_replearn.training.folder import check_folder, claim_folder

USED = {"model", "dataset", "task", "label_column", "label_type", "dataset_config", "baselines", "add_to_card"}
USED |= {"output_dir", "seed", "use_cpu"}  # settings that mean something
READING = ("nodes", "directed", "edge_columns", "label_column", "label_type", "dataset_config")  # of the run's settings


def of_graphs(settings: Any) -> bool:
    """Whether the models that are to be judged are vectors of nodes. Raises InputError where only some are, where the
    task is of such and they are not, and where it is not said by what they are to be judged."""
    kinds = {name: is_nodes(name) for name in settings.model}
    if not any(kinds.values()):
        if settings.task in (NODES, LINKS):
            what = f"--model {settings.model[0]} holds none" if settings.model else "no --model is given"
            raise InputError(f"--task {settings.task} is of vectors of nodes, and {what}: give a folder of graph")
        return False
    if not all(kinds.values()):
        nodes, other = (next(name for name, kind in kinds.items() if kind is wanted) for wanted in (True, False))
        raise InputError(f"--model {nodes} is of vectors of nodes, and {other} is not: judge them one after the other")
    if settings.task not in (NODES, LINKS):
        raise InputError(
            f"--model {settings.model[0]} holds vectors of nodes: say by what they are to be judged, --task {NODES} "
            f"(which class a node is of) or --task {LINKS} (which nodes are linked)"
        )
    return True


def judge_nodes_and_links(settings: Any, *, command: str | None = None, show: bool = True) -> Evaluation:
    """What vectors of nodes are worth, beside their baselines: report, page, card. Arguments as of `evaluate_encoders`.

    Raises InputError for whatever the user has to mend, before anything is computed; TrainingError where nothing could
    be measured of the vectors that were asked for.
    """
    # 1. The graph, and the vectors of its nodes
    check_folder(settings)
    if unused := [name for name in changed(settings) if name not in USED]:
        raise InputError(f"--{unused[0]} is not for vectors of nodes: leave it out")
    card = extendable(settings.model[0]) if settings.add_to_card else None
    runs = {name: run_of(name, settings.task) for name in settings.model}
    asked = {name: read_nodes(name) for name in settings.model}
    graph = open_graph(settings, runs[settings.model[0]])
    if settings.task == NODES and graph.labels is None:
        raise InputError(f"{graph.name} has no labels of its nodes, which --task nodes asks for: --task links does not")
    rows = {name: vectors_of(nodes, graph, named=f"--model {name}") for name, nodes in asked.items()}
    known, split = known_edges(settings, graph, runs)
    claim_folder(settings)

    # 2. Scores, and whether they differ
    judged = judge_graph(
        known, rows, tasks=[settings.task], split=split, baselines=settings.baselines, seed=settings.seed
    )
    report = describe(settings, graph, judged, rows, split, command)
    out = Path(settings.output_dir)
    report.save(out, page=False)
    if not any(report.rows[name] for name in asked):
        raise TrainingError(f"nothing could be measured: {'; '.join(report.reasons())}")
    if show:
        print(*report.task.notes, f"\n{report.table()}\n", sep="\n", flush=True)
        page, _ = try_to_show("the page", lambda: write_page(out))
        print(f"page: {page}" if page else f"report: {out / REPORT}")
    if card is not None:
        add_to_card(settings, card, report, graph)
    return report


def run_of(folder: str, task: str) -> dict[str, Any]:
    """The settings of the run that learnt the vectors; none of a checkpoint that was exported, whose vectors are taken
    to know all edges. Raises InputError where they are not there, and links are to be told."""
    path = Path(folder, RECIPE)
    if not path.is_file():
        if task == NODES:
            return {}
        raise InputError(
            f"--model {folder} has no {RECIPE}, which tells the edges that its vectors know: give the folder of a run"
        )
    return {key: as_data(node) for key, node in read_mapping(str(path), name=str(path)).items()}


def open_graph(settings: Any, run: dict[str, Any]) -> Graph:
    """The graph, read as the run of the first model read it where it is the same."""
    same = str(run.get("dataset")) == settings.dataset or Path(str(run.get("dataset"))).resolve() == (
        Path(settings.dataset).resolve()
    )
    given = {name: run[name] for name in READING if name in run} if same else {"directed": run.get("directed", False)}
    given |= {name: getattr(settings, name) for name in READING if getattr(settings, name, None) is not None}
    given["config"] = given.pop("dataset_config", None)
    return load_graph(settings.dataset, **given)


def vectors_of(nodes: NodeVectors, graph: Graph, *, named: str) -> np.ndarray:
    """The vectors of the graph's nodes, (N, D). Raises InputError for nodes that have none."""
    if missing := [node for node in graph.ids if node not in nodes.places]:
        raise InputError(
            f"{named} has no vector of {len(missing):,} of the {len(graph):,} nodes of {graph.name}, such as "
            f"{missing[0]!r:.60}; its first is {nodes.ids[0]!r:.60}: is it of another graph?"
        )
    return nodes.vectors[[nodes.places[node] for node in graph.ids]]


def known_edges(settings: Any, graph: Graph, runs: dict[str, dict[str, Any]]) -> tuple[Graph, LinkSplit | None]:
    """The graph with the edges that the vectors were learnt from, and the split of all, where edges were held out.

    Raises InputError where vectors know different edges, and, to tell links, where they know all.
    """
    splits = {name: run.get("link_split") for name, run in runs.items()}
    (first, number), *others = splits.items()
    for other, its in others:
        if its != number:
            raise InputError(f"--model {first} was learnt with link_split {number}, {other} with {its}: not to compare")
    if number is None:
        if settings.task == LINKS:
            raise InputError(
                f"--model {first} was learnt from all edges, also those that it would have to tell: learn it again, in "
                "another folder, with --link_split 0, which holds some out"
            )
        return graph, None
    return hold_out_links(graph, seed=int(number))


def describe(
    settings: Any,
    graph: Graph,
    judged: Judged,
    rows: dict[str, np.ndarray],
    split: LinkSplit | None,
    command: str | None,
) -> Evaluation:
    """The report."""
    links = settings.task == LINKS
    own = None if links else own_split(graph)
    notes = [graph.taken, *judged.notes]
    if split is not None:
        notes.append(f"the vectors know {len(split.train):,} of the edges, the others are held out")
    encoders = {}
    for row in judged.scores:
        encoders[row] = {"from": row if row in rows else "baseline"}
        if row in rows:
            encoders[row] |= {"numbers of a vector": f"{rows[row].shape[1]:,}"}
    test = 2 * len(split.test) if links else int((graph.labels >= 0).sum()) if own is None else len(own.test)
    return Evaluation(
        task=Task(
            name=graph.name,
            hub_id=graph.hub_id,
            unit="pair of nodes" if links else "node",
            train=0 if links or own is None else len(own.train),
            test=test,
            classes=None if links else list(graph.classes),
            held_out="edges held out, and as many pairs that are no edge" if links else "as each score says",
            notes=notes,
        ),
        encoders=encoders,
        command=command or shlex.join(["hf-replearn", "evaluate", *command_line(settings)]),
        settings=as_dict(settings),
        rows=judged.scores,
        properties={row: {} for row in judged.scores},
        missing=judged.missing,
        protocols=judged.protocols,
        comparisons=judged.comparisons,
    )


def add_to_card(settings: Any, card: Report, report: Evaluation, graph: Graph) -> None:
    """The scores, into the report and card of the first model; by the graph's name where it is another one."""
    own = next(iter(card.rows), card.method.name)
    suffix = "" if card.data.name == graph.name else f"_{Path(graph.name).stem}"

    def named(metric: str) -> str:
        protocol, *rest = metric.split("_ci95")
        return protocol + suffix + ("_ci95" if rest else "")

    names = dict(zip(report.rows, [own, *list(report.rows)[1:]], strict=True))
    rows = {names[row]: {named(key): value for key, value in of.items()} for row, of in report.rows.items()}
    extend_card(settings.model[0], rows, protocols={named(key): text for key, text in report.protocols.items()})
