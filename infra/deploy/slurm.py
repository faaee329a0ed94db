"""A Slurm batch script: a Ray cluster on the job's nodes, with a token of its own, and the job on it."""

import shlex
from string import Template

from infra.deploy.settings import DeployConfig

_SCRIPT = Template("""\
#!/bin/bash
#SBATCH --job-name=$name
#SBATCH --nodes=$nodes
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=$cpus
#SBATCH --mem=${memory_gib}G
#SBATCH --time=$time_limit
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
$options
# A job that was stopped or requeued goes on where it was.
set -euo pipefail
umask 077

for name in $secrets; do
  [ -n "$${!name:-}" ] || { echo "set $$name before sbatch" >&2; exit 2; }
done
$exports
source $environment/bin/activate

# The token goes by a file that all nodes see and only this user reads.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_TOKEN_PATH="$${SLLM_TOKEN_FOLDER:-$$HOME}/.sllm-token-$$SLURM_JOB_ID"
python -c 'import secrets; print(secrets.token_hex(32))' > "$$RAY_AUTH_TOKEN_PATH"

steps=()
end() {
  kill "$${steps[@]}" 2>/dev/null || true
  rm -f "$$RAY_AUTH_TOKEN_PATH"
}
trap end EXIT

head=$$(scontrol show hostnames "$$SLURM_JOB_NODELIST" | awk 'NR == 1')
address=$$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$$head" hostname --ip-address | awk 'NR == 1 {print $$1}')
port=$$((20000 + SLURM_JOB_ID % 20000))
srun --overlap --nodes=1 --ntasks=1 --nodelist="$$head" \\
  ray start --head --block --node-ip-address="$$address" --port="$$port" --dashboard-host=127.0.0.1 \\
  --num-cpus=$cpus --num-gpus=$gpus &
steps+=("$$!")

export RAY_ADDRESS="$$address:$$port"
for try in $$(seq 60); do
  ray health-check --address "$$RAY_ADDRESS" > /dev/null 2>&1 && break
  [ "$$try" -lt 60 ] || { echo "Ray's head on $$head did not start" >&2; exit 1; }
  sleep 2
done

if [ "$$SLURM_JOB_NUM_NODES" -gt 1 ]; then
  others=$$((SLURM_JOB_NUM_NODES - 1))
  srun --overlap --nodes="$$others" --ntasks="$$others" --exclude="$$head" \\
    ray start --block --address="$$RAY_ADDRESS" --num-cpus=$cpus --num-gpus=$gpus &
  steps+=("$$!")
fi

sllm $job &
job=$$!
trap 'kill -TERM "$$job"' TERM
code=0
wait "$$job" || code=$$?
while kill -0 "$$job" 2>/dev/null; do  # the first wait ended with the signal
  code=0
  wait "$$job" || code=$$?
done
exit "$$code"
""")


def batch_script(config: DeployConfig) -> str:
    """What `sbatch` takes. Secrets are taken from the environment of `sbatch`."""
    group, slurm = config.workers[0], config.slurm
    options = [
        *([f"#SBATCH --gpus-per-node={group.gpus}"] if group.gpus else []),
        *([f"#SBATCH --partition={slurm.partition}"] if slurm.partition else []),
        *([f"#SBATCH --account={slurm.account}"] if slurm.account else []),
    ]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in config.environment.items()]
    script = _SCRIPT.substitute(
        name=config.name,
        nodes=group.max_replicas,
        cpus=group.cpus,
        gpus=group.gpus,
        memory_gib=group.memory_gib,
        time_limit=slurm.time_limit,
        options="\n".join(options),
        secrets=" ".join(config.secrets),
        exports="\n".join(exports),
        environment=shlex.quote(slurm.environment_folder),
        job=shlex.join(config.job),
    )
    return script.replace("\n\n\n", "\n\n")
