// AVX-VNNI's kernels in the encoding of AVX-512.
#define VITLET_EVEX
#include "avxvnni.cpp"
