#include "franka.hpp"

#include <franka/control_types.h>
#include <franka/duration.h>
#include <franka/robot.h>
#include <franka/robot_state.h>
#include <unistd.h>

namespace w4rl {

std::int64_t serve_franka(Driver& driver, const std::string& host, const Joints& stiffness, bool enforce, bool recover) {
    franka::Robot robot(host, enforce ? franka::RealtimeConfig::kEnforce : franka::RealtimeConfig::kIgnore);
    robot.setJointImpedance(stiffness);
    if (recover) robot.automaticErrorRecovery();
    const auto parent = getppid();
    std::int64_t wish = 0;
    bool begun = false;
    const auto step = [&](const franka::RobotState& state, franka::Duration period) -> franka::JointPositions {
        if (!begun) {
            begun = true;
            if (!driver.start(state.q_d)) return franka::MotionFinished(franka::JointPositions(state.q_d));
        }
        const auto elapsed = static_cast<std::int64_t>(period.toMSec());
        driver.step(&state.q, &state.dq, 0.0, elapsed > 0 ? elapsed : 1);
        const franka::JointPositions command(driver.command());
        if (wish == 0) wish = driver.wish();
        const Mode mode = driver.servo().mode;
        const bool orphaned = getppid() != parent && (mode == Mode::fault || mode == Mode::ready);
        if ((wish != 0 || orphaned) && driver.servo().still()) return franka::MotionFinished(command);
        return command;
    };
    // Limits are the servo's: libfranka's own rate limiter takes one lost packet for a discontinuity.
    robot.control(step, franka::ControllerMode::kJointImpedance, false, franka::kMaxCutoffFrequency);
    return wish;
}

}  // namespace w4rl
