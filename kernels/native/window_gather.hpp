#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace w4rl {

// Frames of one size in one block of memory, uint8.
struct Frames {
    const std::uint8_t* data;
    std::size_t count;
    std::size_t pixels;  // bytes of one frame: height x width x channels
};

// Position of the first row outside [0, count), or -1 if there is none.
std::ptrdiff_t first_row_outside(std::span<const std::int64_t> rows, std::size_t count) noexcept;

// out[i] = frames[rows[i]] / 127.5 - 1 in float32, then rounded to nearest even for bfloat16 (stored as uint16).
// `out` holds rows.size() x frames.pixels values; rows must lie inside; at most `threads` threads work, this one included.
void gather_windows(Frames frames, std::span<const std::int64_t> rows, float* out, unsigned threads);
void gather_windows(Frames frames, std::span<const std::int64_t> rows, std::uint16_t* out, unsigned threads);

}  // namespace w4rl
