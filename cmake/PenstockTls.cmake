# PENSTOCK_HAS_TLS: whether TLS is built. A missing library is said, and never fails the build.

set(PENSTOCK_HAS_TLS OFF)
if(NOT PENSTOCK_TLS)
  message(STATUS "TLS: off (-DPENSTOCK_TLS=ON builds it when OpenSSL is found)")
  return()
endif()

find_package(OpenSSL 1.1.1 QUIET)
if(NOT OpenSSL_FOUND)
  message(STATUS "TLS: off, because OpenSSL 1.1.1 or later was not found (apt-get install libssl-dev)")
else()
  set(PENSTOCK_HAS_TLS ON)
  message(STATUS "TLS: OpenSSL ${OPENSSL_VERSION}")
endif()
