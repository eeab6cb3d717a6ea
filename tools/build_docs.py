#!/usr/bin/env python
"Build the documentation from the saved notebooks, offline: `python tools/build_docs.py`. Quarto renders it where it is installed, else Sphinx."
import argparse, posixpath, re, shutil, subprocess, sys, tempfile
from pathlib import Path

import yaml
from execnb.nbio import mk_cell, read_nb, write_nb
from nbdev.config import get_config
from nbdev.frontmatter import FrontmatterProc
from nbdev.process import NBProcessor, Processor
from nbdev.processors import clean_magics, filter_stream_, hide_, hide_line, populate_language, rm_header_dash, strip_ansi

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
import doc_entries
from run_nbs import notebooks

NBS, STYLE = ROOT / "nbs", ROOT / "tools" / "docs.css"
EXPORT = re.compile(r"^#\|\s*exports?\s*$", re.M)
DEFAULT_EXP = re.compile(r"^#\|\s*default_exp\s+(\S+)", re.M)
SHOW_DOC = re.compile(r"^show_doc\(\s*([\w.]+)", re.M)
DEFINES = re.compile(r"^(async def|def|class|@|\w+ *[:=])", re.M)
OPTION = re.compile(r"^#\|\s*([\w-]+):\s*(.*?)\s*$", re.M)
TAGS = {("echo", "false"): "remove-input", ("output", "false"): "remove-output", ("include", "false"): "remove-cell", ("code-fold", "true"): "hide-input"}
CODE_OR_LINK = re.compile(r"(```.*?```|^\| `[^|]*|\[[^\]]*\]\([^)]*\)|``[^`]+``)|(?<!`)`([A-Za-z_][\w.]*)(\(\))?`(?!`)", re.S | re.M)
LINK = re.compile(r"(\]\()(?!\w+:|#|/|<)([^)#\s]+)")


def page_of(path): return path.relative_to(NBS).with_suffix("").as_posix()


def sidebar(folder=NBS):
    "The order of the site, from sidebar.yml: [(caption, [page, ...]), ...], the first caption empty."
    listed = yaml.safe_load((folder / "sidebar.yml").read_text())["website"]["sidebar"]["contents"]
    sections = [("", [item for item in listed if isinstance(item, str)])]
    sections += [(item["section"], item["contents"]) for item in listed if not isinstance(item, str)]
    return [(caption, [page.removesuffix(".ipynb") for page in pages]) for caption, pages in sections]


def module_of(nb):
    "The module that a notebook exports to, or None."
    found = filter(None, (DEFAULT_EXP.search(cell.source) for cell in nb.cells if cell.cell_type == "code"))
    return next((f"llmcam.{m[1]}" for m in found), None)


def definitions(nb):
    "The public names that a notebook defines, with methods, in order."
    sources = [cell.source for cell in nb.cells if cell.cell_type == "code" and EXPORT.search(cell.source)]
    names = set(doc_entries.public(module_of(nb)))
    return [name for source in sources for name, _ in doc_entries.defined_names(source) if name.split(".")[0] in names]


def names_index(paths):
    "{name: (page, full name)} for each public name that means one thing, short and in full, and for each module."
    seen = {}
    for path in paths:
        if not (module := module_of(nb := read_nb(path))): continue
        seen[module] = {(page_of(path), module)}
        for name in definitions(nb):
            for key in (name, f"{module}.{name}"): seen.setdefault(key, set()).add((page_of(path), f"{module}.{name}"))
    return {name: spots.pop() for name, spots in seen.items() if len(spots) == 1}


