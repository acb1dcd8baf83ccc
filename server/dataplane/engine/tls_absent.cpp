// Built where OpenSSL was not found.
#include <stdexcept>

#include "engine/tls_port.hpp"

namespace penstock::dataplane {

bool has_tls() noexcept { return false; }

std::shared_ptr<const TlsIdentity> load_tls(const std::string&, const std::string&) {
  throw std::invalid_argument(
      "this Penstock was built without TLS: install OpenSSL's headers (libssl-dev) and build it again");
}

}  // namespace penstock::dataplane
