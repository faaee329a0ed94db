"""FLOPs per document token that PyTorch runs in training."""

import numpy as np

from pipeline.config import TrainConfig
from pipeline.evaluation.flops import training_flops_of
from pipeline.stream.order import Stream, StreamState
from pipeline.training.task import Task

RELATIVE_ERROR = 0.01
"""Standard error that is small enough, as a share of the mean."""
FEWEST_MICRO_BATCHES, MOST_MICRO_BATCHES = 16, 100


def training_flops_per_token(task: Task, options: TrainConfig) -> float:
    """FLOPs per document token of forward and backward pass, over the first micro-batches of training.

    Micro-batches differ by 10 % and more in a sentence-level model, as windows at the start of a document have fewer
    context-only sentences. So they are counted until the standard error of the mean is 1 %.
    """
    reading = Stream(task.train, options.micro_batch_tokens, options.seed, task.stream)
    module = task.module.train()
    device = next(module.parameters()).device
    flops: list[float] = []
    tokens: list[float] = []
    for plan, _ in reading.micro_batches(StreamState()):
        flops.append(training_flops_of(module, plan.batch().to(device)))
        tokens.append(plan.tokens)
        if len(flops) >= FEWEST_MICRO_BATCHES and (
            len(flops) == MOST_MICRO_BATCHES or _relative_error(flops, tokens) <= RELATIVE_ERROR
        ):
            break
    return sum(flops) / sum(tokens)


def _relative_error(flops: list[float], tokens: list[float]) -> float:
    """Standard error of the ratio of the sums, as a share of it."""
    flops_B, tokens_B = np.array(flops), np.array(tokens)
    rest_B = flops_B - tokens_B * (flops_B.sum() / tokens_B.sum())
    return float(rest_B.std(ddof=1) * np.sqrt(len(flops)) / flops_B.sum())
