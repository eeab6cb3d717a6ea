"Asking a vision model: what is sent, what comes back, and what is made of it."
import base64, io, json
from types import SimpleNamespace

import pytest
from PIL import Image

from llmcam.core.fc import ModelError, use_client
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.offline import OfflineModel
from llmcam.core.policy import PolicyError, ToolPolicy, gate
from llmcam.vision.camera import CameraError
from llmcam.vision.gpt4v import *


class Client:
    "Answers with each of `said` in turn, and keeps what it was asked."
    def __init__(self, *said): self.said, self.requests, self.chat, self.completions = list(said), [], self, self
    def create(self, **request):
        self.requests.append(request)
        choices = [SimpleNamespace(message=SimpleNamespace(content=self.said.pop(0)))] if self.said else []
        return SimpleNamespace(choices=choices)


@pytest.fixture
def picture(tmp_path):
    def make(size=(640, 360), name="a.jpg", **kwargs):
        Image.effect_noise(size, 40).convert("RGB").save(tmp_path / name, **kwargs)
        return str(tmp_path / name)
    return make


def sent(client): return Image.open(io.BytesIO(base64.b64decode(client.requests[-1]["messages"][0]["content"][1]["image_url"]["url"].partition(",")[2])))


@pytest.mark.parametrize("size, expected", [((640, 360), (640, 360)), ((4000, 3000), (1280, 960)), ((100, 5000), (26, 1280))])
def test_encode_image(picture, size, expected):
    decoded = Image.open(io.BytesIO(base64.b64decode(encode_image(picture(size, "a.png")))))
    assert decoded.format == ("PNG" if size == expected else "JPEG") and decoded.size == expected


def pixels(content): return Image.open(io.BytesIO(content)).convert("RGB").tobytes()


@pytest.mark.parametrize("name, how", [("a.jpg", {}), ("a.jpg", {"progressive": True, "quality": 60}), ("a.jpg", {"comment": "c", "dpi": (300, 300)}), ("a.png", {"dpi": (72, 72)}),
                                       ("a.jpg", {"icc_profile": b"a profile"}), ("a.jpg", {"restart_marker_rows": 1})], ids=str)
def test_a_picture_that_fits_keeps_its_pixels(picture, name, how):
    path = picture(name=name, **how)
    with open(path, "ab") as file: file.write(b"a film behind it")
    whole, small = open(path, "rb").read(), base64.b64decode(encode_image(path))
    assert pixels(small) == pixels(whole) and small in whole.replace(b"\xff\xfe\0\x03c", b"") or name == "a.png"
    assert b"a film behind it" not in small and Image.open(io.BytesIO(small)).info.get("icc_profile") == how.get("icc_profile")


def test_a_plain_jpeg_is_sent_byte_for_byte(picture):
    path = picture()
    assert base64.b64decode(encode_image(path)) == open(path, "rb").read()


@pytest.mark.parametrize("name, changed", [("a.jpg", {"orientation": 6}), ("a.jpg", {"mode": "CMYK"}), ("a.webp", {}), ("a.png", {"mode": "I;16"})], ids=str)
def test_what_models_do_not_read_is_encoded_again(tmp_path, name, changed):
    picture, exif = Image.new(changed.get("mode", "RGB"), (64, 32), 0), Image.Exif()
    exif[0x0112] = changed.get("orientation", 1)
    picture.save(tmp_path / name, exif=exif)
    sent = Image.open(io.BytesIO(base64.b64decode(encode_image(str(tmp_path / name)))))
    assert (sent.format, sent.mode, sent.size) == ("JPEG", "RGB", (32, 64) if "orientation" in changed else (64, 32))


def test_the_message_says_what_kind_of_picture_it_is(picture):
    for name, kind in (("a.png", "png"), ("a.jpg", "jpeg"), ("a.webp", "jpeg")):
        client = Client("Grey.")
        ask_image("?", picture(name=name), client=client, model="m")
        assert client.requests[0]["messages"][0]["content"][1]["image_url"]["url"].startswith(f"data:image/{kind};base64,")
        assert sent(client).format.lower() == kind


def test_offline_eyes_see_what_the_detector_sees(shared_data):
    from llmcam.vision.yolo import detect
    weights = shared_data / "weights/yolo11n.pt"
    for path in sorted((shared_data / "frames").glob("*.jpg")):
        facts = json.loads(ask_gpt4v_about_image_file(str(path), client=OfflineModel(eyes=detector_eyes(weights))))
        assert {name: facts[name] for name in detect(path, weights=weights).counts} == detect(path, weights=weights).counts


def test_what_the_camera_wrote_stays_here(picture):
    exif = Image.Exif(); exif[0x010E] = "my address"; exif[0x8825] = {1: "N", 2: (60.0, 10.0, 1.0)}
    for how in ({"exif": exif.tobytes()}, {"comment": b"my address"}, {"name": "a.png", "exif": exif.tobytes()}, {"xmp": b"<x>my address</x>"}):
        path = picture(**how)
        assert b"my address" in open(path, "rb").read()
        assert b"my address" not in base64.b64decode(encode_image(path))


