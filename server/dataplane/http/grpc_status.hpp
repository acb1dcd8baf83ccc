// gRPC over HTTP/2, as its protocol document has it: message prefixes, time-outs, status codes and their texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/problem.hpp"

namespace penstock::dataplane {

enum class GrpcStatus : std::uint8_t {
  kOk = 0,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kUnauthenticated = 16,
};

// The status that says what the problem says.
[[nodiscard]] GrpcStatus grpc_status_of(ProblemCode code) noexcept;
// The same for an answer of which only the HTTP status is known.
[[nodiscard]] GrpcStatus grpc_status_of(unsigned http_status) noexcept;

// Before each message: whether it is compressed, and its length.
inline constexpr std::size_t kGrpcPrefixBytes = 5;
void write_grpc_prefix(char* out, std::uint32_t message_bytes) noexcept;
// The message of a body of exactly one, without its prefix. False: `problem` is set.
[[nodiscard]] bool read_grpc_message(std::string_view body, std::string_view& message, Problem& problem) noexcept;

// "100m" and the like in milliseconds, rounded up and at least 1. False: it is not a time-out.
[[nodiscard]] bool parse_grpc_timeout(std::string_view text, std::uint64_t& milliseconds) noexcept;

// Writes `text` with %XX for what may not stand in grpc-message; at most 3 bytes for each. Returns the bytes written.
std::size_t write_grpc_message(char* out, std::string_view text) noexcept;

// application/grpc, with or without a suffix such as +proto.
[[nodiscard]] bool is_grpc_type(std::string_view content_type) noexcept;

}  // namespace penstock::dataplane
