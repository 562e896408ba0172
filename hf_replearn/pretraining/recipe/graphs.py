"""Settings and methods of vectors of the nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_replearn.pretraining.recipe.method import Trained
from hf_replearn.settings import SharedRunSettings, setting


@dataclass(kw_only=True)
class GraphSettings(SharedRunSettings):
    """What all methods have that learn a vector of each node of a graph."""

    dataset: str = setting(
        ...,
        "a table of edges in a csv, tsv, parquet, arrow or json file, or a folder with edges.* and maybe nodes.*; an "
        ".npz file of arrays such as edge_index; a Hub id; or toy (people of a village)",
        section="data",
    )
    nodes: str | None = setting(
        None,
        "file or Hub id of a table of the nodes, with their `id` and maybe features, label and split",
        section="data",
    )
    directed: bool = setting(False, "an edge leads one way only; else each leads both ways", section="data")
    edge_columns: tuple[str, ...] = setting(
        (), "the two columns of nodes in the table of edges; none: source and target, or the only two", section="data"
    )
    label_column: str | None = setting(
        None, "of the table of nodes, for the report alone; none: by name or type", section="data"
    )
    label_type: Literal["classes", "numbers"] | None = setting(
        None, "classes: whole numbers of labels are all classes, -1 too; none: by their type", section="data"
    )
    dataset_config: str | None = setting(None, "of a Hub dataset that has several", section="data")
    link_split: int | None = setting(
        None,
        "number of a split of the edges, of which 85 % are then learnt from: the others are held out, so that it can "
        "be judged by them; none: all are learnt from",
        section="data",
        at_least=0,
        at_most=2**31 - 1,
    )
    baselines: bool = setting(
        True,
        "judge the vectors at the end, beside what is known without learning: by classes, where nodes have them, and "
        "by links, with --link_split",
        section="evaluation",
    )
    save_steps: int = setting(
        500, "passes between two checkpoints: of walks and edges a stretch of about 65,000 nodes, else an epoch",
        section="training", at_least=1,
    )  # fmt: skip
    save_total_limit: int = setting(2, "checkpoints kept", section="training", at_least=1)
    resume: str = setting(
        "auto", "auto: go on from the newest good checkpoint; never; or a checkpoint folder", section="training"
    )
    allow_change: bool = setting(False, "go on although data or settings are others than before", section="training")


@dataclass(frozen=True, kw_only=True)
class GraphMethod(Trained):
    """What a --method adds to the story of vectors of nodes, which `pretraining/graphs.py` tells.

    own:      names of the settings that mean something to it, besides those of GraphSettings; one that is given and is
              only of other methods is refused.
    examples: (settings, graph) -> what it learns from, such as walks. Raises InputError for what is not of use to it,
              such as a graph without features.
    fit:      (settings, examples) -> a fit in passes, see `training.passes.Passes`, which also has
              `vectors(state, examples)` -> (N, D) float32, what is kept of it; `parameters(state)`, how many numbers
              that takes; and `seen(examples, state)`, nodes that all passes see.
    write:    (fit, state, folder) writes a network beside the vectors, in its library's format; None: there is none.
    own_task: (settings, fit, state, examples) -> {row: {measure: value}} of OwnTask, "this run" first. told: what was
              measured, a sentence. smaller: of the measures those of which less is better.
    architecture: what the card calls it. on_cpu: whether it knows no other device.
    """

    command: str = "graph"
    own: tuple[str, ...]
    examples: Callable
    fit: Callable
    own_task: Callable
    told: str
    smaller: tuple[str, ...] = ()
    write: Callable | None = None
    architecture: str = "NodeEmbeddings"
    on_cpu: bool = False

    STORY: ClassVar[str] = "graphs"
