// Where a weight lies in packed memory, for the instruction set that includes this.
//
// Columns (outputs) stand in panels of 64, the last one narrower in steps of `kVector`. Inside a panel, `kGroup`
// consecutive inputs of one column stand side by side, then the next column, then the next group of inputs:
//   [panel][input / kGroup][column in the panel][input % kGroup]
// Whoever includes this has defined kGroup: the int8 inputs that one instruction adds up.
#pragma once

#include <cstring>

#include "kernels.h"

namespace {

using vitlet::kPanel;
using vitlet::kVector;

inline int panels_of(int outputs) { return (outputs + kPanel - 1) / kPanel; }
inline int groups_of(int inputs) { return (inputs + kGroup - 1) / kGroup; }
// Columns of a panel, rounded up to whole vectors.
inline int panel_columns(int outputs, int panel) {
  const int left = outputs - panel * kPanel;
  return left >= kPanel ? kPanel : (left + kVector - 1) / kVector * kVector;
}
inline size_t panel_at(int inputs, int panel) { return static_cast<size_t>(panel) * kPanel * groups_of(inputs) * kGroup; }

inline size_t packed_bytes(int inputs, int outputs) {
  const int last = panels_of(outputs) - 1;
  return panel_at(inputs, last) + static_cast<size_t>(panel_columns(outputs, last)) * groups_of(inputs) * kGroup;
}

inline void put_column(const int8_t* column, int inputs, int outputs, int at, int8_t* packed) {
  const int panel = at / kPanel;
  const size_t step = static_cast<size_t>(panel_columns(outputs, panel)) * kGroup;
  int8_t* to = packed + panel_at(inputs, panel) + static_cast<size_t>(at % kPanel) * kGroup;
  const int whole = inputs / kGroup;
  for (int group = 0; group < whole; ++group) std::memcpy(to + group * step, column + group * kGroup, kGroup);
  if (inputs % kGroup) {
    int8_t rest[kGroup] = {};
    std::memcpy(rest, column + whole * kGroup, static_cast<size_t>(inputs % kGroup));
    std::memcpy(to + whole * step, rest, kGroup);
  }
}

inline void put_row(const int8_t* row, int inputs, int outputs, int at, int8_t* packed) {
  for (int panel = 0; panel < panels_of(outputs); ++panel) {
    const int columns = panel_columns(outputs, panel);
    const int used = outputs - panel * kPanel < kPanel ? outputs - panel * kPanel : kPanel;
    int8_t* to = packed + panel_at(inputs, panel) + static_cast<size_t>(at / kGroup) * columns * kGroup + at % kGroup;
    for (int column = 0; column < used; ++column) to[column * kGroup] = row[panel * kPanel + column];
  }
}

// `start` is what makes an accumulator of signed activations (byte - 128) the one of unsigned bytes.
inline void start_columns(const int8_t* weights, int inputs, int outputs, int32_t* start) {
  for (int column = 0; column < outputs; ++column) {
    int32_t sum = 0;
    if (kSignedActivations) {
      for (int input = 0; input < inputs; ++input) sum += weights[static_cast<size_t>(column) * inputs + input];
    }
    start[column] = 128 * sum;
  }
}

inline void pack(const int8_t* weights, int inputs, int outputs, int8_t* packed, int32_t* start) {
  std::memset(packed, 0, packed_bytes(inputs, outputs));
  for (int column = 0; column < outputs; ++column) {
    put_column(weights + static_cast<size_t>(column) * inputs, inputs, outputs, column, packed);
  }
  start_columns(weights, inputs, outputs, start);
}

inline size_t packed_floats(int inputs, int outputs) {
  const int last = panels_of(outputs) - 1;
  return static_cast<size_t>(last) * kPanel * inputs + static_cast<size_t>(panel_columns(outputs, last)) * inputs;
}

// Floats: [panel][input][column in the panel].
inline size_t float_panel_at(int inputs, int panel) { return static_cast<size_t>(panel) * kPanel * inputs; }

inline void put_float_column(const float* column, int inputs, int outputs, int at, float* packed) {
  const int panel = at / kPanel;
  const size_t step = static_cast<size_t>(panel_columns(outputs, panel));
  float* to = packed + float_panel_at(inputs, panel) + at % kPanel;
  for (int input = 0; input < inputs; ++input) to[input * step] = column[input];
}

inline void put_float_row(const float* row, int inputs, int outputs, int at, float* packed) {
  for (int panel = 0; panel < panels_of(outputs); ++panel) {
    const int columns = panel_columns(outputs, panel);
    const int used = outputs - panel * kPanel < kPanel ? outputs - panel * kPanel : kPanel;
    float* to = packed + float_panel_at(inputs, panel) + static_cast<size_t>(at) * columns;
    std::memcpy(to, row + panel * kPanel, static_cast<size_t>(used) * sizeof(float));
  }
}

inline void pack_floats(const float* weights, int inputs, int outputs, float* packed) {
  std::memset(packed, 0, packed_floats(inputs, outputs) * sizeof(float));
  for (int column = 0; column < outputs; ++column) {
    put_float_column(weights + static_cast<size_t>(column) * inputs, inputs, outputs, column, packed);
  }
}

}  // namespace
