#!/usr/bin/env python
"Detection: five ways to count in a picture, in turn, and how long the first picture of a program takes. `--full` takes more rounds; real frames and weights are used where `../shared/data` has them."
import argparse, os, subprocess, sys, tempfile, time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SHARED = ROOT.parent / "shared" / "data"
FIRST = """
import time
begun = time.perf_counter()
import sys
from llmcam.vision.yolo import detect
detect(sys.argv[1], weights=sys.argv[2])
print(time.perf_counter() - begun)
"""


def material(folder):
    "Weights and pictures: real ones, else the packaged detector and rendered scenes."
    weights, frames = SHARED / "weights" / "yolo11n.pt", sorted((SHARED / "frames").glob("*.jpg"))
    if weights.exists() and frames: return weights, frames, {}
    from PIL import Image
    from llmcam.vision.sample import render_scene
    paths = [folder / f"scene{i:02}.jpg" for i in range(10)]
    for i, path in enumerate(paths): Image.fromarray(render_scene(t=97 * i)[0]).save(path, quality=95)
    return ROOT / "llmcam" / "samples" / "harbour.pt", paths, {"iou": .5}


def first_pictures(weights, picture, folder, runs=3):
    "Seconds from nothing to the counts of one picture, imports and all, in new programs: with an empty cache, and with the proof that is there by now."
    def seconds(**env): return float(subprocess.run([sys.executable, "-c", FIRST, picture, weights], env={**os.environ, "PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True, check=True).stdout)
    return [seconds(XDG_CACHE_HOME=f"{folder}/{i}") for i in range(runs)], [seconds() for _ in range(runs)]


def ways_to_count(weights, paths, options, folder):
    "Functions from the path of a picture to its counts; the bare session, which counts nothing, gives `None`."
    import shutil
    import numpy as np
    from llmcam.vision.yolo import _environ, _fitted, _from_file, _hushed, _silent, _ultralytics, detect, load_detector
    detector, YOLO = load_detector(weights), _ultralytics().YOLO
    engine = detector.prepare()
    if not detector.twin.trusted: raise SystemExit(f"no ONNX Runtime here: {engine}")
    def plain(model, path): return Counter(detector.classes[int(c)] for c in model(str(path), verbose=False, save=False, predictor=_silent(model.task_map["detect"]["predictor"]), **options)[0].boxes.cls.tolist())
    with _hushed(), _environ(YOLO_AUTOINSTALL="false"): exported = YOLO(shutil.copy(weights, folder)).export(format="onnx", dynamic=True, verbose=False)
    kept, onnx = YOLO(str(weights)), YOLO(exported, task="detect")
    with _hushed(): plain(onnx, paths[0])
    batches = {path: _fitted(_from_file(path).image, detector.twin.facts)[None] for path in paths}
    return {
        "weights loaded for each picture": lambda path: plain(YOLO(str(weights)), path),
        "ultralytics, kept loaded": lambda path: plain(kept, path),
        "ONNX Runtime through ultralytics": lambda path: plain(onnx, path),
        "llmcam": lambda path: Counter(detect(path, weights=weights).names),
        "of which session.run": lambda path: detector.twin.run(batches[path]) and None,
    }


def in_turn(ways, paths, rounds):
    "Counts and seconds of each way. The ways take turns, all pictures each, so that a machine that gets slower does so for all of them."
    counts, seconds = defaultdict(dict), defaultdict(list)
    for i in range(rounds + 1):
        for way, ask in ways.items():
            for path in paths:
                begun = time.perf_counter()
                counts[way][path] = ask(path)
                if i: seconds[way].append(time.perf_counter() - begun)
    return counts, seconds


def report(weights, paths, options, rounds, folder):
    ways = ways_to_count(weights, paths, options, folder)
    counts, seconds = in_turn(ways, paths, rounds)
    kept = "ultralytics, kept loaded"
    print(f"{len(paths)} pictures, {weights.name}, {rounds} rounds\n")
    print(f"| way | ms an image (median) | fastest | part of {kept} | counts as ultralytics' |\n| --- | ---: | ---: | ---: | ---: |")
    for way, taken in seconds.items():
        equal = sum(counts[way][path] == counts[kept][path] for path in paths)
        print(f"| {way} | {median(taken) * 1e3:.1f} | {min(taken) * 1e3:.1f} | {median(taken) / median(seconds[kept]):.2f} | {'' if counts[way][paths[0]] is None else f'{equal} of {len(paths)}'} |")
    new, again = first_pictures(str(weights), str(paths[0]), folder)
    print(f"\n| first picture of a program, imports and all | s (median of {len(new)}) |\n| --- | ---: |")
    for way, taken in {"with an empty cache": new, "with what an earlier program proved": again}.items(): print(f"| {way} | {median(taken):.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="ten rounds instead of three")
    rounds = 10 if parser.parse_args().full else 3
    with tempfile.TemporaryDirectory() as folder: report(*material(Path(folder)), rounds, folder)


if __name__ == "__main__": main()
