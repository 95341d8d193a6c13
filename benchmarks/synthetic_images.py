"""Synthetic pictures, 48 x 48: nothing that ImageNet shows."""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.case_images import SEED, Picture

SIDE = 48
Maker = Callable[[np.random.Generator], np.ndarray]  # -> float (SIDE, SIDE)


def pictures(kinds: dict[str, Maker], train: int, test: int) -> Iterator[tuple[str, str, Picture]]:
    """Yield `train` and `test` pictures of each kind; brightness and contrast say nothing of the class."""
    generator = np.random.default_rng(SEED)
    for label, make in kinds.items():
        for place in range(train + test):
            yield "train" if place < train else "test", label, _as_picture(make(generator), generator)


def _as_picture(values: np.ndarray, generator: np.random.Generator) -> Picture:
    standard = (values - values.mean()) / max(values.std(), 1e-6)
    level = generator.uniform(100, 156) + generator.uniform(25, 50) * standard
    return np.repeat(np.clip(level, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def power_noise(exponent: float) -> Maker:
    """Return a maker of noise whose amplitude falls with frequency to the power `exponent`."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    frequency[0, 0] = 1

    def make(generator: np.random.Generator) -> np.ndarray:
        spectrum = np.fft.fft2(generator.standard_normal((SIDE, SIDE))) / frequency**exponent
        return np.fft.ifft2(spectrum).real

    return make


TEXTURES = {f"slope-{exponent:.1f}": power_noise(exponent) for exponent in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)}


def _spectrogram(track: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Maker:
    """Return a maker of a spectrogram in noise: time to the right, a tone's frequency (0 to 1) along `track`."""
    time, frequency = np.linspace(0, 1, SIDE), np.linspace(1, 0, SIDE)[:, None]

    def make(generator: np.random.Generator) -> np.ndarray:
        tone = np.exp(-(((frequency - track(time, generator)) / 0.04) ** 2))
        return 1.2 * tone + generator.exponential(0.7, (SIDE, SIDE))

    return make


def _steady(time: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return np.full_like(time, generator.uniform(0.1, 0.9))


def _line(sign: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def track(time: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(0.3, 0.7) + sign * generator.uniform(0.1, 0.5) * (time - 0.5)

    return track


def _wave(least: float, most: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    def track(time: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        turns, phase = generator.uniform(least, most), generator.uniform(0, 2 * np.pi)
        middle, width = generator.uniform(0.3, 0.7), generator.uniform(0.05, 0.15)
        return middle + width * np.sin(2 * np.pi * turns * time + phase)

    return track


SPECTROGRAMS = {
    "steady": _spectrogram(_steady),
    "rising": _spectrogram(_line(1)),
    "falling": _spectrogram(_line(-1)),
    "slow-trill": _spectrogram(_wave(1.0, 1.8)),
    "fast-trill": _spectrogram(_wave(2.2, 4.0)),
}
