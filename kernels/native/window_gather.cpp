#include "window_gather.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <thread>
#include <vector>

// One binary for every x86-64: the loader picks the widest version that the processor has.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define W4RL_VECTOR_VERSIONS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define W4RL_VECTOR_VERSIONS
#endif

#if defined(__GNUC__) || defined(_MSC_VER)
#define W4RL_RESTRICT __restrict
#else
#define W4RL_RESTRICT
#endif

namespace w4rl {
namespace {

// A thread with less to write than this costs more to start than it saves.
constexpr std::size_t kValuesPerThread = std::size_t{1} << 17;
constexpr std::size_t kValuesPerShare = std::size_t{1} << 16;
constexpr std::size_t kBlock = 512;
constexpr std::size_t kCacheLine = 64;

constexpr float normalise(std::uint8_t level) { return static_cast<float>(level) / 127.5F - 1.0F; }

constexpr std::uint16_t round_to_even(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

// No division and no tie: a last bit that float32 would show is gone after rounding to bfloat16.
constexpr std::uint16_t normalise_to_bfloat16(std::uint8_t level) {
    const float value = static_cast<float>(level) * (1.0F / 127.5F) - 1.0F;
    return static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) + 0x8000U) >> 16);
}

constexpr bool every_level_agrees() {
    for (unsigned level = 0; level < 256; ++level) {
        const auto byte = static_cast<std::uint8_t>(level);
        if (normalise_to_bfloat16(byte) != round_to_even(normalise(byte))) return false;
    }
    return true;
}
static_assert(every_level_agrees());

W4RL_VECTOR_VERSIONS
void convert(const std::uint8_t* W4RL_RESTRICT in, float* W4RL_RESTRICT out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) out[i] = normalise(in[i]);
}

W4RL_VECTOR_VERSIONS
void convert(const std::uint8_t* W4RL_RESTRICT in, std::uint16_t* W4RL_RESTRICT out, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) out[i] = normalise_to_bfloat16(in[i]);
}

inline void prefetch([[maybe_unused]] const std::uint8_t* address) {
#if defined(__GNUC__)
    __builtin_prefetch(address);
#endif
}

// Converts one frame while the next one, which lies anywhere, is on its way from memory.
template <typename Value>
void convert_frame(const std::uint8_t* in, const std::uint8_t* following, Value* out, std::size_t pixels) {
    for (std::size_t i = 0; i < pixels; i += kBlock) {
        const std::size_t count = std::min(kBlock, pixels - i);
        for (std::size_t j = i; j < i + count; j += kCacheLine) prefetch(following + j);
        convert(in + i, out + i, count);
    }
}

template <typename Value>
void gather(Frames frames, std::span<const std::int64_t> rows, Value* out, unsigned threads) {
    // Shares are taken, not dealt: a thread that starts late or shares its core leaves more to the others.
    const std::size_t share = std::max<std::size_t>(kValuesPerShare / std::max<std::size_t>(frames.pixels, 1), 1);
    std::atomic<std::size_t> next{0};
    const auto frame = [&](std::size_t i) { return frames.data + static_cast<std::size_t>(rows[i]) * frames.pixels; };
    const auto work = [&] {
        for (std::size_t i = next.fetch_add(share); i < rows.size(); i = next.fetch_add(share)) {
            const std::size_t end = std::min(i + share, rows.size());
            for (std::size_t j = i; j < end; ++j) {
                const auto* following = frame(std::min(j + 1, rows.size() - 1));
                convert_frame(frame(j), following, out + j * frames.pixels, frames.pixels);
            }
        }
    };
    const std::size_t worthwhile = rows.size() * frames.pixels / kValuesPerThread;
    std::vector<std::jthread> helpers;
    for (std::size_t i = 1; i < std::min<std::size_t>(threads, worthwhile); ++i) helpers.emplace_back(work);
    work();
}

}  // namespace

std::ptrdiff_t first_row_outside(std::span<const std::int64_t> rows, std::size_t count) noexcept {
    const auto outside = [count](std::int64_t row) { return row < 0 || static_cast<std::size_t>(row) >= count; };
    const auto found = std::find_if(rows.begin(), rows.end(), outside);
    return found == rows.end() ? -1 : found - rows.begin();
}

void gather_windows(Frames frames, std::span<const std::int64_t> rows, float* out, unsigned threads) {
    gather(frames, rows, out, threads);
}

void gather_windows(Frames frames, std::span<const std::int64_t> rows, std::uint16_t* out, unsigned threads) {
    gather(frames, rows, out, threads);
}

}  // namespace w4rl
