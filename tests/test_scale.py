"""The examples for clusters parse and fit the program; the arithmetic of scale is in its page."""

import json
import re
import shlex
import shutil
import subprocess

import pytest
from conftest import ROOT, leaf_commands, patience, script
from typer.testing import CliRunner

DEPLOY = ROOT / "deploy"
PAGE = ROOT / "docs" / "scale.md"
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


def test_the_slurm_script_is_sound() -> None:
    path = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", str(path)], check=True, timeout=patience(20))
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(path)], check=True, timeout=patience(20))
    check_command(path.read_text().partition("code=0")[2])


def test_the_kubernetes_job_is_sound() -> None:
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((DEPLOY / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == 16
    pod = job["spec"]["template"]["spec"]
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    check_command(pod["containers"][0]["args"][0])


def test_the_aws_jobs_are_sound() -> None:
    definition = json.loads((DEPLOY / "aws-batch-job-definition.json").read_text())
    job = json.loads((DEPLOY / "aws-batch-job.json").read_text())
    assert job["jobDefinition"] == definition["jobDefinitionName"]
    assert job["arrayProperties"]["size"] == 16
    check_command(definition["containerProperties"]["command"][2])


def test_the_page_has_the_program_s_arithmetic() -> None:
    scale = script("scale")
    page = PAGE.read_text()
    for arguments in (["cost"], ["chunks"]):
        printed = CliRunner().invoke(scale.app, arguments)
        assert printed.exit_code == 0
        for line in printed.stdout.splitlines():
            assert line in page, f"docs/scale.md lacks what scale.py {arguments} prints"


def test_without_losses_chunks_cost_what_is_around_them_and_no_more() -> None:
    scale = script("scale")
    calm = scale.Cluster(
        machines=4,
        films=8,
        pace=0.5,
        around_s=1.0,
        start_s=0.0,
        losses_per_hour=1e-9,
        away_s=60.0,
    )
    spent, waited = scale.simulate(calm, 60)
    assert spent == pytest.approx(61 / 60)
    assert waited == pytest.approx(61 / 60)
    stormy = scale.Cluster(**{**vars(calm), "losses_per_hour": 2.0})
    assert scale.simulate(stormy, 3600)[0] > scale.simulate(stormy, 60)[0] > 61 / 60


def test_what_chunks_cost_on_the_page_is_in_the_record() -> None:
    chunks, shipped = script("chunks"), script("shipped")
    record = json.loads((ROOT / "benchmarks" / "chunks.json").read_text())
    assert shipped.split(PAGE, "chunks")[1] == chunks.markdown(record)


def test_what_starts_once_weighs_less_in_a_longer_film() -> None:
    chunks = script("chunks")
    rounds = [{"start_cpu_s": 12.0, "cpu_s": 222.0}, {"start_cpu_s": 10.0, "cpu_s": 220.0}]
    taken = chunks.Taken.of(rounds, 100.0)
    assert taken == (11.0, pytest.approx(2.1))
    assert taken.cpu_s(1000.0) == pytest.approx(2111.0)
