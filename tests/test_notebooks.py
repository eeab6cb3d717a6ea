"Every notebook runs from top to bottom, offline, and its saved outputs are those of the cells that it has now."
import re

import nbformat, pytest
from nbclient.exceptions import CellExecutionError

from tools.run_nbs import ROOT, SKIP, notebooks, run_nb


def shows(nb):
    "For each code cell that runs: does it show something?"
    return {cell.id: bool(cell.outputs) for cell in nb.cells if cell.cell_type == "code" and not SKIP.search(cell.source)}


@pytest.mark.parametrize("path", notebooks(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_notebook_runs(path):
    try: fresh = run_nb(path, save=False)
    except CellExecutionError as e: pytest.fail(re.sub(r"\x1b\[[0-9;]*m", "", str(e)), pytrace=False)
    saved, now = shows(nbformat.read(path, as_version=4)), shows(fresh)
    stale = [cell.source for cell in fresh.cells if now.get(cell.id) != saved.get(cell.id)]
    if stale: pytest.fail("these cells and their saved outputs differ: run tools/run_nbs.py\n" + "\n---\n".join(stale), pytrace=False)
