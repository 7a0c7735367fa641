"""The own engine for zeros: a C++ kernel (``kernel.cpp``) that multiplies the non-zero blocks of a
matrix alone."""
