"""What deploys passes the linters of its systems; the examples for clusters fit the program."""

import json
import re
import shlex
import shutil
import subprocess
import sysconfig
from typing import Any

import pytest
from conftest import ROOT, leaf_commands, patience

DEPLOY = ROOT / "deploy"
SHARDS = {
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_COUNT": "16",
    "JOB_COMPLETION_INDEX": "3",
    "AWS_BATCH_JOB_ARRAY_INDEX": "3",
    "FILMS": "films",
    "OUT": "out",
}
"""What the systems set in each task."""


def command_in(text: str) -> list[str]:
    """The arguments behind `roadseg batch` in a text, as the task's shell passes them."""
    joined = text.replace("\\\n", " ")
    line = re.search(r"roadseg batch (.+?)(?:\|\||\n *-{3}|$)", joined, re.DOTALL)
    assert line
    words = shlex.split(line[1])
    return [re.sub(r"\$(\w+)", lambda match: SHARDS[match[1]], word) for word in words]


def check_command(text: str) -> None:
    arguments = command_in(text)
    context = leaf_commands()["batch", "run"].make_context("run", arguments)
    assert context.params["shard"] == "3/16"


def lint(linter: str, *names: str) -> None:
    """Run a linter that the extra `dev` installs beside this Python."""
    program = shutil.which(linter, path=sysconfig.get_path("scripts"))
    if program is None:
        pytest.skip(f"{linter} is not installed; the extra dev has it")
    paths = [str(ROOT / name) for name in names]
    subprocess.run([program, *paths], check=True, timeout=patience(20))


def check_request(operation: str, request: dict[str, Any]) -> None:
    """Hold a request against Amazon's own description of its interface."""
    validate = pytest.importorskip("botocore.validate")
    session = pytest.importorskip("botocore.session").get_session()
    shape = session.get_service_model("batch").operation_model(operation).input_shape
    assert validate.ParamValidator().validate(request, shape).generate_report() == ""


@pytest.mark.parametrize("name", ["deploy/slurm.sh", ".ci/run"])
def test_the_shell_scripts_are_sound(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True, timeout=patience(20))
    lint("shellcheck", name)


def test_the_dockerfiles_are_sound() -> None:
    lint("hadolint", "Dockerfile", "Dockerfile.cuda")


def test_a_slurm_task_takes_its_shard() -> None:
    check_command((DEPLOY / "slurm.sh").read_text().partition("code=0")[2])


def test_the_kubernetes_job_is_sound() -> None:
    yaml = pytest.importorskip("yaml")
    kubernetes = pytest.importorskip("kubernetes_validate")
    job = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    kubernetes.validate(job, kubernetes.latest_version(), strict=True)
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == 16
    pod = job["spec"]["template"]["spec"]
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    check_command(pod["containers"][0]["args"][0])


def test_the_aws_jobs_are_sound() -> None:
    definition = json.loads((DEPLOY / "aws-batch-job-definition.json").read_text())
    job = json.loads((DEPLOY / "aws-batch-job.json").read_text())
    check_request("RegisterJobDefinition", definition)
    check_request("SubmitJob", job)
    assert job["jobDefinition"] == definition["jobDefinitionName"]
    assert job["arrayProperties"]["size"] == 16
    check_command(definition["containerProperties"]["command"][2])
