"Road cameras against an API of DigiTraffic's shape."
import json, time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from camera_servers import STATIONS, Quiet, closed_port, digitraffic_server, http_server, silent_server
from servers import LocalServer
from llmcam.core.policy import PolicyError, ToolPolicy, data_dir, gate
from llmcam.vision import dtcam
from llmcam.vision.camera import AnswerError, Camera, CameraError, Frame, ResolvingError
from llmcam.vision.dtcam import address_book, camera_address_book, cap, capture, find_preset, presets, stations


@pytest.fixture
def service(monkeypatch):
    with digitraffic_server() as (url, state):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        yield url, state


def test_stations_presets_capture(service):
    found = stations("Porvoo")
    assert [s["id"] for s in found] == ["C01520"] and len(presets(found[0])) == len(presets("C01520")) == 3
    view = presets("C01520")[0]
    assert (view["name"], view["place"], view["municipality"], view["province"]) == ("Loviisaan", "Tie 7 Porvoo, Harabacka", "Porvoo", "Uusimaa")
    for preset in (view, view["id"], dict(view)): assert Path(capture(preset)).exists()
    frame = Frame.load(cap())
    assert (frame.source, frame.place) == ("digitraffic:C0152001", "Tie 7 Porvoo, Harabacka Loviisaan")
    assert service[1]["without_header"] == 0


@pytest.mark.parametrize("key, id", [("porvoo", "C0152001"), ("JYVASKYLA", "C0950101"), ("Jyväskylä", "C0950101"), ("Aijalansalmi", "C0950101"), ("tie 7", "C0152001"), ("vt 4 Inari", "C1456001"),
                                     ("Utsjoelle", "C1456002"), ("Keski-Suomi", "C0950101"), ("C0152003", "C0152003"), ("c01502", "C0150201"), ("Porvo", "C0152001"), ("Inari Utsjoelle", "C1456002"),
                                     ("valtatie 7", "C0152001"), ("Helsinkiin", "C0150202")])
def test_a_camera_is_found_by_town_road_direction_or_id(service, key, id):
    assert find_preset(key)["id"] == id
    assert Camera(f"digitraffic:{key}").frame().source == f"digitraffic:{id}"


@pytest.mark.parametrize("key", ["Atlantis", "C9999901", "C99999", "C0152099", "../../etc"])
def test_what_is_not_there_is_an_error(service, key):
    with pytest.raises(CameraError, match="camera_address_book|is not known|No road camera"): capture(key)


def test_stations_are_named_by_words_as_well(service):
    for words in ("Porvoo", "porvo", "Tienpinta", "C0152003", "c01520", find_preset("Porvoo"), stations("Porvoo")[0]):
        assert [view.id for view in presets(words)] == ["C0152001", "C0152002", "C0152003"]
    with pytest.raises(CameraError, match="No road camera"): presets("Atlantis")


def test_a_direction_is_not_taken_for_a_town_that_is_spelt_much_like_it(monkeypatch):
    listed = [("C04501", "vt4_Oulu_Kiviniemi", "Tie 4 Oulu, Kiviniemi", "Oulu", "Pohjanmaa", ["Kemiin"]), ("C04502", "vt4_Kempele", "Tie 4 Kempele", "Kempele", "Pohjanmaa", ["Ouluun"])]
    with digitraffic_server(listed) as (url, _):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        assert [find_preset(key).id for key in ("tie 4 Ouluun", "Oulu")] == ["C0450201", "C0450101"]


def test_a_station_that_shows_nothing_is_passed_over(monkeypatch):
    with digitraffic_server([("C01500", "vt7_Porvoo_A", "Tie 7 Porvoo, A", "Porvoo", "Uusimaa", []), *STATIONS], broken=("C01502",)) as (url, _):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        assert find_preset("Porvoo").id == "C0152001"


def test_many_broken_stations_are_not_asked_one_by_one(monkeypatch):
    many = [(f"C015{n:02}", f"vt7_Porvoo_{n}", f"Tie 7 Porvoo, {n}", "Porvoo", "Uusimaa", ["Helsinkiin"]) for n in range(30)]
    with digitraffic_server([*many, STATIONS[3]], broken=[station[0] for station in many]) as (url, state):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        with pytest.raises(CameraError, match="No road camera"): find_preset("Porvoo")
        assert state["requests"] < 45  # the list twice, a few, and all for the book


def age(days):
    "Make all that is kept so much older."
    for path in (data_dir(shared=True) / "caches").glob("*.json"):
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "time": kept["time"] - days * 86400}))


def test_an_old_book_is_better_than_none_and_than_a_part_of_it(monkeypatch):
    broken = []
    with digitraffic_server(broken=broken) as (url, state):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        whole = address_book()
        broken += ["C01520", "C14560"]; age(8)
        assert address_book() == whole  # two did not answer, and keep their places
        del broken[:]; asked = state["requests"]
        address_book(); assert state["requests"] == asked
        age(0.1); address_book(); assert state["requests"] > asked  # what is missing is asked for again soon
        age(8)
    assert address_book() == whole and stations()


