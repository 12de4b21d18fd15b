// Queries, keys and values of a few tokens: to int8, and to where attention reads them.
#pragma once

#include "float_parts.h"
#include "packing.h"

namespace {

using vitlet::kMostHeadWidth;

void put_queries(const float* rows, size_t stride, int count, int width, uint8_t* bytes, size_t byte_stride,
                 float* scale) {
  for (int r = 0; r < count; ++r) quantize_around_128(rows + r * stride, width, bytes + r * byte_stride, scale + r);
}

void put_keys(const float* rows, size_t stride, int count, int width, int tokens, int first, int8_t* packed,
              int32_t* start, float* scale) {
  int8_t key[kMostHeadWidth];
  for (int r = 0; r < count; ++r) {
    const int token = first + r;
    int32_t sum = 0;
    quantize_signed(rows + r * stride, width, key, scale + token, &sum);
    // Queries are bytes around 128: unless the products take the 128 away, they start below by so much.
    start[token] = kSignedActivations ? 0 : -128 * sum;
    put_column(key, width, tokens, token, packed);
  }
}

// A whole group of rows at once: their bytes stand side by side.
inline void put_row_group(const int8_t (&rows)[kGroup][kMostHeadWidth], int inputs, int outputs, int at,
                          int8_t* packed) {
  for (int panel = 0; panel < panels_of(outputs); ++panel) {
    const int columns = panel_columns(outputs, panel);
    const int left = outputs - panel * kPanel;
    const int used = left < kPanel ? left : kPanel;
    int8_t* const to = packed + panel_at(inputs, panel) + static_cast<size_t>(at / kGroup) * columns * kGroup;
    for (int column = 0; column < used; ++column) {
#pragma GCC unroll 8
      for (int k = 0; k < kGroup; ++k) to[column * kGroup + k] = rows[k][panel * kPanel + column];
    }
  }
}

void put_values(const float* rows, size_t stride, int count, int width, int tokens, int first, int8_t* packed,
                float* scale) {
  int8_t group[kGroup][kMostHeadWidth];
  int32_t sum = 0;
  for (int r = 0; r < count;) {
    const int token = first + r;
    const int take = token % kGroup == 0 && count - r >= kGroup ? kGroup : 1;
    for (int k = 0; k < take; ++k) quantize_signed(rows + (r + k) * stride, width, group[k], scale + token + k, &sum);
    if (take == kGroup) {
      put_row_group(group, tokens, width, token, packed);
    } else {
      put_row(group[0], tokens, width, token, packed);
    }
    r += take;
  }
}

}  // namespace
