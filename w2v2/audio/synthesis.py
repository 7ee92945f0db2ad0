"""Synthetic talkers who say RAVDESS's two statements, or any sentence of sixteen words, in eight emotions.

A source-filter synthesizer (glottal pulses and noise through moving formants; Klatt, JASA 67, 1980).
Emotions differ as they do in speech: pitch, range and contour, tempo, loudness, spectral tilt, voice quality;
every actor has a voice, a microphone and a way of showing each emotion.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Complex, Float

Level = TypeVar("Level", float, np.ndarray)

SAMPLE_RATE_HZ = 48_000
NUM_ACTORS = 24
HOP = 256  # 5.3 ms, the step of all tracks
NUM_FFT = 4 * HOP

Emotion = Literal["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
EMOTIONS: tuple[Emotion, ...] = (
    "neutral",
    "calm",
    "happy",
    "sad",
    "angry",
    "fearful",
    "disgust",
    "surprised",
)


@dataclass(frozen=True, kw_only=True)
class Manner:
    """Manner of speaking, apart from the voice; the defaults are neutral."""

    pitch_st: float = 0.0  # semitones from the actor's own
    accent_st: float = 2.5  # how far an accent rises
    final_st: float = -2.0  # where the last syllable goes
    tempo_log: float = 0.0
    loudness_db: float = 0.0
    tilt_db: float = 0.0  # per octave above 500 Hz
    breath_db: float = -30.0  # noise against pulses
    jitter: float = 0.01  # irregularity of a period
    tremor_st: float = 0.0
    tract_log: float = 0.0  # a smile's shorter tract raises all formants


# Directions after Banse and Scherer (1996) and Juslin and Laukka (2003), sizes by trial and error: an SVM on MFCC
# statistics and a small network trained from scratch are both far from chance and from perfect.
MANNERS: dict[Emotion, Manner] = {
    "neutral": Manner(),
    "calm": Manner(pitch_st=-1, accent_st=1.5, tempo_log=-0.14, loudness_db=-3, tilt_db=-1.5, breath_db=-24),
    "happy": Manner(
        pitch_st=3.5, accent_st=5, final_st=-1, tempo_log=0.06, loudness_db=4, tilt_db=1.5, tract_log=0.04
    ),
    "sad": Manner(
        pitch_st=-0.5, accent_st=1, final_st=-4, tempo_log=-0.26, loudness_db=-6, tilt_db=-3, breath_db=-18
    ),
    "angry": Manner(
        pitch_st=3, accent_st=4, final_st=-5, tempo_log=0.1, loudness_db=9, tilt_db=3.5, breath_db=-36, jitter=0.025
    ),
    "fearful": Manner(
        pitch_st=6, accent_st=1.5, final_st=0, tempo_log=0.24, loudness_db=1, breath_db=-20, jitter=0.025, tremor_st=0.7
    ),
    "disgust": Manner(
        pitch_st=-1.5, accent_st=3.5, final_st=-5, tempo_log=-0.18, loudness_db=1, jitter=0.045, tract_log=-0.05
    ),
    "surprised": Manner(
        pitch_st=5, accent_st=6, final_st=6, tempo_log=0.08, loudness_db=3, tilt_db=1, breath_db=-26
    ),
}  # fmt: skip
# Standard deviation of what an actor adds to an emotion, for every field above; a clip adds 0.7 of it again.
SPREAD = Manner(
    pitch_st=0.9, accent_st=0.5, final_st=0.8, tempo_log=0.05, loudness_db=1.5, tilt_db=0.7, breath_db=2.5,
    jitter=0.004, tremor_st=0.08, tract_log=0.01,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A voice, its microphone and its way of showing emotion."""

    pitch_hz: float
    tract_scale: float
    tempo: float
    open_fraction: float  # of a glottal period
    level_db: float
    tilt_db: float
    noise_db: float
    strengths: Float[np.ndarray, " emotions"]
    offsets: Float[np.ndarray, "emotions fields"]


@dataclass(frozen=True, kw_only=True)
class Phone:
    """A speech sound's targets: three formants, and the levels of voice and noise."""

    duration_s: float
    formants_hz: tuple[int, int, int]
    voice_db: float = 0.0
    noise_db: float = -80.0
    noise_hz: float = 4000.0