def test_what_is_no_picture(tmp_path, picture):
    (tmp_path / "page.jpg").write_text("<html>no</html>")
    whole = open(picture(), "rb").read()
    (tmp_path / "cut.jpg").write_bytes(whole[:len(whole) // 2])
    for name in ("page.jpg", "cut.jpg", "absent.jpg"):
        with pytest.raises(CameraError): encode_image(str(tmp_path / name))


def test_a_model_looks_only_into_the_data_directory(picture):
    path = picture()
    with gate(ToolPolicy.web()), pytest.raises(PolicyError): encode_image(path)


ANSWERS = {
    '{"car": 3}': {"car": 3},
    'Sure:\n```json\n{"car": 3, "person": "2"}\n```\nAnything else?': {"car": 3, "person": 2},
    '```\n{"car": 3.0,}\n```': {"car": 3},
    "{'car': 3, 'night': True}": {"car": 3, "night": True},
    'In the picture {"car": 3, "where": {"left": 1}} is what I see.': {"car": 3, "where": {"left": 1}},
    '{"car": 3, "sign": "a } b"}': {"car": 3, "sign": "a } b"},
    '{"car": 3, "speed": NaN, "far": [-Infinity, 1e999]}': {"car": 3, "speed": None, "far": [None, None]}, '{"a": {"b": NaN, "c": 2.0}}': {"a": {"b": None, "c": 2}},
    "{'a': {(1, 2): {3}}}": {"a": {"(1, 2)": [3]}}, '{"a": ' * 900 + "1" + "}" * 900: ...,
    "Nothing to see.": {}, "": {}, "[1, 2]": {}, "{" * 5000: {}, '{"a": }': {}, "{}": {},
}


@pytest.mark.parametrize("text", ANSWERS, ids=lambda t: t[:20])
def test_parse_facts(text): assert ANSWERS[text] in (..., parse_facts(text))


def test_a_number_that_is_none_makes_no_invalid_json(picture):
    said = '{"car": 3, "speed": NaN, "far": [Infinity], "near": 1e999}'
    text = ask_gpt4v_about_image_file(picture(), client=Client(said), model="m")
    refuse = lambda name: pytest.fail(f"{name} is no JSON")
    assert json.loads(text, parse_constant=refuse) == {"car": 3, "speed": None, "far": [None], "near": None, "looked": "m"}


def test_facts_say_who_looked(picture, monkeypatch):
    client = Client('{"car": 2}')
    assert json.loads(ask_gpt4v_about_image_file(picture(), client=client, model="m")) == {"car": 2, "looked": "m"}
    monkeypatch.setenv("LLMCAM_VISION_MODEL", "eye-1")
    client = Client('{"car": 2}')
    assert json.loads(ask_gpt4v_about_image_file(picture(), client=client))["looked"] == "eye-1"
    assert client.requests[0]["model"] == "eye-1" and sent(client).size == (640, 360)


def test_a_second_chance_then_the_words(picture):
    assert json.loads(ask_gpt4v_about_image_file(picture(), client=Client("Two cars.", '{"car": 2}'), model="m"))["car"] == 2
    assert json.loads(ask_gpt4v_about_image_file(picture(), client=Client("Two cars.", "Two!"), model="m")) == {"answer": "Two cars.", "looked": "m"}


def test_no_answer_is_an_error(picture):
    with pytest.raises(ModelError, match="gave no answer"): ask_image("?", picture(), client=Client(), model="m")


def test_a_question_of_ones_own(picture):
    client = Client("It snows.", '{"answer": "It snows."}')
    assert ask_image("Does it snow?", picture(), client=client, model="m") == "It snows."
    assert json.loads(ask_gpt4v_about_image_file(picture(), "Does it snow?", client=client, model="m"))["answer"] == "It snows."


def test_offline_with_eyes(picture):
    eyes = lambda jpeg: {"car": 2, "looked": "my eyes"} if jpeg[:2] == b"\xff\xd8" else {}
    assert json.loads(ask_gpt4v_about_image_file(picture(), client=OfflineModel(eyes=eyes))) == {"car": 2, "looked": "my eyes"}


def test_the_tool_hides_what_is_the_hosts():
    for fn, names in ((ask_gpt4v_about_image_file, ["path", "question"]), (ask_image, ["question", "path"])):
        assert list(function_schema(fn)["function"]["parameters"]["properties"]) == names


def test_who_looks(picture):
    mine, default = Client('{"car": 1}'), Client('{"car": 9}')
    use_client(default, "d")
    try:
        with looking_with(mine, "m"): assert json.loads(ask_gpt4v_about_image_file(picture())) == {"car": 1, "looked": "m"}
        assert json.loads(ask_gpt4v_about_image_file(picture())) == {"car": 9, "looked": "d"}
    finally: use_client(None)
