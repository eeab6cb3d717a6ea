"The offline model picks the right tools for requests in many wordings, and its server refuses what OpenAI refuses."
import base64, copy, json, random, re, time, urllib.error, urllib.request
from datetime import date
from typing import Literal

import pytest
from jsonschema import Draft202012Validator

from llmcam.application.session import SessionManager
from llmcam.core.fc import Final, TextDelta, ToolStarted, complete, form_msg, form_msgs, stream
from llmcam.core.fn_to_schema import Tool, function_schema, public_tool
from llmcam.core.offline import OfflineModel, ScriptedModel, classes_of
from llmcam.core.offline_server import Fault, OfflineServer, RequestError, check_messages, check_request
from llmcam.utils.bash_command import execute_bash_command
from llmcam.vision.camera import capture_frame
from llmcam.vision.plotting import plot_object
from llmcam.vision.yolo import DetectorError, detect_objects

WATCH = "3f9a12bc77aa"
STREAM = "3f2b8c1e-1111-4222-8333-123456789abc"
SIGNED = "(Keyword rules wrote this, not a language model.)"


def frame_of(camera): return f"data/cap_{''.join(c for c in camera.split('?')[0].rpartition(':')[2] if c.isalnum())}.jpg"


def detected(image_path, conf=.25, objects=None):
    counts = {"car": 3, "boat": 4} if "market" in image_path or image_path.endswith("b.jpg") else {"car": 7, "person": 2, "boat": 1}
    asked = {word: [c for c in classes_of(word) if c in ("car", "person", "boat", "truck", "bus", "dog")] for word in objects or []}
    if unknown := [word for word, known in asked.items() if not known]:
        raise DetectorError(f"The detector does not know {' or '.join(f'{chr(39)}{u}{chr(39)}' for u in unknown)}. It knows car, person, boat, truck, bus, dog.")
    return json.dumps({c: counts.get(c, 0) for known in asked.values() for c in known} if objects else counts)


STAND_INS = dict(
    capture_frame=lambda camera: frame_of(camera),
    capture_youtube_live_frame=lambda link=None, place=None: "data/cap_youtube.jpg",
    cap=lambda **kwargs: "data/cap_Porvoo.jpg",
    detect_objects=detected,
    plot_object=lambda images, object, methods=None: json.dumps({"path": f"data/plot_{object}_{len(images)}.png"}),
    list_image_files=lambda **kwargs: "data/cap_a.jpg\ndata/cap_b.jpg",
    list_detection_files=lambda **kwargs: "data/detection_cap_a.jpg",
    list_plot_files=lambda **kwargs: "data/plot_car.png",
    start_notification_stream=lambda messages: f"Notification stream started with ID {STREAM}",
    stop_notification=lambda noti_id: "Notification stream stopped",
    start_watch=lambda **rule: f"Watch {WATCH} started: {json.dumps(rule)}",
    list_watches=lambda: f"{WATCH}: more than 5 cars on sample:harbour. Running.",
    pause_watch=lambda id: f"Watch {id} is paused.", resume_watch=lambda id: f"{id}: running", stop_watch=lambda id: f"Stopped: {id}.",
    ask_gpt4v_about_image_file=lambda path, question=None: json.dumps({"car": 7, "boat": 0, "timestamp": "12:12:06", "location": "Torni", "time_of_day": "day", "looked": "the object detector"}),
    download_file=lambda url, save_path=None: f"data/{url.rpartition('/')[2]}",
)


def stand_in(tool):
    "`tool` as a model sees it, with a function that needs no camera."
    return Tool(copy.deepcopy(public_tool(tool)), func=STAND_INS.get(tool["function"]["name"], lambda **kwargs: "done"))


@pytest.fixture(scope="module")
def all_tools():
    with SessionManager() as manager: return [stand_in(tool) for tool in manager[manager.init_session()].tools]

@pytest.fixture(scope="module")
def session_tools(all_tools):
    "The tools of a session, without those that watch by a rule."
    return [tool for tool in all_tools if not re.search("_watch(es)?$", tool.name)]


def talk(turns, tools, system=None):
    "Take the turns; the calls of the last one as `name(arguments)`, its answer, and the conversation."
    msgs = form_msgs([("system", system)] if system else [])
    for turn in turns:
        calls = []
        msgs.append(form_msg("user", turn))
        _, answer = complete(msgs, tools, client=OfflineModel(), on_event=lambda e: calls.append(e) if isinstance(e, ToolStarted) else None)
    check_messages(msgs)
    return [c.name for c in calls], [c.arguments for c in calls], answer


