#!/usr/bin/env python
"Detection: weights loaded again for each picture, ultralytics kept loaded, and ours. `--full` takes more rounds; real frames and weights are used where `../shared/data` has them."
import argparse, sys, tempfile, time
from collections import Counter
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SHARED = ROOT.parent / "shared" / "data"


def material(folder):
    "Weights and pictures: real ones, else the packaged detector and rendered scenes."
    weights, frames = SHARED / "weights" / "yolo11n.pt", sorted((SHARED / "frames").glob("*.jpg"))
    if weights.exists() and frames: return weights, frames, {}
    from PIL import Image
    from llmcam.vision.sample import render_scene
    paths = [folder / f"scene{i:02}.jpg" for i in range(10)]
    for i, path in enumerate(paths): Image.fromarray(render_scene(t=97 * i)[0]).save(path, quality=95)
    return ROOT / "llmcam" / "samples" / "harbour.pt", paths, {"iou": .5}


def timed(ask, paths, rounds):
    "The counts of the last round, and seconds for each picture of all rounds."
    seconds = []
    for _ in range(rounds):
        counts = []
        for path in paths:
            begun = time.perf_counter()
            counts.append(ask(path))
            seconds.append(time.perf_counter() - begun)
    return counts, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="ten rounds instead of three")
    rounds = 10 if parser.parse_args().full else 3
    with tempfile.TemporaryDirectory() as folder: report(*material(Path(folder)), rounds)


def report(weights, paths, options, rounds):
    begun = time.perf_counter()
    from llmcam.vision.yolo import _silent, _ultralytics, detect, load_detector
    ours = lambda path: Counter(detect(path, weights=weights).names)
    ours(paths[0])
    first = time.perf_counter() - begun
    YOLO, names = _ultralytics().YOLO, load_detector(weights).classes
    def plain(model, path): return Counter(names[int(c)] for c in model(str(path), verbose=False, save=False, predictor=_silent(model.task_map[model.task]["predictor"]), **options)[0].boxes.cls)
    kept = YOLO(str(weights))
    expected, _ = timed(lambda path: plain(kept, path), paths, 1)
    prepared = load_detector(weights).prepare()
    again = timed(lambda path: plain(YOLO(str(weights)), path), paths, 1)
    loaded, own = timed(lambda path: plain(kept, path), paths, rounds), timed(ours, paths, rounds)
    base = median(again[1])
    print(f"{len(paths)} pictures, {weights.name}, engine {prepared}, first call with imports {first:.1f} s\n")
    print("| way | ms an image (median) | times as fast | counts as ultralytics' |\n| --- | ---: | ---: | ---: |")
    for way, (counts, seconds) in {"weights loaded for each picture": again, "ultralytics, kept loaded": loaded, "llmcam": own}.items():
        equal = sum(a == b for a, b in zip(counts, expected))
        print(f"| {way} | {median(seconds) * 1e3:.1f} | {base / median(seconds):.1f} | {equal} of {len(paths)} |")


if __name__ == "__main__": main()
