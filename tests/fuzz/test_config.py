from pipeline.config import load_config
from tests.fuzz.mutations import mutated, mutated_text

YAMLS = [
    b"output: runs/x\nshards: [runs/a, runs/b]\nprecision: bf16\n",
    b"data:\n  inputs: ['a/*.jsonl.gz']\n  dev_fraction: 0.02\n  filters:\n    - name: length\n"
    b"      options: {min_characters: 20}\n",
    b"segmenter: {name: spacy_v1, options: {pipeline: en}}\nprepare: &p\n  num_workers: 2\n",
    b"trunk:\n  config: {model_type: llama, hidden_size: 64}\nlm:\n  context_tokens: 128\n  train: {steps: 3}\n",
    b"compare:\n  variants:\n    lm-4:\n      stages: [train-lm]\n      overrides: {vae.num_layers: 2}\n",
    b"deepspeed:\n  zero_stage: 3\n  offload_optimizer: cpu\n  config: {a: {b: 1}}\ntracking:\n  uri: sqlite:///x.db\n",
    b"run: {jobs: [prepare, train-lm]}\nstream: {weights: [1, 2.5], cache: ~/x}\ngenerate:\n  prompt: 'a: b'\n",
]
OVERRIDES = [
    *(
        "output=runs/x",
        "data.inputs=[a.txt, b.txt]",
        "data.inputs=a.txt",
        "data.dev_fraction=0.5",
        "data.text_field=x",
    ),
    *("segmenter.options={pipeline: en}", "trunk.config.hidden_size=64", "trunk.config={model_type: opt}"),
    *(
        "sllm.train.steps=10",
        "lm.train.beta1=0.9",
        "compare.variants.a.stages=[train-lm]",
        "compare.only=[a]",
    ),
    *(
        "stream.weights=[1,2]",
        "deepspeed.config=x.json",
        "tracking.uri=http://127.0.0.1:1",
        "run.jobs=[prepare]",
    ),
    *("models.lm=runs/lm", "vae.num_layers=2", "generate.prompt='a=b'", "shards=[a,b]", "ray.num_workers=2"),
    *("data.filters=[{name: length, options: {min_characters: 2}}]", "segmenter_training.gold=[{path: a}]"),
]


def test_a_yaml_file_is_read_or_refused(fuzz):
    path = fuzz.folder / "config.yaml"

    def check(data):
        path.write_bytes(data)
        config = load_config(str(path))
        assert config.model_validate(config.model_dump()) == config or config != config  # NaN

    fuzz("yaml", lambda rng: mutated(rng, YAMLS), check)


def test_overrides_are_applied_or_refused(fuzz):
    def make(rng):
        return [mutated_text(rng, OVERRIDES, most=3) for _ in range(rng.randint(1, 3))]

    fuzz("overrides", make, lambda overrides: load_config(None, overrides))
