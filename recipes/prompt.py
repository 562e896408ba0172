"""What a language model can do when it is only shown examples: few-shot prompting as GPT-3 was (arXiv:2005.14165).

    hf-replearn prompt --model out/gpt --tasks copa,sst2 --data_root path/to/data --output_dir out/gpt_prompting
    accelerate launch recipes/prompt.py --model gpt2 --tasks agnews,copa --shots 0,1,4,16 --seeds 5 --output_dir out/g
    hf-replearn prompt --model out/gpt --tasks path/to/task.yaml --limit 200 --output_dir out/mine

Tasks are files in lm-evaluation-harness's format, or names of those in recipes/tasks. For every task and K: the mean
over draws of the examples, its interval, and how much of it comes from the test set, the draw and the order. Beside it,
where choices are labels, a linear probe of the frozen features that learns from the very same examples.

results.json is written after every condition (K, draw and order); the same command goes on with those that are missing.
Documents that cannot be asked are counted, named and left out; --strict makes them an error (exit code 2), and so does
more than half of them.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hf_replearn.errors import InputError
from hf_replearn.settings import RunSettings, as_dict, run, setting

SHIPPED = Path(__file__).parent / "tasks"
SHOTS, SEEDS = (0, 1, 4, 16), 5
RESULTS, CURVES = "results.json", "shots.png"


@dataclass(kw_only=True)
class PromptSettings(RunSettings):
    model: str = setting(..., "folder or Hub id of a causal language model with its tokenizer", section="model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto", "of the weights; auto: bfloat16 on a GPU, float32 on a CPU", section="model"
    )
    tasks: str = setting(..., "task files, or names of shipped tasks, with commas between", section="data")
    data_root: str | None = setting(None, "folder with local copies of the tasks' Hub data", section="data")
    limit: int | None = setting(None, "documents of a task, drawn at random; none: all", section="data", at_least=1)
    shots: tuple[int, ...] | None = setting(
        None,
        "numbers of examples K; none: as the task says, or 0,1,4,16",
        section="evaluation",
        at_least=0,
        at_most=100_000,
    )
    seeds: int | None = setting(
        None, "draws of the examples; none: as the task says, or 5", section="evaluation", at_least=1, at_most=1000
    )
    orders: int | None = setting(
        None, "orders of each draw; none: as the task says, or 1", section="evaluation", at_least=1, at_most=1000
    )
    probe: bool = setting(True, "a linear probe on the same examples beside it", section="evaluation")
    strict: bool = setting(
        False, "stop at a document that cannot be asked or has a token across its prompt's end", section="evaluation"
    )
    add_to_card: bool = setting(False, "add the scores to the report and card of --model, a folder", section="run")


@dataclass
class Asked:
    """A task with its data. bad: {"document", "reason"} of those that cannot be asked; copies: documents that stand
    word for word among the examples too; runs: the records of every condition that is done."""

    task: Any
    rows: Any
    examples: Any
    documents: list
    bad: list[dict]
    copies: int = 0
    runs: dict = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """What results.json says of the task besides its records, and must say again for a run to go on."""
        known = repr((self.documents, len(self.examples.rows)))
        return {
            "task": json.loads(json.dumps(self.task.settings())),
            "documents": hashlib.blake2b(known.encode(), digest_size=8).hexdigest(),
        }


def main(settings: PromptSettings) -> None:
    """What a language model can do when it is only shown examples, in its prompt, and not trained on them."""
    import transformers
    from accelerate import PartialState

    from hf_replearn.evaluation.prompting.few_shot import Decoder
    from hf_replearn.evaluation.prompting.summary import draw_curves, summarise, table
    from hf_replearn.sharing.card import extendable
    from hf_replearn.sharing.show import try_to_show
    from hf_replearn.training.folder import check_folder, claim_folder

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    # 1. Tasks, folder and data. What can be wrong with them is found out here, before the model is read.
    state = PartialState(cpu=settings.use_cpu)
    tasks = [with_settings(task, settings) for task in read_tasks(settings.tasks)]
    with state.main_process_first():
        if state.is_main_process:
            check_folder(settings)
        report = extendable(settings.model) if settings.add_to_card else None
        asked = {task.task: read_data(task, settings) for task in tasks}

    # 2. The model, and what an earlier start of this run has found out already
    dtype = settings.dtype
    if dtype == "auto":
        dtype = "float32" if state.device.type == "cpu" else "bfloat16"
    decoder = Decoder.load(settings.model, dtype=dtype, device=state.device)
    out = Path(settings.output_dir)
    results = {"settings": as_dict(settings), "model": fingerprint(decoder), "tasks": {}}
    go_on(out / RESULTS, results["model"], asked)
    state.wait_for_everyone()
    if state.is_main_process:
        claim_folder(settings)

    # 3. Ask: every K, draw and order, each process its part of the documents; and what a linear probe makes of them
    summaries: dict = {}
    for name, task in asked.items():
        found = results["tasks"].setdefault(name, task.facts())
        for condition, records in ask_all(state, decoder, task, settings):
            task.runs[condition] = records
            check(task, strict=settings.strict)
            if state.is_main_process:
                found |= {"bad": task.bad, "copies_among_examples": task.copies, "runs": as_records(task.runs)}
                write_results(out, results)
        if not state.is_main_process:
            continue
        lines = {name: summarise(task.task, task.runs)} | probe(decoder, task, settings)
        found["summary"] = lines
        write_results(out, results)
        print(f"\n{table(lines)}", flush=True)
        for note in notes(task):
            print(f"note: {note}", file=sys.stderr, flush=True)
        summaries |= lines
    if not state.is_main_process:
        return

    # 4. Share. All is saved: what is made from here on fails alone.
    print(f"\n{table(summaries)}\n\nevery answer: {out / RESULTS}")
    _, failed = try_to_show("the curves", lambda: draw_curves(summaries).savefig(out / CURVES, dpi=120))
    if failed is None:
        print(f"curves over K: {out / CURVES}")
    every = [task.task for task in asked.values()]
    try_to_show(".eval_results", lambda: write_eval_results(out, every, summaries))
    if report is not None:
        row = next(iter(report.rows), report.method.name)
        try_to_show(f"the card of {settings.model}", lambda: add_to_card(settings, row, asked, summaries))


def read_tasks(named: str) -> list:
    """The tasks of --tasks. Raises InputError for none, or two of one name, whose results would be one another's."""
    from hf_replearn.evaluation.prompting.tasks import find_task, load_task

    paths = [find_task(name.strip(), SHIPPED) for name in named.split(",") if name.strip()]
    if not paths:
        raise InputError(f"--tasks {named!r} names no task: give files, or names such as copa,sst2")
    found: dict = {}
    for path in paths:
        task = load_task(path)
        if task.task in found:
            raise InputError(f"--tasks: {found[task.task][0]} and {path} are both called {task.task!r}: rename one")
        found[task.task] = path, task
    return [task for _, task in found.values()]


