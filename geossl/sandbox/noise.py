"""Random fields: fractal noise by FFT, rank transforms, hashes. Every field comes from a generator that was passed in.

Fields are float32 (y, x) on the sandbox's 10 m pixels; wavelengths are in pixels.
"""

from __future__ import annotations

import numpy as np
from scipy import fft
from scipy.special import ndtri

Field = np.ndarray


def generator(seed: int, *key: int) -> np.random.Generator:
    """An independent generator for one purpose: the same seed and key give the same numbers, whatever ran before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def fractal(
    side: int,
    rng: np.random.Generator,
    wavelength: float,
    slope: float = 3.0,
    stretch: float = 1.0,
    angle: float = 0.0,
) -> Field:
    """Noise with a power spectrum flat up to ``1 / wavelength`` and falling as ``frequency ** -slope`` beyond.

    Args:
        side: pixels a side of the square field.
        rng: generator.
        wavelength: longest wavelength with full power, pixels; no longer than two thirds of the side.
        slope: how smooth: 2 is ragged, 4 smooth.
        stretch: how many times longer structures are along ``angle`` than across.
        angle: direction of the stretch, radians anticlockwise from the x axis.

    Returns:
        (side, side) float32 with mean 0 and standard deviation 1.
    """
    wavelength = min(wavelength, side / 1.5)
    whole = fft.next_fast_len(side + max(8, int(0.3 * side)), real=True)  # an FFT field repeats: a margin hides that
    spectrum = fft.rfft2(rng.standard_normal((whole, whole), dtype=np.float32))
    fy = fft.fftfreq(whole).astype(np.float32)[:, None]
    fx = fft.rfftfreq(whole).astype(np.float32)[None, :]
    along = fx * np.float32(np.cos(angle)) - fy * np.float32(np.sin(angle))
    across = fx * np.float32(np.sin(angle)) + fy * np.float32(np.cos(angle))
    along *= np.float32(np.sqrt(stretch) * wavelength)
    across *= np.float32(wavelength / np.sqrt(stretch))
    gain = np.hypot(along, across, out=along)  # in place: these arrays are larger than the field
    del across
    np.maximum(gain, 1, out=gain)
    # in double precision and rounded: single-precision powers differ in their last bit between processors
    spectrum *= np.power(gain, -slope / 2, out=gain, dtype=np.float64, casting="same_kind")
    spectrum[0, 0] = 0
    field = fft.irfft2(spectrum, s=(whole, whole), overwrite_x=True)[:side, :side].astype(np.float32)
    field -= field.mean()
    field /= field.std()
    return field


def ranks(field: Field) -> Field:
    """Each value's rank as a share: uniform over 0…1, same order."""
    order = np.argsort(field, axis=None, kind="stable")
    shares = np.empty(field.size, np.float32)
    shares[order] = (np.arange(field.size, dtype=np.float32) + 0.5) / field.size
    return shares.reshape(field.shape)


def gaussian(field: Field) -> Field:
    """The field with its values replaced, in order, by those of a standard normal distribution."""
    return ndtri(ranks(field)).astype(np.float32)


def hash01(*keys: np.ndarray | int) -> np.ndarray:
    """Integers to numbers in 0…1 that look random and depend on the keys alone (splitmix64). Shape: broadcast keys."""
    state = np.full((), 0x9E3779B97F4A7C15, np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            number = np.asarray(key).astype(np.int64).astype(np.uint64)
            state = np.asarray((number + state) * np.uint64(0xBF58476D1CE4E5B9))
            state = np.asarray((state ^ (state >> np.uint64(29))) * np.uint64(0x94D049BB133111EB))
            state = np.asarray(state ^ (state >> np.uint64(32)))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) / float(1 << 53))


def smoothstep(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)
