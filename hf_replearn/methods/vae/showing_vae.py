"""What a VAE's latents tell of an image, in nats, beside who does not learn, and pictures: images made again, made up,
and changed by one latent at a time."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from hf_replearn.evaluation.reconstruction import Components, principal_components
from hf_replearn.methods.codes import Codes
from hf_replearn.methods.showing_codes import SHOWN, draw_between, draw_map, look, trained_on
from hf_replearn.methods.vae.modeling_vae import LOG_TAU, kl_to_standard_normal, log_normal
from hf_replearn.sharing.drawn import draw_lines
from hf_replearn.sharing.report import OwnTask

DRAWS, BOUNDED = 64, 512  # of the tighter bound, and images that it is measured on
ACTIVE = 0.01  # variance of a latent's mean over images, above which it is active (Burda et al. 2016, section 5.1)
LINES, FARTHEST = 10, 3.0  # latents that are traversed, from minus to plus so many standard deviations
MADE, MADE_UP, BETWEEN, TRAVERSED, MAP = (
    "reconstructions.png", "samples.png", "interpolation.png", "traversals.png", "codes.png",
)  # fmt: skip
BOUND, TIGHTER, TOLD, KL = "-ELBO (nats)", f"-IWAE of {DRAWS} draws (nats)", "image (nats)", "KL (nats)"
UNITS, ERROR = "active latents", "squared error"


def codes(model: nn.Module) -> dict[str, nn.Module]:
    """The mean of the latents as a row of the report."""
    return {f"its latents' mean ({model.config.latents})": Codes(model)}


def own_task(model: nn.Module, batches) -> OwnTask:
    """The negative evidence lower bound and its parts, in nats an image; a tighter bound; active latents; and the
    squared error of levels. Beside them what the mean image gives, and principal components of the same number."""
    known = principal_components(trained_on(batches), model.config.latents)
    totals: dict[str, float] = {}
    means, of_latents, count = [], 0.0, 0

    def add(name: str, values: Tensor) -> None:
        totals[name] = totals.get(name, 0.0) + values.double().sum().item()

    for views in batches:
        found, levels = model(**views), views["levels"].float()
        add(TOLD, found.nats)
        of_latents = of_latents + kl_to_standard_normal(found.mean, found.logvar).double().sum(0)
        if count < BOUNDED:
            add(TIGHTER, -iwae(model, views, DRAWS))
            totals["bounded"] = totals.get("bounded", 0) + len(levels)
        add(ERROR, squares(model.decode(found.mean), levels))
        seen = levels.cpu()
        add("pca", squares(known.rebuilt(seen).clamp(0, 1), seen))
        add("mean", squares(known.mean.float().view(1, *seen.shape[1:]).clamp(0, 1), seen))
        if model.config.likelihood == "bernoulli":
            add("mean nats", cross_entropy(known.mean.float().view(1, *seen.shape[1:]), seen))
            add("least", cross_entropy(seen, seen))
        means.append(found.mean.cpu())
        count, numbers = count + len(levels), levels[0].numel()
    told, kl = totals[TOLD] / count, (of_latents.sum() / count).item()
    active = int((torch.cat(means).var(0) > ACTIVE).sum())
    rows: dict[str, dict[str, float | None]] = {
        "this run": {
            BOUND: told + kl,
            TIGHTER: totals[TIGHTER] / totals["bounded"],
            TOLD: told,
            KL: kl,
            UNITS: active,
            ERROR: totals[ERROR] / count / numbers,
        },
        f"PCA ({model.config.latents})": {ERROR: totals["pca"] / count / numbers},
        "mean image": {ERROR: totals["mean"] / count / numbers},
    }
    if model.config.likelihood == "bernoulli":
        rows["mean image"] |= {BOUND: totals["mean nats"] / count}
        rows["least that any can have"] = {BOUND: totals["least"] / count}
    else:
        rows[f"PCA ({model.config.latents})"] |= {BOUND: probabilistic_pca(known)}
    return OwnTask(told=in_words(model, totals["bounded"]), rows=rows, smaller=[BOUND, TIGHTER, TOLD, ERROR])


def in_words(model: nn.Module, bounded: float) -> str:
    """What is measured."""
    known = {
        "bernoulli": "the least is the entropy of the grey levels, taken for probabilities",
        "gaussian": "that of PCA is the exact one of probabilistic PCA on the training images, of levels that are "
        "continuous",
    }[model.config.likelihood]
    return (
        f"Nats of an image, summed over its pixels, the mean over images: {BOUND} is those of the image given its "
        f"latents and the KL of these to the prior; {known}. The bound of {DRAWS} draws is tighter, and of "
        f"{bounded:.0f} images. Latents are active whose mean has a variance above {ACTIVE} over images. The squared "
        "error is of levels from 0 to 1, of what is made of the mean of the latents."
    )


def squares(told: Tensor, levels: Tensor) -> Tensor:
    """(B,)"""
    return (told.float() - levels).square().flatten(1).sum(1)


def cross_entropy(told: Tensor, levels: Tensor) -> Tensor:
    """Of Bernoulli levels (B, …) under probabilities that broadcast to them: (B,), nats."""
    told = told.clamp(1e-6, 1 - 1e-6).expand_as(levels)
    return -(torch.xlogy(levels, told) + torch.xlogy(1 - levels, 1 - told)).flatten(1).sum(1)


def iwae(model: nn.Module, views: dict[str, Tensor], draws: int, *, seed: int = 0) -> Tensor:
    """The bound on log p(x) of so many draws of the latents of an image (Burda et al. 2016, arXiv:1509.00519, equation
    8): (B,), nats. It is the evidence lower bound of one draw, and does not fall with more."""
    mean, logvar, _ = model.latents(views["pixel_values"])
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        z = mean + (0.5 * logvar).exp() * torch.randn(mean.shape, generator=generator).to(mean)
        prior = log_normal(z, torch.zeros_like(z), torch.zeros_like(z)).sum(1)
        found.append(prior - model.nats(z, views["levels"]) - log_normal(z, mean, logvar).sum(1))
    return torch.stack(found).logsumexp(0) - math.log(draws)


def probabilistic_pca(known: Components) -> float | None:
    """-log p(x), nats, the mean over the images of which the components are (Tipping and Bishop 1999, equation 3.8);
    None where their covariance is not known."""
    if known.covariance is None:
        return None
    dimensions, count = known.axes.shape
    rest = known.left / (dimensions - count)
    logs = known.variances.log().sum().item() + (dimensions - count) * math.log(rest)
    return 0.5 * (dimensions * LOG_TAU + logs + dimensions)


def pictures(model: nn.Module, batches, folder: Path) -> dict[str, str]:
    """Images made again, made up, on the way from one to another, changed by one latent, and a map of the codes."""
    few, count = batches.few(SHOWN), model.config.latents
    levels = few["levels"].float().cpu()
    mean, _, _ = model.latents(few["pixel_values"])
    known = principal_components(trained_on(batches, most=10_000), count)
    seen = look(few["pixel_values"], batches.collator)
    made = [("image", levels), (f"VAE, {count} latents", model.decode(mean)), (f"PCA ({count})", known.rebuilt(seen))]
    draw_lines(made, folder / MADE)
    noise = torch.randn(4 * SHOWN, count, generator=torch.Generator().manual_seed(0))
    drawn = model.decode(noise.to(mean)).unflatten(0, (4, SHOWN))
    draw_lines([("made up" * (place == 0), line) for place, line in enumerate(drawn)], folder / MADE_UP)
    return {
        MADE: f"Images, what the decoder makes of the mean of their {count} latents, and what as many principal "
        "components make of them.",
        MADE_UP: "Images that are none of the data: the mean image of latents drawn from the prior.",
        BETWEEN: draw_between(model.decode, levels, mean, folder / BETWEEN),
        TRAVERSED: draw_traversals(model, batches, mean[0], folder / TRAVERSED),
    } | draw_map(Codes(model), batches, folder / MAP, what="the mean of the latents")


def draw_traversals(model: nn.Module, batches, start: Tensor, path: Path) -> str:
    """One latent at a time goes from minus to plus three, the others stay those of an image, (K,): a line for each,
    those of the largest KL first. Returns what is seen."""
    totals = sum(kl_to_standard_normal(*model.latents(views["pixel_values"])[:2]).sum(0) for views in batches)
    nats = totals / len(batches)
    first = nats.argsort(descending=True)[: min(LINES, len(nats))].tolist()
    places = torch.linspace(-FARTHEST, FARTHEST, 7)
    lines = []
    for latent in first:
        z = start.repeat(len(places), 1)
        z[:, latent] = places.to(z)
        lines.append((f"latent {latent}\n{nats[latent]:.2f} nats", model.decode(z)))
    titles = {number: f"{place:+g}" if place else "0" for number, place in enumerate(places.tolist())}
    draw_lines(lines, path, titles=titles)
    return (
        "One latent goes from -3 to 3, and the others stay those of one image: a line for each latent, those that tell "
        "most of an image, by the KL, first. Lines without change are of latents that tell nothing."
    )
