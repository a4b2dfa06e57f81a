"""Who may import whom, proved in clean interpreters and on the source; the probes are shown to fail, too."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

from tests.support.builds import make_flat

PROJECT = Path(__file__).parent.parent
PACKAGE = "beam_pipelines"
TRAINER = "trainer"
LAUNCH = "launch"

# The rooms of a package, a module or a folder each. A room imports only rooms before it; nothing imports a command.
ROOMS = {
    PACKAGE: (
        "contract",
        "errors",
        "wording",
        "recipe",
        "rejects",
        "machine",
        "stopping",
        "files",
        "inputs",
        "pixels",
        "shards",
        "card",
        "graph",
        "label_drafts",
        "worker_processes",
        "runners",
        "options",
        "metadata",
        "progress",
        "report",
        "planner",
        "tidying",
        "builder",
        "verifier",
        "drafter",
        "build",
        "verify",
        "labels",
        "card.__main__",  # a command in a room
    ),
    TRAINER: (
        "errors",
        "console",
        "settings",
        "arguments",
        "cluster",
        "files",
        "tracking",
        "models",
        "objective",
        "data",
        "sections",
        "recipes",
        "config",
        "inference",
        "evaluation",
        "formats",
        "training",
        "comparison",
        "task",
        "evaluate",
        "compare",
        "predict",
        "export",
        "convert",
    ),
    LAUNCH: (
        "errors",
        "account",
        "arguments",
        "dataset",
        "buckets",
        "dataflow",
        "start",
        "vertex",
        "pipeline",
        "doctor",
    ),
}
COMMANDS = {
    PACKAGE: {f"{PACKAGE}.{name}" for name in ("build", "card.__main__", "labels", "verify")},
    TRAINER: {f"{TRAINER}.{name}" for name in ("task", "evaluate", "compare", "predict", "export", "convert")},
    LAUNCH: {f"{LAUNCH}.{name}.__main__" for name in ("dataflow", "vertex", "pipeline", "doctor")},
}


def sources_of(package: str, project: Path = PROJECT) -> dict[str, Path]:
    paths = sorted((project / package).rglob("*.py"))
    return {".".join(path.relative_to(project).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


SOURCES = sources_of(PACKAGE)
# What pages are made of.
DATA_FILES = {
    str(path.relative_to(PROJECT))
    for folder in (
        f"{PACKAGE}/card/templates",
        f"{PACKAGE}/contract/pages/templates",
        f"{PACKAGE}/contract/pages/vendor",
        f"{TRAINER}/comparison/templates",
        f"{TRAINER}/evaluation/templates",
    )
    for path in (PROJECT / folder).iterdir()
}
TRAINER_SOURCES = sources_of(TRAINER)
LAUNCH_SOURCES = sources_of(LAUNCH)
ALL_SOURCES = SOURCES | TRAINER_SOURCES | LAUNCH_SOURCES
PICTURE_GRAPH = f"{PACKAGE}.contract.picture_graph"  # the same rule as PICTURES, for TensorFlow's graphs
PICTURE_GRAPHS = {PICTURE_GRAPH, f"{PACKAGE}.contract.picture_headers"}
CONTRACT = [module for module in SOURCES if module.startswith(f"{PACKAGE}.contract") and module not in PICTURE_GRAPHS]
PICTURES = f"{PACKAGE}.contract.pictures"
PAGES = f"{PACKAGE}.contract.pages"
TEMPLATE_ENGINE = {"jinja2", "markupsafe"}
# Of the contract.
IMAGE_LIBRARY_USERS = {PICTURES, f"{PACKAGE}.contract.png", f"{PACKAGE}.contract.tiff", f"{PAGES}.pictures"}
IMAGE_LIBRARIES = {"PIL", "imagecodecs", "imgread"}
SCENES = [module for module in SOURCES if module.startswith(f"{PACKAGE}.inputs.sample_scenes")]
TENSORFLOW_USER = f"{PACKAGE}.metadata.transform_fn"  # runs in a process of its own
TENSORFLOW_USERS = {TENSORFLOW_USER, *PICTURE_GRAPHS}
# In processes of their own, here and on an image of Vertex AI: not what a user starts.
STARTED_BY_US = {
    TENSORFLOW_USER,
    f"{PACKAGE}.inputs.sample_scenes.drawing",
    f"{LAUNCH}.dataflow.unpickle",
    f"{LAUNCH}.start",
    f"{LAUNCH}.vertex.bootstrap",
}
# What a remote worker unpickles.
WORKERS = [f"{PACKAGE}.{name}" for name in ("graph", "label_drafts.count", "shards.check")]
INSTALLED_ON_WORKERS = {
    "PIL",
    "apache_beam",
    "google_crc32c",
    "imagecodecs",
    "imgread",
    "msgspec",
    "numpy",
    "pycocotools",
    "xxhash",
}


def loaded_by(*arguments: str) -> set[str]:
    """Every module that `python ARGUMENTS` imports in a clean interpreter."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


