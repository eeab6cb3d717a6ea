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
from llmcam.core.offline import OfflineModel
from llmcam.vision import plotting
from llmcam.vision.camera import Camera, Frame
from llmcam.vision.gpt4v import detector_eyes, looking_with
from llmcam.vision.sample import render_scene
from llmcam.vision.plotting import Count, Plot, PlotError, compare_detectors, plot_counts_over_time, plot_object


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
    policy = ToolPolicy(files="any")
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


# Odd inputs

@pytest.mark.parametrize("images, said", [("[bad", "no list of paths"), ('["a.jpg", "b', "no list of paths"), ("[1, 2]", "no pictures"), (None, "no pictures"), ("[" * 4000, "no list of paths")])
def test_what_is_no_list(images, said):
    with pytest.raises(PlotError, match=said): plot_object(images, "car", ["yolo"])


def test_commas_frames_and_no_methods(pictures, counted):
    plot_object(", ".join(map(str, pictures)), "car", ["yolo"])
    plot_object(repr([str(p) for p in pictures]), "car", ["yolo"])
    assert len(counted) == 6
    assert set(json.loads(plot_object(pictures, "car", None))) == {"path", "notes"}
    with Camera("sample:harbour?t=33") as camera: frame = camera.frame()
    counted.clear()
    with pytest.raises(PlotError, match="Nothing could be counted"): plot_object([frame], "car", ["gpt", "yolo"])
    with pytest.raises(PlotError, match="object is empty"): plot_object(pictures, " ", ["yolo"])


def test_a_picture_whose_name_has_a_comma(tmp_path, counted):
    path = tmp_path / "p1, p2.jpg"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    with pytest.raises(PlotError): plot_object(str(path), "car", ["yolo"])  # counted as one picture, whose stem is no number
    assert [name for name, _ in counted] == ["p1, p2.jpg"]


def test_a_group_is_a_sum():
    with Camera("sample:harbour?t=33") as camera: path = camera.frame().save()
    assert plotting._count_yolo(path, "vehicles") == plotting._count_yolo(path, "car")


def test_a_plot_shows_itself(pictures, counted):
    plot = plot_object(pictures, "car", ["yolo"])
    assert isinstance(plot, Plot) and isinstance(plot, str) and json.loads(plot)["path"] == str(plot.path)
    assert plot._repr_mimebundle_()["image/png"] and len(plot.figure.axes) == 1
    assert Plot("{}")._repr_mimebundle_() == {"text/plain": "{}"}


LONG = "Kantatie 45 Hyvinkää Kurkisuo, Helsingin suuntaan ja vielä vähän pidemmälle"


@pytest.mark.parametrize("n", [1, 5, 13, 20, 60])
def test_long_names_of_places_do_not_meet(n):
    from datetime import datetime, timedelta, timezone
    frames = [Frame(np.zeros((9, 16, 3), np.uint8), "sample:x", f"{LONG[i % 3:]}", datetime(2026, 6, 21, 8, tzinfo=timezone.utc) + timedelta(hours=i)).save() for i in range(n)]
    counts = [Count(i * 7 % 123) for i in range(n)]
    figure = plotting._figure("car", *plotting._labels(frames), {"yolo": counts})
    plotting._png(figure)
    labels, (width, height) = [t for t in figure.axes[0].get_xticklabels() if t.get_text()], figure.canvas.get_width_height()
    boxes = [t.get_window_extent() for t in labels]
    assert all(0 <= b.x0 and b.x1 <= width and b.y0 >= 0 for b in boxes)
    lines, lean = max(t.get_text().count("\n") + 1 for t in labels), labels[0].get_rotation()
    if lean: # neighbours are as far apart as a line is high, across the direction of the text
        apart = np.diff(figure.axes[0].transData.transform([(0, 0), (1, 0)])[:, 0])[0] * np.sin(np.radians(lean))
        assert n == 1 or apart >= lines * labels[0].get_fontsize() * 100 / 72
    assert figure.axes[0].get_window_extent().height > 90  # the labels leave room for the bars
    title = figure._suptitle.get_window_extent()
    assert 0 <= title.x0 and title.x1 <= width


def test_what_all_pictures_share_is_said_once():
    from datetime import datetime, timedelta, timezone
    def shared(places, hours): return plotting._labels([Frame(np.zeros((9, 16, 3), np.uint8), "sample:x", place, datetime(2026, 6, 21, 8, tzinfo=timezone.utc) + timedelta(hours=h)).save() for place, h in zip(places, hours)])[1]
    assert shared(["Pier", "Pier"], [0, 1]) == "Pier, 21.06.2026"
    assert shared(["Pier", "Pier"], [0, 48]) == "Pier" and shared(["Pier", "Wall"], [0, 1]) == "21.06.2026" and shared(["Pier", "Wall"], [0, 48]) == ""


def test_files_of_others_tell_time_and_place_by_their_names(tmp_path):
    paths = [tmp_path / f"cap_2024.09.28_15-59-0{i}_Torni.jpg" for i in (6, 7)]
    for p in paths: Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(p)
    assert plotting._labels(paths) == (["15:59:06", "15:59:07"], "Torni, 28.09.2024")


# Progress

def test_progress_is_for_those_who_watch():
    import io
    class Terminal(io.StringIO):
        def isatty(self): return True
    clock = iter(range(100)).__next__
    screen, pipe = Terminal(), io.StringIO()
    assert list(plotting._watched("abcd", "counting", after=2, out=screen, clock=clock)) == list(plotting._watched("abcd", "x", after=0, out=pipe)) == list("abcd")
    assert pipe.getvalue() == ""
    assert [line[3:] for line in screen.getvalue().split("\r")[1:]] == ["counting, 2 of 4", "counting, 3 of 4", "counting, 4 of 4", ""]
    with pytest.raises(ZeroDivisionError): list(plotting._watched((1 / (2 - i) for i in range(4)), "x", after=-1, out=(screen := Terminal())))
    assert screen.getvalue().endswith("\r\x1b[K")