def test_a_number_for_a_name_costs_nothing(monkeypatch):
    with digitraffic_server([("C01502", 1502, 7, "Espoo", "Uusimaa", [8]), *STATIONS[1:]]) as (url, state):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        first, asked = address_book(), state["requests"]
        assert address_book() == first and state["requests"] == asked and first[0].name == "8"


def test_nothing_in_particular_is_porvoo(service):
    for key in ("", "  "): assert Frame.load(cap(key)).source == "digitraffic:C0152001"
    assert Camera("digitraffic:").frame().source == "digitraffic:C0152001"


@pytest.mark.parametrize("status, body, told", [(404, b"", "status 404"), (200, b"<html>no</html>", "web page"), (200, b"", "empty")])
def test_a_picture_that_does_not_come(service, monkeypatch, status, body, told):
    from camera_servers import Quiet, http_server
    class Handler(Quiet):
        def do_GET(self): self.answer(body, status)
    with http_server(Handler) as url:
        view = {**find_preset("Porvoo"), "url": f"{url}/a.jpg"}
        with pytest.raises(CameraError, match=told): capture(view)
    with pytest.raises(CameraError, match="could not be fetched"): capture(view)


def test_a_picture_knows_when_it_was_taken_and_is_kept_as_it_came(service):
    from camera_servers import snapshot_server
    with snapshot_server() as (url, state):
        frame = Frame.load(capture({**find_preset("Porvoo"), "url": f"{url}/old.jpg"}))
    assert frame.time == datetime(2024, 10, 4, 11, 53, 49, tzinfo=timezone.utc) and state["headers"][0]["Digitraffic-User"] == "llmcam"


def test_the_list_is_kept_and_revalidated(service, monkeypatch):
    url, state = service
    stations(); stations()
    assert state["paths"].count("/api/weathercam/v1/stations") == 1
    clock = time.time
    monkeypatch.setattr(dtcam.time, "time", lambda: clock() + 7200)
    assert len(stations()) == 4 and state["not_modified"] == 1


def test_an_old_list_is_better_than_none(monkeypatch):
    with digitraffic_server() as (url, _): stations("Porvoo", url)
    clock = time.time
    monkeypatch.setattr(dtcam.time, "time", lambda: clock() + 7200)
    assert stations("Porvoo", url)[0].id == "C01520"
    with pytest.raises(CameraError, match="No list of road cameras"): stations("Porvoo", f"http://127.0.0.1:{closed_port()}/stations")


def test_the_book_is_built_at_once_and_politely(monkeypatch):
    many = [(f"C{n:05}", f"vt1_Kunta{n}_Paikka", f"Tie 1 Kunta{n}, Paikka", f"Kunta{n}", "Uusimaa", ["A", "B"]) for n in range(160)]
    with digitraffic_server(many, delay=0.03, broken=("C00007",)) as (url, state):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        started = time.monotonic()
        assert len(address_book()) == 318
        assert time.monotonic() - started < 160 * 0.03 and 8 < state["busiest"] <= 32 and state["without_header"] == 0
        before = state["requests"]
        assert len(address_book()) == 318 and state["requests"] == before
        address_book(update=True)
        assert state["requests"] > before + 150


def test_being_told_to_slow_down_is_obeyed(monkeypatch):
    with digitraffic_server(delay=0.02, limit=1) as (url, state):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        monkeypatch.setattr(dtcam, "_WORKERS", 2)
        assert len(address_book()) == 8


def test_the_model_gets_what_it_asked_for_and_no_more(service):
    text = camera_address_book()
    assert json.loads(text)["cameras"] == 8 and len(text) < 1000
    found = json.loads(camera_address_book(search="jyvaskyla"))
    assert found["found"] == 1 and found["cameras"][0]["camera"] == "digitraffic:C0950101"
    limited = json.loads(camera_address_book(search="uusimaa", limit=2))
    assert (limited["found"], len(limited["cameras"]), limited["left out"]) == (5, 2, 3)
    assert json.loads(camera_address_book(search="Atlantis"))["found"] == 0


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"features": [1]}', b'{"features": [{"properties": {}}]}'])
def test_an_answer_of_another_shape_is_an_error(body, monkeypatch):
    from camera_servers import Quiet, http_server
    class Handler(Quiet):
        def do_GET(self): self.answer(body)
    with http_server(Handler) as url, pytest.raises(CameraError, match="no list of weather cameras"): stations("x", f"{url}/stations")


def test_the_address_of_a_picture_is_checked_like_any_other(monkeypatch):
    with digitraffic_server(image_base="http://10.1.2.3") as (url, _):
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", url)
        with gate(ToolPolicy()), pytest.raises(PolicyError, match="10.1.2.3"): cap("Porvoo")


