"""The highest load that keeps an objective: a generator that yields probes and is sent what they found. Pure.

Bisecting on a noisy percentile claims too much: one lucky pass moves the bracket for good. So over rates the share of
requests beyond the limit is fitted against the rate through all probes, what is claimed is the lower end of the fit's
uncertainty, and a last, longer probe with fresh arrivals must certify it. Over concurrencies, which are few, a level
is decided only when the interval of its percentile clears the limit; until then it is measured longer.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from loadgen.estimate import Floats
from loadgen.plan import ClosedLoop, Load, OpenLoop, Search
from loadgen.slo import Slo, parse

BATCHES = 10
"""Equal parts of a probe's window, resampled to find how sure the fit is."""

BRACKET_STEPS, REFINE_STEPS, CERTIFY_TRIES, LOWER_TRIES = 4, 6, 3, 2
REFINE_FACTOR, CERTIFY_FACTOR = 2, 6
REFINE_OFFSET, STEP_DOWN = 0.05, 0.95
BRACKET_LOW = 0.2
REQUESTS_OVER = 5
"""A probe is long enough for so many requests beyond the limit when exactly the allowed share is."""

SLOPE_MIN = 2.0
RESAMPLES = 200
CLAIM_PERCENT = 5
UNSURE_DOUBLINGS = 2


