#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

#include "driver.hpp"
#ifdef W4RL_FRANKA
#include <nanobind/stl/string.h>

#include "franka.hpp"
#endif

namespace nb = nanobind;
using nb::literals::operator""_a;
using namespace w4rl;

namespace {

template <typename Value, typename... Shape>
using Array = nb::ndarray<Value, nb::c_contig, nb::device::cpu, Shape...>;
using Bytes = Array<std::uint8_t, nb::ndim<1>>;
using Seven = Array<const double, nb::shape<joints>>;

Joints seven(const Seven& array) {
    Joints values;
    std::memcpy(values.data(), array.data(), sizeof values);
    return values;
}

Channel& channel_of(const Bytes& memory) {
    if (memory.size() < sizeof(Channel)) throw std::invalid_argument("the memory is too small for a channel");
    return *std::launder(reinterpret_cast<Channel*>(memory.data()));
}

void create_channel(const Bytes& memory) {
    channel_of(memory);
    new (memory.data()) Channel();
}

Channel& open_channel(const Bytes& memory) {
    Channel& channel = channel_of(memory);
    if (channel.magic != Channel::mark || channel.size != static_cast<std::int64_t>(sizeof(Channel)))
        throw std::invalid_argument("the memory holds no channel of this version");
    return channel;
}

// The policy's side of a channel.
class Sender {
public:
    explicit Sender(Bytes memory) : memory_(std::move(memory)), channel_(open_channel(memory_)) {}

    std::int64_t post(std::int64_t kind, const Array<const double, nb::ndim<1>>& times,
                      const Array<const double, nb::shape<-1, joints>>& values, double width) {
        if (times.size() > points || times.shape(0) != values.shape(0))
            throw std::invalid_argument("a message has at most 32 points, and as many times");
        Message& draft = channel_.targets.draft();
        draft.number = ++channel_.posted;
        draft.kind = kind;
        draft.count = static_cast<std::int64_t>(times.shape(0));
        draft.width = width;
        std::memcpy(draft.times.data(), times.data(), times.size() * sizeof(double));
        std::memcpy(draft.values.data(), values.data(), values.size() * sizeof(double));
        channel_.targets.publish();
        return channel_.posted;
    }

    void report(const Bytes& into) {
        if (into.size() != sizeof(Report)) throw std::invalid_argument("a report has another size");
        std::memcpy(into.data(), &channel_.reports.newest(), sizeof(Report));
    }

    std::int64_t recorded() const noexcept { return channel_.recorded.load(std::memory_order_acquire); }

    void samples_since(std::int64_t first, const Bytes& into) const {
        const std::int64_t count = static_cast<std::int64_t>(into.size() / sizeof(Sample));
        if (first < 0) throw std::invalid_argument("the first sample has the number 0");
        for (std::int64_t k = 0; k < count; ++k)
            std::memcpy(into.data() + k * sizeof(Sample), &channel_.record[(first + k) % samples], sizeof(Sample));
    }

    // Counts of the times between steps and inside them, one row each.
    void histograms(const Array<std::int64_t, nb::ndim<2>>& into) const {
        if (into.shape(0) != 2 || into.shape(1) * sizeof(std::int64_t) != sizeof(Histogram))
            throw std::invalid_argument("a histogram has another size");
        std::memcpy(into.data(), &channel_.intervals, sizeof(Histogram));
        std::memcpy(into.data() + into.shape(1), &channel_.durations, sizeof(Histogram));
    }

    void tell_opening(double width, double toward, double pace) noexcept {
        channel_.opening.store(width, std::memory_order_relaxed);
        channel_.pace.store(pace, std::memory_order_relaxed);
        channel_.toward.store(toward, std::memory_order_release);
    }

    std::int64_t number() const noexcept { return channel_.posted; }

    void wish(std::int64_t what) noexcept { channel_.wish.store(what, std::memory_order_release); }

private:
    Bytes memory_;
    Channel& channel_;
};

// A driver, and the memory in which its channel lies.
class Bound {
public:
    Bound(const Settings& settings, Bytes memory)
        : memory_(std::move(memory)), driver_(settings, open_channel(memory_)) {}