HARBOUR = 'The camera of this conversation is "sample:harbour". Capture a new frame from it for each question about now.'
BOTH = 'The cameras of this conversation are "sample:harbour", "sample:market".'
COUNT, TWO = ["capture_frame", "detect_objects"], ["capture_frame"] * 2 + ["detect_objects"] * 2
SEEN = ["capture_frame", "ask_gpt4v_about_image_file"]
REQUESTS = [  # (turns, system message, calls of the last turn, text in its answer or its arguments)
    (["How many cars are there?"], HARBOUR, COUNT, "7 cars"),
    (["How many cars are there?"], 'The camera of this conversation is "shots/cap 1.jpg".', ["detect_objects"], '"shots/cap 1.jpg"'),
    (["Any boats?"], HARBOUR, COUNT, "1 boat on"),
    (["How many vehicles can you see?"], HARBOUR, COUNT, "7 vehicles"),
    (["Is there a dog on sample:harbour?"], None, COUNT, "no dogs"),
    (["Are there any people at the harbour right now?"], None, COUNT, "2 people"),
    (["How many cars are there at the market?"], BOTH, COUNT, "3 cars"),
    (["How many people are on the pier right now?"], BOTH, TWO, "2 people"),
    (["How many boats are on sample:harbour and sample:market?"], None, TWO, "In all 5 boats"),
    (["How many cars at sample:harbour? And how many boats at sample:market?"], None, COUNT * 2, "4 boats"),
    (["Which camera has more cars, sample:harbour or sample:market?"], None, TWO, "sample:harbour has more cars than sample:market."),
    (["How many trucks does digitraffic:Porvoo show?"], None, COUNT, "no trucks"),
    (["Capture the harbour, detect objects, plot the cars"], None, [*COUNT, "plot_object"], "plot_car_1.png"),
    (["capture sample:harbour, then count the boats, and finally plot both cars and people"], None, [*COUNT, "plot_object", "plot_object"], "plot_person_1"),
    (["Detect objects on the harbour camera and plot the boats"], None, [*COUNT, "plot_object"], "plot_boat_1"),
    (["Take a picture of sample:harbour."], None, ["capture_frame"], "data/cap_harbour.jpg"),
    (["Grab three frames from sample:harbour?t=30"], None, ["capture_frame"] * 3, "sample:harbour?t=30"),
    (["Take a picture of sample:harbour.", "How many boats are in it?"], None, ["detect_objects"], "1 boat in"),
    (["Take a picture of sample:harbour.", "How many boats are there now?"], None, COUNT, "1 boat on"),
    (["Take pictures of sample:harbour and sample:market", "How many people are on each of these frames?"], None, ["detect_objects"] * 2, "2 people"),
    (["Take pictures of sample:harbour and sample:market", "Plot the boats in these pictures"], None, ["plot_object"], "plot_boat_2"),
    (["Capture sample:harbour", "Capture sample:market", "Plot the number of cars in the captured images"], None, ["plot_object"], "plot_car_2"),
    (["Detect objects in data/a.jpg and data/b.jpg"], None, ["detect_objects"] * 2, "3 cars and 4 boats in b.jpg"),
    (["Count people in 'my pictures/a b.jpg' with confidence 0.5"], None, ["detect_objects"], '{"image_path": "my pictures/a b.jpg", "conf": 0.5, "objects": ["person"]}'),
    (["What do you see?"], HARBOUR, ["capture_frame", "ask_gpt4v_about_image_file"], "I see 7 cars. Time 12:12:06, place Torni, day. Seen by the object detector."),
    (["Describe the picture data/x.png"], None, ["ask_gpt4v_about_image_file"], "data/x.png"),
    (["List all images"], None, ["list_image_files"], "cap_b.jpg"),
    (["Which detections do we have?"], None, ["list_detection_files"], "detection_cap_a"),
    (["Show me the plots you made"], None, ["list_plot_files"], "plot_car"),
    (["Count the cars in all captured images"], None, ["list_image_files", "detect_objects", "detect_objects"], "In all 10 cars"),
    (["Plot the number of people in every saved picture"], None, ["list_image_files", "plot_object"], "plot_person_2"),
    (["Watch sample:harbour and tell me when there are more than 3 cars, then stop."], None, ["start_notification_stream"], STREAM),
    (["Notify me if at least two boats show up"], HARBOUR, ["start_notification_stream"], STREAM),
    (["Let me know as soon as the harbour is empty of people"], None, ["start_notification_stream"], "Camera: sample:harbour"),
    (["Warn me if something odd happens at the harbour"], None, [], "what to wait for"),
    (["Watch the harbour and tell me when there are more than 3 cars", "Stop the notifications"], None, ["stop_notification"], STREAM),
    (["Watch the harbour and tell me when there are more than 3 cars", "Thanks, you can stop watching now."], None, ["stop_notification"], STREAM),
    ([f"Cancel the notification stream {STREAM}"], None, ["stop_notification"], STREAM),
    (["Stop the notifications"], None, [], "No watch"),
    (["Download https://example.com/pics/ferry.jpg"], None, ["download_file"], "ferry.jpg"),
    (["Please fetch 'https://example.com/a.jpg' and count the cars in it"], None, ["download_file", "detect_objects"], "7 cars"),
    (["Add the API at http://127.0.0.1:8000 as petstore"], None, ["add_api_tools"], '"service_name": "petstore"'),
    (["Remove the petstore tools"], None, ["remove_tools"], "petstore"),
    (["Add the function math.sqrt as maths"], None, ["add_function_tools"], '["math.sqrt"]'),
    (["Run `ls -l data`"], None, ["execute_bash_command"], "ls -l data"),
    (["Find the YouTube live stream of Santa Claus Village"], None, ["select_youtube_live_url"], "Santa Claus Village"),
    (["Which road cameras are there in Porvoo?"], None, ["camera_address_book"], ""),
    (["Which one of sample:harbour and sample:market is busier?"], None, TWO, "sample:harbour has more objects than sample:market."),
    (["Capture the road camera of Porvoo"], HARBOUR, ["cap"], "Porvoo"),
    (["capture, detect, plot boats"], HARBOUR, [*COUNT, "plot_object"], "plot_boat_1"),
    (["Show me a picture of the harbour"], HARBOUR, ["capture_frame"], "sample:harbour"),
    (["snapshot please"], HARBOUR, ["capture_frame"], "sample:harbour"),
    (["Do you have any plots?"], None, ["list_plot_files"], "plot_car"),
    (["Find road cameras near Tampere"], None, ["camera_address_book"], '{"search": "Tampere"}'),
    (["Detect objects with 0.6 confidence on sample:harbour"], None, COUNT, '"conf": 0.6'),
    (["How many red cars are there?"], HARBOUR, COUNT, "can't tell which are red"),
    (["how many ppl do you see"], HARBOUR, COUNT, "2 people"),
    (["monitor the car park: alert when the count of cars is above 10"], HARBOUR, ["start_notification_stream"], STREAM),
    (["Watch the harbour for boats", "turn off the notifications"], None, ["stop_notification"], STREAM),
    (["How many cars are in the frame from https://cam.example/snap.jpg?"], None, COUNT, "7 cars"),
    (["I want to know how many trucks and buses are in /tmp/x/street.png"], None, ["detect_objects"], "no trucks and no buses"),
    (["What time is it there?"], HARBOUR, SEEN, "Time 12:12:06. Seen by the object detector."),
    (["Where was data/x.jpg taken?"], None, SEEN[1:], "Place Torni. Seen"),
    (["Is it day or night at the harbour?"], HARBOUR, SEEN, "Day. Seen"),
    (["How many cars and what time is it?"], HARBOUR, [*COUNT, SEEN[1]], "7 cars on sample:harbour. Time 12:12:06."),
    (["How is the weather?"], HARBOUR, SEEN, "I can't tell the weather."),
    (["Is the harbour busy?"], HARBOUR, COUNT, "7 cars, 2 people and 1 boat"),
    (["Count everything"], HARBOUR, COUNT, "7 cars, 2 people and 1 boat"),
    (["Who is on the pier?"], HARBOUR, COUNT, "2 people"),
    (["How many cars were there yesterday?"], HARBOUR, COUNT, "I can only look now."),
    (["What colour is the car?"], HARBOUR, COUNT, "can't tell the colour"),
    (["Capture sample:harbour three times and plot the people"], None, ["capture_frame"] * 3 + ["plot_object"], "plot_person_1"),
    (["Add the API weather at https://api.example/v1 with the document https://api.example/v1/openapi.json"], None, ["add_api_tools"],
        '{"service_name": "weather", "base_url": "https://api.example/v1", "oas_url": "https://api.example/v1/openapi.json"}'),
    (["Use the OpenAPI document https://pets.example/api.json of the service pets at https://pets.example"], None, ["add_api_tools"],
        '{"service_name": "pets", "base_url": "https://pets.example", "oas_url": "https://pets.example/api.json"}'),
    (["Add the API 'my pets' at https://pets.example with the document specs/pets.json"], None, ["add_api_tools"], '"oas_url": "specs/pets.json"'),
    (["When a boat comes, let me know"], HARBOUR, ["start_notification_stream"], STREAM),
    (["If there are more than 5 people, send me a notification"], HARBOUR, ["start_notification_stream"], STREAM),
    (["Text me the moment more than 2 boats are in"], HARBOUR, ["start_notification_stream"], STREAM),
    (["Keep me posted about the number of boats"], HARBOUR, ["start_notification_stream"], STREAM),
    (["Every minute, tell me how many cars there are"], HARBOUR, ["start_notification_stream"], STREAM),
    (["Which notifications are running?"], HARBOUR, [], "can't tell"),
    (["Delete all images"], HARBOUR, [], "can't tell"),
    (["How many unicorns are there?"], HARBOUR, COUNT, "The detector does not know 'unicorn'. It knows car"),
    (["How many cats, cars and zeppelins do you see?"], HARBOUR, [*COUNT, "detect_objects"], "I count 7 cars on sample:harbour. The detector does not know 'cat' or 'zeppelin'."),
    (["How much traffic is there?"], HARBOUR, COUNT, "7 vehicles"),
    (["How many traffic lights are there?"], HARBOUR, COUNT, '"objects": ["traffic light"]'),
    (["List all images", "How many cars in the second one?"], None, ["detect_objects"], "3 cars in cap_b.jpg"),
    (["List all images", "How many cars in the third one?"], None, [], "only 2"),
    (["Compare boats in a.jpg and b.jpg"], None, ["detect_objects"] * 2, "I count 1 boat in a.jpg. I count 4 boats in b.jpg. b.jpg has more boats than a.jpg."),
    (["Which has more cars, a.jpg or b.jpg?"], None, ["detect_objects"] * 2, "a.jpg has more cars than b.jpg"),
    (["How many cars are in a.jpg?", "Is that more than in b.jpg?"], None, ["detect_objects"], "a.jpg has more cars than b.jpg"),
    (["Wie viele Autos sind auf sample:harbour?"], None, [], "only understand English"),
    (["Сколько машин на sample:harbour?"], None, [], "only understand English"),
    (["How many images do I have?"], None, ["list_image_files"], "2 pictures"),
    (["How many pictures show cars?"], HARBOUR, ["list_image_files", *["detect_objects"] * 2], "3 cars in cap_b.jpg"),
    (["Capture the Santa Claus village and count reindeer"], None, ["capture_youtube_live_frame", "detect_objects"], '{"place": "Santa Claus"}'),
    (["Count the people in Santa Claus Village"], None, ["capture_youtube_live_frame", "detect_objects"], "2 people"),
    (["Capture an image from YouTube Live"], HARBOUR, ["capture_youtube_live_frame"], "[{}]"),
    (["How many cars will there be tomorrow?"], HARBOUR, COUNT, "I can only look now. I count"),
    (["How many cars are NOT parked?"], HARBOUR, COUNT, "can't tell which are parked"),
    (["How much does parking cost at sample:harbour?"], HARBOUR, [], "can't tell"),
    (["How many cars are there?"], None, [], "Which camera? Name one, such as sample:harbour"),
    (["Take a picture"], None, [], "Which camera?"),
    (["Tell me when there are more than 3 cars"], None, [], "Which camera?"),
    (["How many cars are in the Picture?"], HARBOUR, COUNT, "7 cars on"),
    (["How many dogs / unicorns / buses are there?"], HARBOUR, [*COUNT, "detect_objects"], "no dogs and no buses on sample:harbour. The detector does not know 'unicorn'."),
    (["thanks!"], HARBOUR, [], "You are welcome"),
    (["Hello!"], None, [], "I can call these tools"),
    (["What can you do?"], None, [], "`capture_frame`"),
    (["Please write me a sonnet about the sea."], None, [], "can't tell"),
]