def test_a_model_may_use_the_service_that_the_person_configured_and_no_other(service):
    url, state = service
    with gate(ToolPolicy()):
        assert Path(cap("Porvoo")).exists() and json.loads(camera_address_book(search="Porvoo"))["found"] == 3
        with digitraffic_server() as (other, asked):
            with pytest.raises(PolicyError): camera_address_book(other)
            assert asked["requests"] == 0


def test_a_broken_entry_loses_only_itself():
    entries = [{}, None, "text", {"properties": None}, {"properties": {"id": "C00001", "presets": [{}]}}, {"properties": {"id": "C00002"}},
               {"properties": {"id": "C00003", "name": "vt4_Oulu", "presets": None}}, {"properties": {"id": "C00004", "name": "vt6_Imatra", "presets": [{"id": "C0000401"}]}}]
    documents = {"C00002": {"properties": {"id": "C00002", "names": None, "presets": None}}, "C00003": [],
                 "C00004": {"properties": {"id": "C00004", "names": None, "name": "vt6_Imatra", "municipality": None, "presets": [{"id": "C0000401", "presentationName": None}]}}}

    class Odd(Quiet):
        def do_GET(self):
            name = self.path.rpartition("/")[2]
            found = {"features": entries} if name == "stations" else documents.get(name)
            self.answer(json.dumps(found).encode(), 200 if found is not None else 404)

    with http_server(Odd) as url:
        base = f"{url}/api/weathercam/v1/stations"
        assert [(s.id, s.name) for s in stations("", base)] == [("C00002", "C00002"), ("C00003", "vt4_Oulu"), ("C00004", "vt6_Imatra")]
        assert [(p.id, p.place, p.name) for p in address_book(base)] == [("C0000401", "vt6_Imatra", "C0000401")]
        entries[:] = [{}]
        assert len(stations("", base)) == 3  # what was kept is better
        for path in (data_dir(shared=True) / "caches").glob("*.json"): path.unlink()
        with pytest.raises(AnswerError, match="no list of weather cameras"): address_book(base, update=True)


def test_digitraffic_stays_open_after_strangers_text():
    from llmcam.core.policy import ToolPolicy, current_policy, gate
    from llmcam.vision.dtcam import _as_configured
    with gate(ToolPolicy(hosts=())):
        with _as_configured("https://weathercam.digitraffic.fi/C0150200.jpg"): assert current_policy().hosts is None
        for url in ("https://evil.example/C1.jpg", "https://digitraffic.fi.evil.example/x", "https://evildigitraffic.fi/x"):
            with _as_configured(url): assert current_policy().hosts == ()


KEPT = [b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff\xfe\0", b"[" * 100_000, b'{"book": 5, "stations": 5, "time": 1}', b'{"book": [1], "stations": [1], "time": 1e99}',
        b'{"book": [{"id": "x"}], "stations": [{"id": "x"}], "time": 1e99}', b'{"book": [], "stations": [], "time": "now"}', b'{"stations": [{"id": "C01520", "name": 5, "presets": 5}], "time": 1}']

@pytest.mark.parametrize("content", KEPT, ids=lambda content: content[:20].decode("latin-1"))
def test_a_broken_cache_is_written_anew(service, content):
    url, state = service
    book, found = address_book(url), stations("", url)
    kept = list((data_dir() / "caches").iterdir())
    assert len(kept) == 2
    for file in kept: file.write_bytes(content)
    assert address_book(url) == book and stations("", url) == found and find_preset("Porvoo", url).id == "C0152001"
    asked = state["requests"]
    assert address_book(url) == book and state["requests"] == asked


def test_a_cache_from_the_future_is_not_fresh(service):
    url, state = service
    address_book(url)
    for file in (data_dir() / "caches").iterdir(): file.write_text(json.dumps({**json.loads(file.read_text()), "time": time.time() + 1e7}))
    asked = state["requests"]
    address_book(url)
    assert state["requests"] > asked


@pytest.mark.parametrize("status, body", [(304, b""), (204, b""), (200, b"[" * 100_000), (200, b'{"features": null}')])
def test_an_empty_answer_is_no_list(monkeypatch, status, body):
    with LocalServer({"*": (status, {}, body)}) as server:
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", server.url)
        for _ in range(2):
            with pytest.raises(CameraError, match="no list"): find_preset("Porvoo")


@pytest.mark.parametrize("key", ["\U0001f697", "Хельсинки", "ヘルシンキ", "!!"])
def test_words_without_letters_that_we_know_find_nothing(service, key):
    with pytest.raises(CameraError, match="No road camera"): find_preset(key, service[0])
    assert json.loads(camera_address_book(service[0], search=key))["found"] == 0


def test_a_silent_service_costs_the_deadline_and_not_more(monkeypatch):
    with silent_server() as address:
        monkeypatch.setenv("LLMCAM_DIGITRAFFIC", f"http://{address}")
        with Camera("digitraffic:Porvoo", timeout=0.3) as camera:
            started = time.monotonic()
            with pytest.raises(ResolvingError, match="Porvoo"): camera.frame()
            assert time.monotonic() - started < 3 and camera.state == "resolving"
