"""The drawing of the house, enforced: who may import whom, and that a method can be taken out."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_replearn"
EVERYWHERE = {"errors", "files", "strict_yaml", "__version__"}
MAY_IMPORT = {
    "errors": set(),
    "files": set(),
    "strict_yaml": set(),
    "settings": set(),
    "data": {"data", "files"},
    "augmentation": {"randomness"},
    "metrics": {"metrics"},
    "randomness": set(),
    "losses": set(),
    "architectures": {"data", "encoders", "training"},
    "pretraining": {
        "pretraining",
        "architectures",
        "data",
        "encoders",
        "representation",
        "evaluation",
        "training",
        "sharing",
        "settings",
        "methods",
        "randomness",
    },  # fmt: skip
    "encoders": {"encoders", "data"},
    "representation": {"data", "encoders"},
    "encoding": {"data", "encoders", "representation"},
    "decoded": {"encoders", "encoding"},
    "evaluation": {"representation", "evaluation", "encoders", "metrics", "data"},
    "judging": {
        "judging",
        "data",
        "encoders",
        "representation",
        "evaluation",
        "metrics",
        "training",
        "sharing",
        "settings",
    },
    "training": {"training", "representation", "evaluation", "settings", "randomness"},
    "sharing": {"sharing", "evaluation"},
    "methods": {"methods"},  # and of these only what all share, see the deletion test
    "cli": {"recipes", "settings"},
    "notebook": {"cli", "data", "pretraining", "recipes", "settings"},
}
COLLATORS_MAY_IMPORT = {"augmentation", "data", "randomness", "losses"}
SHOWING_MAY_IMPORT = {"augmentation", "data", "evaluation", "sharing"}  # scores of its own task, and pictures of it
SHARED = ("trunk", "codes", "fitted")  # files of methods/, copied beside those of a method when its weights are saved
TRAVELLING = [
    path for path in PACKAGE.glob("methods/*/modeling_*.py") if "register(" in path.with_name("__init__.py").read_text()
]
FILES = [path for path in PACKAGE.rglob("*.py") if "recipes" not in path.parts and path.name[0] != "_"]


def imports_of_ours(path: Path) -> set[str]:
    """The rooms of hf_replearn that a file imports, anywhere in it."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                folder = path.parent.joinpath(*[".."] * (node.level - 1)).resolve()
                module = [*folder.relative_to(PACKAGE).parts, *(node.module or "").split(".")]
            elif (node.module or "").split(".")[0] == "hf_replearn":
                module = node.module.split(".")[1:] or [alias.name for alias in node.names]
            else:
                continue
            rooms.add(module[0] if module[0] else "hf_replearn")
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            rooms |= {name[1] if len(name) > 1 else "hf_replearn" for name in names if name[0] == "hf_replearn"}
    return rooms - EVERYWHERE


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = MAY_IMPORT[room]
    if path.name.startswith("modeling_") and path not in TRAVELLING:  # its weights are those of a native model
        allowed = allowed | {"losses", "encoders"}
    if path.name.startswith("collating"):
        allowed = allowed | COLLATORS_MAY_IMPORT
    if path.name.startswith("showing"):
        allowed = allowed | SHOWING_MAY_IMPORT
    assert imports_of_ours(path) <= allowed


@pytest.mark.parametrize("path", (PACKAGE.parent / "recipes").glob("*.py"), ids=lambda path: path.name)
def test_a_recipe_knows_no_other(path):
    """Each can be taken out; what two share is in the package."""
    assert "recipes" not in imports_of_ours(path)


TRAVELLERS = [*TRAVELLING, *(PACKAGE / "methods" / f"{name}.py" for name in SHARED)]


@pytest.mark.parametrize("path", TRAVELLERS, ids=lambda path: path.name)
def test_modeling_files_travel_alone(path):
    """As remote code they reach only torch, transformers, timm and files beside them."""
    for file in {path, path.with_name(path.name.replace("modeling_", "configuration_"))}:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module and "." not in node.module, f"{file.name}: from {node.module}"
            elif isinstance(node, ast.ImportFrom):
                names = [node.module] if node.module not in [f"hf_replearn.methods.{name}" for name in SHARED] else []
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            if not getattr(node, "level", 0):
                allowed = {
                    "torch",
                    "transformers",
                    "timm",
                    "huggingface_hub",
                    "dataclasses",
                    "typing",
                    "collections",
                    "contextlib",
                    "copy",
                    "math",
                    "pathlib",
                }
                assert {name.split(".")[0] for name in names} <= allowed, file.name


@pytest.mark.parametrize(
    "method", [path.name for path in PACKAGE.glob("methods/*/") if path.is_dir() and path.name[0] != "_"]
)
def test_a_method_can_be_taken_out(method):
    """Nothing but its folder, its line in the public names, its command, its recipe and its tests knows a method."""
    knowing = [
        path.relative_to(PACKAGE).as_posix()
        for path in FILES
        if f"methods/{method}/" not in path.as_posix() and f"methods.{method}" in path.read_text()
    ]
    assert knowing == []


