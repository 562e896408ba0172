"""VAE: nats against Monte Carlo and closed forms, the parts of the KL add up, a linear one is probabilistic PCA."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from hf_replearn.errors import InputError
from hf_replearn.evaluation.reconstruction import principal_components
from hf_replearn.methods.collating import CROPS, own_policy
from hf_replearn.methods.vae import VAEConfig, VAEForPreTraining, kl_to_standard_normal, parts_of_kl
from hf_replearn.methods.vae.collating_vae import DataCollatorForVAE
from hf_replearn.methods.vae.modeling_vae import bernoulli_nats, gaussian_nats, log_normal
from hf_replearn.methods.vae.showing_vae import (
    BOUND,
    ERROR,
    KL,
    TIGHTER,
    TOLD,
    UNITS,
    iwae,
    own_task,
    pictures,
    probabilistic_pca,
)
from hf_replearn.randomness import Place
from hf_replearn.recipes import vae
from hf_replearn.settings import run

SIDE, LATENTS = 4, 3


def network(**more) -> VAEForPreTraining:
    torch.manual_seed(0)
    dense = {"backbone": "dense", "backbone_args": {"widths": [8], "in_chans": 1, "img_size": SIDE}}
    return VAEForPreTraining(VAEConfig(**dense | {"latents": LATENTS, "image_size": SIDE} | more))


def batch(count: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.rand(count, 1, SIDE, SIDE, generator=generator)
    return {"pixel_values": levels, "levels": levels, "noise": torch.randn(count, LATENTS, generator=generator)}


def gaussians(count: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws, means, logarithms of variances: (count, 3) each."""
    generator = torch.Generator().manual_seed(seed)
    mean, logvar, noise = torch.randn(3, count, LATENTS, generator=generator, dtype=torch.float64)
    return mean + (0.5 * logvar).exp() * noise, mean, logvar


# ---- nats


def test_kl_is_that_of_monte_carlo_and_of_torch():
    _, mean, logvar = gaussians()
    found = kl_to_standard_normal(mean, logvar)
    posterior = Normal(mean, (0.5 * logvar).exp())
    torch.testing.assert_close(found, kl_divergence(posterior, Normal(torch.zeros_like(mean), 1.0)))
    torch.manual_seed(0)
    draws = posterior.sample((200_000,))
    drawn = (posterior.log_prob(draws) - Normal(0, 1).log_prob(draws)).mean(0)
    torch.testing.assert_close(drawn, found, atol=0.02, rtol=0.02)


