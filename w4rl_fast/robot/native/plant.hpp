#pragma once

#include <cstdint>

#include "kinematics.hpp"

namespace w4rl {

// A simulated arm: MuJoCo's own step by its address, and the arrays it works on. The wheel of MuJoCo is thus enough to run
// it without Python in between, and nothing of it is needed to build this.
class Plant {
public:
    Plant(std::uintptr_t step, std::uintptr_t model, std::uintptr_t data, double* angles, double* speeds,
          double* control, int substeps) noexcept
        : step_(reinterpret_cast<Step*>(step)), model_(reinterpret_cast<const void*>(model)),
          data_(reinterpret_cast<void*>(data)), angles_(angles), speeds_(speeds), control_(control),
          substeps_(substeps) {}

    void measure(Joints& angles, Joints& speeds) const noexcept {
        for (int i = 0; i < joints; ++i) {
            angles[i] = angles_[i];
            speeds[i] = speeds_[i];
        }
    }

    double opening() const noexcept { return angles_[joints] + angles_[joints + 1]; }

    void step(const Joints& angles, const Joints& speeds, double width) noexcept {
        for (int i = 0; i < joints; ++i) {
            control_[i] = angles[i];
            control_[joints + i] = speeds[i];
        }
        if (width >= 0.0) control_[2 * joints] = width;
        for (int k = 0; k < substeps_; ++k) step_(model_, data_);
    }

private:
    using Step = void(const void*, void*);
    Step* step_;
    const void* model_;
    void* data_;
    double *angles_, *speeds_, *control_;
    int substeps_;
};

}  // namespace w4rl
