// TLS 1.2 and 1.3 by OpenSSL, on the socket itself: one copy from the record to the caller's buffer.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "engine/http2_port.hpp"
#include "engine/tls_port.hpp"

namespace penstock::dataplane {
namespace {

struct SslDeleter {
  void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
  void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};

class OpenSslPort final : public TlsPort {
 public:
  explicit OpenSslPort(std::unique_ptr<SSL, SslDeleter> ssl) noexcept : ssl_(std::move(ssl)) {}

  ssize_t receive(char* data, std::size_t bytes) noexcept override {
    ERR_clear_error();  // or what another connection left would be taken for ours
    std::size_t received = 0;
    if (SSL_read_ex(ssl_.get(), data, bytes, &received) == 1) return static_cast<ssize_t>(received);
    return explain(SSL_get_error(ssl_.get(), 0));
  }

  ssize_t send(const char* data, std::size_t bytes) noexcept override {
    ERR_clear_error();
    std::size_t sent = 0;
    if (SSL_write_ex(ssl_.get(), data, bytes, &sent) == 1) return static_cast<ssize_t>(sent);
    return explain(SSL_get_error(ssl_.get(), 0));
  }

  bool is_open() const noexcept override { return SSL_is_init_finished(ssl_.get()) == 1; }
  bool has_more() const noexcept override { return SSL_pending(ssl_.get()) > 0; }
  bool wants_write() const noexcept override { return SSL_want_write(ssl_.get()) == 1; }

  void end() noexcept override {
    if (failed_ || !is_open()) return;
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
  }

 private:
  // The result of a call that gave no bytes, with errno as recv() and send() set it.
  ssize_t explain(int error) noexcept {
    switch (error) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
      case SSL_ERROR_ZERO_RETURN:
        return 0;
      default:
        failed_ = true;  // nothing may be said on it any more, not even good-bye
        errno = EPROTO;
        return -1;
    }
  }

  std::unique_ptr<SSL, SslDeleter> ssl_;
  bool failed_ = false;
};

// The first protocol of ours that the client knows.
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* chosen_bytes, const unsigned char* offered,
                    unsigned offered_bytes, void*) noexcept {
  for (const std::string_view ours : {std::string_view("h2"), std::string_view("http/1.1")}) {
    if (ours == "h2" && !has_http2()) continue;
    for (unsigned at = 0; at < offered_bytes; at += offered[at] + 1U) {
      const unsigned bytes = std::min<unsigned>(offered[at], offered_bytes - at - 1);
      if (std::string_view(reinterpret_cast<const char*>(offered) + at + 1, bytes) != ours) continue;
      *chosen = offered + at + 1;
      *chosen_bytes = static_cast<unsigned char>(bytes);
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_NOACK;  // it may still speak what we do
}

class OpenSslIdentity final : public TlsIdentity {
 public:
  explicit OpenSslIdentity(std::unique_ptr<SSL_CTX, SslDeleter> context) noexcept : context_(std::move(context)) {}

  std::unique_ptr<TlsPort> accept(int fd) const noexcept override {
    std::unique_ptr<SSL, SslDeleter> ssl(SSL_new(context_.get()));
    if (ssl == nullptr || SSL_set_fd(ssl.get(), fd) != 1) return nullptr;
    SSL_set_accept_state(ssl.get());
    return std::make_unique<OpenSslPort>(std::move(ssl));
  }

 private:
  std::unique_ptr<SSL_CTX, SslDeleter> context_;
};

[[noreturn]] void refuse(const std::string& path, const char* what) {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  const std::string why = reason == nullptr ? "" : std::string(": ") + reason;
  ERR_clear_error();
  throw std::invalid_argument(path + " " + what + why);
}

}  // namespace

bool has_tls() noexcept { return true; }

std::shared_ptr<const TlsIdentity> load_tls(const std::string& certificate, const std::string& key) {
  ERR_clear_error();
  std::unique_ptr<SSL_CTX, SslDeleter> context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) throw std::bad_alloc();
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // A reply is offered again from where it was taken to, out of a buffer that may have moved.
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
  // A key with a passphrase would ask the terminal for it.
  SSL_CTX_set_default_passwd_cb(context.get(), [](char*, int, int, void*) { return 0; });
  if (SSL_CTX_use_certificate_chain_file(context.get(), certificate.c_str()) != 1)
    refuse(certificate, "is no chain of certificates in PEM");
  if (SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) != 1)
    refuse(key, "is no private key in PEM without a passphrase, or not that of the certificate");
  if (SSL_CTX_check_private_key(context.get()) != 1) refuse(key, "is not the key of the certificate");
  return std::make_shared<const OpenSslIdentity>(std::move(context));
}

}  // namespace penstock::dataplane
