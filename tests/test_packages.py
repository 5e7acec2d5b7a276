"""What is packed: one version everywhere, all files that users need, a wheel that works alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import widegram

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("engine/widegram", "cli/widegram_cli", "bench/widegram_bench")
# conda-forge's names, where they are others than PyPI's.
CONDA = {"xxhash": "python-xxhash", "matplotlib": "matplotlib-base", "dask": "dask-core"}
# What setuptools would put into a wheel and into a source distribution, without making them.
LISTS = """
import json, sys
from setuptools import Distribution
packed = Distribution({"script_name": "setup.py"})
packed.parse_config_files()
build = packed.get_command_obj("build_py")
build.ensure_finalized()
source = packed.get_command_obj("egg_info")
source.egg_base = sys.argv[1]
source.ensure_finalized()
source.run()
print(json.dumps([build.get_outputs(include_bytecode=False), source.filelist.files]))
"""


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The files of the wheel, and those of the source distribution."""
    folder = tmp_path_factory.mktemp("lists")
    words = [sys.executable, "-W", "ignore", "-c", LISTS, str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    wheel, source = json.loads(done.stdout.splitlines()[-1])
    return {name.removeprefix("build/lib/") for name in wheel}, set(source)


def test_the_wheel_holds_the_packages_and_nothing_else(lists: tuple[set[str], set[str]]) -> None:
    wheel, _ = lists
    files = {
        path.relative_to((ROOT / package).parent).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert wheel == files
    assert {"widegram/py.typed", "widegram/data/digits.npz"} <= wheel


def test_the_source_distribution_holds_all_that_git_keeps(
    lists: tuple[set[str], set[str]],
) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    assert tracked - lists[1] == set()


def test_the_version_is_one() -> None:
    released = re.findall(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == widegram.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == widegram.__version__
    assert recipe()["context"]["version"] == widegram.__version__


def test_supported_pythons_are_named_once_more_where_users_look() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert recipe()["context"]["python_min"] == named[0]
    text = (ROOT / "docs" / "developing.md").read_text()
    assert all(f"| {version} |" in text for version in named)


def test_the_recipe_of_conda_has_the_bounds_of_the_project() -> None:
    needs = recipe()["requirements"]
    assert {"__linux", "python >=${{ python_min }}", *bounds(PROJECT["dependencies"])} == set(
        needs["run"]
    )
    extras = PROJECT["optional-dependencies"]
    named = ("plot", "tables", "distributed", "sklearn")
    optional = [line for extra in named for line in extras[extra]]
    assert bounds(optional) == set(needs["run_constraints"])


def recipe() -> dict[str, Any]:
    found = yaml.safe_load((ROOT / "examples" / "conda" / "recipe.yaml").read_text())
    assert isinstance(found, dict)
    return found


def bounds(requirements: list[str]) -> set[str]:
    """``numba>=0.61`` as conda writes it, under conda-forge's names."""
    found = set()
    for line in requirements:
        name, bound = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line).groups()
        found.add(f"{CONDA.get(name, name)} >={bound}")
    return found


@pytest.mark.slow
def test_the_wheel_alone_runs_the_demonstration_and_the_quick_tests(tmp_path: Path) -> None:
    """Built as users get it, installed with what it needs into an environment of its own."""
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    build = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, env=environment, capture_output=True)
    check = [str(ROOT / ".ci" / "wheel"), str(tmp_path), sys.executable]
    done = subprocess.run(check, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
