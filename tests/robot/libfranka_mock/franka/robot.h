#pragma once

#include <franka/control_types.h>
#include <franka/duration.h>
#include <franka/robot_state.h>

#include <array>
#include <functional>
#include <string>

namespace franka {

enum class RealtimeConfig { kEnforce, kIgnore };
enum class ControllerMode { kJointImpedance, kCartesianImpedance };
constexpr double kMaxCutoffFrequency = 1000.0;

class Robot {
public:
    explicit Robot(const std::string& address, RealtimeConfig config = RealtimeConfig::kEnforce, size_t log_size = 50);
    void setJointImpedance(const std::array<double, 7>& stiffness);
    void automaticErrorRecovery();
    void control(std::function<JointPositions(const RobotState&, Duration)> callback,
                 ControllerMode mode = ControllerMode::kJointImpedance, bool limit_rate = false,
                 double cutoff_frequency = 100.0);
};

}  // namespace franka
