"""Metrics the slow and obvious way: the oracles of the tests of ours."""

from collections.abc import Sequence
from itertools import product
from math import log


def roc_auc(truth: Sequence[bool], scores: Sequence[float]) -> float:
    """The share of (positive, negative) pairs in which the positive has the higher score; ties count half."""
    positives = [score for y, score in zip(truth, scores, strict=True) if y]
    negatives = [score for y, score in zip(truth, scores, strict=True) if not y]
    wins = sum((p > n) + 0.5 * (p == n) for p, n in product(positives, negatives))
    return wins / (len(positives) * len(negatives))


def log_loss(truth: Sequence[bool], scores: Sequence[float]) -> float:
    """Mean of -log P(truth), probabilities held at 1e-15 or more."""
    return -sum(log(max(p if y else 1 - p, 1e-15)) for y, p in zip(truth, scores, strict=True)) / len(truth)