def test_likelihoods_are_those_of_loops_and_of_torch():
    logits, levels = torch.randn(2, 3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    levels = levels.sigmoid()
    by_hand = [
        -sum(x * math.log(p) + (1 - x) * math.log(1 - p) for x, p in zip(levels[n].flatten(), told, strict=True))
        for n, told in enumerate(logits.sigmoid().flatten(1).tolist())
    ]
    assert bernoulli_nats(logits, levels).tolist() == pytest.approx([value.item() for value in by_hand], rel=1e-4)
    binary = (levels > 0.5).float()
    expected = -Bernoulli(logits=logits).log_prob(binary).flatten(1).sum(1)
    torch.testing.assert_close(bernoulli_nats(logits, binary), expected)
    expected = -Normal(logits, 0.3).log_prob(levels).flatten(1).sum(1)
    torch.testing.assert_close(gaussian_nats(logits, levels, torch.tensor(0.3).log()), expected)


def test_loss_is_the_negative_evidence_lower_bound_in_nats_of_an_image():
    model, views = network(), batch()
    found = model(**views)
    by_hand = 0.0
    for n in range(6):
        z = found.mean[n] + (found.logvar[n] / 2).exp() * views["noise"][n]
        told = model.decoder(z[None])[0].sigmoid()
        x = views["levels"][n]
        by_hand -= (x * told.log() + (1 - x) * (1 - told).log()).sum().item()
        by_hand += sum(
            0.5 * (m**2 + math.exp(v) - 1 - v)
            for m, v in zip(found.mean[n].tolist(), found.logvar[n].tolist(), strict=True)
        )
    assert found.loss.item() == pytest.approx(by_hand / 6, rel=1e-5)
    twice = {name: value.repeat(2, *[1] * (value.ndim - 1)) for name, value in views.items()}
    assert model(**twice).loss.item() == pytest.approx(found.loss.item(), rel=1e-5)  # a mean over images
    torch.testing.assert_close(model.codes(views["pixel_values"]), found.mean)


def test_a_loss_that_is_finite_for_steps_too_large():
    model = network()
    nn.init.constant_(model.logvar.bias, 1e4)
    assert model(**batch()).loss.isfinite()


def test_iwae_is_no_less_than_the_bound_and_grows_with_draws():
    model, views = network().eval(), batch(64)
    with torch.no_grad():
        found = model(**views)
        once = torch.stack([iwae(model, views, 1, seed=seed) for seed in range(200)]).mean()
        bounds = [iwae(model, views, draws).mean().item() for draws in (5, 50, 500)]
        kl = kl_to_standard_normal(found.mean, found.logvar).sum(1)
        draws = [-model(**views | {"noise": torch.randn(64, LATENTS)}).nats for _ in range(200)]
        elbo = torch.stack(draws).mean() - kl.mean()
    assert once.item() == pytest.approx(elbo.item(), abs=0.05)
    assert elbo < bounds[0] < bounds[1] < bounds[2]


# ---- the family


def test_beta_of_one_is_the_vae_bit_for_bit():
    plain = network()(**batch()).loss
    for more in ({"beta": 1.0}, {"beta": 1.0, "objective": "beta_tc"}):
        model = network(**more)
        loss = model(**batch(), images=1000).loss
        assert torch.equal(loss, plain)
        loss.backward()
        other = network()
        other(**batch()).loss.backward()
        for one, same in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(one.grad, same.grad)


def test_beta_weighs_the_kl_and_beta_tc_the_total_correlation():
    found = network()(**batch())
    kl = kl_to_standard_normal(found.mean, found.logvar).sum(1).mean()
    assert (network(beta=4.0)(**batch()).loss - found.loss).item() == pytest.approx(3 * kl.item(), rel=1e-4)
    z = found.mean + (found.logvar / 2).exp() * batch()["noise"]
    correlation = parts_of_kl(z, found.mean, found.logvar, 500)[1]
    more = network(beta=4.0, objective="beta_tc")(**batch(), images=500).loss - found.loss
    assert more.item() == pytest.approx(3 * correlation.item(), abs=1e-4)


def test_capacity_is_the_kl_that_costs_nothing_and_rises():
    found = network()(**batch())
    kl = kl_to_standard_normal(found.mean, found.logvar).sum(1).mean().item()
    told = found.nats.mean().item()
    model = network(capacity=2 * kl, gamma=10.0, kl_warmup=0.5)
    assert model(**batch()).loss.item() == pytest.approx(told + 10 * kl, rel=1e-4)  # at the beginning none
    model.after_step(0.25)
    assert model(**batch()).loss.item() == pytest.approx(told, rel=1e-4)
    model.after_step(0.9)
    assert model(**batch()).loss.item() == pytest.approx(told + 10 * kl, rel=1e-4)


def test_kl_warms_up_and_free_bits_cost_no_less():
    found = network()(**batch())
    kl = kl_to_standard_normal(found.mean, found.logvar).mean(0)
    told = found.nats.mean().item()
    model = network(kl_warmup=0.5)
    losses = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        model.after_step(progress)
        losses.append(model(**batch()).loss.item() - told)
    assert losses == pytest.approx([0, 0.5 * kl.sum().item(), kl.sum().item(), kl.sum().item()], abs=1e-4)
    free = kl.sort().values[1].item() + 1e-6  # two of three cost as much as this
    model = network(free_bits=free)
    loss = model(**batch()).loss
    assert loss.item() - told == pytest.approx(2 * free + kl.max().item(), abs=1e-4)


# ---- parts of the KL


def test_parts_add_up_to_the_kl_of_the_draws():
    z, mean, logvar = gaussians()
    of_draws = (log_normal(z, mean, logvar) - Normal(0, 1).log_prob(z)).sum(1).mean()
    for images in (5, 5000):
        torch.testing.assert_close(sum(parts_of_kl(z, mean, logvar, images)), of_draws)


def test_with_all_images_as_the_batch_the_parts_are_those_of_loops():
    z, mean, logvar = gaussians()
    posterior = Normal(mean, (0.5 * logvar).exp())
    information = correlation = apart = 0.0
    for n in range(5):
        of_image = posterior.log_prob(z[n]).exp()  # (5, K), under each image
        joint = math.log(of_image.prod(1).mean())
        single = [math.log(of_image[:, k].mean()) for k in range(LATENTS)]
        information += math.log(of_image[n].prod()) - joint
        correlation += joint - sum(single)
        apart += sum(single) - Normal(0, 1).log_prob(z[n]).sum().item()
    found = [part.item() for part in parts_of_kl(z, mean, logvar, 5)]
    assert found == pytest.approx([information / 5, correlation / 5, apart / 5], rel=1e-6)


def test_density_of_latents_is_estimated_without_bias():
    """Of q(z) of six images, the mean over all batches of three that hold z's own is exact; equal weights are not."""
    z, mean, logvar = gaussians(6)
    of_images = log_normal(z[:1], mean, logvar).sum(1).exp()  # under each of the six
    found = []
    for others in itertools.combinations(range(1, 6), 2):
        rows = [0, *others]
        information, _, _ = parts_of_kl_of_first(z[rows], mean[rows], logvar[rows], 6)
        found.append(information)
    assert sum(found) / len(found) == pytest.approx(of_images.mean().item(), rel=1e-6)


def parts_of_kl_of_first(z, mean, logvar, images: int) -> tuple[float, None, None]:
    """What `parts_of_kl` takes for q(z) of the first draw: the mutual information of a batch is a mean, of which the
    others are taken off by moving the first draw alone."""
    far = z.clone()
    far[0] = 1e3 + z[0]
    here, there = (parts_of_kl(draws, mean, logvar, images)[0] * len(z) for draws in (z, far))
    of_image = [log_normal(draws[:1], mean[:1], logvar[:1]).sum() for draws in (z, far)]
    log_far = (
        torch.cat([torch.tensor([-math.log(images)]), torch.full((2,), math.log((images - 1) / (images * 2)))]).double()
        + log_normal(far[:1], mean, logvar).sum(1)
    ).logsumexp(0)
    return (of_image[0] - (here - there) - of_image[1] + log_far).exp().item(), None, None


def test_independent_latents_have_little_total_correlation_and_copies_have_much():
    torch.manual_seed(0)
    mean = torch.randn(800, 2, dtype=torch.float64)
    logvar = torch.full_like(mean, -3.0)
    z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
    apart = parts_of_kl(z, mean, logvar, 800)[1].item()
    same = mean[:, :1].repeat(1, 2)
    copies = parts_of_kl(same + (0.5 * logvar).exp() * torch.randn_like(mean), same, logvar, 800)[1].item()
    assert abs(apart) < 0.15 and copies > 0.8


# ---- a linear VAE is probabilistic PCA


class LinearVAE(VAEForPreTraining):
    """Encoder, decoder and one variance for all images that are linear in the image (Lucas et al. 2019)."""

    def __init__(self):
        dense = {"widths": [LATENTS], "activation": "none", "in_chans": 1, "img_size": SIDE}
        about = {"backbone": "dense", "backbone_args": dense, "image_size": SIDE, "likelihood": "gaussian"}
        super().__init__(VAEConfig(**about, latents=LATENTS))
        self.decoder = nn.Sequential(nn.Linear(LATENTS, SIDE**2), nn.Unflatten(1, (1, SIDE, SIDE)))
        nn.init.zeros_(self.logvar.weight)
        self.logvar.weight.requires_grad_(False)

    def exact_bound(self, levels: torch.Tensor) -> torch.Tensor:
        """-ELBO, whose expectation is known: the variance of a linear decoder's image adds to the squared error."""
        mean, logvar, _ = self.latents(levels)
        told = self.decoder(mean.double())
        variance = (self.decoder[0].weight.square() * logvar[0].exp()).sum()
        nats = gaussian_nats(told, levels, self.log_sigma).mean() + 0.5 * variance * (-2 * self.log_sigma).exp()
        return nats + kl_to_standard_normal(mean, logvar).sum(1).mean()


def test_linear_vae_reaches_the_likelihood_of_probabilistic_pca():
    """And of three latents only those two are active whose variance is above that of the noise."""
    torch.manual_seed(0)
    axes = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q
    scales = torch.tensor([0.5, 0.3] + [0.05] * 14, dtype=torch.float64)
    levels = (0.5 + torch.randn(3000, 16, dtype=torch.float64) * scales @ axes.T).view(-1, 1, SIDE, SIDE)
    model = LinearVAE().double()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=400, line_search_fn="strong_wolfe", tolerance_change=0)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = model.exact_bound(levels)
        value.backward()
        return value

    optimizer.step(loss)
    best = probabilistic_pca(principal_components([levels], LATENTS))
    assert loss().item() == pytest.approx(best, abs=0.02)
    assert loss().item() > best - 1e-3  # the bound is none above the likelihood
    with torch.no_grad():
        means = model.codes(levels)
    assert (means.var(0) > 0.1).sum() == 2
    assert model.log_sigma.exp().item() == pytest.approx(0.05, rel=0.05)