    Driver& driver() noexcept { return driver_; }
    const Servo& servo() const noexcept { return driver_.servo(); }

    bool start(const Seven& angles) { return driver_.start(seven(angles)); }

    void step(const nb::object& measured, const nb::object& speed, double opening, std::int64_t elapsed) {
        if (measured.is_none()) return driver_.step(nullptr, nullptr, opening, elapsed);
        const Joints at = seven(nb::cast<Seven>(measured)), fast = seven(nb::cast<Seven>(speed));
        driver_.step(&at, &fast, opening, elapsed);
    }

    // As many ticks as `commands` (N, 7) has rows, with nothing measured; each row gets what was sent.
    void run(const Array<double, nb::shape<-1, joints>>& commands, const Array<std::int64_t, nb::ndim<2>>& states) {
        if (states.shape(0) != commands.shape(0) || states.shape(1) != 3)
            throw std::invalid_argument("states are mode, fault and flags of each tick");
        const nb::gil_scoped_release released;
        for (std::size_t k = 0; k < commands.shape(0); ++k) {
            driver_.step(nullptr, nullptr, 0.0, 1);
            std::copy_n(driver_.command().data(), joints, commands.data() + k * joints);
            states.data()[3 * k] = static_cast<std::int64_t>(servo().mode);
            states.data()[3 * k + 1] = static_cast<std::int64_t>(servo().fault);
            states.data()[3 * k + 2] = servo().flags;
        }
    }

    void simulate(Plant& plant, std::int64_t ticks) {
        const nb::gil_scoped_release released;
        for (std::int64_t k = 0; k < ticks; ++k) driver_.simulate(plant);
    }

private:
    Bytes memory_;
    Driver driver_;
};

constexpr int axis_numbers = sizeof(Axis) / sizeof(double);

Settings settings_of(const Array<const double, nb::shape<joints, axis_numbers>>& axes, const Seven& posture,
                     const Array<const double, nb::shape<2, 3>>& walls,
                     const Array<const double, nb::shape<-1, 2, 3>>& keep_out,
                     const Array<const double, nb::shape<parts>>& radii,
                     const Array<const std::int64_t, nb::shape<3>>& patience,
                     const Array<const double, nb::shape<3>>& jump, const Seven& give, double lead, std::int64_t fading, double astray,
                     double opening) {
    if (keep_out.shape(0) > most_boxes) throw std::invalid_argument("at most 16 boxes can be kept out of");
    Settings settings;
    std::memcpy(settings.axes.data(), axes.data(), sizeof settings.axes);
    settings.posture = seven(posture);
    std::memcpy(&settings.walls, walls.data(), sizeof settings.walls);
    settings.boxes = static_cast<int>(keep_out.shape(0));
    std::memcpy(settings.keep_out.data(), keep_out.data(), keep_out.size() * sizeof(double));
    std::memcpy(settings.radii.data(), radii.data(), sizeof settings.radii);
    std::memcpy(settings.patience.data(), patience.data(), sizeof settings.patience);
    std::memcpy(settings.jump.data(), jump.data(), sizeof settings.jump);
    settings.give = seven(give);
    settings.lead = lead;
    settings.fading = fading;
    settings.astray = astray;
    settings.opening = opening;
    return settings;
}

}  // namespace

