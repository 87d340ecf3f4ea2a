#pragma once

namespace w4rl {

// What a joint brakes with, and what follows from that and from its jerk. See reference/tracker.py, which all this repeats.
struct Power {
    double most, inverse, square, tail, end;
};

// One joint's limits as the tracker uses them: rad, rad/s, rad/s2, rad/s3.
struct Axis {
    double low, high, speed, acceleration, jerk, ease, sixth, cube, longest;
    Power braking, ending;
};

struct Motion {
    double position = 0.0, speed = 0.0, acceleration = 0.0;
};

inline constexpr double tick = 0.001;

// How a joint stops: with jerk for `lead`, at `peak` against its way for `hold`, then easing.
struct Brake {
    double way, turn, lead, hold, peak;
};

Brake brake(const Motion& motion, const Power& power, const Axis& axis) noexcept;

// How far a joint goes until it rests, how long that takes, and how far it has gone after some time of it.
double stopping(const Brake& by, const Motion& motion, const Axis& axis) noexcept;
double lasting(const Brake& by, const Axis& axis) noexcept;
double coasting(const Brake& by, const Motion& motion, const Axis& axis, double time) noexcept;

// Where a joint comes to rest if it brakes at once.
double rest(const Motion& motion, const Power& power, const Axis& axis) noexcept;

// The motion a tick later on its way to a target that will be at `target` then, at `speed`.
Motion follow(const Motion& motion, double target, double speed, const Axis& axis) noexcept;

}  // namespace w4rl
