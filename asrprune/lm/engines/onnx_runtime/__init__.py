"""ONNX Runtime: the LM as an ONNX graph in float32 or static int8, with its calibration."""
