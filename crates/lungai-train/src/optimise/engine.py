"""onnxruntime as an engine for the product's networks: runs a network on request, or quantises it to 8 bits.

python engine.py run NET.onnx THREADS
    Standard input: a line {"shape": [...]}, then the tensor as little-endian 32-bit floats; again and again.
    Standard output: first {"version": ...}; for each tensor a line {"shapes": [[...], ...]}, then the outputs one after the other.
python engine.py quantise NET.onnx OUT.onnx INPUTS.f32 SHAPE
    INPUTS.f32 holds tensors of the comma-separated SHAPE, on which the ranges are measured.
"""

import json
import os
import sys

import numpy as np
import onnxruntime


def read(stream, count):
    data = stream.read(4 * count)
    return np.frombuffer(data, dtype="<f4")


def run(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    answers.write((json.dumps({"version": onnxruntime.__version__}) + "\n").encode())
    answers.flush()
    while header := requests.readline():
        shape = json.loads(header)["shape"]
        outputs = session.run(None, {name: read(requests, int(np.prod(shape))).reshape(shape)})
        answers.write((json.dumps({"shapes": [list(y.shape) for y in outputs]}) + "\n").encode())
        for y in outputs:
            answers.write(np.ascontiguousarray(y, dtype="<f4").tobytes())
        answers.flush()


def quantise(path, out, inputs, shape):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    shape = [int(n) for n in shape.split(",")]
    tensors = iter(np.fromfile(inputs, dtype="<f4").reshape([-1, *shape]))
    name = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()[0].name

    class Inputs(CalibrationDataReader):
        def get_next(self):
            tensor = next(tensors, None)
            return None if tensor is None else {name: tensor}

    prepared = out + ".prepared"
    quant_pre_process(path, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        out,
        Inputs(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )
    os.remove(prepared)
    print(json.dumps({"version": onnxruntime.__version__}))


if __name__ == "__main__":
    {"run": run, "quantise": quantise}[sys.argv[1]](*sys.argv[2:])
