"Installs llmcam with the metadata and dependencies of settings.ini."
from configparser import ConfigParser
from itertools import chain
from pathlib import Path
from setuptools import find_packages, setup

parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read("settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]


def lines(key): return [line.strip() for line in cfg.get(key, "").splitlines() if line.strip()]


extras = {name: lines(f"{name}_requirements") for name in ("postgres", "notify")}

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    author=cfg["author"], author_email=cfg["author_email"], license="Apache-2.0", keywords=cfg["keywords"],
    url=f"https://github.com/{cfg['user']}/{cfg['repo']}", python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["llmcam", "llmcam.*"]), package_data={"llmcam": ["samples/*", "application/static/*"]},
    install_requires=lines("requirements"), extras_require={**extras, "dev": [*lines("dev_requirements"), *chain(*extras.values())]},
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": ["llmcam=llmcam._modidx:d"]},
    zip_safe=False,
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Developers", "Programming Language :: Python :: 3"],
)
