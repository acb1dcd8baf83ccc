// Programs of feature steps for Python.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "penstock/kernels/steps.hpp"

namespace penstock {

// A program as Python writes it.
using SourceTuple = std::tuple<std::string, std::uint32_t>;
using StepTuple = std::tuple<std::string, std::uint32_t, std::uint32_t, double, double, std::vector<double>>;
using PlacementTuple = std::tuple<std::uint32_t, std::uint32_t, std::uint32_t>;
using MatrixTuple = std::tuple<std::string, std::uint32_t, std::vector<PlacementTuple>>;

// Throws std::invalid_argument for unknown names, and as Program.
[[nodiscard]] Program program_of(const std::vector<SourceTuple>& sources, std::vector<StepTuple>& steps,
                                 const std::vector<MatrixTuple>& matrices);

void bind_steps(nanobind::module_& module);

}  // namespace penstock
