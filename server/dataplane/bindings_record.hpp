// Records as Python describes them: penstock/processing/described.py makes these tuples.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "codec/record_plan.hpp"

namespace penstock::dataplane {

// Path, kind, required, nullable, coerce, open, minimum and whether it is excluded, maximum likewise, categories, what
// an absent field is.
using RecordFieldTuple = std::tuple<std::vector<std::string>, std::string, bool, bool, bool, bool, double, bool, double,
                                    bool, std::vector<RecordValue>, std::optional<RecordValue>>;
// Path, required, closed.
using RecordObjectTuple = std::tuple<std::vector<std::string>, bool, bool>;
using RecordTuple = std::tuple<std::vector<RecordFieldTuple>, std::vector<RecordObjectTuple>>;

// Null for no record. std::invalid_argument as RecordPlan.
[[nodiscard]] std::shared_ptr<const RecordPlan> record_plan_of(const std::optional<RecordTuple>& record,
                                                               const ModelSchema& schema);

}  // namespace penstock::dataplane