SOURCES = [*FILES, *(PACKAGE.parent / "recipes").glob("*.py")]
FORBIDDEN = {
    "pickles": r"import (pickle|dill|joblib|cloudpickle|shelve)|pickle\.|weights_only=False|allow_pickle=True",
    "objects sent as pickles": r"(all_gather|broadcast|gather|scatter)_object",
    "pickled word vectors": r"import gensim|from gensim",
    "code of others": r"trust_remote_code=True|(?<![.\w])(eval|exec)\(|shell=True|os\.system",
    "unsafe YAML": r"unsafe_load|full_load|yaml\.Loader|UnsafeLoader",
    "unchecked archive paths": r"extractall|unpack_archive",
    "decompression bombs": r"MAX_IMAGE_PIXELS = None|simplefilter\([^)]*DecompressionBomb",
    "tokens in settings": r"token: str.*setting\(None, .*(HF_TOKEN|access token)",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_unsafe_is_done(what):
    """Anywhere in the package or the recipes."""
    assert [path for path in SOURCES if re.search(FORBIDDEN[what], path.read_text())] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_nothing_of_others_is_loaded_without_a_word_about_its_code(path):
    """transformers asks at a terminal whether to run code that comes with a model, unless it is told not to."""
    for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
        if not (isinstance(call.func, ast.Attribute) and call.func.attr == "from_pretrained"):
            continue
        ours = isinstance(call.func.value, ast.Name) and call.func.value.id.endswith("ForPreTraining")
        told = [word.value.value for word in call.keywords if word.arg == "trust_remote_code"]
        assert ours or told == [False], f"{path.name}, line {call.lineno}"


def test_what_may_be_unsafe_is_used_safely():
    """torch.load without objects; YAML by subclasses of SafeLoader; templates of others sandboxed, pages escaped."""
    for path in SOURCES:
        text = path.read_text()
        for call in re.findall(r"torch\.load\(.*", text):
            assert "weights_only=True" in call, path
        for loader in re.findall(r"yaml\.load\(.*Loader=(\w+)", text):
            assert re.search(rf"class {loader}\((yaml\.)?SafeLoader\)", text), path
        for environment in re.findall(r"\b(\w*Environment)\(", text):
            assert "Sandboxed" in environment or "FileSystemLoader" in text, path  # our own templates
        if ".html" in text and "FileSystemLoader" in text and "Markdown" not in text:
            assert re.search(r"autoescape=(True|select_autoescape)", text), path


@pytest.mark.parametrize("recipe", [path.stem for path in (PACKAGE.parent / "recipes").glob("*.py")])
def test_the_readme_has_a_line_for_every_recipe_and_all_its_links_exist(recipe):
    readme = (PACKAGE.parent / "README.md").read_text()
    links = re.findall(r"\]\((?!http|#)([^)#]+)\)", readme)
    assert f"recipes/{recipe}.py" in links
    assert [link for link in links if not (PACKAGE.parent / link).exists()] == []


def test_the_list_of_faults_names_tests_that_exist():
    folder = PACKAGE.parent / "tests" / "faults"
    text = (folder / "README.md").read_text()
    sources = {}
    for name in re.findall(r"[\w./]*test_\w+\.py", text):
        sources[name] = (folder / name).read_text()
    assert len(sources) > 10
    for name in re.findall(r"(?<![\w./])(test_\w+)(?!\w*\.py)", text):
        assert any(f"def {name}(" in source for source in sources.values()), name


# What other libraries keep to themselves, a release may take away. Names that are read all the same, and why.
PRIVATE = {
    "_asdict": "of named tuples, public in spite of its name",
    "_exit": "of os, public in spite of its name",
    "_repr_html_": "the protocol of notebooks",
    "_init_weights": "the hook that transformers documents; ours hands on to the native model in it",
    "_prepare_inputs": "of Trainer, where its subclass adds to it",
    "_save_checkpoint": "of Trainer, where its subclass adds to it",
    "_get_num_items_in_batch": "of Trainer, where its subclass adds to it",
    "_wrap_model": "of Trainer, where its subclass adds to it",
    "_load_from_checkpoint": "of Trainer, where its subclass adds to it",
    "_load_optimizer_and_scheduler": "of Trainer, where its subclass adds to it",
    "_save_optimizer_and_scheduler": "of Trainer, where its subclass adds to it",
    "_fingerprint": "the identity of a datasets.Dataset, which has no other name",
    "_resolve_features": "the types of the columns of a stream, which datasets tells in no other way",
}


def private_names(path: Path) -> set[str]:
    """Attributes with an underscore of other objects than self and cls, and such names that other libraries have."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found |= set() if own else {node.attr}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            found |= {word.value for word in node.args[1:2] if isinstance(word, ast.Constant)}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] not in OURS:
            found |= {*node.module.split("."), *(alias.name for alias in node.names)}
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


OURS = ("hf_replearn", "benchmarks")
READING = [*SOURCES, *(PACKAGE.parent / "benchmarks").glob("*.py")]


@pytest.mark.parametrize("path", READING, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_private_of_others_is_read(path):
    assert private_names(path) <= PRIVATE.keys()


def test_every_reason_to_read_something_private_is_needed():
    assert set().union(*map(private_names, READING)) == PRIVATE.keys()


def test_private_names_are_found(tmp_path):
    code = "from timm import _registry\na.b._c\nsuper()._d\nself._e\ngetattr(x, '_f')\nx.__dict__\nself.x._g = 1\n"
    (tmp_path / "code.py").write_text(code)
    assert private_names(tmp_path / "code.py") == {"_registry", "_c", "_d", "_f", "_g"}


def test_the_recipes_of_texts_tell_no_story_twice():
    """No run of more than six lines stands in both."""
    first, second = (
        (PACKAGE.parent / "recipes" / name).read_text().splitlines() for name in ("masked_lm.py", "causal_lm.py")
    )
    runs = {tuple(first[place : place + 7]) for place in range(len(first) - 6)}
    assert not [place for place in range(len(second) - 6) if tuple(second[place : place + 7]) in runs]
