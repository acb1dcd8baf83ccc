# PENSTOCK_HAS_HTTP2: whether HTTP/2, and gRPC with it, are built. A missing library is said, and never fails the build.

set(PENSTOCK_HAS_HTTP2 OFF)
if(NOT PENSTOCK_HTTP2)
  message(STATUS "HTTP/2 and gRPC: off (-DPENSTOCK_HTTP2=ON builds them when nghttp2 is found)")
  return()
endif()

find_path(NGHTTP2_INCLUDE_DIR nghttp2/nghttp2.h)
find_library(NGHTTP2_LIBRARY nghttp2)
if(NOT NGHTTP2_INCLUDE_DIR OR NOT NGHTTP2_LIBRARY)
  message(STATUS "HTTP/2 and gRPC: off, because nghttp2 was not found (apt-get install libnghttp2-dev)")
else()
  set(PENSTOCK_HAS_HTTP2 ON)
  message(STATUS "HTTP/2 and gRPC: ${NGHTTP2_LIBRARY}")
  add_library(penstock::nghttp2 UNKNOWN IMPORTED)
  set_target_properties(penstock::nghttp2 PROPERTIES
    IMPORTED_LOCATION "${NGHTTP2_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${NGHTTP2_INCLUDE_DIR}")
endif()
