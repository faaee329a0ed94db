"""FLOPs per document token that PyTorch runs in training."""

from itertools import islice

from pipeline.config import TrainConfig
from pipeline.evaluation.flops import training_flops_of
from pipeline.stream.order import Stream, StreamState
from pipeline.training.task import Task


def training_flops_per_token(task: Task, options: TrainConfig) -> float:
    """FLOPs per document token of forward and backward pass, over a few micro-batches of training."""
    reading = Stream(task.train, options.micro_batch_tokens, options.seed, task.stream)
    module = task.module.train()
    device = next(module.parameters()).device
    plans = [plan for plan, _ in islice(reading.micro_batches(StreamState()), 3)]
    flops = sum(training_flops_of(module, plan.batch().to(device)) for plan in plans)
    return flops / sum(plan.tokens for plan in plans)
