"""Memory per GPU in training: weights, gradients and optimizer under each ZeRO stage, and activations.

The first three are exact (arXiv 1910.02054, section 3, with the copies that DeepSpeed keeps). Activations are an
estimate within a factor of two: each matrix keeps its inputs and outputs for the backward pass.
"""

from dataclasses import dataclass

from torch import nn

from pipeline.config.models import Precision
from pipeline.evaluation.flops import Model, ModelPart, Workload, model_parts, num_parameters
from pipeline.models.cross_entropy import WHOLE_LOGITS

STAGES = (0, 1, 2, 3)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on each GPU."""

    weights: float
    gradients: float
    optimizer: float
    """Adam's two moments in fp32, and the fp32 weights of mixed precision and ZeRO."""
    activations: float

    @property
    def total(self) -> float:
        """The sum; buffers of the framework and fragmentation are not included."""
        return self.weights + self.gradients + self.optimizer + self.activations


def training_memory(
    module: nn.Module, stage: int, num_gpus: int, precision: Precision, activations: float = 0.0
) -> TrainingMemory:
    """Memory of each of `num_gpus` GPUs under ZeRO `stage`. Frozen weights have no gradient and no optimizer state."""
    value = 4 if precision == "fp32" else 2
    trained, all_ = num_parameters(module, trained=True), num_parameters(module)
    has_master = precision != "fp32" or stage > 0
    weights, gradients = float(value * all_), float(value * trained)
    if (
        precision != "fp32" and stage >= 1
    ):  # DeepSpeed sums them in fp32; at stage 1 beside those of a micro-batch
        gradients = float((4 if stage >= 2 else 6) * trained)
    optimizer = float((12 if has_master else 8) * trained)
    if stage >= 1:
        optimizer /= num_gpus
    if stage >= 2:
        gradients /= num_gpus
    if stage >= 3:
        weights /= num_gpus
    return TrainingMemory(weights, gradients, optimizer, activations)


def activation_bytes(model: Model, work: Workload, precision: Precision) -> float:
    """Estimated bytes that a micro-batch of `work` keeps for the backward pass, with fused attention."""
    value = 4 if precision == "fp32" else 2
    return sum(_part_bytes(part, work, value) for part in model_parts(model) if part.has_backward)


def _part_bytes(part: ModelPart, work: Workload, value: int) -> float:
    positions = work.positions(part.positions)
    if part.name != "head":
        return value * positions * part.features
    # Logits in the precision of the products, in fp32, and their softmax; in chunks where they are many.
    logits = min(positions * part.features, WHOLE_LOGITS)
    return (value + 8.0) * logits