class Page:
    "One notebook on its way to the site; a subclass knows what the renderer understands."
    def __init__(self, path, index):
        self.path, self.name, self.index = path, page_of(path), index
        self.module = module_of(read_nb(path))

    def linkify(self, text):
        "Names in backticks become links to their entries, but not in code, links and headings."
        def link(m):
            spot = m[2] and self.index.get(m[2])
            return self.link(m[2] + (m[3] or ""), *spot) if spot else m[0]
        parts = re.split(r"(^#+ .*$)", text, flags=re.M)
        return "".join(part if i % 2 else CODE_OR_LINK.sub(link, part) for i, part in enumerate(parts))

    def prose(self, text):
        "Markdown of the notebook, its links leading somewhere: out of nbs/ they lead to the repository."
        cfg, here = get_config(), posixpath.dirname(f"nbs/{self.name}")
        def lead(m):
            target = posixpath.normpath(f"{here}/{m[2]}")
            return m[0] if target.startswith("nbs/") else f"{m[1]}{cfg.git_url}/blob/{cfg.branch}/{target}"
        return self.linkify(LINK.sub(lead, text))

    def entries(self, names): return [mk_cell(self.entry(e), "markdown", entry=True) for e in names]

    def elsewhere(self, nb):
        "A closing cell that names what the module offers but others define."
        own = {name.split(".")[0] for name in definitions(nb)}
        rest = sorted(n for n in doc_entries.public(self.module) if n not in own and n in self.index)
        text = "Also importable from here: " + ", ".join(self.link(n, *self.index[n]) for n in rest) + "."
        return [mk_cell(text, "markdown", entry=True)] if rest else []

    def process(self):
        "The notebook as the renderer takes it: nbdev's processors, and ours in place of its `show_doc`."
        page = self
        class AddEntries(Processor):
            def begin(self): page.add_entries(self.nb)
        procs = [AddEntries, FrontmatterProc, populate_language, strip_ansi, hide_line, filter_stream_, rm_header_dash, clean_magics, hide_]
        nb = NBProcessor(self.path, procs, process=True).nb
        for cell in nb.cells:
            if cell.cell_type == "code": self.code(cell)
            elif cell.cell_type == "markdown" and not cell.get("entry"): cell.source = self.prose(cell.source)
        return self.finish(nb)

    def add_entries(self, nb):
        "After each exported cell, which folds away, come the entries of what it defines."
        asked = {m[1] for cell in nb.cells if (m := SHOW_DOC.search(cell.source))}
        closing, cells = self.elsewhere(nb) if self.module else [], []
        for cell in nb.cells:
            directives = getattr(cell, "directives_", {})
            if m := cell.cell_type == "code" and SHOW_DOC.search(cell.source):
                cells += self.entries([doc_entries.entry(self.module, m[1])])
            elif not directives.keys() & {"export", "exports", "exporti", "default_exp"}: cells.append(cell)
            elif directives.keys() & {"export", "exports"} and "hide" not in directives:
                found = [e for e in doc_entries.cell_entries(self.module, cell.source) if e.name not in asked]
                cells += self.entries(found)
                if not DEFINES.search(cell.source): continue
                if cells and cells[-1].get("folded"): cells[-1].source += "\n\n" + re.sub(r"^#\|.*\n", "", cell.source, flags=re.M)
                else: cell.folded = True; cells.append(self.folded(cell))
        nb.cells = cells + closing
        for i, cell in enumerate(nb.cells): cell.idx_ = i; cell.directives_ = getattr(cell, "directives_", {})


class SphinxPage(Page):
    def link(self, shown, page, full): return "{py:%s}`%s <%s>`" % ("mod" if full in self.index and "." not in full[7:].partition(".")[2] else "obj", shown, full)

    def entry(self, e):
        head, gap, rest = doc_entries.sphinx_entry(e).partition("\n\n")
        return head + gap + self.linkify(rest)

    def folded(self, cell):
        cell.metadata["tags"] = ["hide-input", "source"]
        return cell

    def code(self, cell):
        tags = [tag for (key, value), tag in TAGS.items() if (key, value) in OPTION.findall(cell.source)]
        if tags: cell.metadata["tags"] = tags
        cell.source = re.sub(r"^#\|.*\n?", "", cell.source, flags=re.M)

    def finish(self, nb):
        fm = nb.frontmatter_
        parts = [f"# {fm['title']}", f"```{{py:module}} {self.module}\n```" if self.module else "",
                 self.prose(f"> {fm['description']}") if fm.get("description") else "",
                 f"```python\nfrom {self.module} import *\n```" if self.module else ""]
        nb.cells[0] = mk_cell("\n\n".join(filter(None, parts)), "markdown")
        nb.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
        return nb


class QuartoPage(Page):
    def link(self, shown, page, full):
        there = posixpath.relpath(f"{page}.ipynb", posixpath.dirname(self.name) or ".")
        anchor = "" if full == f"llmcam.{page.replace('/', '.')}" else "#" + full.split(".", 3)[3].lower()
        return f"[`{shown}`]({there}{anchor})"

    def entry(self, e): return self.linkify(doc_entries.quarto_entry(e))

    def folded(self, cell):
        cell.source = "#| code-fold: true\n#| code-summary: Source\n" + cell.source
        return cell

    def code(self, cell): pass
    def finish(self, nb): return nb


