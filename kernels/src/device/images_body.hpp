// Images: resized as Resizer does it, to the bit, and turned into the numbers that models take, in one pass.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

#include "../images_lanes.hpp"
#include "both.hpp"
#include "penstock/kernels/device_work.hpp"
#include "penstock/kernels/half.hpp"

namespace penstock::device {

PENSTOCK_BOTH inline std::uint8_t clamp_pixel(std::int32_t sum) {
  const std::int32_t value = sum >> kWeightBits;
  return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// The nearest of either type, ties to even. Pixels are never NaN.
PENSTOCK_BOTH inline std::uint16_t half_of(float value) {
#if defined(__CUDA_ARCH__)
  return __half_as_ushort(__float2half_rn(value));
#else
  return to_half(static_cast<double>(value)).bits;
#endif
}

PENSTOCK_BOTH inline std::uint16_t bfloat16_of(float value) {
#if defined(__CUDA_ARCH__)
  return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
#endif
}

PENSTOCK_BOTH inline void store_pixel(const ImageWork& work, std::uint64_t at, std::uint8_t pixel,
                                      std::uint32_t channel) {
  if (work.type == PixelType::kUint8) {
    reinterpret_cast<std::uint8_t*>(work.to)[at] = pixel;
    return;
  }
  const float value = static_cast<float>(pixel) * work.scale[channel] + work.offset[channel];
  if (work.type == PixelType::kFloat32) {
    reinterpret_cast<float*>(work.to)[at] = value;
  } else if (work.type == PixelType::kFloat16) {
    reinterpret_cast<std::uint16_t*>(work.to)[at] = half_of(value);
  } else {
    reinterpret_cast<std::uint16_t*>(work.to)[at] = bfloat16_of(value);
  }
}

PENSTOCK_BOTH inline std::uint64_t place_in_result(const ImageWork& work, std::uint32_t image, std::uint32_t row,
                                                   std::uint32_t column, std::uint32_t channel) {
  const std::uint64_t pixels = std::uint64_t{work.height} * work.width;
  const std::uint64_t pixel = std::uint64_t{row} * work.width + column;
  const std::uint64_t first = image * pixels * work.channels;
  return first + (work.planes != 0 ? channel * pixels + pixel : pixel * work.channels + channel);
}

// ---- images that keep their size ------------------------------------------------------------------------------------
//
// Three ways, by what can be moved 16 bytes at a time. Reads of neighbouring threads are neighbours: over PCIe what is
// fetched is not kept, so a line that two loads share would cross the bus twice.

inline constexpr std::uint32_t kVectorBytes = 16;
inline constexpr std::uint32_t kGroupPixels = 16;
inline constexpr std::uint32_t kGroupBytes = 3 * kGroupPixels;

template <typename T>
struct alignas(kVectorBytes) Vector16 {
  T element[kVectorBytes / sizeof(T)];
};
using Bytes16 = Vector16<std::uint8_t>;

enum class SameSize : std::uint8_t {
  kFlat,    // the order stays: 16 bytes are 16 results side by side
  kGroups,  // three channels into planes: a tile of groups of 16 pixels through shared memory
  kPixels,  // any other: a pixel at a time
};

PENSTOCK_BOTH inline SameSize way_of(const ImageWork& work) {
  const std::uint64_t pixels = std::uint64_t{work.height} * work.width;
  if ((work.planes == 0 || work.channels == 1) && pixels * work.channels % kVectorBytes == 0) return SameSize::kFlat;
  if (work.planes != 0 && work.channels == 3 && pixels % kGroupPixels == 0) return SameSize::kGroups;
  return SameSize::kPixels;
}

// What one thread does at a time.
PENSTOCK_BOTH inline std::uint64_t items_each(const ImageWork& work, SameSize way) {
  const std::uint64_t pixels = std::uint64_t{work.height} * work.width;
  if (way == SameSize::kFlat) return pixels * work.channels / kVectorBytes;
  return way == SameSize::kGroups ? pixels / kGroupPixels : pixels;
}

template <typename T>
PENSTOCK_BOTH inline T normalized(const ImageWork& work, std::uint8_t pixel, std::uint32_t channel) {
  if constexpr (sizeof(T) == 1) {
    return pixel;
  } else {
    const float value = static_cast<float>(pixel) * work.scale[channel] + work.offset[channel];
    if constexpr (sizeof(T) == 4) {
      return value;
    } else {
      return work.type == PixelType::kFloat16 ? half_of(value) : bfloat16_of(value);
    }
  }
}

// Rows in the ring are 64-byte aligned where their tensor's size is; the ring knows no other.
PENSTOCK_BOTH inline Bytes16 load16(const std::byte* from) {
  if (reinterpret_cast<std::uintptr_t>(from) % kVectorBytes == 0) return *reinterpret_cast<const Bytes16*>(from);
  Bytes16 bytes;
  PENSTOCK_UNROLL
  for (std::uint32_t i = 0; i < kVectorBytes; ++i) bytes.element[i] = static_cast<std::uint8_t>(from[i]);
  return bytes;
}

template <typename T>
PENSTOCK_BOTH inline void flat_item(const ImageWork& work, std::uint32_t image, std::uint64_t within,
                                    std::uint64_t items) {
  constexpr std::uint32_t kEach = kVectorBytes / sizeof(T);
  const Bytes16 bytes = load16(work.images.base + work.images.offsets[image] + within * kVectorBytes);
  auto* const to =
      reinterpret_cast<Vector16<T>*>(reinterpret_cast<T*>(work.to) + (image * items + within) * kVectorBytes);
  auto channel = static_cast<std::uint32_t>(within * kVectorBytes % work.channels);
  PENSTOCK_UNROLL
  for (std::uint32_t part = 0; part < sizeof(T); ++part) {
    Vector16<T> vector;
    PENSTOCK_UNROLL
    for (std::uint32_t k = 0; k < kEach; ++k) {
      vector.element[k] = normalized<T>(work, bytes.element[part * kEach + k], channel);
      channel = channel + 1 == work.channels ? 0 : channel + 1;
    }
    to[part] = vector;
  }
}

// A group of an image with three channels into its three planes, 16 bytes a store.
template <typename T>
PENSTOCK_BOTH inline void store_planes(const ImageWork& work, const Bytes16* group, std::uint64_t at,
                                       std::uint64_t pixels) {
  constexpr std::uint32_t kEach = kVectorBytes / sizeof(T);
  const Bytes16 bytes[3] = {group[0], group[1], group[2]};
  PENSTOCK_UNROLL
  for (std::uint32_t channel = 0; channel < 3; ++channel) {
    auto* const plane = reinterpret_cast<Vector16<T>*>(reinterpret_cast<T*>(work.to) + at + channel * pixels);
    PENSTOCK_UNROLL
    for (std::uint32_t part = 0; part < kGroupPixels / kEach; ++part) {
      Vector16<T> vector;
      PENSTOCK_UNROLL
      for (std::uint32_t k = 0; k < kEach; ++k) {
        const std::uint32_t byte = 3 * (part * kEach + k) + channel;
        vector.element[k] = normalized<T>(work, bytes[byte / kVectorBytes].element[byte % kVectorBytes], channel);
      }
      plane[part] = vector;
    }
  }
}

PENSTOCK_BOTH inline void pixel_item(const ImageWork& work, std::uint32_t image, std::uint64_t within) {
  const std::byte* const from = work.images.base + work.images.offsets[image];
  const auto row = static_cast<std::uint32_t>(within / work.width);
  const auto column = static_cast<std::uint32_t>(within % work.width);
  for (std::uint32_t channel = 0; channel < work.channels; ++channel) {
    const auto pixel = static_cast<std::uint8_t>(from[within * work.channels + channel]);
    store_pixel(work, place_in_result(work, image, row, column, channel), pixel, channel);
  }
}

// Groups [first, first + count) of all images: their bytes side by side into `shared`, then a group a thread.
template <typename T, typename Team>
PENSTOCK_BOTH inline void group_tile(const ImageWork& work, std::uint64_t first, std::uint32_t count,
                                     std::uint64_t items, std::uint8_t* shared, const Team& team) {
  auto* const staged = reinterpret_cast<Bytes16*>(shared);
  const std::uint64_t pixels = std::uint64_t{work.height} * work.width;
  team.each(3 * count, [&](std::uint32_t i) {
    const std::uint64_t group = first + i / 3;
    const auto image = static_cast<std::uint32_t>(group / items);
    const std::byte* const from = work.images.base + work.images.offsets[image];
    staged[i] = load16(from + group % items * kGroupBytes + i % 3 * kVectorBytes);
  });
  team.meet();
  team.each(count, [&](std::uint32_t i) {
    const std::uint64_t group = first + i;
    const std::uint64_t image = group / items;
    store_planes<T>(work, staged + 3 * i, image * pixels * 3 + group % items * kGroupPixels, pixels);
  });
  team.meet();  // before the next tile is staged
}

template <typename T, typename Team>
PENSTOCK_BOTH inline void same_size_as(const ImageWork& work, SameSize way, std::uint32_t images, std::uint32_t block,
                                       std::uint32_t blocks, std::uint32_t threads, std::uint8_t* shared,
                                       const Team& team) {
  const std::uint64_t items = items_each(work, way);
  const std::uint64_t total = items * images;
  for (std::uint64_t first = std::uint64_t{block} * threads; first < total; first += std::uint64_t{blocks} * threads) {
    const auto count = static_cast<std::uint32_t>(total - first < threads ? total - first : threads);
    if (way == SameSize::kGroups) {
      group_tile<T>(work, first, count, items, shared, team);
      continue;
    }
    team.each(count, [&](std::uint32_t i) {
      const std::uint64_t item = first + i;
      const auto image = static_cast<std::uint32_t>(item / items);
      if (way == SameSize::kFlat) return flat_item<T>(work, image, item % items, items);
      pixel_item(work, image, item % items);
    });
  }
}

template <typename Team>
PENSTOCK_BOTH inline void same_size(const ImageWork& work, std::uint32_t images, std::uint32_t block,
                                    std::uint32_t blocks, std::uint32_t threads, std::uint8_t* shared,
                                    const Team& team) {
  const SameSize way = way_of(work);
  if (work.type == PixelType::kUint8) {
    same_size_as<std::uint8_t>(work, way, images, block, blocks, threads, shared, team);
  } else if (work.type == PixelType::kFloat32) {
    same_size_as<float>(work, way, images, block, blocks, threads, shared, team);
  } else {
    same_size_as<std::uint16_t>(work, way, images, block, blocks, threads, shared, team);
  }
}

// ---- images that are resized ----------------------------------------------------------------------------------------

// One tile of one result: the rows of the image that it needs, narrowed into `narrowed`, then blended down.
template <typename Team>
PENSTOCK_BOTH inline void resize_tile(const ImageWork& work, std::uint32_t image, std::uint32_t tile_row,
                                      std::uint32_t tile_column, std::uint8_t* narrowed, const Team& team) {
  const std::byte* const from = work.images.base + work.images.offsets[image];
  const std::uint32_t top = tile_row * work.tile_height;
  const std::uint32_t left = tile_column * work.tile_width;
  const std::uint32_t height = work.height - top < work.tile_height ? work.height - top : work.tile_height;
  const std::uint32_t width = work.width - left < work.tile_width ? work.width - left : work.tile_width;
  const std::uint32_t channels = work.channels;
  const std::uint32_t pitch = work.tile_width * channels;
  const TapOp last = work.rows[top + height - 1];
  const std::uint32_t first_line = work.rows[top].first;
  const std::uint32_t lines = last.first + last.count - first_line;

  team.each(lines * width * channels, [&](std::uint32_t i) {
    const std::uint32_t channel = i % channels;
    const std::uint32_t column = i / channels % width;
    const std::uint32_t line = i / channels / width;
    const TapOp taps = work.columns[left + column];
    const std::byte* const pixels =
        from + (std::uint64_t{first_line + line} * work.from_width + taps.first) * channels + channel;
    std::uint8_t& result = narrowed[line * pitch + column * channels + channel];
    if (work.weights == nullptr) {
      result = static_cast<std::uint8_t>(*pixels);
      return;
    }
    std::int32_t sum = 1 << (kWeightBits - 1);
    for (std::uint32_t x = 0; x < taps.count; ++x) {
      sum += static_cast<std::int32_t>(pixels[std::uint64_t{x} * channels]) * work.weights[taps.at + x];
    }
    result = clamp_pixel(sum);
  });
  team.meet();
  team.each(height * width * channels, [&](std::uint32_t i) {
    const std::uint32_t channel = i % channels;
    const std::uint32_t column = i / channels % width;
    const std::uint32_t row = i / channels / width;
    const TapOp taps = work.rows[top + row];
    const std::uint8_t* const above = narrowed + (taps.first - first_line) * pitch + column * channels + channel;
    std::uint8_t pixel = *above;
    if (work.weights != nullptr) {
      std::int32_t sum = 1 << (kWeightBits - 1);
      for (std::uint32_t y = 0; y < taps.count; ++y) {
        sum += above[std::uint64_t{y} * pitch] * work.weights[work.row_weights + taps.at + y];
      }
      pixel = clamp_pixel(sum);
    }
    store_pixel(work, place_in_result(work, image, top + row, left + column, channel), pixel, channel);
  });
}

PENSTOCK_BOTH inline std::uint32_t tiles_across(const ImageWork& work) {
  return (work.width + work.tile_width - 1) / work.tile_width;
}

PENSTOCK_BOTH inline std::uint32_t tiles_down(const ImageWork& work) {
  return (work.height + work.tile_height - 1) / work.tile_height;
}

// Block `block` of the launch: every so many tiles.
template <typename Team>
PENSTOCK_BOTH inline void images_body(const ImageWork& work, std::uint32_t block, std::uint32_t blocks,
                                      std::uint32_t threads, std::uint8_t* shared, const Team& team) {
  const std::uint32_t images = work.head->rows < work.images_max ? work.head->rows : work.images_max;
  if (work.columns == nullptr) return same_size(work, images, block, blocks, threads, shared, team);
  const std::uint32_t across = tiles_across(work);
  const std::uint32_t down = tiles_down(work);
  const std::uint64_t total = std::uint64_t{images} * across * down;
  for (std::uint64_t tile = block; tile < total; tile += blocks) {
    const auto image = static_cast<std::uint32_t>(tile / (across * down));
    const auto within = static_cast<std::uint32_t>(tile % (across * down));
    resize_tile(work, image, within / across, within % across, shared, team);
    team.meet();  // before the next tile's lines take the place of this one's
  }
}

}  // namespace penstock::device