def read_data(task, settings: PromptSettings) -> Asked:
    """The documents and examples of a task. Raises InputError where there are too few of either."""
    from hf_replearn.evaluation.prompting.few_shot import Examples, count_copies, read_documents
    from hf_replearn.evaluation.prompting.targets import decide_reading
    from hf_replearn.evaluation.prompting.task_data import load_splits

    rows, pool = load_splits(task, settings.data_root)
    task = decide_reading(task, rows)
    same = task.evaluation_split == task.shots_split
    documents, bad = read_documents(task, rows, limit=settings.limit)
    asked = Asked(task, rows, Examples(task, pool, same_split=same), documents, bad)
    check(asked, strict=settings.strict)
    last = plan(task, settings)[-1]
    asked.examples.draw(documents[0], last)  # raises where there are too few
    if last.shots and not same:
        asked.copies = count_copies(task, rows, documents, pool)
    return asked


def with_settings(task, settings: PromptSettings):
    """The task with K, draws and orders as the command line, the file or the defaults have them."""
    ours = task.replearn
    from_file = ours.shots or ([task.num_fewshot] if task.num_fewshot is not None else SHOTS)
    shots = sorted(set(settings.shots if settings.shots is not None else from_file))
    extension = replace(
        ours, shots=shots, seeds=settings.seeds or ours.seeds or SEEDS, orders=settings.orders or ours.orders
    )
    return replace(task, replearn=extension)


def plan(task, settings: PromptSettings) -> list:
    """Every condition of a task, smaller K first."""
    from hf_replearn.evaluation.prompting.few_shot import conditions

    seeds = range(settings.seed, settings.seed + task.replearn.seeds)
    return conditions(task, task.replearn.shots, list(seeds), task.replearn.orders)


