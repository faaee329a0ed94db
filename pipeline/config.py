"""The one configuration tree: YAML plus dotted overrides, frozen, unknown keys refused.

`load_config("demo.yaml", ["vae.num_layers=2"])` is the one way in. Every job reads the sections it needs.
"""

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ConfigError


class Section(BaseModel):
    """A frozen part of the tree; the docstring under a field is its description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataConfig(Section):
    """Which text to read, and how."""

    inputs: tuple[str, ...] = ()
    """Files, folders, globs or fsspec URLs; `datasets:NAME[:SPLIT]`; `python-docs:` for the documentation
    that comes with Python and the packages installed beside it."""
    dev_inputs: tuple[str, ...] = ()
    """Inputs whose documents all go to the dev split."""
    dev_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the documents of `inputs` that goes to the dev split, chosen by a hash of the document id."""
    format: Literal["auto", "text", "jsonl", "parquet", "arrow", "csv"] = "auto"
    """Format of the files; `auto` goes by the file name."""
    text_field: str = "text"
    """Field or column that holds the text."""
    id_field: str = "id"
    """Field or column that holds the document id; where it is missing, `file#row` is used."""
    max_bytes: int | None = Field(default=None, gt=0)
    """Stop after about this many bytes of text (a whole number of documents), for trials."""
    max_document_bytes: int = Field(default=256 * 2**20, gt=0)
    """A larger document is rejected."""
    max_rejected_fraction: float = Field(default=0.01, ge=0.0, le=1.0)
    """Share of documents that may be rejected before the job fails."""


class SegmenterConfig(Section):
    """Which segmenter cuts the text."""

    name: str = "punctuation_v1"
    """A versioned name (`sllm segment --list` shows all) or `package.module:Class`."""
    options: dict[str, Any] = {}
    """Options of that segmenter."""


class SegmenterSource(Section):
    """A file that `learned_v1` is trained on."""

    path: str
    """The file, gzip or plain."""
    weight: float = Field(default=1.0, gt=0)
    """How often its texts are used: 2 is twice each, 0.5 is every other one, chosen by the seed."""


class SegmenterTrainConfig(Section):
    """How `learned_v1` is trained."""

    gold: tuple[SegmenterSource, ...] = ()
    """Files with known boundaries: JSONL with `text` and `ends`, or CoNLL-U."""
    raw: tuple[SegmenterSource, ...] = ()
    """JSONL files with `text`, for self-supervision: boundaries are the rule's, then what it saw is removed."""
    start_from: str | None = None
    """Weights to adapt: a file, or `shipped`; none: from scratch."""
    held_out_fraction: float = Field(default=0.06, gt=0, lt=1)
    """Share of the texts of each gold file that is scored and not trained on."""
    steps: int = Field(default=1500, ge=1)
    """Optimizer steps of 8,192 words and marks each."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate of a one-cycle schedule."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout on the embeddings."""
    hide_words: float = Field(default=0.1, ge=0, lt=1)
    """Share of words hidden in each step, so that the model does not lean on single words."""
    weight_decay: float = Field(default=0.1, ge=0)
    """AdamW weight decay, on matrices only."""
    num_threads: int | None = Field(default=None, ge=1)
    """Threads of torch; the weights are reproduced exactly for the same number. None: torch's choice."""
    seed: int = 0
    """Seed of the mix, the weights and the order."""
    licence_note: str = ""
    """Sentence on the licences of the data, for the model card."""


class TokenizerConfig(Section):
    """Which tokenizer, or how to train one."""

    path: str | None = None
    """Folder or hub name of a Hugging Face fast tokenizer; none: a byte-level BPE is trained on the corpus."""
    vocab_size: int = Field(default=8192, ge=260)
    """Vocabulary of a trained tokenizer."""
    train_bytes: int = Field(default=32 * 2**20, gt=0)
    """Bytes of text, from the start of the corpus, that a tokenizer is trained on."""


class PrepareConfig(Section):
    """How text becomes shards."""

    num_workers: int = Field(default=2, ge=1)
    """Ray workers that read, segment, tokenize and write."""
    split_bytes: int | None = Field(default=None, gt=0)
    """Bytes of (uncompressed) input text in one split, the unit of work; a split makes one shard. None: a 64th
    of the corpus, but between 2 and 64 MiB."""
    max_sentence_tokens: int = Field(default=64, ge=1)
    """A longer sentence is split at its best inner place, never cut off."""
    overwrite: bool = False
    """Replace shards in `output` that were made with another tokenizer, segmenter or options."""