PHONES = {
    "PAUSE": Phone(duration_s=0.07, formants_hz=(450, 1500, 2500), voice_db=-80),
    "IH": Phone(duration_s=0.085, formants_hz=(400, 2000, 2550)),
    "AA": Phone(duration_s=0.11, formants_hz=(730, 1150, 2440)),
    "AO": Phone(duration_s=0.13, formants_hz=(580, 880, 2450)),
    "AY": Phone(duration_s=0.12, formants_hz=(640, 1500, 2500)),
    "AH": Phone(duration_s=0.06, formants_hz=(600, 1200, 2400), voice_db=-3),
    "R": Phone(duration_s=0.07, formants_hz=(420, 1250, 1650), voice_db=-5),
    "NG": Phone(duration_s=0.06, formants_hz=(280, 2100, 2700), voice_db=-10),
    "DH": Phone(duration_s=0.04, formants_hz=(300, 1400, 2500), voice_db=-14, noise_db=-34, noise_hz=5500),
    "Z": Phone(duration_s=0.06, formants_hz=(280, 1700, 2600), voice_db=-14, noise_db=-22, noise_hz=6500),
    "S": Phone(duration_s=0.1, formants_hz=(320, 1700, 2600), voice_db=-60, noise_db=-16, noise_hz=7000),
    "B": Phone(duration_s=0.055, formants_hz=(250, 900, 2300), voice_db=-22, noise_db=-40, noise_hz=1000),
    "D": Phone(duration_s=0.05, formants_hz=(250, 1700, 2600), voice_db=-22, noise_db=-28, noise_hz=4500),
    "G": Phone(duration_s=0.055, formants_hz=(250, 2000, 2400), voice_db=-22, noise_db=-30, noise_hz=2200),
    "T": Phone(duration_s=0.07, formants_hz=(350, 1700, 2600), voice_db=-60, noise_db=-20, noise_hz=5000),
    "K": Phone(duration_s=0.075, formants_hz=(350, 1900, 2400), voice_db=-60, noise_db=-22, noise_hz=2500),
}
# Kids are talking by the door; Dogs are sitting by the door. 1 marks an accent.
STATEMENTS = (
    "PAUSE K IH1 D Z AA R T AO1 K IH NG PAUSE B AY DH AH D AO1 R PAUSE",
    "PAUSE D AO1 G Z AA R S IH1 T IH NG PAUSE B AY DH AH D AO1 R PAUSE",
)
# The words of RAVDESS's statements and others of the same phones.
WORDS = {
    "are": "AA R", "bark": "B AA1 R K", "big": "B IH1 G", "by": "B AY", "dark": "D AA1 R K", "dogs": "D AO1 G Z",
    "door": "D AO1 R", "guys": "G AY1 Z", "kids": "K IH1 D Z", "ride": "R AY1 D", "sitting": "S IH1 T IH NG",
    "sky": "S K AY1", "song": "S AO1 NG", "star": "S T AA1 R", "talking": "T AO1 K IH NG", "the": "DH AH",
}  # fmt: skip


def synthesize_sentence(
    actor: int, words: Sequence[str], emotion: Emotion, *, take: int = 1, seed: int = 0
) -> Float[np.ndarray, " samples"]:
    """A waveform at 48 kHz in [-1, 1] of one actor (1 to 24, odd are male) saying some of WORDS.

    The same arguments give the same waveform; another `take` is another one of the same words.
    """
    index = EMOTIONS.index(emotion)
    places = [sorted(WORDS).index(word) for word in words]
    rng = np.random.default_rng((seed, actor, index + 1, take, *places))
    voice = _actor(actor, seed)
    manner = _manner(voice, index, 1, rng)
    phones = ["PAUSE", *(phone for word in words for phone in WORDS[word].split()), "PAUSE"]
    return _record(_speak(voice, manner, phones, rng), voice, manner, rng)


