"The documentation builds offline without a warning, describes every public name, asks nobody else for anything, and can be searched from a file."
import os, re, subprocess, sys
from html import unescape
from importlib import import_module
from typing import get_origin
from urllib.parse import unquote

import pytest

from tools.run_nbs import ROOT, notebooks

sys.path.insert(0, str(ROOT / "tools"))
import build_docs, doc_entries

MODULES = [f"llmcam.{p.parent.name}.{p.stem}" for p in sorted((ROOT / "llmcam").glob("*/*.py")) if p.stem != "__init__"]
EXTERNAL = re.compile(r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["']?\s*(?:https?:)?//|<link\b(?![^>]*rel=["']?(?:canonical|license))[^>]*\bhref=["']?\s*(?:https?:)?//|url\(["']?\s*(?:https?:)?//|@import\s+["'](?:https?:)?//""", re.I)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The built site, and what the builder said."
    out = tmp_path_factory.mktemp("site") / "docs"
    done = subprocess.run([sys.executable, "tools/build_docs.py", "--with", "sphinx", "--out", out], cwd=ROOT, capture_output=True, text=True, timeout=300)
    if done.returncode: pytest.fail((done.stdout + done.stderr)[-4000:], pytrace=False)
    assert not done.stderr.strip(), done.stderr
    return out


def text(page): return page.read_text(encoding="utf-8")


def test_every_notebook_has_a_page_in_the_sidebar(site):
    listed = [page for _, pages in build_docs.sidebar() for page in pages]
    assert sorted(listed) == sorted(map(build_docs.page_of, notebooks()))
    assert all((site / f"{page}.html").exists() for page in listed)


def undescribed(html, module):
    "The public names of `module` that the page `html` does not describe, and the parameters that their tables lack."
    for name in doc_entries.public(module):
        value = getattr(import_module(module), name)
        if getattr(value, "__module__", module) != module and f">{name}<" in html: continue  # linked to the page that defines it
        entry = html.partition(f'id="{module}.{name}"')[2].partition('<dt class="sig')[0]
        if not entry: yield name
        elif callable(value) and get_origin(value) is None:  # not an alias such as Literal[...]
            table = entry.partition("<table")[2]
            yield from (f"{name}({p.name})" for p in doc_entries.entry(module, name).parameters if f">{p.name}<" not in table)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_an_entry_with_its_parameters(site, module):
    layer, name = module.split(".")[1:]
    assert not list(undescribed(text(site / layer / f"{name}.html"), module))


@pytest.mark.parametrize("name, parameters", [("core.policy.ToolPolicy.web", ["**changes"]), ("utils.notification.Notification", ["text", "id", "time", "watch", "path", "kind"]),
    ("application.session_store.SessionStore", [])])
def test_class_methods_constructors_and_protocols_are_described(name, parameters):
    layer, module, rest = name.split(".", 2)
    entry = doc_entries.entry(f"llmcam.{layer}.{module}", rest)
    assert entry.docs and [p.name for p in entry.parameters] == parameters and all(p.details for p in entry.parameters)


def test_a_list_of_choices_is_described_by_its_choices():
    entry, = doc_entries.cell_entries("llmcam.vision.watch", 'Condition = Literal["appears"]  # When a watch speaks')
    assert entry.kind == "data" and "`appears`" in entry.docs and not entry.parameters


def test_a_missing_entry_is_seen(site):
    html = text(site / "core" / "policy.html")
    assert list(undescribed(html.replace('id="llmcam.core.policy.confine"', ""), "llmcam.core.policy")) == ["confine"]
    assert "confine(path)" in list(undescribed(html.replace(">path<", "><"), "llmcam.core.policy"))


def test_nothing_comes_from_elsewhere(site):
    files = [p for p in site.rglob("*") if p.suffix in (".html", ".css")]
    found = {p.relative_to(site).as_posix(): EXTERNAL.findall(text(p)) for p in files}
    assert files and not {k: v for k, v in found.items() if v}
    assert EXTERNAL.search('<script src="https://cdn.example/x.js">') and not EXTERNAL.search('<a href="https://example.org">')


def test_links_lead_somewhere(site):
    broken = []
    for page in site.rglob("*.html"):
        for link in re.findall(r'<a [^>]*href="([^"]+)"', text(page)):
            path, _, anchor = unquote(unescape(link)).partition("#")
            if re.match(r"\w+:", path): continue
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and f'id="{anchor}"' not in text(target)): broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken


def test_no_path_of_this_machine(site):
    assert not [p.name for p in site.rglob("*.html") if re.search(r"/home/\w|/root/|/tmp/\w", text(p))]


def test_search_and_pictures_in_a_browser(site, chromium):
    from playwright.sync_api import sync_playwright
    asked, wrong = [], []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 400, "height": 800})
            page.on("request", lambda r: asked.append(r.url))
            page.on("pageerror", lambda e: wrong.append(str(e)))
            page.goto(f"{site.as_uri()}/search.html?q=bind_arguments")
            page.wait_for_selector("#search-results ul.search li a")
            found = page.locator("#search-results ul.search li a").all_inner_texts()
            assert any("bind_arguments" in hit for hit in found), found
            for name in [page for _, pages in build_docs.sidebar() for page in pages]:
                page.goto(f"{site.as_uri()}/{name}.html")
                assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)"), f"{name} lacks a picture"
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} scrolls sideways on a phone"
        finally: browser.close()
    assert not wrong and all(url.startswith(("file:", "data:")) for url in asked)


def test_quarto_gets_pages_that_it_understands(tmp_path, monkeypatch):
    "With Quarto installed the same notebooks go to it; here a stand-in shows what it would read."
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "quarto").write_text("#!/bin/sh\nmkdir _site && cp core/policy.ipynb _quarto.yml nbdev.yml sidebar.yml _site/ && echo ok > _site/index.html\n")
    (tmp_path / "bin" / "quarto").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    done = subprocess.run([sys.executable, "tools/build_docs.py", "--out", tmp_path / "docs"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    page = text(tmp_path / "docs" / "policy.ipynb")
    assert "### confine {#confine}" in page and "| Parameter |" in page and "{py:" not in page