@pytest.mark.parametrize("turns, system, wanted, text", REQUESTS, ids=[r[0][-1][:50] for r in REQUESTS])
def test_session_requests(turns, system, wanted, text, session_tools):
    names, arguments, answer = talk(turns, session_tools, system)
    assert names == wanted
    assert text in answer + json.dumps(arguments)
    assert answer.endswith(SIGNED)


MOMENTS = "Capture sample:harbour?t=60 and sample:harbour?t=140, and plot the cars"
WATCHED = [  # (turns, system message, the camera that the watch looks through)
    ([MOMENTS], HARBOUR, "sample:harbour"),
    ([MOMENTS, "How many cars on sample:market?"], HARBOUR, "sample:market"),
    (["How many cars on sample:market?", MOMENTS], HARBOUR, "sample:market"),
    (["How many cars on sample:market?", "Thanks"], None, "sample:market"),
    ([MOMENTS], None, "sample:harbour?t=140"),
    (["Any boats?"], BOTH, "sample:harbour sample:market"),
]

@pytest.mark.parametrize("turns, system, cameras", WATCHED)
def test_the_camera_of_a_watch(turns, system, cameras, session_tools):
    "A watch that names no camera takes the one that was named last, and its look sees that one only."
    _, [arguments], _ = talk([*turns, "Notify me when there are more than 3 cars"], session_tools, system)
    calls = []
    complete(arguments["messages"] + form_msgs([("system", f"Notification stream started with ID {STREAM}.")]), [sender([]), *session_tools], client=OfflineModel(),
        on_event=lambda e: calls.append(e) if isinstance(e, ToolStarted) else None)
    assert [c.arguments["camera"] for c in calls if c.name == "capture_frame"] == cameras.split()

def test_the_number_of_a_watch_is_about_what_was_asked_before(session_tools):
    _, [arguments], _ = talk(["How many boats are on sample:harbour?", "Tell me when there are more than 3"], session_tools)
    sent = []
    complete(arguments["messages"] + form_msgs([("system", f"Notification stream started with ID {STREAM}.")]), [sender(sent), *session_tools], client=OfflineModel())
    assert sent == []  # one boat, though ten things

RULES = [  # (request, the rules that are watched for)
    ("tell me when there are more than 5 cars", [{"object": "car", "condition": "more than", "number": 5}]),
    ("Notify me if at least two boats show up", [{"object": "boat", "condition": "at least", "number": 2}]),
    ("Tell me when a boat appears", [{"object": "boat", "condition": "appears"}]),
    ("Tell me when a boat leaves", [{"object": "boat", "condition": "disappears"}]),
    ("Tell me when a boat appears or leaves", [{"object": "boat", "condition": "appears"}, {"object": "boat", "condition": "disappears"}]),
    ("Tell me when there are no people", [{"object": "person", "condition": "at most", "number": 0}]),
    ("Alert me when fewer than three bikes are there", [{"object": "bicycle", "condition": "fewer than", "number": 3}]),
    ("Tell me when there are more than 5 cars or a bus appears", [{"object": "car", "condition": "more than", "number": 5}, {"object": "bus", "condition": "appears"}]),
    ("Tell me when there are more than 5 cars or buses", [{"object": "car", "condition": "more than", "number": 5}, {"object": "bus", "condition": "more than", "number": 5}]),
    ("Let me know once a dog shows up, look every 2 minutes", [{"object": "dog", "condition": "appears", "every": 120.0}]),
    ("Tell me when the number of cars changes", [{"object": "car", "condition": "changes"}]),
    ("Tell me when somebody crosses the horizontal line", [{"object": "person", "condition": "crosses", "line": "horizontal"}]),
    ("Tell me once when there are more than 3 cars in the left half", [{"object": "car", "condition": "more than", "number": 3, "max_notifications": 1, "zone": "left half"}]),
]

