"""The story of `disentanglement`: whether the factors of images have parts of a code to themselves."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import Dataset, Image
from transformers import set_seed

from hf_replearn.data.factors import KNOWN, Factors, read_factors
from hf_replearn.data.images import TEST_SPLITS, find_image_column
from hf_replearn.data.labels import shown_columns
from hf_replearn.data.scan import scan
from hf_replearn.data.sources import counted, load_source
from hf_replearn.encoders.codes import code_of
from hf_replearn.encoders.encoder import Encoder, find_encoder, name_of
from hf_replearn.errors import InputError, TrainingError
from hf_replearn.evaluation.contestants import plain_features, represent
from hf_replearn.evaluation.disentanglement import Coded, disentanglement, known_codes, protocols
from hf_replearn.evaluation.steps import at_work
from hf_replearn.judging.task import task_of
from hf_replearn.judging.telling import of_task
from hf_replearn.settings import as_dict, command_line
from hf_replearn.sharing.card import extend_card, extendable
from hf_replearn.sharing.drawn import draw_columns
from hf_replearn.sharing.page import write_page
from hf_replearn.sharing.report import Evaluation, Task
from hf_replearn.sharing.show import try_to_show
from hf_replearn.training.folder import check_folder, claim_folder

LEAST = 60  # images
SHOWN, DRAWN, STEPS = 24, 10, 6  # numbers of a code in the matrix and in the picture, and images of each
PICTURE = "numbers_of_the_code.png"


@dataclass(frozen=True)
class FactoredImages:
    """Images whose factors are known, the first two thirds to learn from.

    rows: with `image` alone. where: which they are, in words. taken: one line of what was used.
    """

    rows: Dataset
    factors: Factors
    name: str
    hub_id: str | None
    where: str
    taken: str

    @property
    def learnt(self) -> int:
        """How many are to learn from."""
        return len(self.rows) * 2 // 3

    @property
    def parts(self) -> tuple[Dataset, Dataset]:
        """To learn from, and to judge on."""
        return self.rows.select(range(self.learnt)), self.rows.select(range(self.learnt, len(self.rows)))

    def coded(self, codes: np.ndarray) -> tuple[Coded, Coded]:
        """Both parts of codes (N, D)."""
        codes = np.asarray(codes, dtype=np.float64)
        return tuple(Coded(codes[part], self.factors[part]) for part in np.split(np.arange(len(codes)), [self.learnt]))


def judge_disentanglement(settings: Any) -> Evaluation:
    """How far the codes of encoders keep the factors of images apart, beside what bounds them: report, page, card.

    settings: of `hf-replearn disentanglement`. Raises InputError for whatever the user has to mend, before anything is
    computed; TrainingError where nothing could be measured of the encoders that were asked for.
    """
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    # 1. Images whose factors are known, and encoders, each tried on some of them
    check_folder(settings)
    card = extendable(settings.model[0]) if settings.add_to_card else None
    images = open_factored(settings)
    print(images.taken, flush=True)
    encoders = find_encoders(settings, images)
    claim_folder(settings)

    # 2. Codes: of the encoders, and of what they stand beside
    report = describe(settings, images)
    codes = {row: encoded(settings, report, row, encoder, images) for row, encoder in encoders.items()}
    asked = list(codes)[: len(settings.model)]
    if settings.baselines:
        codes |= floors(settings, report, images, widths=[codes[row].shape[1] for row in asked])

    # 3. Scores
    for row, found in codes.items():
        print(f"scores of {row} …", flush=True)
        if not np.isfinite(found).all():
            raise TrainingError(f"{row}: some numbers of its codes are NaN or infinite")
        scores, missing, told = disentanglement(*images.coded(found), seed=settings.seed, name=row)
        report.rows[row], report.missing[row] = scores, missing
        report.factors["told"][row] = most_telling(told)
    report.protocols = protocols(images.learnt, len(images.rows) - images.learnt)
    out = Path(settings.output_dir)
    report.save(out, page=False)
    print(f"\n{report.table()}\n", flush=True)

    # 4. The picture, the page, the card of the first model
    draw = partial(draw_numbers, codes[asked[0]], images, report, asked[0], out / PICTURE)
    if try_to_show(f"the picture ({PICTURE})", draw)[1] is None:
        report.figures[PICTURE] = (
            f"What numbers of the code of {asked[0]} stand for: mean image of a sixth of the images each, from those "
            "in which a number is smallest (top) to those in which it is largest. Above them the factor of which a "
            "number tells most, and how much of it. What changes down a column is what the number says."
        )
        report.save(out, page=False)
    page, _ = try_to_show("the page", partial(write_page, out))
    print(f"page: {page}" if page else f"report: {out / 'report.json'}")
    if card is not None:
        rows, told, missing = of_task(report, task_of(settings), first=next(iter(card.rows), card.method.name))
        extend_card(settings.model[0], rows, protocols=told, missing=missing)
    return report


# ---- images


def open_factored(settings: Any) -> FactoredImages:
    """The images that the settings ask for, drawn at random. Raises InputError for data without factors, and for images
    that do not decode."""
    source = load_source(settings.dataset, purpose="images", files=settings.files, config=settings.dataset_config)
    split = next((name for name in (*TEST_SPLITS, "train") if len(source.splits.get(name, []))), None)
    if split is None:
        raise InputError(f"the data has no split 'train', only {', '.join(source.splits)}")
    rows = source.splits[split]
    image = find_image_column(rows.features, settings.image_column)
    names = settings.factors or KNOWN.get(settings.dataset, ())
    if not names:
        others = {name: kind for name, kind in rows.features.items() if name != image}
        there = f"the columns are {shown_columns(others)}" if others else "there is no column but the images"
        raise InputError(
            f"nobody says what the images of {settings.dataset!r} were made of: {there}; name those of the factors, "
            "--factors A B …, or take --dataset sprites"
        )
    drawn = np.random.default_rng(settings.seed).permutation(len(rows))[: settings.examples]
    chosen = rows.select(drawn)
    pictures = chosen.select_columns(image).rename_columns({image: "image"}).cast_column("image", Image(decode=False))
    good = decodable(pictures, most=settings.max_undecodable)
    if len(good) < LEAST:
        raise InputError(f"{settings.dataset!r} has {len(good)} images with factors: at least {LEAST} are needed")
    factors = read_factors(chosen.select(good), names)
    where = f"{len(good):,} of the {len(rows):,} images of the split {split!r}, drawn at random (seed {settings.seed})"
    taken = source.taken({split: f"{counted(len(good), 'image')} with {', '.join(names)}"})
    return FactoredImages(pictures.select(good), factors, source.name, source.hub_id, where, taken)


def decodable(rows: Dataset, *, most: float) -> np.ndarray:
    """The rows whose images decode. Raises InputError where more than a share of `most` do not, and for images of more
    than 8 bits, of which nobody says what is black and white."""
    found = scan(rows)
    if deep := set(found["depth"]) - {""}:
        raise InputError(f"some images are of {min(deep)}: convert them to 8 bits a channel")
    bad = np.flatnonzero(found["reason"] != "")
    if len(bad) > most * len(rows):
        raise InputError(
            f"{len(bad)} of {len(rows)} images do not decode, more than --max_undecodable {most:g}: "
            f"row {bad[0]}: {found['reason'][bad[0]]}"
        )
    return np.flatnonzero(found["reason"] == "")


# ---- codes


def find_encoders(settings: Any, images: FactoredImages) -> dict[str, Encoder]:
    """Row of the report -> encoder, those asked for first, then the same from random weights. Each has been tried."""
    found: dict[str, Encoder] = {}
    for model in settings.model:
        if settings.model.count(model) > 1:
            raise InputError(f"--model {model} is given twice")
        encoder = find_encoder(model, modality="image", all_layers=settings.layers != "last")
        if settings.layers == "last":
            encoder = code_of(encoder) or encoder
        row = name_of(model) if name_of(model) not in found else model
        found[row] = encoder.try_on(images.rows)
        if settings.layers != "last":
            encoder.find_layer(settings.layers)
    trained = dict(found)
    for row, encoder in trained.items() if settings.baselines else ():
        set_seed(settings.seed)
        name = "random weights" if len(trained) == 1 else f"random weights of {row}"
        untrained = code_of(encoder, pretrained=False) if settings.layers == "last" else None
        found[name] = (untrained or encoder.untrained()).try_on(images.rows)
    return found


def encoded(settings: Any, report: Evaluation, row: str, encoder: Encoder, images: FactoredImages) -> np.ndarray:
    """The codes (N, D) of an encoder, whose facts are put into the report."""
    origin = "random weights" if row.startswith("random weights") else encoder.source
    layers, facts = represent(settings, encoder, *images.parts, origin=origin)
    report.encoders[row] = facts
    return torch.cat([part.x for part in layers[-1]]).double().numpy()


def floors(settings: Any, report: Evaluation, images: FactoredImages, *, widths: list[int]) -> dict[str, np.ndarray]:
    """Row -> codes (N, D) that everybody's stand beside: principal components of the pixels, as many as the code has
    numbers, the factors themselves, and these rotated."""
    found = {}
    learnt, _ = images.parts
    for width in dict.fromkeys(widths):
        with at_work(f"{width} principal components"):
            layers, facts = plain_features(learnt, *images.parts, components=width)
        codes = torch.cat([part.x for part in layers[-1]]).double().numpy()
        row = f"PCA of pixels ({codes.shape[1]})"
        found[row], report.encoders[row] = codes, facts
    for row, codes in known_codes(images.factors, seed=settings.seed).items():
        found[row] = codes
        report.encoders[row] = {"from": "the data", "parameters": "–", "features": f"{codes.shape[1]}", "pooling": "–"}
    return found


# ---- what is told


def describe(settings: Any, images: FactoredImages) -> Evaluation:
    """The report without its scores."""
    factors = images.factors
    kinds = [
        f"{name} ({size} {'classes' if is_class else 'values'})"
        for name, size, is_class in zip(factors.names, factors.sizes, factors.is_class, strict=True)
    ]
    return Evaluation(
        task=Task(
            name=images.name,
            hub_id=images.hub_id,
            unit="image",
            train=images.learnt,
            test=len(images.rows) - images.learnt,
            classes=None,
            held_out=images.where,
            notes=[f"The factors: {', '.join(kinds)}"],
        ),
        encoders={},
        factors={"names": factors.names, "told": {}},
        command=shlex.join(["hf-replearn", "disentanglement", *command_line(settings)]),
        settings=as_dict(settings),
    )


def most_telling(told: np.ndarray) -> dict[str, Any]:
    """The numbers of a code that tell most of a factor, at most 24, in the order of the factors that they tell of.

    told: (D, K). Returns {"of": D, "numbers": places in the code, "shares": told of these}.
    """
    best = np.argsort(-told.max(axis=1), kind="stable")[:SHOWN]
    best = best[np.lexsort((-told[best].max(axis=1), told[best].argmax(axis=1)))]
    return {"of": len(told), "numbers": best.tolist(), "shares": told[best].round(4).tolist()}


def draw_numbers(codes: np.ndarray, images: FactoredImages, report: Evaluation, row: str, path: Path) -> None:
    """Mean images of sixths of the images, in the order of each of the numbers that tell most."""
    from hf_replearn.representation import ImagePreprocessor, extract

    known = report.factors["told"][row]
    kept = sorted(range(len(known["numbers"])), key=lambda place: -max(known["shares"][place]))[:DRAWN]
    pixels = ImagePreprocessor(64, (0.0,), (1.0,))
    levels = extract(torch.nn.Flatten(), images.parts[1], preprocess=pixels).x.view(-1, 3, 64, 64)
    columns = {}
    for place in sorted(kept):
        number, shares = known["numbers"][place], known["shares"][place]
        order = np.argsort(codes[images.learnt :, number], kind="stable")
        means = torch.stack([levels[torch.from_numpy(rows)].mean(0) for rows in np.array_split(order, STEPS)])
        factor = report.factors["names"][int(np.argmax(shares))]
        means = means / means.max().clamp(min=1e-6)  # of few white pixels, a mean is dark
        columns[f"{number}: {factor} {max(shares):.0%}"] = means
    draw_columns(columns, path)
