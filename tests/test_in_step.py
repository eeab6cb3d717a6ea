"The notebooks are the source: the package, the README and the saved outputs say the same as they do."
import ast, filecmp, json, re, shutil, subprocess, sys

import nbformat, pytest

from tools.make_readme import out_of_step
from tools.run_nbs import ROOT, SKIP, notebooks

MACHINE_PATH = re.compile(r"/home/\w|/Users/\w|/root/|/tmp/|/private/var/|site-packages|[A-Z]:\\\\Users")
LAYERS = ["core", "utils", "vision", "application"]
MODULES = sorted(p for layer in LAYERS for p in (ROOT / "llmcam" / layer).glob("*.py") if p.stem != "__init__")
every_notebook = pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.relative_to(ROOT).as_posix())


def python(code, cwd):
    "Run `code` in a fresh Python in the folder `cwd`."
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)
    return done.stdout if done.returncode == 0 else pytest.fail(done.stderr[-2000:], pytrace=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of the project, exported and cleaned there."
    there = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "settings.ini", there)
    shutil.copytree(ROOT / "nbs", there / "nbs", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "_quarto.yml"))
    for init in (ROOT / "llmcam").rglob("__init__.py"):
        (there / init.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(init, there / init.relative_to(ROOT))
    python("from nbdev.doclinks import nbdev_export; from nbdev.clean import nbdev_clean; nbdev_export.__wrapped__(); nbdev_clean.__wrapped__()", there)
    return there


def differences(here, there, pattern):
    "The files below `here` or `there` that match `pattern` and are not the same in both."
    names = {p.relative_to(top) for top in (here, there) for p in top.rglob(pattern) if ".ipynb_checkpoints" not in p.parts}
    return sorted(str(n) for n in names if not ((here / n).exists() and (there / n).exists() and filecmp.cmp(here / n, there / n, shallow=False)))


def test_package_is_what_the_notebooks_export(copy):
    changed = differences(ROOT / "llmcam", copy / "llmcam", "*.py")
    assert not changed, f"`make export` would change, add or remove in llmcam/: {changed}"


def test_notebooks_are_clean(copy):
    changed = differences(ROOT / "nbs", copy / "nbs", "*.ipynb")
    assert not changed, f"`nbdev_clean` would change: {changed}"


def test_a_hand_edit_is_seen(copy, tmp_path):
    shutil.copytree(copy / "llmcam", tmp_path / "llmcam")
    edited = next(p for p in sorted((tmp_path / "llmcam").rglob("*.py")) if p.stat().st_size > 100)
    edited.write_text(edited.read_text() + "# by hand\n")
    assert differences(tmp_path / "llmcam", copy / "llmcam", "*.py") == [str(edited.relative_to(tmp_path / "llmcam"))]


def test_readme_is_made_from_the_index():
    changed = [str(p.relative_to(ROOT)) for p in out_of_step()]
    assert not changed, f"`python tools/make_readme.py` would change: {changed}"


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", (ROOT / "README.md").read_text())
    assert links and not [link for link in links if not (ROOT / link).exists()]


def noise(nb):
    "What has no place in saved outputs: errors, warnings on stderr, paths of the machine that made them."
    for cell in nb.cells:
        for out in cell.get("outputs", []):
            if out.output_type == "error": yield f"an error: {out.evalue}"
            if out.get("name") == "stderr": yield f"stderr: {out.text[:200]}"
            texts = [out.get("text", "")] + [v for k, v in out.get("data", {}).items() if not k.startswith("image/")]
            for text in texts:
                if found := MACHINE_PATH.search(text if isinstance(text, str) else json.dumps(text)):
                    yield f"a path of a machine: {found.string[max(0, found.start() - 30):found.end() + 30]!r}"


@every_notebook
def test_saved_outputs(path):
    nb = nbformat.read(path, as_version=4)
    assert any(cell.get("outputs") for cell in nb.cells), "no saved outputs: run tools/run_nbs.py"
    assert not list(noise(nb))
    assert path.stat().st_size <= 200 * 1024, f"{path.stat().st_size // 1024} KiB: make its pictures smaller"
    assert len({cell.id for cell in nb.cells}) == len(nb.cells), "cell ids are not unique"


def test_noise_is_seen():
    code = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("stream", name="stderr", text="UserWarning"),
                                              nbformat.v4.new_output("execute_result", data={"text/plain": "'/home/ann/x.jpg'"})])
    assert len(list(noise(nbformat.v4.new_notebook(cells=[code])))) == 2


def test_nearly_every_cell_runs():
    skipped = [path.name for path in notebooks() for cell in nbformat.read(path, as_version=4).cells
               if cell.cell_type == "code" and SKIP.search(cell.source)]
    assert len(skipped) <= 3, f"cells that never run prove nothing: {skipped}"


def imported_layers(path):
    "The layers of llmcam that the module at `path` imports from, in whichever form."
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    names += [{0: "", 1: f"llmcam.{path.parent.name}.", 2: "llmcam."}[n.level] + (n.module or "") for n in nodes if isinstance(n, ast.ImportFrom)]
    return {n.split(".")[1] for n in names if n.startswith("llmcam.")} & set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: f"{p.parent.name}.{p.stem}")
def test_imports_go_one_way(path):
    above = LAYERS[LAYERS.index(path.parent.name) + 1:]
    assert not imported_layers(path) & set(above), "core <- utils <- vision <- application"
