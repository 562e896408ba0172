"""Losses that several methods share.

N predictions, D features, V tokens of the vocabulary
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORED = -100  # the label of what is not predicted, as in torch.nn.functional.cross_entropy


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, bias: Tensor | None = None, chunk: int = 256
) -> Tensor:
    """Sum over N of the cross entropy of softmax(hidden weight^T + bias) with the labels, exactly.

    Never holds the (N, V) logits: they are computed `chunk` rows at a time and the gradients with them, in the forward
    pass, so that the memory is O(chunk V) besides the gradient of the weight. The products are taken in the autocast
    type, everything else and the sum in float32.

    hidden: (N, D). weight: (V, D). bias: (V,). labels: (N,) int64, those of `IGNORED` (-100) do not count.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    with torch.autocast(kind, enabled=False):
        return _ChunkedCrossEntropy.apply(hidden.to(dtype), weight, bias, labels, chunk)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk: int) -> Tensor:
        learning = any(ctx.needs_input_grad)
        matrix = weight.to(hidden.dtype)
        loss = torch.zeros((), device=hidden.device)
        grads = [torch.empty_like(hidden), torch.zeros_like(weight), None] if learning else []
        if learning and bias is not None:
            grads[2] = torch.zeros_like(bias)
        for start in range(0, len(hidden), chunk):
            rows, label = hidden[start : start + chunk], labels[start : start + chunk, None]  # (n, D), (n, 1)
            counts = label != IGNORED
            label = label.clamp(min=0)
            logits = (rows @ matrix.T).float()  # (n, V)
            if bias is not None:
                logits += bias
            wanted, most = logits.gather(1, label), logits.amax(1, keepdim=True)
            exp = logits.sub_(most).exp_()
            total = exp.sum(1, keepdim=True)
            loss += ((total.log() + most - wanted) * counts).sum()
            if learning:  # d loss / d logits = softmax - one-hot
                exp *= counts / total
                exp.scatter_add_(1, label, -counts.to(exp))
                error = exp.to(hidden.dtype)
                torch.mm(error, matrix, out=grads[0][start : start + chunk])
                grads[1] += error.T @ rows
                if bias is not None:
                    grads[2] += exp.sum(0)
        ctx.save_for_backward(*grads)
        return loss

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        grad_loss = grad_loss.float()
        scaled = (None if grad is None else grad * grad_loss.to(grad.dtype) for grad in (hidden, weight, bias))
        return *scaled, None, None
