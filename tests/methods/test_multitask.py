"""Ways to weigh several tasks: by hand, at their optimum, and as gradients of the model."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from hf_replearn.methods.multitask import (
    MultiTask,
    Weigher,
    gradnorm_gradient,
    min_norm,
    pcgrad,
    uncertainty_gradient,
    uncertainty_weight,
)

REGRESSION = torch.tensor([False, True, False])


# ---- uncertainty


def test_weights_at_the_optimum_are_one_over_the_losses():
    """Of classes and of numbers alike: their losses count 1 / (2 L) each, so 1 / L beside one another; the total is
    then half the sum of log L, but for constants."""
    losses = torch.tensor([0.2, 0.2, 3.0])
    s = torch.zeros(3)
    for _ in range(4000):
        s = s - 0.1 * uncertainty_gradient(s, losses, REGRESSION)
    weights = uncertainty_weight(s, REGRESSION)
    torch.testing.assert_close(weights, 1 / (2 * losses), rtol=1e-4, atol=0)
    total = (weights * losses + s / 2).sum()
    log_two = np.log(2)
    expected = 0.5 * losses.log().sum() + 3 * 0.5 + 0.5 * 2 * log_two  # s is log L of numbers, log 2 L of classes
    assert total.item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_gradient_of_the_uncertainty_is_that_of_the_objective():
    """With its halves: log sigma is s / 2, and numbers have 1 / (2 sigma^2)."""
    losses = torch.tensor([0.3, 2.0, 1.5], dtype=torch.float64)
    sigma = torch.tensor([0.5, 1.5, 0.9], dtype=torch.float64)
    s = (2 * sigma.log()).requires_grad_()
    by_paper = losses[0] / sigma[0] ** 2 + losses[1] / (2 * sigma[1] ** 2) + losses[2] / sigma[2] ** 2
    by_paper = by_paper + sigma.log().sum()
    objective = (uncertainty_weight(s, REGRESSION) * losses + s / 2).sum()
    assert objective.item() == pytest.approx(by_paper.item())
    objective.backward()
    torch.testing.assert_close(uncertainty_gradient(s.detach(), losses, REGRESSION), s.grad)


# ---- gradients of several tasks


def naive_pcgrad(gradients: np.ndarray, order: list[list[int]]) -> np.ndarray:
    """Algorithm 1 as it is printed."""
    total = np.zeros(gradients.shape[1])
    for task, others in enumerate(order):
        own = gradients[task].copy()
        for other in others:
            along = own @ gradients[other]
            if along < 0:
                own -= along / (gradients[other] @ gradients[other]) * gradients[other]
        total += own
    return total


def test_pcgrad_by_hand():
    """(1, 0) and (-1, 1) contradict each other: (1/2, 1/2) and (0, 1) are left of them."""
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    counts = pcgrad(gradients @ gradients.T, [[1], [0]])
    torch.testing.assert_close(counts @ gradients, torch.tensor([0.5, 1.5]))
    agreeing = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(pcgrad(agreeing @ agreeing.T, [[1], [0]]), torch.ones(2))


def test_pcgrad_of_three_depends_on_the_order_and_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    differ = 0
    for _ in range(20):
        gradients = rng.normal(size=(3, 4))
        found = []
        for orders in itertools.product(*[itertools.permutations([j for j in range(3) if j != i]) for i in range(3)]):
            order = [list(one) for one in orders]
            counts = pcgrad(torch.from_numpy(gradients @ gradients.T), order)
            np.testing.assert_allclose(counts.numpy() @ gradients, naive_pcgrad(gradients, order), atol=1e-12)
            found.append(counts.numpy())
        differ += np.ptp(found, axis=0).max() > 1e-6
    assert differ > 0


def test_the_shortest_sum_of_two_gradients_by_hand():
    """MGDA: on the line between them; where one is the shortest of all, that one."""
    gradients = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(min_norm(gradients @ gradients.T), torch.tensor([0.2, 0.8]))
    longer = torch.tensor([[1.0, 0.0], [3.0, 1.0]])
    torch.testing.assert_close(min_norm(longer @ longer.T), torch.tensor([1.0, 0.0]))
    equal = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert min_norm(equal @ equal.T).sum() == 1


def test_the_shortest_sum_of_three_against_a_grid():
    rng = np.random.default_rng(1)
    steps = np.linspace(0, 1, 101)
    grid = np.array([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-9])
    for _ in range(5):
        gradients = rng.normal(size=(3, 5))
        gram = gradients @ gradients.T
        weights = min_norm(torch.from_numpy(gram)).numpy()
        assert weights.min() >= 0 and weights.sum() == pytest.approx(1)
        assert weights @ gram @ weights <= np.einsum("ni,ij,nj->n", grid, gram, grid).min() + 1e-3


def test_gradnorm_pulls_on_who_is_slow():
    """Equal norms, and the first task has come half as far: its weight rises, as by the paper's loss."""
    norms, first = torch.tensor([1.0, 1.0]), torch.tensor([2.0, 2.0])
    losses, weights = torch.tensor([1.8, 0.9]), torch.ones(2, requires_grad=True)
    found = gradnorm_gradient(weights.detach(), norms, losses, first, alpha=1.5)
    told = weights * norms
    pace = losses / first
    target = (told.mean() * (pace / pace.mean()) ** 1.5).detach()
    (told - target).abs().sum().backward()
    torch.testing.assert_close(found, weights.grad)  # the mean norm is 1
    assert found[0] < 0 < found[1]
    even = gradnorm_gradient(torch.ones(2), torch.tensor([4.0, 1.0]), losses, first, alpha=0.0)
    assert even[0] > 0 > even[1]  # of alpha 0, all norms are to be equal


