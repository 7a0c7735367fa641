"""OpenVINO: the graphs of ``onnx_runtime`` in float32, bfloat16 or static int8 on the CPU."""
