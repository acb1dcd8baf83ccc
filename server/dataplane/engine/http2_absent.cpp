// Built where nghttp2 was not found.
#include "engine/http2_port.hpp"

namespace penstock::dataplane {

std::unique_ptr<Http2Port> make_http2(LoopContext&, HttpSession&, RequestHandler&, Connection&) { return nullptr; }

bool has_http2() noexcept { return false; }

}  // namespace penstock::dataplane
