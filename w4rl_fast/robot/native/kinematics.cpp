#include "kinematics.hpp"

#include <cmath>

namespace w4rl {
namespace {

// Denavit and Hartenberg's numbers of the Panda and the FR3 in Craig's order (m), and the hand.
constexpr Joints along_x{0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088};
constexpr std::array<int, joints> quarters{0, -1, 1, 1, -1, 1, 1};
constexpr Joints along_z{0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0};
constexpr double flange_length = 0.107, tool_length = 0.1034;

using Square = std::array<std::array<double, 6>, 6>;
using Six = std::array<double, 6>;

Vector along(const Vector& p, const Vector& direction, double distance) noexcept {
    return {p[0] + distance * direction[0], p[1] + distance * direction[1], p[2] + distance * direction[2]};
}

Vector negative(const Vector& a) noexcept { return {-a[0], -a[1], -a[2]}; }

Vector cross(const Vector& a, const Vector& b) noexcept {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

// Solve square x = right in place, by the lower half of a positive matrix (Cholesky).
void solve(Square& square, Six& right) noexcept {
    for (int column = 0; column < 6; ++column) {
        for (int k = 0; k < column; ++k)
            for (int row = column; row < 6; ++row)
                square[row][column] = square[row][column] - square[row][k] * square[column][k];
        const double inverse = 1.0 / std::sqrt(square[column][column]);
        for (int row = column; row < 6; ++row) square[row][column] = square[row][column] * inverse;
    }
    for (int row = 0; row < 6; ++row) {
        for (int k = 0; k < row; ++k) right[row] = right[row] - square[row][k] * right[k];
        right[row] = right[row] / square[row][row];
    }
    for (int row = 5; row >= 0; --row) {
        for (int k = row + 1; k < 6; ++k) right[row] = right[row] - square[k][row] * right[k];
        right[row] = right[row] / square[row][row];
    }
}

}  // namespace

Placement place(const Joints& angles) noexcept {
    Placement arm;
    Vector x{1.0, 0.0, 0.0}, y{0.0, 1.0, 0.0}, z{0.0, 0.0, 1.0}, p{0.0, 0.0, 0.0};
    for (int i = 0; i < joints; ++i) {
        p = along(p, x, along_x[i]);
        const Vector was = y;
        if (quarters[i] > 0) {
            y = z;
            z = negative(was);
        } else if (quarters[i] < 0) {
            y = negative(z);
            z = was;
        }
        p = along(p, z, along_z[i]);
        const double c = std::cos(angles[i]), s = std::sin(angles[i]);
        const Vector turned = mix(x, c, y, s);
        y = mix(x, -s, y, c);
        x = turned;
        arm.origins[i] = p;
        arm.axes[i] = z;
    }
    const double eighth = std::sqrt(0.5);
    arm.flange = along(p, z, flange_length);
    arm.tool = along(arm.flange, z, tool_length);
    arm.turn = {mix(x, eighth, y, -eighth), mix(x, eighth, y, eighth), z};
    return arm;
}

Matrix rotation(const Quaternion& q) noexcept {
    const auto [w, x, y, z] = q;
    return {Vector{1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)},
            Vector{2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)},
            Vector{2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)}};
}

Joints reach(const Placement& arm, const Vector& position, const Matrix& turn, const Joints& drift,
             double damping) noexcept {
    Six error{position[0] - arm.tool[0], position[1] - arm.tool[1], position[2] - arm.tool[2], 0.0, 0.0, 0.0};
    for (int column = 0; column < 3; ++column) {
        const Vector sine = cross(arm.turn[column], turn[column]);
        for (int k = 0; k < 3; ++k) error[3 + k] = error[3 + k] + 0.5 * sine[k];
    }
    std::array<Six, joints> columns;
    for (int i = 0; i < joints; ++i) {
        const Vector lever{arm.tool[0] - arm.origins[i][0], arm.tool[1] - arm.origins[i][1],
                           arm.tool[2] - arm.origins[i][2]};
        const Vector moves = cross(arm.axes[i], lever);
        columns[i] = {moves[0], moves[1], moves[2], arm.axes[i][0], arm.axes[i][1], arm.axes[i][2]};
    }
    for (int row = 0; row < 6; ++row)
        for (int i = 0; i < joints; ++i) error[row] = error[row] - columns[i][row] * drift[i];
    Square square{};
    for (int row = 0; row < 6; ++row)
        for (int column = 0; column <= row; ++column) {
            double total = row == column ? damping * damping : 0.0;
            for (int i = 0; i < joints; ++i) total = total + columns[i][row] * columns[i][column];
            square[row][column] = total;
        }
    solve(square, error);
    Joints step;
    for (int i = 0; i < joints; ++i) {
        double total = drift[i];
        for (int row = 0; row < 6; ++row) total = total + columns[i][row] * error[row];
        step[i] = total;
    }
    return step;
}

}  // namespace w4rl
