"""Files around the package: workflows, forms, citation, pre-commit hooks and dependencies."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
SCHEMAS = {
    "github-workflows": sorted((GITHUB / "workflows").glob("*.yml")),
    "github-issue-forms": [GITHUB / f"ISSUE_TEMPLATE/{name}.yml" for name in ("bug", "feature")],
    "github-issue-config": [GITHUB / "ISSUE_TEMPLATE/config.yml"],
    "dependabot": [GITHUB / "dependabot.yml"],
    "citation-file-format": [ROOT / "CITATION.cff"],
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def normalize(requirement: str) -> str:
    """Return the name of a package in the form that names are compared in."""
    name = re.split(r"[\[<>=~!; ]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("schema", SCHEMAS)
def test_files_follow_their_schema(schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    result = subprocess.run([*command, *SCHEMAS[schema]], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_job_has_a_timeout_and_no_more_rights_than_it_needs() -> None:
    for path in SCHEMAS["github-workflows"]:
        workflow = read_yaml(path)
        assert workflow["permissions"] in ({}, {"contents": "read"}), path
        for name, job in workflow["jobs"].items():
            assert "timeout-minutes" in job, (path, name)


def test_ci_runs_every_python_version_of_the_classifiers() -> None:
    matrix = read_yaml(GITHUB / "workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    prefix = "Programming Language :: Python :: 3."
    classifiers = PROJECT["classifiers"]
    minors = [line.removeprefix(prefix) for line in classifiers if line.startswith(prefix)]
    assert matrix["python"] == [f"3.{minor}" for minor in minors]
    assert PROJECT["requires-python"] == f">={matrix['python'][0]}"


def test_pre_commit_hooks_run_in_any_environment() -> None:
    hooks = [
        hook
        for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
        for hook in repo["hooks"]
    ]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert not any(".venv" in hook["entry"] for hook in hooks)
    assert {"ruff", "ruff-format", "mypy", "import-linter"} <= {hook["id"] for hook in hooks}


def test_every_dependency_of_development_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    pins = {normalize(line) for line in lines}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert lines == sorted(lines, key=normalize)
    extras = PROJECT["optional-dependencies"]
    requirements = {normalize(line) for lines in extras.values() for line in lines}
    requirements |= {normalize(line) for line in PROJECT["dependencies"]}
    assert requirements - pins <= {"cutline", "openvino"}  # OpenVINO is not used in development


def test_every_dependency_has_a_minimum_version() -> None:
    extras = PROJECT["optional-dependencies"].values()
    requirements = [*PROJECT["dependencies"], *(line for lines in extras for line in lines)]
    unbounded = [line for line in requirements if ">=" not in line]
    assert unbounded == [
        "cutline[onnx,shards,parquet,tensorboard,coco,ray,serve,heic]",
        "types-PyYAML",
    ]


def test_the_version_is_written_once() -> None:
    import cutline

    assert "version" in PROJECT["dynamic"]
    citation = read_yaml(ROOT / "CITATION.cff")
    assert "version" not in citation
    assert [reference["identifiers"][0]["value"] for reference in citation["references"]] == [
        "arXiv:2201.12086"
    ]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", cutline.__version__)
