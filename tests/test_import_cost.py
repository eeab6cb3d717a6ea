"Importing the whole library is quick, and brings none of the heavy packages."
import json, os, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "cv2", "matplotlib", "yt_dlp", "openai", "ultralytics", "onnxruntime", "rapidocr", "supervision", "numpy", "PIL")
PROBE = """
import json, os, sys, threading, time
before, begun = set(os.environ.items()), time.perf_counter()
import {module}
print(json.dumps(dict(seconds=time.perf_counter() - begun, loaded=sorted(sys.modules), threads=threading.active_count(),
                      files=os.listdir("."), changed=sorted(set(os.environ.items()) ^ before))))
"""


def imported(module, folder):
    done = subprocess.run([sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, timeout=60, cwd=folder,
                          env={**{k: v for k, v in os.environ.items() if not k.startswith("LLMCAM_")}, "PYTHONPATH": str(ROOT),
                               "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder.parent / "compiled")})  # as an installed package is
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_session_loads_nothing_heavy(tmp_path):
    found = imported("llmcam.application.session", tmp_path)
    assert [name for name in HEAVY if name in found["loaded"]] == []
    assert found["threads"] == 1 and found["files"] == [] and found["changed"] == []


def test_the_import_is_quick(tmp_path):
    assert min(imported("llmcam.application.session", tmp_path)["seconds"] for _ in range(3)) < 1.0  # 0.15 s on a quiet machine


def test_no_module_loads_anything_heavy(tmp_path):
    files = sorted(path.relative_to(ROOT) for path in (ROOT / "llmcam").rglob("*.py") if path.stem[0] != "_")
    found = imported(", ".join(".".join(path.with_suffix("").parts) for path in files), tmp_path)
    assert len(files) > 20 and [heavy for heavy in HEAVY[:5] if heavy in found["loaded"]] == []
