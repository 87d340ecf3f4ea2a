#pragma once

#include <array>

namespace w4rl {

inline constexpr int joints = 7;

using Vector = std::array<double, 3>;
using Quaternion = std::array<double, 4>;  // w, x, y, z
using Matrix = std::array<Vector, 3>;      // a rotation by its columns
using Joints = std::array<double, joints>;

// Origins and axes of the joints (m), then the flange, the tool and how the tool is turned. See reference/kinematics.py.
struct Placement {
    std::array<Vector, joints> origins, axes;
    Vector flange, tool;
    Matrix turn;
};

inline Vector mix(const Vector& a, double s, const Vector& b, double t) noexcept {
    return {s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2]};
}

Placement place(const Joints& angles) noexcept;

Matrix rotation(const Quaternion& q) noexcept;

// The joint step from where the arm is towards a pose, by damped least squares; what the pose leaves free goes along drift.
Joints reach(const Placement& arm, const Vector& position, const Matrix& turn, const Joints& drift,
             double damping) noexcept;

}  // namespace w4rl
