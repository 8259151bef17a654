"""The job for KubeRay says what this program and the installed Ray understand."""

from __future__ import annotations

import shlex
from pathlib import Path

import ray
import yaml

from deepseek_ocr_mcp.cli.parser import build_parser

JOB = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "kubernetes" / "rayjob.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
GROUPS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


def test_its_command_is_one_that_the_program_takes() -> None:
    command, _, ending = JOB["spec"]["entrypoint"].partition(" || ")
    program, *arguments = shlex.split(command)
    assert program == "deepseek-ocr-mcp"
    taken = build_parser().parse_args(arguments)
    assert (taken.source, taken.out, taken.ray) == ("s3://bucket/scans", "s3://bucket/texts", "auto")
    assert ending == "[ $? -eq 3 ]", "files that cannot be read do not start another cluster"


def test_all_pods_have_one_image_and_one_environment() -> None:
    containers = [container for group in GROUPS for container in group["template"]["spec"]["containers"]]
    assert len({container["image"] for container in containers}) == 1
    assert all(container["env"] == containers[0]["env"] for container in containers)
    assert all(container["securityContext"]["runAsNonRoot"] for container in containers)
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert CLUSTER["rayVersion"] == ray.__version__


def test_workers_come_and_go_and_the_head_reads_nothing() -> None:
    head, *workers = GROUPS
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert CLUSTER["enableInTreeAutoscaling"]
    assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in workers)
