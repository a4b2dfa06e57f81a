"""Who may import whom, proved in clean interpreters and on the source; the probes are shown to fail, too."""

from __future__ import annotations

import ast
import graphlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.support.builds import make_flat

PROJECT = Path(__file__).parent.parent
PACKAGE = "beam_pipelines"
TRAINER = "trainer"
LAUNCH = "launch"


def sources_of(package: str) -> dict[str, Path]:
    paths = sorted((PROJECT / package).rglob("*.py"))
    return {".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


SOURCES = sources_of(PACKAGE)
TRAINER_SOURCES = sources_of(TRAINER)
LAUNCH_SOURCES = sources_of(LAUNCH)
ALL_SOURCES = SOURCES | TRAINER_SOURCES | LAUNCH_SOURCES
PICTURE_GRAPH = f"{PACKAGE}.contract.picture_graph"  # the same rule as PICTURES, for TensorFlow's graphs
CONTRACT = [module for module in SOURCES if module.startswith(f"{PACKAGE}.contract") and module != PICTURE_GRAPH]
PICTURES = f"{PACKAGE}.contract.pictures"  # the contract's one user of image libraries
SCENES = [module for module in SOURCES if module.startswith(f"{PACKAGE}.sample_scenes")]
ENTRY_POINTS = [f"{PACKAGE}.{name}" for name in ("build", "verify")]
TRAINER_COMMANDS = [f"{TRAINER}.{name}" for name in ("task", "evaluate", "predict", "export")]
TENSORFLOW_USER = f"{PACKAGE}.transform"  # runs in a process of its own
TENSORFLOW_USERS = {TENSORFLOW_USER, PICTURE_GRAPH}
WORKERS = [f"{PACKAGE}.{name}" for name in ("graph", "checks")]  # what a remote worker unpickles
INSTALLED_ON_WORKERS = {"PIL", "apache_beam", "google_crc32c", "imagecodecs", "msgspec", "numpy"}


def loaded_by(*arguments: str) -> set[str]:
    """Every module that `python ARGUMENTS` imports in a clean interpreter."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))


def loads_without(banned: set[str], *arguments: str) -> bool:
    return not banned & {name.split(".")[0] for name in loaded_by(*arguments)}


def imports_of(module: str, lazy: bool = True) -> set[str]:
    """What the source of `module` imports, as whole module names; without `lazy` only what importing it imports."""
    return imports_in(ALL_SOURCES[module].read_text(encoding="utf-8"), lazy) - {module}


def imports_in(source: str, lazy: bool = True) -> set[str]:
    return set(_imports(ast.parse(source), lazy))


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


def third_party(imports: set[str]) -> set[str]:
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


def graph_of(modules: Iterable[str]) -> dict[str, set[str]]:
    """What each of the modules imports of them."""
    return {module: imports_of(module) & set(modules) for module in modules}


def order_of(graph: dict[str, set[str]]) -> list[str]:
    return list(graphlib.TopologicalSorter(graph).static_order())


def test_the_probe_can_fail() -> None:
    assert "json.decoder" in loaded_by("-c", "import json")
    assert not loads_without({"json"}, "-c", "import json.decoder")
    assert loads_without({"json"}, "-c", "import string")


def test_the_probe_sees_what_a_run_imports_late() -> None:
    assert not loads_without({"apache_beam"}, "-c", "def late(): import apache_beam.version\nlate()")


def test_the_modules_that_the_pixel_path_consists_of_are_there() -> None:
    pixel_path = (
        "sources",
        "plan",
        "decode",
        "conform",
        "measure",
        "normalize",
        "shards",
        "publish",
        "graph",
        "checks",
    )
    assert {f"{PACKAGE}.{name}" for name in pixel_path} <= SOURCES.keys()
    assert needed_by(WORKERS) >= {f"{PACKAGE}.{name}" for name in pixel_path}


def test_no_module_but_those_of_its_graphs_loads_tensorflow() -> None:
    statement = "import " + ", ".join(module for module in SOURCES if module not in TENSORFLOW_USERS)
    loaded = loaded_by("-c", statement)
    assert "apache_beam" in loaded
    assert not {name for name in loaded if name.split(".")[0].startswith("tensorflow")}


def test_the_contract_loads_neither_beam_nor_tensorflow_nor_yaml() -> None:
    assert loads_without({"apache_beam", "tensorflow", "yaml"}, "-c", "import " + ", ".join(CONTRACT))


def test_only_the_pictures_of_the_contract_load_image_libraries() -> None:
    others = [module for module in CONTRACT if module != PICTURES]
    assert loads_without({"PIL", "imagecodecs"}, "-c", "import " + ", ".join(others))
    assert not loads_without({"PIL", "imagecodecs"}, "-c", f"import {PICTURES}")


def test_the_scenes_load_neither_beam_nor_tensorflow() -> None:
    assert loads_without({"apache_beam", "tensorflow", "yaml"}, "-c", "import " + ", ".join(SCENES))


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


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_help_comes_before_anything_heavy(module: str) -> None:
    heavy = {"PIL", "apache_beam", "google", "google_crc32c", "imagecodecs", "rich", "tensorflow", "yaml"}
    assert loads_without(heavy, "-m", module, "--help")


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
        needed = {"google_crc32c", "msgspec", "numpy"} | ({"PIL", "imagecodecs"} if module == PICTURES else set())
        assert third_party(imports_of(module, lazy=False)) <= needed, module
        if module != f"{PACKAGE}.contract.record":
            assert third_party(imports_of(module)) <= needed, module


def test_workers_need_only_what_is_installed_on_them() -> None:
    for module in needed_by(WORKERS):
        assert third_party(imports_of(module, lazy=False)) <= INSTALLED_ON_WORKERS, module


def test_tensorflow_is_named_only_where_it_is_used() -> None:
    users = {module for module in SOURCES if any("tensorflow" in name for name in imports_of(module))}
    assert users == TENSORFLOW_USERS | {f"{PACKAGE}.contract.record"}
    assert {module for module in SOURCES if PICTURE_GRAPH in imports_of(module)} == {TENSORFLOW_USER}
    assert third_party(imports_of(PICTURE_GRAPH)) == {"tensorflow"}


def test_modules_import_only_what_stands_above_them() -> None:
    graph = graph_of(SOURCES)
    assert set(order_of(graph)) == set(SOURCES)
    assert not [module for module in SOURCES if graph[module] & set(ENTRY_POINTS)]


def test_the_probe_of_the_order_can_fail() -> None:
    with pytest.raises(graphlib.CycleError):
        order_of({"plan": {"sources"}, "sources": {"storage"}, "storage": {"plan"}})
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
    shutil.copy(PROJECT / "setup.py", folder)
    for package in (PACKAGE, TRAINER, LAUNCH):
        shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()
    command = [sys.executable, "setup.py", "--quiet", "egg_info"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    (info,) = folder.glob("*.egg-info")
    return info


def requirements(metadata: Path) -> dict[str, set[str]]:
    """Extra -> names of what it installs; the extra "" is installed always."""
    found: dict[str, set[str]] = {"": set()}
    extra = ""
    for line in (metadata / "requires.txt").read_text(encoding="utf-8").split():
        if line.startswith("["):
            extra = line.strip("[]")
            found[extra] = set()
        else:
            found[extra] |= set(re.findall(r"^[\w-]+", line))
    return found


def test_a_bare_installation_has_neither_beam_nor_tensorflow(metadata: Path) -> None:
    assert requirements(metadata)[""] == {"google-crc32c", "imagecodecs", "msgspec", "numpy", "pillow"}


def test_beam_and_tensorflow_are_extras(metadata: Path) -> None:
    extras = requirements(metadata)
    assert {"apache-beam", "tensorflow-transform"} <= extras["pipelines"]
    assert "tensorflow" in extras["trainer"]


def test_the_distribution_has_every_module_and_no_tests(metadata: Path) -> None:
    listed = (metadata / "SOURCES.txt").read_text(encoding="utf-8").split()
    assert {name for name in listed if name.startswith((PACKAGE, TRAINER, LAUNCH))} == {
        str(path.relative_to(PROJECT)) for path in ALL_SOURCES.values()
    }
    assert (metadata / "top_level.txt").read_text(encoding="utf-8").split() == [PACKAGE, LAUNCH, TRAINER]


# --- the trainer


def foreign_to_the_trainer(imports: set[str]) -> set[str]:
    """What of the imports the trainer has no business with: the pipeline but for the contract, and the cloud's own."""
    heavy = {"apache_beam", "tensorflow_transform", "tf_keras", "google"}
    strangers = {name for name in imports if name.split(".")[0] in heavy | {PACKAGE}}
    return {name for name in strangers if not name.startswith(f"{PACKAGE}.contract")}


def environment_users(source: str) -> list[int]:
    """Lines that read or change the environment."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            found = isinstance(node.value, ast.Name) and node.value.id == "os" and node.attr in names
        elif isinstance(node, ast.ImportFrom):
            found = node.module == "os" and bool(names & {alias.name for alias in node.names})
        else:
            found = isinstance(node, ast.Import) and any(alias.name == "os" and alias.asname for alias in node.names)
        lines += [node.lineno] if found else []
    return lines


def old_keras_users(source: str) -> list[int]:
    """Lines with tf.keras, which another package can turn into Keras 2."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute) and node.attr == "keras"]
    return [node.lineno for node in nodes if isinstance(node.value, ast.Name) and node.value.id == "tf"]


@pytest.mark.parametrize("module", TRAINER_COMMANDS)
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


def test_the_trainer_loads_nothing_of_the_pipeline_but_the_contract() -> None:
    code = f"import sys, {', '.join(TRAINER_SOURCES)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"tensorflow", "keras", f"{TRAINER}.training", f"{PACKAGE}.contract.manifest"} <= loaded
    assert not {name for name in loaded if name.startswith(("apache_beam", "google.cloud.", "tensorflow_transform"))}
    assert {name for name in loaded if name.startswith(f"{PACKAGE}.")} <= {*CONTRACT, PICTURE_GRAPH}


def test_the_trainer_needs_what_its_extra_installs(metadata: Path) -> None:
    modules = {"cloudml-hypertune": "hypertune", "pillow": "PIL", "google-crc32c": "google_crc32c"}
    installed = {modules.get(name, name) for extra in ("", "trainer") for name in requirements(metadata)[extra]}
    for module in TRAINER_SOURCES:
        assert third_party(imports_of(module)) <= installed, module


def test_the_pipeline_imports_nothing_of_the_trainer() -> None:
    for module in SOURCES:
        assert not {name for name in imports_of(module) if name.split(".")[0] == TRAINER}, module


def test_modules_of_the_trainer_import_only_what_stands_above_them() -> None:
    graph = graph_of(TRAINER_SOURCES)
    graph[f"{TRAINER}.prediction"].discard(f"{TRAINER}.predict")  # for the type of its settings alone
    assert f"{TRAINER}.predict" not in imports_of(f"{TRAINER}.prediction", lazy=False)
    assert set(order_of(graph)) == set(TRAINER_SOURCES)
    assert not [module for module in TRAINER_SOURCES if graph[module] & set(TRAINER_COMMANDS)]


def test_only_the_configuration_reads_the_environment() -> None:
    """And quiet.py, which sets how much TensorFlow logs."""
    users = {module for module, path in TRAINER_SOURCES.items() if environment_users(path.read_text(encoding="utf-8"))}
    assert users == {f"{TRAINER}.config", f"{TRAINER}.quiet"}


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
    late = "def late():\n    from beam_pipelines import decode\n    import google.cloud.storage"
    assert foreign_to_the_trainer(imports_in(late)) == {"beam_pipelines.pixels.decode", "google.cloud.storage"}
    assert foreign_to_the_trainer(imports_in("import beam_pipelines")) == {"beam_pipelines"}
    assert foreign_to_the_trainer(imports_in("from apache_beam import io")) == {"apache_beam"}
    assert not foreign_to_the_trainer(imports_in("from beam_pipelines.contract import labels"))
    assert third_party(imports_in("import rich\nfrom sklearn.metrics import f1_score")) == {"rich", "sklearn"}


# --- the launch

LAUNCH_ROOMS = ("errors", "account", "arguments", "dataset", "buckets", "dataflow", "start", "vertex", "doctor")
LAUNCH_COMMANDS = [f"{LAUNCH}.{name}" for name in ("dataflow", "vertex", "doctor")]


def room_of(module: str) -> str:
    """launch.vertex.options -> vertex."""
    return module.removeprefix(f"{LAUNCH}.").partition(".")[0]


def later_rooms(module: str, imports: set[str]) -> set[str]:
    """Rooms among the imports of a module of launch that stand after its own in LAUNCH_ROOMS."""
    rooms = {room_of(name) for name in imports if name.startswith(f"{LAUNCH}.")}
    return {room for room in rooms if LAUNCH_ROOMS.index(room) > LAUNCH_ROOMS.index(room_of(module))}


def test_a_room_of_the_launch_imports_only_rooms_before_it() -> None:
    modules = LAUNCH_SOURCES.keys() - {LAUNCH}
    assert {room_of(module) for module in modules} == set(LAUNCH_ROOMS)
    assert not {module: found for module in modules if (found := later_rooms(module, imports_of(module)))}
    assert set(order_of(graph_of(LAUNCH_SOURCES))) == set(LAUNCH_SOURCES), "no two modules import each other"


def test_the_probe_of_the_rooms_can_fail() -> None:
    assert later_rooms(f"{LAUNCH}.dataflow.job", {f"{LAUNCH}.vertex.request", f"{LAUNCH}.account"}) == {"vertex"}
    with pytest.raises(ValueError, match=r"not in tuple"):
        later_rooms(f"{LAUNCH}.dataflow.job", {f"{LAUNCH}.utils"})


@pytest.mark.parametrize("module", LAUNCH_COMMANDS)
def test_help_and_parser_of_a_launch_come_before_anything_heavy(module: str) -> None:
    heavy = {"PIL", "apache_beam", "google", "imagecodecs", "keras", "packaging", "rich", "tensorflow", "yaml"}
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
    assert {room_of(module) for module in users} == {"account", "buckets", "dataflow", "vertex", "doctor"}
    assert {module for module in users if room_of(module) == "vertex"} == {f"{LAUNCH}.vertex.submit"}


def test_what_starts_on_an_image_needs_nothing_before_it_has_installed_it() -> None:
    """Of this project the errors alone, which the sdist has."""
    waiting, needed = [f"{LAUNCH}.start"], set[str]()
    while waiting:
        module = waiting.pop()
        needed.add(module)
        waiting += [name for name in imports_of(module, lazy=False) if name in ALL_SOURCES and name not in needed]
    assert needed == {f"{LAUNCH}.start", f"{LAUNCH}.errors", f"{PACKAGE}.errors"}
    assert not {name for module in needed for name in third_party(imports_of(module, lazy=False))}