class TrainConfig(Section):
    """How one model is trained."""

    steps: int = Field(default=1000, ge=1)
    """Optimizer steps; the cosine ends with the last one."""
    micro_batch_tokens: int = Field(default=4096, ge=1)
    """Document tokens in a micro-batch, at most (a single longer item stands alone)."""
    micro_batches_per_step: int = Field(default=2, ge=1)
    """Micro-batches in the global batch of one optimizer step, whatever the world size."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate."""
    warmup_steps: int = Field(default=50, ge=0)
    """Steps of linear warm-up."""
    min_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1)
    """Learning rate at the last step, as a fraction of the peak."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW weight decay, on matrices only."""
    beta1: float = 0.9
    """AdamW's decay of the mean of gradients."""
    beta2: float = 0.95
    """AdamW's decay of the mean of squared gradients."""
    max_gradient_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    eval_every: int = Field(default=200, ge=1)
    """Steps between evaluations on the dev split."""
    eval_micro_batches: int = Field(default=8, ge=1)
    """Micro-batches of the dev split in an evaluation during training, at most."""
    checkpoint_every: int = Field(default=500, ge=1)
    """Steps between checkpoints; the last step always has one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Checkpoints kept; older ones are deleted."""
    log_every: int = Field(default=10, ge=1)
    """Steps between logged metrics."""
    seed: int = 0
    """Seed of weights, order, and dropout."""


class TrunkConfig(Section):
    """The decoder-only transformer: the token-level model, and the trunk of the SLLM."""

    path: str | None = None
    """Folder or hub name of a pretrained causal language model; none: built from `config`."""
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "initializer_range": 0.088,
        "tie_word_embeddings": True,
    }
    """Hugging Face configuration with `model_type`; the vocabulary comes from the shards."""
    attention: str | None = None
    """Attention implementation (`eager`, `sdpa`, `flash_attention_2`, ...); none: the library's choice."""
    trust_remote_code: bool = False
    """Run code that comes with a hub model."""


class LmConfig(Section):
    """The token-level language model: baseline, and source of the trunk."""

    context_tokens: int = Field(default=512, ge=2)
    """Tokens the model sees at once; longer documents are cut into windows."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""


class VaeConfig(Section):
    """The SentenceVAE (arXiv 2408.00655, section 3.2)."""

    hidden_size: int | None = None
    """Width; none: the trunk's."""
    num_layers: int = Field(default=1, ge=1, le=4)
    """Layers of the encoder, and of the decoder."""
    num_heads: int = Field(default=4, ge=1)
    """Attention heads."""
    feed_forward_factor: float = Field(default=2.0, gt=0)
    """Feed-forward width over hidden size."""
    norm_first: bool = False
    """Normalise before each block instead of after it (the paper: after)."""
    kl_weight: float = Field(default=0.0, ge=0)
    """Weight of the KL term; 0 is the paper's plain autoencoder."""
    kl_floor: float = Field(default=0.5, ge=0)
    """KL per dimension (nats) below which there is no penalty."""
    focal_gamma: float = Field(default=0.0, ge=0)
    """Focal loss exponent of the training objective (the paper: 2); figures reported are never focal."""
    token_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the encoder's input tokens that training hides."""
    latent_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the latent during training."""
    init_from_lm: bool = True
    """Take the token embedding from the token-level model where there is one of the same width."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""


class SllmConfig(Section):
    """The sentence-level language model."""

    context_sentences: int = Field(default=64, ge=2)
    """Sentences the trunk sees at once; longer documents are cut into windows."""
    trunk_from: Literal["lm", "config"] = "lm"
    """Where the trunk's weights come from: the trained token-level model, or a fresh start."""
    freeze_vae: bool = False
    """Keep the SentenceVAE as it was trained."""
    train: TrainConfig = TrainConfig()
    """How it is trained."""


class ModelsConfig(Section):
    """Folders of trained models that a job reads."""

    lm: str | None = None
    """The token-level model."""
    vae: str | None = None
    """The SentenceVAE."""
    sllm: str | None = None
    """The sentence-level model."""