def loads_without(banned: set[str], *arguments: str) -> bool:
    return not banned & {name.split(".")[0] for name in loaded_by(*arguments)}


def third_party_loaded_by(*arguments: str) -> set[str]:
    """What `python ARGUMENTS` imports, but for what Python imports to start, the standard library and this project."""
    found = third_party(loaded_by(*arguments)) - {name.split(".")[0] for name in loaded_by("-c", "")}
    return {name for name in found if importlib.util.find_spec(name)}  # Python also names what it did not find


def imports_of(module: str, lazy: bool = True) -> frozenset[str]:
    """What the source of `module` imports, as whole module names; without `lazy` only what importing it imports."""
    return imports_in(ALL_SOURCES[module].read_text(encoding="utf-8"), lazy) - {module}


@functools.cache
def imports_in(source: str, lazy: bool = True) -> frozenset[str]:
    return frozenset(_imports(ast.parse(source), lazy))


def _imports(node: ast.AST, lazy: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            parts = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (part if part in ALL_SOURCES else str(child.module) for part in parts)
        elif lazy or not (isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or _is_for_types_only(child)):
            yield from _imports(child, lazy)


def _is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def third_party(imports: Set[str]) -> set[str]:
    return {name.split(".")[0] for name in imports} - sys.stdlib_module_names - {PACKAGE, TRAINER, LAUNCH}


def needed_by(modules: list[str]) -> set[str]:
    """`modules` and every module of the package that importing them imports."""
    found, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += [name for name in imports_of(module, lazy=False) if name in SOURCES]
    return found


def graph_of(sources: Mapping[str, Path]) -> dict[str, set[str]]:
    """What each of the modules imports of them, late and for its types, too."""
    imports = {module: imports_in(path.read_text(encoding="utf-8")) for module, path in sources.items()}
    return {module: set(found - {module}) & sources.keys() for module, found in imports.items()}


def order_of(graph: dict[str, set[str]]) -> list[str]:
    return list(graphlib.TopologicalSorter(graph).static_order())


def room_of(module: str) -> str:
    package, _, name = module.partition(".")
    return name if name in ROOMS[package] else name.split(".")[0]


def backward_imports(package: str, graph: Mapping[str, set[str]]) -> list[str]:
    """`A imports B`, for each import of a room that stands after A's own, and of a command."""
    rank = {room: place for place, room in enumerate(ROOMS[package])}
    pairs = [(module, other) for module, found in graph.items() for other in sorted(found - {package})]
    return [
        f"{module} imports {other}"
        for module, other in pairs
        if module == package or rank[room_of(other)] > rank[room_of(module)] or other in COMMANDS[package]
    ]


def circle_in(graph: Mapping[str, set[str]]) -> str:
    """`A imports B imports A`, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return " imports ".join(reversed(error.args[1]))
    return ""


def has_main_guard(source: str) -> bool:
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in ast.parse(source).body)


def test_the_probe_can_fail() -> None:
    assert "json.decoder" in loaded_by("-c", "import json")
    assert not loads_without({"json"}, "-c", "import json.decoder")
    assert loads_without({"json"}, "-c", "import string")


@pytest.mark.slow
def test_the_probe_sees_what_a_run_imports_late() -> None:
    assert not loads_without({"apache_beam"}, "-c", "def late(): import apache_beam.version\nlate()")


def test_the_modules_that_the_pixel_path_consists_of_are_there() -> None:
    pixel_path = (
        "inputs.pairs",
        "pixels.decode",
        "pixels.masks",
        "pixels.conform",
        "pixels.measure",
        "pixels.normalize",
        "shards.plan",
        "shards.stage",
        "shards.publish",
        "shards.check",
        "graph",
    )
    assert {f"{PACKAGE}.{name}" for name in pixel_path} <= SOURCES.keys()
    assert needed_by(WORKERS) >= {f"{PACKAGE}.{name}" for name in pixel_path}


@pytest.mark.slow
def test_no_module_but_those_of_its_graphs_loads_tensorflow() -> None:
    statement = "import " + ", ".join(module for module in SOURCES if module not in TENSORFLOW_USERS)
    loaded = loaded_by("-c", statement)
    assert "apache_beam" in loaded
    assert not {name for name in loaded if name.split(".")[0].startswith("tensorflow")}


def test_the_contract_loads_neither_beam_nor_tensorflow_nor_yaml() -> None:
    assert loads_without({"apache_beam", "tensorflow", "yaml"}, "-c", "import " + ", ".join(CONTRACT))


def test_only_the_pictures_of_the_contract_load_image_libraries() -> None:
    others = [module for module in CONTRACT if module not in IMAGE_LIBRARY_USERS]
    assert loads_without(IMAGE_LIBRARIES, "-c", "import " + ", ".join(others))
    assert not loads_without({"PIL", "imagecodecs"}, "-c", f"import {PICTURES}")


def test_the_scenes_load_neither_beam_nor_tensorflow() -> None:
    assert loads_without({"apache_beam", "tensorflow", "yaml"}, "-c", "import " + ", ".join(SCENES))


@pytest.mark.slow
def test_a_whole_build_and_its_verification_load_no_tensorflow(tmp_path: Path) -> None:
    """Pictures of two sizes, of which no graph is written: all runs in the processes that are looked at."""
    small, large = (
        make_flat(tmp_path / "in", train=1, val=1),
        make_flat(tmp_path / "in2", train=2, val=0, size=(48, 96)),
    )
    for kind in ("images", "masks"):
        shutil.copy(large / kind / "train" / "train_0001.png", small / kind / "train")
    output = tmp_path / "out"
    options = [f"--input={small}", f"--output={output}", "--labels=camvid11", "--image_size=native"]
    for arguments in (["-m", f"{PACKAGE}.build", *options], ["-m", f"{PACKAGE}.verify", str(output)]):
        loaded = loaded_by(*arguments)
        assert f"{PACKAGE}.shards" in loaded
        assert not {name for name in loaded if name.split(".")[0].startswith("tensorflow")}


@pytest.mark.parametrize("module", sorted(COMMANDS[PACKAGE]))
def test_help_is_light(module: str) -> None:
    """Of what has to be installed, --help loads what the label tables are made of, and nothing else."""
    assert third_party_loaded_by("-m", module, "--help") == {"msgspec", "numpy", "typing_extensions"}
    assert third_party_loaded_by("-c", "import copy, yaml") == {"yaml"}


def test_a_mistyped_value_is_told_before_anything_heavy() -> None:
    code = (
        "import sys; from beam_pipelines.build import main\n"
        "try: main(['--image_size=big'])\n"
        "except SystemExit as error: sys.exit(error.code != 2)"
    )
    assert loads_without({"apache_beam", "PIL", "rich", "tensorflow"}, "-c", code)


def test_the_contract_imports_nothing_else_of_the_package() -> None:
    for module in CONTRACT:
        assert {name for name in imports_of(module) if name.startswith(PACKAGE)} <= set(CONTRACT), module


def test_the_contract_needs_little_and_tensorflow_only_to_parse() -> None:
    for module in CONTRACT:
        images = IMAGE_LIBRARIES if module in IMAGE_LIBRARY_USERS else set[str]()
        templates = TEMPLATE_ENGINE if module == PAGES else set[str]()
        needed = {"google_crc32c", "msgspec", "numpy"} | images | templates
        assert third_party(imports_of(module, lazy=False)) <= needed, module
        if module != f"{PACKAGE}.contract.record":
            assert third_party(imports_of(module)) <= needed, module


def test_workers_need_only_what_is_installed_on_them() -> None:
    for module in needed_by(WORKERS):
        assert third_party(imports_of(module, lazy=False)) <= INSTALLED_ON_WORKERS, module


def test_tensorflow_is_named_only_where_it_is_used() -> None:
    users = {module for module in SOURCES if any("tensorflow" in name for name in imports_of(module))}
    assert users == TENSORFLOW_USERS | {f"{PACKAGE}.contract.record"}
    users = {module for module in SOURCES if PICTURE_GRAPHS & imports_of(module)}
    assert users == {TENSORFLOW_USER, PICTURE_GRAPH}
    for module in PICTURE_GRAPHS:
        assert third_party(imports_of(module)) <= {"numpy", "tensorflow"}


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_rooms_before_it(package: str) -> None:
    graph = graph_of(sources_of(package))
    assert {room_of(module) for module in graph.keys() - {package}} == set(ROOMS[package])
    assert not (backward := backward_imports(package, graph)), "\n".join(backward)
    assert not (circle := circle_in(graph)), circle


@pytest.mark.parametrize("package", ROOMS)
def test_commands_are_what_is_started_by_name(package: str) -> None:
    sources = sources_of(package)
    started = {module for module, path in sources.items() if has_main_guard(path.read_text(encoding="utf-8"))}
    assert started - STARTED_BY_US == COMMANDS[package]


@pytest.mark.parametrize(
    ("module", "line", "told"),
    [
        ("pixels.decode", "import beam_pipelines.shards.plan", "imports beam_pipelines.shards.plan"),
        ("files.storage", "from beam_pipelines import options", "imports beam_pipelines.options"),
        (
            "rejects",
            "def late():\n    from beam_pipelines.inputs import sources",
            "imports beam_pipelines.inputs.sources",
        ),
        ("recipe", "if TYPE_CHECKING:\n    from beam_pipelines.graph import run", "imports beam_pipelines.graph"),
        ("verify", "from beam_pipelines.build import main", "imports beam_pipelines.build"),
        ("contract", "from beam_pipelines.errors import BuildError", "imports beam_pipelines.errors"),
    ],
    ids=["a room", "a module", "late", "for types", "a command", "the first room"],
)
def test_the_probe_of_imports_of_later_rooms_can_fail(module: str, line: str, told: str, tmp_path: Path) -> None:
    shutil.copytree(PROJECT / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    sources = sources_of(PACKAGE, tmp_path)
    assert not backward_imports(PACKAGE, graph_of(sources))
    with sources[f"{PACKAGE}.{module}"].open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    assert backward_imports(PACKAGE, graph_of(sources)) == [f"{PACKAGE}.{module} {told}"]


def test_the_probe_of_circles_can_fail() -> None:
    assert circle_in({"plan": {"sources"}, "sources": {"storage"}, "storage": {"plan"}}).count(" imports ") == 3
    assert circle_in({"stage": {"plan"}, "plan": {"stage"}}) in {
        "stage imports plan imports stage",
        "plan imports stage imports plan",
    }
    assert not circle_in({"plan": {"sources"}, "sources": {"storage"}})


def test_the_probe_of_imports_sees_those_made_late() -> None:
    assert f"{PACKAGE}.builder" in imports_of(f"{PACKAGE}.build")
    assert f"{PACKAGE}.builder" not in imports_of(f"{PACKAGE}.build", lazy=False)
    assert third_party(imports_of(TENSORFLOW_USER)) >= {"apache_beam", "tensorflow", "tensorflow_transform"}
    assert third_party(imports_of(f"{PACKAGE}.contract.record")) == {"tensorflow"}
    assert not third_party(imports_of(f"{PACKAGE}.contract.record", lazy=False))


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The metadata that the distribution is installed with: its egg-info folder."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("project")
    for name in ("setup.py", "README.md", "LICENSE", "MANIFEST.in", "pyproject.toml"):
        shutil.copy(PROJECT / name, folder)
    for package in (PACKAGE, TRAINER, LAUNCH):
        shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for stranger in (
        "tests/__init__.py",
        "tests/picture.png",
        "beam_pipelines/picture.png",
        "CHANGELOG.md",
        "Makefile",
    ):
        (folder / stranger).touch()
    command = [sys.executable, "setup.py", "--quiet", "egg_info"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    (info,) = folder.glob("*.egg-info")
    return info


def requirements(metadata: Path) -> dict[str, set[str]]:
    """Extra -> names of what it installs; the extra "" is installed always."""
    found: dict[str, set[str]] = {"": set()}
    extra = ""
    for line in (metadata / "requires.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            extra = line.strip("[]").partition(":")[0]  # behind the colon is a condition
            found.setdefault(extra, set())
        else:
            found[extra] |= set(re.findall(r"^[\w-]+", line))
    return found


def test_a_bare_installation_has_neither_beam_nor_tensorflow(metadata: Path) -> None:
    assert requirements(metadata)[""] == {
        "google-crc32c",
        "imagecodecs",
        "imgread",
        "msgspec",
        "numpy",
        "pillow",
        "pycocotools",
        "xxhash",
    }


def test_beam_and_tensorflow_are_extras(metadata: Path) -> None:
    extras = requirements(metadata)
    assert {"apache-beam", "tensorflow-transform"} <= extras["pipelines"]
    assert "tensorflow" in extras["trainer"]


def test_the_distribution_has_every_module_and_nothing_that_it_does_not_need(metadata: Path) -> None:
    listed = (metadata / "SOURCES.txt").read_text(encoding="utf-8").split()
    modules = {str(path.relative_to(PROJECT)) for path in ALL_SOURCES.values()}
    others = {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"} | DATA_FILES
    others |= {str(path.relative_to(PROJECT)) for path in (PROJECT / TRAINER / "recipes").glob("*.yaml")}
    assert {name for name in listed if not name.startswith(metadata.name)} == modules | others
    assert (metadata / "top_level.txt").read_text(encoding="utf-8").split() == [PACKAGE, LAUNCH, TRAINER]


# --- the trainer


def foreign_to_the_trainer(imports: Set[str]) -> set[str]:
    """What of the imports the trainer has no business with: the pipeline but for the contract, and the cloud's own."""
    heavy = {"apache_beam", "tensorflow_transform", "tf_keras", "google"}
    strangers = {name for name in imports if name.split(".")[0] in heavy | {PACKAGE}}
    return {name for name in strangers if not name.startswith(f"{PACKAGE}.contract")}


def environment_users(source: str) -> list[int]:
    """Lines that read or change the environment."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    lines: list[int] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found = isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in names
        elif isinstance(node, ast.ImportFrom):
            found = node.module == "os" and bool(names & {alias.name for alias in node.names})
        else:
            found = isinstance(node, ast.Import) and any(alias.name == "os" and alias.asname for alias in node.names)
        lines += [node.lineno] if found and isinstance(node, (ast.stmt, ast.expr)) else []
    return lines


def old_keras_users(source: str) -> list[int]:
    """Lines with tf.keras, which another package can turn into Keras 2."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute) and node.attr == "keras"]
    return [node.lineno for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "tf"]


@pytest.mark.parametrize("module", sorted(COMMANDS[TRAINER]))
def test_help_of_the_trainer_comes_before_anything_heavy(module: str) -> None:
    heavy = {"PIL", "apache_beam", "google", "google_crc32c", "h5py", "keras", "matplotlib", "msgspec", "numpy", "rich"}
    assert loads_without(heavy | {"tensorflow", "tensorflow_transform", "yaml"}, "-m", module, "--help")


@pytest.mark.parametrize("module", sorted(COMMANDS[TRAINER]))
def test_a_mistyped_option_of_the_trainer_is_told_before_anything_heavy(module: str) -> None:
    code = (
        f"import sys; from {module} import main\n"
        "try: main(['--mistyped=1'])\n"
        "except SystemExit as error: sys.exit(error.code != 2)"
    )
    assert loads_without({"keras", "numpy", "rich", "tensorflow"}, "-c", code)


def test_the_trainer_imports_nothing_of_the_pipeline_but_the_contract() -> None:
    imports = {module: imports_of(module) for module in TRAINER_SOURCES}
    assert not {module: found for module in imports if (found := foreign_to_the_trainer(imports[module]))}
    assert any(name.startswith(f"{PACKAGE}.contract") for found in imports.values() for name in found)


@pytest.mark.slow
def test_the_trainer_loads_nothing_of_the_pipeline_but_the_contract() -> None:
    code = f"import sys, {', '.join(TRAINER_SOURCES)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"tensorflow", "keras", f"{TRAINER}.training", f"{PACKAGE}.contract.manifest"} <= loaded
    assert not {name for name in loaded if name.startswith(("apache_beam", "google.cloud.", "tensorflow_transform"))}
    assert {name for name in loaded if name.startswith(f"{PACKAGE}.")} <= {*CONTRACT, *PICTURE_GRAPHS}


# The modules, and the room, that import what only another extra installs, and only where they use it.
OPTIONAL = {
    f"{TRAINER}.formats": "export",
    f"{TRAINER}.inference.frames": "video",
    f"{TRAINER}.tracking.in_mlflow": "tracking",
    f"{TRAINER}.tracking.in_wandb": "tracking",
}


def test_the_trainer_needs_what_its_extra_installs(metadata: Path) -> None:
    modules = {
        "cloudml-hypertune": "hypertune",
        "mlflow-skinny": "mlflow",
        "pillow": "PIL",
        "google-crc32c": "google_crc32c",
        "pyyaml": "yaml",
        "ai-edge-litert": "ai_edge_litert",
    }
    found = requirements(metadata)
    installed = {extra: {modules.get(name, name) for name in names} for extra, names in found.items()}
    for module in TRAINER_SOURCES:
        always = installed[""] | installed["trainer"]
        assert third_party(imports_of(module, lazy=False)) <= always, f"{module}: optional packages are imported late"
        extra = OPTIONAL.get(module, OPTIONAL.get(f"{TRAINER}.{room_of(module)}", ""))
        assert third_party(imports_of(module)) <= always | installed.get(extra, set()), module
    assert OPTIONAL.keys() <= TRAINER_SOURCES.keys()


def test_the_pipeline_imports_nothing_of_the_trainer() -> None:
    for module in SOURCES:
        assert not {name for name in imports_of(module) if name.split(".")[0] == TRAINER}, module


def test_only_the_configuration_reads_the_environment() -> None:
    """And console.py, which sets how much TensorFlow logs."""
    users = {module for module, path in TRAINER_SOURCES.items() if environment_users(path.read_text(encoding="utf-8"))}
    assert users == {f"{TRAINER}.config", f"{TRAINER}.console"}


def test_the_trainer_imports_keras_itself() -> None:
    for module, path in TRAINER_SOURCES.items():
        assert not old_keras_users(path.read_text(encoding="utf-8")), module


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef late():\n    return os.environ['HOME']",
        "import os\nvalue = os.getenv('HOME')",
        "from os import environ",
        "import os as system\nsystem.environ",
    ],
)
def test_the_probe_of_the_environment_can_fail(source: str) -> None:
    assert environment_users(source)
    assert not environment_users("import os\nos.path.join('environ', 'getenv')")


