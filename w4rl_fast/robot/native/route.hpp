#pragma once

#include <array>
#include <cstdint>

#include "kinematics.hpp"

namespace w4rl {

inline constexpr int points = 32;

// Seven angles (rad), or a position (m) and a unit quaternion.
using Point = std::array<double, 7>;

// Rising times (ticks) and their points; what was left of the last route fades. See reference/route.py.
struct Route {
    int count = 0;
    std::array<double, points> times{};
    std::array<Point, points> values{};
    std::int64_t begin = 0, fading = 0;
    Point left{};
};

Joints joints_at(const Route& route, double now) noexcept;
Point pose_at(const Route& route, double now) noexcept;

Quaternion unit(const Quaternion& q) noexcept;
Quaternion times(const Quaternion& p, const Quaternion& q) noexcept;
Quaternion quaternion(const Matrix& turn) noexcept;

inline Quaternion turn_of(const Point& pose) noexcept { return {pose[3], pose[4], pose[5], pose[6]}; }
inline Quaternion inverse(const Quaternion& q) noexcept { return {q[0], -q[1], -q[2], -q[3]}; }

}  // namespace w4rl
