"""The fault suite: real jobs on a real local cluster, a fault at a random moment, and a checker that reads only what
was written.

`python -m tests.faults --seed N --moments K [--cases a,b]` prints a table; `cases.py` is the list of faults.
"""
