"Asking a vision model: what is sent, what comes back, and what is made of it."
import base64, io, json
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from openai import OpenAI
from PIL import Image
from pydantic import BaseModel

from llmcam.core.fc import ModelError, use_client
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.offline import OfflineModel, OfflineServer, ScriptedModel, check_request
from llmcam.core.policy import PolicyError, ToolPolicy, gate
from llmcam.vision import gpt4v
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


# Any question, about one picture or several, with a typed answer

class Weather(BaseModel):
    sky: Literal["clear", "overcast"]
    wet: bool = False


class Refuses(Client):
    "A server that knows no structured output."
    def create(self, **request):
        if "response_format" in request:
            self.requests.append(request)
            error = RuntimeError("Unknown parameter: response_format")
            error.status_code = 400
            raise error
        return super().create(**request)


def test_a_typed_answer_from_a_server_that_can(picture):
    path = picture()
    with OfflineServer(ScriptedModel('{"sky": "clear", "wet": true}')) as server:
        seen = look("How is the weather?", path, Weather, client=OpenAI(base_url=server.base_url, api_key="k"), model="m")
    assert seen.answer == Weather(sky="clear", wet=True) and seen.model == "m"
    asked = server.requests[0]
    form = asked["response_format"]["json_schema"]
    assert form["strict"] and form["schema"]["required"] == ["sky", "wet"] and form["schema"]["additionalProperties"] is False
    check_request(asked)


def test_a_server_that_cannot_is_asked_in_words_from_then_on(picture):
    client = Refuses('```json\n{"sky": "clear"}\n```', '{"sky": "overcast"}')
    assert look("Weather?", picture(name="1.jpg"), Weather, client=client, model="m").answer == Weather(sky="clear")
    assert look("Weather?", picture(name="2.jpg"), Weather, client=client, model="m").answer == Weather(sky="overcast")
    assert ["response_format" in r for r in client.requests] == [True, False, False]
    assert "JSON schema" in client.requests[1]["messages"][0]["content"][0]["text"] and sent(client)


def test_other_errors_are_not_taken_for_a_refusal(picture):
    class Broken(Client):
        def create(self, **request): self.requests.append(request); raise ConnectionError("gone")
    client = Broken()
    with pytest.raises(ConnectionError): look("Weather?", picture(), Weather, client=client, model="m")
    assert len(client.requests) == 1


def test_what_does_not_fit_is_asked_for_once_more(picture):
    client = Client('{"sky": "purple"}', "{'sky': 'clear', 'wet': 'yes',}")
    assert look("Weather?", picture(), Weather, client=client, model="m").answer == Weather(sky="clear", wet=True)
    assert "did not fit" in client.requests[1]["messages"][0]["content"][0]["text"] and "response_format" not in client.requests[1] and sent(client)
    with pytest.raises(ModelError, match="did not answer as asked.*purple"): look("Weather?", picture(), Weather, client=Client(*['{"sky": "purple"}'] * 2), model="m")
    with pytest.raises(ModelError, match="refused.*No faces"):
        refusing = SimpleNamespace(create=lambda **_: SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(content=None, refusal="No faces."))]))
        look("Who?", picture(), client=SimpleNamespace(chat=SimpleNamespace(completions=refusing)), model="m")


POINT = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"$ref": "#/$defs/y"}}, "required": ["x"], "$defs": {"y": {"type": "integer"}}}


@pytest.mark.parametrize("answer, said, expected", [(bool, '{"answer": "true"}', True), (list[str], '{"answer": ["a"]}', ["a"]), (int, '{"answer": "007"}', 7),
    (POINT, '{"x": 1.5, "y": 2}', {"x": 1.5, "y": 2}), ({"type": "array", "items": {"type": "string"}}, '{"answer": ["A1"]}', ["A1"]),
    ({"enum": ["a", "b"]}, '{"answer": "b"}', "b"), (str, '{"answer": "0123"}', "0123")], ids=str)
def test_kinds_of_answers(answer, said, expected, picture):
    assert look("?", picture(), answer, client=Client(said), model="m").answer == expected