def synthesize(
    actor: int,
    emotion: Emotion,
    *,
    intensity: int = 1,
    statement: int = 1,
    repetition: int = 1,
    seed: int = 0,
) -> Float[np.ndarray, " samples"]:
    """A waveform at 48 kHz in [-1, 1] of one actor (1 to 24, odd are male) saying one statement.

    The same arguments give the same waveform; another `repetition` is another take of it.
    """
    index = EMOTIONS.index(emotion)
    rng = np.random.default_rng((seed, actor, index + 1, intensity, statement, repetition))
    voice = _actor(actor, seed)
    manner = _manner(voice, index, intensity, rng)
    return _record(_speak(voice, manner, STATEMENTS[statement - 1].split(), rng), voice, manner, rng)


def _actor(number: int, seed: int) -> Actor:
    rng = np.random.default_rng((seed, number))
    female = number % 2 == 0
    return Actor(
        pitch_hz=(200 if female else 115) * 2 ** (rng.normal(0, 2) / 12),
        tract_scale=(1.15 if female else 1.0) * np.exp(rng.normal(0, 0.035)),
        tempo=np.exp(rng.normal(0.25, 0.07)),
        open_fraction=rng.uniform(0.5, 0.65),
        level_db=rng.normal(-30, 2),
        tilt_db=rng.normal(0, 0.8),
        noise_db=rng.uniform(-72, -60),
        strengths=rng.uniform(0.8, 1.3, len(EMOTIONS)),
        offsets=rng.standard_normal((len(EMOTIONS), len(fields(Manner)))) * astuple(SPREAD),
    )


def _manner(voice: Actor, index: int, intensity: int, rng: np.random.Generator) -> Manner:
    neutral, shown = np.array(astuple(Manner())), np.array(astuple(MANNERS[EMOTIONS[index]]))
    strength = voice.strengths[index] * (1.0 if intensity == 1 else 1.4)
    noise = voice.offsets[index] + 0.7 * rng.standard_normal(len(neutral)) * astuple(SPREAD)
    values = neutral + strength * (shown - neutral) + noise
    return Manner(**{field.name: float(value) for field, value in zip(fields(Manner), values, strict=True)})