NB_MODULE(_servo, module) {
    nb::set_leak_warnings(false);  // an arm that is still open when Python ends is not a leak
    module.attr("CHANNEL_BYTES") = sizeof(Channel);
    module.attr("REPORT_BYTES") = sizeof(Report);
    module.attr("SAMPLE_BYTES") = sizeof(Sample);
    module.attr("SAMPLES") = samples;
    module.attr("HISTOGRAM") = sizeof(Histogram) / sizeof(std::int64_t);
    module.attr("HISTOGRAM_PARTS") = Histogram::parts;
    module.def("create_channel", &create_channel, "memory"_a, "Make the memory a channel.");

    nb::class_<Settings>(module, "Settings");
    module.def("settings", &settings_of, "axes"_a, "posture"_a, "walls"_a, "keep_out"_a, "radii"_a, "patience"_a,
               "jump"_a, "give"_a, "lead"_a, "fading"_a, "astray"_a, "opening"_a);

    nb::class_<Sender>(module, "Sender")
        .def(nb::init<Bytes>(), "memory"_a)
        .def("post", &Sender::post, "kind"_a, "times"_a, "values"_a, "width"_a = -1.0)
        .def("report", &Sender::report, "into"_a)
        .def("samples_since", &Sender::samples_since, "first"_a, "into"_a)
        .def_prop_ro("recorded", &Sender::recorded)
        .def("histograms", &Sender::histograms, "into"_a)
        .def("tell_opening", &Sender::tell_opening, "width"_a, "toward"_a = -1.0, "pace"_a = 0.0)
        .def_prop_ro("number", &Sender::number)
        .def("wish", &Sender::wish, "what"_a);

    nb::class_<Plant>(module, "Plant")
        .def("__init__",
             [](Plant* self, std::uintptr_t step, std::uintptr_t model, std::uintptr_t data,
                const Array<double, nb::ndim<1>>& angles, const Array<double, nb::ndim<1>>& speeds,
                const Array<double, nb::ndim<1>>& control, int substeps) {
                 if (angles.size() < joints + 2 || speeds.size() < joints || control.size() < 2 * joints + 1)
                     throw std::invalid_argument("the model is not an arm with a hand");
                 new (self) Plant(step, model, data, angles.data(), speeds.data(), control.data(), substeps);
             },
             "step"_a, "model"_a, "data"_a, "angles"_a, "speeds"_a, "control"_a, "substeps"_a = 1);

    nb::class_<Bound>(module, "Driver")
        .def(nb::init<const Settings&, Bytes>(), "settings"_a, "memory"_a)
        .def("start", &Bound::start, "angles"_a)
        .def("step", &Bound::step, "measured"_a.none() = nb::none(), "speed"_a.none() = nb::none(), "opening"_a = 0.0,
             "elapsed"_a = 1)
        .def("run", &Bound::run, "commands"_a, "states"_a)
        .def("simulate", &Bound::simulate, "plant"_a, "ticks"_a)
        .def("wish", [](Bound& self) { return self.driver().wish(); })
        .def("miss", [](Bound& self, std::int64_t ticks) { self.driver().miss(ticks); }, "ticks"_a)
        .def("tell_state", [](Bound& self, std::int64_t state) { self.driver().tell_state(state); }, "state"_a)
        .def_prop_ro("command",
                     [](Bound& self) {
                         return nb::ndarray<nb::numpy, const double, nb::shape<joints>>(
                             self.driver().command().data(), {joints}, nb::find(&self));
                     })
        .def_prop_ro("still", [](Bound& self) { return self.servo().still(); })
        .def_prop_ro("tick", [](Bound& self) { return self.servo().tick; })
        .def_prop_ro("mode", [](Bound& self) { return static_cast<std::int64_t>(self.servo().mode); })
        .def_prop_ro("fault", [](Bound& self) { return static_cast<std::int64_t>(self.servo().fault); })
        .def_prop_ro("flags", [](Bound& self) { return self.servo().flags; })
        .def_prop_ro("number", [](Bound& self) { return self.servo().number; })
        .def_prop_ro("joined", [](Bound& self) { return self.servo().joined; })
        .def_prop_ro("width", [](Bound& self) { return self.servo().width; })
        .def_prop_ro("duration", [](Bound& self) { return self.driver().duration(); });
#ifdef W4RL_FRANKA
    module.def(
        "serve_franka",
        [](Bound& bound, const std::string& host, const Seven& stiffness, bool enforce, bool recover) {
            const Joints held = seven(stiffness);
            const nb::gil_scoped_release released;
            return serve_franka(bound.driver(), host, held, enforce, recover);
        },
        "driver"_a, "host"_a, "stiffness"_a, "enforce"_a, "recover"_a,
        "Serve an arm by libfranka's own callback until something is wished for and the arm rests; returns the wish.");
#endif
}
