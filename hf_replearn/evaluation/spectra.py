"""What encoders of sounds must beat: the spectrum of a sound, over all of its time.

B sounds, T samples, M mel bands
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import BatchFeature
from transformers.audio_utils import mel_filter_bank

BANDS = 40
SPECTRA = {  # row of a table -> whether the deviation over time is beside the mean
    f"mel spectrum, mean over time ({BANDS})": False,
    f"mel spectrum, mean and deviation ({2 * BANDS})": True,
}


class MelSpectrum(nn.Module):
    """What was there before networks: mean over time of the logarithm of the power in mel bands (B, M), and with
    `deviation` its standard deviation over time beside it (B, 2 M). Frames of 25 to 50 ms, one each 10 ms."""

    def __init__(self, rate: int, *, deviation: bool):
        super().__init__()
        self.deviation, self.hop, self.size = deviation, max(1, rate // 100), 2 ** (rate // 40).bit_length()
        bank = mel_filter_bank(self.size // 2 + 1, BANDS, 0, rate / 2, rate, norm="slaney", mel_scale="slaney")
        self.register_buffer("bank", torch.from_numpy(bank).float())
        self.register_buffer("shape", torch.hann_window(self.size))

    def forward(self, batch: BatchFeature) -> Tensor:
        waves, length = batch["input_values"], batch["attention_mask"].sum(1)
        waves = nn.functional.pad(waves, (0, max(0, self.size - waves.shape[1])))
        spectra = torch.stft(waves, self.size, self.hop, window=self.shape, center=False, return_complex=True)
        power = (spectra.abs().square().mT @ self.bank + 1e-8).log()  # (B, frames, M)
        count = ((length - self.size) // self.hop + 1).clamp(min=1)
        there = (torch.arange(power.shape[1], device=power.device) < count[:, None])[:, :, None]
        mean = (power * there).sum(1) / count[:, None]
        if not self.deviation:
            return mean
        variance = ((power - mean[:, None]).square() * there).sum(1) / count[:, None]
        return torch.cat([mean, variance.sqrt()], dim=1)
