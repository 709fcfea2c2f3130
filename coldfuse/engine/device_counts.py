"""Count values in windows on a device: what `selection.count` does, with the same integers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from coldfuse.fusion.block import Float64
from coldfuse.fusion.selection import Counts, Windows

if TYPE_CHECKING:
    import torch

_JUNK_BINS = 1 << 12
"""Values outside of a window are counted, too, and not looked at: in turns in so many bins, as thousands of threads
that add to the same one have to wait for each other."""


class DeviceCounts:
    """Counters on a device, for one task."""

    def __init__(self, windows: Windows, device: str) -> None:
        import torch

        count = len(windows.low_R)
        self._windows = windows
        self._below_R = torch.zeros(count, dtype=torch.int64, device=device)
        self._bins_RB = torch.zeros((count, windows.num_bins + _JUNK_BINS), dtype=torch.int32, device=device)

    def add(self, values_RN: Float64) -> None:
        """Count a block of values, which lies on the device."""
        import torch

        keys_RN = cast("torch.Tensor", values_RN).float().abs().view(torch.int32)
        windows, num_bins = self._windows, self._windows.num_bins
        junk_N = num_bins + torch.arange(keys_RN.shape[1], device=keys_RN.device) % _JUNK_BINS
        one_N = torch.ones(1, dtype=torch.int32, device=keys_RN.device).expand(keys_RN.shape[1])
        for r, (row, low, shift) in enumerate(
            zip(windows.row_R.tolist(), windows.low_R.tolist(), windows.shift_R.tolist(), strict=True)
        ):
            if shift >= 0:
                offset_N = keys_RN[row] - low
                self._below_R[r] += (offset_N < 0).sum()
                bin_N = offset_N >> shift  # below the window it is negative
                is_inside_N = (bin_N >= 0) & (bin_N < num_bins)
                self._bins_RB[r].scatter_add_(0, torch.where(is_inside_N, bin_N, junk_N), one_N)

    def total(self) -> Counts:
        """Bring the counts to the CPU."""
        bins_RB = self._bins_RB[:, : self._windows.num_bins]
        return Counts(self._below_R.cpu().numpy(), bins_RB.cpu().numpy())