# ---- the model


class Network(nn.Module):
    """Two shared layers and a head."""

    def __init__(self, trunk: nn.Module, outputs: int):
        super().__init__()
        self.trunk, self.head = trunk, nn.Linear(3, outputs)

    def forward(self, x):
        class Found:
            logits = self.head(torch.tanh(self.trunk(x)))

        return Found


def make(how: str, **about) -> tuple[MultiTask, dict]:
    """Two tasks, of 2 classes and of numbers, and a batch of each."""
    torch.manual_seed(0)
    trunk = nn.Linear(4, 3)
    networks = {"a": Network(trunk, 2), "b": Network(trunk, 1)}
    heads = {task: [network.head] for task, network in networks.items()}
    model = MultiTask(networks, heads, regression=["b"], weigher=Weigher(how, **about), about={})
    batches = {"a": {"x": torch.randn(8, 4), "labels": torch.randint(0, 2, (8,))}}
    batches["b"] = {"x": torch.randn(8, 4), "labels": 3 * torch.randn(8)}
    return model.train(), batches


def gradients_of(model: MultiTask, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def flat(gradients: dict) -> torch.Tensor:
    return torch.cat([gradients[name].flatten() for name in sorted(gradients) if name.startswith("trunk.trunk")])


@pytest.mark.parametrize("how", ["pcgrad", "mgda", "gradnorm"])
def test_the_gradient_of_a_step_is_the_combined_one(how):
    """In the trunk by the weights of the method, in each head its own; the value is the mean of the losses."""
    model, batches = make(how)
    each = {task: model.loss(task, batch) for task, batch in batches.items()}
    alone = {task: gradients_of(model, loss) for task, loss in each.items()}
    matrix = torch.stack([flat(alone[task]) for task in "ab"])
    if how == "gradnorm":
        model.weights.copy_(torch.tensor([0.5, 1.5]))
    loss = model(tasks=batches)["loss"]
    assert loss.item() == pytest.approx((each["a"].item() + each["b"].item()) / 2)
    together = gradients_of(model, loss)
    gram = matrix @ matrix.T
    counts = {"pcgrad": pcgrad(gram, [[1], [0]]) / 2, "mgda": min_norm(gram), "gradnorm": torch.tensor([0.25, 0.75])}
    torch.testing.assert_close(flat(together), counts[how] @ matrix)
    own = counts["gradnorm"] if how == "gradnorm" else torch.tensor([0.5, 0.5])
    torch.testing.assert_close(together["trunk.head.weight"], own[0] * alone["a"]["trunk.head.weight"])
    torch.testing.assert_close(together["heads.0.0.weight"], own[1] * alone["b"]["heads.0.0.weight"])


def test_a_step_of_one_task_leaves_other_heads_and_weights_alone():
    model, batches = make("uncertainty")
    found = gradients_of(model, model(tasks={"b": batches["b"]})["loss"])
    assert "trunk.head.weight" not in found and "heads.0.0.weight" in found
    model.after_step(0.5)
    assert model.log_variance[0] == 0 != model.log_variance[1]
    loss = model.loss("b", batches["b"]).item()
    assert model.log_variance[1].item() == pytest.approx(-0.025 * (0.5 - 0.5 * loss), rel=1e-4)
    assert model.losses_since() == {"b": pytest.approx(loss)}
    assert model.losses_since() == {}


def test_weights_of_gradnorm_keep_their_sum_and_the_first_losses_stay():
    model, batches = make("gradnorm", rate=0.5)
    with torch.no_grad():
        first = torch.stack([model.loss(task, batch) for task, batch in batches.items()])
    for _ in range(5):
        model(tasks=batches)["loss"].backward()
        model.after_step(0.1)
        with torch.no_grad():
            model.trunk.trunk.weight += 0.1
    assert model.weights.sum() == pytest.approx(2) and model.weights.min() > 0
    torch.testing.assert_close(model.first, first)
    assert sum(model.relative_weights().values()) == pytest.approx(2)


def test_the_order_of_pcgrad_is_of_the_step():
    """The same after a run that went on, another in the next step."""
    model, batches = make("pcgrad")
    third = {"c": Network(model.trunk.trunk, 2)}
    networks = model.networks | third
    heads = {task: [network.head] for task, network in networks.items()}
    model = MultiTask(networks, heads, regression=["b"], weigher=Weigher("pcgrad"), about={}).train()
    batches["c"] = {"x": torch.randn(8, 4), "labels": torch.randint(0, 2, (8,))}
    seen = []
    for step in (0, 0, 1, 2, 3, 4):
        model.steps.fill_(step)
        seen.append(flat(gradients_of(model, model(tasks=batches)["loss"])))
    assert torch.equal(seen[0], seen[1])


def test_what_is_shared_is_saved_once_and_loaded_again(tmp_path):
    from safetensors.torch import load_file

    model, batches = make("gradnorm")
    model(tasks=batches)["loss"].backward()
    model.after_step(0.0)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert sum(name.endswith("trunk.weight") for name in saved) == 1
    again, _ = make("gradnorm")
    with torch.no_grad():
        for p in again.parameters():
            p.zero_()
    again.load_state_dict(saved, strict=False)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
