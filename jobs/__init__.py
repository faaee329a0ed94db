"""The verbs of `sllm`: one file per verb, here or in a folder, listed in `verbs.py`. A verb connects `pipeline` with
`infra` and must not compute itself. `presets/` has configurations to start from.
"""