@pytest.mark.parametrize("request_text, rules", RULES, ids=[text for text, _ in RULES])
def test_a_request_becomes_the_rule_of_a_watch(request_text, rules, all_tools):
    names, arguments, _ = talk([request_text], all_tools, HARBOUR)
    assert names == ["start_watch"] * len(rules) and arguments == [{"camera": "sample:harbour", **rule} for rule in rules]
    start = next(tool for tool in all_tools if tool.name == "start_watch")
    for call in arguments: Draft202012Validator(start["function"]["parameters"]).validate(call)

def test_two_things_that_must_hold_together_are_not_understood(all_tools):
    names, _, answer = talk(["Tell me when there are more than 5 cars and 2 boats"], all_tools, HARBOUR)
    assert names == [] and "don't understand two" in answer
    assert talk(["Tell me when there are more than 5 cars and when a boat appears"], all_tools, HARBOUR)[0] == ["start_watch"] * 2
    assert talk(["Tell me when there are exactly 3 cars"], all_tools, HARBOUR)[0] == ["start_notification_stream"]  # no rule says so, a conversation does

@pytest.mark.parametrize("request_text, name", [("Stop the watch", "stop_watch"), ("Stop watching, please", "stop_watch"), ("Pause the watch", "pause_watch"),
    ("Resume the watch", "resume_watch"), ("Stop all watches", "stop_watch")])
def test_watches_are_managed(request_text, name, all_tools):
    assert talk(["Tell me when there are more than 5 cars", request_text], all_tools, HARBOUR)[:2] == ([name], [{"id": WATCH}])

@pytest.mark.parametrize("request_text", ["Stop the watch", "Stop watching.", "Stop the watch."])
def test_with_no_watch_running_there_is_none_to_stop(request_text, all_tools):
    called, _, answer = talk([request_text], all_tools)
    assert not called and "No watch" in answer and "noti_id" not in answer

def test_until_i_say_stop_is_no_stop(all_tools):
    assert talk(["Watch sample:harbour for boats until I say stop"], all_tools)[0] == ["start_watch"]

@pytest.mark.parametrize("condition", ["there are more than 3 cars in the parking zone of sample:harbour", "the parking lot of sample:harbour is full",
    "a boat is near the pier on sample:harbour"])
def test_a_condition_that_is_not_understood_starts_no_watch(condition, all_tools):
    called, _, answer = talk([f"Tell me when {condition}"], all_tools)
    assert not called and "I don't understand" in answer

def test_a_camera_may_be_called_as_a_place_is(all_tools):
    assert talk(["Tell me when there are more than 3 boats at the pier"], all_tools, "The camera is rtsp:pier.")[0] == ["start_watch"]

def test_watches_are_listed_and_streams_are_still_stopped(all_tools):
    for asked in ("Which watches are running?", "Which watches run?", "What are you watching?", "Which alerts are on?"):
        assert talk([asked], all_tools)[0] == ["list_watches"]
    assert talk(["Tell me when there are exactly 3 cars", "Stop the watch"], all_tools, HARBOUR)[0] == ["stop_notification"]
    assert "still need `camera`" not in (answer := talk(["Tell me when there are more than 5 cars"], all_tools)[2]) and "Which camera" in answer

def count_boats() -> int:
    "Count the boats in the harbour."
    return 3

@pytest.mark.parametrize("request_text", ["Tell me when more than 2 boats are in the harbour", "Notify me when count_boats is more than 2", "When there are more than 2 boats, tell me",
    "Text me when there are more than 2 boats", "If more than 2 boats are in, notify me", "I want to be told once there are more than 2 boats"])
def test_a_watch_is_started_though_a_tool_could_count_now(request_text, session_tools):
    assert talk([request_text], [function_schema(count_boats), *session_tools], HARBOUR)[0] == ["start_notification_stream"]
    assert talk(["How many boats are in the harbour?"], [function_schema(count_boats)])[2].startswith("I count 3 boats.")

def test_a_plot_is_made_with_few_tools(session_tools):
    few = [t for t in session_tools if t.name in ("capture_frame", "detect_objects", "plot_object")]
    names, [arguments], _ = talk(["Plot the number of cars in a.jpg, b.jpg"], few)
    assert names == ["plot_object"] and arguments == {"images": ["a.jpg", "b.jpg"], "object": "car", "methods": ["yolo"]}


TOLD = [  # (result of a tool called fetch_it, how it is told)
    ({"car": 2, "person": 1, "boat": 0}, "I see 2 cars and 1 person."),
    ({"name": "Rex", "for_sale": True}, "Name: Rex, for sale: yes."),
    ({"path": "data/b.png"}, "The picture is in data/b.png."),
    ("data/report.csv", "The file is data/report.csv."),
    ("https://x.example/a", "The link is https://x.example/a."),
    ("a.jpg\nb.jpg", "fetch_it gave 2 pictures:\n- a.jpg\n- b.jpg"),
    (["ok", "late"], "fetch_it gave 2 results:\n- ok\n- late"),
    ("It rains in Turku", "It rains in Turku."),
    ("done", "fetch_it says: done."),
    (42, "The result of fetch_it is 42."),
    ([], "fetch_it found nothing."),
]

@pytest.mark.parametrize("result, told", TOLD, ids=[t[1] for t in TOLD])
def test_how_results_are_told(result, told):
    def fetch_it(): return result
    tool = Tool({"type": "function", "function": {"name": "fetch_it", "description": "Fetch it."}}, func=fetch_it)
    assert talk(["fetch it"], [tool])[2] == f"{told} {SIGNED}"


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> str:
    "Get the current weather in a city."
    return f"18 degrees {unit} in {city}"

def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

def power(base: float, exponent: int = 2) -> float:
    "Raise a number to a power."
    return base ** exponent

def multiply(a: float, b: float) -> float:
    "Multiply two numbers."
    return a * b

def total(numbers: list[float]) -> float:
    "Sum up a list of numbers."
    return sum(numbers)

def translate(text: str, language: str) -> str:
    "Translate a text to another language."
    return f"{text} in {language}"

def send_email(to: str, subject: str, body: str = "") -> str:
    "Send an e-mail."
    return "sent"

def book_table(restaurant: str, people: int, day: date, outdoors: bool = False) -> str:
    "Book a table at a restaurant."
    return "booked"

def set_light(room: Literal["kitchen", "hall"], on: bool) -> str:
    "Switch the light of a room on or off."
    return "done"

def now() -> str:
    "Tell the current time."
    return "12:00"


def operation(name, about, **groups):
    "A tool such as an OpenAPI document gives, with its arguments in groups."
    properties = {group: {"type": "object", "properties": fields, "required": list(fields)[:1]} for group, fields in groups.items()}
    tool = {"name": name, "description": about, "parameters": {"type": "object", "properties": properties, "required": list(groups)}}
    return Tool({"type": "function", "function": tool}, func=lambda **kwargs: "done")


