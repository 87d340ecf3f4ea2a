#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <stdexcept>

#include "window_gather.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;

namespace {

template <typename Value, typename Shape>
using Array = nb::ndarray<Value, Shape, nb::c_contig, nb::device::cpu>;

template <typename Value>
std::ptrdiff_t gather_windows(
    const Array<const std::uint8_t, nb::ndim<4>>& frames, const Array<const std::int64_t, nb::ndim<2>>& rows,
    const Array<Value, nb::ndim<5>>& out, unsigned threads) {
    const std::span<const std::int64_t> wanted(rows.data(), rows.size());
    const w4rl::Frames source{frames.data(), frames.shape(0), frames.shape(1) * frames.shape(2) * frames.shape(3)};
    if (out.size() != wanted.size() * source.pixels) throw std::invalid_argument("out does not fit rows and frames");
    const nb::gil_scoped_release released;
    const auto outside = w4rl::first_row_outside(wanted, source.count);
    if (outside < 0) w4rl::gather_windows(source, wanted, out.data(), threads);
    return outside;
}

}  // namespace

NB_MODULE(_native, module) {
    constexpr auto describe = "Fill out; the position of the first row out of range instead, if there is one, else -1.";
    module.def("gather_windows", &gather_windows<float>, "frames"_a.noconvert(), "rows"_a.noconvert(),
               "out"_a.noconvert(), "threads"_a, describe);
    module.def("gather_windows", &gather_windows<std::uint16_t>, "frames"_a.noconvert(), "rows"_a.noconvert(),
               "out"_a.noconvert(), "threads"_a, describe);
}