def go_on(path: Path, model: dict, asked: dict[str, Asked]) -> None:
    """Gives tasks the conditions that an earlier start of this run has left in `path`.

    Raises InputError where these are of another model, task or data than now.
    """
    from hf_replearn.evaluation.prompting.few_shot import Condition

    if not path.exists():
        return
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        known = {key: earlier["model"][key] for key in model if key != "name"}
        if known != {key: value for key, value in model.items() if key != "name"}:
            raise InputError(f"{path} is of another model than --model {model['name']} is now: choose another folder")
        for name, found in earlier["tasks"].items():
            if name not in asked:
                continue
            for key, now in asked[name].facts().items():
                if found[key] != now:
                    raise InputError(f"{path}: the {key} of {name} is not what it was then: choose another folder")
            for run_ in found.get("runs", []):
                condition = Condition(run_["shots"], run_["seed"], run_["order"])
                asked[name].runs[condition] = run_["documents"]
            asked[name].bad = found.get("bad", asked[name].bad)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: choose another folder, or move it away to begin anew") from error


def ask_all(state, decoder, asked: Asked, settings: PromptSettings):
    """Every condition and its records; those that are there already at once."""
    from tqdm.auto import tqdm

    todo = plan(asked.task, settings)
    left = [condition for condition in todo if condition not in asked.runs]
    mine = len(asked.documents[state.process_index :: state.num_processes])
    label = f"{asked.task.task}: {len(left)} of {len(todo)} conditions to ask" if len(left) < len(todo) else ""
    with tqdm(
        total=mine * len(left), desc=label or asked.task.task, unit="doc", disable=not state.is_main_process or not left
    ) as bar:
        for condition in todo:
            if condition in asked.runs:
                yield condition, asked.runs[condition]
                continue
            bar.set_postfix_str(f"K = {condition.shots}, draw {condition.seed}")
            yield condition, ask(state, decoder, asked, condition, bar.update)


def ask(state, decoder, asked: Asked, condition, progress) -> list[dict]:
    """The records of all documents, on every process. Those that are too long are added to the bad ones."""
    from hf_replearn.evaluation.prompting.few_shot import few_shot

    mine = asked.documents[state.process_index :: state.num_processes]
    records, unfit = few_shot(decoder, asked.task, asked.rows, asked.examples, mine, condition, progress=progress)
    if state.num_processes > 1:
        records, unfit = gather(records, state.device), gather(unfit, state.device)
    known = {entry["document"] for entry in asked.bad}
    asked.bad.extend(sorted((entry for entry in unfit if entry["document"] not in known), key=lambda r: r["document"]))
    return sorted(records, key=lambda record: record["document"])


def as_records(runs: dict) -> list[dict]:
    return [{**condition._asdict(), "documents": records} for condition, records in runs.items()]


def probe(decoder, asked: Asked, settings: PromptSettings) -> dict:
    """The line of the linear probe, where choices are labels and every prompt has examples.

    Where the features are no numbers there is none, and a word why.
    """
    from hf_replearn.evaluation.prompting.probe import Probe, can_be_probed
    from hf_replearn.evaluation.prompting.scoring import NotFinite
    from hf_replearn.evaluation.prompting.summary import PROBE, summarise

    shown = {c: records for c, records in asked.runs.items() if all(record["shots"] for record in records)}
    if not settings.probe or not can_be_probed(asked.task) or not shown:
        return {}
    learner = Probe(decoder, asked.task, asked.examples, asked.documents)
    try:
        found = {condition: learner.records(records) for condition, records in shown.items()}
    except NotFinite as error:
        print(f"warning: {asked.task.task}{PROBE} has no score: {error}", file=sys.stderr, flush=True)
        return {}
    return {asked.task.task + PROBE: {"acc": summarise(asked.task, found)["acc"]}}


def notes(asked: Asked) -> list[str]:
    """What a reader of the scores has to know about the documents."""
    name, records = asked.task.task, [record for records in asked.runs.values() for record in records]
    tied, same, apart = (sum(key in record for record in records) for key in ("tied", "same_tokens", "encoded_apart"))
    said = {
        f"{len(asked.bad)} of {name}'s documents could not be asked and do not count; the first: "
        f"{asked.bad[0]['reason'] if asked.bad else ''}": asked.bad,
        f"{asked.copies} of {name}'s {len(asked.documents)} documents stand word for word in "
        f"{asked.task.shots_split!r} too, where examples come from": asked.copies,
        f"in {tied} of {len(records)} answers to {name} two choices are equally likely; the first of them is taken, as "
        "in lm-evaluation-harness": tied,
        f"in {same} of {len(records)} answers to {name} different choices are the same tokens: this model's tokenizer "
        "cannot tell them apart": same,
        f"in {apart} of {len(records)} prompts of {name} a token lies across the prompt's end, so that the choice is "
        "encoded apart": apart,
    }
    return [note for note, holds in said.items() if holds]


