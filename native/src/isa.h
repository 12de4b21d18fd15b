// The instruction sets that were compiled in, and which of them this processor has.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace vitlet {

// Best first; the plain C++ one, which every processor has, last.
const std::vector<const Kernels*>& instruction_sets();

// The best, or the one that VITLET_ISA names. Throws Error: that one is unknown or not to be had here.
const Kernels& chosen_instruction_set();

}  // namespace vitlet
