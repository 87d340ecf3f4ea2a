#pragma once

#include <array>
#include <cstdint>

#include "kinematics.hpp"
#include "route.hpp"
#include "tracker.hpp"

namespace w4rl {

// The numbers of protocol.py.
enum class Kind : std::int64_t { joints = 1, poses = 2, rest = 3, reset = 4 };
enum class Mode : std::int64_t { off = 0, ready, follow, hold, stop, fault };
enum class Fault : std::int64_t { none = 0, stale, astray, sensor, internal };
namespace flag {
inline constexpr std::int64_t taken = 1, not_finite = 2, shape = 4, range = 8, jump = 16, time = 32, latched = 64,
                              wall = 128, braked = 256;
}

// A target as it lies in memory that two processes share: eight bytes a field.
struct Message {
    std::int64_t number = 0, kind = 0, count = 0;
    double width = -1.0;
    std::array<double, points> times{};
    std::array<Point, points> values{};
};

struct Box {
    Vector low, high;
};

inline constexpr int parts = 7, most_boxes = 16;

struct Settings {
    std::array<Axis, joints> axes{};
    Joints posture{};
    Box walls{};
    std::array<Box, most_boxes> keep_out{};
    int boxes = 0;
    std::array<double, parts> radii{};
    std::array<std::int64_t, 3> patience{};
    Vector jump{};
    Joints give{};
    std::int64_t fading = 0;
    double lead = 0.0, astray = 0.0, opening = 0.0;
};

// One arm's command, a tick at a time: targets in, positions out, within the limits whatever comes. It knows no clock, no
// socket and no Python, allocates nothing, waits for nothing and throws nothing. reference/servo.py is its definition.
class Servo {
public:
    explicit Servo(const Settings& settings) noexcept : settings_(settings) {}

    bool start(const Joints& angles) noexcept;
    void step(const Message* message, const Joints* measured, std::int64_t elapsed) noexcept;
    bool still() const noexcept;

    std::int64_t tick = 0, number = 0, age = 0, flags = 0, taken = 0, refused = 0, joined = 0;
    Mode mode = Mode::off;
    Fault fault = Fault::none;
    double width = -1.0;  // below 0: nobody has asked for one yet
    std::array<Motion, joints> motions{};
    Joints goal{};

private:
    void compare(const Joints& measured) noexcept;
    void fail(Fault cause) noexcept;
    void brake() noexcept;
    void take(const Message& message) noexcept;
    std::int64_t judge(const Message& message) noexcept;
    std::int64_t faulty(const Message& message) const noexcept;
    std::int64_t join(const Message& message) noexcept;
    void watch() noexcept;
    void move() noexcept;
    void aim() noexcept;
    Joints within_give() const noexcept;
    bool safe(const std::array<Motion, joints>& then) const noexcept;
    double room(const Placement& arm) const noexcept;
    Joints rests(const std::array<Motion, joints>& from) const noexcept;

    Settings settings_;
    Route route_{};
    Joints measured_{}, target_{};
    bool routed_ = false, poses_ = false, felt_ = false;
};

}  // namespace w4rl
