"""The verbs of `sllm` in one table: the console, its help, `sllm run`, `compare` and the README follow from it.

A new verb is a file, `jobs/VERB.py` or in a folder there, and an entry here. A job's file has
`run(config, force) -> JobRecord`; a verb with arguments of its own has a function, `command` unless its entry names
another, whose parameters are the arguments. The file is imported when the verb is started.
"""

import difflib
from collections.abc import Sequence

from jobs.verb import RunStep, TextOption, Verb
from pipeline.errors import ConfigError
from pipeline.output_files import REPORT_FOLDER

_TABLE = (
    Verb(
        "prepare",
        "Read a corpus, cut it into sentences, tokenize it, write shards.",
        reads="text, JSONL, CSV, TSV, CoNLL-U (plain, gzip, zstd, bz2, xz, lz4), Parquet, Arrow, `datasets:NAME`; "
        "files or URLs",
        writes="Arrow shards, `manifest.json`, tokenizer, `rejected.jsonl`",
        examples=(
            """sllm prepare prepare data.inputs='["books/*.jsonl.gz"]' output=runs/shards""",
            "sllm prepare prepare segmenter.name=spacy_v1 tokenizer.path=gpt2 --dry-run",
        ),
        step=RunStep("shards", "shards"),
    ),
    Verb(
        "train-segmenter",
        "Train the learned segmenter on gold sentence boundaries.",
        reads="texts with known boundaries: JSONL, CoNLL-U",
        writes="weights of a learned segmenter, a model card",
        examples=("sllm train-segmenter train-segmenter output=runs/segmenter",),
        file="training.train_segmenter",
    ),
    Verb(
        "train-lm",
        "Train the token-level language model: the baseline, and the trunk of the SLLM.",
        reads="shards",
        writes="the token-level model: the baseline, and the trunk",
        examples=("sllm train-lm CONFIG shards=runs/shards output=runs/lm lm.train.steps=500",),
        step=RunStep("lm", "model"),
        file="training.train_lm",
    ),
    Verb(
        "train-vae",
        "Train the SentenceVAE: a sentence to one vector and back.",
        reads="shards, token-level model",
        writes="the SentenceVAE: a sentence to one vector and back",
        examples=("sllm train-vae CONFIG shards=runs/shards output=runs/vae vae.num_layers=2",),
        step=RunStep("vae", "model"),
        file="training.train_vae",
    ),
    Verb(
        "train-sllm",
        "Train the language model that predicts the next sentence.",
        reads="shards, token-level model, SentenceVAE",
        writes="the sentence-level LLM",
        examples=(
            "sllm train-sllm CONFIG models.lm=runs/lm models.vae=runs/vae output=runs/sllm",
            "sllm train-sllm CONFIG deepspeed.zero_stage=3 --submit https://head:8265",
        ),
        step=RunStep("sllm", "model"),
        file="training.train_sllm",
    ),
    Verb(
        "evaluate",
        "Score models on the dev split: bits per byte, perplexity, reconstruction, ablations.",
        reads="dev shards, models",
        writes="bits per byte, perplexity, reconstruction, ablations",
        examples=("sllm evaluate CONFIG models.lm=runs/lm models.sllm=runs/sllm shards=runs/shards --json",),
        step=RunStep("evaluation", "report"),
    ),
    Verb(
        "generate",
        "Generate text, sentence by sentence, as it comes.",
        reads="a sentence-level LLM",
        writes="text, sentence by sentence",
        examples=(
            """sllm generate runs/demo/sllm --prompt "The function returns a list.\"""",
            "sllm generate runs/demo/sllm generate.temperature=0.8 generate.top_p=0.95 generate.max_sentences=5",
        ),
        step=RunStep("text", "report"),
        model_key="models.sllm",
        text_option=TextOption("--prompt", "generate.prompt", "Text to continue."),
    ),
    Verb(
        "compare",
        "Train designs on the same tokens; one table and plot of bits per byte, speed, FLOPs, memory.",
        reads="shards, a list of designs",
        writes="all of them, and their controls, trained on the same tokens; one table, one plot",
        examples=("sllm compare compare shards=runs/compare/shards output=runs/compare/comparison",),
        step=RunStep("comparison", "report", by_default=False, record_folder=REPORT_FOLDER),
    ),
    Verb(
        "graft",
        "Graft a SentenceVAE onto a pretrained language model, and score it against that model.",
        reads="text or shards, a pretrained model: folder, GGUF file or hub name",
        writes="a sentence-level LLM around it, controls; one table, one plot",
        examples=(
            """sllm graft graft trunk.path=SmolLM2-135M-Instruct.Q4_1.gguf data.inputs='["books/*.jsonl.gz"]'""",
        ),
        file="training.graft",
    ),
    Verb(
        "reproduce",
        "Train small configurations of the SentenceVAE paper; score them as its code does and exactly.",
        reads="shards, or a corpus",
        writes="nine models, small, as the paper's code trains and scores them and exactly; what each difference "
        "does; tables, a plot",
        examples=(
            "sllm reproduce sentencevae",
            "sllm reproduce sentencevae shards=runs/shards reproduce.tokens=1_000_000 output=runs/sentencevae-1m",
        ),
        file="reproduction.command",
    ),
    Verb(
        "run",
        "Run the whole path: prepare, train the three models, evaluate, generate.",
        reads="a configuration",
        writes="what the jobs in `run.jobs` write, one after the other: by default prepare, the three models, "
        "evaluate, generate; then `report.html`",
        examples=(
            "sllm run demo",
            "sllm run demo lm.train.steps=50 vae.train.steps=50 sllm.train.steps=50 output=runs/quick",
        ),
    ),
    Verb(
        "export",
        "Write the model in a checkpoint, or one of MLflow, as a plain Hugging Face folder.",
        reads="a checkpoint, or a model in MLflow",
        writes="the model in it",
        examples=(
            "sllm export runs/demo/sllm/checkpoints/step-000000200 output=runs/sllm-at-200",
            "sllm export models:/sllm@champion output=runs/champion",
        ),
        has_own_arguments=True,
    ),
    Verb(
        "promote",
        "Register a trained model in MLflow, under a name, a version and an alias.",
        reads="a model",
        writes="a version of a registered model: `models:/NAME@ALIAS` names it wherever a model is read",
        examples=(
            "sllm promote runs/demo/sllm --alias champion",
            "sllm promote runs:/0a1b2c3d4e5f60718293a4b5c6d7e8f9 --name books --alias candidate --json",
        ),
        has_own_arguments=True,
    ),
    Verb(
        "lineage",
        "Show what a result was made from, back to the corpus files; of a corpus file, what was made from it.",
        reads="`job.json`, MLflow",
        writes="a tree, on the terminal or as a page",
        examples=(
            "sllm lineage runs/demo/sllm",
            "sllm lineage runs/demo/sllm --html lineage.html",
            "sllm lineage runs/demo/sllm runs/other/sllm --html differences.html",
            "sllm lineage corpus/books.jsonl.gz --json",
        ),
        group="Look",
        has_own_arguments=True,
        file="lineage.command",
    ),
    Verb(
        "inspect",
        "Show what a folder of sentence shards holds and what it was made with, and check every checksum.",
        reads="shards",
        writes="a summary, on the terminal or as a page",
        examples=("sllm inspect runs/demo/shards", "sllm inspect runs/demo/shards --html shards.html"),
        group="Look",
        has_own_arguments=True,
    ),
    Verb(
        "segment",
        "Cut documents into sentences: the character offsets of their ends, exclusive.",
        reads="JSONL",
        writes="JSONL with the ends of sentences, or a page that compares segmenters",
        examples=(
            "sllm segment --list",
            "sllm segment --segmenter spacy_v1 --option pipeline=en_core_web_sm docs.jsonl.gz --output ends.jsonl",
            "sllm segment --compare punctuation_v1,learned_v2 README.md --html splits.html",
        ),
        group="Look",
        has_own_arguments=True,
    ),
    Verb(
        "plan",
        "What a configuration costs before it is run: parameters, memory, FLOPs, speed, days. Reads no weights.",
        reads="a configuration",
        writes="parameters, memory, FLOPs and days, on the terminal",
        examples=(
            "sllm plan paper/opt-1.3b-h2 --gpus 8",
            "sllm plan demo sllm.train_trunk=ends --device a100 --json",
        ),
        group="Look",
        has_own_arguments=True,
    ),
    Verb(
        "scaling",
        "Fit bits per byte over parameters and training tokens, from finished comparisons.",
        reads="the output folders of `sllm compare`",
        writes="a fit of each family, and how well the points determine it; a plot",
        examples=("sllm scaling runs/compare-1m runs/compare-3m runs/compare-10m --plot scaling.png",),
        group="Look",
        has_own_arguments=True,
        file="reports.scaling",
    ),
    Verb(
        "init",
        "Write a commented configuration for your own files: by three questions, or by flags.",
        reads="your answers",
        writes="a commented configuration",
        examples=("sllm init", "sllm init --inputs my.txt --output runs/mine --size cpu"),
        group="Look",
        has_own_arguments=True,
        file="setup.init",
    ),
    Verb(
        "doctor",
        "Check the installation, GPU, Ray, DeepSpeed, MLflow, storage and disk, and say what to do.",
        reads="this machine; a configuration",
        writes="what was found, on the terminal",
        examples=("sllm doctor", "sllm doctor demo ray.use_gpu=true --json"),
        group="Look",
        has_own_arguments=True,
        file="setup.doctor",
    ),
    Verb(
        "config",
        "Show the keys of the configuration: type, default, what each means.",
        reads="nothing",
        writes="keys, types, defaults and descriptions, on the terminal",
        examples=("sllm config vae", "sllm config lm.train.learning_rate --json"),
        group="Look",
        has_own_arguments=True,
    ),
    Verb(
        "bench",
        "Measure sllm and other packages in one run.",
        reads="a file, shards or a configuration",
        writes="speed and quality of sllm and of other packages, on the terminal",
        examples=(
            "sllm bench prepare books.jsonl.gz runs/shards/tokenizer",
            "sllm bench stream runs/shards",
            "sllm bench generate paper/opt-125m-h1 --context 512,4096 --plot speed.svg",
        ),
        group="Look",
        has_own_arguments=True,
        file="bench.cli",
    ),
    Verb(
        "deploy",
        "Write the files that start jobs elsewhere: KubeRay, Ray's cluster launcher, Slurm, Compose, an image.",
        reads="the configuration of a deployment",
        writes="files for KubeRay, Ray's cluster launcher, Slurm and Compose; a Dockerfile",
        examples=("sllm deploy render infra/deploy/example/deploy.yaml --output deployment",),
        group="Look",
        has_own_arguments=True,
        file="deployment.commands",
        function="app",
    ),
    Verb(
        "status",
        "Show one submitted job, or all that have not ended.",
        reads="a cluster's job server",
        writes="its state, on the terminal",
        examples=(
            "sllm status train-lm-0a1b2c3d4e5f --address http://127.0.0.1:8265",
            "sllm status --json",
        ),
        group="Submitted jobs",
        has_own_arguments=True,
        file="submissions.commands",
        function="show_status",
    ),
    Verb(
        "logs",
        "Print the log of a submitted job; with -f until it ends, then exit with its exit code.",
        reads="a cluster's job server",
        writes="its log, on the terminal",
        examples=("sllm logs train-lm-0a1b2c3d4e5f -f --address http://127.0.0.1:8265",),
        group="Submitted jobs",
        has_own_arguments=True,
        file="submissions.commands",
        function="show_logs",
    ),
    Verb(
        "stop",
        "Stop a submitted job and wait until it has ended.",
        reads="a cluster's job server",
        writes="nothing",
        examples=("sllm stop train-lm-0a1b2c3d4e5f --address http://127.0.0.1:8265",),
        group="Submitted jobs",
        has_own_arguments=True,
        file="submissions.commands",
        function="stop",
    ),
    Verb(
        "list",
        "List all submitted jobs that a cluster knows, the newest first.",
        reads="a cluster's job server",
        writes="a table, on the terminal",
        examples=(
            "sllm list --address http://127.0.0.1:8265",
            "sllm list --json",
        ),
        group="Submitted jobs",
        has_own_arguments=True,
        file="submissions.commands",
        function="show_list",
    ),
)

VERBS = {verb.name: verb for verb in _TABLE}
"""All verbs, in the order of the help."""
STEPS = {name: verb.step for name, verb in VERBS.items() if verb.step is not None}
"""The jobs that `sllm run` can run, in order."""


def steps_of(names: Sequence[str]) -> dict[str, RunStep]:
    """The jobs of a run with these names in `run.jobs`, in that order; without names the default ones.

    Raises `ConfigError` for a name that is none of them.
    """
    for name in names:
        if name not in STEPS:
            near = difflib.get_close_matches(name, STEPS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"run.jobs has no job {name!r}: {hint}known are {', '.join(STEPS)}")
    return {name: STEPS[name] for name in names or STEPS if names or STEPS[name].by_default}


def markdown() -> str:
    """The table of the README."""
    rows = [f"| `sllm {verb.name}` | {verb.reads} | {verb.writes} |" for verb in _TABLE]
    return "\n".join(["| verb | reads | writes |", "|---|---|---|", *rows])
