#include "isa.h"

#include <cstdlib>

#include "error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace vitlet {

#if defined(__x86_64__)
extern const Kernels kAvx512Vnni;
#if defined(VITLET_HAS_AVXVNNI)
extern const Kernels kAvxVnni;
#endif
extern const Kernels kAvxVnniEvex;
extern const Kernels kAvx2;
#endif
#if defined(__aarch64__)
extern const Kernels kNeonI8mm;
extern const Kernels kNeonDot;
extern const Kernels kNeon;
#endif
extern const Kernels kGeneric;

namespace {

#if defined(__aarch64__)
#if defined(__linux__)
// The kernel's HWCAP_ASIMDDP and HWCAP2_I8MM, which older headers do not have.
bool has_dot_product() { return (getauxval(AT_HWCAP) & (1UL << 20)) != 0; }
bool has_int8_matrices() { return (getauxval(AT_HWCAP2) & (1UL << 13)) != 0; }
#elif defined(__APPLE__)
bool has(const char* feature) {
  int value = 0;
  size_t size = sizeof(value);
  return sysctlbyname(feature, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dot_product() { return has("hw.optional.arm.FEAT_DotProd"); }
bool has_int8_matrices() { return has("hw.optional.arm.FEAT_I8MM"); }
#else
bool has_dot_product() { return false; }
bool has_int8_matrices() { return false; }
#endif
#endif

#if defined(VITLET_HAS_AVXVNNI)
// CPUID leaf 7, subleaf 1, EAX bit 4 (Intel's manual, volume 2, CPUID); compilers learned its name late.
bool has_avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
}
#endif

std::vector<const Kernels*> found() {
  std::vector<const Kernels*> sets;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    sets.push_back(&kAvx512Vnni);
  }
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(VITLET_HAS_AVXVNNI)
  if (avx2 && has_avx_vnni()) sets.push_back(&kAvxVnni);
#endif
  if (avx2 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl")) {
    sets.push_back(&kAvxVnniEvex);
  }
  if (avx2) sets.push_back(&kAvx2);
#endif
#if defined(__aarch64__)
  if (has_int8_matrices()) sets.push_back(&kNeonI8mm);
  if (has_dot_product()) sets.push_back(&kNeonDot);
  sets.push_back(&kNeon);
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