PETS = [
    operation("findPetsByStatus", "Finds Pets by status.", query={"status": {"type": "string", "enum": ["available", "pending", "sold"]}}),
    operation("getPetById", "Find pet by ID.", path={"petId": {"type": "integer", "description": "ID of pet to return"}}),
    operation("getStation", "A station of the road.", path={"id": {"type": "string"}}),
    operation("createUser", "Create a user."),
    operation("addPet", "Add a new pet to the store.", body={"name": {"type": "string"}, "photoUrls": {"type": "array", "items": {"type": "string"}}}),
]
OWN = [*map(function_schema, (get_weather, add, power, multiply, total, translate, send_email, book_table, set_light, now)), *PETS]
OWN_REQUESTS = [
    ("What's the weather in Paris?", [{"city": "Paris"}]),
    ("weather in oslo in fahrenheit please", [{"city": "oslo", "unit": "fahrenheit"}]),
    ("Weather for New York, Rome and Berlin", [{"city": "New York"}, {"city": "Rome"}, {"city": "Berlin"}]),
    ("What's the weather?", []),
    ("Add 2 and 2", [{"a": 2, "b": 2}]),
    ("What is 3 plus 4?", [{"a": 3, "b": 4}]),
    ("add(a=5, b=6)", [{"a": 5, "b": 6}]),
    ("Add seven", []),
    ("Raise 2 to the power 5", [{"base": 2, "exponent": 5}]),
    ("Raise 3 to a power", [{"base": 3}]),
    ("Add 2 and 3, then multiply the result by 4", [{"a": 2, "b": 3}, {"a": 5, "b": 4}]),
    ("Sum up 1, 2 and 3.5", [{"numbers": [1, 2, 3.5]}]),
    ("Translate 'good morning' to Finnish", [{"text": "good morning", "language": "Finnish"}]),
    ("Send an email to bob@example.com with subject 'Hi' and body 'See you'", [{"to": "bob@example.com", "subject": "Hi", "body": "See you"}]),
    ("Book a table for 4 people at Savoy on 2026-12-24 outdoors", [{"restaurant": "Savoy", "people": 4, "day": "2026-12-24", "outdoors": True}]),
    ("Turn off the light in the hall", [{"room": "hall", "on": False}]),
    ("What time is it now?", [{}]),
    ("Find pets with status sold", [{"query": {"status": "sold"}}]),
    ("Get pet 7", [{"path": {"petId": 7}}]),
    ("Get the station C01503", [{"path": {"id": "C01503"}}]),
    ("Create a charge of 5 euros", []),
    ("Add a new pet named Rex with photo https://x.example/r.jpg", [{"body": {"name": "Rex", "photoUrls": ["https://x.example/r.jpg"]}}]),
]


@pytest.mark.parametrize("request_text, wanted", OWN_REQUESTS, ids=[r[0] for r in OWN_REQUESTS])
def test_your_own_functions(request_text, wanted):
    assert talk([request_text], OWN)[1] == wanted


def send_notification(msg: str) -> str:
    "Send a notification with a message to the user."

WATCHES = [  # (request, notified, stopped)
    ("Watch sample:harbour and tell me when there are more than 3 cars, then stop.", True, True),
    ("Tell me when there are more than 7 cars on sample:harbour", False, False),
    ("Notify me once when there are at least 2 boats at sample:harbour", False, False),
    ("Notify me once when there is at least one boat at sample:harbour", True, True),
    ("Tell me when there are no people on sample:market", True, False),
    ("Tell me as soon as nobody is at the harbour", False, False),
    ("Let me know if a dog appears on sample:harbour", False, False),
    ("Let me know if a boat appears on sample:harbour", True, False),
    ("Tell me how many cars there are on sample:harbour every minute", True, False),
    ("Alert me when fewer than ten vehicles are at the harbour", True, False),
    ("Message me whenever the number of cars on the harbour exceeds 6", True, False),
    ("Tell me when the harbour has 8 or more cars", False, False),
    ("Let me know once the harbour is empty", False, False),
    ("Watch the harbour and warn me if something odd happens", False, False),
    ("Tell me when there are no zebras on sample:harbour", True, True),
    ("Let me know if a unicorn shows up", True, True),
    ("Tell me when there are more than 2 unicorns or more than 3 cars", True, False),
    ("Tell me when there are more than 2 dogs", False, False),
]

def sender(sent): return Tool(public_tool(function_schema(send_notification)), func=lambda msg: sent.append(msg) or "Notification sent")

def look(request, session_tools, said=""):
    "One look of a watch: what was called and what was sent."
    sent, calls = [], []
    tools = [t for t in session_tools if t.name != "start_notification_stream"] + [sender(sent)]
    msgs = form_msgs([("system", HARBOUR), ("user", request), ("system", f"Notification stream started with ID {STREAM}. Complete the stream here."), ("system", f"You have already notified: {said}")])
    complete(msgs, tools, client=OfflineModel(), on_event=lambda e: calls.append(e) if isinstance(e, ToolStarted) else None)
    return calls, sent

@pytest.mark.parametrize("request_text, notified, stopped", WATCHES, ids=[w[0] for w in WATCHES])
def test_one_look(request_text, notified, stopped, session_tools):
    calls, sent = look(request_text, session_tools)
    assert [c.name for c in calls][:2] == COUNT
    assert bool(sent) == notified
    assert [c.arguments for c in calls if c.name == "stop_notification"] == ([{"noti_id": STREAM}] if stopped else [])

def test_what_was_said_is_not_said_again(session_tools):
    request = "Tell me when there are more than 3 cars on sample:harbour"
    _, sent = look(request, session_tools)
    assert sent == ["I count 7 cars on sample:harbour. You asked for more than 3 cars."]
    assert look(request, session_tools, said=sent[0])[1] == []


def test_a_watch_that_cannot_look_says_so_once(session_tools):
    def broken(camera): raise OSError("camera is dark")
    tools = [Tool(t, func=broken) if t.name == "capture_frame" else t for t in session_tools]
    calls, sent = look("Tell me when there are more than 3 cars", tools)
    assert [c.name for c in calls] == ["capture_frame", "send_notification"] and "camera is dark" in sent[0]
    assert look("Tell me when there are more than 3 cars", tools, said=sent[0])[1] == []

def test_failures_are_told_and_no_number_is_made_up(session_tools):
    def broken(camera): raise RuntimeError("camera is dark")
    tools = [Tool(t, func=broken) if t.name == "capture_frame" else t for t in session_tools]
    names, _, answer = talk(["How many cars are on sample:harbour?"], tools)
    assert names == ["capture_frame"] and "camera is dark" in answer
    assert not any(c.isdigit() for c in answer)

