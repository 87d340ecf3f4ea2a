#include "servo.hpp"

#include <algorithm>
#include <cmath>

namespace w4rl {
namespace {

constexpr double far = 10'000.0, longest = 2.0,
                 slack = 0.002, inside = 0.004, lever = 1.2, tiny = 1e-12, damping = 0.03, homing = 0.0005;
constexpr int looks = 8;

bool finite(const Joints& angles) noexcept {
    return std::all_of(angles.begin(), angles.end(), [](double q) { return std::isfinite(q); });
}

Joints positions(const std::array<Motion, joints>& motions) noexcept {
    Joints angles;
    for (int i = 0; i < joints; ++i) angles[i] = motions[i].position;
    return angles;
}

double clamp(double value, double low, double high) noexcept { return std::max(low, std::min(high, value)); }

// Whether two neighbours differ by more than `most` in one of the first columns.
bool jumps(const Route& route, int columns, double most) noexcept {
    for (int i = 0; i < route.count - 1; ++i)
        for (int k = 0; k < columns; ++k)
            if (std::abs(route.values[i + 1][k] - route.values[i][k]) > most) return true;
    return false;
}

bool twisted(const Quaternion& turn, double most) noexcept {
    return std::abs(turn[1]) > most || std::abs(turn[2]) > most || std::abs(turn[3]) > most;
}

bool twists(const Route& route, double most) noexcept {
    for (int i = 0; i < route.count - 1; ++i)
        if (twisted(times(turn_of(route.values[i + 1]), inverse(turn_of(route.values[i]))), most)) return true;
    return false;
}

}  // namespace

bool Servo::start(const Joints& angles) noexcept {
    if (!finite(angles)) return false;
    for (int i = 0; i < joints; ++i)
        if (!(settings_.axes[i].low <= angles[i] && angles[i] <= settings_.axes[i].high)) return false;
    if (room(place(angles)) < slack) return false;
    for (int i = 0; i < joints; ++i) motions[i] = {angles[i], 0.0, 0.0};
    goal = target_ = angles;
    mode = Mode::ready;
    fault = Fault::none;
    flags = age = 0;
    routed_ = false;
    return true;
}

void Servo::step(const Message* message, const Joints* measured, std::int64_t elapsed) noexcept {
    flags = 0;
    if (mode == Mode::off) return;
    felt_ = measured != nullptr;
    if (felt_) {
        measured_ = *measured;
        compare(measured_);
    }
    if (message != nullptr && message->number != number) take(*message);
    for (std::int64_t k = 0; k < elapsed; ++k) {
        watch();
        move();
        ++tick;
        ++age;
    }
}

void Servo::compare(const Joints& measured) noexcept {
    if (!finite(measured)) return fail(Fault::sensor);
    for (int i = 0; i < joints; ++i)
        if (std::abs(measured[i] - motions[i].position) > settings_.astray) return fail(Fault::astray);
}

void Servo::fail(Fault cause) noexcept {
    if (mode == Mode::fault) return;
    mode = Mode::fault;
    fault = cause;
    brake();
}

// From now on the goal is where each joint comes to rest if it brakes at once.
void Servo::brake() noexcept {
    goal = target_ = rests(motions);
    routed_ = false;
}

Joints Servo::rests(const std::array<Motion, joints>& from) const noexcept {
    Joints angles;
    for (int i = 0; i < joints; ++i) angles[i] = rest(from[i], settings_.axes[i].braking, settings_.axes[i]);
    return angles;
}

bool Servo::still() const noexcept {
    return std::all_of(motions.begin(), motions.end(),
                       [](const Motion& m) { return m.speed == 0.0 && m.acceleration == 0.0; });
}

void Servo::take(const Message& message) noexcept {
    number = message.number;
    const std::int64_t said = judge(message);
    flags |= said;
    if (said & flag::taken) {
        ++taken;
        joined = tick;
    } else {
        ++refused;
    }
}

std::int64_t Servo::judge(const Message& message) noexcept {
    if (message.kind == static_cast<std::int64_t>(Kind::reset)) {
        if (mode != Mode::fault || fault != Fault::stale || !still()) return flag::latched;
        mode = Mode::ready;
        fault = Fault::none;
        age = 0;
        return flag::taken;
    }
    if (mode == Mode::fault) return flag::latched;
    if (message.kind == static_cast<std::int64_t>(Kind::rest)) {
        brake();
        mode = Mode::ready;
        age = 0;
        return flag::taken;
    }
    std::int64_t said = faulty(message);
    if (said != 0) return said;
    said = join(message);
    if (said & flag::taken) {
        mode = Mode::follow;
        age = 0;
        if (message.width >= 0.0) width = std::min(message.width, settings_.opening);
    }
    return said;
}

// What is wrong with a message by itself.
std::int64_t Servo::faulty(const Message& message) const noexcept {
    const bool angles = message.kind == static_cast<std::int64_t>(Kind::joints);
    if ((!angles && message.kind != static_cast<std::int64_t>(Kind::poses)) || message.count < 1 ||
        message.count > points)
        return flag::shape;
    if (!std::isfinite(message.width)) return flag::not_finite;
    for (int i = 0; i < message.count; ++i)
        if (!std::isfinite(message.times[i]) || !finite(message.values[i])) return flag::not_finite;
    for (int i = 0; i < message.count - 1; ++i)
        if (message.times[i + 1] <= message.times[i]) return flag::shape;
    const double now = static_cast<double>(tick);
    if (message.times[0] < now - far || message.times[message.count - 1] > now + far) return flag::time;
    for (int i = 0; i < message.count; ++i) {
        const Point& point = message.values[i];
        if (angles) {
            for (int k = 0; k < joints; ++k)
                if (!(settings_.axes[k].low <= point[k] && point[k] <= settings_.axes[k].high)) return flag::range;
            continue;
        }
        for (int k = 0; k < 3; ++k)
            if (std::abs(point[k]) > longest) return flag::range;
        const double square = point[3] * point[3] + point[4] * point[4] + point[5] * point[5] + point[6] * point[6];
        if (std::abs(square - 1.0) > 1e-3) return flag::shape;
    }
    return 0;
}

// Let a route take over where the goal is now, if it does not jump.
std::int64_t Servo::join(const Message& message) noexcept {
    std::int64_t said = flag::taken;
    Route fresh;
    fresh.count = static_cast<int>(message.count);
    fresh.times = message.times;
    fresh.values = message.values;
    const bool poses = message.kind == static_cast<std::int64_t>(Kind::poses);
    const double now = static_cast<double>(tick);
    if (!poses) {
        const Joints start = joints_at(fresh, now);
        for (int k = 0; k < joints; ++k) {
            fresh.left[k] = goal[k] - start[k];
            if (std::abs(fresh.left[k]) > settings_.jump[0]) return flag::jump;
        }
        if (jumps(fresh, joints, settings_.jump[0])) return flag::jump;
    } else {
        for (int i = 0; i < fresh.count; ++i) {
            Point& point = fresh.values[i];
            for (int k = 0; k < 3; ++k) {
                const double kept =
                    clamp(point[k], settings_.walls.low[k] + inside, settings_.walls.high[k] - inside);
                if (kept != point[k]) said |= flag::wall;
                point[k] = kept;
            }
            const Quaternion turn = unit(turn_of(point));
            for (int k = 0; k < 4; ++k) point[3 + k] = turn[k];
        }
        const Placement arm = place(goal);
        const Point start = pose_at(fresh, now);
        Vector asked = arm.tool;  // or what the last route asks for, which the tool may not reach
        if (routed_ && poses_) {
            const Point place = pose_at(route_, now);
            asked = {place[0], place[1], place[2]};
        }
        for (int k = 0; k < 3; ++k) {
            fresh.left[k] = arm.tool[k] - start[k];
            if (std::abs(asked[k] - start[k]) > settings_.jump[1]) return flag::jump;
        }
        const Quaternion turn = times(quaternion(arm.turn), inverse(turn_of(start)));
        if (jumps(fresh, 3, settings_.jump[1]) || twisted(turn, settings_.jump[2]) ||
            twists(fresh, settings_.jump[2]))
            return flag::jump;
        for (int k = 0; k < 4; ++k) fresh.left[3 + k] = turn[k];
    }
    fresh.begin = tick;
    fresh.fading = settings_.fading;
    route_ = fresh;
    routed_ = true;
    poses_ = poses;
    return said;
}

void Servo::watch() noexcept {
    const auto [hold, stop, latch] = settings_.patience;
    if (mode == Mode::follow && age >= hold) mode = Mode::hold;
    if (mode == Mode::hold && age >= stop) {
        mode = Mode::stop;
        brake();
    }
    if (mode == Mode::stop && age >= latch) {
        mode = Mode::fault;
        fault = Fault::stale;
    }
}

void Servo::move() noexcept {
    const Joints before = target_;
    aim();
    target_ = within_give();
    std::array<Motion, joints> then;
    for (int i = 0; i < joints; ++i) {
        const Axis& axis = settings_.axes[i];
        then[i] = follow(motions[i], target_[i], clamp((target_[i] - before[i]) / w4rl::tick, -axis.speed, axis.speed),
                         axis);
    }
    if (!safe(then)) {
        flags |= flag::braked;
        const Joints ends = rests(motions);
        for (int i = 0; i < joints; ++i) then[i] = follow(motions[i], ends[i], 0.0, settings_.axes[i]);
        goal = target_ = rests(then);
    }
    for (const Motion& m : then)
        if (!std::isfinite(m.position) || !std::isfinite(m.speed) || !std::isfinite(m.acceleration))
            return fail(Fault::internal);
    motions = then;
}

// Bring the goal to where the route is at the end of this tick.
void Servo::aim() noexcept {
    if (!routed_) return;
    const double now = static_cast<double>(tick + 1);
    if (!poses_) {
        goal = joints_at(route_, now);
        return;
    }
    Point pose = pose_at(route_, now);
    if (felt_) {
        const Vector tool = place(measured_).tool;
        for (int k = 0; k < 3; ++k) pose[k] = clamp(pose[k], tool[k] - settings_.lead, tool[k] + settings_.lead);
    }
    Joints drift;
    for (int k = 0; k < joints; ++k) drift[k] = homing * (settings_.posture[k] - goal[k]);
    const Joints step = reach(place(goal), {pose[0], pose[1], pose[2]}, rotation(turn_of(pose)), drift, damping);
    double share = 1.0;
    for (int k = 0; k < joints; ++k)
        share = std::min(share, settings_.axes[k].speed * w4rl::tick / std::max(std::abs(step[k]), tiny));
    for (int k = 0; k < joints; ++k)
        goal[k] = clamp(goal[k] + share * step[k], settings_.axes[k].low, settings_.axes[k].high);
}

// The goal, but no further beyond where each joint is measured than it may push, and what it needs to stop: the less of
// that, the more it already leads. All joints keep back by the same share, which one that is
// pushed back beyond its own takes to zero.
Joints Servo::within_give() const noexcept {
    if (!routed_ || !felt_) return goal;
    double share = 1.0, relief = 1.0;
    for (int k = 0; k < joints; ++k) {
        const double give = settings_.give[k];
        const double stop = rest(motions[k], settings_.axes[k].braking, settings_.axes[k]) - motions[k].position;
        const double lead = motions[k].position - measured_[k];
        const double above = give + std::max(stop, 0.0) * clamp(1.0 - lead / give, 0.0, 1.0);
        const double below = give - std::min(stop, 0.0) * clamp(1.0 + lead / give, 0.0, 1.0);
        share = std::min(share, std::min(above / std::max(goal[k] - measured_[k], tiny),
                                         below / std::max(measured_[k] - goal[k], tiny)));
        relief = std::min(relief, std::max(0.0, 2.25 - std::abs(lead) / give));
    }
    share = share * relief;
    if (share >= 1.0) return goal;
    Joints kept;
    for (int k = 0; k < joints; ++k) kept[k] = measured_[k] + share * (goal[k] - measured_[k]);
    return kept;
}

// Whether the arm is in the workspace after this tick, and stays there if it then brakes at once. One that came too
// close to a wall may go away from it, and along it, but no closer.
bool Servo::safe(const std::array<Motion, joints>& then) const noexcept {
    double space = room(place(positions(then)));
    double least = slack;
    if (space < least) {
        least = std::min(least, room(place(positions(motions))));
        if (space < least) return false;
    }
    std::array<Brake, joints> stops;
    double swing = 0.0, last = 0.0;
    for (int i = 0; i < joints; ++i) {
        const Axis& axis = settings_.axes[i];
        stops[i] = w4rl::brake(then[i], axis.braking, axis);
        swing = swing + std::abs(stopping(stops[i], then[i], axis));
        last = std::max(last, lasting(stops[i], axis));
    }
    if (space >= least + lever * swing) return true;
    Joints base = positions(then);
    for (int look = 1; look <= looks; ++look) {
        const double time = last * look / looks;
        Joints angles;
        double way = 0.0;
        for (int i = 0; i < joints; ++i) {
            angles[i] = then[i].position + coasting(stops[i], then[i], settings_.axes[i], time);
            way = way + std::abs(angles[i] - base[i]);
        }
        if (space >= least + lever * way) continue;
        base = angles;
        space = room(place(angles));
        if (space < least) return false;
    }
    return true;
}

// How far the arm is from leaving the workspace along any axis; below 0 outside.
double Servo::room(const Placement& arm) const noexcept {
    const Box& walls = settings_.walls;
    double space = std::min(arm.tool[0] - walls.low[0], walls.high[0] - arm.tool[0]);
    for (int k = 1; k < 3; ++k) space = std::min(space, std::min(arm.tool[k] - walls.low[k], walls.high[k] - arm.tool[k]));
    if (settings_.boxes == 0) return space;
    const Vector &elbow = arm.origins[3], &wrist = arm.origins[4];
    const std::array<Vector, parts> body{elbow,
                                         mix(elbow, 0.5, wrist, 0.5),
                                         wrist,
                                         arm.origins[6],
                                         arm.flange,
                                         mix(arm.flange, 0.5, arm.tool, 0.5),
                                         arm.tool};
    for (int part = 0; part < parts; ++part)
        for (int i = 0; i < settings_.boxes; ++i) {
            const Box& box = settings_.keep_out[i];
            double away = std::max(box.low[0] - body[part][0], body[part][0] - box.high[0]);
            for (int k = 1; k < 3; ++k)
                away = std::max(away, std::max(box.low[k] - body[part][k], body[part][k] - box.high[k]));
            space = std::min(space, away - settings_.radii[part]);
        }
    return space;
}

}  // namespace w4rl
