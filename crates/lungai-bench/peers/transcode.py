"""Packs the raw series of the bench folder: python transcode.py SERIES_FOLDER"""

import sys
from pathlib import Path

import pydicom
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

series = Path(sys.argv[1])
for name, syntax in [("jpegls", JPEGLSLossless), ("j2k", JPEG2000Lossless), ("rle", RLELossless)]:
    to = series / name
    to.mkdir(exist_ok=True)
    for file in sorted((series / "raw").iterdir()):
        dataset = pydicom.dcmread(file)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(to / file.name)
    print(f"packed {name}", file=sys.stderr)
