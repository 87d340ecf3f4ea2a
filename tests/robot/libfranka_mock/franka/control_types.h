#pragma once

#include <array>

namespace franka {

struct JointPositions {
    JointPositions(const std::array<double, 7>& joint_positions) noexcept;
    std::array<double, 7> q{};
    bool motion_finished = false;
};

JointPositions MotionFinished(JointPositions command) noexcept;

}  // namespace franka
