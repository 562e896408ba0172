"""What a device could do at most, for the share of it that a run uses (MFU)."""

# Peak bfloat16 operations a second without sparsity, by a part of the device's name; from the makers' data sheets.
PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}


def peak_flops(device_name: str) -> float | None:
    """None for a device that is not in the table, CPUs among them."""
    return next((flops for name, flops in PEAK_FLOPS.items() if name in device_name), None)
