"Plots: every picture accounted for, gaps that are not zeros, no global state."
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from llmcam.core.fn_to_schema import function_schema
from llmcam.core.policy import PolicyError, ToolPolicy, gate
from llmcam.vision import plotting
from llmcam.vision.plotting import Count, PlotError, plot_object


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCAM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"p{i}.jpg" for i in range(3)]
    for p in paths: Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(p)
    return paths


@pytest.fixture
def counted(monkeypatch):
    "Stand-ins for the two methods: p0 has 0, p1 has 1, ...; the second method fails on p1."
    asked = []
    def by_name(path, name): asked.append((path.name, name)); return Count(int(path.stem[1:]))
    def fails_on_1(path, name):
        if path.stem == "p1": raise RuntimeError("the model is asleep")
        return Count(int(path.stem[1:]) * 2)
    monkeypatch.setattr(plotting, "_METHODS", {"yolo": by_name, "gpt": fails_on_1})
    return asked


def bars(figure): return [[patch.get_height() for patch in ax.patches] for ax in figure.axes]
def texts(ax): return [t.get_text() for t in ax.texts]


def test_a_plot_is_made(pictures, counted, data):
    answer = json.loads(plot_object([str(p) for p in pictures], "cars", ["yolo"]))
    path = Path(answer["path"])
    assert set(answer) == {"path"} and path.parent.resolve() == data.resolve()
    assert path.suffix == ".png" and "plot" in path.name and Image.open(path).format == "PNG"
    assert sorted(counted) == [(p.name, "car") for p in pictures]


def test_text_is_as_good_as_a_list(pictures, counted):
    listed = "\n".join(map(str, pictures))
    for images in (listed, f"\n{listed}\n\n", json.dumps([str(p) for p in pictures]), pictures):
        counted.clear()
        plot_object(images, "car", ["yolo"])
        assert len(counted) == 3


def test_plots_never_overwrite_each_other(pictures, counted, data):
    with ThreadPoolExecutor(4) as pool: made = list(pool.map(lambda _: plot_object(pictures, "car", ["yolo"]), range(6)))
    assert len({json.loads(m)["path"] for m in made}) == 6 == len(list(data.glob("*plot*.png")))


def test_a_failure_is_a_gap_with_a_reason(pictures, counted):
    answer = json.loads(plot_object(pictures, "car"))
    assert answer["notes"] == {"gpt": "1 not counted: the model is asleep"}
    figure = plotting._figure("car", ["a", "b", "c"], "", {m: plotting._count_all(m, pictures, "car") for m in ("gpt", "yolo")})
    gpt, yolo = figure.axes
    assert bars(figure) == [[0, 4], [0, 1, 2]]  # a zero is a bar of its own; a failure is none
    assert texts(gpt) == ["0", "4", "not\ncounted"] and texts(yolo) == ["0", "1", "2"]
    assert "asleep" in gpt.get_xlabel()


def test_nothing_counted_is_an_error(pictures, monkeypatch, data):
    def never(path, name): raise OSError("no model here")
    monkeypatch.setattr(plotting, "_METHODS", {"yolo": never})
    with pytest.raises(PlotError, match="3 not counted: no model here"): plot_object(pictures, "car", ["yolo"])
    assert not list(data.glob("*plot*"))


@pytest.mark.parametrize("images,methods,said", [([], ["yolo"], "list_image_files"), ("  \n", ["yolo"], "list_image_files"),
                                                 (["a.jpg"] * 201, ["yolo"], "too many"), (["a.jpg"], ["magic"], "gpt, yolo"), (["a.jpg"], [], "gpt, yolo")])
def test_what_makes_no_sense_says_so(images, methods, said):
    with pytest.raises(PlotError, match=said): plot_object(images, "car", methods)


