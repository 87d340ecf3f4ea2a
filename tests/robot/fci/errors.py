"""Names of libfranka's 41 error flags by their bit on the wire.

Derived, not looked up: a server sent states with a single bit set in `errors` and the next one in `reflex_reason`, and
pylibfranka 0.21.3 (protocol 10) told which attribute of `current_errors` and of `last_motion_errors` had become true.
Both fields have the same order, and `reflex_reason` is what libfranka quotes in a `ControlException`.
"""

FLAGS = (
    "joint_position_limits_violation",
    "cartesian_position_limits_violation",
    "self_collision_avoidance_violation",
    "joint_velocity_violation",
    "cartesian_velocity_violation",
    "force_control_safety_violation",
    "joint_reflex",
    "cartesian_reflex",
    "max_goal_pose_deviation_violation",
    "max_path_pose_deviation_violation",
    "cartesian_velocity_profile_safety_violation",
    "joint_position_motion_generator_start_pose_invalid",
    "joint_motion_generator_position_limits_violation",
    "joint_motion_generator_velocity_limits_violation",
    "joint_motion_generator_velocity_discontinuity",
    "joint_motion_generator_acceleration_discontinuity",
    "cartesian_position_motion_generator_start_pose_invalid",
    "cartesian_motion_generator_elbow_limit_violation",
    "cartesian_motion_generator_velocity_limits_violation",
    "cartesian_motion_generator_velocity_discontinuity",
    "cartesian_motion_generator_acceleration_discontinuity",
    "cartesian_motion_generator_elbow_sign_inconsistent",
    "cartesian_motion_generator_start_elbow_invalid",
    "force_controller_desired_force_tolerance_violation",
    "start_elbow_sign_inconsistent",
    "communication_constraints_violation",
    "power_limit_violation",
    "cartesian_motion_generator_joint_position_limits_violation",
    "cartesian_motion_generator_joint_velocity_limits_violation",
    "cartesian_motion_generator_joint_velocity_discontinuity",
    "cartesian_motion_generator_joint_acceleration_discontinuity",
    "cartesian_position_motion_generator_invalid_frame",
    "controller_torque_discontinuity",
    "joint_p2p_insufficient_torque_for_planning",
    "tau_j_range_violation",
    "instability_detected",
    "joint_move_in_wrong_direction",
    "cartesian_spline_motion_generator_violation",
    "joint_via_motion_generator_planning_joint_limit_violation",
    "base_acceleration_initialization_timeout",
    "base_acceleration_invalid_reading",
)

START = "joint_position_motion_generator_start_pose_invalid"
POSITION = "joint_motion_generator_position_limits_violation"
VELOCITY = "joint_motion_generator_velocity_limits_violation"
ACCELERATION = "joint_motion_generator_velocity_discontinuity"
JERK = "joint_motion_generator_acceleration_discontinuity"
COMMUNICATION = "communication_constraints_violation"
TORQUE = "tau_j_range_violation"


def flags(names: tuple[str, ...]) -> tuple[bool, ...]:
    """The 41 flags of a state in which exactly these errors are set."""
    unknown = set(names) - set(FLAGS)
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no errors of libfranka; take names from FLAGS")
    return tuple(name in names for name in FLAGS)