def _speak(
    voice: Actor, manner: Manner, statement: Sequence[str], rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    phones = [PHONES[name.rstrip("1")] for name in statement]
    durations_s = np.array([phone.duration_s for phone in phones]) * np.exp(rng.normal(0, 0.08, len(phones)))
    # Slow speech slows its pauses most.
    slowness = [2.5 if name == "PAUSE" else 1 for name in statement] * np.array(-manner.tempo_log)
    ends_s = np.cumsum(durations_s * np.exp(slowness) / voice.tempo)
    middles_s = (ends_s + np.append(0, ends_s[:-1])) / 2
    frames_s = np.arange(0, ends_s[-1], HOP / SAMPLE_RATE_HZ)
    place = frames_s / ends_s[-1]
    accents_s = middles_s[[name.endswith("1") for name in statement]]
    accent = np.exp(-(((frames_s[:, None] - accents_s) / 0.09) ** 2)).sum(axis=1)
    # Targets glide from one phone's middle to the next.
    targets = np.array([(*p.formants_hz, p.voice_db, p.noise_db, p.noise_hz) for p in phones], dtype=float).T
    *formants_hz, voice_db, noise_db, noise_hz = (
        np.interp(frames_s, middles_s, target) for target in targets
    )
    source = _source(_pitch_hz(voice, manner, accent, frames_s, rng), voice, manner, rng)
    effort_db = 1.5 * manner.accent_st * (accent - 0.4) - 4 * place
    effort_db += 4 * max(manner.tremor_st, 0) * np.sin(2 * np.pi * rng.uniform(5, 8) * frames_s)
    voiced = source * _samples(_ratio(voice_db + effort_db))
    hiss = rng.standard_normal(len(source)) * _samples(_ratio(noise_db))
    tract = _tract(np.stack(formants_hz) * voice.tract_scale * np.exp(manner.tract_log))
    spectrum = _spectrum(voiced) * tract + _spectrum(hiss) * _peak(noise_hz, 1500.0)
    octaves = np.log2(np.clip(_bins_hz(), 500, 8000) / 500)
    return _overlap_add(spectrum * _ratio((manner.tilt_db + voice.tilt_db) * octaves))


def _pitch_hz(
    voice: Actor,
    manner: Manner,
    accent: Float[np.ndarray, " frames"],
    frames_s: Float[np.ndarray, " frames"],
    rng: np.random.Generator,
) -> Float[np.ndarray, " frames"]:
    place = frames_s / frames_s[-1]
    semitones = manner.pitch_st + manner.accent_st * (accent - 0.4) + 2 - 4 * place
    semitones += manner.final_st * np.clip((place - 0.7) / 0.25, 0, 1)
    semitones += max(manner.tremor_st, 0) * np.sin(2 * np.pi * (rng.uniform(5, 8) * frames_s + rng.uniform()))
    return voice.pitch_hz * 2 ** (semitones / 12)


def _source(
    pitch_hz: Float[np.ndarray, " frames"], voice: Actor, manner: Manner, rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    # Rosenberg's glottal pulses (JASA 49, 1971), differentiated by the lips, and breath while it is open.
    steps = _samples(pitch_hz) / SAMPLE_RATE_HZ
    cycle = np.cumsum(steps).astype(int)
    jitter, shimmer = 1 + np.multiply([[1], [3]], max(manner.jitter, 0)) * rng.standard_normal(
        (2, cycle[-1] + 1)
    )
    place = np.cumsum(steps * jitter[cycle]) % 1
    rise = 0.67 * np.clip(voice.open_fraction - 0.02 * manner.tilt_db, 0.35, 0.8)
    falling = np.cos(np.pi / 2 * np.clip(2 * (place - rise) / rise, 0, 1))
    flow = np.where(place < rise, 0.5 - 0.5 * np.cos(np.pi * place / rise), falling)
    pulses = np.diff(flow, prepend=0.0) * shimmer[cycle]
    breath = rng.standard_normal(len(flow)) * (0.3 + flow)
    return pulses / pulses.std() + breath * _ratio(manner.breath_db)


def _tract(formants_hz: Float[np.ndarray, "3 frames"]) -> Float[np.ndarray, "frames bins"]:
    peaks = [
        _peak(hz, width_hz) * gain
        for hz, width_hz, gain in zip(formants_hz, (45, 60, 90), (1, 0.7, 0.5), strict=True)
    ]
    higher = [_peak(hz * formants_hz[2] / 2500, 150) * 0.3 for hz in (3500, 4500)]
    return np.sqrt(sum(peak**2 for peak in peaks + higher))


def _record(
    waveform: Float[np.ndarray, " samples"], voice: Actor, manner: Manner, rng: np.random.Generator
) -> Float[np.ndarray, " samples"]:
    loud = waveform * _ratio(voice.level_db + manner.loudness_db) / np.sqrt(np.mean(waveform**2))
    return np.tanh(loud + rng.standard_normal(len(loud)) * _ratio(voice.noise_db))


def _ratio(db: Level) -> Level:
    return 10.0 ** (db / 20)


def _bins_hz() -> Float[np.ndarray, " bins"]:
    return np.fft.rfftfreq(NUM_FFT, 1 / SAMPLE_RATE_HZ)


def _peak(center_hz: Float[np.ndarray, " frames"], width_hz: float) -> Float[np.ndarray, "frames bins"]:
    # The magnitude of a resonance, half as strong in power `width_hz` from its center.
    return 1 / np.sqrt(1 + ((_bins_hz() - center_hz[:, None]) / width_hz) ** 2)


def _samples(track: Float[np.ndarray, " frames"]) -> Float[np.ndarray, " samples"]:
    return np.interp(np.arange(len(track) * HOP) / HOP, np.arange(len(track)), track)


def _spectrum(waveform: Float[np.ndarray, " samples"]) -> Complex[np.ndarray, "frames bins"]:
    # Frames of two hops under a window whose shifts sum to one.
    padded = np.append(waveform, np.zeros(HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * HOP)[::HOP]
    return np.fft.rfft(frames * np.hanning(2 * HOP + 1)[:-1], NUM_FFT)


def _overlap_add(spectrum: Complex[np.ndarray, "frames bins"]) -> Float[np.ndarray, " samples"]:
    # The filters are even in time: their tails on both sides wrap around within a frame.
    frames = np.roll(np.fft.irfft(spectrum, NUM_FFT), HOP, axis=1).reshape(-1, 4, HOP)
    hops = np.zeros((len(frames) + 3, HOP))
    for number in range(4):
        hops[number : number + len(frames)] += frames[:, number]
    return hops[1:-2].ravel()
