#!/usr/bin/env python
"Make README.md, and the pictures that it shows, from the saved outputs of nbs/index.ipynb: `python tools/make_readme.py`"
import argparse, base64, posixpath, re, sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = re.compile(r"^#\|\s*(hide|default_exp|export)\b", re.M)
DIRECTIVE = re.compile(r"^#\|.*\n?", re.M)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)\s]+)")
NOTE = "<!-- Made from nbs/index.ipynb by tools/make_readme.py: edit the notebook. -->"
PICTURES = {"image/png": ".png", "image/jpeg": ".jpg"}


def relink(text, folder="nbs"):
    "Links of a notebook in `folder`, as seen from the top of the repository."
    return LINK.sub(lambda m: m[1] + posixpath.normpath(f"{folder}/{m[2]}"), text)


def fence(text, language=""):
    "A fenced block that its own text cannot close."
    ticks = max([3, *(len(t) + 1 for t in re.findall(r"`{3,}", text))]) * "`"
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}"


def joined(value): return "".join(value) if isinstance(value, list) else value


def picture(path, says, width=None):
    "A picture in Markdown; what its object says of itself, if it does, is the text for those who cannot see it."
    about = "" if says.startswith("<") else says
    return f'<img src="{path}" alt="{about}" width="{width}">' if width else f"![{about}]({path})"


def show_output(output, pictures):
    "One output as Markdown; a picture is added to `pictures`, {file name: bytes}, and linked."
    if output.output_type == "stream": return fence(ANSI.sub("", joined(output.text)))
    data = output.get("data", {})
    for kind, suffix in PICTURES.items():
        if kind in data:
            name = f"index-{len(pictures) + 1}{suffix}"
            pictures[name] = base64.b64decode(joined(data[kind]))
            return picture(f"nbs/images/{name}", joined(data.get("text/plain", "")), output.get("metadata", {}).get(kind, {}).get("width"))
    if "text/markdown" in data: return relink(joined(data["text/markdown"]))
    return fence(ANSI.sub("", joined(data.get("text/plain", "")))) if data else ""


def show_cell(cell, pictures):
    "A cell and its outputs as a list of Markdown blocks."
    if cell.cell_type == "markdown": return [relink(cell.source)]
    if cell.cell_type != "code" or HIDDEN.search(cell.source): return []
    source = DIRECTIVE.sub("", cell.source)
    shown = [show_output(o, pictures) for o in cell.outputs]
    return [] if not source.strip() else [fence(source, "python"), *filter(None, shown)]


def make_readme(root=ROOT):
    "README.md's text and its pictures, {file name: bytes}."
    nb, pictures = nbformat.read(root / "nbs/index.ipynb", as_version=4), {}
    blocks = [block for cell in nb.cells for block in show_cell(cell, pictures)]
    return "\n\n".join([blocks[0], NOTE, *blocks[1:]]).rstrip() + "\n", pictures


def out_of_step(root=ROOT):
    "The files that differ from what the notebook says, as {path: what they should hold, or None where they should not be}."
    text, pictures = make_readme(root)
    wanted = {root / "README.md": text.encode(), **{root / "nbs/images" / k: v for k, v in pictures.items()}}
    stray = {p: None for p in (root / "nbs/images").glob("index-*") if p not in wanted}
    return {p: v for p, v in wanted.items() if not p.exists() or p.read_bytes() != v} | stray


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if something would change")
    args = parser.parse_args()
    for path, content in (changes := out_of_step()).items():
        print("out of step:" if args.check else "wrote" if content is not None else "removed", path.relative_to(ROOT))
        if args.check: continue
        if content is None: path.unlink(); continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return 1 if args.check and changes else 0


if __name__ == "__main__": sys.exit(main())
