"""LMs for other toolkits, one file a partner: each is checked through its runtime.

- ``numbers``: how weights are stored: float32 or int8
- ``rows``: what the ONNX graphs over rows of tokens have in common
- ``graphs``: those graphs: logits, with a cache, sentence scores, streams
- ``check``: a graph through ONNX Runtime against the LM in torch
- ``exporter``: what an exporter is asked and what it answers
- ``onnx_file``: a graph as a file, with what it says of itself
- ``plain_onnx``: ONNX for any program
- ``sherpa_onnx``: the LM of sherpa-onnx's transducers, offline and streaming
- ``torch_export``: a program of torch.export
- ``hugging_face``: a folder for transformers
- ``table``: EXPORTERS, the partners
"""