def test_probabilistic_pca_is_the_likelihood_of_its_gaussian():
    torch.manual_seed(0)
    x = torch.randn(200, 5, dtype=torch.float64) @ torch.randn(5, 5, dtype=torch.float64)
    known = principal_components([x.view(-1, 1, 1, 5)], 2)
    rest = known.left / 3
    covariance = known.axes @ (known.variances - rest).diag() @ known.axes.T + rest * torch.eye(5)
    theirs = torch.distributions.MultivariateNormal(x.mean(0), covariance).log_prob(x).mean()
    assert probabilistic_pca(known) == pytest.approx(-theirs.item(), rel=1e-8)


# ---- what is told of it


class Batches(list):
    """As FixedBatches: its length is in images."""

    collator = DataCollatorForVAE(None, (0.0,), (1.0,), latents=LATENTS)

    class rows:
        features: dict = {}

    def __len__(self) -> int:
        return sum(len(views["levels"]) for views in self)

    def few(self, count: int) -> dict[str, torch.Tensor]:
        return {name: value[:count] for name, value in self[0].items()}

    def of_training(self, most: int):
        return self


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_own_task_is_nats_beside_who_does_not_learn(likelihood, tmp_path):
    model, batches = network(likelihood=likelihood).eval(), Batches([batch(20), batch(12, seed=1)])
    with torch.no_grad():
        own, drawn = own_task(model, batches), pictures(model, batches, tmp_path)
        found = [model(**views) for views in batches]
    row = own.rows["this run"]
    kl = torch.cat([kl_to_standard_normal(part.mean, part.logvar).sum(1) for part in found]).mean().item()
    assert row[KL] == pytest.approx(kl, rel=1e-5)
    assert row[TOLD] == pytest.approx(torch.cat([part.nats for part in found]).mean().item(), rel=1e-5)
    assert row[BOUND] == pytest.approx(row[TOLD] + row[KL]) and row[TIGHTER] < row[BOUND] + 0.5
    assert 0 <= row[UNITS] <= LATENTS
    levels = torch.cat([views["levels"] for views in batches])
    assert own.rows["mean image"][ERROR] == pytest.approx(levels.var(0, unbiased=False).mean().item(), rel=1e-4)
    if likelihood == "bernoulli":
        entropy = -(levels * levels.log() + (1 - levels) * (1 - levels).log()).flatten(1).sum(1).mean().item()
        assert own.rows["least that any can have"][BOUND] == pytest.approx(entropy, rel=1e-4)
        assert own.rows["mean image"][BOUND] > entropy
    assert {"reconstructions.png", "samples.png", "interpolation.png", "traversals.png"} == drawn.keys()
    assert all((tmp_path / name).stat().st_size > 1000 for name in drawn)


