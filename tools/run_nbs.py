#!/usr/bin/env python
"Run notebooks from top to bottom, offline, and save their real outputs: `python tools/run_nbs.py nbs/core/fc.ipynb ...`"
import argparse, os, re, sys, tempfile, time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
SKIP = re.compile(r"^#\|\s*eval:\s*false", re.M)


class Runner(NotebookClient):
    "A notebook client that leaves cells marked `#| eval: false` as they are."
    async def async_execute_cell(self, cell, *args, **kwargs):
        if cell.cell_type == "code" and SKIP.search(cell.source): return cell
        return await super().async_execute_cell(cell, *args, **kwargs)


def notebooks(folder=ROOT / "nbs"):
    "The notebooks below `folder`, in order."
    return sorted(p for p in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def offline_env(work):
    "The environment of a notebook run: no keys, a data directory of its own, no settings of the user's."
    drop = ("OPENAI_", "LLMCAM_")
    keep = {k: v for k, v in os.environ.items() if not k.startswith(drop) or k in ("LLMCAM_TEST_ALL", "LLMCAM_QUICK")}
    return {**keep, "LLMCAM_DATA": str(work / "data"), "MPLBACKEND": "agg", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false",
            "YOLO_CONFIG_DIR": str(work / "data"), "IPYTHONDIR": str(work / ".ipython"), "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "COLUMNS": "100"}


def run_nb(path, save=True, timeout=600):
    "Execute the notebook at `path` in a fresh kernel and data directory; save its outputs unless told not to."
    nb = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        env, here = offline_env(Path(work)), os.environ.copy()
        os.environ.clear(); os.environ.update(env)
        try: Runner(nb, timeout=timeout, kernel_name="python3", extra_arguments=["--log-level=40"],
                    resources={"metadata": {"path": work}}).execute()
        finally: os.environ.clear(); os.environ.update(here)
        texts = nbformat.writes(nb)
        for folder in (work, str(ROOT)): texts = texts.replace(folder + "/", "")
    if save: Path(path).write_text(texts.rstrip() + "\n", encoding="utf-8")
    return nb


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: every notebook in nbs/")
    parser.add_argument("--check", action="store_true", help="run only; save nothing")
    args = parser.parse_args()
    failed = 0
    for path in args.notebooks or notebooks():
        started = time.perf_counter()
        try: run_nb(path, save=not args.check)
        except Exception as e: failed += 1; print(f"FAILED {path}\n{e}", file=sys.stderr)
        else: print(f"{time.perf_counter() - started:6.1f} s  {path}")
    return 1 if failed else 0


if __name__ == "__main__": sys.exit(main())
