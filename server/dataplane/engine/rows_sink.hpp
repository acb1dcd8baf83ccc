// Where a decoder puts the rows of a request: into its Rejoin. On an I/O loop or a decode thread.
#pragma once

#include <string>
#include <string_view>

#include "codec/codec_rows.hpp"
#include "engine/body_pool.hpp"
#include "engine/rejoin.hpp"
#include "engine/route_table.hpp"

namespace penstock::dataplane {

// A body of many rows: what it is, and what its path or query name.
struct RowsBody {
  Encoding encoding = Encoding::kJson;
  std::string_view bytes;
  std::size_t header_bytes = 0;  // of JSON in front of binary tensors, in the form of the protocol
  QueryNames names;
};

class RejoinSink final : public RowsSink {
 public:
  // `known`: what the names stand for, when the caller has looked already.
  RejoinSink(const RouteTable& table, BodyPool& pool, Rejoin& rejoin, ModelEntry* known = nullptr)
      : RowsSink(rejoin.columns), table_(table), pool_(pool), rejoin_(rejoin), known_(known) {}

  RowTarget resolve(std::string_view model, std::string_view version, Problem& problem) override;
  [[nodiscard]] bool begin(std::uint32_t rows, Problem& problem) override;
  [[nodiscard]] bool allocate(std::size_t tensor, Problem& problem) override;
  void refuse_row(std::uint32_t row, const Problem& problem) override;
  void set_row_length(std::uint32_t row, std::uint32_t length) override;

 private:
  const RouteTable& table_;
  BodyPool& pool_;
  Rejoin& rejoin_;
  ModelEntry* known_;
};

// Reads the body into `rejoin`. False: `problem` is set, and the Rejoin is to be released.
[[nodiscard]] bool decode_rows(const RowsBody& body, const RouteTable& table, BodyPool& pool, Rejoin& rejoin,
                               Problem& problem, ModelEntry* known = nullptr);

}  // namespace penstock::dataplane
