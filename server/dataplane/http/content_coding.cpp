#include "http/content_coding.hpp"

#include <array>
#include <cstddef>

#include "http/ascii.hpp"
#include "http/quality.hpp"

namespace penstock::dataplane {
namespace {

constexpr int kUnsaid = -1;

struct Qualities {  // thousandths
  int identity = kUnsaid;
  int gzip = kUnsaid;
  int zstd = kUnsaid;
  int others = kUnsaid;  // "*"
};

int* quality_of(Qualities& qualities, std::string_view name) noexcept {
  if (equals_ignoring_case(name, "gzip") || equals_ignoring_case(name, "x-gzip")) return &qualities.gzip;
  if (equals_ignoring_case(name, "zstd")) return &qualities.zstd;
  if (equals_ignoring_case(name, "identity")) return &qualities.identity;
  return name == "*" ? &qualities.others : nullptr;
}

// name [; q=value]
void note_element(std::string_view element, Qualities& qualities) noexcept {
  const std::size_t semicolon = element.find(';');
  int quality = 1000;
  if (semicolon != std::string_view::npos) {
    const std::string_view weight = trim_blanks(element.substr(semicolon + 1));
    if (weight.size() < 3 || to_lower(weight[0]) != 'q' || weight[1] != '=') return;
    quality = parse_quality(weight.substr(2));
  }
  int* const known = quality_of(qualities, trim_blanks(element.substr(0, semicolon)));
  if (known != nullptr && quality > *known) *known = quality;
}

void note_list(std::string_view list, Qualities& qualities) noexcept {
  while (!list.empty()) note_element(take_element(list), qualities);
}

void note_fields(std::string_view fields, Qualities& qualities) noexcept {
  while (!fields.empty()) {
    const std::size_t end = fields.find('\r');
    const std::string_view line = fields.substr(0, end);
    const std::size_t colon = line.find(':');
    if (equals_ignoring_case(line.substr(0, colon), "accept-encoding"))
      note_list(trim_blanks(line.substr(colon + 1)), qualities);
    fields.remove_prefix(end + 2);
  }
}

}  // namespace

std::string_view name_of(Coding coding) noexcept {
  switch (coding) {
    case Coding::kGzip:
      return "gzip";
    case Coding::kZstd:
      return "zstd";
    case Coding::kIdentity:
    case Coding::kUnknown:
      break;
  }
  return "identity";
}

std::string_view codings_taken() noexcept {
  if (is_built(Coding::kGzip)) return is_built(Coding::kZstd) ? "gzip, zstd" : "gzip";
  return is_built(Coding::kZstd) ? "zstd" : "identity";
}

Coding parse_content_encoding(std::string_view value) noexcept {
  if (value.empty() || equals_ignoring_case(value, "identity")) return Coding::kIdentity;
  Coding coding = Coding::kUnknown;
  if (equals_ignoring_case(value, "gzip") || equals_ignoring_case(value, "x-gzip")) coding = Coding::kGzip;
  if (equals_ignoring_case(value, "zstd")) coding = Coding::kZstd;
  return is_built(coding) ? coding : Coding::kUnknown;
}

CodingChoice negotiate_coding(const RequestHead& head) noexcept {
  if (head.accept_encoding_fields == 0) return {};
  Qualities said;
  if (head.accept_encoding_fields == 1) {
    note_list(head.accept_encoding, said);
  } else {
    note_fields(head.fields, said);
  }
  struct Offer {
    Coding coding;
    int quality;
  };
  const std::array offers = {Offer{Coding::kZstd, said.zstd == kUnsaid ? said.others : said.zstd},
                             Offer{Coding::kGzip, said.gzip == kUnsaid ? said.others : said.gzip}};
  CodingChoice choice;
  const int identity = said.identity == kUnsaid ? said.others : said.identity;
  choice.identity_refused = identity == 0;
  int best = said.identity == kUnsaid ? 0 : said.identity;  // by "*" alone it is no better than any other
  for (const Offer& offer : offers) {
    // One that was named comes before identity of the same quality.
    const bool better = offer.quality > best || (choice.coding == Coding::kIdentity && offer.quality == best);
    if (!is_built(offer.coding) || offer.quality <= 0 || !better) continue;
    choice.coding = offer.coding;
    best = offer.quality;
  }
  return choice;
}

}  // namespace penstock::dataplane
