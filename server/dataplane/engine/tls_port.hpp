// TLS on a connection, as the transport sees it. Where OpenSSL was not found when Penstock was built there is none.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <string>

namespace penstock::dataplane {

class TlsPort {
 public:
  virtual ~TlsPort() = default;

  // As recv() and send() of a non-blocking socket, errno included; the handshake is a part of both.
  [[nodiscard]] virtual ssize_t receive(char* data, std::size_t bytes) noexcept = 0;
  [[nodiscard]] virtual ssize_t send(const char* data, std::size_t bytes) noexcept = 0;
  // The handshake is done.
  [[nodiscard]] virtual bool is_open() const noexcept = 0;
  // Bytes have been taken from the socket that receive() has not given out: no event will tell.
  [[nodiscard]] virtual bool has_more() const noexcept = 0;
  // receive() goes on when the socket can be written.
  [[nodiscard]] virtual bool wants_write() const noexcept = 0;
  // Tells the peer, as far as the socket takes it, that nothing more will come.
  virtual void end() noexcept = 0;
};

// A certificate and its key. Shared by loops; connections that were made with it keep it.
class TlsIdentity {
 public:
  virtual ~TlsIdentity() = default;
  // Of a socket that was accepted. Null when there is no memory.
  [[nodiscard]] virtual std::unique_ptr<TlsPort> accept(int fd) const noexcept = 0;
};

[[nodiscard]] bool has_tls() noexcept;
// Reads a chain of certificates and its key, in PEM. std::invalid_argument says which file is wrong, and how.
[[nodiscard]] std::shared_ptr<const TlsIdentity> load_tls(const std::string& certificate, const std::string& key);

}  // namespace penstock::dataplane