# Over time

@pytest.fixture
def hours():
    paths = []
    for t in (0, 8, 32, 90):
        with Camera(f"sample:harbour?t={t}") as camera: paths.append(camera.frame().save())
    return paths


def test_counts_over_time(hours, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_text("no")
    plot = plot_counts_over_time([*map(str, reversed(hours)), str(broken)], ["cars", "people", "dragons"])
    answer, (cars, people, dragons) = json.loads(plot), plot.figure.axes
    assert answer["last"]["car"] == 8 and answer["last"]["dragon"] is None
    assert any("broken.jpg" in note for note in answer["notes"]) and any("does not know dragon" in note for note in answer["notes"])
    line = cars.lines[0]
    assert list(line.get_xdata()) == sorted(line.get_xdata()) and list(line.get_ydata()) == [2, 4, 7, 8]
    assert [t.get_text() for t in cars.texts] == ["2", "4", "7", "8"] and np.isnan(dragons.lines[0].get_ydata()).all()
    with pytest.raises(PlotError, match="Nothing could be counted.*dragon"): plot_counts_over_time(hours, "dragons")
    with pytest.raises(PlotError, match="name 1 to 8"): plot_counts_over_time(hours, [])


def test_numbers_over_time_do_not_overlap():
    "Places that were looked at within minutes, and one whose numbers hardly differ."
    from datetime import datetime, timedelta, timezone
    begun = datetime(2026, 6, 21, tzinfo=timezone.utc)
    moments = [plotting._Moment(begun + timedelta(minutes=61 * i + 3 * k), place, {"car": Count(i * k % 4)}) for i in range(8) for k, place in enumerate("abc")]
    figure = plotting._timeline(moments, ["car"])
    plotting._png(figure)
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert len(boxes) > 8 and not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_camera_over_time(monkeypatch):
    pauses = []
    monkeypatch.setattr(plotting._live, "__defaults__", (pauses.append,))
    plot = plot_counts_over_time("sample:harbour?t=33", "cars", frames=3, every=7)
    assert pauses == [7, 7] and len(plot.figure.axes[0].lines[0].get_xdata()) == 3
    for frames, every in ((0, 1), (201, 1), (100, 60), (3, -1)):
        with pytest.raises(PlotError, match="in at most 600 seconds"): plot_counts_over_time("sample:harbour", "cars", frames, every)


@pytest.mark.parametrize("n, places", [(1, 1), (60, 3)])
def test_a_time_line_is_readable(n, places):
    from datetime import datetime, timedelta, timezone
    start = datetime(2026, 6, 21, 8, tzinfo=timezone.utc)
    moments = [plotting._Moment(start + timedelta(minutes=17 * i), f"{LONG} {i % places}", {"car": Count(i % 9), "bus": Count(None, "dark")}) for i in range(n)]
    figure = plotting._timeline(moments, ["car", "bus"])
    plotting._png(figure)
    ticks = [t.get_window_extent() for t in figure.axes[1].get_xticklabels() if t.get_text()]
    assert ticks and all(b.x0 > a.x1 for a, b in zip(ticks, ticks[1:])) and len(figure.axes[0].lines) == places


# Side by side

@pytest.mark.parametrize("name", ["a$b^$.jpg", "_a.jpg", "%s.jpg"])
def test_a_name_is_no_formula(name, tmp_path, monkeypatch):
    monkeypatch.setattr(plotting, "_METHODS", {"yolo": lambda path, name: Count(3)})
    path = tmp_path / name
    Image.fromarray(render_scene(t=1)[0]).save(path)
    assert json.loads(plot_object([str(path)], "$x^$", methods=["yolo"]))["path"]


def test_a_list_may_be_longer_than_a_path():
    with pytest.raises(PlotError, match="There is no picture"): plot_object(",".join(f"cap_2024.09.28_15-59-{n:02}_Presidentinlinna.jpg" for n in range(12)), "car")


def test_numbers_with_many_digits_keep_more_apart():
    from llmcam.vision.plotting import _tell_numbers
    from matplotlib.figure import Figure
    def shown(n):
        axes = Figure().subplots()
        _tell_numbers(axes, [(n, t / 24, "black") for t in range(25)], n)
        return len(axes.texts)
    assert shown(10_000) < shown(9)


def test_detectors_side_by_side(hours):
    with looking_with(OfflineModel(detector_eyes("sample", conf=.8, facts=False))): plot = compare_detectors([*hours[:2], "missing.jpg"], ["cars", "people"])
    answer = json.loads(plot)
    assert set(answer["notes"]) == {"missing.jpg"} and all(len(both) == 2 for kinds in answer["disagreements"].values() for both in kinds.values())
    assert len(plot.figure.axes) == 6 and [len(ax.patches) for ax in plot.figure.axes[1::2]] == [4, 4, 0]
    differ = [t.get_color() for t in plot.figure.axes[1].get_yticklabels()]
    assert ("#a03030" in differ) == (str(hours[0]) in answer["disagreements"])
    with pytest.raises(PlotError, match="at most 12"): compare_detectors(["a.jpg"] * 13)
    with pytest.raises(PlotError, match="Nothing could be compared"): compare_detectors("missing.jpg")
