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
- ``standard``: which shapes the two below can say
- ``hugging_face``: a folder for transformers; ``modeling_asrprune``: the code that goes along with
  shapes that it does not have
- ``gguf``: a file for llama.cpp; ``gguf_vocabulary``: its tokeniser; ``sentencepiece_proto``: what
  a SentencePiece model says of itself; ``llama_cpp``: the file through llama.cpp, which runs as
  ``llama_cpp_child``
- ``table``: EXPORTERS, the partners
"""
