# What can be chosen when Penstock is configured, and the language settings all targets share.

option(PENSTOCK_MODULES "Build the Python modules (needs Python's headers and nanobind)" ON)
option(PENSTOCK_TESTS "Build the native tests and benchmarks" OFF)
option(PENSTOCK_DATAPLANE "Build the data plane and the load generator" ON)
option(PENSTOCK_FUZZ "Build the fuzz targets (needs clang)" OFF)
option(PENSTOCK_WERROR "Treat warnings in Penstock's own code as errors" OFF)
option(PENSTOCK_LTO "Optimise across translation units at link time" OFF)
option(PENSTOCK_PRECOMPILE "Precompile the standard library's headers: for builds that are made to be tested" OFF)
option(PENSTOCK_HTTP2 "Build HTTP/2 and gRPC when nghttp2 is found" ON)
option(PENSTOCK_TLS "Build TLS when OpenSSL is found" ON)
option(PENSTOCK_CUDA "Compile the CUDA lane when nvcc is found" ON)
set(PENSTOCK_SANITIZE "" CACHE STRING "Sanitizers, separated by commas: address,undefined or thread")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Kind of build" FORCE)
endif()

if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  message(FATAL_ERROR "Penstock runs on Linux only: it needs memfd, futexes, epoll and pidfds.")
endif()
if(CMAKE_SIZEOF_VOID_P LESS 8)
  message(FATAL_ERROR "Penstock needs a 64-bit machine: its ring is made of 64-bit atomic words.")
endif()

find_package(Threads REQUIRED)

# Everything is instrumented, nanobind included: a sanitizer that sees half of a program reports nonsense.
if(PENSTOCK_SANITIZE)
  add_compile_options(-fsanitize=${PENSTOCK_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PENSTOCK_SANITIZE})
endif()

# libFuzzer steers by the coverage of the code under test, so the libraries carry its counters too.
if(PENSTOCK_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "PENSTOCK_FUZZ needs clang, whose libFuzzer it uses: configure with -DCMAKE_CXX_COMPILER=clang++.")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
