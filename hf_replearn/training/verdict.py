"""What a training step has come to: judged on the device, read by the host when it costs no waiting."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class Sent:
    """Numbers (n,) on their way to the host; on a CPU they are there.

    A GPU works through a queue that the host fills. Who asks for a number at once waits until the queue is empty, and
    then the GPU waits in its turn. A copy into pinned memory takes its place in the queue, and is read later.
    """

    def __init__(self, numbers: Tensor):
        self.numbers = numbers.to("cpu", non_blocking=True)
        self.arrival = arrival(numbers.device)

    def read(self) -> list[float]:
        """Waits until they have come, for what has been queued since then does not count."""
        if self.arrival is not None:
            self.arrival.synchronize()
        return self.numbers.tolist()


def arrival(device: torch.device) -> torch.Event | None:
    """The moment when a device has done what it was given until now; None on a CPU, which has done it."""
    if device.type == "cpu":
        return None
    event = torch.Event(device)
    event.record()
    return event


@dataclass
class Verdict:
    """Of one optimizer step.

    step:        its number, from 1.
    losses:      (micro-steps,), of this process.
    row_numbers: of its batches, (B,) each; None where rows have none.
    left_out:    (), 1 where the step has to change nothing, 0 otherwise; the same in all processes.
    sent:        left_out, whether a process was told to stop, the share of the time budget that is spent, the norm of
                 the gradient, and the losses.
    """

    step: int
    losses: Tensor
    row_numbers: list[Tensor | None]
    left_out: Tensor
    sent: Sent
