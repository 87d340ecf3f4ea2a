#include "route.hpp"

#include <cmath>

namespace w4rl {
namespace {

struct Leg {
    int from;
    double part;
};

Leg leg(const Route& route, double now) noexcept {
    if (now < route.times[0]) return {0, 0.0};
    for (int i = 0; i < route.count - 1; ++i)
        if (now < route.times[i + 1]) return {i, (now - route.times[i]) / (route.times[i + 1] - route.times[i])};
    return {route.count - 1, 0.0};
}

double fade(const Route& route, double now) noexcept {
    if (now >= static_cast<double>(route.begin + route.fading)) return 0.0;
    const double u = (now - static_cast<double>(route.begin)) / static_cast<double>(route.fading);
    return 1.0 - u * u * (3.0 - 2.0 * u);
}

Quaternion toward(const Quaternion& here, const Quaternion& there, double u) noexcept {
    const double near = here[0] * there[0] + here[1] * there[1] + here[2] * there[2] + here[3] * there[3];
    const double sign = near < 0.0 ? -u : u;
    Quaternion q;
    for (int k = 0; k < 4; ++k) q[k] = (1.0 - u) * here[k] + sign * there[k];
    return unit(q);
}

}  // namespace

Joints joints_at(const Route& route, double now) noexcept {
    const auto [i, u] = leg(route, now);
    const Point& here = route.values[i];
    const Point& then = u > 0.0 ? route.values[i + 1] : here;
    const double weight = fade(route, now);
    Joints angles;
    for (int k = 0; k < joints; ++k)
        angles[k] = here[k] + u * (then[k] - here[k]) + weight * (weight > 0.0 ? route.left[k] : 0.0);
    return angles;
}

Point pose_at(const Route& route, double now) noexcept {
    const auto [i, u] = leg(route, now);
    const Point& here = route.values[i];
    const Point& then = u > 0.0 ? route.values[i + 1] : here;
    const double weight = fade(route, now);
    const Point left = weight > 0.0 ? route.left : Point{0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0};
    Point pose;
    for (int k = 0; k < 3; ++k) pose[k] = here[k] + u * (then[k] - here[k]) + weight * left[k];
    const Quaternion turn = times(toward({1.0, 0.0, 0.0, 0.0}, turn_of(left), weight),
                                  toward(turn_of(here), turn_of(then), u));
    for (int k = 0; k < 4; ++k) pose[3 + k] = turn[k];
    return pose;
}

Quaternion unit(const Quaternion& q) noexcept {
    const double length = std::sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    return {q[0] / length, q[1] / length, q[2] / length, q[3] / length};
}

Quaternion times(const Quaternion& p, const Quaternion& q) noexcept {
    return {p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3],
            p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2],
            p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1],
            p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0]};
}

Quaternion quaternion(const Matrix& turn) noexcept {
    const auto& [x, y, z] = turn;
    const double trace = x[0] + y[1] + z[2];
    if (trace > 0.0) return unit({1.0 + trace, y[2] - z[1], z[0] - x[2], x[1] - y[0]});
    if (x[0] >= y[1] && x[0] >= z[2])
        return unit({y[2] - z[1], 1.0 + x[0] - y[1] - z[2], y[0] + x[1], z[0] + x[2]});
    if (y[1] >= z[2]) return unit({z[0] - x[2], y[0] + x[1], 1.0 + y[1] - x[0] - z[2], z[1] + y[2]});
    return unit({x[1] - y[0], z[0] + x[2], z[1] + y[2], 1.0 + z[2] - x[0] - y[1]});
}

}  // namespace w4rl