@pytest.mark.parametrize("said", ['{"x": "far"}', '{"y": 1}', '{"x": 1, "y": 1.5}', "[1, 2]", "nothing"])
def test_a_schema_is_kept(said, picture):
    with pytest.raises(ModelError, match="did not answer as asked"): look("?", picture(), POINT, client=Client(said, said), model="m")


def test_a_schema_fetches_nothing(picture):
    remote = {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:9/x.json"}}}
    with pytest.raises(Exception, match="x.json"): look("?", picture(), remote, client=Client('{"x": 1}', '{"x": 1}'), model="m")


def test_several_pictures_of_every_kind(picture):
    from llmcam.vision.camera import Camera, Frame
    from llmcam.vision.yolo import Detections
    with Camera("sample:harbour?t=33") as camera: frame = camera.frame()
    array = np.zeros((90, 160, 3), np.uint8)
    client = Client("Three.")
    images = [picture(), frame, array, Detections([], np.zeros((0, 4)), np.zeros(0), array)]
    assert str(look("What has changed?", images, client=client, model="m")) == "Three."
    parts = client.requests[0]["messages"][0]["content"]
    assert [p["type"] for p in parts] == ["text"] + ["text", "image_url"] * 4
    assert "Picture 2: Harbour, 2026-06-21 12:00:33 UTC" in parts[3]["text"] and parts[5]["text"] == "Picture 3"
    for odd in ([], [frame] * 21):
        with pytest.raises(ModelError, match="1 to 20"): look("?", odd, client=client, model="m")


def test_a_camera_is_a_picture_too(monkeypatch):
    from llmcam.vision.camera import Camera
    client = Client("Both.", "One.")
    with Camera("sample:harbour?t=33") as camera: assert str(look("?", ["sample:harbour?t=33", camera], client=client, model="m")) == "Both."
    assert str(look("?", "sample:harbour?t=90", client=client, model="m")) == "One." and sent(client).size == (960, 540)
    with gate(ToolPolicy.web()), pytest.raises(PolicyError, match="usb:0"): ask_image("?", "usb:0", client=client, model="m")


def test_a_live_sample_frame_finds_its_detector(monkeypatch):
    from llmcam.vision.camera import Camera
    monkeypatch.delenv("LLMCAM_YOLO", raising=False)
    with Camera("sample:harbour?t=33") as camera: frame = camera.frame()
    assert "car" in str(look("How many cars are there?", frame, client=OfflineModel()))
    with pytest.raises(ModelError, match="offline model looks with a detector, which only counts: answer: Field required. Ask for whole numbers"):
        look("How is the weather?", frame, bool, client=OfflineModel())


@pytest.mark.parametrize("question, detail, longest", [("Is it raining?", "low", 512), ("What do you see?", "auto", 1280), ("Read the sign.", "high", 2048), ("How many cars?", "auto", 1280)])
def test_pictures_are_as_large_as_the_question_needs(question, detail, longest, picture):
    client = Client("Yes.")
    look(question, picture((3000, 1500)), client=client, model="m")
    assert sent(client).size == (longest, longest // 2) and client.requests[0]["messages"][0]["content"][1]["image_url"]["detail"] == detail
    with pytest.raises(ModelError, match="low, auto, high"): look("?", picture(), detail="huge", client=client, model="m")


def test_the_same_question_is_asked_once(picture, tmp_path, monkeypatch):
    client, path = Client("One.", "Two.", "Three.", "Four."), picture()
    ask = lambda question="What?", model="m", **more: look(question, path, client=client, model=model, **more)
    assert (ask().answer, ask().answer, ask().cached, len(client.requests)) == ("One.", "One.", True, 1)
    assert ask("Which?").answer == "Two." and ask(model="n").answer == "Three." and ask(fresh=True).answer == "Four." and ask().answer == "Four."
    monkeypatch.setenv("LLMCAM_DATA", str(tmp_path / "another session"))
    with pytest.raises(ModelError): ask()  # what one session was told, another has to ask for
    assert look("What?", path, client=Client("Five."), model="m").answer == "Five."


def test_what_is_kept_is_bounded_and_cannot_be_changed_from_outside(picture):
    answers, client, first = gpt4v._Answers(3), Client(), Look(["a"], "m", 5, 2)
    answers.put(client, 0, first, list)
    first.answer.append("b")
    known = answers.get(client, 0, list)
    known.answer.append("c")
    assert answers.get(client, 0, list) == Look(["a"], "m", 0, 0, True)
    for key in range(1, 4): answers.put(client, key, first, list)
    assert answers.get(client, 0, list) is None and len(answers.kept[client]) == 3
    answers.put(SimpleNamespace(), 0, first, list)  # cannot be a key: nothing is kept, nothing breaks


def test_the_same_question_for_another_type_is_another_question(picture):
    class Scene(BaseModel): boats: int
    First, path = Scene, picture()
    class Scene(BaseModel):
        boats: int
        def model_post_init(self, _): assert self.boats < 3
    client = Client(*['{"boats": 2}'] * 3, *['{"answer": [1, 2]}'] * 2)
    found = [look("How many?", path, kind, client=client, model="m").answer for kind in (First.model_json_schema(), First, Scene, Scene)]
    assert [type(answer) for answer in found] == [dict, First, Scene, Scene] and len(client.requests) == 3
    found = [look("Which?", path, kind, client=client, model="m").answer for kind in (list[int], tuple[int, ...], tuple[int, ...])]
    assert found == [[1, 2], (1, 2), (1, 2)] and len(client.requests) == 5


@pytest.mark.parametrize("text", ['Sure {ok}: {"boats": 2}', '<think>{"a" or {b}}</think> {"boats": 2} {', '{x} {"boats": 2} and {y}'])
def test_an_object_is_found_among_other_braces(text, picture):
    class Scene(BaseModel): boats: int
    assert look("How many?", picture(), Scene, client=Client(text), model="m").answer.boats == 2


def test_tokens_are_summed(picture):
    client = Client('{"sky": "no"}', '{"sky": "clear"}')
    create = client.create
    def counted(**request): return SimpleNamespace(choices=create(**request).choices, usage=SimpleNamespace(prompt_tokens=100, completion_tokens=7))
    client.create = counted
    seen = look("Weather?", path := picture(), Weather, client=client, model="m")
    assert (seen.prompt_tokens, seen.completion_tokens) == (200, 14)
    assert look("Weather?", path, Weather, client=client, model="m").prompt_tokens == 0


# Detector and model

def test_a_second_opinion_shows_where_they_differ(monkeypatch):
    from llmcam.vision.camera import Camera
    with Camera("sample:harbour?t=33") as camera: frame = camera.frame()
    client = Client('{"car": 7, "person": 5, "dragon": 1, "giraffe": null}')
    both = second_opinion(frame, ["cars", "people", "dragons", "giraffe"], client=client, model="m")
    assert both.counts == {"car": (7, 7), "person": (2, 5), "dragon": (None, 1), "giraffe": (None, None)}
    assert both.disagreements == {"person": (2, 5), "dragon": (None, 1)} and not both.agree and both.model == "m"
    assert "| person | 2 | 5 | differ |" in both._repr_markdown_() and "| dragon | unknown | 1 | differ |" in both._repr_markdown_()
    assert json.loads(both.to_json())["person"] == {"detector": 2, "model": 5} and "disagree: person 2 or 5" in repr(both)
    alike = second_opinion(both.found, ["cars"], client=Client('{"car": 7}'), model="m")
    assert alike.agree and alike.disagreements == {}


def test_eyes_name_every_class_that_they_know():
    from llmcam.vision.camera import Camera
    with Camera("sample:harbour?t=33") as camera: encoded = camera.frame().save().read_bytes()
    assert set(detector_eyes("sample", facts=False)(encoded)) == {"person", "car", "boat"}
    assert detector_eyes("sample", conf=1., facts=False)(encoded) == {"person": 0, "car": 0, "boat": 0}


def test_what_is_read_from_pictures_is_not_trusted():
    assert [(f.tool_level, f.tool_untrusted) for f in (ask_image, ask_gpt4v_about_image_file)] == [("network", True)] * 2
