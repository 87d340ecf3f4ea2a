#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "channel.hpp"
#include "plant.hpp"
#include "servo.hpp"

namespace w4rl {

// A servo and the channel over which a policy's process speaks to it: takes what is new, goes on, tells what came of it.
class Driver {
public:
    Driver(const Settings& settings, Channel& channel) noexcept : servo_(settings), channel_(channel) {}

    // Begin at rest; what was posted before is of another motion.
    bool start(const Joints& angles) noexcept {
        servo_.number = channel_.targets.newest().number;
        const bool begun = servo_.start(angles);
        tell(nullptr, nullptr, 0.0, 0);
        return begun;
    }

    // As many ticks as have passed since the last call, with what the arm measured, if it did.
    void step(const Joints* measured, const Joints* speed, double opening, std::int64_t elapsed) noexcept {
        const std::int64_t begun = now();
        servo_.step(&channel_.targets.newest(), measured, elapsed);
        duration_ = now() - begun;
        channel_.durations.add(duration_);
        if (begun_ != 0) channel_.intervals.add(begun - begun_);
        begun_ = begun;
        if (elapsed > 1) miss(elapsed - 1);
        tell(measured, speed, opening, begun);
    }

    // One tick with a simulated arm that follows the command.
    void simulate(Plant& plant) noexcept {
        Joints at, fast;
        plant.measure(at, fast);
        step(&at, &fast, plant.opening(), 1);
        for (int i = 0; i < joints; ++i) fast[i] = servo_.motions[i].speed;
        plant.step(command_, fast, servo_.width);
    }

    // What the policy's process wishes for, once.
    std::int64_t wish() noexcept { return channel_.wish.exchange(0, std::memory_order_acq_rel); }

    void miss(std::int64_t ticks) noexcept {
        missed_ += ticks;
        longest_ = std::max(longest_, ticks);
    }

    // How the arm stands; said at once, since no step may follow for long.
    void tell_state(std::int64_t state) noexcept {
        state_ = state;
        tell(nullptr, nullptr, 0.0, 0);
    }

    const Servo& servo() const noexcept { return servo_; }
    const Joints& command() const noexcept { return command_; }
    std::int64_t duration() const noexcept { return duration_; }

private:
    static std::int64_t now() noexcept {
        const auto since = std::chrono::steady_clock::now().time_since_epoch();
        return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
    }

    void tell(const Joints* measured, const Joints* speed, double opening, std::int64_t stamp) noexcept {
        Report& report = channel_.reports.draft();
        report = Report{};
        report.tick = servo_.tick;
        report.mode = static_cast<std::int64_t>(servo_.mode);
        report.fault = static_cast<std::int64_t>(servo_.fault);
        report.flags = servo_.flags;
        report.number = servo_.number;
        report.joined = servo_.joined;
        report.age = servo_.age;
        report.taken = servo_.taken;
        report.refused = servo_.refused;
        report.missed = missed_;
        report.longest = longest_;
        report.state = state_;
        report.stamp = stamp;
        for (int i = 0; i < joints; ++i) {
            command_[i] = report.command[i] = servo_.motions[i].position;
            report.speed[i] = servo_.motions[i].speed;
            report.acceleration[i] = servo_.motions[i].acceleration;
        }
        report.goal = servo_.goal;
        report.measured = measured != nullptr ? *measured : report.command;
        report.measured_speed = speed != nullptr ? *speed : report.speed;
        report.width = servo_.width;
        report.opening = fingers(opening);
        report.duration = duration_;
        channel_.reports.publish();
        const std::int64_t count = channel_.recorded.load(std::memory_order_relaxed);
        channel_.record[count % samples] = {servo_.tick, report.mode, report.flags, duration_, servo_.width, command_};
        channel_.recorded.store(count + 1, std::memory_order_release);
    }

    // How far the fingers are apart: as the hand says, or as they must be by now if it moves them.
    double fingers(double measured) noexcept {
        const double told = channel_.opening.load(std::memory_order_relaxed);
        const double toward = channel_.toward.load(std::memory_order_acquire);
        if (told < 0.0 || toward < 0.0) {
            reckoned_ = told >= 0.0 ? told : measured;
        } else {
            const double seconds = static_cast<double>(servo_.tick - reckoned_at_) * tick;
            const double reach = channel_.pace.load(std::memory_order_relaxed) * seconds;
            reckoned_ += std::max(-reach, std::min(reach, toward - reckoned_));
        }
        reckoned_at_ = servo_.tick;
        return reckoned_;
    }

    Servo servo_;
    Channel& channel_;
    double reckoned_ = 0.0;
    std::int64_t reckoned_at_ = 0;
    Joints command_{};
    std::int64_t begun_ = 0, duration_ = 0, missed_ = 0, longest_ = 0, state_ = 0;
};

}  // namespace w4rl
