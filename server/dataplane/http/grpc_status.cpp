#include "http/grpc_status.hpp"

#include <algorithm>
#include <charconv>

#include "http/ascii.hpp"

namespace penstock::dataplane {

GrpcStatus grpc_status_of(ProblemCode code) noexcept {
  switch (code) {
    case ProblemCode::kNotImplemented:
    case ProblemCode::kMethodNotAllowed:
    case ProblemCode::kUnsupportedMediaType:
    case ProblemCode::kNotFound:  // no such route is no such method
      return GrpcStatus::kUnimplemented;
    case ProblemCode::kConflict:
      return GrpcStatus::kAborted;
    case ProblemCode::kLoadFailed:
      return GrpcStatus::kFailedPrecondition;
    default:
      return grpc_status_of(info_of(code).status);
  }
}

GrpcStatus grpc_status_of(unsigned http_status) noexcept {
  switch (http_status) {
    case 200:
      return GrpcStatus::kOk;
    case 400:
    case 406:
    case 411:
    case 414:
    case 417:
    case 422:
      return GrpcStatus::kInvalidArgument;
    case 401:
      return GrpcStatus::kUnauthenticated;
    case 403:
      return GrpcStatus::kPermissionDenied;
    case 404:
      return GrpcStatus::kNotFound;
    case 405:
    case 415:
    case 501:
    case 505:
      return GrpcStatus::kUnimplemented;
    case 408:
    case 504:
      return GrpcStatus::kDeadlineExceeded;
    case 409:
      return GrpcStatus::kAborted;
    case 413:
    case 429:
    case 431:
      return GrpcStatus::kResourceExhausted;
    case 500:
      return GrpcStatus::kInternal;
    case 502:
    case 503:
      return GrpcStatus::kUnavailable;
    default:
      return GrpcStatus::kUnknown;
  }
}

void write_grpc_prefix(char* out, std::uint32_t message_bytes) noexcept {
  out[0] = 0;
  for (unsigned i = 0; i < 4; ++i) out[1 + i] = static_cast<char>(message_bytes >> (24 - 8 * i));
}

bool read_grpc_message(std::string_view body, std::string_view& message, Problem& problem) noexcept {
  if (body.size() < kGrpcPrefixBytes) {
    problem.set(ProblemCode::kMalformedBody, "expected one gRPC message, got %zu bytes", body.size());
    return false;
  }
  if (body[0] != 0) {
    problem.set(ProblemCode::kNotImplemented, "the message is compressed: send it with grpc-encoding identity");
    return false;
  }
  std::uint32_t bytes = 0;
  for (std::size_t i = 1; i < kGrpcPrefixBytes; ++i) bytes = bytes << 8 | static_cast<unsigned char>(body[i]);
  message = body.substr(kGrpcPrefixBytes);
  if (message.size() == bytes) return true;
  problem.set(ProblemCode::kMalformedBody, "expected one gRPC message of %u bytes, got %zu", bytes, message.size());
  return false;
}

bool parse_grpc_timeout(std::string_view text, std::uint64_t& milliseconds) noexcept {
  constexpr std::size_t kDigitsMax = 8;
  if (text.size() < 2 || text.size() > kDigitsMax + 1) return false;
  std::uint64_t value = 0;
  const char* const end = text.data() + text.size() - 1;
  const auto [parsed, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || parsed != end) return false;
  switch (text.back()) {
    case 'H':
      milliseconds = value * 3'600'000;
      break;
    case 'M':
      milliseconds = value * 60'000;
      break;
    case 'S':
      milliseconds = value * 1'000;
      break;
    case 'm':
      milliseconds = value;
      break;
    case 'u':
      milliseconds = (value + 999) / 1'000;
      break;
    case 'n':
      milliseconds = (value + 999'999) / 1'000'000;
      break;
    default:
      return false;
  }
  milliseconds = std::max<std::uint64_t>(milliseconds, 1);
  return true;
}

std::size_t write_grpc_message(char* out, std::string_view text) noexcept {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  char* at = out;
  for (const char c : text) {
    if (c >= 0x20 && c <= 0x7e && c != '%') {
      *at++ = c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    *at++ = '%';
    *at++ = kDigits[byte >> 4];
    *at++ = kDigits[byte & 15];
  }
  return static_cast<std::size_t>(at - out);
}

bool is_grpc_type(std::string_view content_type) noexcept {
  constexpr std::string_view kType = "application/grpc";
  if (!content_type.starts_with(kType)) return false;
  return content_type.size() == kType.size() || content_type[kType.size()] == '+' || content_type[kType.size()] == ';';
}

}  // namespace penstock::dataplane
