"""The own int8 engine: a C++ kernel (``kernel.cpp``), the quantised values that it multiplies, and
the model in its memory layout."""
