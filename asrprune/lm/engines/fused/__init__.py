"""The own kernel (``kernel.cpp``): a whole forward pass with matrices in int8 or bfloat16, the
model in its memory layout, and the quantised values of int8 in torch."""