def test_same_question_same_answer(session_tools):
    ask = lambda: OfflineModel().chat.completions.create(messages=[form_msg("user", "How many cars are on sample:harbour and sample:market?")], tools=[public_tool(t) for t in session_tools])
    first, second = ask(), ask()
    assert first == second
    assert len({c.id for c in first.choices[0].message.tool_calls}) == 2

def test_it_runs_without_tools():
    assert "none" in complete([form_msg("user", "Count the cars on sample:harbour")], client=OfflineModel())[1]
    assert complete([form_msg("user", "")], client=OfflineModel())[1].endswith(SIGNED)


ODD_SCHEMAS = [None, {}, True, {"type": "object"}, {"type": ["string", "null"]}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}, {"enum": [1, None, "a"]}, {"const": 3},
    {"$ref": "#/$defs/Node"}, {"type": "array", "items": {"$ref": "#/$defs/Node"}}, {"type": "array"}, {"type": "array", "items": True}, {"type": "boolean"}, {"oneOf": []},
    {"type": "object", "properties": {"camera": {"type": "string"}}, "required": ["camera"]}, {"type": "string", "description": "A date"}]
ODD_WORDS = "capture detect count plot cars 7 three 'a, b' sample:harbour /a/b.jpg http://x/y and then . ? ! more than watch tell me when stop it them these ü \ud800 ⟦0⟧ ⟦9⟧ ( [ \\ camera frames list all no".split(" ")
NAMES = "images camera id noti_id messages object path url city n a on methods question command msg x".split()

def test_nothing_makes_it_fall_over():
    "Random requests, schemas and histories: an answer or valid calls, never an exception."
    rng = random.Random(3)
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "name": {"type": "string"}}, "required": ["next", "name"]}
    for _ in range(400):
        tools = []
        for name in rng.sample(["capture_frame", "detect_objects", "plotThings", "listImages", "stop_notification", "send_notification", "_", "a-b", "start"], 4):
            fields = {n: rng.choice(ODD_SCHEMAS) for n in rng.sample(NAMES, 3)}
            parameters = rng.choice([None, {}, {"type": "object", "properties": fields, "required": rng.sample(NAMES, 2) + list(fields)[:1], "$defs": {"Node": node}}])
            tools.append({"type": "function", "function": {"name": name, "description": rng.choice([None, "", "Count all cars. Or more."]), "parameters": parameters}})
        history = [form_msg("system", "Notification stream started with ID abc.")] * rng.randint(0, 1) + [form_msg("user", " ".join(rng.choices(ODD_WORDS, k=rng.randint(0, 12))))]
        for turn in range(3):
            reply = OfflineModel().chat.completions.create(messages=history, tools=tools).choices[0].message
            assert bool(reply.content) != bool(reply.tool_calls)
            history.append(reply.model_dump(exclude_unset=True))
            results = [None, 5, "x.jpg", {"car": 2}, {"car": "two"}, {"error": "no"}, ["a.jpg"], {"path": "p.png"}, "", "1e999", [[]]]
            history += [form_msg("tool", json.dumps(rng.choice(results)), c.id) for c in reply.tool_calls or []]
            if not reply.tool_calls: break


def picture_message(text):
    url = "data:image/jpeg;base64," + base64.b64encode(b"picture").decode()
    return form_msg("user", [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}])

def test_eyes():
    seen = []
    eyes = lambda picture: seen.append(picture) or {"car": 2, "person": 1, "time_of_day": "day"}
    ask = lambda text, **kwargs: complete([picture_message(text)], client=OfflineModel(**kwargs))[1]
    assert "can't see" in ask("How many cars?")
    assert ask("What do you see?", eyes=lambda picture: {}).startswith("I see no objects.")
    assert ask("How many cars?", eyes=eyes).startswith("I count 2 cars.") and seen == [b"picture"]
    assert ask("What do you see?", eyes=eyes).startswith("I see 2 cars and 1 person. Day.")
    assert json.loads(ask("Answer with one JSON object.", eyes=eyes)) == {"car": 2, "person": 1, "time_of_day": "day"}


# The server