def toctrees():
    "The site's order as Sphinx wants it."
    trees = [(f":caption: {caption}\n" if caption else "", "\n".join(p for p in pages if p != "index")) for caption, pages in sidebar()]
    parts = ["```{toctree}\n:hidden:\n%s\n%s\n```" % tree for tree in trees if tree[1]]
    return mk_cell("\n\n".join(parts), "markdown")


def write_pages(kind, folder):
    "Every notebook, processed for `kind`, below `folder`, with the files that stand beside them."
    paths = notebooks(NBS)
    index = names_index(paths)
    shutil.copytree(NBS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.ipynb", "_*", ".*", "nbdev.yml", "__pycache__"))
    for path in paths:
        nb = kind(path, index).process()
        if kind is SphinxPage and page_of(path) == "index": nb.cells.append(toctrees())
        for cell in nb.cells: cell.pop("entry", None); cell.pop("folded", None)
        (target := folder / path.relative_to(NBS)).parent.mkdir(parents=True, exist_ok=True)
        write_nb(nb, target)


def with_sphinx(out, work, strict):
    "Render with Sphinx, MyST-NB and Furo; a warning is an error."
    from sphinx.application import Sphinx
    cfg = get_config()
    write_pages(SphinxPage, work / "src")
    shutil.copy(STYLE, work / "src" / "llmcam.css")
    settings = dict(
        project=cfg.title, author=cfg.author, copyright=cfg.copyright, version=cfg.version, release=cfg.version, root_doc="index",
        extensions=["myst_nb"], html_theme="furo", html_title=f"{cfg.title} {cfg.version}", html_static_path=["llmcam.css"], html_css_files=["llmcam.css"],
        html_copy_source=False, html_show_sphinx=False, html_math_renderer=None, html_show_search_summary=False,
        nb_execution_mode="off", nb_merge_streams=True, nb_render_markdown_format="gfm", nb_code_prompt_show="Source", nb_code_prompt_hide="Source",
        myst_heading_anchors=3, myst_enable_extensions=["attrs_inline", "strikethrough"], suppress_warnings=["myst.header"],
        add_module_names=False, python_maximum_signature_line_length=88, toc_object_entries_show_parents="hide", pygments_style="friendly", pygments_dark_style="github-dark")
    (work / "src" / "conf.py").write_text("".join(f"{key} = {value!r}\n" for key, value in settings.items()))
    site = work / "html" / "site"  # MyST-NB leaves a folder of its own beside it
    app = Sphinx(work / "src", work / "src", site, work / "doctrees", "html", status=None, warning=sys.stderr, warningiserror=strict)
    app.build()
    shutil.copytree(site, out, dirs_exist_ok=True)
    return app.statuscode


def with_quarto(out, work, strict):
    "Render with Quarto, from the one _quarto.yml."
    from nbdev.quarto import _nbdev_yml
    cfg = get_config()
    write_pages(QuartoPage, work / "src")
    shutil.copy(ROOT / "_quarto.yml", work / "src")
    keys = ("title", "description", "branch", "git_url", "doc_host", "doc_baseurl")
    (work / "src" / "nbdev.yml").write_text(_nbdev_yml.format(doc_path="_site", **{k: cfg[k] for k in keys}))
    done = subprocess.run(["quarto", "render", "--no-execute"], cwd=work / "src")
    if done.returncode == 0: shutil.copytree(work / "src" / "_site", out, dirs_exist_ok=True)
    return done.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "_docs", help="where the site goes (default: _docs)")
    parser.add_argument("--lax", action="store_true", help="do not fail on warnings")
    parser.add_argument("--with", dest="renderer", choices=["sphinx", "quarto"], default="quarto" if shutil.which("quarto") else "sphinx")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    render = {"sphinx": with_sphinx, "quarto": with_quarto}[args.renderer]
    with tempfile.TemporaryDirectory() as work: status = render(args.out.resolve(), Path(work), not args.lax)
    if not status: print(args.out / "index.html")
    return status


if __name__ == "__main__": sys.exit(main())
