#include "tracker.hpp"

#include <algorithm>
#include <cmath>

namespace w4rl {
namespace {

constexpr int trials = 24;
constexpr double close = 1e-9;

inline Brake braking(double speed, double acceleration, const Power& power, const Axis& axis) noexcept {
    const double way = speed + 0.5 * axis.ease * acceleration * std::abs(acceleration) < 0.0 ? -1.0 : 1.0;
    const double v = way * speed, a = way * acceleration;
    const double h = axis.jerk * v + 0.5 * a * a;
    if (a >= -power.most && h <= power.square) {
        const double peak = std::sqrt(std::max(h, 0.0));
        return {way, -1.0, (a + peak) * axis.ease, 0.0, peak};
    }
    const double turn = a >= -power.most ? -1.0 : 1.0;
    const double lead = turn * (-power.most - a) * axis.ease;
    return {way, turn, lead, (v + lead * (a + 0.5 * turn * axis.jerk * lead) - power.tail) * power.inverse, power.most};
}

inline double distance_of(const Brake& by, double speed, double acceleration, const Axis& axis) noexcept {
    double v = by.way * speed;
    const double a = by.way * acceleration, t = by.lead;
    double distance = t * (v + t * (0.5 * a + by.turn * axis.sixth * t));
    if (by.hold > 0.0) {
        v = v + t * (a + 0.5 * by.turn * axis.jerk * t);
        distance = distance + by.hold * (v - 0.5 * by.peak * by.hold);
    }
    return by.way * (distance + by.peak * by.peak * by.peak * axis.cube);
}

double highest_jerk(double v, double a, const Axis& axis) noexcept {
    const double reach = axis.speed - v - 0.5 * tick * a;
    double most;
    if (reach >= 0.0) {
        const double half = 0.5 * axis.jerk * tick;
        most = std::sqrt(half * half + 2.0 * axis.jerk * reach) - half;
    } else {
        most = 2.0 * reach / tick;
    }
    const double jerk = (std::min(most, axis.acceleration) - a) / tick;
    return std::max(-axis.jerk, std::min(axis.jerk, jerk));
}

Motion advance(const Motion& m, double jerk) noexcept {
    return {m.position + tick * (m.speed + tick * (0.5 * m.acceleration + jerk * tick / 6.0)),
            m.speed + tick * (m.acceleration + 0.5 * jerk * tick), m.acceleration + jerk * tick};
}

// Where the joint would come to rest after one tick of a jerk, seen from what moves at `at` and is then at `of`.
struct Beyond {
    const Motion& motion;
    double of, at;
    const Power& power;
    const Axis& axis;
    double operator()(double jerk) const noexcept {
        const Motion then = advance(motion, jerk);
        const double speed = then.speed - at;
        const Brake by = braking(speed, then.acceleration, power, axis);
        return then.position - of + distance_of(by, speed, then.acceleration, axis);
    }
};

// Two jerks, closer and closer to each other, between which a rising function passes zero, and what it is there.
struct Pair {
    double low, below, high, above;
};

Pair between(const Beyond& function, double low, double high) noexcept {
    double above = function(high);
    if (above <= 0.0) return {high, above, high, above};
    bool known = false;
    double below = 0.0;
    if (low < 0.0 && 0.0 < high) {  // most of a stop needs no jerk
        const double value = function(0.0);
        if (value <= 0.0) {
            low = 0.0;
            below = value;
            known = true;
        } else {
            high = 0.0;
            above = value;
        }
    }
    if (!known) {
        below = function(low);
        if (below >= 0.0) return {low, below, low, below};
    }
    double left = below, right = above;
    int side = 0;
    for (int trial = 0; trial < trials; ++trial) {
        if (-below < close || above < close || high - low < 1e-6) break;
        const double middle = low + (high - low) * (left / (left - right));
        const double value = function(middle);
        if (value <= 0.0) {
            low = middle;
            below = left = value;
            if (side < 0) right = 0.5 * right;
            side = -1;
        } else {
            high = middle;
            above = right = value;
            if (side > 0) left = 0.5 * left;
            side = 1;
        }
    }
    return {low, below, high, above};
}

// The first of three jerks that end exactly on the target; false where they would have to be too large.
bool arriving(const Motion& motion, double target, double speed, double most, double& first) noexcept {
    double p = (motion.position - (target - speed * tick)) / (tick * tick * tick);
    double v = (motion.speed - speed) / (tick * tick);
    double a = motion.acceleration / tick;
    for (int number = 0; number < 3; ++number) {
        const double jerk = -(p + 2.0 * v + 11.0 / 6.0 * a);
        if (std::abs(jerk) > most) return false;
        if (number == 0) first = jerk;
        p = p + v + 0.5 * a + jerk / 6.0;
        v = v + a + 0.5 * jerk;
        a = a + jerk;
    }
    return true;
}

}  // namespace

Brake brake(const Motion& motion, const Power& power, const Axis& axis) noexcept {
    return braking(motion.speed, motion.acceleration, power, axis);
}

double stopping(const Brake& by, const Motion& motion, const Axis& axis) noexcept {
    return distance_of(by, motion.speed, motion.acceleration, axis);
}

double lasting(const Brake& by, const Axis& axis) noexcept { return by.lead + by.hold + by.peak * axis.ease; }

double coasting(const Brake& by, const Motion& motion, const Axis& axis, double time) noexcept {
    double v = by.way * motion.speed;
    const double a = by.way * motion.acceleration;
    double t = std::min(time, by.lead);
    double distance = t * (v + t * (0.5 * a + by.turn * axis.sixth * t));
    v = v + t * (a + 0.5 * by.turn * axis.jerk * t);
    t = std::min(std::max(time - by.lead, 0.0), by.hold);
    distance = distance + t * (v - 0.5 * by.peak * t);
    v = v - by.peak * t;
    t = std::min(std::max(time - by.lead - by.hold, 0.0), by.peak * axis.ease);
    return by.way * (distance + t * (v + t * (axis.sixth * t - 0.5 * by.peak)));
}

double rest(const Motion& motion, const Power& power, const Axis& axis) noexcept {
    const Brake by = braking(motion.speed, motion.acceleration, power, axis);
    return motion.position + distance_of(by, motion.speed, motion.acceleration, axis);
}

Motion follow(const Motion& motion, double target, double speed, const Axis& axis) noexcept {
    if (!(axis.low <= target && target <= axis.high)) {
        target = std::min(std::max(target, axis.low), axis.high);
        speed = 0.0;
    }
    const double up = highest_jerk(motion.speed, motion.acceleration, axis);
    const double down = -highest_jerk(-motion.speed, -motion.acceleration, axis);
    double jerk = 0.0;
    if (!arriving(motion, target, speed, axis.jerk, jerk) || !(down <= jerk && jerk <= up)) {
        const Pair pair = between(Beyond{motion, target, speed, axis.braking, axis}, down, up);
        jerk = -pair.below <= pair.above ? pair.low : pair.high;
    }
    const Beyond top{motion, axis.high, 0.0, axis.ending, axis};
    const Beyond bottom{motion, axis.low, 0.0, axis.ending, axis};
    if (motion.position > axis.high - axis.longest && top(jerk) > 0.0) {
        jerk = between(top, down, jerk).low;
    } else if (motion.position < axis.low + axis.longest && bottom(jerk) < 0.0) {
        jerk = between(bottom, jerk, up).high;
    }
    const Motion then = advance(motion, jerk);
    if (speed == 0.0 && std::abs(then.position - target) < 1e-12 && std::abs(then.speed) < 1e-9 &&
        std::abs(then.acceleration) < 1e-6)
        return {target, 0.0, 0.0};
    return then;
}

}  // namespace w4rl