def test_the_probes_of_the_trainer_can_fail() -> None:
    assert old_keras_users("import tensorflow as tf\nlayer = tf.keras.layers.Dense(1)") == [2]
    assert not old_keras_users("import keras\nlayer = keras.layers.Dense(1)")
    late = "def late():\n    from beam_pipelines.pixels import decode\n    import google.cloud.storage"
    assert foreign_to_the_trainer(imports_in(late)) == {"beam_pipelines.pixels.decode", "google.cloud.storage"}
    assert foreign_to_the_trainer(imports_in("import beam_pipelines")) == {"beam_pipelines"}
    assert foreign_to_the_trainer(imports_in("from apache_beam import io")) == {"apache_beam"}
    assert not foreign_to_the_trainer(imports_in("from beam_pipelines.contract import labels"))
    assert third_party(imports_in("import rich\nfrom sklearn.metrics import f1_score")) == {"rich", "sklearn"}


# --- the launch

LAUNCH_COMMANDS = [f"{LAUNCH}.{name}" for name in ("dataflow", "vertex", "pipeline", "doctor")]


@pytest.mark.parametrize("module", LAUNCH_COMMANDS)
def test_help_and_parser_of_a_launch_come_before_anything_heavy(module: str) -> None:
    heavy = {
        "PIL",
        "apache_beam",
        "google",
        "imagecodecs",
        "imgread",
        "keras",
        "kfp",
        "packaging",
        "rich",
        "tensorflow",
        "yaml",
    }
    assert loads_without(heavy, "-m", module, "--help")
    assert loads_without(heavy, "-c", f"from {module}.options import make_parser; make_parser()")


