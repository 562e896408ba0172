"""One real batch, twice: what is no encoder of one vector an example is found out before anything is computed."""

import pytest
import torch
from datasets import Dataset
from torch import nn

from hf_replearn.encoders.trial import try_encoder
from hf_replearn.errors import InputError

ROWS = Dataset.from_dict({"x": [[float(n), 1.0, 2.0] for n in range(9)]})


def stack(rows):
    return torch.tensor([row["x"] for row in rows])


class Noisy(nn.Module):
    def forward(self, x):
        return x + 1e-3 * torch.rand_like(x)


class Stateful(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls


class AlwaysDropping(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


def module(function):
    made = nn.Module()
    made.forward = function
    return made


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Noisy(), "gives other numbers each time: part of it, or of its preprocessing, is random"),
        (Stateful(), "gives other numbers each time"),
        (AlwaysDropping(), "gives other numbers each time"),
        (module(lambda x: x / 0 * 0), "gives NaN or infinite numbers"),
        (module(lambda x: x.log()), "gives NaN or infinite numbers"),
        (module(lambda x: x[:, None]), r"gives \[4, 1, 3\] for 4 examples, not one vector an example"),
        (module(lambda x: x[:2]), r"gives \[2, 3\] for 4 examples"),
        (module(lambda x: x.mean(1)), r"gives \[4\] for 4 examples"),
        (nn.Linear(5, 2), "cannot read these examples: mat1 and mat2 shapes"),
        (module(lambda x: {}["last_hidden_state"]), "cannot read these examples: 'last_hidden_state'"),
    ],
)
def test_what_is_no_encoder(network, message):
    with pytest.raises(InputError, match=f"^my net {message}") as error:
        try_encoder(network, ROWS, preprocess=stack, named="my net")
    assert "\n" not in str(error.value)


def test_what_is_one(capsys):
    network = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.BatchNorm1d(2)).train()
    found = try_encoder(network, ROWS, preprocess=stack, named="my net")
    assert not network.training and found.shape == (4, 2)
    torch.testing.assert_close(found, network(stack(ROWS.select([0, 2, 5, 8]))))  # from the first to the last
    assert try_encoder(network, ROWS.select([3]), preprocess=stack, named="my net").shape == (1, 2)
    assert capsys.readouterr().err == ""
    mixing = module(lambda x: x - x.mean(0))
    try_encoder(mixing, ROWS, preprocess=stack, named="my classifier", classifier=True)
    assert "my classifier: what it says of an example depends" in capsys.readouterr().err
