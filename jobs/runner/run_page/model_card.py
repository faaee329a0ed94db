"""The card of a trained model, in Markdown: what it is, what it was made from, its figures, its limits."""

from pipeline.lineage import JobRecord
from pipeline.redaction import redacted

_TITLES = {
    "train-lm": "Token-level language model",
    "train-vae": "SentenceVAE",
    "train-sllm": "Sentence-level language model",
    "train-segmenter": "Learned segmenter",
}
_USES = {
    "train-lm": "It predicts the next token. It is the baseline of the sentence-level model, and the trunk that it "
    "starts from.",
    "train-vae": "It maps a sentence to one vector and back. It is a part of the sentence-level model.",
    "train-sllm": "It predicts the next sentence: `sllm generate MODEL --prompt TEXT`.",
    "train-segmenter": "It finds the ends of sentences: the segmenter that its configuration names, with the "
    "option `weights`.",
}
_SECTIONS = {
    "train-lm": ("lm", "trunk"),
    "train-vae": ("vae", "trunk"),
    "train-sllm": ("sllm", "vae", "trunk"),
}


def model_card(record: JobRecord) -> str:
    """The card of the model that the finished job `record` trained; Markdown, secrets masked."""
    tags = record.tags
    made_from = [f"| {one.kind} | `{one.path}` | `{one.digest[:12]}` |" for one in record.inputs]
    data = [
        (name, tags[key])
        for key, name in (
            ("corpus", "corpus"),
            ("segmenter", "segmenter"),
            ("segmenter.options", "options of the segmenter"),
            ("tokenizer.digest", "tokenizer"),
        )
        if key in tags
    ]
    settings = [
        f"| `{section}.{key}` | `{value}` |"
        for section in _SECTIONS.get(record.job, ())
        for key, value in (record.config.get(section) or {}).items()
        if not isinstance(value, dict) and value is not None
    ]
    figures = [f"| {name} | {value:.6g} |" for name, value in sorted(record.metrics.items())]
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    by = f" by {record.user}" if record.user else ""
    lines = [
        f"# {_TITLES.get(record.job, record.job)}",
        "",
        _USES.get(record.job, ""),
        "",
        f"Trained{by} on {record.host}, from {record.started} (UTC), with",
        "",
        f"    {record.command}",
        "",
        "## Made from",
        "",
        *_table(["kind", "path", "SHA-256"], made_from),
        "",
        *_table(["data", ""], [f"| {name} | `{value}` |" for name, value in data]),
        "",
        "## Architecture",
        "",
        *_table(["key", "value"], settings),
        "",
        "## Figures at the last step",
        "",
        *_table(["metric", "value"], figures),
        "",
        "`train/` are means over the last steps, `dev/` over the first micro-batches of the dev split. Bits per byte, "
        "which can be compared between models, are measured by `sllm evaluate`.",
        "",
        "## Limits",
        "",
        "It knows what is in its corpus, with its errors and prejudices, and nothing else. What it generates is not "
        "checked. The licence of the corpus may limit the use of the weights.",
        "",
        f"Versions: {versions}.",
    ]
    return redacted("\n".join(lines) + "\n")


def _table(header: list[str], rows: list[str]) -> list[str]:
    if not rows:
        return ["None known."]
    return [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *rows]