# ---- data, and bad input


def collator(policy=None, **more) -> DataCollatorForVAE:
    policy = policy or partial(CROPS, size=SIDE, min_scale=1.0, flip=0.0)
    return DataCollatorForVAE(policy, (0.5,), (0.5,), latents=LATENTS, **more)


PIXELS = {"pixel_values": torch.randint(0, 256, (200, 1, SIDE, SIDE), dtype=torch.uint8)}


def test_noise_of_latents_is_standard_normal_and_that_of_its_place():
    one, same, other = (collator(images=9).views(PIXELS, Place(0, step)) for step in (1, 1, 2))
    assert one["noise"].shape == (200, LATENTS) and one["images"] == 9
    assert one["noise"].std().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(one["noise"], same["noise"]) and not torch.equal(one["noise"], other["noise"])
    torch.testing.assert_close(one["levels"], PIXELS["pixel_values"] / 255)
    torch.testing.assert_close(one["pixel_values"], 2 * one["levels"] - 1)


def test_levels_beyond_0_and_1_are_refused_for_bernoulli():
    sharp = own_policy(lambda images: images.float() / 255 * 1.4 - 0.2)
    with pytest.raises(InputError, match="--likelihood gaussian"):
        collator(sharp, checked=True).views(PIXELS, Place(0, 0))
    assert collator(sharp).views(PIXELS, Place(0, 0))["levels"].min() < 0  # which a Gaussian may be told


@pytest.mark.parametrize(
    "given, said",
    [
        (["--capacity", "25", "--beta", "4"], "in place of --beta"),
        (["--capacity", "25", "--objective", "beta_tc"], "in place of --beta"),
        (["--beta", "-1"], "beta"),
        (["--latents", "0"], "latents"),
        (["--likelihood", "poisson"], "poisson"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(given, said, tmp_path, capsys):
    arguments = ["--dataset", "toy", "--image_size", "16", "--max_steps", "1", "--use_cpu", "--output_dir"]
    with pytest.raises(SystemExit) as end:
        run(vae.main, vae.VAESettings, [*arguments, str(tmp_path), *given])
    assert end.value.code == 2 and said in capsys.readouterr().err.strip().splitlines()[-1]