@dataclass(frozen=True, slots=True)
class Probe:
    """A load to measure for so long, and what for: `floor`, `capacity`, `bracket`, `refine`, `certify` or `level`."""

    load: Load
    window_s: float
    purpose: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What a probe found; `due` and `over` count the requests of each batch, and those of them beyond the limit.

    `low_ns` and `high_ns` are the limits of the percentile's interval, None where there is none; `fault` says why the
    probe cannot be used.
    """

    throughput_per_s: float
    due: tuple[int, ...]
    over: tuple[int, ...]
    low_ns: float | None = None
    value_ns: float | None = None
    high_ns: float | None = None
    overloaded: bool = False
    fault: str = ""

    @property
    def share(self) -> float:
        """The share beyond the limit; all of it above capacity, where times grow with the length of the window."""
        return 1.0 if self.overloaded or not sum(self.due) else sum(self.over) / sum(self.due)


@dataclass(frozen=True, slots=True)
class Answer:
    """The highest load that keeps the objective, `value`; None if none was found to.

    `estimate` is where the fit puts the limit, `fails_at` the lowest load that surely breaks it; `certified` says
    that a probe of its own has shown `value` to keep it.
    """

    slo: str
    over: str
    value: float | None
    certified: bool
    reason: str
    estimate: float | None = None
    fails_at: float | None = None
    probes: int = 0

    @property
    def words(self) -> str:
        """The answer in a sentence."""
        unit = "/s" if self.over == "rate" else " in flight"
        after = [f"best estimate {self.estimate:.4g}{unit}"] if self.estimate is not None else []
        after += [f"fails at {self.fails_at:.4g}{unit}"] if self.fails_at is not None else []
        after += [f"{self.probes} probes"]
        found = "no load was shown to keep it" if self.value is None else f"{self.value:.4g}{unit}"
        certified = " certified" if self.certified else ", not certified" if self.value is not None else ""
        return f"{self.slo}: {found}{certified} ({self.reason}); {'; '.join(after)}"


Probing = Generator[Probe, Trial, Answer]


def search(asked: Search, seed: int = 0) -> Probing:
    """Look for the highest rate or concurrency that keeps the objective."""
    slo = parse(asked.slo)
    return over_rate(asked, slo, seed) if asked.over == "rate" else over_concurrency(asked, slo)


def over_rate(asked: Search, slo: Slo, seed: int) -> Probing:
    """Look for the highest rate: capacity, a bracket, a fit, and a probe that certifies the claim."""
    alone = yield Probe(ClosedLoop(1), asked.probe_s, "floor")
    if not alone.fault and alone.low_ns is not None and alone.low_ns > slo.limit_ns:
        words = f"p{slo.percent:g} is {_ms(alone.value_ns)} ms already with one request at a time"
        return _none(asked, 1, f"no rate keeps it: {words}")
    first = yield Probe(ClosedLoop(asked.saturation), asked.probe_s, "capacity")
    capacity = first.throughput_per_s
    if capacity <= 0:
        return _none(asked, 2, "the capacity is not known: nothing completed")
    rates, trials, faults = yield from _bracket(asked, slo, capacity)
    probes = 2 + len(trials) + len(faults)
    if all(trial.share > slo.allowed for trial in trials):
        lowest = f" down to {min(rates):.3g}/s" if rates else ""
        return _none(
            asked, probes, "; ".join([f"no rate{lowest} kept it", *faults]), fails_at=min(rates, default=None)
        )
    for step in range(REFINE_STEPS):
        centre = fitted_rate(rates, trials, slo.allowed)
        rate = _inside(centre * (1 + REFINE_OFFSET * (-1 if step % 2 == 0 else 1)), capacity)
        trial = yield _probe(asked, slo, rate, "refine", REFINE_FACTOR)
        probes += 1
        if trial.fault:
            faults.append(trial.fault)
        else:
            rates, trials = [*rates, rate], [*trials, trial]
    centre = _inside(fitted_rate(rates, trials, slo.allowed), capacity)
    claim = min(centre, _inside(claimed_rate(rates, trials, slo.allowed, seed), capacity))
    failing = [rate for rate, trial in zip(rates, trials, strict=True) if _surely_over(trial, slo)]
    return (yield from _certified(asked, slo, claim, (centre, min(failing, default=None), probes)))


def _bracket(
    asked: Search, slo: Slo, capacity: float
) -> Generator[Probe, Trial, tuple[list[float], list[Trial], list[str]]]:
    """Halve the bracket on a log scale; go lower while nothing has kept the objective."""
    rates: list[float] = []
    trials: list[Trial] = []
    faults: list[str] = []
    low, high = BRACKET_LOW * capacity, capacity
    for step in range(BRACKET_STEPS + LOWER_TRIES):
        kept = any(trial.share <= slo.allowed for trial in trials)
        if step >= BRACKET_STEPS and kept:
            break
        rate = math.sqrt(low * high) if step < BRACKET_STEPS else high * BRACKET_LOW
        trial = yield _probe(asked, slo, rate, "bracket")
        if trial.fault:
            faults.append(trial.fault)
            high = rate
            continue
        rates.append(rate)
        trials.append(trial)
        low, high = (low, rate) if trial.share > slo.allowed else (rate, high)
    return rates, trials, faults


def _certified(
    asked: Search, slo: Slo, claim: float, known: tuple[float, float | None, int]
) -> Generator[Probe, Trial, Answer]:
    estimate, fails_at, probes = known
    reasons = []
    for _ in range(CERTIFY_TRIES):
        trial = yield _probe(asked, slo, claim, "certify", CERTIFY_FACTOR)
        probes += 1
        if not trial.fault and not trial.overloaded and trial.high_ns is not None and trial.high_ns <= slo.limit_ns:
            words = f"p{slo.percent:g} {_ms(trial.value_ns)} [{_ms(trial.low_ns)} {_ms(trial.high_ns)}] ms"
            return Answer(slo.text, asked.over, claim, True, words, estimate, fails_at, probes)  # noqa: FBT003
        reasons.append(f"{claim:.3g}/s: {trial.fault or _uncertain(slo, trial)}")
        claim *= STEP_DOWN
    return Answer(slo.text, asked.over, None, False, "; ".join(reasons), estimate, fails_at, probes)  # noqa: FBT003


def over_concurrency(asked: Search, slo: Slo) -> Probing:
    """Look for the highest concurrency: double it until it breaks the objective, then halve what is between."""
    kept, broken, probes, sure = 0, asked.max_concurrency + 1, 0, True
    reason = ""
    level = 1
    while kept < broken - 1:
        verdict, trial, used = yield from _decided(asked, slo, level)
        probes += used
        if trial.fault:
            return _none(asked, probes, f"concurrency {level}: {trial.fault}", value=kept or None)
        if verdict == "kept":
            kept = level
            reason = f"p{slo.percent:g} {_ms(trial.value_ns)} [{_ms(trial.low_ns)} {_ms(trial.high_ns)}] ms"
        else:
            broken, sure = level, verdict == "broken"
        level = min(2 * kept, asked.max_concurrency) if broken > asked.max_concurrency else (kept + broken) // 2
    if kept == 0:
        words = "breaks it" if sure else "is not surely within it"
        return _none(asked, probes, f"concurrency 1 {words}", fails_at=1.0 if sure else None)
    fails_at = float(broken) if sure and broken <= asked.max_concurrency else None
    if broken > asked.max_concurrency:
        reason += f"; more than {asked.max_concurrency} was not tried"
    elif not sure:
        reason += f"; concurrency {broken} could not be decided"
    return Answer(slo.text, asked.over, float(kept), True, reason, None, fails_at, probes)  # noqa: FBT003


def _decided(asked: Search, slo: Slo, level: int) -> Generator[Probe, Trial, tuple[str, Trial, int]]:
    """Measure a level until its interval clears the limit, at least twice as long each time; or leave it unsure."""
    trial, used, window_s = Trial(0.0, (), ()), 0, asked.probe_s
    for _ in range(UNSURE_DOUBLINGS + 1):
        trial = yield Probe(ClosedLoop(level), window_s, "level")
        used += 1
        enough_s = REQUESTS_OVER / slo.allowed / trial.throughput_per_s if trial.throughput_per_s else 0.0
        window_s = min(max(2 * window_s, enough_s), asked.max_probe_s)
        if trial.fault:
            break
        if trial.high_ns is not None and trial.high_ns <= slo.limit_ns:
            return "kept", trial, used
        if trial.low_ns is not None and trial.low_ns > slo.limit_ns:
            return "broken", trial, used
    return "unsure", trial, used


def _probe(asked: Search, slo: Slo, rate: float, purpose: str, factor: int = 1) -> Probe:
    """Return a probe long enough for the objective's share to be seen at this rate, within the longest allowed."""
    window_s = factor * max(asked.probe_s, REQUESTS_OVER / slo.allowed / rate)
    return Probe(OpenLoop(rate, asked.arrivals, asked.cv), min(window_s, asked.max_probe_s), purpose)