def gather(records: list[dict], device) -> list[dict]:
    """The records of all processes, on each of them; they travel as JSON, not as pickles."""
    import torch
    from accelerate import utils

    text = torch.tensor(list(json.dumps(records).encode()), dtype=torch.uint8, device=device)
    sizes = utils.gather(torch.tensor([len(text)], device=device)).tolist()
    padded = torch.nn.functional.pad(text, (0, max(sizes) - len(text)))
    parts = utils.gather(padded).view(len(sizes), -1).cpu()
    return [
        record for part, size in zip(parts, sizes, strict=True) for record in json.loads(bytes(part[:size].tolist()))
    ]


def check(asked: Asked, *, strict: bool) -> None:
    """Raises InputError where most documents cannot be asked, or, if `strict`, anything is odd."""
    left = min(map(len, asked.runs.values()), default=len(asked.documents))
    if asked.bad and (strict or left < len(asked.bad)):
        raise InputError(
            f"{len(asked.bad)} documents of {asked.task.task} cannot be asked, {left} can; the first: "
            f"{asked.bad[0]['reason']}"
        )
    odd = [record["document"] for records in asked.runs.values() for record in records if "encoded_apart" in record]
    if strict and odd:
        raise InputError(
            f"task {asked.task.task}, document {odd[0]}: a token lies across the end of its prompt (--strict)"
        )


def fingerprint(decoder) -> dict[str, Any]:
    """What tells two models apart: name, number and type of weights, and a hash of their sums."""
    weights = {
        name: f"{p.double().sum().item():.6g} {p.double().norm().item():.6g}"
        for name, p in decoder.model.named_parameters()
    }
    return {
        "name": decoder.model.config.name_or_path,
        "architecture": type(decoder.model).__name__,
        "parameters": sum(p.numel() for p in decoder.model.parameters()),
        "dtype": str(decoder.model.dtype).removeprefix("torch."),
        "packed": decoder.packed,
        "weights": hashlib.blake2b(repr(sorted(weights.items())).encode(), digest_size=8).hexdigest(),
    }


def write_results(out: Path, results: dict) -> None:
    """A file that is whole at any time."""
    from hf_replearn.files import write_whole
    from hf_replearn.sharing.report import finite, software_versions

    text = json.dumps(finite(results | {"versions": software_versions()}), ensure_ascii=False)
    write_whole(out / RESULTS, text + "\n")


def write_eval_results(out: Path, tasks: list, summaries: dict) -> None:
    """`.eval_results/<task>.yaml` for each task whose data has a Hub id."""
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    for task in tasks:
        if "/" not in task.dataset_path:
            continue
        entries = [
            EvalResultEntry(
                dataset_id=task.dataset_path,
                task_id=task.dataset_name or task.task,
                value=round(found["mean"], 4),
                date=datetime.date.today().isoformat(),
                notes=f"{metric}, {shots}-shot, mean of {task.replearn.seeds if shots else 1} draws of the examples",
            )
            for metric, by_shots in summaries[task.task].items()
            for shots, found in by_shots.items()
        ]
        (out / ".eval_results").mkdir(exist_ok=True)
        content = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False)
        (out / ".eval_results" / f"{task.task}.yaml").write_text(content)


def add_to_card(settings: PromptSettings, model: str, asked: dict, summaries: dict) -> None:
    """Adds the scores and their curves to the card of --model."""
    from hf_replearn.evaluation.prompting.metrics import meaning
    from hf_replearn.evaluation.prompting.summary import protocol_names, rows_of
    from hf_replearn.sharing.card import extend_card

    rows: dict[str, dict] = {}
    protocols: dict[str, str] = {}
    for found in asked.values():
        task = found.task
        for metric, called in protocol_names(task, summaries).items():
            name, what = meaning(task, metric)
            protocols[called] = (
                f"{name} on {len(found.documents):,} of {len(found.rows):,} documents ({task.evaluation_split} of "
                f"{task.task}), K examples, @K, in the prompt: {what}. Mean over {task.replearn.seeds} draws of the "
                "examples with the 95 % interval over documents and draws. Linear probe: logistic regression on the "
                "mean of the frozen last layer, fitted to the same K examples."
            )
        for row, scores in rows_of(task, summaries).items():
            rows.setdefault(row or model, {}).update(scores)
    shutil.copyfile(Path(settings.output_dir, CURVES), Path(settings.model, CURVES))
    caption = (
        "Score over the number K of examples in the prompt, and of a linear probe of the frozen features that learns "
        "from the same examples; bands are 95 % intervals."
    )
    extend_card(settings.model, rows, protocols=protocols, figures={CURVES: caption})


if __name__ == "__main__":
    run(main, PromptSettings, prog="prompt")
