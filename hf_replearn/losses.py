"""Losses that several methods share.

N predictions, D features, V tokens of the vocabulary
"""

from __future__ import annotations

import torch
from torch import Tensor

IGNORED = -100  # the label of what is not predicted, as in torch.nn.functional.cross_entropy
CPU_ROWS = 512  # of logits at once on a CPU, whose caches hold them
GPU_BYTES = 2**30  # of logits at once on a GPU, for which a few large products are fast and many small ones are not


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, bias: Tensor | None = None, chunk: int | None = None
) -> Tensor:
    """Sum over N of the cross entropy of softmax(hidden weight^T + bias) with the labels, exactly.

    Never holds the (N, V) logits: they are computed `chunk` rows at a time and the gradients with them, in the forward
    pass, so that the memory is O(chunk V) besides the gradient of the weight. The products and probabilities are of the
    autocast type, to which the weight is cast once; the losses and the sum of the weight's gradients are in float32.

    hidden: (N, D). weight: (V, D). bias: (V,). labels: (N,) int64, those of `IGNORED` (-100) do not count.
    chunk: None: as `rows_at_once` says.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    chunk = rows_at_once(len(weight), dtype, kind) if chunk is None else chunk
    with torch.autocast(kind, enabled=False):
        return _ChunkedCrossEntropy.apply(hidden.to(dtype), weight, bias, labels, chunk)


def rows_at_once(vocabulary: int, dtype: torch.dtype, kind: str) -> int:
    """Rows of logits that are computed together on a kind of device ("cpu", "cuda", ...)."""
    return CPU_ROWS if kind == "cpu" else max(1, GPU_BYTES // (vocabulary * dtype.itemsize))


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk: int) -> Tensor:
        learning = any(ctx.needs_input_grad)
        matrix = weight.to(hidden.dtype)
        loss = torch.zeros((), device=hidden.device)
        whole = {"dtype": torch.float32}  # for a sum over chunks
        grads = [torch.empty_like(hidden), torch.zeros_like(weight, **whole), None] if learning else []
        if learning and bias is not None:
            grads[2] = torch.zeros_like(bias, **whole)
        # The same memory for all chunks: on a CPU fresh memory costs a quarter of the product that fills it.
        blocks, part = hidden.new_empty(2, min(chunk, len(hidden)), len(weight)), torch.empty_like(matrix)
        for start in range(0, len(hidden), chunk):
            rows, label = hidden[start : start + chunk], labels[start : start + chunk]  # (n, D), (n,)
            counts = label != IGNORED
            place = torch.arange(len(rows), device=rows.device), label.clamp(min=0)
            logits, probabilities = blocks[:, : len(rows)]  # (n, V) each
            torch.mm(rows, matrix.T, out=logits)
            if bias is not None:
                logits += bias
            torch.softmax(logits, 1, out=probabilities)
            # From the largest probability, which never underflows.
            log_likelihood = logits[place].float() - logits.amax(1).float() + probabilities.amax(1).float().log()
            loss -= (log_likelihood * counts).sum()
            if learning:  # d loss / d logits = softmax - one-hot
                error = probabilities.index_put_(place, log_likelihood.expm1().to(logits.dtype))
                error *= counts[:, None]
                torch.mm(error, matrix, out=grads[0][start : start + chunk])
                torch.mm(error.T, rows, out=part)
                for total, more in zip(grads[1].split(4096), part.split(4096), strict=True):
                    total += more  # in pieces, whose float32 copies are small
                if bias is not None:
                    grads[2] += error.sum(0, **whole)
        ctx.save_for_backward(*grads)
        ctx.dtypes = [hidden.dtype, weight.dtype, None if bias is None else bias.dtype]
        return loss

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = (
            None if grad is None else (grad * grad_loss.to(grad.dtype)).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return hidden, weight, bias, None, None