@pytest.mark.parametrize("n", [1, 2, 12, 13, 60, 200])
def test_readable_for_any_number_of_pictures(n, tmp_path):
    "No label of a bar, and no number on it, runs into its neighbour."
    counts = [Count(i * 7 % 10 if i % 9 != 4 else None, "x") for i in range(n)]
    figure = plotting._figure("car", [f"12:{i // 60:02}:{i % 60:02}" for i in range(n)], "Harbour, 21.06.2026", {"gpt": counts, "yolo": counts})
    assert len(figure.axes) == 2
    (tmp_path / "plot.png").write_bytes(plotting._png(figure))
    width, height = Image.open(tmp_path / "plot.png").size
    assert width <= 2400 and height <= 800
    shown = [t for t in figure.axes[1].get_xticklabels() if t.get_text()]
    edges = [t.get_window_extent() for t in shown]
    if shown[0].get_rotation() in (0, 90):
        assert all(b.x0 >= a.x1 - 1 for a, b in zip(edges, edges[1:]))
    assert all(0 <= e.x0 and e.x1 <= width and e.y0 >= 0 for e in edges)
    if n <= 60:
        numbers = [t.get_window_extent() for t in figure.axes[0].texts if "not" not in t.get_text()]
        assert all(b.x0 >= a.x1 - 1 for a, b in zip(numbers, numbers[1:]))


def test_labels_say_what_differs():
    from llmcam.vision.camera import Camera
    frames = []
    for t in (0, 60):
        with Camera(f"sample:harbour?t={t}") as camera: frames.append(camera.frame().save())
    labels, shared = plotting._labels(frames)
    assert len(set(labels)) == 2 and all(":" in label and "Harbour" not in label for label in labels)
    assert shared.startswith("Harbour, ") and "2026" in shared


def test_files_of_others_are_labelled_by_name(pictures):
    assert plotting._labels(pictures) == (["p0", "p1", "p2"], "")


def test_the_detector_does_not_say_zero_of_what_it_cannot_see():
    from llmcam.vision.camera import Camera
    with Camera("sample:harbour?t=33") as camera: path = camera.frame().save()
    assert plotting._count_yolo(path, "car").n > 2
    assert plotting._count_yolo(path, "giraffe") == Count(why="the detector does not know giraffe")


@pytest.mark.parametrize("answer,expected", [('{"car": 3}', 3), ('{"car": 2.0}', 2), ('{"boat": 3}', None), ('{"car": "many"}', None),
                                             ('{"car": true}', None), ('{"car": -1}', None), ('{"car": null}', None), ("[]", None), ("no", None)])
def test_the_vision_model_is_not_trusted(answer, expected, monkeypatch, pictures):
    from llmcam.vision import gpt4v
    monkeypatch.setattr(gpt4v, "ask_gpt4v_about_image_file", lambda path, question=None: answer)
    count = plotting._count("gpt", pictures[0], "car")
    assert count.n == expected and bool(count.why) == (expected is None)


def test_a_model_is_confined_to_the_data_directory(pictures, counted):
    with gate(ToolPolicy.web()), pytest.raises(PolicyError): plot_object(pictures, "car", ["yolo"])
    assert not counted


def test_the_policy_reaches_the_threads_that_count(pictures, monkeypatch, data):
    from llmcam.core.policy import current_policy
    seen = []
    monkeypatch.setattr(plotting, "_METHODS", {"yolo": lambda path, name: (seen.append(current_policy()), Count(1))[1]})
    policy = ToolPolicy()
    with gate(policy): plot_object(pictures, "car", ["yolo"])
    assert seen == [policy] * 3


def test_the_schema_names_the_methods():
    parameters = function_schema(plot_object)["function"]["parameters"]
    assert parameters["properties"]["methods"]["items"]["enum"] == ["gpt", "yolo"]
    assert parameters["required"] == ["images", "object"]


def test_no_global_state(tmp_path):
    code = """
import sys
from llmcam.vision import plotting
assert "matplotlib" not in sys.modules
plotting._png(plotting._figure("car", ["a"], "", {"yolo": [plotting.Count(1)]}))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(Path(plotting.__file__).parents[2]), "PATH": "/usr/bin:/bin", "MPLCONFIGDIR": str(tmp_path)})