class EvaluateConfig(Section):
    """What is measured on the dev split."""

    max_documents: int | None = Field(default=None, ge=1)
    """Documents of the dev split, from its start; none: all."""
    micro_batch_tokens: int = Field(default=8192, ge=1)
    """Document tokens in a micro-batch, at most."""
    ablations: bool = True
    """Also score the SLLM with its predicted latents zeroed, and shuffled between sentences."""


class GenerateConfig(Section):
    """How text is written."""

    prompt: str = ""
    """Text to go on from; empty: from the start vector."""
    max_sentences: int = Field(default=16, ge=1)
    """Sentences written, at most."""
    max_sentence_tokens: int | None = Field(default=None, ge=1)
    """Tokens a sentence, at most; none: the limit the shards were made with."""
    max_tokens: int = Field(default=1024, ge=1)
    """Tokens written in all, at most."""
    temperature: float = Field(default=0.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the distribution that is sampled from."""
    seed: int = 0
    """Seed of the sampling."""


class RayConfig(Section):
    """The cluster."""

    address: str | None = None
    """Address of a running cluster; none: the one this job runs in, else one on this machine."""
    num_workers: int = Field(default=2, ge=1)
    """Training workers: the world size."""
    use_gpu: bool = False
    """One GPU for each training worker."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPU cores for each training worker."""
    max_failures: int = Field(default=1, ge=0)
    """Times a training run starts again from its last checkpoint after a failure."""


class DeepSpeedConfig(Section):
    """DeepSpeed ZeRO (used with `launcher: ray`)."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """0: nothing is partitioned; 1: optimizer state; 2: and gradients; 3: and parameters."""
    config: dict[str, Any] = {}
    """Raw DeepSpeed configuration, merged over ours."""


class TrackingConfig(Section):
    """MLflow."""

    uri: str = "sqlite:///runs/mlflow.db"
    """Tracking server, or an SQLite file on one machine."""
    experiment: str = "sllm"
    """Experiment that the runs belong to."""


class RunConfig(Section):
    """`sllm run`: jobs one after the other, each reading what those before it wrote."""

    jobs: tuple[Literal["prepare", "train-lm", "train-vae", "train-sllm", "evaluate", "generate"], ...] = (
        "prepare",
        "train-lm",
        "train-vae",
        "train-sllm",
        "evaluate",
        "generate",
    )
    """The jobs; each writes to a folder of its own below `output`."""


class Config(Section):
    """The whole tree."""

    output: str | None = None
    """Folder that the job writes to."""
    shards: str | None = None
    """Folder of sentence shards that a training or evaluation job reads."""
    launcher: Literal["ray", "local"] = "ray"
    """`ray`: on a cluster or this machine's cores, training with DeepSpeed; `local`: in this one process."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of training."""
    data: DataConfig = DataConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    segmenter_training: SegmenterTrainConfig = SegmenterTrainConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    prepare: PrepareConfig = PrepareConfig()
    trunk: TrunkConfig = TrunkConfig()
    lm: LmConfig = LmConfig()
    vae: VaeConfig = VaeConfig()
    sllm: SllmConfig = SllmConfig()
    models: ModelsConfig = ModelsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    generate: GenerateConfig = GenerateConfig()
    ray: RayConfig = RayConfig()
    deepspeed: DeepSpeedConfig = DeepSpeedConfig()
    tracking: TrackingConfig = TrackingConfig()
    run: RunConfig = RunConfig()


def load_config(path: str | None, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """The tree from a YAML file (or none) with overrides `dotted.key=YAML value` on top.

    Raises `ConfigError` for a missing or broken file and for an unknown key (naming the nearest known one).
    """
    tree: dict[str, Any] = {}
    if path is not None:
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid YAML: {error}") from error
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} must hold a mapping of sections, not a {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{path or 'overrides'}: " + "; ".join(map(_explain, error.errors()))) from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} must look like section.key=value")
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if not isinstance(child, dict | None):
            raise ConfigError(f"override {override!r}: {parent} is a value, not a section")
        node[parent] = dict(child or {})  # a copy: YAML aliases share one mapping between sections
        node = node[parent]
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error


def _explain(error: Any) -> str:
    location = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        return f"{location}: {error['msg']} (got {error['input']!r})"
    *parents, unknown = error["loc"]
    section: Any = Config
    for parent in parents:
        section = section.model_fields[parent].annotation
    near = difflib.get_close_matches(str(unknown), section.model_fields, n=1, cutoff=0.0)
    return f"unknown key {location!r}; the nearest known is {'.'.join([*map(str, parents), *near])!r}"
