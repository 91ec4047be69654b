"""The example files for clusters: they parse, and name options and fields that their launchers have.

Options of torchrun, `dask` and qhybrid are asked of the programs themselves. dask-jobqueue and the Kubernetes
operators are not installed: their words are written down here from their sources.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from distributed.cli.dask_scheduler import main as dask_scheduler
from distributed.cli.dask_worker import main as dask_worker
from torch.distributed.run import get_args_parser

from qhybrid.api.run import Run
from qhybrid.cli.main import app
from qhybrid.config import load_recipe
from qhybrid.workspace import definition_files

DOCKERFILE = (Path(__file__).parents[2] / "Dockerfile").read_text()
PROGRAMS = {"dask", "torchrun"}
FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "cluster"
# dask_jobqueue/core.py and slurm.py (0.8, 0.9): arguments of a job, of the cluster, and of SLURM.
JOBQUEUE = {
    *("queue", "account", "walltime", "job_cpu", "job_mem", "job_extra_directives", "cores", "memory"),
    *("processes", "interface", "nanny", "local_directory", "death_timeout", "worker_extra_args"),
    *("job_script_prologue", "job_directives_skip", "log_directory", "shebang", "python", "n_workers"),
    *("scheduler_options", "security"),
}
# sbatch(1)
SBATCH = {
    *("--job-name", "--nodes", "--ntasks-per-node", "--cpus-per-task", "--mem", "--time", "--requeue"),
    *("--account", "--partition", "--gres", "--output"),
}
# kubeflow/training-operator, pkg/apis/kubeflow.org/v1/pytorch_types.go and common_types.go
PYTORCH_JOB = {"runPolicy", "elasticPolicy", "pytorchReplicaSpecs", "nprocPerNode"}
ELASTIC = {
    *("minReplicas", "maxReplicas", "rdzvBackend", "rdzvPort", "rdzvHost", "rdzvId", "rdzvConf"),
    *("standalone", "maxRestarts", "metrics"),
}
REPLICA = {"replicas", "template", "restartPolicy"}
# kubernetes, core/v1 PodSpec, Container and ServiceSpec: those that are used
POD = {"containers", "volumes", "restartPolicy", "securityContext"}
CONTAINER = {"name", "image", "command", "args", "env", "ports", "resources", "volumeMounts", "workingDir"}
SERVICE = {"type", "selector", "ports"}


def torchrun(words):
    """Return what torchrun makes of its words; it ends with an error where it does not know one."""
    return get_args_parser().parse_args(words)


def check_qhybrid(words):
    """Check that a command and its options exist."""
    command = typer.main.get_command(app).commands[words[0]]
    known = {name for part in command.params for name in (*part.opts, *part.secondary_opts)}
    assert {word for word in words[1:] if word.startswith("--")} <= known


def check_dask(words):
    assert words[0] == "dask"
    command = {"worker": dask_worker, "scheduler": dask_scheduler}[words[1]]
    known = {name for part in command.params for name in (*part.opts, *part.secondary_opts)}
    assert {word for word in words[2:] if word.startswith("--")} <= known


def check_pod(spec):
    assert spec.keys() <= POD
    volumes = {volume["name"] for volume in spec.get("volumes", ())}
    for container in spec["containers"]:
        assert container.keys() <= CONTAINER
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        assert all(isinstance(one["value"], str) for one in container.get("env", ()))
        # The image begins with `qhybrid`: `args` would be words of it, `command` is in its place.
        assert "args" not in container
        assert all(isinstance(word, str) for word in container["command"])
        assert container["command"][0] in PROGRAMS
    if volumes:
        assert f"USER {spec['securityContext']['fsGroup']}\n" in DOCKERFILE


def test_all_examples_are_looked_at():
    assert {file.name for file in FOLDER.iterdir()} == {
        "train.sbatch", "dask_slurm.py", "dask_cluster.yaml", "pytorch_job.yaml",
    }  # fmt: skip


def test_training_under_slurm():
    text = (FOLDER / "train.sbatch").read_text()
    directives = re.findall(r"^#SBATCH (--[a-z-]+)", text, re.MULTILINE)
    assert set(directives) <= SBATCH
    assert len(directives) == text.count("#SBATCH ") == len(set(directives))
    (command,) = re.findall(r"^srun ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    words = shlex.split(command.replace("\\\n", " ").replace("$SLURM_JOB_NUM_NODES", "2"))
    assert words.pop(0) == "--cpus-per-task=$SLURM_CPUS_PER_TASK"  # srun does not inherit it
    assert "--cpus-per-task" in directives
    assert words[0] == "torchrun"
    found = torchrun(words[1:])
    assert (found.module, found.training_script, found.nproc_per_node) == (True, "qhybrid.cli", "4")
    assert (found.max_restarts, found.rdzv_backend) == (3, "c10d")
    check_qhybrid(found.training_script_args)
    assert "--output" in found.training_script_args  # where processes that are started again go on
    if shutil.which("bash"):
        subprocess.run(["bash", "-n", str(FOLDER / "train.sbatch")], check=True)


def test_workers_under_slurm():
    tree = ast.parse((FOLDER / "dask_slurm.py").read_text())
    calls = {ast.unparse(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    given = {word.arg: word.value for word in calls["SLURMCluster"].keywords}
    assert given.keys() <= JOBQUEUE
    assert ast.literal_eval(given["processes"]) == ast.literal_eval(given["cores"])  # one thread each
    assert [word.arg for word in calls["cluster.scale"].keywords] == ["jobs"]
    (predict,) = [node for name, node in calls.items() if name.endswith(".predict")]
    assert {word.arg for word in predict.keywords} <= set(Run.predict.__annotations__)


def test_a_dask_cluster_on_kubernetes():
    found = yaml.safe_load((FOLDER / "dask_cluster.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    # dask_kubernetes/operator/customresources/templates.yaml
    spec = found["spec"]
    assert spec.keys() == {"worker", "scheduler"}
    assert spec["worker"].keys() == {"replicas", "spec"}
    assert spec["scheduler"].keys() == {"spec", "service"}
    assert spec["scheduler"]["service"].keys() == SERVICE
    name = found["metadata"]["name"]
    selector = {"dask.org/cluster-name": name, "dask.org/component": "scheduler"}
    assert spec["scheduler"]["service"]["selector"] == selector
    for part in ("worker", "scheduler"):
        check_pod(spec[part]["spec"])
        (container,) = spec[part]["spec"]["containers"]
        check_dask(container["command"])
    words = spec["worker"]["spec"]["containers"][0]["command"]
    assert words[words.index("--nthreads") + 1] == "1"
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in spec["scheduler"]["service"]["ports"]} <= ports


def test_training_on_kubernetes():
    found = yaml.safe_load((FOLDER / "pytorch_job.yaml").read_text())
    assert (found["apiVersion"], found["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    spec = found["spec"]
    assert spec.keys() <= PYTORCH_JOB
    assert isinstance(spec["nprocPerNode"], str)
    policy = spec["elasticPolicy"]
    assert policy.keys() <= ELASTIC
    assert policy["rdzvBackend"] in ("c10d", "etcd", "etcd-v2")
    assert spec["pytorchReplicaSpecs"].keys() == {"Worker"}
    worker = spec["pytorchReplicaSpecs"]["Worker"]
    assert worker.keys() <= REPLICA
    assert worker["restartPolicy"] in ("Always", "OnFailure", "Never", "ExitCode")
    assert policy["minReplicas"] == policy["maxReplicas"] == worker["replicas"]
    pod = worker["template"]["spec"]
    check_pod(pod)
    (container,) = pod["containers"]
    assert container["name"] == "pytorch"
    assert container["command"][0] == "torchrun"
    found = torchrun(container["command"][1:])
    assert (found.module, found.training_script) == (True, "qhybrid.cli")
    check_qhybrid(found.training_script_args)
    load_recipe(definition_files("runs")[found.training_script_args[1]])


@pytest.mark.parametrize("words", [["dask", "worker", "--threads", "1"], ["dask", "scheduler", "--nthreads"]])
def test_unknown_options_would_be_found(words):
    with pytest.raises(AssertionError):
        check_dask(words)
    with pytest.raises(AssertionError):
        check_qhybrid(["train", "--nodes"])
    with pytest.raises(SystemExit):
        torchrun(["--nprocs", "2", "script.py"])
