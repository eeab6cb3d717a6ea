"The command line, as a shell sees it: output, error line, exit status."
import json, os, re, subprocess, sys

import pytest

from llmcam.application.cli import main
from llmcam.core.policy import data_dir

COMMANDS = ("ask", "demo", "capture", "detect", "serve")


def llmcam(*args, env={}, timeout=120, cwd=None):
    "Run the command in a process of its own."
    code = "import sys; from llmcam.application.cli import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", code, *args], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env},
                          capture_output=True, text=True, timeout=timeout, cwd=cwd)


def test_no_command_shows_the_help(capsys):
    assert main([]) == 2
    assert "llmcam demo" in capsys.readouterr().err


def error_of(capsys):
    "The one line on standard error."
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("llmcam: "), lines
    return lines[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as exit: main([command, "--help"])
    shown = capsys.readouterr().out
    assert exit.value.code == 0 and f"llmcam {command}" in shown and "example" in shown


def test_the_help_names_every_command(capsys):
    with pytest.raises(SystemExit): main(["--help"])
    shown = capsys.readouterr().out
    assert all(re.search(rf"^ +{command} ", shown, re.M) for command in COMMANDS)


def test_version(capsys):
    from llmcam import __version__
    with pytest.raises(SystemExit) as exit: main(["--version"])
    assert exit.value.code == 0 and capsys.readouterr().out.strip() == f"llmcam {__version__}"


@pytest.mark.parametrize("args", [["nothing"], ["capture"], ["ask"], ["detect", "x.jpg", "--conf", "7"], ["detect", "x.jpg", "--conf", "high"], ["serve", "--port", "x"]])
def test_wrong_usage_is_2(args, capsys):
    with pytest.raises(SystemExit) as exit: main(args)
    assert exit.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("args, about", [
    (["capture", "nowhere.jpg"], "nowhere.jpg"), (["capture", "teapot:1"], "teapot"), (["capture", "http://127.0.0.1:9/x.jpg"], "127.0.0.1:9"),
    (["ask", "How many?", "--camera", "nowhere/"], "nowhere"), (["detect", "nowhere.jpg"], "nowhere.jpg"),
    (["ask", "How many cars?", "--camera", "sample:harbour", "--weights", "nowhere.pt"], "nowhere.pt"),
    (["ask", "How many cars?", "--model", "gpt-9"], "OPENAI_API_KEY"), (["serve"], "OPENAI_API_KEY"), (["serve"], "--demo"), (["serve", "--model", "gpt-9"], "--demo"), (["serve", "--demo", "--host", "0.0.0.0"], "no login")])
def test_a_failure_is_one_line_and_1(args, about, capsys):
    assert main(args) == 1
    assert about in error_of(capsys)


def test_a_camera_that_does_not_answer_fails_the_question(capsys):
    assert main(["ask", "--offline", "How many cars are there?", "--camera", "http://127.0.0.1:9/x.jpg"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.splitlines()[-1].startswith("llmcam: http://127.0.0.1:9/x.jpg")


def test_capture_prints_the_path(tmp_path, capsys):
    assert main(["capture", "sample:harbour?t=30", "--out", str(tmp_path / "frames")]) == 0
    path = capsys.readouterr().out.strip()
    assert path.startswith(str(tmp_path / "frames")) and os.path.getsize(path) > 1000


def test_detect_as_text_and_as_json(tmp_path, capsys):
    main(["capture", "sample:harbour?t=30"])
    path = capsys.readouterr().out.strip()
    assert main(["detect", path, "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)[path]
    assert counts["car"] >= 1
    assert main(["detect", path]) == 0
    shown = capsys.readouterr()
    assert f"{counts['car']} car" in shown.out and (data_dir() / f"detection_{os.path.basename(path)}").is_file() and "detection_" in shown.err


def test_what_is_wrong_with_the_detector_is_said_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LLMCAM_YOLO", "nowhere.pt")
    three_frames(tmp_path / "frames")
    assert main(["detect", str(tmp_path / "frames")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "nowhere.pt" in said[0] and "--weights" in said[0] and "weights=" not in said[0]
    assert main(["ask", "--offline", "How many cars are there?", "--camera", str(tmp_path / "frames")]) == 1
    assert "nowhere.pt" in capsys.readouterr().out
    assert main(["detect", "sample:harbour"]) == 1 and "llmcam ask --camera sample:harbour" in error_of(capsys)


def three_frames(folder):
    from PIL import Image
    from llmcam.vision.sample import render_scene
    folder.mkdir()
    for t in (30, 60, 90): Image.fromarray(render_scene(t=t)[0]).save(folder / f"{t}.jpg")


def test_detect_a_folder_and_a_pattern(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LLMCAM_YOLO", "sample")
    three_frames(tmp_path / "frames")
    (tmp_path / "frames" / "notes.txt").write_text("no picture"); (tmp_path / "frames" / "detection_30.jpg").write_bytes((tmp_path / "frames" / "30.jpg").read_bytes())
    for what in (tmp_path / "frames", tmp_path / "frames" / "?0.jpg"):
        assert main(["detect", str(what), "--json"]) == 0
        assert [os.path.basename(path) for path in json.loads(capsys.readouterr().out)] == ["30.jpg", "60.jpg", "90.jpg"]
    (tmp_path / "empty").mkdir()
    assert main(["detect", str(tmp_path / "empty")]) == 1 and "no picture in" in error_of(capsys)


def test_one_bad_picture_does_not_spoil_the_others(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LLMCAM_YOLO", "sample")
    three_frames(tmp_path / "frames")
    (tmp_path / "bad.jpg").write_text("bad")
    assert main(["detect", str(tmp_path / "bad.jpg"), str(tmp_path / "frames" / "30.jpg"), "--json"]) == 1
    shown = capsys.readouterr()
    assert list(json.loads(shown.out)) == [str(tmp_path / "frames" / "30.jpg")] and "bad.jpg" in shown.err


def test_ask_about_a_folder_and_a_pattern(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LLMCAM_YOLO", "sample")
    three_frames(tmp_path / "frames")
    monkeypatch.chdir(tmp_path)
    for what in ("frames", "frames/*.jpg", str(tmp_path / "frames" / "[36]0.jpg")):
        assert main(["ask", "--offline", "How many cars are there?", "--camera", what]) == 0
        assert re.search(r"[1-9]\d* car", capsys.readouterr().out)
    assert main(["ask", "--offline", "How many cars are there?", "--camera", "frames/*.png"]) == 1 and "frames/*.png" in error_of(capsys)


def test_ask_to_be_told_stays_and_tells(tmp_path):
    "The watch goes on behind the answer; what it says comes on standard output; Ctrl-C is its end, and no failure."
    import signal
    from camera_servers import snapshot_server
    code = "import sys; from llmcam.application.cli import main; sys.exit(main(['ask', '--offline', 'Tell me when there are at least 0 cars, every 1 second', '--camera', sys.argv[1]]))"
    with snapshot_server() as (url, camera):
        camera["login"], uri = "admin:CANARY", url.replace("//", "//admin:CANARY@") + "/basic.jpg"
        with subprocess.Popen([sys.executable, "-c", code, uri], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LLMCAM_YOLO": "sample"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asked:
            try:
                answer, told = asked.stdout.readline(), asked.stdout.readline()
                asked.send_signal(signal.SIGINT)
                rest = asked.stderr.read()
                assert "started" in answer and re.match(r"\d\d:\d\d:\d\d  .*\bcar", told), (answer, told, rest)
                assert asked.wait(20) == 0 and "Ctrl-C" in rest and "Traceback" not in rest and "CANARY" not in answer + told + rest
            finally: asked.kill()


def test_ask_offline_says_so_and_answers_on_stdout(capsys):
    assert main(["ask", "How many cars are there?", "--camera", "sample:harbour?t=30"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"\d+ car", shown.out) and "not a language model" in shown.out
    assert "offline rules" in shown.err.splitlines()[0] and "✓ detect_objects" in shown.err
    assert "\x1b" not in shown.err + shown.out, "no colour where there is no terminal"
    assert main(["ask", "How many cars are there?", "--camera", "sample:harbour?t=30", "--offline"]) == 0
    assert "No OPENAI_API_KEY" not in capsys.readouterr().err


def test_ask_a_model_through_the_protocol(capsys, monkeypatch):
    from llmcam.core.offline import OfflineServer
    with OfflineServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        assert main(["ask", "How many cars are there?", "--camera", "sample:harbour?t=30", "--model", "any"]) == 0
    assert re.search(r"\d+ car", capsys.readouterr().out)


def test_a_camera_s_password_is_not_told(capsys):
    from camera_servers import snapshot_server
    with snapshot_server() as (url, camera):
        camera["login"], uri = "admin:CANARY", url.replace("//", "//admin:CANARY@") + "/basic.jpg"
        assert main(["ask", "--offline", "Take a picture", "--camera", uri]) == 0
    shown = capsys.readouterr()
    assert "CANARY" not in shown.out + shown.err and f"{url}/basic.jpg" in shown.err and camera["headers"][-1]["Authorization"]


def test_two_cameras(capsys):
    assert main(["ask", "--offline", "How many cars are there?", "--camera", "sample:harbour?t=30", "--camera", "sample:harbour?t=60"]) == 0
    assert capsys.readouterr().err.count("✓ detect_objects") == 2


def real_frames(shared_data): return sorted((shared_data / "frames").glob("*.jpg"))


def test_a_picture_file_is_counted_exactly(shared_data, tmp_path, capsys):
    "What ultralytics counts in a file is what the answer says, for the file itself and for its picture in other formats."
    from collections import Counter
    from PIL import Image
    from ultralytics import YOLO
    weights = str(shared_data / "weights" / "yolo11n.pt")
    model, files = YOLO(weights), real_frames(shared_data)
    Image.open(files[0]).save(tmp_path / "two words.png")
    Image.open(files[0]).save(tmp_path / "small.webp", quality=60)
    for path in [*files, tmp_path / "two words.png", tmp_path / "small.webp"]:
        result = model.predict(str(path), verbose=False)[0]
        wanted = Counter(result.names[int(c)] for c in result.boxes.cls)["car"]
        assert main(["ask", "--offline", "--camera", str(path), "--weights", weights, "How many cars are there?"]) == 0
        said = re.search(r"(no|\d+) cars?\b", capsys.readouterr().out)[1]
        assert int(said.replace("no", "0")) == wanted, path.name


def test_the_demo_ends_by_itself(tmp_path):
    demo = llmcam("demo", env={"LLMCAM_DATA": str(tmp_path / "d")}, timeout=240)  # ten seconds where nothing else runs
    assert demo.returncode == 0, demo.stderr
    for shown in ("not a language model", "✓ capture_frame", "✓ detect_objects", "✓ plot_object", "✓ start_watch", "Notification: ", "✓ stop_watch"): assert shown in demo.stdout
    pictures = re.findall(r"^  (\S+\.(?:jpg|png))$", demo.stdout, re.M)
    assert len(pictures) >= 8 and all((tmp_path / "d" / name).is_file() for name in pictures) and any("plot" in name for name in pictures)
    assert demo.stdout.count(str(tmp_path)) == 1, "the folder is named once"
    assert demo.stdout.index("Loading the detector") < demo.stdout.index("→")
    assert "\x1b" not in demo.stdout and "Traceback" not in demo.stderr


def test_a_plain_ascii_terminal_is_enough():
    shown = llmcam("ask", "--offline", "How many cars are there?", "--camera", "sample:harbour?t=30", env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert shown.returncode == 0 and "car" in shown.stdout


def test_hostile_text_cannot_rewrite_the_terminal():
    from llmcam.application.cli import plain
    assert plain("a\x1b[2Jb\x07\x9b1mc\r\n") == "a[2Jb1mc\n"


def test_serving_until_interrupted(tmp_path):
    import signal
    import httpx2
    code = "import sys; from llmcam.application.cli import main; sys.exit(main(['serve', '--demo', '--port', '0']))"
    server = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        assert "not a language model" in line and "llmcam" in httpx2.get(url, timeout=20).text
        server.send_signal(signal.SIGINT)
        assert server.wait(15) == 0
    finally: server.kill()


def test_the_parser_needs_nothing_heavy():
    code = "import sys; from llmcam.application.cli import make_parser; make_parser(); print([m for m in ('torch', 'cv2', 'numpy', 'fasthtml', 'openai', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
