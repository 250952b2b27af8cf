"""onnxruntime's outputs for lungai-models' `onnxruntime_..._as_we_do`. Needs onnx, onnxruntime and numpy; exit code 77: not here.

FOLDER holds model.onnx, shapes.json and input0.f32, input1.f32, ..; output0_0.f32 is the first output for the first input.
"""
import json
import sys
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime
except ImportError as error:
    sys.stderr.write(f"the peer's Python lacks {error.name}")
    sys.exit(77)

folder = Path(sys.argv[1])
onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
for i, shape in enumerate(json.loads((folder / "shapes.json").read_text())):
    x = np.fromfile(folder / f"input{i}.f32", np.float32).reshape(shape)
    for k, y in enumerate(session.run(None, {name: x})):
        assert y.dtype == np.float32
        y.tofile(folder / f"output{i}_{k}.f32")
