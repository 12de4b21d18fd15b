#include "isa.h"

#include <cstdlib>

#include "error.h"

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace vitlet {

#if defined(__x86_64__)
extern const Kernels kAvx512Vnni;
extern const Kernels kAvx2;
#endif
#if defined(__aarch64__)
extern const Kernels kNeonDot;
#endif
extern const Kernels kGeneric;

namespace {

#if defined(__aarch64__)
bool has_dot_product() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return true;  // every Apple processor that runs AArch64 code
#endif
}
#endif

std::vector<const Kernels*> found() {
  std::vector<const Kernels*> sets;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    sets.push_back(&kAvx512Vnni);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.push_back(&kAvx2);
#endif
#if defined(__aarch64__)
  if (has_dot_product()) sets.push_back(&kNeonDot);
#endif
  sets.push_back(&kGeneric);
  return sets;
}

}  // namespace

const std::vector<const Kernels*>& instruction_sets() {
  static const std::vector<const Kernels*> sets = found();
  return sets;
}

const Kernels& chosen_instruction_set() {
  const char* const wanted = std::getenv("VITLET_ISA");
  if (wanted == nullptr || *wanted == '\0') return *instruction_sets().front();
  std::string known;
  for (const Kernels* one : instruction_sets()) {
    if (std::string(wanted) == one->name) return *one;
    known += (known.empty() ? "" : ", ") + std::string(one->name);
  }
  throw Error("VITLET_ISA is " + std::string(wanted) + "; this processor has: " + known);
}

}  // namespace vitlet
