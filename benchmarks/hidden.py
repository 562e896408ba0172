"""What the seven tasks that tell what was hidden come to on CIFAR-10: table and curves of the README.

    python -m benchmarks.hidden collect out/rotation out/mae … out/all   # what runs, evaluations and finetune found
    python -m benchmarks.hidden                                  # table and picture, into the README

`collect` reads report.json of runs of recipes/configs/<method>/cifar10_small.yaml, and of `evaluate --layers all` of
them, which takes the place of the own scores of their stages: all are then of the same examples. What it finds goes
into results/hidden.json, one entry a method. Nothing is measured here.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks._machine import RESULTS

FILE, PICTURE, README = RESULTS / "hidden.json", RESULTS / "hidden.png", Path(__file__).parents[1] / "README.md"
MARKS = ("<!-- written by benchmarks.hidden -->", "<!-- end of benchmarks.hidden -->")
TEST = 2000  # images that encoders are judged on
KEPT = ("steps", "examples", "seconds", "final_loss")


@dataclass(frozen=True)
class Goal:
    """One line of the table: a figure, what it is to be compared with, and whether it is to be below that.

    examples: of accuracies, how many each is of: what lies within the 95 % interval of two such is not told apart.
    """

    method: str
    what: str
    found: float
    than: float
    against: str
    below: bool = False
    examples: int | None = None

    @property
    def reached(self) -> str:
        """Whether it is, in a word."""
        noise = 0.0
        if self.examples:
            noise = 1.96 * sum(p * (1 - p) / self.examples for p in (self.found, self.than)) ** 0.5
        ahead = (self.than - self.found) if self.below else self.found - self.than
        return "yes" if ahead > noise else "**no**" if ahead < -noise or not noise else "**as good**, within chance"

    def line(self) -> str:
        """As a row of Markdown."""
        asked = f"{'below' if self.below else 'above'} {self.than:.3f} ({self.against})"
        return f"| {self.method} | {self.what} | {self.found:.3f} | {asked} | {self.reached} |"


def collect(folders: list[str]) -> dict:
    """What is known by now, with what these runs found."""
    known = {"benchmark": "hidden", "dataset": "CIFAR-10", "runs": {}}
    if FILE.exists():
        known = json.loads(FILE.read_text())
    for folder in folders:
        if Path(folder, "scores.json").exists():  # of finetune
            told = json.loads(Path(folder, "scores.json").read_text())
            rows = {run["row"]: {"labels": run["labels"], **run["scores"]} for run in told["runs"]}
            known["fine_tuned"] = {"rows": rows, "command": strip(told["command"])}
            continue
        report = json.loads(Path(folder, "report.json").read_text())
        if "encoders" in report:
            judge(known, report)
        else:
            name = report["method"]["name"]
            told = report["settings"]
            if name in ("inpainting", "colorization"):  # of which several designs were tried
                name += "".join(f", {told[key]}" for key in ("mask", "stem") if key in told)
            learnt = next(iter(report["layers"]))
            known["runs"][name] = {
                "run": Path(folder).name,
                "training": {key: report["training"][key] for key in KEPT},
                "own_task": report["own_task"]["rows"],
                "stages": stages_of(report, learnt, "random weights"),
                "command": strip(report["command"]),
            }
    order = list(OF)
    known["runs"] = dict(sorted(known["runs"].items(), key=lambda run: order.index(run[0].split(",")[0])))
    return known


def judge(known: dict, report: dict) -> None:
    """Takes the stages of all runs from one evaluation, on the same examples."""
    known["judged_on"] = {name: report["task"][name] for name in ("train", "test")}
    for run in known["runs"].values():
        untrained = f"random weights of {run['run']}"
        if run["run"] in report["layers"] and untrained in report["layers"]:
            run["stages"] = stages_of(report, run["run"], untrained)


def stages_of(report: dict, learnt: str, untrained: str) -> dict[str, dict]:
    """Score -> its values for each stage of both networks, and for raw pixels."""
    rows = {"learnt": learnt, "random weights": untrained}
    return {
        score: {name: report["layers"][row][score] for name, row in rows.items()}
        | {"raw pixels": report["rows"]["raw pixels"][score]}
        for score in ("knn@20", "linear")
    }


def strip(command: str) -> str:
    """A command without the folders of the machine that it ran on."""
    return re.sub(r"/\S*/", "", command)


# ---- what is asked


def goals(known: dict) -> list[Goal]:
    """The lines of all runs that are there."""
    found = []
    for name, run in known["runs"].items():
        found += OF[name.split(",")[0]](name, run)
    if tuned := known.get("fine_tuned"):
        learnt, other = (tuned["rows"][row] for row in ("MAE", "random weights"))
        what = f"accuracy, fine-tuned on {learnt['labels']:,} labels (10 %)"
        found.append(Goal("MAE", what, learnt["accuracy"], other["accuracy"], "random weights", examples=TEST))
    return found


def best(curve: list[float]) -> tuple[float, int]:
    """The largest score of a stage, and which it is, from 0."""
    return max(curve), curve.index(max(curve))


def nearest(name: str, run: dict, than: str) -> Goal:
    """20 nearest neighbours in the best stage beside a baseline (of random weights: their own best stage)."""
    scores = run["stages"]["knn@20"]
    top, stage = best(scores["learnt"])
    value, whose = scores[than], than
    if than == "random weights":
        value, whose = max(value), f"{than}, best stage"
    return Goal(name, f"20 neighbours, best stage ({stage})", top, value, whose, examples=TEST)


def of_rotation(name: str, run: dict) -> list[Goal]:
    accuracy = run["own_task"]["this run"]["accuracy"]
    return [Goal(name, "accuracy of its own task", accuracy, 0.6, "asked"), nearest(name, run, "raw pixels")]


def of_context(name: str, run: dict) -> list[Goal]:
    return [Goal(name, "loss (nats), chance 2.079", run["own_task"]["this run"]["loss (nats)"], 2.0, "asked", True)]


def of_inpainting(name: str, run: dict) -> list[Goal]:
    own = {row: values["squared error"] for row, values in run["own_task"].items()}
    return [Goal(name, "squared error in the hole", own["this run"], own["biharmonic"], "biharmonic", True)]


def of_mae(name: str, run: dict) -> list[Goal]:
    return [Goal(name, "error, share of chance", run["own_task"]["this run"]["share of chance"], 0.9, "asked", True)]


def of_colorization(name: str, run: dict) -> list[Goal]:
    own = {row: values["cross entropy (nats)"] for row, values in run["own_task"].items()}
    found, constant = own["this run, rare colours not favoured"], own["colours as often as in training"]
    return [Goal(name, f"nats below frequencies ({constant:.3f})", constant - found, 0.2, "asked")]


def of_cpc(name: str, run: dict) -> list[Goal]:
    own = run["own_task"]["this run"]["told (nats)"]
    last, others = (run["stages"]["knn@20"][row][-1] for row in ("learnt", "random weights"))
    line = Goal(name, "20 neighbours, last stage", last, others, "random weights", examples=TEST)
    return [Goal(name, "nats told of what comes", own, 0.3, "asked"), line, nearest(name, run, "random weights")]


def of_gpt(name: str, run: dict) -> list[Goal]:
    own = {row: values["nats per pixel"] for row, values in run["own_task"].items()}
    bigram = own["after the pixel to the left (bigram)"]
    return [Goal(name, "nats per pixel", own["this run"], bigram, "left neighbour", True)]


OF = {
    "rotation": of_rotation,
    "context prediction": of_context,
    "inpainting": of_inpainting,
    "MAE": of_mae,
    "colorization": of_colorization,
    "CPC": of_cpc,
    "image GPT": of_gpt,
}


# ---- what is shown


def section(known: dict) -> str:
    """Markdown: what was asked, and the neighbours of every stage."""
    lines = ["| method | figure | measured | asked | reached |", "|---|---|---|---|---|"]
    lines += [goal.line() for goal in goals(known)]
    lines += ["", *stages(known), "", f"![kNN of every stage.](benchmarks/results/{PICTURE.name})"]
    return "\n".join(lines)


def stages(known: dict) -> list[str]:
    """A table of the scores of the first, the best and the last stage beside those of the baselines."""
    lines = ["| 20 neighbours | first stage | best | last | raw pixels | random weights: best, last | steps, images |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, run in known["runs"].items():
        curve, other, pixels = run["stages"]["knn@20"].values()
        (top, stage), took = best(curve), run["training"]
        lines.append(
            f"| {name} | {curve[0]:.3f} | {top:.3f} ({stage} of 0...{len(curve) - 1}) | {curve[-1]:.3f} | {pixels:.3f} "
            f"| {max(other):.3f}, {other[-1]:.3f} | {took['steps']:,}, {took['examples']:,} |"
        )
    return lines


def draw(known: dict) -> None:
    """kNN over stages, a panel each, beside raw pixels and random weights."""
    from matplotlib.figure import Figure

    runs = known["runs"]
    figure = Figure(figsize=(11, 2.5 * -(-len(runs) // 4)), layout="constrained")
    panels = figure.subplots(-(-len(runs) // 4), 4, sharey=True, squeeze=False).flat
    for (name, run), axes in zip(runs.items(), panels, strict=False):
        curve, other, pixels = run["stages"]["knn@20"].values()
        axes.plot(range(len(curve)), curve, "o-", ms=3, color="#0b63ce", label="this method")
        axes.plot(range(len(other)), other, "o-", ms=3, color="#c9470b", label="random weights")
        axes.axhline(pixels, color="#6e7781", ls="--", label="raw pixels")
        axes.set_title(name, fontsize=10)
        axes.set_xticks(range(len(curve)))
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels:  # those that are left
        axes.set_axis_off()
    figure.supxlabel("stage (0: stem or embeddings)", fontsize=9)
    figure.supylabel("accuracy, 20 neighbours", fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(PICTURE, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["collect"])
    parser.add_argument("folders", nargs="*")
    told = parser.parse_args()
    if told.what:
        FILE.write_text(json.dumps(collect(told.folders), indent=2) + "\n")
        return
    known = json.loads(FILE.read_text())
    draw(known)
    before, _, rest = README.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    README.write_text(f"{before}{MARKS[0]}\n\n{section(known)}\n\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
