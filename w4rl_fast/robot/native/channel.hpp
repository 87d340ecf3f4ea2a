#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "servo.hpp"

namespace w4rl {

// The newest value of one writer for one reader, in memory that both share. Neither waits for the other, and one that dies,
// at whatever moment, leaves the last whole value and a mailbox that its successor can go on with: of three slots each side
// owns one and the third changes hands, and who owns which is one word that changes at once.
template <typename Value>
class Latest {
public:
    // The writer's slot; `publish` makes it the newest.
    Value& draft() noexcept { return slots_[writing(owners_.load(std::memory_order_relaxed))]; }

    // Release: what was written before is seen by whoever takes the slot. Acquire: the slot that comes back has been read.
    void publish() noexcept {
        std::uint32_t now = owners_.load(std::memory_order_relaxed);
        while (!owners_.compare_exchange_weak(now, word(shared(now), reading(now), writing(now)) | fresh,
                                              std::memory_order_acq_rel, std::memory_order_relaxed)) {
        }
    }

    // The newest whole value; it stays as it is until the next call.
    const Value& newest() noexcept {
        std::uint32_t now = owners_.load(std::memory_order_relaxed);
        while ((now & fresh) && !owners_.compare_exchange_weak(now, word(writing(now), shared(now), reading(now)),
                                                               std::memory_order_acq_rel, std::memory_order_relaxed)) {
        }
        return slots_[reading(owners_.load(std::memory_order_relaxed))];
    }

private:
    static constexpr std::uint32_t fresh = 64;
    static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

    static constexpr std::uint32_t word(std::uint32_t writes, std::uint32_t reads, std::uint32_t waits) noexcept {
        return writes | reads << 2 | waits << 4;
    }
    static constexpr std::uint32_t writing(std::uint32_t owners) noexcept { return owners & 3; }
    static constexpr std::uint32_t reading(std::uint32_t owners) noexcept { return owners >> 2 & 3; }
    static constexpr std::uint32_t shared(std::uint32_t owners) noexcept { return owners >> 4 & 3; }

    alignas(64) std::atomic<std::uint32_t> owners_{word(0, 1, 2)};
    alignas(64) std::array<Value, 3> slots_{};
};

// What the servo says after each tick: eight bytes a field. The names and units are in protocol.py.
struct Report {
    std::int64_t tick = 0, mode = 0, fault = 0, flags = 0, number = 0, joined = 0, age = 0, taken = 0, refused = 0;
    std::int64_t missed = 0, longest = 0, state = 0, stamp = 0;
    Joints command{}, speed{}, acceleration{}, goal{}, measured{}, measured_speed{};
    double width = 0.0, opening = 0.0;
    std::int64_t duration = 0;
};

struct Sample {
    std::int64_t tick = 0, mode = 0, flags = 0, duration = 0;
    double width = 0.0;
    Joints command{};
};

// How often a time was how long, to three per cent: 32 parts of every power of two of nanoseconds.
class Histogram {
public:
    static constexpr int parts_bits = 5, parts = 1 << parts_bits, powers = 36;

    void add(std::int64_t time) noexcept {
        const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(time, 0));
        const int power = std::max(0, static_cast<int>(std::bit_width(value)) - 1 - parts_bits);
        const auto place = static_cast<std::size_t>(power * parts) + static_cast<std::size_t>(value >> power);
        ++counts_[std::min(place, counts_.size() - 1)];
    }

private:
    std::array<std::int64_t, powers * parts> counts_{};
};

inline constexpr std::int64_t samples = 16'384;

// All that a policy's process and a servo's process share.
struct Channel {
    std::int64_t magic = mark, size = sizeof(Channel);
    // What the policy's process asks the servo's for besides targets: nothing, to leave, to recover (protocol.py: Wish).
    std::atomic<std::int64_t> wish{0};
    // How far the fingers are apart (m), where a hand of its own process says so; below 0: nobody does. While they move
    // the hand is deaf and dumb: where they move to (below 0: they stand) and how fast (m/s).
    std::atomic<double> opening{-1.0}, toward{-1.0}, pace{0.0};
    std::int64_t posted = 0;
    Latest<Message> targets;
    Latest<Report> reports;
    // Between the steps of the servo, and inside them.
    Histogram intervals, durations;
    // The last ticks, whole from the newest backwards except for the one that is being written.
    std::atomic<std::int64_t> recorded{0};
    std::array<Sample, samples> record{};

    static constexpr std::int64_t mark = 0x7734'726c'0001;
};

}  // namespace w4rl
