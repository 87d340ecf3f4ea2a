#pragma once

#include <cstdint>

namespace franka {

class Duration {
public:
    uint64_t toMSec() const noexcept;
};

}  // namespace franka