def chat_completion(server, body):
    "Post `body`; status and JSON."
    request = urllib.request.Request(f"{server.base_url}/chat/completions", json.dumps(body).encode() if not isinstance(body, bytes) else body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply: return reply.status, json.load(reply)
    except urllib.error.HTTPError as e: return e.code, json.load(e)

@pytest.fixture(scope="module")
def server():
    with OfflineServer() as server: yield server

@pytest.fixture(scope="module")
def client(server):
    from openai import OpenAI
    with OpenAI(base_url=server.base_url, api_key="x", max_retries=0) as client: yield client

def test_the_real_client_through_the_real_loop(client, session_tools):
    msgs, calls = [form_msg("user", "Capture sample:harbour and sample:market, then plot the boats")], []
    complete(msgs, session_tools, client=client, model="offline", on_event=lambda e: calls.append(e.name) if isinstance(e, ToolStarted) else None)
    assert calls == ["capture_frame", "capture_frame", "plot_object"] and "plot_boat_2.png" in msgs[-1]["content"]

def test_streaming_through_the_real_client(client):
    events = list(stream([form_msg("user", "Add 2 and 40")], OWN, client=client, model="offline"))
    assert isinstance(events[-1], Final) and "42" in events[-1].content
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == events[-1].content

def test_the_asynchronous_client(server):
    import asyncio
    from openai import AsyncOpenAI
    from llmcam.core.fc import acomplete
    async def ask():
        async with AsyncOpenAI(base_url=server.base_url, api_key="x") as client:
            return await acomplete([form_msg("user", "Add 2 and 40")], OWN, client=client, model="offline")
    assert "42" in asyncio.run(ask())[1]

def test_models_and_unknown_paths(client, server):
    assert [m.id for m in client.models.list()] == ["offline"]
    with pytest.raises(urllib.error.HTTPError, match="404"): urllib.request.urlopen(f"{server.base_url}/nothing", timeout=10)

def test_a_model_that_breaks_gives_500():
    with OfflineServer(ScriptedModel(RuntimeError("out of order"))) as server:
        assert chat_completion(server, dict(model="m", messages=[form_msg("user", "hi")]))[0] == 500


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
USER = form_msg("user", "hi")
def called(*calls): return {"role": "assistant", "content": None, "tool_calls": list(calls)}
def tool(**function): return {"type": "function", "function": {"name": "add", **function}}
def answer(id): return form_msg("tool", "5", id)

REFUSED = [  # (what, messages, more of the body, text of the error)
    ("metadata in a function", [USER], {"tools": [tool(metadata={})]}, "Unknown parameter: 'tools[0].function.metadata'"),
    ("fixup in a function", [USER], {"tools": [tool(fixup="a.b")]}, "Unknown parameter"),
    ("unknown field of a tool", [USER], {"tools": [{**tool(), "service": "x"}]}, "Unknown parameter: 'tools[0].service'"),
    ("129 tools", [USER], {"tools": [tool(name=f"t{i}") for i in range(129)]}, "maximum length 128"),
    ("no tools at all", [USER], {"tools": []}, "empty array"),
    ("dots in a name", [USER], {"tools": [tool(name="a.b")]}, "does not match pattern"),
    ("a long name", [USER], {"tools": [tool(name="a" * 65)]}, "maximum length 64"),
    ("no name", [USER], {"tools": [{"type": "function", "function": {}}]}, "Missing required parameter: 'tools[0].function.name'"),
    ("one name twice", [USER], {"tools": [tool(), tool()]}, "2 functions are named"),
    ("a long description", [USER], {"tools": [tool(description="a" * 1025)]}, "maximum length 1024"),
    ("a schema that is none", [USER], {"tools": [tool(parameters={"type": "object", "properties": {"a": {"type": "int"}}})]}, "Invalid schema for function 'add'"),
    ("a schema of a list", [USER], {"tools": [tool(parameters={"type": "array"})]}, "Invalid schema"),
    ("an array without items", [USER], {"tools": [tool(parameters={"type": "object", "properties": {"a": {"type": "array"}}})]}, "array schema missing items"),
    ("an unknown role", [form_msg("robot", "hi")], {}, "'robot' is none of"),
    ("no content", [{"role": "user"}], {}, "content"),
    ("an unknown field of a message", [{**USER, "time": 1}], {}, "Unknown parameter: 'messages[0].time'"),
    ("no messages", [], {}, "empty array"),
    ("a call left open", [USER, called(CALL)], {}, "did not have response messages: c1"),
    ("a call left open before the next message", [USER, called(CALL), USER], {}, "did not have response messages: c1"),
    ("an answer to no call", [USER, answer("c1")], {}, "must be a response"),
    ("an answer to another call", [USER, called(CALL), answer("c2")], {}, "not found"),
    ("two answers", [USER, called(CALL), answer("c1"), answer("c1")], {}, "answered twice"),
    ("one id twice", [USER, called(CALL, CALL), answer("c1")], {}, "duplicate id"),
    ("a bad name in a call", [USER, called({**CALL, "function": {"name": "a b", "arguments": ""}}), answer("c1")], {}, "does not match pattern"),
    ("no calls in tool_calls", [USER, {"role": "assistant", "content": "x", "tool_calls": []}], {}, "empty array"),
    ("an unknown argument", [USER], {"temprature": 1}, "Unknown parameter: 'temprature'"),
    ("tool_choice without tools", [USER], {"tool_choice": "auto"}, "only allowed when 'tools'"),
    ("a choice of no tool", [USER], {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "subtract"}}}, "'subtract' not found"),
    ("a choice without a name", [USER], {"tools": [tool()], "tool_choice": {"type": "function", "function": {}}}, "tool_choice"),
    ("an unknown choice", [USER], {"tools": [tool()], "tool_choice": "any"}, "tool_choice"),
    ("too hot", [USER], {"temperature": 5}, "5 is not between 0 and 2"), ("a temperature in words", [USER], {"temperature": "0.5"}, "'temperature'"),
    ("no answers", [USER], {"n": 0}, "not between 1 and 128"), ("five stops", [USER], {"stop": list("abcde")}, "maximum length 4"),
    ("an effort that is none", [USER], {"reasoning_effort": "huge"}, "'reasoning_effort'"), ("a bias too far", [USER], {"logit_bias": {"1": 101}}, "101"),
    ("stream options without a stream", [USER], {"stream_options": {"include_usage": True}}, "only allowed when 'stream'"),
    ("log probabilities of nothing", [USER], {"top_logprobs": 2}, "only allowed when 'logprobs'"),
    ("no model", [USER], {"model": ""}, "model"), ("a model of another type", [USER], {"model": 3}, "'model'"), ("messages in a text", "hi", {}, "messages"),
    ("a picture in a tool message", [USER, called(CALL), {**answer("c1"), "content": [{"type": "image_url", "image_url": {"url": "https://x/a.jpg"}}]}], {}, "'image_url' is none of text"),
    ("a picture of no shape", [{"role": "user", "content": [{"type": "image_url", "image_url": "https://x/a.jpg"}]}], {}, "messages[0].content"),
    ("a detail that is none", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/a.jpg", "detail": "huge"}}]}], {}, "detail"),
    ("a name with a blank", [{**USER, "name": 3}], {}, "messages[0].name"),
    ("parameters that are no object", [USER], {"tools": [tool(parameters=[])]}, "schema must be an object"),
    ("a strict tool that is open", [USER], {"tools": [tool(strict=True, parameters={"type": "object", "properties": {}})]}, "'additionalProperties' is required"),
    ("JSON that nobody mentions", [USER], {"response_format": {"type": "json_object"}}, "must contain the word 'json'"),
    ("a format without a name", [USER], {"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
]

@pytest.mark.parametrize("what, messages, more, text", REFUSED, ids=[r[0] for r in REFUSED])
def test_refused_as_openai_does(what, messages, more, text, server):
    with pytest.raises(RequestError) as refusal: check_request({"model": "m", "messages": messages, **more})
    assert text in str(refusal.value)
    status, body = chat_completion(server, {"model": "m", "messages": messages, **more})
    assert status == 400 and body["error"]["type"] == "invalid_request_error" and text in body["error"]["message"]

def test_accepted_as_openai_does(server):
    "The weak variant of each refusal: the same shapes, without the fault."
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    messages = [form_msg("developer", "Be brief."), USER, called(CALL, {**CALL, "id": "c2"}), answer("c2"), answer("c1"), form_msg("assistant", "5"), picture_message("and this?")]
    body = dict(model="m", messages=messages, tools=[tool(name=f"t{i}", description="a" * 1024, parameters=schema) for i in range(128)], tool_choice="auto", temperature=0)
    check_request(body)
    assert chat_completion(server, body)[0] == 200
    assert chat_completion(server, b"{")[0] == 400

def test_strict_tools_of_ours_are_accepted(server):
    def look(image: str, zone: Literal["left", "right"] | None = None, conf: float = 0.25): "Look."
    body = dict(model="m", messages=[USER], tools=[public_tool(function_schema(look, strict=True))], tool_choice={"type": "function", "function": {"name": "look"}})
    assert chat_completion(server, body)[0] == 200

@pytest.mark.parametrize("body", [None, 3, [], "x", {}, {"model": "m"}, {"messages": [USER]}, {"model": "m", "messages": [None]}, {"model": "m", "messages": [{"role": ["user"]}]},
    {"model": "m", "messages": [USER], "tools": [None]}, {"model": "m", "messages": [USER], "tools": {}}, {"model": "m", "messages": [USER], "tool_choice": 3, "tools": [tool()]}], ids=str)
def test_no_body_is_too_odd_to_be_refused(body):
    with pytest.raises(RequestError): check_request(body)


# Usage and faults

def test_usage_grows_with_what_is_sent(client):
    ask = lambda text: client.chat.completions.create(model="m", messages=[form_msg("user", text)]).usage
    short, long = ask("hi"), ask("hi " * 1000)
    assert 0 < short.prompt_tokens < long.prompt_tokens and long.total_tokens == long.prompt_tokens + long.completion_tokens
    chunks = list(client.chat.completions.create(model="m", messages=[USER], stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.total_tokens > 0 and not chunks[-1].choices and not any(c.usage for c in chunks[:-1])

def asking(faults, **options):
    "Ask a server with these faults once; the answer, and how many requests came."
    from openai import OpenAI
    with OfflineServer(ScriptedModel(*["One, two, three."] * 3), faults=faults) as server, OpenAI(base_url=server.base_url, api_key="x", **options) as client:
        return client.chat.completions.create(model="m", messages=[USER]).choices[0].message.content, len(server.requests)

@pytest.mark.parametrize("fault", [Fault(429, retry_after=0.01), Fault(500, retry_after=0.01), Fault(503, retry_after=0.01), Fault(cut=0), Fault(cut=30)], ids=str)
def test_a_fault_is_one_answer(fault):
    "The client tries again and gets its answer; without another try the fault is felt."
    from openai import APIError
    assert asking([fault]) == ("One, two, three.", 2) and asking([None, fault]) == ("One, two, three.", 1)
    with pytest.raises(APIError): asking([fault], max_retries=0)

def test_slow_and_garbled_answers():
    from openai import APITimeoutError
    started = time.monotonic()
    with pytest.raises(APITimeoutError): asking([Fault(seconds=30)], max_retries=0, timeout=0.2)
    assert time.monotonic() - started < 10  # the server does not wait for its own fault to end
    with pytest.raises(Exception): asking([Fault(body=b"<h1>Bad gateway</h1>")], max_retries=0)

def test_a_stream_that_is_cut():
    from openai import APIConnectionError, OpenAI
    with OfflineServer(ScriptedModel("One, two, three."), faults=[Fault(cut=500)]) as server, OpenAI(base_url=server.base_url, api_key="x", max_retries=0) as client:
        seen = []
        with pytest.raises(APIConnectionError):
            for chunk in client.chat.completions.create(model="m", messages=[USER], stream=True): seen.append(chunk)
        assert seen and seen[-1].choices[0].finish_reason is None


def pictures(folder, n):
    folder.mkdir(parents=True)
    for i in range(n): (folder / f"p{i:03}.jpg").touch()
    (folder / "notes.txt").touch(); (folder / "detection_p000.jpg").touch()

def asked(text, function, earlier="sample:harbour", **options):
    "The arguments of the calls that a request makes, and the answer."
    seen = []
    def run(**arguments):
        seen.append(arguments)
        given = arguments.get("image_path")
        return json.dumps({p: {"car": 2} for p in given} if isinstance(given, list) else {"path": "data/plot_car.png"} if "images" in arguments else {"car": 2})
    tool = Tool(copy.deepcopy(public_tool(function_schema(function))), func=run)
    msgs = form_msgs([("user", f"How many cars are on {earlier}?"), ("assistant", "I count 7 cars."), ("user", text)])
    complete(msgs, [tool], client=OfflineModel(**options))
    return seen, msgs[-1]["content"]

@pytest.mark.parametrize("where", ["gate", "gate/", "the folder gate", "'gate'", "gate/*.jpg", "cams/gate", "'my gate'"])
def test_a_folder_means_all_of_its_pictures(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("gate", "cams/gate", "my gate"): pictures(tmp_path / name, 6)
    (call,), answer = asked(f"How many cars are in the pictures in {where}?", detect_objects)
    folder = where.removeprefix("the folder ").strip("'").removesuffix("*.jpg").rstrip("/")
    assert call["image_path"] == [f"{folder}/p00{i}.jpg" for i in range(6)] and "In all 12 cars." in answer
    (call,), answer = asked(f"plot the cars in {where}", plot_object)
    assert len(call["images"]) == 6

@pytest.mark.parametrize("camera", ["/x/frames 100%", "~/my frames", "file:/x/my frames 100%"])
def test_a_camera_with_a_space_in_its_name(camera):
    (call,), _ = asked("Capture an image and tell me what you see.", capture_frame, f'"{camera}"')
    assert call["camera"] == camera
    (call,), _ = asked('Run "/bin/echo hello"', execute_bash_command)
    assert call["command"] == "/bin/echo hello"

def test_no_more_than_sixty_pictures_of_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "gate", 70)
    (call,), answer = asked("How many cars are in the pictures in gate/?", detect_objects)
    assert len(call["image_path"]) == 60 and "In all 120 cars." in answer and "first 60 of 70" in answer

@pytest.mark.parametrize("text", ["How many cars are in 'nowhere/here'?", "How many cars are in nowhere/?", "How many cars are in nowhere/*.jpg?", "How many cars are in b/c.jpg?"])
def test_what_is_named_is_never_an_earlier_camera(text, all_tools):
    msgs = form_msgs([("user", "How many cars are on sample:harbour?"), ("assistant", "I count 7 cars."), ("user", text)])
    complete(msgs, all_tools, client=OfflineModel())
    assert not any("harbour" in call["function"]["arguments"] for m in msgs for call in m.get("tool_calls") or [])

def test_folders_elsewhere_are_not_looked_into(tmp_path, monkeypatch):
    pictures(tmp_path / "gate", 6)
    (tmp_path / "here").mkdir(); monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "gate")
    for where in (f"{tmp_path}/gate/", "../gate/", "link/"):
        calls, answer = asked(f"How many cars are in the pictures in {where}?", detect_objects)
        assert "p000" not in str(calls) + answer
    monkeypatch.chdir(tmp_path)
    assert "p000" not in str(asked("How many cars are in the pictures in gate/?", detect_objects, folders=False))

def test_free_is_no_thing():
    def count_free(place: str) -> int:
        "Count the places that are free."
        return 17
    msgs = form_msgs([("user", "How many free places are at Porvoo?")])
    complete(msgs, [function_schema(count_free)], client=OfflineModel())
    assert "frees" not in msgs[-1]["content"] and "17" in msgs[-1]["content"]

def test_a_place_is_passed_on():
    def high_water(place: str) -> str:
        "Tell when the water is high at a place."
        return f"High water at {place}: 14:20"
    msgs = form_msgs([("user", "When is the water high at Porvoo?")])
    complete(msgs, [function_schema(high_water)], client=OfflineModel())
    assert "High water at Porvoo: 14:20" in msgs[-1]["content"]

def test_results_with_parts_are_told_in_words():
    def compare_detectors(images: list[str]) -> dict:
        "Show pictures, and where detector and model disagree."
        return {"path": "data/plot_1.png", "disagreements": {"data/a.jpg": {"boat": [2, None]}}}
    msgs = [form_msg("user", "Compare the detectors on data/a.jpg.")]
    said = complete(msgs, [function_schema(compare_detectors)], client=OfflineModel())[1]
    assert said.startswith("The picture is in data/plot_1.png. Disagreements: data/a.jpg: boat: 2 and nothing.") and "{" not in said

@pytest.mark.parametrize("word", ["child", "children", "Kids", "boys"])
def test_children_are_people(word): assert classes_of(word) == ("person",)
