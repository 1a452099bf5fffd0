"""Log-mel energies of an encoder's frames, which MaskFeat predicts of recordings.

Shape legend: B recordings, S samples, T frames, W windows of a frame, M mels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from d2v.modalities.speech.config import SpeechEncoderConfig
from d2v.modalities.speech.data import HOP, MEL_FLOOR, WINDOW, mel_filters

LEVEL, SPREAD = -5.0, 3.0
"""About the mean and the standard deviation of log-mel energies of speech of unit variance, so that targets are near
0 and 1 whatever is trained on."""


def windows_of(step_samples: int) -> int:
    """W, one for each 10 ms from a frame to the next, at least one."""
    return max(step_samples // HOP, 1)


def log_mel_of_frames(waves_BS: Tensor, encoder: SpeechEncoderConfig, mels: int) -> Tensor:
    """(B, T, W M) logarithms of mel energies in windows of 25 ms that begin within the frame's step, window by window.

    A window that reaches beyond the end of a recording sees zeros there, as it does in padding.

    Args:
        waves_BS: at 16 kHz, of zero mean and unit variance.
        encoder: whose frames they are.
        mels: M.
    """
    frames, step = encoder.frames(waves_BS.shape[1]), encoder.step_samples
    windows = windows_of(step)
    hop = step // windows
    waves = F.pad(waves_BS.to(torch.promote_types(waves_BS.dtype, torch.float32)), (0, step + WINDOW))
    parts = [waves[:, hop * number :].unfold(1, WINDOW, step)[:, :frames] for number in range(windows)]
    windows_BTWS = torch.stack(parts, dim=2) * torch.hann_window(WINDOW, dtype=waves.dtype, device=waves.device)
    power = torch.fft.rfft(windows_BTWS).abs().square()
    energies_BTWM = power @ mel_filters(mels).to(power)
    return (((energies_BTWM / WINDOW + MEL_FLOOR).log() - LEVEL) / SPREAD).flatten(2)


def log_mel_flops(tokens: int, windows: int, mels: int) -> float:
    """Multiply-adds times two of the products with mel filters."""
    return 2.0 * tokens * windows * (WINDOW // 2 + 1) * mels