def fitted_rate(rates: Sequence[float], trials: Sequence[Trial], allowed: float) -> float:
    """Return the rate at which logit(share beyond the limit) = a + b log(rate) reaches the share allowed."""
    due, over = _counts(trials)
    return float(_limits(np.log(rates), due.sum(axis=1)[None], over.sum(axis=1)[None], allowed)[0])


def claimed_rate(rates: Sequence[float], trials: Sequence[Trial], allowed: float, seed: int) -> float:
    """Return the lower end of the fitted rate: its 5th percentile over resampled batches of every probe."""
    due, over = _counts(trials)
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, BATCHES, (RESAMPLES, len(rates), BATCHES))
    places = np.arange(len(rates))[None, :, None]
    limits = _limits(np.log(rates), due[places, chosen].sum(axis=2), over[places, chosen].sum(axis=2), allowed)
    return float(np.percentile(limits, CLAIM_PERCENT))


def _counts(trials: Sequence[Trial]) -> tuple[Floats, Floats]:
    due = np.array([trial.due for trial in trials], float)
    over = np.array([trial.due if trial.overloaded else trial.over for trial in trials], float)
    return due, over


def _limits(log_rates: Floats, due: Floats, over: Floats, allowed: float) -> Floats:
    """Fit a logistic curve to each row of counts (iteratively reweighted least squares); return where it crosses.

    Half a request is added on either side, so that shares of 0 and 1 have a logit.
    """
    shares = (over + 0.5) / (due + 1)
    logits = np.log(shares / (1 - shares))
    x = np.broadcast_to(log_rates - log_rates.mean(), due.shape)
    working, weights = logits, (due + 1) * shares * (1 - shares)
    slope, offset = np.zeros(len(due)), np.zeros(len(due))
    for _ in range(25):
        total = weights.sum(axis=1)
        mean_x, mean_y = (weights * x).sum(axis=1) / total, (weights * working).sum(axis=1) / total
        spread = (weights * (x - mean_x[:, None]) ** 2).sum(axis=1)
        product = (weights * (x - mean_x[:, None]) * (working - mean_y[:, None])).sum(axis=1)
        slope = np.maximum(product / np.maximum(spread, 1e-12), SLOPE_MIN)
        offset = mean_y - slope * mean_x
        line = np.clip(offset[:, None] + slope[:, None] * x, -12, 12)
        fitted = 1 / (1 + np.exp(-line))
        weights = (due + 1) * fitted * (1 - fitted)
        working = line + (shares - fitted) / (fitted * (1 - fitted))
    crossing = (math.log(allowed / (1 - allowed)) - offset) / slope
    return np.asarray(np.exp(np.clip(crossing + log_rates.mean(), -50, 50)))


def _inside(rate: float, capacity: float) -> float:
    return min(max(rate, 1e-3 * capacity), capacity)


def _surely_over(trial: Trial, slo: Slo) -> bool:
    return trial.overloaded or (trial.low_ns is not None and trial.low_ns > slo.limit_ns)


def _uncertain(slo: Slo, trial: Trial) -> str:
    if trial.overloaded:
        return "above capacity"
    high = f"up to {_ms(trial.high_ns)} ms" if trial.high_ns is not None else "not bounded above"
    return f"p{slo.percent:g} is {high}"


def _none(
    asked: Search, probes: int, reason: str, *, fails_at: float | None = None, value: float | None = None
) -> Answer:
    return Answer(parse(asked.slo).text, asked.over, value, False, reason, None, fails_at, probes)  # noqa: FBT003


def _ms(value_ns: float | None) -> str:
    return "?" if value_ns is None else f"{value_ns / 1e6:.4g}"
