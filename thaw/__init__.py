"""Thaw: the best image classifier that a pretrained network can give on your images."""

import os

# TensorFlow reads these once, when it is first imported. oneDNN is faster on every x86 processor, and TensorFlow
# leaves it off on those without AVX512-VNNI, AVX-VNNI or AMX; log level 3 keeps its start-up notes off the terminal.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
