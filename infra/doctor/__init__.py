"""What `sllm doctor` looks at: the installation, the machine, and the services that a configuration names.

A check reads and tries; it writes nothing that stays.
"""

from infra.doctor.check import Check, State
from infra.doctor.checks import all_checks

__all__ = ["Check", "State", "all_checks"]
