#pragma once

#include <cstdint>
#include <string>

#include "driver.hpp"

namespace w4rl {

// Serve a Franka arm by libfranka's own callback until something is wished for and the arm rests, or its parent is gone and
// the watchdog has stopped it; returns the wish. libfranka's exceptions come through: a reflex, a lost connection.
std::int64_t serve_franka(Driver& driver, const std::string& host, const Joints& stiffness, bool enforce, bool recover);

}  // namespace w4rl
