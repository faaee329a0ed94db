"""What a person starts: one file per verb, listed in `verbs.py`. A verb joins what `pipeline` computes with what
`infra` runs it on, and must not compute itself. `presets/` has configurations to start from.
"""
