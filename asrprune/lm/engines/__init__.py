"""What computes the forward passes of LM scoring: one folder a runtime, one row each of ENGINES in
``table``. ``engine`` says what an engine is; ``native`` compiles C++ kernels."""