def test_a_dry_run_of_vertex_loads_nothing_heavy() -> None:
    heavy = {"PIL", "apache_beam", "google", "keras", "numpy", "rich", "tensorflow", "yaml"}
    place = ["--project=street", "--region=us-central1", "--output=gs://street/run", "--dataset=gs://street/data"]
    assert loads_without(heavy, "-m", f"{LAUNCH}.vertex", *place, "--dry_run")


def test_nothing_but_a_launch_imports_it() -> None:
    for module in SOURCES | TRAINER_SOURCES:
        assert not {name for name in imports_of(module) if name.split(".")[0] == LAUNCH}, module


def test_the_launch_needs_what_its_extra_installs(metadata: Path) -> None:
    assert {"google-cloud-aiplatform", "google-cloud-storage", "setuptools"} <= requirements(metadata)[LAUNCH]
    users = {module for module in LAUNCH_SOURCES if "google" in third_party(imports_of(module))}
    assert {room_of(module) for module in users} == {"account", "buckets", "dataflow", "vertex", "pipeline", "doctor"}
    of_vertex = {module for module in users if room_of(module) == "vertex"}
    assert of_vertex == {f"{LAUNCH}.vertex.{name}" for name in ("cloud_build", "follow", "submit")}


def test_the_command_in_a_request_needs_only_what_the_image_has() -> None:
    module = f"{LAUNCH}.vertex.bootstrap"
    assert third_party(imports_of(module)) == {"tensorflow"}
    assert not {name for name in imports_of(module) if name in ALL_SOURCES}


def test_what_starts_on_an_image_needs_nothing_before_it_has_installed_it() -> None:
    """Of this project the errors and the console alone, which the sdist has."""
    waiting, needed = [f"{LAUNCH}.start"], set[str]()
    while waiting:
        module = waiting.pop()
        needed.add(module)
        waiting += [name for name in imports_of(module, lazy=False) if name in ALL_SOURCES and name not in needed]
    errors = {f"{LAUNCH}.errors", f"{PACKAGE}.errors", f"{PACKAGE}.contract.errors"}
    assert needed == {f"{LAUNCH}.start", f"{TRAINER}.console"} | errors
    assert not {name for module in needed for name in third_party(imports_of(module, lazy=False))}
